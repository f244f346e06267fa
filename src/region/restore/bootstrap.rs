//! A new region: every table from the newest full dump, and then the stream.
//!
//! Here is only what has to hold before, and where the region stands behind it. The restore itself is one like any
//! other, carried out by apply's engine before its first pass: whatever is killed, `bootstrap` or `apply` goes on
//! with it. Everything is in the region's binlog, so its own replicas get it too.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde::Serialize;

use super::journal::{self, Restore, State, Why};
use super::{choose, work};
use crate::binlog::gtid::GtidSet;
use crate::binlog::name::{TableName, TableSet};
use crate::clock::Clock;
use crate::config::Config;
use crate::figures::{count, number};
use crate::mysql::{self, Lock};
use crate::region::apply::pass::{lock_name, region_of};
use crate::region::plan::as_text;
use crate::region::position::{self, Executed, Position};
use crate::region::scope::{Scope, left_out};
use crate::region::{definitions, gate, history, preflight, state};
use crate::store::head::Read;
use crate::store::{self, Store};
use crate::stream::manifest::total;
use crate::stream::{DumpEntry, DumpRef, DumpedTable, Entry, Index, Manifest, PageLoader, Seq, StreamTx};
use crate::{Error, Kind, Result, failpoint};

/// So far back an earlier bootstrap is looked for.
const PAST: u64 = 100;

/// What a bootstrap will do.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    pub stream: String,
    pub region: String,
    pub dump: String,
    pub taken_at: DateTime<Utc>,
    #[serde(serialize_with = "as_text")]
    pub at_tx: u64,
    pub tables: Vec<String>,
    /// Tables of the dump that the region's list does not let in.
    pub left_out: Vec<String>,
    #[serde(serialize_with = "as_text")]
    pub rows: u64,
    #[serde(serialize_with = "as_text")]
    pub bytes: u64,
    /// Transactions of the stream behind it.
    #[serde(serialize_with = "as_text")]
    pub then: u64,
    /// The restore that does it; 0 in a dry run.
    #[serde(skip)]
    pub restore: u64,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for table in &self.tables {
            writeln!(f, "create the table {table}")?;
        }
        for table in &self.left_out {
            writeln!(f, "leave out {table}: this region's list does not let it in")?;
        }
        write!(
            f,
            "{}: {} ({} bytes) from dump {}, taken at {}, then {} of the stream",
            self.stream,
            count(self.rows, "row"),
            number(self.bytes),
            self.dump,
            self.taken_at.format("%Y-%m-%d %H:%M:%S UTC"),
            count(self.then, "transaction")
        )
    }
}

/// Looks at everything that must hold, and writes the restore down that the next apply carries out. `None`: there is a
/// position already, from a bootstrap that was cut short in the stream.
pub async fn prepare(
    config: &Config,
    store: Arc<dyn Store>,
    clock: &dyn Clock,
    lock_wait: Duration,
    dry_run: bool,
) -> Result<Option<Plan>> {
    let region = region_of(config)?;
    let name = &config.stream;
    let lock = match dry_run {
        true => None,
        false => Some(Lock::acquire(&config.mysql, &lock_name(config), lock_wait).await?),
    };
    let mut conn = mysql::connect(&config.mysql).await?;
    let what = format!("bootstrap {}", region.name);
    state::must_run(&mut conn, name, &what, "tablecast bootstrap", clock.now()).await?;
    let server = mysql::server(&mut conn).await?;
    preflight::insist(&mut conn, &server, &region.tables).await?;
    let past = journal::recent(&mut conn, name, PAST).await?;
    let begun =
        past.iter().find(|restore| restore.why == Why::Bootstrap && restore.state != State::Superseded);
    if let Some(position) = position::read(&mut conn, name).await? {
        // One that was cut short behind its restore has not seen the stream's end yet.
        return match begun.is_some() && position.head_etag.is_none() {
            true => Ok(None),
            false => Err(there_already(name, &position)),
        };
    }
    let Read::Head { head, .. } = store::head::read(&*store, None).await? else {
        return Err(Error::new(Kind::Store, "read the stream's head: unchanged since never"));
    };
    history::check_name(name, &head, &store.url())?;
    let gtids = position::gtid_executed(&mut conn).await?;
    let executed = Executed::of(head.stream, &gtids);
    history::check_end(name, &executed, &head)?;
    let Some(dump) = head.full_dump().cloned() else {
        return Err(Error::new(Kind::NotFound, format!("bootstrap {name}: the stream has no full dump"))
            .hint("run at the source: tablecast dump take --all-tables"));
    };
    check_server(name, &gtids, &dump.dump)?;
    check_executed(name, &executed, &dump.dump)?;
    let manifest = work::manifest(&*store, &dump).await?;
    let (here, left_out) = let_in(config, &region.tables, &dump, &manifest)?;
    for table in &here {
        gate::definition(&region.tables, &table.table, &table.create_table)?;
    }
    if begun.is_none_or(|restore| restore.state != State::Swapping) {
        let scope = Scope::of(&region.tables, &head);
        check_empty(&mut conn, &scope, |table| dump.dump.tables.contains(table)).await?;
    }
    let mut plan = Plan {
        stream: name.clone(),
        region: region.name.clone(),
        dump: dump.dump.id.to_string(),
        taken_at: dump.dump.taken_at,
        at_tx: dump.dump.at.0,
        tables: here.iter().map(|table| table.table.to_string()).collect(),
        left_out: left_out.iter().map(ToString::to_string).collect(),
        rows: total(here.iter().map(|table| table.rows)),
        bytes: total(here.iter().map(|table| table.bytes())),
        then: head.last_tx.0 - dump.dump.at.0,
        restore: 0,
    };
    if dry_run {
        return Ok(Some(plan));
    }
    position::create(&mut conn).await?;
    failpoint::hit("bootstrap.position_made");
    plan.restore = match begun.filter(|restore| !restore.state.is_final()) {
        Some(restore) => restore.id,
        None => {
            let tables = here.iter().map(|table| table.table.clone()).collect();
            let restore = Restore::new(Why::Bootstrap, tables, clock.now());
            journal::insert(&mut conn, name, &restore).await?
        }
    };
    failpoint::hit("bootstrap.wanted");
    if let Some(lock) = lock {
        lock.release().await?;
    }
    Ok(Some(plan))
}

fn there_already(name: &str, position: &Position) -> Error {
    let seq = position.seq.0;
    Error::new(Kind::Failed, format!("bootstrap {name}: this region has a position already, at entry {seq}")).hint(
        "it is no new region: `tablecast apply` goes on from there, and `tablecast restore --all` puts the newest dump in \
         the place of its tables",
    )
}

/// A server that has run, under the source's own GTIDs, what the dump holds is the source or was a copy of it.
fn check_server(name: &str, gtids: &GtidSet, dump: &DumpEntry) -> Result<()> {
    if dump.snapshot.is_empty() || !dump.snapshot.is_subset(gtids) {
        return Ok(());
    }
    let message = format!(
        "bootstrap {name}: this server has run all that dump {} holds, under the source's GTIDs",
        dump.id
    );
    Err(Error::new(Kind::History, message).hint(
        "this is the stream's source or a replica of it, and no region: [mysql] in the config must name the region's \
         own server; one that was such a copy once forgets it by RESET BINARY LOGS AND GTIDS (8.0: RESET MASTER)",
    ))
}

/// A server that was a region before has run transactions under the stream's GTIDs, and will not run them again. That
/// is well as long as the dump holds all of them.
fn check_executed(name: &str, executed: &Executed, dump: &DumpEntry) -> Result<()> {
    if executed.last() <= dump.at.0 {
        return Ok(());
    }
    let (last, at) = (executed.last(), dump.at.0);
    let message = format!(
        "bootstrap {name}: this server has run the stream's transactions up to {last} before, and the newest full dump is \
         of transaction {at}: those between would be missing"
    );
    Err(Error::new(Kind::History, message)
        .hint("run at the source: tablecast dump take --all-tables; then bootstrap again"))
}

/// The tables of the dump that the region's list lets in, and those that it leaves out. A list that has none of them
/// is another stream's.
fn let_in<'a>(
    config: &Config,
    set: &TableSet,
    dump: &DumpRef,
    manifest: &'a Manifest,
) -> Result<(Vec<&'a DumpedTable>, Vec<&'a TableName>)> {
    let (here, left_out): (Vec<_>, Vec<_>) =
        manifest.tables.iter().partition(|table| set.names(&table.table));
    if !here.is_empty() || left_out.is_empty() {
        return Ok((here, left_out.into_iter().map(|table| &table.table).collect()));
    }
    let message = format!(
        "gate: refuse dump {} (entry {}): this region's list has none of its tables: {}",
        dump.dump.id,
        dump.seq.0,
        journal::names(&dump.dump.tables)
    );
    Err(Error::new(Kind::Gate, message).hint(format!(
        "add those that this region is to have to `tables` in [region] of {}",
        config.path.display()
    )))
}

/// A table that holds rows is somebody's: nothing of it is replaced. Also one that the dump does not hold: the stream
/// may come to make it, or have it still, in what lies between the dump and the change of its set that takes it out.
/// What the stream never had is not looked at: it stays as it is.
pub(super) async fn check_empty(
    conn: &mut Conn,
    scope: &Scope,
    is_dumped: impl Fn(&TableName) -> bool,
) -> Result<()> {
    const THERE: &str = "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE' \
        AND TABLE_SCHEMA NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys') ORDER BY 1, 2";
    let there: Vec<(String, String)> =
        conn.query(THERE).await.map_err(|error| mysql::error(error, "list the tables of this server"))?;
    let mut full = Vec::new();
    for (schema, table) in there {
        let table = TableName::new(schema, table);
        let may_come = scope.may_meet(&table) || (scope.list.admits(&table) && is_dumped(&table));
        if may_come && definitions::has_rows(conn, &table).await? {
            full.push(table.to_string());
        }
    }
    if full.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        Kind::Failed,
        format!("bootstrap: this server holds rows in {}, and a new region is empty", full.join(", ")),
    )
    .hint(
        "if nobody needs them, DROP or TRUNCATE these tables; if they are this region's own, take them out of `tables` in \
         [region]; then run `tablecast bootstrap` again",
    ))
}

/// Where a region stands whose tables are in the state of a full dump.
pub async fn position(
    index: &mut Index,
    pages: &(impl PageLoader + ?Sized),
    restore: &Restore,
    store: String,
    list: &TableSet,
    now: DateTime<Utc>,
) -> Result<Position> {
    let entry = index.entry(restore.entry, pages).await?;
    let Some(dump) = entry.dump() else {
        return Err(Error::new(
            Kind::Corrupt,
            format!("restore {}: entry {} is no dump", restore.id, entry.seq.0),
        ));
    };
    let stream = index.head().stream;
    let seq = choose::before(index, pages, (entry.seq, dump.at)).await?;
    let mut position = Position::start(stream, store, Default::default(), list, now);
    position.left_out = left_out(list, index.head());
    position.base_tx = dump.at;
    position.as_of = Some(dump.taken_at);
    // The entry itself, and the last one up to it that says what is covered.
    let mut at = seq;
    let floor = index.head().floor;
    if let Some(floor) = floor.filter(|floor| floor.seq == seq) {
        (position.seq, position.chain) = (floor.seq, floor.chain);
    }
    while at > floor.map_or(Seq::ZERO, |floor| floor.seq) {
        let entry = index.entry(at, pages).await?;
        if at == seq {
            (position.seq, position.chain) = (entry.seq, entry.chain);
        }
        if let Some((_, covered)) = entry.covered() {
            position.last_tx = entry.up_to();
            position.covered = covered.clone();
            break;
        }
        at = Seq(at.0 - 1);
    }
    if position.covered.is_empty() {
        // Nothing that says it lies before the dump: what was covered when the next one began.
        let next = index.entries_after(seq, pages).await?;
        let next = next.iter().find_map(Entry::covered);
        position.covered = next.map(|(before, _)| before.clone()).unwrap_or_default();
        position.last_tx = floor.map_or(StreamTx::ZERO, |floor| floor.tx);
    }
    if seq >= entry.seq {
        position.covered.extend(&dump.snapshot);
        position.last_tx = dump.at;
    }
    Ok(position)
}
