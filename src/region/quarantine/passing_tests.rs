use chrono::DateTime;

use super::*;
use crate::region::quarantine::Reason;

fn name(table: &str) -> TableName {
    TableName::new("g", table)
}

fn set() -> TableSet {
    TableSet::parse(&["g.*"]).unwrap()
}

fn quarantined(tables: &[(&str, u64)]) -> Vec<Quarantined> {
    let one = |&(table, since): &(&str, u64)| {
        Quarantined::new(name(table), Reason::Conflict, since, String::new(), DateTime::UNIX_EPOCH)
    };
    tables.iter().map(one).collect()
}

fn scan(rows: &[(&str, &[u64])], ddls: &[(u64, &[&str], &[&str])]) -> Scan {
    let mut scan = Scan::default();
    for (table, touched) in rows {
        scan.transactions.insert(name(table), touched.to_vec());
    }
    for (n, names, gone) in ddls {
        let all = |names: &[&str]| names.iter().map(|table| name(table)).collect();
        scan.ddls.push(DdlStep {
            n: *n,
            names: all(names),
            targets: names.len(),
            gone: all(gone),
            renames: Vec::new(),
        });
        for table in *names {
            scan.transactions.entry(name(table)).or_default().push(*n);
        }
    }
    scan
}

fn turns_of(tables: &[(&str, u64)], scan: &Scan) -> Turns {
    turns(&quarantined(tables), &set(), scan, &Executed::default(), u64::MAX)
}

fn tied(turns: &Turns) -> Vec<(String, u64)> {
    turns.tied.iter().map(|(table, n, _)| (table.table.clone(), *n)).collect()
}

#[test]
fn changes_are_left_out_from_the_failed_transaction_on_and_not_before() {
    let turns = turns_of(&[("a", 5)], &scan(&[("a", &[3, 5, 9])], &[]));
    let covers = |table: &str, n| turns.passing.covers(&set(), &name(table), n);
    assert!(!covers("a", 4) && covers("a", 5) && covers("a", 900) && !covers("b", 5));
    assert!(covers("_a_gho", 5) && !covers("_a_gho", 4) && !covers("_b_gho", 9));
}

#[test]
fn what_is_dropped_is_no_longer_in_quarantine_and_may_be_made_anew() {
    let scan = scan(&[("a", &[5, 8])], &[(6, &["a", "b"], &["a", "b"]), (7, &["a"], &[])]);
    let turns = turns_of(&[("a", 5)], &scan);
    assert_eq!(turns.ended, [(name("a"), 6)]);
    assert!(turns.passing.covers(&set(), &name("a"), 6) && !turns.passing.covers(&set(), &name("a"), 7));
    // The healthy table of the same DROP is gone as well, and nothing of it is left to be tied.
    assert_eq!(tied(&turns), []);
    assert_eq!(turns.statements, [6].into());
    // A table that failed behind its DROP stays in quarantine.
    let later = turns_of(&[("a", 8)], &scan);
    assert_eq!(later.ended, []);
    assert!(later.passing.covers(&set(), &name("a"), 9));
}

#[test]
fn a_healthy_table_in_a_statement_with_one_in_quarantine_is_tied_to_it() {
    let turns = turns_of(
        &[("a", 5)],
        &scan(&[], &[(4, &["a", "x"], &[]), (6, &["b", "a"], &[]), (7, &["c", "b"], &[])]),
    );
    assert_eq!(tied(&turns), [("b".to_owned(), 6), ("c".to_owned(), 7)]);
    assert!(!turns.passing.covers(&set(), &name("b"), 5) && turns.passing.covers(&set(), &name("c"), 7));
    assert_eq!(turns.statements, [6, 7].into());
}

#[test]
fn a_renamed_table_is_in_quarantine_under_its_new_name() {
    let turns = turns_of(&[("a", 5)], &scan(&[], &[(6, &["a", "b"], &["a"])]));
    assert_eq!(tied(&turns), [("b".to_owned(), 6)]);
    assert_eq!(turns.ended, [(name("a"), 6)]);
}

#[test]
fn a_ghost_that_missed_a_change_is_in_quarantine_until_it_is_gone() {
    let names: &[&str] = &["a", "_a_del", "_a_gho"];
    let scan = scan(&[("_a_gho", &[4, 6, 7])], &[(9, names, &["_a_gho"]), (11, &["_a_del"], &["_a_del"])]);
    let turns = turns_of(&[("a", 5)], &scan);
    assert_eq!(tied(&turns), [("_a_gho".to_owned(), 6), ("_a_del".to_owned(), 9)]);
    assert_eq!(turns.ended, [(name("_a_gho"), 9), (name("_a_del"), 11)]);
    // What has run turns nothing a second time.
    let executed = Executed::up_to(11);
    let again = super::turns(&quarantined(&[("a", 5)]), &set(), &scan, &executed, u64::MAX);
    assert_eq!((tied(&again), again.ended), (Vec::new(), Vec::new()));
    // Its table has come back by a restore meanwhile: the cut-over takes it into quarantine again.
    let turns = turns_of(&[("_a_gho", 6)], &scan);
    assert_eq!(tied(&turns)[0], ("a".to_owned(), 9));
}

#[test]
fn what_has_been_passed_over_is_counted_once() {
    let scan = scan(&[("a", &[3, 5, 7, 8, 12])], &[]);
    let passing = Passing::of(&quarantined(&[("a", 5)]));
    let count =
        |executed: &Executed, counted, until| passing.count(&scan, executed, &name("a"), counted, until);
    assert_eq!(count(&Executed::up_to(3), 0, 10), 3);
    assert_eq!(count(&Executed::up_to(7), 0, 10), 1);
    assert_eq!(count(&Executed::up_to(3), 10, 12), 1);
    assert_eq!(count(&Executed::up_to(3), 12, 12), 0);
}
