//! Changes of the table set in the index: what an entry may say, and what the head makes of it.

use super::dumps::dump;
use super::*;
use crate::binlog::gtid::Gtid;
use crate::binlog::name::TablePattern;
use crate::stream::{AddedTable, Floor, Gap, SetChanged, TablesEntry};

fn added(table: &str, has_rows: bool) -> AddedTable {
    AddedTable {
        table: table.parse().unwrap(),
        create_table: format!("CREATE TABLE of {table}"),
        has_rows,
        collation: "utf8mb4_bin".into(),
    }
}

/// The next change, to `set`, by the source's next transaction.
fn change(head: &Head, set: &[&str], added: Vec<AddedTable>) -> TablesEntry {
    let number = head.covered.count() + 1;
    let gtid = Gtid::new(SOURCE, number);
    let after = TableSet::parse(set).unwrap();
    let gone = |pattern: &&TablePattern| !after.patterns().any(|kept| kept == *pattern);
    TablesEntry {
        version: head.table_set.version + 1,
        removed: head.table_set.tables.patterns().filter(gone).cloned().collect(),
        tables: after.clone(),
        added,
        at: head.last_tx,
        source_gtid: Some(gtid.clone()),
        covered_before: head.covered.clone(),
        covered_after: head.covered.union(&GtidSet::from(gtid)),
        changed_at: at(number),
    }
}

fn read_back(head: &Head) {
    assert_eq!(Head::parse(&head.to_json().unwrap()).unwrap(), *head);
}

#[test]
fn a_change_of_the_set_brings_no_transactions_and_says_what_holds_from_there_on() {
    let (mut head, _, _) = stream_of(3);
    let last_tx = head.last_tx;
    let body = change(&head, &["g.apps", "k.new"], vec![added("k.new", false)]);
    let entry = head.append(Body::Tables(body.clone()), at(9)).unwrap().clone();
    assert_eq!((entry.tables(), entry.segment(), entry.transactions()), (Some(&body), None, None));
    assert_eq!(entry.covered(), Some((&body.covered_before, &body.covered_after)));
    assert_eq!((head.last_tx, &head.covered), (last_tx, &body.covered_after));
    assert_eq!((head.table_set.version, head.table_set.tables.to_string()), (2, "g.apps, k.new".to_owned()));
    assert_eq!(head.schemas["k"].collation, "utf8mb4_bin");
    let definition = head.definition(&"k.new".parse().unwrap()).unwrap();
    assert_eq!((definition.since_tx, definition.rows_at_init), (last_tx, None));
    let changed = head.set_changed.clone().unwrap();
    assert_eq!((changed.seq, changed.at, changed.owes_dump), (entry.seq, last_tx, false));
    read_back(&head);
    head.append(segment(&head, 2), at(10)).unwrap();
    read_back(&head);
}

#[test]
fn a_dump_is_owed_until_one_of_the_new_set_for_every_region_is_there() {
    let (mut head, _, _) = stream_of(2);
    let before = head.covered.clone();
    let body = change(&head, &["g.apps", "h.*", "k.new"], vec![added("k.new", true)]);
    head.append(Body::Tables(body), at(9)).unwrap();
    let owes = |head: &Head| head.set_changed.as_ref().unwrap().owes_dump;
    let full = |head: &Head| crate::stream::DumpEntry { full: true, mandatory: true, ..dump(head) };
    // Of before the change.
    let old = crate::stream::DumpEntry { snapshot: before, ..full(&head) };
    assert_eq!(head.append(Body::Dump(old), at(10)).unwrap_err().kind(), Kind::History);
    // Not for every region; not of everything.
    for some in [
        crate::stream::DumpEntry { mandatory: false, ..full(&head) },
        crate::stream::DumpEntry { full: false, ..full(&head) },
    ] {
        head.append(Body::Dump(some), at(10)).unwrap();
        assert!(owes(&head));
    }
    // Another change does not settle it.
    let next = change(&head, &["g.apps", "k.new"], Vec::new());
    head.append(Body::Tables(next), at(11)).unwrap();
    assert!(owes(&head));
    read_back(&head);
    // Unless what it is owed for leaves with it; of an older version's debt nobody knows what for.
    let mut without = head.clone();
    without.append(Body::Tables(change(&without, &["g.apps"], Vec::new())), at(11)).unwrap();
    assert!(!owes(&without));
    read_back(&without);
    let mut older = head.clone();
    older.set_changed.as_mut().unwrap().owed_for.clear();
    older.append(Body::Tables(change(&older, &["g.apps"], Vec::new())), at(11)).unwrap();
    assert!(owes(&older));
    let last = full(&head);
    head.append(Body::Dump(last), at(12)).unwrap();
    assert!(!owes(&head));
    read_back(&head);
}

/// A failover may lose the change's transaction; the resync that follows stands for it.
#[test]
fn a_dump_behind_a_resync_knows_of_a_change_whose_transaction_is_lost() {
    let (mut head, _, _) = stream_of(2);
    let before = head.covered.clone();
    let body = change(&head, &["g.apps", "h.*", "k.new"], vec![added("k.new", false)]);
    head.append(Body::Tables(body), at(9)).unwrap();
    let full = |head: &Head| crate::stream::DumpEntry { full: true, ..dump(head) };
    let without = crate::stream::DumpEntry { snapshot: before, ..full(&head) };
    assert_eq!(head.append(Body::Dump(without.clone()), at(10)).unwrap_err().kind(), Kind::History);
    let resync = crate::stream::DumpEntry { mandatory: true, resync: true, ..full(&head) };
    let seq = head.append(Body::Dump(resync), at(11)).unwrap().seq;
    assert_eq!(head.set_changed.as_ref().unwrap().settled, Some(seq));
    read_back(&head);
    head.append(Body::Dump(without), at(12)).unwrap();
    read_back(&head);
}

/// I3: what a filter has kept from the stream is not forgotten by any head but one behind a resync.
#[test]
fn a_gap_stays_in_the_head_until_a_resync() {
    let (mut head, _, _) = stream_of(2);
    let gap = Gap {
        server: STREAM,
        tables: vec!["g.apps".parse().unwrap()],
        since: None,
        found_at: at(3),
        executed: head.covered.clone(),
        lost: true,
        also: Vec::new(),
    };
    head.gap = Some(gap.clone());
    read_back(&head);
    let full = |head: &Head| crate::stream::DumpEntry { full: true, mandatory: true, ..dump(head) };
    head.append(Body::Dump(full(&head)), at(4)).unwrap();
    assert_eq!(head.gap, Some(gap.clone()));
    let resync = crate::stream::DumpEntry { resync: true, ..full(&head) };
    let mut after = head.clone();
    after.append(Body::Dump(resync), at(5)).unwrap();
    assert_eq!(after.gap, None);
    for tables in [vec![], vec!["g.b", "g.a"], vec!["g.a", "g.a"]] {
        let tables = tables.iter().map(|name| name.parse().unwrap()).collect();
        head.gap = Some(Gap { tables, ..gap.clone() });
        assert_eq!(head.to_json().unwrap_err().kind(), Kind::Corrupt);
    }
}

#[test]
fn a_change_that_does_not_fit_the_stream_is_not_appended() {
    let (mut head, _, _) = stream_of(4);
    let before = head.clone();
    type Edit = fn(&mut TablesEntry);
    let wrong: [(Kind, Edit); 14] = [
        (Kind::History, |c| c.version += 1),
        (Kind::Corrupt, |c| c.version = 1),
        (Kind::History, |c| c.at = c.at.next()),
        (Kind::History, |c| c.at = StreamTx(c.at.0 - 1)),
        (Kind::Corrupt, |c| c.at = StreamTx(u64::MAX)),
        (Kind::Corrupt, |c| c.covered_after = c.covered_before.clone()),
        (Kind::Corrupt, |c| c.source_gtid = Some(Gtid::new(SOURCE, 1))),
        (Kind::Corrupt, |c| c.source_gtid = Some(Gtid::new(SOURCE, 1_000_000))),
        (Kind::History, |c| c.covered_before = covered(1)),
        (Kind::Corrupt, |c| c.added.insert(0, added("z.z", false))),
        (Kind::Corrupt, |c| c.added.push(added("g.outside", false))),
        (Kind::Corrupt, |c| c.added[0].create_table.clear()),
        (Kind::Corrupt, |c| c.added[0].collation.clear()),
        (Kind::Corrupt, |c| c.removed.push(TablePattern::Schema("h".into()))),
    ];
    for (i, (kind, edit)) in wrong.into_iter().enumerate() {
        let mut body = change(&head, &["g.apps", "h.*", "k.new"], vec![added("k.new", false)]);
        edit(&mut body);
        assert_eq!(head.append(Body::Tables(body), at(9)).unwrap_err().kind(), kind, "case {i}");
        assert_eq!(head, before, "case {i}");
    }
    // A resync stands for a change whose transaction nobody knows.
    let mut body = change(&head, &["g.apps"], Vec::new());
    (body.source_gtid, body.covered_after) = (None, body.covered_before.clone());
    head.append(Body::Tables(body), at(9)).unwrap();
    read_back(&head);
}

#[test]
fn a_head_that_tells_of_another_set_than_its_entries_is_refused() {
    let (mut head, _, _) = stream_of(2);
    let body = change(&head, &["g.apps", "k.new"], vec![added("k.new", false)]);
    head.append(Body::Tables(body), at(9)).unwrap();
    head.append(segment(&head, 1), at(10)).unwrap();
    type Edit = fn(&mut Head);
    let edits: [Edit; 6] = [
        |h| h.table_set.version = 3,
        |h| h.table_set.tables = TableSet::parse(&["g.apps"]).unwrap(),
        |h| h.set_changed = None,
        |h| h.set_changed.as_mut().unwrap().seq = Seq(1),
        |h| h.set_changed.as_mut().unwrap().at = StreamTx(1),
        |h| h.set_changed.as_mut().unwrap().source_gtid = None,
    ];
    for (i, edit) in edits.into_iter().enumerate() {
        let mut other = head.clone();
        edit(&mut other);
        assert_eq!(other.to_json().unwrap_err().kind(), Kind::Corrupt, "case {i}");
    }
    // Pruned, or in a page, the entry is not there to be compared with.
    let floor =
        Floor { seq: head.entries[2].seq, chain: head.entries[2].chain, tx: StreamTx(head.last_tx.0 - 1) };
    head.prune_to(floor).unwrap();
    assert!(head.set_changed.as_ref().is_some_and(|SetChanged { seq, .. }| *seq == floor.seq));
    read_back(&head);
}

fn set_of(names: &std::collections::BTreeSet<u8>) -> Vec<String> {
    names.iter().map(|name| format!("g.t{name}")).collect()
}

proptest! {
    /// I2: whatever way a set goes, its entries read back, and the head is what the last of them says.
    #[test]
    fn any_history_of_sets_reads_back(
        steps in proptest::collection::vec(
            (proptest::collection::btree_set(0..6u8, 1..6), any::<bool>(), 0..3u64), 1..12),
    ) {
        let mut head = empty();
        let mut owed_for = std::collections::BTreeSet::new();
        for (names, has_rows, count) in steps {
            let set = set_of(&names);
            let set: Vec<&str> = set.iter().map(String::as_str).collect();
            let new = set.iter().filter(|name| !head.table_set.tables.names(&name.parse().unwrap()));
            let coming = new.map(|name| added(name, has_rows)).collect();
            let body = change(&head, &set, coming);
            owed_for.extend(body.added.iter().filter(|added| added.has_rows).map(|added| added.table.clone()));
            owed_for.retain(|table| body.tables.names(table));
            let owed = !owed_for.is_empty();
            head.append(Body::Tables(body.clone()), at(1)).unwrap();
            prop_assert_eq!(&head.table_set.tables, &body.tables);
            prop_assert_eq!(head.set_changed.as_ref().unwrap().owes_dump, owed);
            prop_assert!(head.definitions.iter().all(|known| body.tables.names(&known.table)));
            if count > 0 {
                let mut next = as_segment(segment(&head, count));
                next.covered_before = head.covered.clone();
                next.covered_after = head.covered.union(&covered(head.covered.count() + count));
                head.append(Body::Segment(next), at(2)).unwrap();
            }
        }
        let bytes = head.to_json().unwrap();
        prop_assert_eq!(Head::parse(&bytes).unwrap(), head);
    }
}
