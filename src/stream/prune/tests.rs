//! Plans for streams made up at random, and the cases that have a name.

use std::collections::HashSet;

use chrono::TimeDelta;
use proptest::prelude::*;

use super::*;
use crate::stream::entry::Mark;
use crate::stream::tests::{self, Bucket, at, empty, segment};
use crate::stream::{Body, Chain, Codec, Index, ReportedRestore, RequestId};

const DAY: u64 = 86_400;

/// A stream with all its objects, its time in days.
struct Stream {
    head: Head,
    bucket: Bucket,
    objects: Vec<Object>,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Make {
    Segment,
    Check,
    Dump { full: bool, behind: u64, mandatory: bool },
}

const SEGMENT: Make = Make::Segment;
const FULL: Make = Make::Dump { full: true, behind: 0, mandatory: false };
const PART: Make = Make::Dump { full: false, behind: 0, mandatory: false };

impl Stream {
    /// One step a day, beginning on day 0.
    fn make(steps: &[Make]) -> Stream {
        let mut stream =
            Stream { head: empty(), bucket: Bucket::default(), objects: Vec::new(), entries: Vec::new() };
        for (day, step) in steps.iter().enumerate() {
            stream.step(day as u64, *step);
        }
        stream
    }

    fn step(&mut self, day: u64, make: Make) {
        let now = at(day * DAY);
        let body = match make {
            Make::Segment => {
                let Body::Segment(mut segment) = segment(&self.head, 2) else { unreachable!("a segment") };
                segment.key = Key::segment(segment.first_tx, segment.last_tx, now, segment.codec);
                self.put(segment.key.clone(), day);
                Body::Segment(segment)
            }
            Make::Check => {
                let check = tests::checks::check(&self.head);
                let key = Key::check(self.head.last_seq.next(), now);
                self.put(key.clone(), day);
                let names = check.names.clone().map(|names| crate::stream::NamesObject { key, ..names });
                Body::Check(crate::stream::CheckEntry { names, ..check })
            }
            Make::Dump { full, behind, mandatory } => {
                let id = DumpId::new(now, day as u32);
                self.put(Key::manifest(&id), day);
                self.put(Key::chunk(&id, 0, 0, Codec::Gzip), day);
                let at = StreamTx(self.head.last_tx.0.saturating_sub(behind));
                let base = tests::dumps::dump(&self.head);
                Body::Dump(crate::stream::DumpEntry {
                    manifest: Key::manifest(&id),
                    id,
                    at,
                    full,
                    mandatory,
                    ..base
                })
            }
        };
        self.entries.push(self.head.append(body, now).unwrap().clone());
        let sealed = self.bucket.pages.len();
        self.bucket.seal(&mut self.head);
        if self.bucket.pages.len() > sealed {
            let newest = self.bucket.pages.keys().next_back().cloned().unwrap();
            self.put(newest, day);
        }
    }

    fn put(&mut self, key: Key, day: u64) {
        self.objects.push(Object { key, size: 10, modified: at(day * DAY) });
    }

    fn plan(&self, day: u64, keep_days: i64, keep_entries: u64, reports: &[RegionReport]) -> Plan {
        let rules = Rules {
            now: at(day * DAY),
            newest: at(day * DAY),
            keep: TimeDelta::days(keep_days),
            keep_entries,
        };
        let mut planner = Planner::new(&self.head, rules, reports);
        tests::run(async {
            let mut index = Index::new(self.head.clone());
            let mut seq = self.head.floor.map_or(Seq::ZERO, |floor| floor.seq);
            while self.head.page.as_ref().is_some_and(|page| seq < page.last) {
                let entries = index.entries_after(seq, &self.bucket).await.unwrap();
                planner.page(&index.page_of(seq.next()).unwrap().key, &entries);
                seq = entries.last().unwrap().seq;
            }
        });
        planner.finish(&self.objects, &HashSet::new()).unwrap()
    }

    fn carry_out(&mut self, plan: &Plan) {
        if let Some(head) = &plan.head {
            self.head = Head::parse(&head.to_json().unwrap()).unwrap();
        }
        let gone: HashSet<&Key> = plan.delete.iter().map(|doomed| &doomed.key).collect();
        self.objects.retain(|object| !gone.contains(&object.key));
        self.bucket.pages.retain(|key, _| !gone.contains(key));
    }

    fn has(&self, key: &Key) -> bool {
        self.objects.iter().any(|object| object.key == *key)
    }

    /// I1: every object that the index lists is there.
    fn assert_whole(&self) {
        let floor = self.head.floor.map_or(Seq::ZERO, |floor| floor.seq);
        for dump in &self.head.dumps {
            assert!(self.has(&dump.dump.manifest) && self.has(&Key::chunk(&dump.dump.id, 0, 0, Codec::Gzip)));
        }
        tests::run(async {
            let mut index = Index::new(self.head.clone());
            let mut at = floor;
            loop {
                let entries = index.entries_after(at, &self.bucket).await.unwrap();
                let Some(last) = entries.last() else { break };
                assert!(entries.iter().filter_map(Entry::segment).all(|segment| self.has(&segment.key)));
                let named = entries.iter().filter_map(|entry| entry.check()?.names.as_ref());
                assert!(named.into_iter().all(|names| self.has(&names.key)));
                at = last.seq;
            }
            assert_eq!(at, self.head.last_seq);
        });
    }
}

fn report(name: &str, stream: &Stream, seq: u64) -> RegionReport {
    let chain = match seq {
        0 => Chain::genesis(stream.head.stream),
        seq => stream.entries[seq as usize - 1].chain,
    };
    let mark = Mark { seq: Seq(seq), chain, tx: StreamTx(0) };
    RegionReport::bare(name, stream.head.stream, mark, at(0))
}

fn floor(plan: &Plan) -> Option<u64> {
    plan.floor.map(|floor| floor.seq.0)
}

fn deciding(plan: &Plan) -> &Why {
    &plan.holds[0].why
}

#[test]
fn without_a_full_dump_no_history_goes() {
    let stream = Stream::make(&[SEGMENT, PART, SEGMENT, SEGMENT]);
    let plan = stream.plan(1_000, 7, 1, &[]);
    assert!(plan.lacks_full_dump && plan.is_empty() && plan.head.is_none());
}

#[test]
fn history_goes_up_to_the_newest_full_dump_and_what_is_behind_its_state_stays() {
    let mut stream = Stream::make(&[
        SEGMENT,
        SEGMENT,
        SEGMENT,
        SEGMENT,
        Make::Dump { full: true, behind: 3, mandatory: false },
        SEGMENT,
        SEGMENT,
    ]);
    // Eight transactions, the dump is at the fifth: entries 3 and 4 bring what is behind it.
    let plan = stream.plan(1_000, 7, 1, &[report("eu1", &stream, 7)]);
    assert_eq!((floor(&plan), plan.entries), (Some(2), 2));
    assert!(matches!(deciding(&plan), Why::Dump { full: true, restoring: false, .. }));
    assert_eq!(plan.total(Reason::BeforeFloor, Key::SEGMENTS), (2, 20));
    stream.carry_out(&plan);
    stream.assert_whole();
    assert!(stream.plan(1_000, 7, 1, &[report("eu1", &stream, 7)]).is_empty());
}

#[test]
fn the_slowest_region_holds_back_however_long_it_has_been_silent() {
    let stream = Stream::make(&[SEGMENT, SEGMENT, SEGMENT, SEGMENT, FULL, SEGMENT]);
    let reports = [report("ap1", &stream, 2), report("eu1", &stream, 6)];
    let plan = stream.plan(10_000, 7, 1, &reports);
    assert_eq!(floor(&plan), Some(2));
    assert_eq!(deciding(&plan), &Why::Region { name: "ap1".into(), reported_at: at(0) });
    assert_eq!(floor(&stream.plan(10_000, 7, 1, &reports[1..])), Some(4));
    assert_eq!(floor(&stream.plan(10_000, 7, 1, &[report("ap1", &stream, 0)])), None);
    assert_eq!(floor(&stream.plan(10_000, 7, 1, &[])), Some(4));
}

#[test]
fn what_is_young_and_the_tail_stay() {
    let stream = Stream::make(&[SEGMENT, SEGMENT, SEGMENT, SEGMENT, SEGMENT, SEGMENT, FULL]);
    // On day 9 the entries of days 0 and 1 are seven days old.
    assert_eq!(floor(&stream.plan(8, 7, 1, &[])), Some(2));
    assert!(matches!(deciding(&stream.plan(8, 7, 1, &[])), Why::Age { .. }));
    assert_eq!(floor(&stream.plan(1_000, 7, 3, &[])), Some(4));
    assert!(matches!(deciding(&stream.plan(1_000, 7, 3, &[])), Why::Tail { entries: 3 }));
    assert_eq!(floor(&stream.plan(1_000, 7, 500, &[])), None);
    assert_eq!(floor(&stream.plan(1_000, 7, 0, &[])), Some(6));
}

#[test]
fn a_dump_is_deleted_once_a_newer_full_one_has_been_there_for_a_while() {
    let mut stream = Stream::make(&[SEGMENT, FULL, PART, SEGMENT, FULL, SEGMENT]);
    let slow = [report("ap1", &stream, 1)];
    let old: Vec<DumpId> =
        stream.entries[1..3].iter().map(|entry| entry.dump().unwrap().id.clone()).collect();
    // The newer one is of day 4.
    let plan = stream.plan(4, 7, 1, &slow);
    assert_eq!(plan.total(Reason::Superseded, Key::DUMPS).0, 0);
    // A region restores one of them.
    let mut restoring = slow[0].clone();
    restoring.restoring.push(ReportedRestore {
        tables: vec![],
        dump: old[0].clone(),
        state: "loading".into(),
        rows: 0,
        rows_total: 0,
    });
    let plan = stream.plan(100, 7, 1, &[restoring.clone()]);
    assert_eq!(plan.total(Reason::Superseded, Key::DUMPS).0, 2);
    assert!(plan.delete.iter().all(|doomed| !doomed.key.as_str().contains(old[0].as_str())));
    let further = RegionReport { seq: Seq(6), chain: stream.entries[5].chain, ..restoring };
    let plan = stream.plan(100, 7, 1, &[further]);
    assert!(matches!(deciding(&plan), Why::Dump { restoring: true, .. }));
    assert_eq!(floor(&plan), Some(1));
    let plan = stream.plan(100, 7, 1, &slow);
    assert_eq!(plan.total(Reason::Superseded, Key::DUMPS).0, 4);
    stream.carry_out(&plan);
    stream.assert_whole();
}

#[test]
fn the_rows_of_a_check_go_with_its_entry_and_those_that_no_entry_names_after_a_day() {
    let mut stream = Stream::make(&[SEGMENT, Make::Check, FULL, Make::Check, SEGMENT]);
    // By a killed upload: the entry of that number is another one.
    let orphan = Key::check(Seq(5), at(3 * DAY));
    stream.put(orphan.clone(), 3);
    let plan = stream.plan(100, 7, 1, &[report("ap1", &stream, 2)]);
    assert_eq!(floor(&plan), Some(2));
    assert_eq!(plan.total(Reason::BeforeFloor, Key::CHECKS).0, 1);
    assert_eq!(plan.total(Reason::Orphan, Key::CHECKS).0, 1);
    stream.carry_out(&plan);
    stream.assert_whole();
    assert!(!stream.has(&orphan));
    let young = Key::check(Seq(6), at(5 * DAY));
    stream.put(young.clone(), 5);
    assert_eq!(stream.plan(5, 7, 1, &[]).total(Reason::Orphan, Key::CHECKS).0, 0);
}

#[test]
fn a_mandatory_dump_stays_until_every_region_has_passed_it() {
    let mandatory = Make::Dump { full: true, behind: 0, mandatory: true };
    let stream = Stream::make(&[SEGMENT, mandatory, SEGMENT, FULL, SEGMENT]);
    let plan = stream.plan(100, 7, 1, &[report("ap1", &stream, 1)]);
    assert_eq!((floor(&plan), plan.total(Reason::Superseded, Key::DUMPS).0), (Some(1), 0));
    let plan = stream.plan(100, 7, 1, &[report("ap1", &stream, 2)]);
    assert_eq!((floor(&plan), plan.total(Reason::BeforeFloor, Key::DUMPS).0), (Some(2), 2));
}

#[test]
fn what_killed_runs_left_goes_when_it_is_a_day_old() {
    let mut stream = Stream::make(&[SEGMENT, SEGMENT, SEGMENT]);
    let old = Key::segment(StreamTx(7), StreamTx(8), at(3 * DAY), Codec::Gzip);
    let young = Key::segment(StreamTx(7), StreamTx(9), at(9 * DAY), Codec::Gzip);
    let (finished, under_way) = (DumpId::new(at(3 * DAY), 1), DumpId::new(at(3 * DAY), 2));
    stream.put(old.clone(), 3);
    stream.put(young, 9);
    for chunk in 0..3 {
        stream.put(Key::chunk(&finished, 0, chunk, Codec::Gzip), 3);
        stream.put(Key::chunk(&under_way, 0, chunk, Codec::Gzip), 3 + 3 * chunk as u64);
    }
    let probe = Key::probe(uuid::Uuid::from_u128(7));
    stream.put(probe.clone(), 3);
    // A page that an upload was about to link to, and may yet.
    stream.put(Key::page(Seq(1), Seq(500)), 3);
    let (request, region) = (Key::request(&RequestId::new(1)), Key::region("eu1").unwrap());
    stream.put(request.clone(), 3);
    stream.put(region, 3);
    stream.put(Key::newest_request(), 3);
    let plan = stream.plan(10, 7, 1, &[]);
    let mut gone: Vec<&Key> = plan.delete.iter().map(|doomed| &doomed.key).collect();
    let chunks: Vec<Key> = (0..3).map(|chunk| Key::chunk(&finished, 0, chunk, Codec::Gzip)).collect();
    let mut expected: Vec<&Key> = chunks.iter().chain([&old, &probe]).collect();
    gone.sort();
    expected.sort();
    assert_eq!(gone, expected);
    assert!(plan.delete.iter().all(|doomed| doomed.why == Reason::Orphan));
}

/// I2: it has read the head of a moment ago, and looks for its own entry when prune is done. Found by the simulation, seed 2186.
#[test]
fn a_region_that_stands_at_the_floor_finds_its_entry_by_the_head_of_before() {
    let mut steps = vec![SEGMENT; 1_600];
    steps[1_550] = FULL;
    let mut stream = Stream::make(&steps);
    let before = stream.head.clone();
    assert_eq!(before.page.as_ref().unwrap().last, Seq(1_000));
    let plan = stream.plan(2_000, 7, 1, &[report("eu1", &stream, 500)]);
    assert_eq!(plan.floor.map(|floor| floor.seq), Some(Seq(500)));
    stream.carry_out(&plan);
    let chain = stream.entries[499].chain;
    tests::run(async {
        let mut index = Index::new(before.clone());
        index.check_position(before.stream, Seq(500), &chain, &stream.bucket).await.unwrap();
        let next = index.entries_after(Seq(500), &stream.bucket).await.unwrap();
        assert_eq!(next.first().map(|entry| entry.seq), Some(Seq(501)));
    });
    // It goes when the floor moves on.
    let plan = stream.plan(2_000, 7, 1, &[]);
    stream.carry_out(&plan);
    assert!(!stream.bucket.pages.contains_key(&Key::page(Seq(1), Seq(500))));
}

#[test]
fn a_page_that_nobody_can_link_to_any_more_goes() {
    let mut steps = vec![SEGMENT; 1_100];
    steps[1_050] = FULL;
    let mut stream = Stream::make(&steps);
    assert_eq!(stream.head.page.as_ref().unwrap().last, Seq(500));
    let (behind, ahead) = (Key::page(Seq(200), Seq(700)), Key::page(Seq(501), Seq(1_000)));
    stream.put(behind.clone(), 3);
    stream.put(ahead.clone(), 3);
    let plan = stream.plan(2_000, 7, 1_099, &[]);
    assert_eq!(plan.delete.iter().map(|doomed| &doomed.key).collect::<Vec<_>>(), [&behind]);
}

/// What is left is everything that somebody needs, and nothing else.
fn check(mut stream: Stream, day: u64, keep: i64, tail: u64, reports: &[RegionReport]) {
    let before = stream.head.clone();
    let plan = stream.plan(day, keep, tail, reports);
    // The head comes first: I1 holds between it and the deletions.
    if let Some(head) = &plan.head {
        stream.head = (**head).clone();
        stream.assert_whole();
    }
    stream.carry_out(&plan);
    stream.assert_whole();
    let floor = stream.head.floor.map_or(Seq::ZERO, |floor| floor.seq);
    assert!(reports.iter().all(|report| floor <= report.seq), "a region is behind");
    if let Some(full) = before.full_dump() {
        assert_eq!(stream.head.full_dump(), Some(full));
        assert!(floor < full.seq && stream.head.floor.is_none_or(|floor| floor.tx <= full.dump.at));
    } else {
        assert_eq!(floor, Seq::ZERO);
    }
    assert!(floor.0 + tail.max(1) <= before.last_seq.0 || floor == Seq::ZERO);
    let entries = &stream.entries;
    let is_young = |entry: &Entry| entry.created_at + TimeDelta::days(keep) > at(day * DAY);
    assert!(entries.iter().filter(|entry| entry.seq <= floor).all(|entry| !is_young(entry)));
    // Everything before the floor is gone.
    for entry in entries.iter().filter(|entry| entry.seq <= floor) {
        let names = entry.check().and_then(|check| check.names.as_ref()).map(|names| &names.key);
        let dump = entry.dump().map(|dump| &dump.manifest);
        let key = entry.segment().map(|segment| &segment.key).or(dump).or(names).unwrap();
        assert!(!stream.has(key), "{key} is left");
    }
    assert!(stream.bucket.pages.keys().all(|key| match key.parse() {
        Ok(KeyKind::Page { last, .. }) => last >= floor,
        _ => false,
    }));
    assert!(stream.plan(day, keep, tail, reports).is_empty(), "a second run finds more");
    // The stream goes on, and the floor with it.
    for later in 0..30 {
        stream.step(day + later, if later % 7 == 3 { FULL } else { SEGMENT });
    }
    stream.assert_whole();
    let plan = stream.plan(day + 100, keep.min(20), tail, &[]);
    stream.carry_out(&plan);
    stream.assert_whole();
}

fn make() -> impl Strategy<Value = Make> {
    prop_oneof![
        6 => Just(SEGMENT),
        1 => Just(Make::Check),
        1 => (any::<bool>(), 0u64..6, prop::bool::weighted(0.2))
            .prop_map(|(full, behind, mandatory)| Make::Dump { full, behind, mandatory }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// I1, I2.
    #[test]
    fn what_is_left_is_what_somebody_needs(
        steps in prop::collection::vec(make(), 1..40),
        more_days in 0u64..30, keep in 0i64..20, tail in 0u64..10,
        regions in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
    ) {
        let stream = Stream::make(&steps);
        let reports: Vec<RegionReport> = regions
            .iter()
            .enumerate()
            .map(|(n, seq)| report(&format!("r{n}"), &stream, seq.index(steps.len() + 1) as u64))
            .collect();
        check(stream, steps.len() as u64 + more_days, keep, tail, &reports);
    }
}

/// The same over pages: floors fall on their ends.
#[test]
fn long_streams_are_pruned_page_by_page() {
    for (steps, full_at, region) in
        [(1_300usize, 1_200usize, 1_250u64), (2_600, 2_500, 1_700), (2_600, 900, 2_600)]
    {
        let mut all = vec![SEGMENT; steps];
        all[full_at] = FULL;
        let stream = Stream::make(&all);
        let reports = [report("eu1", &stream, region)];
        let plan = stream.plan(steps as u64 + 50, 7, 1, &reports);
        let page = stream.head.page.as_ref().unwrap().last.0;
        let wanted = region.min(full_at as u64);
        assert_eq!(floor(&plan), Some(if wanted >= page { wanted } else { wanted / 500 * 500 }));
        check(stream, steps as u64 + 50, 7, 1, &reports);
    }
}
