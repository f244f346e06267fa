//! `tablecast guard on|off|status`: says what is wanted, carries it out at once, and tells who gets past it.
//!
//! What is wanted is put down first, so that a run that is killed is carried on by the next one, or by apply.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use mysql_async::Conn;
use serde::Serialize;

use super::accounts::Opening;
use super::definers::ByDefiner;
use super::grantee::Grantee;
use super::keep::{self, Problem};
use super::plan::{self, Scope, Seen};
use super::row::{self, Wish};
use super::{read, taken};
use crate::binlog::name::TableName;
use crate::clock::Clock;
use crate::config::{Config, Guard};
use crate::error::chain;
use crate::region::apply::pass::region_of;
use crate::region::{position, preflight};
use crate::store::Store;
use crate::store::head::{self, Read};
use crate::stream::{Head, Seq};
use crate::{Error, Kind, Result, failpoint, figures, mysql};

/// How long another change of the guard is waited for, at least: apply holds it for a moment at a time.
const WAIT: Duration = Duration::from_secs(20);

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    pub mode: Guard,
    pub reason: Option<String>,
    /// The person, as the machine knows them: the account is Tablecast's own.
    pub by: Option<String>,
    pub dry_run: bool,
    pub lock_wait: Duration,
}

/// What a change of the guard did, or would do.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    pub stream: String,
    pub region: String,
    pub dry_run: bool,
    pub mode: &'static str,
    pub before: &'static str,
    /// The statements.
    pub steps: Vec<String>,
    /// What could not be done.
    pub problems: Vec<String>,
    #[serde(skip)]
    pub kind: Option<Kind>,
    /// Tables that the guard is over.
    pub tables: Vec<TableName>,
    pub warnings: Vec<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Change { stream, mode, before, steps, tables, .. } = self;
        if self.dry_run {
            writeln!(f, "-- the guard of {stream} would be: {mode} (it is: {before})")?;
            for step in steps {
                writeln!(f, "{step};")?;
            }
            return write!(f, "-- {} on {}", some(steps.len(), "statement"), some(tables.len(), "table"));
        }
        write!(
            f,
            "{stream}: the guard is {mode} (it was {before}); {} on {}",
            some(steps.len(), "change"),
            some(tables.len(), "table")
        )
    }
}

fn some(count: usize, one: &str) -> String {
    figures::count(count as u64, one)
}

/// Turns the guard on or off, now and for the runs to come.
pub async fn change(
    config: &Config,
    store: Option<&dyn Store>,
    clock: &dyn Clock,
    options: &Options,
) -> Result<Change> {
    let region = region_of(config)?;
    let (head, warnings) = match (read_head(store).await, options.mode) {
        (Ok(head), _) => (head, Vec::new()),
        // Whoever takes the guard away needs no bucket for it.
        (Err(error), Guard::Off) => (None, vec![chain(&error)]),
        (Err(error), _) => return Err(error),
    };
    let mut conn = mysql::connect(&config.mysql).await?;
    let scope = Scope::new(config, head.as_ref(), standing(&mut conn, config).await?)?;
    let before = row::wish(&mut conn, config).await?;
    let mut wish = Wish { mode: options.mode, by_command: true, problem: None, ..before.clone() };
    let (seen, unreadable) = keep::look(&mut conn, &scope, &wish).await?;
    let mut report = Change {
        stream: config.stream.clone(),
        region: region.name.clone(),
        dry_run: options.dry_run,
        mode: row::name(options.mode),
        before: row::name(before.mode),
        steps: plan::plan(&wish, &scope, &seen).iter().map(ToString::to_string).collect(),
        problems: Vec::new(),
        kind: None,
        tables: seen.tables.iter().cloned().collect(),
        warnings,
    };
    if options.dry_run {
        report.tell(unreadable);
        return Ok(report);
    }
    // What is wanted is put down here, also to take the guard away.
    let server = mysql::server(&mut conn).await?;
    preflight::writable(&mut conn, &server)
        .await
        .map_err(|error| error.during(format!("guard {}: {}", config.stream, row::name(options.mode))))?;
    position::create(&mut conn).await?;
    let wait = options.lock_wait.max(WAIT);
    if !keep::lock(&mut conn, &config.stream, wait).await? {
        let message =
            format!("change the guard of {}: another run changes it for {} s", config.stream, wait.as_secs());
        return Err(Error::new(Kind::Locked, message).hint("run it again; --lock-wait says how long to wait"));
    }
    let (reason, by) = (options.reason.as_deref(), options.by.as_deref());
    row::write(&mut conn, &config.stream, options.mode, reason, by, clock.now()).await?;
    failpoint::hit("guard.written");
    wish.reason.clone_from(&options.reason);
    let kept = keep::carry_out(&mut conn, config, &scope, &wish).await?;
    keep::unlock(&mut conn, &config.stream).await?;
    report.steps = kept.steps.iter().map(ToString::to_string).collect();
    report.tell(kept.problems);
    Ok(report)
}

impl Change {
    fn tell(&mut self, problems: impl IntoIterator<Item = Problem>) {
        for problem in problems {
            self.kind = Some(self.kind.filter(|kind| *kind == Kind::Denied).unwrap_or(problem.kind));
            self.problems.push(format!("{} ({})", problem.text, problem.hint));
        }
    }
}

/// The entry that the region has come to.
pub async fn standing(conn: &mut Conn, config: &Config) -> Result<Seq> {
    Ok(position::read(conn, &config.stream).await?.map_or(Seq::ZERO, |at| at.seq))
}

async fn read_head(store: Option<&dyn Store>) -> Result<Option<Head>> {
    let Some(store) = store else { return Ok(None) };
    Ok(match head::read(store, None).await? {
        Read::Head { head, .. } => Some(*head),
        Read::Unchanged => None,
    })
}

/// One table that the guard is over.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    pub table: TableName,
    /// Which changes its triggers refuse.
    pub refuses: Vec<&'static str>,
    pub message: String,
}

impl Table {
    pub fn is_guarded(&self) -> bool {
        self.refuses.len() == 3
    }
}

/// Grants that the guard has taken from an account.
#[derive(Clone, Debug, Serialize)]
pub struct TakenFrom {
    pub account: Grantee,
    /// What gives it back.
    pub grant: String,
}

/// The guard as it is.
#[derive(Clone, Debug, Serialize)]
pub struct GuardReport {
    pub stream: String,
    pub region: String,
    pub wish: Wish,
    /// Where the tables are written, if the stream says so.
    pub source_region: Option<String>,
    pub tables: Vec<Table>,
    /// Who could still change them; `None`: not known.
    pub openings: Option<Vec<Opening>>,
    /// What acts as an account that could, and who can use it; `None`: not known.
    pub by_definers: Option<Vec<ByDefiner>>,
    /// What may act so and cannot be seen, with the privilege that would show it.
    pub unseen: Vec<String>,
    /// Tablecast's own account, which is not among them.
    pub own_account: Grantee,
    pub taken: Vec<TakenFrom>,
    /// What the next run would do.
    pub pending: Vec<String>,
    pub warnings: Vec<String>,
}

impl GuardReport {
    /// Tables whose rows can be written here though triggers should refuse it.
    pub fn bare(&self) -> Vec<&TableName> {
        let wanted = self.wish.mode == Guard::Triggers;
        self.tables.iter().filter(|table| wanted && !table.is_guarded()).map(|table| &table.table).collect()
    }
}

/// Looks at the guard; changes nothing.
pub async fn status(config: &Config, store: Option<&dyn Store>) -> Result<GuardReport> {
    let region = region_of(config)?;
    let mut warnings = Vec::new();
    let head = match read_head(store).await {
        Ok(head) => head,
        Err(error) => {
            warnings.push(chain(&error));
            None
        }
    };
    let mut conn = mysql::connect(&config.mysql).await?;
    let scope = Scope::new(config, head.as_ref(), standing(&mut conn, config).await?)?;
    let wish = row::wish(&mut conn, config).await?;
    let (seen, unreadable) = keep::look(&mut conn, &scope, &wish).await?;
    warnings.extend(unreadable.map(|problem| format!("{} ({})", problem.text, problem.hint)));
    let own = plan::own_account(&mut conn).await?;
    let bare = bare(&scope, &seen, wish.mode);
    let looked = read::openings(&mut conn, &scope, wish.mode, &seen.tables, &bare, &own).await;
    let (openings, by_definers, unseen) = match looked {
        Ok(found) => {
            warnings.extend(found.warnings);
            (Some(found.of_accounts), found.by_definers, found.unseen)
        }
        Err(error) if error.kind() == Kind::Denied => {
            let hint = error.hint_text().unwrap_or_default().to_owned();
            warnings.push(format!("who could get past the guard is not known: {} ({hint})", chain(&error)));
            (None, None, Vec::new())
        }
        Err(error) => return Err(error),
    };
    let tables = seen.refused(&scope).into_iter().map(|(table, refused)| Table {
        refuses: refused.into_iter().map(super::trigger::Change::name).collect(),
        message: scope.voice.message(&scope.base(table)),
        table: table.clone(),
    });
    Ok(GuardReport {
        stream: config.stream.clone(),
        region: region.name.clone(),
        tables: tables.collect(),
        openings,
        by_definers,
        unseen,
        own_account: own,
        taken: seen.taken.iter().map(shown).collect(),
        pending: plan::plan(&wish, &scope, &seen).iter().map(ToString::to_string).collect(),
        source_region: scope.voice.source_region.clone(),
        wish,
        warnings,
    })
}

/// The tables of the set without all of their triggers; none where the guard is not by triggers.
pub async fn bare_tables(
    conn: &mut Conn,
    config: &Config,
    wish: &Wish,
    head: &Head,
    at: Seq,
) -> Result<BTreeSet<TableName>> {
    if wish.mode != Guard::Triggers {
        return Ok(BTreeSet::new());
    }
    let scope = Scope::new(config, Some(head), at)?;
    Ok(plan::look_near(conn, &scope).await?.bare(&scope))
}

/// Whether a table that the region's list lets in lacks a trigger, as far as that can be told without the stream's head.
pub async fn seems_bare(conn: &mut Conn, config: &Config, at: Seq) -> Result<bool> {
    if row::wish(conn, config).await?.mode != Guard::Triggers {
        return Ok(false);
    }
    let scope = Scope::new(config, None, at)?;
    Ok(plan::look_near(conn, &scope).await?.lacks_any())
}

/// Tables without all of their triggers. With the guard off, or by grants, privileges are all that counts.
fn bare(scope: &Scope, seen: &Seen, mode: Guard) -> BTreeSet<TableName> {
    if mode == Guard::Off { seen.tables.clone() } else { seen.bare(scope) }
}

fn shown(taken: &taken::Taken) -> TakenFrom {
    let all: taken::Privileges = taken.taken.union(&taken.taking).cloned().collect();
    TakenFrom { account: taken.place.to.clone(), grant: taken.place.grant(&all) }
}
