//! What a pass does when it reads that the table set has changed.
//!
//! What came before is shipped under the old set. Then one head makes the change: its entry, the set, the
//! definitions of what comes in. From there on the pass reads with the new set. A run that is killed in between has
//! not covered the change, so the next one reads it again.

use std::collections::BTreeSet;

use crate::binlog::filter::SetChange;
use crate::binlog::gtid::GtidSet;
use crate::binlog::name::TableSet;
use crate::error::{Error, Kind, Result};
use crate::failpoint;
use crate::source::pass::{Pass, time};
use crate::source::preflight;
use crate::source::set_table::Change;
use crate::stream::{Head, TablesEntry, entry};

impl Pass<'_> {
    pub(crate) async fn change_set(&mut self, change: SetChange) -> Result<()> {
        let SetChange { gtid, commit_us, row } = change;
        let doing = format!("read source transaction {gtid}");
        // Everything before it is owed to the regions, whatever becomes of it.
        self.ship().await?;
        let change = Change::parse(&row).map_err(|error| error.during(doing.clone()))?;
        self.cover(&gtid, commit_us)?;
        if change.version == 1 {
            // The one that the stream was made with.
            return Ok(());
        }
        follows(&doing, &self.tip.head, &change)?;
        let covered_before = self.tip.head.covered.clone();
        let made = self.tools.clock.now();
        let mut entry = TablesEntry {
            version: change.version,
            tables: change.tables.clone(),
            added: change.added,
            removed: change.removed,
            at: self.tip.head.last_tx,
            source_gtid: Some(gtid),
            covered_before,
            covered_after: self.covered.clone(),
            changed_at: time(commit_us).unwrap_or(self.complete_until),
        };
        if !self.ordered {
            // A write of later may stand before this in the replica's binlog, and was passed over then.
            entry.added.iter_mut().for_each(|added| added.has_rows = true);
        }
        let settled = self.tracker.settle(&self.covered);
        let mut head = self.tip.head.clone();
        let seq = head.append(entry::Body::Tables(entry.clone()), made)?.seq;
        self.tracker.take_on(&change.tables);
        self.schemas.take_on(&change.tables, &entry.added);
        self.filter.take_on(change.tables);
        self.amend(&mut head, &settled);
        failpoint::hit("upload.before_tables_entry");
        self.swap(head).await?;
        failpoint::hit("upload.after_tables_entry");
        self.report.set_changed(seq, &entry);
        Ok(())
    }
}

/// Sets are numbered without a gap: a version that is not there was lost on its way.
fn follows(doing: &str, head: &Head, change: &Change) -> Result<()> {
    let version = head.table_set.version;
    if change.version == version + 1 {
        return Ok(());
    }
    Err(Error::new(
        Kind::History,
        format!("{doing}: it makes version {} of the table set, and the stream has version {version}", change.version),
    )
    .hint(format!(
        "the changes between them did not reach this source: does its replication filter let tablecast.table_set \
         in? {}",
        preflight::RESTART_HINT
    )))
}

/// The entries that bring a head to `changes`, which a resync stands for: its dump holds every table, so nothing is
/// added with them. Versions that are missing in between are taken for the next one that is there.
pub(crate) fn catch_up(head: &Head, changes: &[Change], now: chrono::DateTime<chrono::Utc>) -> Result<Head> {
    let mut head = head.clone();
    for change in changes {
        while head.table_set.version < change.version {
            let gone = gone(&head.table_set.tables, &change.tables);
            let entry = TablesEntry {
                version: head.table_set.version + 1,
                tables: change.tables.clone(),
                added: Vec::new(),
                removed: gone,
                at: head.last_tx,
                source_gtid: None,
                covered_before: head.covered.clone(),
                covered_after: GtidSet::clone(&head.covered),
                changed_at: now,
            };
            head.append(entry::Body::Tables(entry), now)?;
        }
    }
    Ok(head)
}

/// The patterns that the one set has and the other has not.
pub(super) fn gone(before: &TableSet, after: &TableSet) -> Vec<crate::binlog::name::TablePattern> {
    let kept: BTreeSet<_> = after.patterns().collect();
    before.patterns().filter(|pattern| !kept.contains(pattern)).cloned().collect()
}
