//! Dumps that every region takes, whether it waits for one or not.

use std::collections::BTreeSet;

use mysql_async::Conn;

use super::journal::{self, Restore, State, Why};
use crate::Result;
use crate::binlog::name::{TableName, TableSet};
use crate::clock::Clock;
use crate::stream::Entry;

/// A dump in the stream that every region has to take: put down before the position passes it. Whether the entry
/// may be passed now; not a resync that has not been restored.
pub async fn meets(
    conn: &mut Conn,
    name: &str,
    list: &TableSet,
    entry: &Entry,
    clock: &dyn Clock,
) -> Result<bool> {
    let Some(dump) = entry.dump().filter(|dump| dump.mandatory || dump.resync) else { return Ok(true) };
    let tables: BTreeSet<TableName> = dump.tables.iter().filter(|table| list.names(table)).cloned().collect();
    if tables.is_empty() && !dump.resync {
        return Ok(true);
    }
    // What has been restored from this dump or a later one, a bootstrap too, has what it brings. The transactions that
    // they stand at do not tell: what the source has lost has no number.
    let is_there = |restore: &Restore| {
        restore.entry >= entry.seq && (restore.why == Why::Bootstrap || tables.is_subset(&restore.tables))
    };
    if journal::done(conn, name, entry.seq).await?.iter().any(is_there) {
        return Ok(true);
    }
    let there = journal::of_entry(conn, name, entry.seq).await?;
    if there.iter().any(|restore| restore.state == State::Done) {
        return Ok(true);
    }
    if there.is_empty() {
        let why = if dump.resync { Why::Resync } else { Why::Mandatory };
        let mut restore = Restore::new(why, tables, clock.now());
        restore.entry = entry.seq;
        restore.id = journal::insert(conn, name, &restore).await?;
        tracing::info!(restore = restore.id, dump = %dump.id, "entry {} is a dump for every region", entry.seq.0);
    }
    Ok(!dump.resync)
}
