//! Transactions that the stream covers and the source does not have: what a failover may have lost.
//!
//! Most of what a failover loses is none of ours: the stream has passed it over, and goes on from the new
//! primary as if nothing had happened. But what the stream has shipped is in the regions, and a primary that
//! lacks it has another history than they have: no upload may go on from there. Which of the two it is stands
//! in the segments, in the note of each transaction. What a resync stood for nobody can look up: its entry says what it has
//! brought, and all of that counts as shipped. What was found to be none of ours is remembered on this machine until there
//! is another dump: nothing else changes the answer.

use std::fs;
use std::io::{BufReader, Read};
use std::path::Path;

use uuid::Uuid;

use crate::binlog::gtid::GtidSet;
use crate::binlog::segment::{Item, SegmentReader};
use crate::error::{Error, Kind, Result};
use crate::store::Store;
use crate::stream::entry::{Entry, SegmentEntry};
use crate::stream::unpack::unpack;
use crate::stream::{Head, Index, Md5, Seq, StreamTx};

/// Of `missing`, what the stream has shipped, or stood on when it was made.
pub(crate) async fn shipped(
    store: &dyn Store,
    head: &Head,
    missing: &GtidSet,
    cache_dir: &Path,
    spool_dir: &Path,
) -> Result<GtidSet> {
    let memory = cache_dir.join(format!("lost-{}", head.stream));
    let newest = head.dumps.iter().map(|known| known.seq).max().unwrap_or(Seq::ZERO);
    let passed_over = remembered(&memory, newest).unwrap_or_default();
    let unknown = missing.difference(&passed_over);
    if unknown.is_empty() {
        return Ok(GtidSet::new());
    }
    let found = look_up(store, head, &unknown, spool_dir).await?;
    if found.is_empty() {
        let all = passed_over.union(&unknown);
        let text = format!("{} {all}", newest.0);
        let kept = fs::create_dir_all(cache_dir).and_then(|()| fs::write(&memory, text));
        if let Err(cause) = kept {
            tracing::debug!("remember what was lost in {}: {cause}", memory.display());
        }
    }
    Ok(found)
}

/// What is remembered from the time of this dump.
fn remembered(memory: &Path, newest: Seq) -> Option<GtidSet> {
    let text = fs::read_to_string(memory).ok()?;
    let (seq, passed_over) = text.trim().split_once(' ')?;
    passed_over.parse().ok().filter(|_| seq.parse() == Ok(newest.0))
}

async fn look_up(store: &dyn Store, head: &Head, unknown: &GtidSet, spool_dir: &Path) -> Result<GtidSet> {
    // The newest entries first: what is lost is usually there, and then no page has to be read.
    let mut found = GtidSet::new();
    for entry in head.entries.iter().rev() {
        found.extend(&of_entry(store, head, entry, unknown, spool_dir).await?);
    }
    if !found.is_empty() {
        return Ok(found);
    }
    let mut older = match head.entries.iter().find_map(Entry::covered) {
        Some((before, _)) => unknown.intersection(before),
        // Nothing but pages has any, or nothing is shipped yet.
        None => unknown.clone(),
    };
    let mut index = Index::new(head.clone());
    let begin = head.floor.map_or(Seq::ZERO, |floor| floor.seq);
    let (mut after, mut is_first) = (begin, true);
    while !older.is_empty() {
        let entries = index.entries_after(after, store).await?;
        let Some(last) = entries.last() else { break };
        if let Some((before, _)) = entries.iter().find_map(Entry::covered).filter(|_| is_first) {
            // Covered before the first entry that is left: the copies that the regions began with have it, or
            // what was pruned has brought it to them.
            is_first = false;
            let base = older.intersection(before);
            let base = that_matter(head, begin, StreamTx::ZERO, base);
            if !base.is_empty() {
                return Ok(base);
            }
        }
        for entry in &entries {
            found.extend(&of_entry(store, head, entry, &older, spool_dir).await?);
        }
        after = last.seq;
        if let Some((_, after)) = entries.iter().rev().find_map(Entry::covered) {
            older = older.difference(after);
        }
    }
    if is_first {
        // Nothing is shipped yet: all there is is what the stream stands on.
        return Ok(that_matter(head, begin, StreamTx::ZERO, older));
    }
    Ok(found)
}

/// Of what was covered at entry `seq`, transaction `tx`, and is lost now, that which the regions still hold. A resync
/// has put its source's state in its place: what that lacked is settled. And what the source lacked already when a later
/// dump was taken had been settled then.
fn that_matter(head: &Head, seq: Seq, tx: StreamTx, lost: GtidSet) -> GtidSet {
    let later = || head.dumps.iter().filter(|known| known.seq > seq);
    let resync = later().filter(|known| known.dump.resync).max_by_key(|known| known.seq);
    let lost = match resync.map(|known| &known.dump.lacks) {
        Some(Some(lacks)) => lost.difference(lacks),
        // An older version did not say what it lacked.
        Some(None) => GtidSet::new(),
        None => lost,
    };
    let since = resync.map_or(seq, |known| known.seq);
    let others = later().filter(|known| !known.dump.resync && known.seq > since && tx <= known.dump.at);
    others.fold(lost, |lost, known| lost.intersection(&known.dump.snapshot))
}

/// Those of `unknown` that are in this entry; a segment is read only if it may hold any.
async fn of_entry(
    store: &dyn Store,
    head: &Head,
    entry: &Entry,
    unknown: &GtidSet,
    spool_dir: &Path,
) -> Result<GtidSet> {
    if let Some(change) = entry.tables() {
        // The transaction that changed the set is shipped by its entry.
        let here = change.source_gtid.iter().filter(|gtid| unknown.contains(gtid)).collect();
        return Ok(that_matter(head, entry.seq, change.at, here));
    }
    if let Some((dump, brought)) = entry.dump().and_then(|dump| Some((dump, dump.brought.as_ref()?))) {
        return Ok(that_matter(head, entry.seq, dump.at, unknown.intersection(brought)));
    }
    let Some(segment) = entry.segment() else { return Ok(GtidSet::new()) };
    let here = unknown.intersection(&segment.covered_after).difference(&segment.covered_before);
    let here = that_matter(head, entry.seq, segment.last_tx, here);
    if here.is_empty() {
        return Ok(here);
    }
    let mut reader = open_segment(store, head.stream, segment, spool_dir).await?;
    let mut found = GtidSet::new();
    while let Some(item) = reader.next()? {
        if let Item::Begin(transaction) = item
            && here.contains(&transaction.source_gtid)
        {
            found.insert(&transaction.source_gtid);
        }
    }
    Ok(found)
}

/// A segment from the bucket, its bytes checked, in a file that goes with the reader.
pub(crate) async fn open_segment(
    store: &dyn Store,
    stream: Uuid,
    segment: &SegmentEntry,
    spool_dir: &Path,
) -> Result<SegmentReader<Box<dyn Read + Send>>> {
    let io = |cause: std::io::Error| {
        Error::new(Kind::Failed, format!("read {} in {}", segment.key, spool_dir.display())).caused_by(cause)
    };
    fs::create_dir_all(spool_dir).map_err(io)?;
    let file = tempfile::NamedTempFile::new_in(spool_dir).map_err(io)?;
    let got = store.download(&segment.key, file.path(), segment.size).await?;
    if (got.md5, got.size) != (segment.md5, segment.size) {
        return Err(differs(segment, got.md5));
    }
    let packed = BufReader::new(file.reopen().map_err(io)?);
    SegmentReader::new(unpack(segment.codec, packed)?, Some(stream))
}

fn differs(segment: &SegmentEntry, found: Md5) -> Error {
    Error::new(Kind::Corrupt, format!("read {}: md5 is {found}, the index says {}", segment.key, segment.md5))
}
