use std::collections::BTreeSet;

use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::binlog::name::TableSet;
use crate::stream::entry::{Body, Mark, SegmentEntry};
use crate::stream::{Chain, ReportedQuarantine, Seq};

const STREAM: Uuid = Uuid::from_u128(7);
const SOURCE: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

fn now() -> DateTime<Utc> {
    "2026-11-21T08:00:00Z".parse().unwrap()
}

fn table(name: &str) -> TableName {
    name.parse().unwrap()
}

fn executed(to: u64) -> GtidSet {
    format!("{SOURCE}:1-{to}").parse().unwrap()
}

/// Three entries, each with the source's next two transactions; the last entry brings transactions 5 and 6.
fn head() -> Head {
    let mut head = Head::new(STREAM, "apps", TableSet::parse(&["g.*"]).unwrap(), now());
    for n in 1..=3 {
        let (first_tx, last_tx) = (StreamTx(2 * n - 1), StreamTx(2 * n));
        let covered_before = if n == 1 { GtidSet::new() } else { executed(2 * n - 2) };
        let covered = (covered_before, executed(2 * n));
        let segment = SegmentEntry::for_tests((first_tx, last_tx), "g.apps", covered, now());
        head.append(Body::Segment(segment), now()).unwrap();
    }
    head
}

fn ghost(name: &str, part: Part) -> Ghost {
    Ghost { table: table(name), of: table("g.apps"), part, created_at: Some(now()) }
}

fn look(ghosts: Vec<Ghost>) -> Look {
    Look {
        server: "here".into(),
        executed: executed(6),
        stranded: GtidSet::new(),
        ghosts,
        uploading: true,
        blockers: Vec::new(),
        warnings: Vec::new(),
    }
}

fn in_flight() -> Look {
    look(vec![
        ghost("g._apps_del", Part::Old),
        ghost("g._apps_ghc", Part::Changelog),
        ghost("g._apps_gho", Part::New(Tool::GhOst)),
    ])
}

/// A region that has everything.
fn report(region: &str) -> RegionReport {
    let at = Mark { seq: Seq(3), chain: Chain::genesis(STREAM), tx: StreamTx(6) };
    RegionReport {
        as_of: Some(now()),
        lag_seconds: Some(1),
        ghosts: Some(vec![table("g._apps_ghc"), table("g._apps_gho")]),
        version: "tablecast 1".into(),
        ..RegionReport::bare(region, STREAM, at, now())
    }
}

fn reported(report: RegionReport) -> Reported {
    Reported { region: report.region.clone(), received_at: now(), report: Ok(report) }
}

fn ask(look: &Look, reports: &[Reported], ignored: &[&str]) -> Migrations {
    let ignored: BTreeSet<String> = ignored.iter().map(|name| (*name).to_owned()).collect();
    let head = head();
    judge(&Question {
        look,
        executed: &look.executed,
        need: None,
        head: &head,
        reports,
        ignored: &ignored,
        only: None,
        now: now(),
    })
}

/// The one migration's state of region `eu`, and what holds it up.
fn of_one(edit: impl Fn(&mut RegionReport)) -> (State, bool, String) {
    let mut report = report("eu");
    edit(&mut report);
    let answer = ask(&in_flight(), &[reported(report)], &[]);
    let migration = &answer.migrations[0];
    (migration.regions[0].state, migration.safe, migration.held_up_by.join("; "))
}

#[test]
fn a_cut_over_is_safe_where_everything_has_arrived() {
    let answer = ask(&in_flight(), &[reported(report("ap")), reported(report("eu"))], &[]);
    assert_eq!(answer.need, Some(Need { seq: Seq(3), last_tx: StreamTx(6) }));
    let [migration] = &answer.migrations[..] else { panic!("{answer:?}") };
    assert!(migration.safe && migration.held_up_by.is_empty(), "{migration:?}");
    assert_eq!(
        (migration.table.to_string().as_str(), migration.tool.as_str(), migration.ghost.to_string().as_str()),
        ("g.apps", "gh-ost", "g._apps_gho")
    );
    assert!(answer.leftovers.is_empty(), "gh-ost's helpers belong to its migration");
}

#[test]
fn everything_that_is_in_the_way_is_named() {
    type Edit = fn(&mut RegionReport);
    let quarantine = |name: &str| ReportedQuarantine {
        table: name.parse().unwrap(),
        since_tx: StreamTx(5),
        since: now(),
        error: "1032".into(),
    };
    let cases: [(Edit, State, &str); 5] = [
        (
            |r| (r.seq, r.last_tx) = (Seq(2), StreamTx(4)),
            State::Behind,
            "region eu: behind by 2 transactions",
        ),
        (|r| r.seq = Seq(2), State::Behind, "at entry 2 of 3"),
        (|r| r.ghosts = Some(Vec::new()), State::NoGhost, "it has no g._apps_gho"),
        (|r| r.ghosts = None, State::NoGhost, "tablecast 1 there does not tell"),
        (|r| r.stream = Uuid::from_u128(8), State::Unknown, "another one"),
    ];
    for (edit, state, says) in cases {
        let (is, safe, why) = of_one(edit);
        assert!(is == state && !safe && why.contains(says), "{is:?}: {why}");
    }
    for name in ["g.apps", "g._apps_gho", "g._apps_del", "g._apps_20251121081530_del", "g._apps_old"] {
        let (is, safe, why) = of_one(|report| report.quarantined.push(quarantine(name)));
        assert!(is == State::Quarantined && !safe && why.contains(name), "{is:?}: {why}");
    }
    // Of other tables, also of one that is called alike.
    for name in ["g.plans", "g._apps2_del", "h.apps", "g._plans_gho", "g._apps_ghc"] {
        assert!(of_one(|report| report.quarantined.push(quarantine(name))).1, "{name}");
    }
}

#[test]
fn a_silent_region_and_one_whose_report_is_broken_hold_it_up_unless_ignored() {
    let silent = Reported { received_at: now() - Duration::minutes(6), ..reported(report("ap")) };
    let broken = Reported { region: "eu".into(), received_at: now(), report: Err("no JSON".into()) };
    let reports = [silent, broken];
    let answer = ask(&in_flight(), &reports, &[]);
    assert_eq!(
        answer.migrations[0].held_up_by,
        ["region ap: it has not reported for 6 min", "region eu: its report cannot be read: no JSON"]
    );
    assert!(!ask(&in_flight(), &reports, &["ap"]).migrations[0].safe);
    let answer = ask(&in_flight(), &reports, &["ap", "eu"]);
    assert!(answer.migrations[0].safe && answer.migrations[0].regions.iter().all(|region| region.ignored));
}

#[test]
fn a_region_whose_list_does_not_let_the_table_in_has_no_say() {
    let left_out = RegionReport { left_out: vec![table("g.apps")], ghosts: Some(Vec::new()), ..report("ap") };
    let answer = ask(&in_flight(), &[reported(left_out), reported(report("eu"))], &[]);
    assert_eq!(answer.migrations[0].regions[0].state, State::LeftOut);
    assert!(answer.migrations[0].safe, "{answer:?}");
}

#[test]
fn what_is_not_shipped_is_nowhere() {
    let look = Look { executed: executed(9), uploading: false, ..in_flight() };
    let answer = ask(&look, &[reported(report("eu"))], &[]);
    assert_eq!((answer.need, answer.not_shipped), (None, 3));
    assert_eq!(
        answer.migrations[0].held_up_by,
        ["the source: 3 transactions are not in the stream yet; no upload runs at the source: start \
             `tablecast upload --follow`"]
    );
}

#[test]
fn what_can_never_come_is_named_until_the_stream_covers_it() {
    let errant: GtidSet = "00000000-0000-0000-0000-00000000000e:1-3".parse().unwrap();
    let look = Look { executed: executed(6).union(&errant), stranded: errant.clone(), ..in_flight() };
    let answer = ask(&look, &[reported(report("eu"))], &[]);
    let named = format!("the source never gets {errant}");
    assert!(answer.migrations[0].held_up_by[1].starts_with(&named), "{answer:?}");
    // Purged there by now, and in the stream long since.
    let look = Look { stranded: executed(3), ..in_flight() };
    assert!(ask(&look, &[reported(report("eu"))], &[]).migrations[0].safe);
}

#[test]
fn a_state_that_was_shipped_earlier_does_not_ask_for_what_came_behind_it() {
    assert_eq!(need(&head(), &executed(3)), Some(Need { seq: Seq(2), last_tx: StreamTx(4) }));
    assert_eq!(need(&head(), &executed(7)), None);
    let mut head = head();
    head.covered = executed(8);
    assert_eq!(need(&head, &executed(7)), Some(Need { seq: Seq(3), last_tx: StreamTx(6) }));
}

#[test]
fn a_source_that_is_fed_no_more_knows_nothing() {
    let look = Look { blockers: vec!["replication stands still".into()], ..in_flight() };
    let answer = ask(&look, &[reported(report("eu"))], &[]);
    assert_eq!(answer.migrations[0].held_up_by, ["replication stands still"]);
    assert!(!answer.migrations[0].safe);
}

#[test]
fn nobody_reporting_is_not_everybody_being_well() {
    let answer = ask(&in_flight(), &[], &[]);
    assert!(!answer.migrations[0].safe);
    assert!(answer.migrations[0].held_up_by[0].contains("no region has ever reported"));
}

#[test]
fn what_an_old_migration_left_is_told_apart_from_one_in_flight() {
    let left = look(vec![ghost("g._apps_del", Part::Old), ghost("g._apps_ghc", Part::Changelog)]);
    let answer = ask(&left, &[reported(report("eu"))], &[]);
    assert!(answer.migrations.is_empty());
    let left = serde_json::to_value(&answer.leftovers).unwrap();
    assert_eq!(
        left,
        json!([{"table": "g._apps_del", "of": "g.apps"}, {"table": "g._apps_ghc", "of": "g.apps"}])
    );
}
