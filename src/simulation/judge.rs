//! Holds every state of the bucket against the invariants, the moment it comes about.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use chrono::{DateTime, Utc};

use super::source::{Source, What, gtid};
use crate::binlog::segment::{Item, SegmentReader};
use crate::stream::{
    Codec, DumpEntry, Entry, Head, Key, KeyKind, Manifest, Md5, Page, PageLink, SegmentEntry, Seq, StreamTx,
};

/// What stands in the bucket under a key.
type There<'a> = dyn Fn(&Key) -> Option<&'a [u8]> + 'a;

#[derive(Default)]
pub(super) struct Judge {
    pub violations: Vec<String>,
    pub head: Option<Head>,
    /// Every entry that there ever was.
    entries: BTreeMap<Seq, Entry>,
    links: BTreeMap<Key, PageLink>,
    /// The source's number of each transaction of the stream.
    pub stream: Vec<u64>,
    shipped: BTreeSet<u64>,
    /// What only a resync has brought.
    pub by_dump: BTreeSet<u64>,
}

impl Judge {
    pub fn wrong(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    /// What regions may find gone.
    pub fn floor(&self) -> Seq {
        self.head.as_ref().and_then(|head| head.floor).map_or(Seq::ZERO, |floor| floor.seq)
    }

    /// A head has been written.
    pub fn head(&mut self, bytes: &[u8], there: &There<'_>, source: &Source, now: DateTime<Utc>) {
        let head = match Head::parse(bytes) {
            Ok(head) => head,
            Err(error) => return self.wrong(format!("a head that nobody can read: {error}")),
        };
        if let Some(before) = self.head.take() {
            self.follows(&before, &head, now);
        }
        let known = self.entries.keys().next_back().copied().unwrap_or(Seq::ZERO);
        let (old, new): (Vec<&Entry>, Vec<&Entry>) =
            head.entries.iter().partition(|entry| entry.seq <= known);
        for entry in old {
            if self.entries.get(&entry.seq).is_some_and(|there| there.chain != entry.chain) {
                self.wrong(format!("I2: entry {} is another one now", entry.seq.0));
            }
        }
        let mut due = known.next();
        for entry in new {
            if entry.seq != due {
                self.wrong(format!("I2: entry {} where {} is due", entry.seq.0, due.0));
            }
            due = entry.seq.next();
            self.entry(entry, &head, there, source);
            self.entries.insert(entry.seq, entry.clone());
        }
        if head.last_seq.next() != due {
            self.wrong(format!("I2: the head ends with entry {}, {} is due", head.last_seq.0, due.0));
        }
        if let Some(link) = &head.page {
            self.page(link, &head, there);
        }
        for committed in source.all.iter().filter(|committed| head.covered.contains(&gtid(committed.number)))
        {
            let number = committed.number;
            let is_there = self.shipped.contains(&number) || self.by_dump.contains(&number);
            if committed.what == What::Rows && !is_there {
                self.violations.push(format!("I3: source transaction {number} is covered, and nowhere"));
            }
        }
        self.head = Some(head);
    }

    fn follows(&mut self, before: &Head, head: &Head, now: DateTime<Utc>) {
        if head.stream != before.stream {
            self.wrong("I2: another stream");
        }
        if head.last_seq < before.last_seq || head.last_tx < before.last_tx {
            self.wrong(format!("I2: the stream went back from {} to {}", before.last_seq.0, head.last_seq.0));
        }
        if !before.covered.is_subset(&head.covered) {
            self.wrong(format!("I3: {} was covered, {} is", before.covered, head.covered));
        }
        if head.floor.map(|floor| floor.seq) < before.floor.map(|floor| floor.seq) {
            self.wrong("I1: the floor went back");
        }
        if before.pause(now).is_some() && head.last_seq > before.last_seq {
            self.wrong(format!("entry {} came in while the stream was paused", head.last_seq.0));
        }
    }

    fn entry(&mut self, entry: &Entry, head: &Head, there: &There<'_>, source: &Source) {
        if let Some(segment) = entry.segment() {
            match there(&segment.key) {
                None => self.wrong(format!("I1: {} is listed, and is not there", segment.key)),
                Some(bytes) if (bytes.len() as u64, Md5::of(bytes)) != (segment.size, segment.md5) => {
                    self.wrong(format!("I1: {} is not what the index says", segment.key));
                }
                Some(bytes) => self.segment(segment, bytes, head, source),
            }
        }
        if let Some(dump) = entry.dump() {
            self.dump(dump, there);
        }
    }

    fn segment(&mut self, segment: &SegmentEntry, bytes: &[u8], head: &Head, source: &Source) {
        let found = match read_segment(segment, bytes, head) {
            Ok(found) => found,
            Err(error) => return self.wrong(format!("{}: {error}", segment.key)),
        };
        let place = |number: u64| source.all.iter().position(|committed| committed.number == number);
        for (n, number) in found {
            if n != self.stream.len() as u64 + 1 {
                self.wrong(format!("I3: transaction {n} where {} is due", self.stream.len() + 1));
            }
            if !self.shipped.insert(number) {
                self.wrong(format!("I3: source transaction {number} is in the stream twice"));
            }
            if self.stream.last().is_some_and(|last| place(*last) > place(number)) {
                self.wrong(format!("I3: source transaction {number} is out of order"));
            }
            self.stream.push(number);
        }
        if segment.last_tx.0 != self.stream.len() as u64 {
            self.wrong(format!("I3: {} ends with transaction {}", segment.key, self.stream.len()));
        }
    }

    fn dump(&mut self, dump: &DumpEntry, there: &There<'_>) {
        let content = match read_dump(dump, there) {
            Ok(content) => content,
            Err(why) => return self.wrong(format!("I1: dump {}: {why}", dump.id)),
        };
        let Some(at) = usize::try_from(dump.at.0).ok().and_then(|at| self.stream.get(..at)) else {
            return self.wrong(format!("I4: dump {} is at {}, which is not there", dump.id, dump.at.0));
        };
        let at: BTreeSet<u64> = at.iter().copied().collect();
        if let Some(lacks) = at.difference(&content).next() {
            self.wrong(format!(
                "I5: dump {} is said to hold source transaction {lacks}, and does not",
                dump.id
            ));
        }
        let more: BTreeSet<u64> = content.difference(&at).copied().collect();
        if dump.resync {
            self.by_dump.extend(more);
        } else if let Some(more) = more.difference(&self.by_dump).next() {
            self.wrong(format!("I4: dump {} holds source transaction {more}, which comes later", dump.id));
        }
    }

    fn page(&mut self, link: &PageLink, head: &Head, there: &There<'_>) {
        if self.links.insert(link.key.clone(), link.clone()).is_some()
            || head.floor.is_some_and(|floor| floor.seq >= link.last)
        {
            return;
        }
        let Some(bytes) = there(&link.key) else {
            return self.wrong(format!("I1: {} is linked to, and is not there", link.key));
        };
        match Page::parse_linked(head.stream, link, bytes) {
            Ok(page) => {
                for entry in &page.entries {
                    if self.entries.get(&entry.seq).is_some_and(|there| there.chain != entry.chain) {
                        self.wrong(format!("I2: entry {} is another one in {}", entry.seq.0, link.key));
                    }
                }
            }
            Err(error) => self.wrong(format!("I1: {error}")),
        }
    }

    /// An object is gone.
    pub fn deleted(&mut self, key: &Key) {
        if let Some(why) = self.needs(key) {
            self.wrong(format!("I1: {key} was deleted: {why}"));
        }
    }

    /// Why the newest head needs an object, if it does.
    pub fn needs(&self, key: &Key) -> Option<&'static str> {
        let head = self.head.as_ref()?;
        let floor = self.floor();
        let behind = || self.entries.range(floor.next()..).map(|(_, entry)| entry);
        match key.parse().ok()? {
            KeyKind::Head => Some("it is the head"),
            KeyKind::Segment { .. } => behind()
                .any(|entry| entry.segment().is_some_and(|segment| segment.key == *key))
                .then_some("an entry names it"),
            KeyKind::Page { .. } => {
                self.links.get(key).filter(|link| link.last >= floor).map(|_| "the head leads to it")
            }
            KeyKind::Manifest { dump } | KeyKind::Chunk { dump, .. } => {
                let binds = |entry: &Entry| {
                    entry.dump().is_some_and(|known| known.id == dump && (known.mandatory || known.resync))
                };
                let is_needed = head.dump(&dump).is_some() || behind().any(binds);
                is_needed.then_some("regions restore it")
            }
            _ => None,
        }
    }

    /// What the bucket holds and nobody needs, once everybody is done and prune has run.
    pub fn orphans(&self, keys: &[Key]) -> Vec<String> {
        let Some(head) = &self.head else { return Vec::new() };
        let last = head.page.as_ref().map_or(Seq::ZERO, |page| page.last);
        let is_left = |key: &&Key| match key.parse() {
            // A later upload may take it up.
            Ok(KeyKind::Page { first, .. }) if first > last => false,
            // A region that stands at the floor may be reading by the head before.
            Ok(KeyKind::Page { last, .. }) if last == self.floor() => false,
            Ok(
                KeyKind::Segment { .. }
                | KeyKind::Page { .. }
                | KeyKind::Manifest { .. }
                | KeyKind::Chunk { .. },
            ) => self.needs(key).is_none(),
            _ => false,
        };
        keys.iter().filter(is_left).map(ToString::to_string).collect()
    }

    /// What a region runs under a number must be what every other one runs.
    pub fn applied(&mut self, region: &str, n: StreamTx, number: u64) {
        let there = usize::try_from(n.0).ok().and_then(|n| self.stream.get(n.checked_sub(1)?)).copied();
        if there != Some(number) {
            self.wrong(format!(
                "I2: {region} runs source transaction {number} as {}, the stream has {there:?}",
                n.0
            ));
        }
    }
}

fn read_segment(segment: &SegmentEntry, bytes: &[u8], head: &Head) -> crate::Result<Vec<(u64, u64)>> {
    let plain: Box<dyn Read> = match segment.codec {
        Codec::Gzip => Box::new(flate2::read::MultiGzDecoder::new(bytes)),
        Codec::Zstd => match zstd::stream::read::Decoder::new(bytes) {
            Ok(decoder) => Box::new(decoder),
            Err(cause) => return Err(crate::Error::new(crate::Kind::Corrupt, "unpack").caused_by(cause)),
        },
    };
    let mut reader = SegmentReader::new(plain, Some(head.stream))?;
    let mut found = Vec::new();
    while let Some(item) = reader.next()? {
        if let Item::Begin(begin) = item {
            found.push((begin.n, begin.source_gtid.number));
        }
    }
    Ok(found)
}

/// The source's numbers of the transactions that a dump holds: its rows.
pub(super) fn read_dump<'a>(dump: &DumpEntry, there: &There<'a>) -> Result<BTreeSet<u64>, String> {
    let bytes = there(&dump.manifest).ok_or("its manifest is not there")?;
    if (bytes.len() as u64, Md5::of(bytes)) != (dump.size, dump.md5) {
        return Err("its manifest is not what the index says".into());
    }
    let manifest = Manifest::parse(&dump.id, bytes).map_err(|error| error.to_string())?;
    let mut rows = BTreeSet::new();
    for chunk in manifest.tables.iter().flat_map(|table| &table.chunks) {
        let bytes = there(&chunk.key).ok_or_else(|| format!("{} is not there", chunk.key))?;
        if (bytes.len() as u64, Md5::of(bytes)) != (chunk.size, chunk.md5) {
            return Err(format!("{} is not what the manifest says", chunk.key));
        }
        rows.extend(read_rows(bytes));
    }
    Ok(rows)
}

/// The rows of a chunk.
pub(super) fn read_rows(bytes: &[u8]) -> BTreeSet<u64> {
    serde_json::from_slice(bytes).unwrap_or_default()
}
