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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binlog::gtid::Tsid;
    use crate::binlog::name::TableSet;
    use crate::store::DirStore;
    use crate::stream::entry::Body;

    const SOURCE: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn set(numbers: &[u64]) -> GtidSet {
        let server = Tsid::untagged(SOURCE.parse().expect("a UUID"));
        let mut set = GtidSet::new();
        numbers.iter().for_each(|&n| set.insert_range(&server, n, n));
        set
    }

    /// A stream of segments with one transaction each, `n` with the GTID `n`, that touch these tables.
    fn head(segments: &[&str]) -> Head {
        let tables = TableSet::parse(&["g.*"]).expect("a set");
        let stream = uuid::Uuid::parse_str(SOURCE).expect("a UUID");
        let mut head = Head::new(stream, "apps", tables, Default::default());
        for (n, table) in (1..).zip(segments) {
            let (tx, made) = (StreamTx(n), head.created_at);
            let mut covered_after = head.covered.clone();
            covered_after.extend(&set(&[n]));
            let covered = (head.covered.clone(), covered_after);
            let segment = SegmentEntry::for_tests((tx, tx), table, covered, made);
            head.append(Body::Segment(segment), made).expect("it follows");
        }
        head
    }

    async fn place(segments: &[&str], snapshot: &[u64], since: u64) -> Place {
        let folder = tempfile::tempdir().expect("a folder");
        let store = DirStore::open(folder.path()).expect("a store");
        let tables = ["g.apps".parse().expect("a name")];
        let (head, snapshot) = (head(segments), set(snapshot));
        let found = find(&store, &head, StreamTx(since), &snapshot, &tables, folder.path());
        found.await.expect("a place")
    }

    #[tokio::test]
    async fn the_place_is_the_last_transaction_that_the_snapshot_has() {
        let segments = ["g.apps", "g.plans", "g.apps", "g.apps"];
        assert_eq!(place(&segments, &[1, 2], 0).await, Place::At(StreamTx(2)));
        assert_eq!(place(&segments, &[1, 2, 3, 4], 1).await, Place::At(StreamTx(4)));
        assert_eq!(place(&segments, &[], 0).await, Place::At(StreamTx::ZERO));
        assert_eq!(place(&segments, &[1, 2], 2).await, Place::At(StreamTx(2)));
        assert_eq!(place(&[], &[7], 0).await, Place::At(StreamTx::ZERO));
    }

    /// I5.
    #[tokio::test]
    async fn a_snapshot_that_lacks_an_earlier_change_of_its_tables_is_torn_and_one_of_other_tables_is_not() {
        assert_eq!(place(&["g.plans", "g.apps", "g.apps"], &[1, 3], 0).await, Place::Torn(StreamTx(2)));
        assert_eq!(place(&["g.apps", "g.plans", "g.apps"], &[1, 3], 0).await, Place::At(StreamTx(3)));
    }
}
