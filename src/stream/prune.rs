//! What of a stream nobody needs any more: a plan, made from the index, the reports and a listing. No I/O.
//!
//! The history goes in one piece, from its beginning up to a floor. The floor is never
//! - behind the newest entries (the tail), nor an entry younger than what is to be kept;
//! - behind the entry that the slowest region told of last, however long ago that was;
//! - behind the newest full dump, or a later one: neither its entry nor the transactions behind the one whose
//!   state it holds, which a region needs to go on from it;
//! - behind a dump that a region restores, or one that was superseded only just now.
//!
//! So every region that has told of itself can go on, and a new one can begin. Beside the history, objects go that
//! the index does not list: what killed runs left, dumps that a newer full one has superseded, answered requests.
//!
//! I1 holds at every instant because of the order: a head that does not list an object is written before the object
//! is deleted. What may still be listed by a run that is at work, because it is young, is left alone. A page that is
//! not linked may be taken up by a later upload for as long as no page behind it is: it is left until then. The page that
//! ends with the floor stays until the floor moves on, for a region that stands there and is reading by the head before.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::dump::DumpId;
use super::entry::Entry;
use super::head::{Floor, Head};
use super::ids::{Seq, StreamTx};
use super::keys::{Key, KeyKind};
use super::report::RegionReport;
use crate::error::Result;

/// What no entry names is taken for left behind once it is so old; no run leaves an object unlisted for so long.
pub const ORPHAN_AGE: TimeDelta = TimeDelta::days(1);
/// Requests that are over are kept so long, for people and for those who ask again under the same key.
pub const REQUEST_AGE: TimeDelta = TimeDelta::days(30);

/// What an operator decides.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub now: DateTime<Utc>,
    /// The time of the newest object, by the store's clock. What is unlisted counts as left behind by this time, if it
    /// is earlier than `now`: by a clock that is ahead, an object would be old that an upload is about to list (I1).
    pub newest: DateTime<Utc>,
    /// Entries younger than this stay.
    pub keep: TimeDelta,
    /// So many of the newest entries stay; at least one.
    pub keep_entries: u64,
}

/// An object of the bucket.
#[derive(Clone, Debug)]
pub struct Object {
    pub key: Key,
    pub size: u64,
    pub modified: DateTime<Utc>,
}

/// What keeps the floor from coming further.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    Tail {
        entries: u64,
    },
    Age {
        keep_seconds: i64,
    },
    Region {
        name: String,
        reported_at: DateTime<Utc>,
    },
    Dump {
        id: DumpId,
        full: bool,
        restoring: bool,
        /// A newer full one has taken its place, so short a time ago that a region may still be at it.
        superseded: bool,
    },
}

/// The last entry that one thing lets go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hold {
    pub up_to: Seq,
    pub why: Why,
}

/// Why an object goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The index begins behind it.
    BeforeFloor,
    /// A dump in whose place there is a newer full one.
    Superseded,
    /// No entry names it: a killed run left it.
    Orphan,
    /// A request that has long been over.
    Over,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Doomed {
    pub key: Key,
    pub size: u64,
    pub why: Reason,
}

/// What a run is going to do, in this order: the head, then the objects. `--dry-run` prints this very value.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Where the history begins now.
    pub floor_before: Option<Floor>,
    /// Where it is going to begin; `None` if it stays.
    pub floor: Option<Floor>,
    /// How many entries go.
    pub entries: u64,
    /// What keeps the others, the one that decides first.
    pub holds: Vec<Hold>,
    /// Whether nothing goes for want of a full dump.
    pub lacks_full_dump: bool,
    pub delete: Vec<Doomed>,
    /// The head to be written, if the floor moves.
    #[serde(skip)]
    pub head: Option<Box<Head>>,
}

/// Makes a plan while it is walked through the index, from the floor to the end.
pub struct Planner<'a> {
    head: &'a Head,
    rules: Rules,
    reports: &'a [RegionReport],
    /// Every entry, with the last transaction up to its end.
    marks: Vec<(Seq, StreamTx)>,
    /// Where a floor can be: the ends of pages, and every entry of the head.
    candidates: Vec<Floor>,
    /// The last entry before the first one that is young.
    old_until: Seq,
    saw_young: bool,
    named: HashSet<Key>,
    dumps: Vec<KnownDump>,
}

/// A dump that an entry names.
struct KnownDump {
    seq: Seq,
    id: DumpId,
    at: StreamTx,
    full: bool,
    /// Regions that have not come to it must, or one like it.
    binding: bool,
    made: DateTime<Utc>,
    state: DumpState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum DumpState {
    /// The head lists it.
    Listed,
    /// A region restores it.
    Restored,
    /// It is young, or the head has let go of it so short a time ago that somebody may be reading it.
    Fresh,
    /// Nobody reads it.
    Idle,
}

impl<'a> Planner<'a> {
    pub fn new(head: &'a Head, rules: Rules, reports: &'a [RegionReport]) -> Self {
        let floor = head.floor.map_or((Seq::ZERO, StreamTx::ZERO), |floor| (floor.seq, floor.tx));
        Self {
            head,
            rules,
            reports,
            marks: vec![floor],
            candidates: Vec::new(),
            old_until: floor.0,
            saw_young: false,
            named: HashSet::new(),
            dumps: Vec::new(),
        }
    }

    /// The entries of a sealed page that are behind the floor, in their order.
    pub fn page(&mut self, key: &Key, entries: &[Entry]) {
        self.named.insert(key.clone());
        for entry in entries {
            self.entry(entry);
        }
        if let Some(last) = entries.last() {
            self.candidate(last);
        }
    }

    /// The entries of the head, the last to be walked through.
    fn head_entries(&mut self) {
        let head = self.head;
        for entry in &head.entries {
            self.entry(entry);
            self.candidate(entry);
        }
    }

    fn entry(&mut self, entry: &Entry) {
        let (_, before) = self.mark();
        let tx = entry.transactions().map_or(before, |(_, last)| last);
        self.marks.push((entry.seq, tx));
        self.saw_young |= entry.created_at + self.rules.keep > self.rules.now;
        if !self.saw_young {
            self.old_until = entry.seq;
        }
        if let Some(segment) = entry.segment() {
            self.named.insert(segment.key.clone());
        }
        if let Some(names) = entry.check().and_then(|check| check.names.as_ref()) {
            self.named.insert(names.key.clone());
        }
        if let Some(dump) = entry.dump() {
            self.dumps.push(KnownDump {
                seq: entry.seq,
                id: dump.id.clone(),
                at: dump.at,
                full: dump.full,
                binding: dump.mandatory || dump.resync,
                made: entry.created_at,
                state: DumpState::Idle,
            });
        }
    }

    fn candidate(&mut self, entry: &Entry) {
        let (seq, tx) = self.mark();
        self.candidates.push(Floor { seq, chain: entry.chain, tx });
    }

    /// The newest entry met, with the last transaction up to its end.
    fn mark(&self) -> (Seq, StreamTx) {
        self.marks[self.marks.len() - 1]
    }

    /// The plan, once every page has been seen. `over`: requests that may go.
    pub fn finish(mut self, objects: &[Object], over: &HashSet<Key>) -> Result<Plan> {
        self.head_entries();
        self.judge_dumps();
        let mut holds = self.holds();
        holds.sort_by_key(|hold| hold.up_to);
        let lacks_full_dump = self.head.full_dump().is_none();
        let before = self.head.floor.map_or(Seq::ZERO, |floor| floor.seq);
        let limit = if lacks_full_dump { before } else { holds.first().map_or(before, |hold| hold.up_to) };
        let floor =
            self.candidates.iter().rev().find(|floor| floor.seq <= limit && floor.seq > before).copied();
        let head = match floor {
            Some(floor) => {
                let mut head = self.head.clone();
                head.prune_to(floor)?;
                Some(Box::new(head))
            }
            None => None,
        };
        let end = floor.or(self.head.floor);
        Ok(Plan {
            floor_before: self.head.floor,
            floor,
            entries: floor.map_or(0, |floor| floor.seq.0 - before.0),
            holds,
            lacks_full_dump,
            delete: self.doomed(end, objects, over),
            head,
        })
    }

    fn judge_dumps(&mut self) {
        // Whoever has begun with a dump has had this long to end, or to tell of it.
        let grace = self.rules.keep.min(ORPHAN_AGE);
        let restoring: HashSet<&DumpId> =
            self.reports.iter().flat_map(|report| &report.restoring).map(|restore| &restore.dump).collect();
        let mut superseded: Option<DateTime<Utc>> = None;
        for dump in self.dumps.iter_mut().rev() {
            dump.state = if self.head.dump(&dump.id).is_some() {
                DumpState::Listed
            } else if restoring.contains(&dump.id) {
                DumpState::Restored
            } else if superseded.is_none_or(|since| since + grace > self.rules.now)
                || dump.made + self.rules.keep > self.rules.now
            {
                DumpState::Fresh
            } else {
                DumpState::Idle
            };
            if dump.full {
                superseded = Some(dump.made);
            }
        }
    }

    fn holds(&self) -> Vec<Hold> {
        let tail = self.rules.keep_entries.max(1);
        let mut holds = vec![
            Hold { up_to: Seq(self.head.last_seq.0.saturating_sub(tail)), why: Why::Tail { entries: tail } },
            Hold { up_to: self.old_until, why: Why::Age { keep_seconds: self.rules.keep.num_seconds() } },
        ];
        holds.extend(self.reports.iter().map(|report| Hold {
            up_to: report.seq,
            why: Why::Region { name: report.region.clone(), reported_at: report.reported_at },
        }));
        for dump in self.dumps.iter().filter(|dump| dump.state != DumpState::Idle) {
            // Neither its entry nor a transaction behind its state.
            let within = self.marks.partition_point(|(seq, tx)| *seq < dump.seq && *tx <= dump.at);
            let up_to = self.marks[within.saturating_sub(1)].0;
            let restoring = dump.state == DumpState::Restored;
            let superseded = dump.state == DumpState::Fresh;
            let why = Why::Dump { id: dump.id.clone(), full: dump.full, restoring, superseded };
            holds.push(Hold { up_to, why });
        }
        holds
    }

    fn doomed(&self, floor: Option<Floor>, objects: &[Object], over: &HashSet<Key>) -> Vec<Doomed> {
        let (seq, tx) = floor.map_or((Seq::ZERO, StreamTx::ZERO), |floor| (floor.seq, floor.tx));
        let is_old = |time: DateTime<Utc>| time + ORPHAN_AGE < self.rules.now.min(self.rules.newest);
        let dumps: HashMap<&DumpId, &KnownDump> = self.dumps.iter().map(|dump| (&dump.id, dump)).collect();
        let parsed: Vec<(&Object, KeyKind)> =
            objects.iter().filter_map(|object| Some((object, object.key.parse().ok()?))).collect();
        // A dump under way writes object after object: its newest tells its age.
        let mut touched: BTreeMap<&DumpId, DateTime<Utc>> = BTreeMap::new();
        for (object, kind) in &parsed {
            if let KeyKind::Manifest { dump } | KeyKind::Chunk { dump, .. } = kind {
                let newest = touched.entry(dump).or_insert(object.modified);
                *newest = object.modified.max(*newest);
            }
        }
        let dump = |id: &DumpId| match dumps.get(id) {
            Some(dump) if dump.seq <= seq => Some(Reason::BeforeFloor),
            Some(dump) if dump.state == DumpState::Idle && !dump.binding => Some(Reason::Superseded),
            Some(_) => None,
            None => touched.get(id).is_some_and(|newest| is_old(*newest)).then_some(Reason::Orphan),
        };
        let why = |object: &Object, kind: &KeyKind| match kind {
            KeyKind::Segment { last, .. } if *last <= tx => Some(Reason::BeforeFloor),
            KeyKind::Segment { made, .. } => {
                let is_orphan = !self.named.contains(&object.key) && is_old(*made) && is_old(object.modified);
                is_orphan.then_some(Reason::Orphan)
            }
            KeyKind::Page { last, .. } if *last < seq => Some(Reason::BeforeFloor),
            // A region that stands at the floor, and has read the head of a moment ago, finds its own entry there.
            KeyKind::Page { last, .. } if *last == seq => None,
            KeyKind::Page { first, .. } => {
                let is_behind = self.head.page.as_ref().is_some_and(|page| *first <= page.last);
                let is_orphan = !self.named.contains(&object.key) && is_behind && is_old(object.modified);
                is_orphan.then_some(Reason::Orphan)
            }
            KeyKind::Manifest { dump: id } | KeyKind::Chunk { dump: id, .. } => dump(id),
            KeyKind::Check { seq: of, .. } if *of <= seq => Some(Reason::BeforeFloor),
            KeyKind::Check { made, .. } => {
                let is_orphan = !self.named.contains(&object.key) && is_old(*made) && is_old(object.modified);
                is_orphan.then_some(Reason::Orphan)
            }
            KeyKind::Request { .. } => over.contains(&object.key).then_some(Reason::Over),
            KeyKind::Probe { .. } => is_old(object.modified).then_some(Reason::Orphan),
            KeyKind::Head | KeyKind::NewestRequest | KeyKind::Region { .. } => None,
        };
        let doomed = |(object, kind): &(&Object, KeyKind)| {
            Some(Doomed { key: object.key.clone(), size: object.size, why: why(object, kind)? })
        };
        parsed.iter().filter_map(doomed).collect()
    }
}

impl Plan {
    /// The objects of one kind that go, and their bytes.
    pub fn total(&self, why: Reason, prefix: &str) -> (u64, u64) {
        let these =
            self.delete.iter().filter(|doomed| doomed.why == why && doomed.key.as_str().starts_with(prefix));
        these.fold((0, 0), |(count, bytes), doomed| (count + 1, bytes + doomed.size))
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.floor.is_none() && self.delete.is_empty()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::BeforeFloor => "before the floor",
            Reason::Superseded => "superseded by a newer full dump",
            Reason::Orphan => "no entry names it",
            Reason::Over => "a request long over",
        })
    }
}

#[cfg(test)]
mod tests;
