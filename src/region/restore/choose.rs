//! Which dump a restore uses, and which entries bring its tables from there to the region's own transaction.

use std::collections::BTreeSet;

use crate::Result;
use crate::binlog::name::TableName;
use crate::stream::{DumpRef, Entry, Head, Index, PageLoader, Seq, StreamTx};

/// A dump that is older than the trouble is used too if no more has to be read than this.
const CHEAP: u64 = 256 << 20;

/// What is looked for.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    pub tables: &'a BTreeSet<TableName>,
    /// No dump before this entry will do.
    pub entry: Seq,
    /// Where the region is.
    pub at: StreamTx,
    /// The first transaction that a table lacks; `None`: all are there.
    pub since: Option<StreamTx>,
    /// It is for every region: a full dump of a later time does too, whatever tables there were.
    pub for_all: bool,
    /// None but a dump of all tables will do.
    pub full: bool,
}

/// The newest dump that fits, with the entries behind it. A dump may be ahead of the region.
pub async fn choose(
    index: &mut Index,
    pages: &(impl PageLoader + ?Sized),
    wanted: &Wanted<'_>,
) -> Result<Option<DumpRef>> {
    let candidates: Vec<DumpRef> = index.head().dumps.iter().rev().cloned().collect();
    for candidate in candidates {
        let holds = candidate.dump.holds(wanted.tables) || (wanted.for_all && candidate.dump.full);
        if candidate.seq < wanted.entry || !holds || (wanted.full && !candidate.dump.full) {
            continue;
        }
        let at = candidate.dump.at;
        if is_redefined(index.head(), wanted, at) || index.head().floor.is_some_and(|floor| floor.tx > at) {
            // And so are the older ones.
            return Ok(None);
        }
        if wanted.since.is_none_or(|since| at >= since) {
            return Ok(Some(candidate));
        }
        let entries = entries_behind(index, pages, (candidate.seq, at), wanted.at).await?;
        let touching = entries.iter().filter_map(Entry::segment).filter(|segment| {
            segment.last_tx > at && segment.tables.iter().any(|table| wanted.tables.contains(table))
        });
        let cost = touching.fold(0u64, |sum, segment| sum.saturating_add(segment.size));
        return Ok((cost <= CHEAP).then_some(candidate));
    }
    Ok(None)
}

/// Whether a definition has changed between the dump and the region, as far as the head tells: of several changes it
/// knows the last.
fn is_redefined(head: &Head, wanted: &Wanted<'_>, at: StreamTx) -> bool {
    let changed = |table: &TableName| head.definition(table).map(|definition| definition.since_tx);
    wanted.tables.iter().filter_map(changed).any(|since| since > at && since <= wanted.at)
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
