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
use crate::clock::Clock;
use crate::config::Config;
use crate::mysql::{self, Lock};
use crate::region::apply::pass::{lock_name, region_of};
use crate::region::plan::as_text;
use crate::region::position::{self, Executed, Position};
use crate::region::{gate, history, preflight};
use crate::store::head::Read;
use crate::store::{self, Store};
use crate::stream::{Entry, Index, Manifest, PageLoader, Seq, StreamTx};
use crate::{Error, Kind, Result};

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
        write!(
            f,
            "{}: {} rows ({} bytes) from dump {}, taken at {}, then {} transactions of the stream",
            self.stream,
            self.rows,
            self.bytes,
            self.dump,
            self.taken_at.format("%Y-%m-%d %H:%M:%S UTC"),
            self.then
        )
    }
}

/// Looks at everything that must hold, and writes the restore down that the next apply carries out. `None`: there is a
/// position already, and it came from a bootstrap.
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
    let server = mysql::server(&mut conn).await?;
    preflight::insist(&mut conn, &server, &region.tables).await?;
    if let Some(position) = position::read(&mut conn, name).await? {
        if position.base_tx > StreamTx::ZERO {
            return Ok(None);
        }
        return Err(Error::new(
            Kind::Failed,
            format!("bootstrap {name}: this region has a position already, at entry {}", position.seq.0),
        )
        .hint("`tablecast restore --all` puts a dump in the place of tables in a region that is there"));
    }
    let Read::Head { head, .. } = store::head::read(&*store, None).await? else {
        return Err(Error::new(Kind::Store, "read the stream's head: unchanged since never"));
    };
    history::check_name(name, &head, &store.url())?;
    let executed = Executed::of(head.stream, &position::gtid_executed(&mut conn).await?);
    history::check_index(name, None, &executed, &head)?;
    let Some(dump) = head.full_dump().cloned() else {
        return Err(Error::new(Kind::NotFound, format!("bootstrap {name}: the stream has no full dump"))
            .hint("run at the source: tablecast dump take --all-tables"));
    };
    let manifest = work::manifest(&*store, &dump).await?;
    for table in &manifest.tables {
        gate::definition(&region.tables, &table.table, &table.create_table)?;
    }
    let open = journal::open_ones(&mut conn, name).await?;
    let begun = open.into_iter().find(|restore| restore.why == Why::Bootstrap);
    if begun.as_ref().is_none_or(|restore| restore.state != State::Swapping) {
        check_empty(&mut conn, &manifest).await?;
    }
    let mut plan = Plan {
        stream: name.clone(),
        region: region.name.clone(),
        dump: dump.dump.id.to_string(),
        taken_at: dump.dump.taken_at,
        at_tx: dump.dump.at.0,
        tables: manifest.tables.iter().map(|table| table.table.to_string()).collect(),
        rows: manifest.rows(),
        bytes: manifest.bytes(),
        then: head.last_tx.0 - dump.dump.at.0,
        restore: 0,
    };
    if dry_run {
        return Ok(Some(plan));
    }
    position::create(&mut conn).await?;
    plan.restore = match begun {
        Some(restore) => restore.id,
        None => {
            let tables = manifest.tables.iter().map(|table| table.table.clone()).collect();
            let restore = Restore::new(Why::Bootstrap, tables, clock.now());
            journal::insert(&mut conn, name, &restore).await?
        }
    };
    if let Some(lock) = lock {
        lock.release().await?;
    }
    Ok(Some(plan))
}

/// A table that holds rows is somebody's: nothing of it is replaced.
async fn check_empty(conn: &mut Conn, manifest: &Manifest) -> Result<()> {
    let mut full = Vec::new();
    for table in &manifest.tables {
        let found: mysql_async::Result<Option<u8>> =
            conn.query_first(format!("SELECT 1 FROM {} LIMIT 1", table.table.quoted())).await;
        match found {
            Ok(Some(_)) => full.push(table.table.to_string()),
            Ok(None) => {}
            // ER_BAD_DB_ERROR, ER_NO_SUCH_TABLE
            Err(mysql_async::Error::Server(error)) if matches!(error.code, 1049 | 1146) => {}
            Err(error) => return Err(mysql::error(error, &format!("look for rows in {}", table.table))),
        }
    }
    if full.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        Kind::Failed,
        format!("bootstrap: this server holds rows in {}, and a new region is empty", full.join(", ")),
    )
    .hint("if nobody needs them, DROP or TRUNCATE these tables and run `tablecast bootstrap` again"))
}

/// Where a region stands whose tables are in the state of a full dump.
pub async fn position(
    index: &mut Index,
    pages: &(impl PageLoader + ?Sized),
    restore: &Restore,
    store: String,
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
    let mut position = Position::start(stream, store, Default::default(), now);
    position.base_tx = dump.at;
    position.as_of = Some(dump.taken_at);
    // The entry itself, and the last segment up to it, which says what is covered.
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
        if let Some(segment) = entry.segment() {
            position.last_tx = segment.last_tx;
            position.covered = segment.covered_after.clone();
            break;
        }
        at = Seq(at.0 - 1);
    }
    if position.covered.is_empty() {
        // No segment lies before the dump: what was covered when the next one began.
        let next = index.entries_after(seq, pages).await?;
        let next = next.iter().find_map(Entry::segment);
        position.covered = next.map(|segment| segment.covered_before.clone()).unwrap_or_default();
        position.last_tx = floor.map_or(StreamTx::ZERO, |floor| floor.tx);
    }
    if seq >= entry.seq {
        position.covered.extend(&dump.snapshot);
        position.last_tx = dump.at;
    }
    Ok(position)
}
