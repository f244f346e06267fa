use super::*;
use crate::stream::{Md5, RowsChecksum, StreamTx};

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}

fn key(text: &str) -> Option<RowKey> {
    Some(RowKey(vec![text.into()])).filter(|_| !text.is_empty())
}

/// Ten rows of g.t between these keys; an empty text: the first or the last.
fn range(after: &str, through: &str) -> CheckedRange {
    CheckedRange {
        table: TableName::new("g", "t"),
        columns: Md5::of(b""),
        key: vec!["id".into()],
        after: key(after),
        through: key(through),
        rows: 10,
        checksum: RowsChecksum(1),
    }
}

fn drift() -> Outcome {
    let row = DriftedRow { key: "7".into(), how: How::Missing };
    Outcome::Differs(Drift {
        range: "all rows".into(),
        key: "id".into(),
        rows_there: 10,
        rows_here: 9,
        rows: vec![row],
        more: 0,
        unnamed: None,
    })
}

/// What is known after these slices, the first at entry 1.
fn after(slices: &[(&str, &str, Outcome)]) -> TableCheck {
    let mut known = None;
    for (n, (from, to, outcome)) in (1..).zip(slices) {
        let range = range(from, to);
        let check =
            CheckEntry { at: StreamTx(10 * n), checked_at: at(0), ranges: vec![range.clone()], names: None };
        known = Some(TableCheck::after(known, (Seq(n), &check), &range, outcome, at(n as i64)));
    }
    known.unwrap()
}

#[test]
fn a_round_without_a_difference_says_that_all_of_the_table_is_the_same() {
    let known = after(&[("", "5", Outcome::Same), ("5", "9", Outcome::Same), ("9", "", Outcome::Same)]);
    assert_eq!(known.same, Some(Same { since_seq: 1, since_tx: 10, tx: 30, at: at(3), rows: 30 }));
    assert_eq!((known.round, known.drift), (None, None));
}

#[test]
fn a_slice_that_does_not_follow_the_last_one_ends_the_round() {
    for gap in [
        [("", "5", Outcome::Same), ("6", "", Outcome::Same)],
        [("", "5", Outcome::Unknown("x".into())), ("5", "", Outcome::Same)],
    ] {
        let known = after(&gap);
        assert_eq!((known.same, known.round), (None, None), "{gap:?}");
    }
}

#[test]
fn a_difference_stands_until_a_whole_round_has_found_none() {
    let mut slices = vec![("", "5", drift()), ("5", "", Outcome::Same)];
    assert!(after(&slices).drift.is_some() && after(&slices).same.is_none());
    slices.push(("", "5", Outcome::Same));
    assert!(after(&slices).drift.is_some(), "half of a round");
    slices.push(("5", "", Outcome::Unknown("it takes too long".into())));
    assert!(after(&slices).drift.is_some(), "half of a round that was looked at");
    slices.extend([("", "5", Outcome::Same), ("5", "", Outcome::Same)]);
    assert_eq!((after(&slices).drift, after(&slices).same.unwrap().rows), (None, 20));
    let middle = after(&[("3", "5", drift())]);
    assert!(middle.drift.is_some(), "also outside of any round");
}

#[test]
fn what_the_slices_of_a_round_find_is_told_together() {
    let known = after(&[("", "5", drift()), ("5", "9", Outcome::Same), ("9", "", drift())]);
    let found = known.drift.unwrap();
    assert_eq!((found.seq, found.tx, found.drift.rows.len()), (1, 10, 2));
    assert!(found.drift.to_string().starts_with("all rows and more: 20 rows at the source, 18 here"));
}

#[test]
fn rows_by_another_key_or_of_other_columns_are_no_part_of_the_round_under_way() {
    let with = |change: fn(&mut CheckedRange)| {
        let mut known = Some(after(&[("", "5", Outcome::Same)]));
        let mut range = range("5", "");
        change(&mut range);
        let check =
            CheckEntry { at: StreamTx(20), checked_at: at(0), ranges: vec![range.clone()], names: None };
        known = Some(TableCheck::after(known, (Seq(2), &check), &range, &Outcome::Same, at(2)));
        known.unwrap().same.is_some()
    };
    assert!(with(|_| {}));
    assert!(!with(|range| range.key = vec!["code".into()]));
    assert!(!with(|range| range.columns = Md5::of(b"others")));
}

#[test]
fn what_was_not_compared_makes_nothing_younger() {
    let known = after(&[("", "", Outcome::Unknown("given up".into()))]);
    assert_eq!((known.compared_at(), known.seq), (None, 1));
    let known = after(&[("", "", Outcome::Same), ("", "", Outcome::Unknown("given up".into()))]);
    assert_eq!((known.compared_at(), known.seq), (Some(at(1)), 2));
}

#[test]
fn a_restore_ends_what_was_found_before_it_and_nothing_that_was_found_later() {
    let mut known = after(&[("", "", Outcome::Same), ("", "5", drift())]);
    known.restored();
    assert_eq!((&known.drift, &known.round, &known.same), (&None, &None, &None));
    assert!(!known.is_compared_since(Seq(1)), "the rows are others now");
    // Also where the clock says that this was before.
    let range = range("", "5");
    let check = CheckEntry { at: StreamTx(20), checked_at: at(0), ranges: vec![range.clone()], names: None };
    let known = TableCheck::after(Some(known), (Seq(3), &check), &range, &drift(), at(-600));
    assert_eq!(known.drift.map(|found| (found.seq, found.at)), Some((3, at(-600))));
}

#[test]
fn a_difference_names_the_first_rows_in_words() {
    let Outcome::Differs(mut drift) = drift() else { panic!() };
    assert_eq!(drift.to_string(), "all rows: 10 rows at the source, 9 here; id 7 is missing here");
    drift.rows = (0..9).map(|n| DriftedRow { key: n.to_string(), how: How::Differs }).collect();
    (drift.key, drift.more) = ("a, b".into(), 3);
    assert!(drift.to_string().ends_with("; (a, b) 0 differs, (a, b) 1 differs, (a, b) 2 differs, (a, b) 3 differs, (a, b) 4 differs, and 7 more"));
}

#[test]
fn what_is_known_is_read_back_as_it_was_written() {
    for known in [after(&[("", "5", drift())]), after(&[("", "", Outcome::Same)])] {
        let text = serde_json::to_string(&known).unwrap();
        assert_eq!(serde_json::from_str::<TableCheck>(&text).unwrap(), known);
    }
}
