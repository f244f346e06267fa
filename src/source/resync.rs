//! `upload --resync`: how a stream goes on whose history has a hole.
//!
//! The source has purged or lost what the stream lacks, or has committed what cannot travel. No segment can be read
//! across that. So a dump of the whole set is taken and appended, mandatory, with the mark that it stands for the
//! hole: its place is the stream's end, every region restores it before anything behind it, and the stream covers all
//! that the source had executed in the snapshot. Nothing is written to the index before the dump is complete; a run
//! that is killed has changed nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use mysql_async::Conn;
use tokio::time::{MissedTickBehavior, interval, sleep};
use uuid::Uuid;

use crate::binlog::name::TableName;
use crate::config::Config;
use crate::error::{Error, Kind, Result, chain};
use crate::failpoint;
use crate::mysql::Held;
use crate::source::dump::{self, Order, Outcome, Plan, Progress, Wanted, Written, take};
use crate::source::pass::Tools;
use crate::source::set_change::catch_up;
use crate::source::set_table::{self, Change};
use crate::source::tip::Tip;
use crate::source::upload::{Options, Report};
use crate::source::{behind, failover, gap, moment, preflight, primacy};
use crate::store::Store;
use crate::stream::entry::Body;
use crate::stream::{Definition, DumpEntry, DumpId, Head, definition};

/// How often it gives way to DDL at the source, and for how long.
const GIVEN_WAY: u32 = 5;
const REST: Duration = Duration::from_secs(5);
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Takes the dump and appends it. False: told to stop before it was done.
pub(crate) async fn run(
    tools: Tools<'_>,
    store: &Arc<dyn Store>,
    options: &Options,
    lock: &mut dyn Held,
    tip: &mut Tip,
    conn: &mut Conn,
    report: &mut Report,
) -> Result<bool> {
    let server = tools.config.mysql.to_string();
    let mut moment = moment::look(conn, &server).await?;
    primacy::judge(tools.config, &mut moment).await;
    preflight::mode(&moment, &server)?;
    // Numbers that it will use again would be taken for covered ones. No dump mends that.
    preflight::own_numbers(&moment, &tip.head, &server)?;
    for warning in preflight::require(conn, &server, &tip.head.table_set.tables).await? {
        report.warn(warning);
    }
    if let Some(said) = gap::may_be_dumped(tools, conn, &moment, &tip.head, options.trust_copy).await? {
        report.warn(said);
    }
    if !behind::check(tools, conn, &mut moment, &tip.head, true, &options.stop).await? {
        return Ok(false);
    }
    let judged = failover::may_be_dumped(tools, &moment, &tip.head, options.trust_copy).await?;
    judged.warning.into_iter().for_each(|said| report.warn(said));
    let mut need_not_be_there = judged.not_of_the_set;
    need_not_be_there.insert(moment.uuid);
    for _ in 0..GIVEN_WAY {
        // Changes of the table set may be in the hole too; the dump is of the newest set.
        let changes = set_changes(conn, &server, &tip.head, report).await?;
        let before = catch_up(&tip.head, &changes, tools.clock.now())?;
        let plan = dump::plan(tools.config, &before.table_set.tables, &Wanted::All).await?;
        dropped(&before, &plan).iter().for_each(|table| report.warn(would_drop(table)));
        match take_dump(tools, store, options, &before).await? {
            Outcome::Written(written) => {
                let since = set_changes(conn, &server, &before, report).await?;
                if let Some(change) = since.last() {
                    // Before the snapshot or behind it, nobody can say.
                    tracing::warn!(
                        "the dump is begun again: the table set has come to version {}",
                        change.version
                    );
                    continue;
                }
                let replica = (!moment.is_primary()).then_some(&need_not_be_there);
                append(tools, lock, tip, report, before, *written, replica).await?;
                return Ok(true);
            }
            Outcome::Stopped => return Ok(false),
            Outcome::GaveWay(table) => {
                tracing::warn!("the dump is begun again: a DDL on {table} waited for it");
                tokio::select! {
                    () = options.stop.cancelled() => return Ok(false),
                    () = sleep(REST) => {}
                }
            }
        }
    }
    Err(Error::new(
        Kind::Mysql,
        format!("upload --resync: DDL at {server} came in between {GIVEN_WAY} times"),
    )
    .hint("run it again when no tables of the set are being altered"))
}

/// What a resync would dump now, and which tables it would take from every region.
pub(crate) async fn plan(
    config: &Config,
    conn: &mut Conn,
    tools: Tools<'_>,
    head: &Head,
    report: &mut Report,
) -> Result<(Plan, Vec<TableName>)> {
    let changes = set_changes(conn, &config.mysql.to_string(), head, report).await?;
    let before = catch_up(head, &changes, tools.clock.now())?;
    let plan = dump::plan(config, &before.table_set.tables, &Wanted::All).await?;
    let dropped = dropped(&before, &plan);
    Ok((plan, dropped))
}

/// Tables that the stream has brought to the regions, and that the source does not have under these names any more.
fn dropped(head: &Head, plan: &Plan) -> Vec<TableName> {
    plan.absent.iter().filter(|table| head.definition(table).is_some()).cloned().collect()
}

pub(crate) fn would_drop(table: &TableName) -> String {
    format!(
        "{table} is in the set and not at the source: it will be DROPPED in every region; `tablecast tables remove {table}` \
         first keeps the copies there"
    )
}

/// The versions of the table set that the stream lacks, as far as the source knows.
async fn set_changes(conn: &mut Conn, server: &str, head: &Head, report: &mut Report) -> Result<Vec<Change>> {
    match set_table::versions(conn, server, head.stream, head.table_set.version).await {
        Ok(versions) => Ok(versions.unwrap_or_default().into_iter().map(|version| version.change).collect()),
        Err(error) if error.kind() == Kind::Denied => {
            report.warn(format!(
                "nobody knows whether the table set changed in what is lost: {}",
                chain(&error)
            ));
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

async fn take_dump(
    tools: Tools<'_>,
    store: &Arc<dyn Store>,
    options: &Options,
    head: &Head,
) -> Result<Outcome> {
    let id = DumpId::new(tools.clock.now(), Uuid::new_v4().as_u128() as u32);
    let order = Order {
        id: id.clone(),
        stream: head.stream,
        set: head.table_set.clone(),
        wanted: Wanted::All,
        // What the stream has and the source has lost stays covered: it will never be shipped again.
        covered: head.covered.clone(),
    };
    let stop = options.stop.child_token();
    // Also when this future is dropped.
    let _ends = stop.clone().drop_guard();
    let progress = Arc::new(Progress::default());
    let (config, store, theirs) = (tools.config.clone(), store.clone(), progress.clone());
    let mut task = tokio::spawn(async move { take(&config, store, order, theirs, stop).await });
    let mut tick = interval(LOG_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.reset();
    loop {
        tokio::select! {
            outcome = &mut task => {
                let failed = |e| Error::new(Kind::Failed, format!("take dump {id}")).caused_by(e);
                return outcome.map_err(failed)?;
            }
            _ = tick.tick() => tracing::info!("dump {id}: {progress}"),
        }
    }
}

/// The dump's entry, which stands for what is lost: the stream's end, and covered from there on. `replica`: if its source is
/// one, the servers whose transactions its primary need not have: itself, and those that write nothing of the set.
pub(crate) async fn append(
    tools: Tools<'_>,
    lock: &mut dyn Held,
    tip: &mut Tip,
    report: &mut Report,
    mut head: Head,
    written: Written,
    replica: Option<&BTreeSet<Uuid>>,
) -> Result<()> {
    let Written { manifest, executed, key, size, md5, tables } = written;
    let mut brought = executed.difference(&head.covered);
    if let Some(writers) = replica {
        brought = moment::made_by(&brought, |writer| !writers.contains(&writer));
    }
    let dump = DumpEntry {
        id: manifest.id.clone(),
        manifest: key,
        size,
        md5,
        at: tip.head.last_tx,
        snapshot: manifest.snapshot.clone(),
        lacks: Some(head.covered.difference(&executed)),
        brought: Some(brought),
        tables,
        full: true,
        mandatory: true,
        resync: true,
        rows: manifest.rows(),
        bytes: manifest.bytes(),
        taken_at: manifest.taken_at,
        requests: Vec::new(),
    };
    // What the tables have become inside the hole.
    head.schemas = manifest.schemas.clone();
    let text =
        |table: &TableName| manifest.table(table).map(|dumped| definition::normalise(&dumped.create_table));
    head.definitions.retain(|known| text(&known.table).is_some_and(|text| text == known.create_table));
    for dumped in &manifest.tables {
        if head.definition(&dumped.table).is_none() {
            head.define(Definition {
                table: dumped.table.clone(),
                since_tx: head.last_tx,
                create_table: definition::normalise(&dumped.create_table),
                rows_at_init: None,
            });
        }
    }
    if replica.is_none() {
        head.as_of = head.as_of.max(manifest.taken_at);
    }
    let seq = head.append(Body::Dump(dump.clone()), tools.clock.now())?.seq;
    failpoint::hit("dump.before_append");
    lock.verify().await?;
    tip.swap(tools.store, head).await?;
    failpoint::hit("dump.after_append");
    tracing::warn!(
        "dump {} is entry {}: every region restores it, and the stream goes on behind it",
        dump.id,
        seq.0
    );
    report.head_written(&tip.head);
    report.dumped(seq, dump);
    Ok(())
}
