//! `restore`: tables that somebody wants to have again as the source has them.
//!
//! Writes the wish into `tablecast.restore` and sees it through: with a run of apply of its own, or, where one is at
//! work, by watching what that does with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use mysql_async::Conn;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::choose::{self, Wanted};
use super::journal::{self, Restore, State, Why};
use super::shape::Shape;
use super::{needs, swap, work};
use crate::binlog::name::{TableName, old_name, shadow_name};
use crate::clock::Clock;
use crate::config::Config;
use crate::figures::{count, number};
use crate::metrics::Meters;
use crate::region::apply::pass::region_of;
use crate::region::apply::{self};
use crate::region::ask::Asker;
use crate::region::plan::as_text;
use crate::region::position::{self, Executed};
use crate::region::scope::Scope;
use crate::region::{history, quarantine, state};
use crate::store::head::Read;
use crate::store::{self, Store};
use crate::stream::{Head, Index, Seq, StreamTx};
use crate::{Error, Kind, Result, mysql};

/// How often a wish that another run carries out is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    pub tables: Vec<TableName>,
    pub all: bool,
    pub dry_run: bool,
    /// How long to wait for it.
    pub timeout: Option<Duration>,
    pub stop: CancellationToken,
    /// Where the figures of the apply that it takes are kept.
    pub meters: Meters,
}

/// What became of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub stream: String,
    pub region: String,
    pub dry_run: bool,
    pub restores: Vec<Told>,
}

/// One restore as it is told.
#[derive(Clone, Debug, Serialize)]
pub struct Told {
    #[serde(serialize_with = "as_text")]
    pub id: u64,
    pub why: String,
    pub state: String,
    pub tables: Vec<String>,
    pub dump: Option<String>,
    #[serde(serialize_with = "as_text")]
    pub at_tx: u64,
    #[serde(serialize_with = "as_text")]
    pub rows: u64,
    #[serde(serialize_with = "as_text")]
    pub rows_total: u64,
    pub message: Option<String>,
    pub wanted_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
}

impl From<&Restore> for Told {
    fn from(restore: &Restore) -> Told {
        Told {
            id: restore.id,
            why: restore.why.to_string(),
            state: restore.state.to_string(),
            tables: restore.tables.iter().map(ToString::to_string).collect(),
            dump: restore.dump.as_ref().map(ToString::to_string),
            at_tx: restore.at.0,
            rows: restore.rows,
            rows_total: restore.rows_total,
            message: restore.message.clone(),
            wanted_at: Some(restore.wanted_at),
            finished_at: restore.finished_at,
        }
    }
}

impl Told {
    /// What has become of it, or how far it is, on one line.
    pub fn line(&self) -> String {
        let tables = self.tables.join(", ");
        let (rows, total) = (count(self.rows, "row"), count(self.rows_total, "row"));
        let dump = self.dump.as_deref().unwrap_or("a dump");
        let mut line = match self.state.as_str() {
            "done" => format!("{tables}: {rows} from dump {dump}"),
            "superseded" => format!("{tables}: given up"),
            "wanted" => format!("{tables}: wanted ({})", self.why),
            "loading" => format!("{tables}: {} of {total} from dump {dump}", number(self.rows)),
            "loaded" => {
                format!("{tables}: {rows} from dump {dump} are loaded, to be brought up to date")
            }
            state => format!("{tables}: {state}"),
        };
        if let Some(message) = &self.message {
            line += &format!(": {message}");
        }
        line
    }
}

impl Report {
    /// Whether every table is there.
    pub fn is_done(&self) -> bool {
        self.dry_run || self.restores.iter().all(|restore| restore.state == "done")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, restore) in self.restores.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            let (tables, rows) = (restore.tables.join(", "), count(restore.rows_total, "row"));
            match (restore.state.as_str(), &restore.dump) {
                ("plan", Some(dump)) => {
                    write!(
                        f,
                        "restore {tables}: {rows} from dump {dump}, then the stream from {}",
                        number(restore.at_tx)
                    )?;
                }
                ("plan", None) => write!(f, "restore {tables}: ask the source for a dump, and wait for it")?,
                ("done", _) => write!(f, "restored {tables}: {}", count(restore.rows, "row"))?,
                (state, _) => write!(f, "restore {tables}: {state}")?,
            }
            if let Some(message) = &restore.message {
                write!(f, ": {message}")?;
            }
        }
        Ok(())
    }
}

/// Restores tables.
pub async fn run(
    config: &Config,
    store: Arc<dyn Store>,
    clock: &dyn Clock,
    asker: Option<Arc<dyn Asker>>,
    options: &Options,
) -> Result<Report> {
    let region = region_of(config)?;
    let name = &config.stream;
    let deadline = options.timeout.map(|timeout| Instant::now() + timeout);
    let mut conn = mysql::connect(&config.mysql).await?;
    let what = format!("restore into {}", region.name);
    state::must_run(&mut conn, name, &what, "tablecast restore", clock.now()).await?;
    let Some(position) = position::read(&mut conn, name).await? else {
        return Err(Error::new(
            Kind::Usage,
            format!("restore: {name} has never been applied in this region"),
        )
        .hint("`tablecast bootstrap` makes a new region from the newest full dump"));
    };
    let Read::Head { head, .. } = store::head::read(&*store, None).await? else {
        return Err(Error::new(Kind::Store, "read the stream's head: unchanged since never"));
    };
    history::check_name(name, &head, &store.url())?;
    let wishes = families(&mut conn, config, &head, options).await?;
    let gtids = position::gtid_executed(&mut conn).await?;
    let executed = Executed::of(position.stream, &gtids).with_base(position.base_tx);
    let at = StreamTx(executed.complete_to());
    let mut restores = Vec::new();
    // Nothing of the stream can be applied any more: the dump brings the position, too.
    let anew = options.all && head.is_behind_floor(position.seq);
    let held = quarantine::list(&mut conn, name).await?;
    let own = needs::own_tables(&mut conn, &held).await?;
    for mut tables in wishes {
        leave_own(&mut tables, &own, options)?;
        hindrances(&mut conn, config, &head, &tables).await?;
        let scope = Scope::of(&region.tables, &head);
        let defined = |table: &TableName| head.definition(table).map(|known| &*known.create_table);
        let unfit = quarantine::unfit(&scope, &tables, defined);
        if options.all {
            tables.retain(|table| !unfit.contains_key(table));
        } else if !unfit.is_empty() {
            let message = format!("restore {}: {}", journal::names(&tables), quarantine::why_unfit(&unfit));
            return Err(Error::new(Kind::Gate, message));
        }
        let told = plan(&mut conn, config, &*store, &head, (position.seq, at), &tables, anew).await?;
        if told.dump.is_none() && asker.is_none() {
            let list: Vec<String> = tables.iter().map(|table| format!("'{table}'")).collect();
            let unknown = match tables.iter().any(|table| head.definition(table).is_some()) {
                true => String::new(),
                false => format!(
                    "the stream knows {}. ",
                    journal::names(head.definitions.iter().map(|d| &d.table))
                ),
            };
            return Err(Error::new(
                Kind::NotFound,
                format!("restore {}: no dump in the stream fits", journal::names(&tables)),
            )
            .hint(format!(
                "{unknown}Run at the source: tablecast dump take {}; or name the source's service as source_url in [region], \
                 and it is asked for one",
                list.join(" ")
            )));
        }
        restores.push((tables, told));
    }
    let mut report = Report {
        stream: name.clone(),
        region: region.name.clone(),
        dry_run: options.dry_run,
        restores: restores.iter().map(|(_, told)| told.clone()).collect(),
    };
    if options.dry_run {
        return Ok(report);
    }
    position::complete(&mut conn).await?;
    let mut ids = Vec::new();
    let why = if anew { Why::Resync } else { Why::Asked };
    for (tables, _) in restores {
        ids.push(wish(&mut conn, name, why, tables, clock).await?);
    }
    see_through(config, store, clock, asker, options, deadline, &ids).await?;
    report.restores.clear();
    for id in ids {
        if let Some(restore) = journal::one(&mut conn, name, id).await? {
            report.restores.push(Told::from(&restore));
        }
    }
    Ok(report)
}

/// Runs apply until the wishes are at their end, or watches the one that runs.
async fn see_through(
    config: &Config,
    store: Arc<dyn Store>,
    clock: &dyn Clock,
    asker: Option<Arc<dyn Asker>>,
    options: &Options,
    deadline: Option<Instant>,
    ids: &[u64],
) -> Result<()> {
    let mut conn = mysql::connect(&config.mysql).await?;
    let mut told = false;
    loop {
        if are_final(&mut conn, &config.stream, ids).await? {
            return Ok(());
        }
        if options.stop.is_cancelled() || deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Ok(());
        }
        let until = apply::Until { restores: ids.to_vec(), deadline };
        let run = apply::Options {
            follow: true,
            until: None,
            dry_run: false,
            lock_wait: Duration::ZERO,
            stop: options.stop.clone(),
            meters: options.meters.clone(),
            notice: Default::default(),
        };
        match apply::run_until(config, store.clone(), clock, asker.clone(), &run, &until).await {
            Ok(_) => {}
            Err(error) if error.kind() == Kind::Locked => {
                if !told {
                    tracing::info!("an apply is running in this region: it carries the restore out");
                    told = true;
                }
                tokio::select! {
                    () = options.stop.cancelled() => {}
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether nothing more happens with these.
pub async fn are_final(conn: &mut Conn, name: &str, ids: &[u64]) -> Result<bool> {
    let open = journal::open_ones(conn, name).await?;
    Ok(!open.iter().any(|restore| ids.contains(&restore.id)))
}

/// The tables that are meant, each group of them tied together by foreign keys.
async fn families(
    conn: &mut Conn,
    config: &Config,
    head: &Head,
    options: &Options,
) -> Result<Vec<BTreeSet<TableName>>> {
    let set = &region_of(config)?.tables;
    if options.all {
        let tables: BTreeSet<TableName> = match head.full_dump() {
            Some(dump) => dump.dump.tables.iter().cloned().collect(),
            None => head.definitions.iter().map(|definition| definition.table.clone()).collect(),
        };
        let tables: BTreeSet<TableName> = tables.into_iter().filter(|table| set.names(table)).collect();
        return Ok(vec![tables]);
    }
    let scope = Scope::of(set, head);
    let mut families: Vec<BTreeSet<TableName>> = Vec::new();
    for table in &options.tables {
        if !set.names(table) {
            return Err(Error::new(
                Kind::Usage,
                format!("restore {table}: it is not in this region's list of tables"),
            )
            .hint(format!("the list is `tables` in [region] of {}: {set}", config.path.display())));
        }
        let family = quarantine::family(conn, &scope, &head.definitions, table).await?.members;
        // What overlaps is one.
        let (overlapping, apart): (Vec<_>, Vec<_>) =
            families.into_iter().partition(|other| !other.is_disjoint(&family));
        families = apart;
        families.push(overlapping.into_iter().flatten().chain(family).collect());
    }
    Ok(families)
}

/// What is somebody's is replaced only if it is named itself: not for a foreign key that ties it to what is named, and not
/// as one of all.
fn leave_own(tables: &mut BTreeSet<TableName>, own: &BTreeSet<TableName>, options: &Options) -> Result<()> {
    let spared: BTreeSet<TableName> =
        tables.intersection(own).filter(|table| !options.tables.contains(table)).cloned().collect();
    if spared.is_empty() {
        return Ok(());
    }
    let names = journal::names(&spared);
    if options.all && spared.len() < tables.len() {
        tracing::warn!(
            "restore --all leaves {names} as it is: rows of it are not the stream's. Name it to replace it"
        );
        tables.retain(|table| !spared.contains(table));
        return Ok(());
    }
    let (what, tied) = match options.all {
        true => ("--all".to_owned(), ""),
        false => (journal::names(tables.difference(&spared)), "is tied to it by foreign keys and "),
    };
    Err(Error::new(
        Kind::Failed,
        format!("restore {what}: {names} {tied}holds rows that are not the stream's"),
    )
    .hint(format!("if they are to be replaced, name {names}, too; if not, drop those foreign keys")))
}

/// What stands against it is told before anything is begun.
async fn hindrances(
    conn: &mut Conn,
    config: &Config,
    head: &Head,
    tables: &BTreeSet<TableName>,
) -> Result<()> {
    let bare = |table: &TableName| Shape {
        table: table.clone(),
        shadow: shadow_name(table),
        old: old_name(table),
        definition: None,
    };
    let shapes: Vec<Shape> = tables.iter().map(bare).collect();
    let scope = Scope::of(&region_of(config)?.tables, head);
    let found = swap::hindrances(conn, &scope, &head.definitions, &shapes).await?;
    match found.is_empty() {
        true => Ok(()),
        false => Err(swap::refused(tables, &found)),
    }
}

/// What a restore would do.
async fn plan(
    conn: &mut Conn,
    config: &Config,
    store: &dyn Store,
    head: &Head,
    (seq, at): (Seq, StreamTx),
    tables: &BTreeSet<TableName>,
    anew: bool,
) -> Result<Told> {
    let quarantined = quarantine::list(conn, &config.stream).await?;
    let since: BTreeMap<_, _> = quarantined.iter().map(|table| (&table.table, table.since_tx)).collect();
    let since = tables.iter().filter_map(|table| since.get(table)).min();
    let since = since.map(|since| StreamTx(since.saturating_sub(1)));
    let mut index = Index::new(head.clone());
    let list = &region_of(config)?.tables;
    let wanted = Wanted { tables, list, entry: Seq::ZERO, seq, at, since, for_all: anew, full: anew };
    let mut told = Told {
        id: 0,
        why: Why::Asked.to_string(),
        state: "plan".to_owned(),
        tables: tables.iter().map(ToString::to_string).collect(),
        dump: None,
        at_tx: 0,
        rows: 0,
        rows_total: 0,
        message: None,
        wanted_at: None,
        finished_at: None,
    };
    if let Some(chosen) = choose::choose(&mut index, store, &wanted).await? {
        let chosen = chosen.reference;
        let manifest = work::manifest(store, &chosen).await?;
        told.dump = Some(chosen.dump.id.to_string());
        told.at_tx = chosen.dump.at.0;
        told.rows_total = manifest.rows_of(tables);
    }
    Ok(told)
}

/// Writes a wish down, or joins the restore that brings its tables anyway.
async fn wish(
    conn: &mut Conn,
    name: &str,
    why: Why,
    tables: BTreeSet<TableName>,
    clock: &dyn Clock,
) -> Result<u64> {
    let open = journal::open_ones(conn, name).await?;
    // Others leave out what is somebody's.
    let held = quarantine::list(conn, name).await?;
    let own: Vec<_> = held.iter().filter(|known| known.reason == quarantine::Reason::Own).collect();
    let same = open.iter().find(|restore| {
        let is_under_way = matches!(restore.state, State::Wanted | State::Loading | State::Loaded);
        // Only one kind brings a position, whatever tables the others bring.
        let is_alike = (why == Why::Resync) == (restore.why == Why::Resync) || why == Why::Asked;
        let brings_own = own.iter().filter(|own| restore.tables.contains(&own.table)).all(|own| {
            match (restore.why, tables.contains(&own.table)) {
                (Why::Asked, true) => own.at <= restore.wanted_at,
                // It would come to be one that somebody has asked for.
                (Why::Quarantine, _) => false,
                (_, is_meant) => !is_meant,
            }
        });
        let is_alike = is_alike && brings_own;
        is_alike && restore.tables.is_superset(&tables) && is_under_way
    });
    if let Some(same) = same {
        if why == Why::Asked && same.why == Why::Quarantine {
            // Somebody asks for it now: no setting keeps it from asking for a dump.
            journal::is_asked(conn, same.id).await?;
        }
        return Ok(same.id);
    }
    journal::insert(conn, name, &Restore::new(why, tables, clock.now())).await
}
