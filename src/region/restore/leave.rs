//! Restores when the lists of tables change: what would bring a table that is none of the region's any more, or bring
//! one as it was before it went out and came in again, is given up or begins again without it.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use mysql_async::Conn;

use super::journal::{self, State, Why};
use crate::Result;
use crate::binlog::name::TableName;
use crate::stream::Seq;

/// What has changed.
pub struct Changed<'a> {
    /// Whether the region has no part in a table any more.
    pub is_out: &'a (dyn Fn(&TableName) -> bool + Sync),
    /// Tables that come into the set; what was known of them before does not count.
    pub anew: &'a BTreeSet<TableName>,
    /// The entry that says so: a dump behind it knows of it. 0: the region's own list does.
    pub entry: Seq,
}

/// Takes tables out of the restores that are open, under the lock of apply and with none at its swap. Says whether there
/// were any.
pub async fn follow_set(
    conn: &mut Conn,
    name: &str,
    changed: &Changed<'_>,
    now: DateTime<Utc>,
) -> Result<bool> {
    let mut has_given_up = false;
    for mut restore in journal::open_ones(conn, name).await? {
        let knows = changed.entry > Seq::ZERO && restore.dump.is_some() && restore.entry > changed.entry;
        let (out, left): (BTreeSet<TableName>, _) =
            restore.tables.iter().cloned().partition(|table| (changed.is_out)(table));
        let is_stale = restore.tables.iter().any(|table| changed.anew.contains(table));
        if knows || restore.state == State::Swapping || (out.is_empty() && !is_stale) {
            continue;
        }
        // The dump for every region is looked for anew by whoever is for every region.
        if is_stale && !matches!(restore.why, Why::Mandatory | Why::Resync) {
            restore.entry = restore.entry.max(changed.entry.next());
        }
        let names = journal::names(if out.is_empty() { changed.anew } else { &out });
        let message =
            format!("{names}: no longer to be brought from an older dump, the list of tables has changed");
        restore.tables = left;
        if restore.tables.is_empty() {
            restore.supersede(message, now);
        } else {
            restore.again();
            restore.message = Some(message);
        }
        tracing::info!(restore = restore.id, "{}", restore.message.as_deref().unwrap_or_default());
        journal::update(conn, &restore).await?;
        has_given_up = true;
    }
    Ok(has_given_up)
}

/// So far back the record of restores is looked at.
const RECORD: u64 = 1000;

/// Tables that have been restored here, as the record of restores tells. One that was given up has brought nothing.
pub async fn brought(conn: &mut Conn, name: &str) -> Result<BTreeSet<TableName>> {
    let past = journal::recent(conn, name, RECORD).await?.into_iter();
    Ok(past.filter(|restore| restore.state == State::Done).flat_map(|restore| restore.tables).collect())
}
