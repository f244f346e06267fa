//! A check of rows: where it may stand, what it may say, and the object that names its rows.

use super::*;
use crate::stream::check::read_names;
use crate::stream::{CheckEntry, CheckedRange, NamedRow, NamesObject, RowKey, RowsChecksum};

fn key(values: &[&[u8]]) -> RowKey {
    RowKey(values.iter().map(|value| value.to_vec()).collect())
}

/// As the next entry of this head.
pub fn check(head: &Head) -> CheckEntry {
    CheckEntry {
        at: head.last_tx,
        checked_at: at(1),
        ranges: vec![CheckedRange {
            table: TableName::new("g", "apps"),
            columns: Md5::of(b"columns"),
            key: vec!["region".into(), "id".into()],
            after: Some(key(&[b"eu", b"1"])),
            through: None,
            rows: 7,
            checksum: RowsChecksum(9),
        }],
        names: Some(NamesObject { key: Key::check(head.last_seq.next(), at(1)), size: 1, md5: Md5::of(b"") }),
    }
}

#[test]
fn a_check_brings_no_transactions_and_stands_at_exactly_its_own() {
    let (mut head, _, _) = stream_of(3);
    let (body, tx, covered) = (check(&head), head.last_tx, head.covered.clone());
    let entry = head.append(Body::Check(body.clone()), at(9)).unwrap().clone();
    assert_eq!((entry.check(), entry.transactions(), entry.up_to()), (Some(&body), None, tx));
    assert_eq!((head.last_tx, &head.covered), (tx, &covered));
    let read = Head::parse(&head.to_json().unwrap()).unwrap();
    assert_eq!(read.entries.last(), Some(&entry));
    head.append(segment(&head, 2), at(10)).unwrap();
    // Neither before what the stream has, nor behind it.
    for wrong in [StreamTx(head.last_tx.0 - 1), head.last_tx.next()] {
        let body = CheckEntry { at: wrong, ..check(&head) };
        assert_eq!(head.append(Body::Check(body), at(11)).unwrap_err().kind(), Kind::History);
    }
    head.append(Body::Check(check(&head)), at(11)).unwrap();
    head.append(Body::Check(check(&head)), at(12)).unwrap();
}

#[test]
fn a_check_that_cannot_be_compared_is_refused() {
    let (head, _, _) = stream_of(3);
    let change = |change: &dyn Fn(&mut CheckEntry)| {
        let mut body = check(&head);
        change(&mut body);
        head.clone().append(Body::Check(body), at(9)).unwrap_err().kind()
    };
    assert_eq!(change(&|check| check.ranges.clear()), Kind::Corrupt);
    assert_eq!(change(&|check| check.ranges.push(check.ranges[0].clone())), Kind::Corrupt);
    assert_eq!(change(&|check| check.ranges[0].table = TableName::new("mysql", "user")), Kind::Corrupt);
    assert_eq!(change(&|check| check.ranges[0].through = Some(key(&[b"eu"]))), Kind::Corrupt);
    assert_eq!(change(&|check| check.ranges[0].key.clear()), Kind::Corrupt);
    assert_eq!(change(&|check| check.names = None), Kind::Corrupt);
    let other = NamesObject { key: Key::check(Seq(1), at(1)), size: 1, md5: Md5::of(b"") };
    assert_eq!(change(&|check| check.names = Some(other.clone())), Kind::Corrupt);
    assert_eq!(change(&|check| check.names.iter_mut().for_each(|names| names.size = 0)), Kind::Corrupt);
}

/// As a fault of whoever runs it, no unit would begin `apply` again; found by fuzzing.
#[test]
fn a_line_that_names_no_table_is_refused_as_damage_of_the_object() {
    for text in ["\"g\"\n", "\"g.*\"\n", "\"g.asp-- Rows p\"\n[\"00ab12cd\",\"7\"]\n", "\"\"\n"] {
        let error = read_names("checks/x", text.as_bytes(), |_, _| Ok(())).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{text}: {error}");
        assert!(error.to_string().starts_with("read checks/x: a table's line"), "{error}");
    }
}

fn read_back(rows: &[(TableName, NamedRow)], packed: &[u8]) {
    let plain = std::io::BufReader::new(flate2::read::GzDecoder::new(packed));
    let mut found = Vec::new();
    read_names("checks/x", plain, |table, row| {
        found.push((table.clone(), row));
        Ok(())
    })
    .unwrap();
    assert_eq!(found, rows);
}

proptest! {
    #[test]
    fn a_key_of_any_bytes_has_one_text(values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 1..4)) {
        let key = RowKey(values);
        let json = serde_json::to_value(&key).unwrap();
        prop_assert_eq!(serde_json::from_value::<RowKey>(json).unwrap(), key);
    }

    #[test]
    fn a_text_is_a_key_only_if_it_is_the_text_of_that_key(text in "(0x)?[0-9a-fA-F]{0,8}|.{0,6}") {
        if let Ok(key) = serde_json::from_value::<RowKey>(json!([text.clone()])) {
            prop_assert_eq!(serde_json::to_value(&key).unwrap(), json!([text]));
        }
    }

    #[test]
    fn rows_that_are_named_are_read_back(
        keys in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..9), any::<u128>()), 0..40),
    ) {
        let mut writer = crate::stream::check::NamesWriter::default();
        let mut rows = Vec::new();
        for name in ["a", "ö`\"b"] {
            let table = TableName::new("g", name);
            writer.table(&table).unwrap();
            for (_, key, sum) in keys.iter().filter(|(is_first, _, _)| *is_first == (name == "a")) {
                let row = NamedRow::new(RowKey(vec![key.clone()]), RowsChecksum(*sum));
                writer.row(&row).unwrap();
                rows.push((table.clone(), row));
            }
        }
        read_back(&rows, &writer.finish().unwrap().unwrap());
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "(\"g\\.t\"\n)?(\\[\"[0-9a-f]{0,9}\"(,\"[0-9x]{0,3}\")*\\]\n?){0,3}.{0,9}") {
        let _ = read_names("checks/x", text.as_bytes(), |_, _| Ok(()));
    }
}
