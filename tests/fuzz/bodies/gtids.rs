//! GTID sets: text and bytes that come back as they went, and an algebra that agrees with that of plain sets.

use std::collections::BTreeSet;

use tablecast::binlog::gtid::{Gtid, GtidSet, Tsid};
use uuid::Uuid;

pub fn gtids(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok(set) = text.parse::<GtidSet>() {
            comes_back(&set);
        }
        if let Ok(gtid) = text.parse::<Gtid>() {
            assert_eq!(gtid.to_string().parse::<Gtid>().expect("as it was written"), gtid);
        }
    }
    if let Ok(set) = GtidSet::decode(data) {
        comes_back(&set);
    }
    let (a, b) = data.split_at(data.len() / 2);
    algebra(&made(a), &made(b));
}

fn comes_back(set: &GtidSet) {
    let text = set.to_string();
    assert_eq!(text.parse::<GtidSet>().expect("as it was written"), *set, "{text}");
    assert_eq!(GtidSet::decode(&set.encode()).expect("as it was written"), *set, "{text}");
    let count: u64 = set.intervals().flat_map(|(_, all)| all).map(|(first, last)| last - first + 1).sum();
    assert_eq!(set.count(), count, "{text}");
    assert_eq!(set.is_empty(), count == 0);
    for (tsid, intervals) in set.intervals() {
        assert!(intervals.iter().all(|(first, last)| 1 <= *first && first <= last), "{text}");
        assert!(intervals.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{text}: {intervals:?} touch");
        assert_eq!(set.last_of(tsid), intervals.last().map(|(_, last)| *last));
        assert_eq!(set.interval_count(tsid), intervals.len());
    }
}

type Plain = BTreeSet<(u8, u64)>;

fn space(number: u8) -> Tsid {
    Tsid::untagged(Uuid::from_u128(u128::from(number) + 1))
}

/// Ranges, three bytes each: where, from, how many.
fn made(data: &[u8]) -> (GtidSet, Plain) {
    let (mut set, mut plain) = (GtidSet::new(), Plain::new());
    for range in data.chunks_exact(3) {
        let (of, first, count) = (range[0] % 3, u64::from(range[1]), u64::from(range[2] % 16));
        set.insert_range(&space(of), first, first + count);
        plain.extend((first.max(1)..=first + count).map(|number| (of, number)));
    }
    comes_back(&set);
    (set, plain)
}

fn is_same(set: &GtidSet, plain: &Plain) {
    comes_back(set);
    assert_eq!(set.count(), plain.len() as u64);
    for &(of, number) in plain {
        assert!(set.contains(&Gtid { tsid: space(of), number }), "{set} lacks {of}:{number}");
    }
}

fn algebra((a, plain_a): &(GtidSet, Plain), (b, plain_b): &(GtidSet, Plain)) {
    is_same(a, plain_a);
    is_same(&a.union(b), &plain_a.union(plain_b).copied().collect());
    is_same(&a.difference(b), &plain_a.difference(plain_b).copied().collect());
    is_same(&a.intersection(b), &plain_a.intersection(plain_b).copied().collect());
    assert_eq!(a.is_subset(b), plain_a.is_subset(plain_b), "{a} in {b}");
    assert_eq!(a == b, plain_a == plain_b);
}
