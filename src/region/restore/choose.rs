//! Which dump a restore uses, and which entries bring its tables from there to the region's own transaction.

use std::collections::BTreeSet;

use crate::Result;
use crate::binlog::gtid::Gtid;
use crate::binlog::name::{TableName, TableSet};
use crate::stream::{DumpRef, Entry, Head, Index, PageLoader, Seq, StreamTx, TablesEntry};

/// A dump that is older than the trouble is used too if no more has to be read than this.
const CHEAP: u64 = 256 << 20;

/// What is looked for.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    pub tables: &'a BTreeSet<TableName>,
    /// What the region lets in.
    pub list: &'a TableSet,
    /// No dump before this entry will do.
    pub entry: Seq,
    /// Where the region is: its entry, its transaction.
    pub seq: Seq,
    pub at: StreamTx,
    /// The first transaction that a table lacks; `None`: all are there.
    pub since: Option<StreamTx>,
    /// It is for every region: a full dump of a later time does too, whatever tables there were.
    pub for_all: bool,
    /// None but a dump of all tables will do.
    pub full: bool,
}

/// What is used.
#[derive(Clone, Debug)]
pub struct Chosen {
    pub reference: DumpRef,
    /// The tables of it that are restored.
    pub tables: BTreeSet<TableName>,
}

/// The newest dump that fits. A dump may be ahead of the region.
pub async fn choose(
    index: &mut Index,
    pages: &(impl PageLoader + ?Sized),
    wanted: &Wanted<'_>,
) -> Result<Option<Chosen>> {
    let candidates: Vec<DumpRef> = index.head().dumps.iter().rev().cloned().collect();
    for candidate in candidates {
        let dump = &candidate.dump;
        let is_whole = wanted.for_all && dump.full;
        if candidate.seq < wanted.entry
            || !(is_whole || dump.holds(wanted.tables))
            || (wanted.full && !dump.full)
        {
            continue;
        }
        let at = dump.at;
        let changes = changes_since(index, pages, &candidate, wanted.seq).await?;
        let has_left = |table: &TableName| changes.iter().any(|change| leaves(change, table));
        let tables: BTreeSet<TableName> = match is_whole {
            true => dump.tables.iter().filter(|table| wanted.list.names(table)).cloned().collect(),
            false => wanted.tables.clone(),
        };
        let (out, tables): (BTreeSet<TableName>, _) = tables.into_iter().partition(has_left);
        let is_pruned = index.head().floor.is_some_and(|floor| floor.tx > at);
        if (!out.is_empty() && !is_whole) || is_pruned || is_redefined(index.head(), &tables, at, wanted.at) {
            // And so are the older ones.
            return Ok(None);
        }
        if wanted.since.is_some_and(|since| at < since) {
            let entries = entries_behind(index, pages, (candidate.seq, at), wanted.at).await?;
            let touching = entries.iter().filter_map(Entry::segment).filter(|segment| {
                segment.last_tx > at && segment.tables.iter().any(|table| tables.contains(table))
            });
            let cost = touching.fold(0u64, |sum, segment| sum.saturating_add(segment.size));
            if cost > CHEAP {
                return Ok(None);
            }
        }
        return Ok(Some(Chosen { reference: candidate, tables }));
    }
    Ok(None)
}

/// Whether a change of the set ends what the stream knows of a table: it goes out, or comes in anew. Of the time between
/// the stream brings nothing.
fn leaves(change: &TablesEntry, table: &TableName) -> bool {
    !change.tables.names(table) || change.added.iter().any(|added| added.table == *table)
}

/// The changes of the table set that the region has behind it and the dump does not know of.
async fn changes_since(
    index: &mut Index,
    pages: &(impl PageLoader + ?Sized),
    dump: &DumpRef,
    seq: Seq,
) -> Result<Vec<TablesEntry>> {
    let knows = |gtid: Option<&Gtid>, of: Seq| match gtid {
        Some(gtid) => dump.dump.snapshot.contains(gtid),
        None => of < dump.seq,
    };
    let newest = index.head().set_changed.as_ref();
    let is_settled = newest.and_then(|newest| newest.settled).is_some_and(|resync| resync <= dump.seq);
    if is_settled || newest.is_none_or(|newest| knows(newest.source_gtid.as_ref(), newest.seq)) {
        // And so it does those before.
        return Ok(Vec::new());
    }
    let floor = index.head().floor.map_or(Seq::ZERO, |floor| floor.seq);
    let mut from = before(index, pages, (dump.seq, dump.dump.at)).await?;
    // Changes have no transaction of their own: some may lie between the last one that the dump holds and there.
    while from > floor && index.entry(from, pages).await?.segment().is_none() {
        from = Seq(from.0 - 1);
    }
    let mut found = Vec::new();
    while from < seq {
        let entries = index.entries_after(from, pages).await?;
        let Some(last) = entries.last() else { break };
        from = last.seq;
        let changes = entries.iter().take_while(|entry| entry.seq <= seq);
        let unknown = changes.filter_map(|entry| Some((entry.seq, entry.tables()?)));
        found.extend(
            unknown
                .filter(|(seq, change)| !knows(change.source_gtid.as_ref(), *seq))
                .map(|(_, change)| change.clone()),
        );
    }
    Ok(found)
}

/// Whether a definition has changed between the dump and the region, as far as the head tells: of several changes it
/// knows the last.
fn is_redefined(head: &Head, tables: &BTreeSet<TableName>, at: StreamTx, to: StreamTx) -> bool {
    let changed = |table: &TableName| head.definition(table).map(|definition| definition.since_tx);
    tables.iter().filter_map(changed).any(|since| since > at && since <= to)
}

/// The entries that hold the transactions behind a dump's, up to `to`. The dump: its entry, and its transaction.
pub async fn entries_behind(
    index: &mut Index,
    pages: &(impl PageLoader + ?Sized),
    (seq, at): (Seq, StreamTx),
    to: StreamTx,
) -> Result<Vec<Entry>> {
    let mut found = Vec::new();
    let mut last = before(index, pages, (seq, at)).await?;
    loop {
        let entries = index.entries_after(last, pages).await?;
        let Some(newest) = entries.last() else { return Ok(found) };
        last = newest.seq;
        for entry in entries {
            if entry.segment().is_some_and(|segment| segment.first_tx > to) {
                return Ok(found);
            }
            found.push(entry);
        }
    }
}

/// So many entries are looked at in one go backwards.
const STRIDE: u64 = 64;

/// The last entry up to the dump's own up to which there is no transaction that the dump does not hold.
pub async fn before(
    index: &mut Index,
    pages: &(impl PageLoader + ?Sized),
    (seq, at): (Seq, StreamTx),
) -> Result<Seq> {
    let floor = index.head().floor.map_or(Seq::ZERO, |floor| floor.seq);
    let (mut found, mut last) = (seq, seq);
    // The dump's transaction lies a little before its entry: between them is what came while it was written.
    while last > floor {
        let first = Seq(last.0.saturating_sub(STRIDE).max(floor.0));
        let mut entries: Vec<Entry> = Vec::new();
        while entries.last().map_or(first, |entry| entry.seq) < last {
            let more = index.entries_after(entries.last().map_or(first, |entry| entry.seq), pages).await?;
            if more.is_empty() {
                break;
            }
            entries.extend(more.into_iter().filter(|entry| entry.seq <= last));
        }
        for entry in entries.iter().rev() {
            let Some(segment) = entry.segment() else { continue };
            if segment.last_tx <= at {
                return Ok(found);
            }
            found = Seq(entry.seq.0 - 1);
        }
        last = first;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use async_trait::async_trait;
    use chrono::{DateTime, Utc};
    use uuid::Uuid;

    use super::*;
    use crate::binlog::gtid::{GtidSet, Tsid};
    use crate::binlog::name::TableSet;
    use crate::stream::{Body, Codec, Definition, DumpEntry, DumpId, Key, Md5, Page, PageLink, SegmentEntry};
    use crate::{Error, Kind};

    struct NoPages;

    #[async_trait]
    impl PageLoader for NoPages {
        async fn page(&self, _: Uuid, _: &PageLink) -> Result<Page> {
            Err(Error::new(Kind::NotFound, "there are no pages"))
        }
    }

    fn time(seconds: u64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + std::time::Duration::from_secs(1_800_000_000 + seconds)
    }

    fn tables(names: &[&str]) -> BTreeSet<TableName> {
        names.iter().map(|name| TableName::new("g", *name)).collect()
    }

    fn empty() -> Head {
        Head::new(Uuid::from_u128(42), "apps", TableSet::parse(&["g.*"]).unwrap(), time(0))
    }

    /// One transaction on `a`, in a segment of this size.
    fn segment(head: &mut Head, size: u64) {
        let tx = head.last_tx.next();
        let mut covered = head.covered.clone();
        covered.insert_range(&Tsid::untagged(Uuid::from_u128(7)), tx.0, tx.0);
        let segment = SegmentEntry {
            key: Key::segment(tx, tx, time(tx.0), Codec::Zstd),
            size,
            md5: Md5::of(b"x"),
            raw_size: size,
            codec: Codec::Zstd,
            first_tx: tx,
            last_tx: tx,
            count: 1,
            tables: vec![TableName::new("g", "a")],
            covered_before: head.covered.clone(),
            covered_after: covered,
            first_commit: time(tx.0),
            last_commit: time(tx.0),
            definitions: Vec::new(),
        };
        head.append(Body::Segment(segment), time(tx.0)).unwrap();
    }

    /// A dump of these tables as they were after transaction `at`.
    fn dump(head: &mut Head, at: u64, names: &[&str], full: bool) -> Seq {
        let id = DumpId::new(time(head.last_seq.0), 7);
        let dump = DumpEntry {
            manifest: Key::manifest(&id),
            id,
            size: 10,
            md5: Md5::of(b"x"),
            at: StreamTx(at),
            snapshot: GtidSet::new(),
            tables: tables(names).into_iter().collect(),
            full,
            mandatory: false,
            lacks: None,
            brought: None,
            resync: false,
            rows: 1,
            bytes: 1,
            taken_at: time(at),
            requests: Vec::new(),
        };
        head.append(Body::Dump(dump), time(head.last_tx.0)).unwrap().seq
    }

    async fn chosen(head: &Head, wanted: Wanted<'_>) -> Option<u64> {
        let found = choose(&mut Index::new(head.clone()), &NoPages, &wanted).await.unwrap();
        found.map(|found| found.reference.seq.0)
    }

    fn wanted(tables: &BTreeSet<TableName>, at: u64) -> Wanted<'_> {
        static LIST: LazyLock<TableSet> = LazyLock::new(|| TableSet::parse(&["g.*"]).unwrap());
        let (entry, at) = (Seq::ZERO, StreamTx(at));
        let (list, seq) = (&*LIST, Seq::ZERO);
        Wanted { tables, list, entry, seq, at, since: None, for_all: false, full: false }
    }

    /// A full dump at 1 (entry 2), one of `b` at 2 (entry 4), one of `a` and `b` at 2 (entry 6); five transactions.
    fn history() -> Head {
        let mut head = empty();
        segment(&mut head, 10);
        assert_eq!(dump(&mut head, 1, &["a", "b"], true), Seq(2));
        segment(&mut head, 10);
        assert_eq!(dump(&mut head, 2, &["b"], false), Seq(4));
        segment(&mut head, 10);
        assert_eq!(dump(&mut head, 2, &["a", "b"], false), Seq(6));
        segment(&mut head, 10);
        segment(&mut head, 10);
        head
    }

    #[tokio::test]
    async fn the_newest_dump_that_holds_every_table_is_used() {
        let (head, both, only) = (history(), tables(&["a", "b"]), tables(&["b"]));
        assert_eq!(chosen(&head, wanted(&both, 5)).await, Some(6));
        assert_eq!(chosen(&head, wanted(&only, 5)).await, Some(6));
        assert_eq!(chosen(&head, wanted(&tables(&["c"]), 5)).await, None);
        // None before an entry, none but a full one.
        assert_eq!(chosen(&head, Wanted { entry: Seq(7), ..wanted(&both, 5) }).await, None);
        assert_eq!(chosen(&head, Wanted { full: true, ..wanted(&both, 5) }).await, Some(2));
        assert_eq!(chosen(&head, Wanted { full: true, entry: Seq(3), ..wanted(&both, 5) }).await, None);
        // A region that is behind the dump waits for the stream.
        assert_eq!(chosen(&head, wanted(&both, 1)).await, Some(6));
    }

    /// I5: between the dump and the region only rows may have changed, and all of that must still be there.
    #[tokio::test]
    async fn a_dump_from_before_a_change_of_a_definition_or_behind_what_was_pruned_is_not_used() {
        let mut head = history();
        let (both, only) = (tables(&["a", "b"]), tables(&["b"]));
        let definition = Definition {
            table: TableName::new("g", "a"),
            since_tx: StreamTx(4),
            create_table: "CREATE TABLE `a` (\n  `id` int NOT NULL\n) ENGINE=InnoDB".to_owned(),
            rows_at_init: None,
        };
        head.define(definition);
        assert_eq!(chosen(&head, wanted(&both, 5)).await, None);
        assert_eq!(chosen(&head, wanted(&only, 5)).await, Some(6), "another table's definition");
        assert_eq!(chosen(&head, wanted(&both, 3)).await, Some(6), "the region has not come so far");
        dump(&mut head, 4, &["a"], false);
        assert_eq!(chosen(&head, wanted(&tables(&["a"]), 5)).await, Some(9));
    }

    #[tokio::test]
    async fn a_dump_that_is_older_than_the_trouble_is_used_if_the_stream_since_then_is_soon_read() {
        let both = tables(&["a", "b"]);
        let since = |since| Wanted { since: Some(StreamTx(since)), ..wanted(&both, 5) };
        assert_eq!(chosen(&history(), since(2)).await, Some(6));
        assert_eq!(chosen(&history(), since(4)).await, Some(6));
        let mut head = history();
        segment(&mut head, CHEAP);
        let at = |since| Wanted { at: StreamTx(6), ..since };
        assert_eq!(chosen(&head, at(since(4))).await, None);
        assert_eq!(chosen(&head, at(since(2))).await, Some(6), "newer than the trouble: whatever it takes");
        let only = tables(&["b"]);
        let of_b = Wanted { tables: &only, ..at(since(4)) };
        assert_eq!(chosen(&head, of_b).await, Some(6), "nothing of it is this table's");
    }
}
