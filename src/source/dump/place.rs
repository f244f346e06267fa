//! Which transaction of the stream a snapshot is the state of.
//!
//! The stream covers the snapshot by now. `at` is the last stream transaction whose source GTID the snapshot has.
//! The order of the stream is the order of the source's binlog, and where that is not the order of commits, a
//! transaction up to `at` may be missing in the snapshot. That is harmless unless it touches a dumped table; a dump
//! for which that is so is thrown away: I4 and I5 hang on this number.

use std::collections::BTreeSet;
use std::path::Path;

use crate::binlog::event::{TableMap, kind};
use crate::binlog::gtid::GtidSet;
use crate::binlog::name::TableName;
use crate::binlog::segment::Item;
use crate::error::Result;
use crate::source::lost::open_segment;
use crate::store::Store;
use crate::stream::{Entry, Head, Index, SegmentEntry, Seq, StreamTx};

/// Where a snapshot stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    At(StreamTx),
    /// This transaction stands before others that the snapshot has, touches a dumped table, and is not in it.
    Torn(StreamTx),
}

/// Finds the place of `snapshot`, which `head` covers, of these tables. `since`: where the stream ended before the
/// snapshot was taken. A transaction that was in the binlog then, and writes to a dumped table, has been waited for.
pub(crate) async fn find(
    store: &dyn Store,
    head: &Head,
    since: StreamTx,
    snapshot: &GtidSet,
    tables: &[TableName],
    spool_dir: &Path,
) -> Result<Place> {
    let segments = behind(store, head, since).await?;
    let tables: BTreeSet<&TableName> = tables.iter().collect();
    let mut at = since;
    // Transactions outside the snapshot that touch a dumped table: the first of each segment is enough.
    let mut outside = Vec::new();
    for segment in &segments {
        let new = segment.covered_after.difference(&segment.covered_before);
        let touches = segment.tables.iter().any(|table| tables.contains(table));
        if new.is_subset(snapshot) {
            at = at.max(segment.last_tx);
        } else if new.intersection(snapshot).is_empty() {
            outside.extend(touches.then_some(segment.first_tx));
        } else {
            let mixed = read(store, head, segment, snapshot, &tables, spool_dir).await?;
            at = at.max(mixed.last_inside);
            outside.extend(mixed.first_outside);
        }
    }
    match outside.into_iter().find(|tx| *tx < at) {
        Some(torn) => Ok(Place::Torn(torn)),
        None => Ok(Place::At(at)),
    }
}

/// The segments behind `since`, the newest first.
async fn behind(store: &dyn Store, head: &Head, since: StreamTx) -> Result<Vec<SegmentEntry>> {
    let mut segments = Vec::new();
    let mut index = Index::new(head.clone());
    let begin = head.floor.map_or(Seq::ZERO, |floor| floor.seq);
    let mut older: Vec<Entry> = head.entries.clone();
    loop {
        for segment in older.iter().rev().filter_map(Entry::segment) {
            if segment.last_tx <= since {
                return Ok(segments);
            }
            segments.push(segment.clone());
        }
        let first = older.first().map_or(head.last_seq.next(), |entry| entry.seq);
        // The thousand before these, in as many pieces as the index has them.
        let mut after = Seq(first.0.saturating_sub(1_001)).max(begin);
        older = Vec::new();
        while after.next() < first {
            let entries = index.entries_after(after, store).await?;
            let Some(last) = entries.last() else { break };
            after = last.seq;
            older.extend(entries.into_iter().filter(|entry| entry.seq < first));
        }
        if older.is_empty() {
            return Ok(segments);
        }
    }
}

struct Mixed {
    last_inside: StreamTx,
    /// The first that is outside and touches a dumped table.
    first_outside: Option<StreamTx>,
}

async fn read(
    store: &dyn Store,
    head: &Head,
    segment: &SegmentEntry,
    snapshot: &GtidSet,
    tables: &BTreeSet<&TableName>,
    spool_dir: &Path,
) -> Result<Mixed> {
    let mut reader = open_segment(store, head.stream, segment, spool_dir).await?;
    let may_touch = segment.tables.iter().any(|table| tables.contains(table));
    let mut mixed = Mixed { last_inside: StreamTx::ZERO, first_outside: None };
    let mut outside = None;
    while let Some(item) = reader.next()? {
        match item {
            Item::Begin(transaction) => {
                outside = None;
                if snapshot.contains(&transaction.source_gtid) {
                    mixed.last_inside = StreamTx(transaction.n);
                } else if may_touch && mixed.first_outside.is_none() {
                    outside = Some(StreamTx(transaction.n));
                }
            }
            Item::Event(event) => {
                let touches = match event.kind() {
                    kind::TABLE_MAP => tables.contains(&TableMap::parse_name(&event)?.1),
                    // BEGIN, or a DDL on one of the segment's tables, which may be one of ours.
                    kind::QUERY => !event.body().ends_with(b"BEGIN"),
                    // Compressed: what is in it is not looked at.
                    kind::TRANSACTION_PAYLOAD => true,
                    _ => false,
                };
                if let Some(tx) = outside.take_if(|_| touches) {
                    mixed.first_outside = Some(tx);
                }
            }
            Item::End => {}
        }
    }
    Ok(mixed)
}
