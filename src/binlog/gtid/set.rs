//! Sets of GTIDs and their algebra.
//!
//! For each name space a sorted list of closed intervals, disjoint and not touching, so that equal sets are
//! equal values. Union, intersection and difference walk both lists once: sets of a server with many gaps
//! have hundreds of thousands of intervals.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::{Gtid, MAX_NUMBER, Tsid};

/// A set of transactions.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct GtidSet {
    /// No empty lists.
    spaces: BTreeMap<Tsid, Vec<(u64, u64)>>,
}

impl GtidSet {
    pub fn new() -> GtidSet {
        GtidSet::default()
    }

    pub fn is_empty(&self) -> bool {
        self.spaces.is_empty()
    }

    pub fn contains(&self, gtid: &Gtid) -> bool {
        let Some(intervals) = self.spaces.get(&gtid.tsid) else { return false };
        let after = intervals.partition_point(|&(first, _)| first <= gtid.number);
        after > 0 && gtid.number <= intervals[after - 1].1
    }

    pub fn insert(&mut self, gtid: &Gtid) {
        self.insert_range(&gtid.tsid, gtid.number, gtid.number);
    }

    /// Adds `first` to `last`, both included; numbers outside 1..=`MAX_NUMBER` do not exist and are left out.
    pub fn insert_range(&mut self, tsid: &Tsid, first: u64, last: u64) {
        let (mut first, mut last) = (first.max(1), last.min(MAX_NUMBER));
        if first > last {
            return;
        }
        // The usual call extends the one interval of a space that exists; no copy of the name for that.
        if !self.spaces.contains_key(tsid) {
            self.spaces.insert(tsid.clone(), vec![(first, last)]);
            return;
        }
        let Some(intervals) = self.spaces.get_mut(tsid) else { return };
        // Everything from `from` up to `to` overlaps or touches the new interval.
        let from = intervals.partition_point(|&(_, end)| end + 1 < first);
        let to = intervals.partition_point(|&(start, _)| start <= last + 1);
        if from < to {
            first = first.min(intervals[from].0);
            last = last.max(intervals[to - 1].1);
        }
        intervals.splice(from..to, [(first, last)]);
    }

    /// Adds every transaction of another set.
    pub fn extend(&mut self, other: &GtidSet) {
        for (tsid, theirs) in &other.spaces {
            match self.spaces.entry(tsid.clone()) {
                Entry::Vacant(space) => {
                    space.insert(theirs.clone());
                }
                Entry::Occupied(mut space) => {
                    let merged = union(space.get(), theirs);
                    space.insert(merged);
                }
            }
        }
    }

    pub fn union(&self, other: &GtidSet) -> GtidSet {
        let mut all = self.clone();
        all.extend(other);
        all
    }

    pub fn difference(&self, other: &GtidSet) -> GtidSet {
        self.combine(|tsid, ours| match other.spaces.get(tsid) {
            Some(theirs) => difference(ours, theirs),
            None => ours.to_vec(),
        })
    }

    pub fn intersection(&self, other: &GtidSet) -> GtidSet {
        self.combine(|tsid, ours| match other.spaces.get(tsid) {
            Some(theirs) => intersection(ours, theirs),
            None => Vec::new(),
        })
    }

    pub fn is_subset(&self, of: &GtidSet) -> bool {
        self.spaces.iter().all(|(tsid, ours)| {
            of.spaces.get(tsid).is_some_and(|theirs| {
                ours.iter().all(|&(first, last)| {
                    let after = theirs.partition_point(|&(start, _)| start <= first);
                    after > 0 && last <= theirs[after - 1].1
                })
            })
        })
    }

    /// How many transactions. A set with several full name spaces counts past `u64`; it stops there.
    pub fn count(&self) -> u64 {
        let sizes = self.spaces.values().flatten().map(|&(first, last)| last - first + 1);
        sizes.fold(0, u64::saturating_add)
    }

    /// The name spaces in MySQL's order, each with its intervals: first and last, both included.
    pub fn intervals(&self) -> impl Iterator<Item = (&Tsid, &[(u64, u64)])> {
        self.spaces.iter().map(|(tsid, intervals)| (tsid, intervals.as_slice()))
    }

    /// The highest number of a name space.
    pub fn last_of(&self, tsid: &Tsid) -> Option<u64> {
        self.spaces.get(tsid).and_then(|intervals| intervals.last()).map(|&(_, last)| last)
    }

    /// One is a history without gaps.
    pub fn interval_count(&self, tsid: &Tsid) -> usize {
        self.spaces.get(tsid).map_or(0, Vec::len)
    }

    fn combine(&self, of: impl Fn(&Tsid, &[(u64, u64)]) -> Vec<(u64, u64)>) -> GtidSet {
        let spaces = self.spaces.iter().map(|(tsid, ours)| (tsid.clone(), of(tsid, ours)));
        GtidSet { spaces: spaces.filter(|(_, intervals)| !intervals.is_empty()).collect() }
    }
}

impl From<Gtid> for GtidSet {
    fn from(gtid: Gtid) -> GtidSet {
        let mut set = GtidSet::new();
        set.insert(&gtid);
        set
    }
}

impl<'a> FromIterator<&'a Gtid> for GtidSet {
    fn from_iter<I: IntoIterator<Item = &'a Gtid>>(gtids: I) -> GtidSet {
        let mut set = GtidSet::new();
        gtids.into_iter().for_each(|gtid| set.insert(gtid));
        set
    }
}

fn union(a: &[(u64, u64)], b: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut all: Vec<(u64, u64)> = Vec::with_capacity(a.len() + b.len());
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        let take_a = j == b.len() || (i < a.len() && a[i].0 <= b[j].0);
        let next = if take_a { a[i] } else { b[j] };
        if take_a {
            i += 1
        } else {
            j += 1
        }
        match all.last_mut() {
            Some(last) if next.0 <= last.1 + 1 => last.1 = last.1.max(next.1),
            _ => all.push(next),
        }
    }
    all
}

fn intersection(a: &[(u64, u64)], b: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut both = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        let (first, last) = (a[i].0.max(b[j].0), a[i].1.min(b[j].1));
        if first <= last {
            both.push((first, last));
        }
        if a[i].1 < b[j].1 { i += 1 } else { j += 1 }
    }
    both
}

fn difference(a: &[(u64, u64)], b: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut rest = Vec::new();
    let mut j = 0;
    for &(first, last) in a {
        let mut first = first;
        while j < b.len() && b[j].1 < first {
            j += 1;
        }
        // b[j] may reach into the next interval of a as well, so the outer j stays on it.
        let mut k = j;
        while k < b.len() && b[k].0 <= last {
            if first < b[k].0 {
                rest.push((first, b[k].0 - 1));
            }
            first = b[k].1 + 1;
            k += 1;
        }
        if first <= last {
            rest.push((first, last));
        }
    }
    rest
}
