//! docs/formats.md against the code: every member and column that the document lists is there, and no other.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde_json::Value;
use tablecast::binlog::event::{Checksum, Event};
use tablecast::binlog::name::TableSet;
use tablecast::binlog::note::Note;
use tablecast::stream::page::{MAX_ENTRIES, PAGE_ENTRIES};
use tablecast::stream::{
    Body, Codec, Definition, FORMAT, Head, Key, Md5, SchemaDefaults, SegmentEntry, Seq, StreamTx,
};

const DOCUMENT: &str = include_str!("../docs/formats.md");

fn time() -> DateTime<Utc> {
    "2024-02-29T01:02:03.456Z".parse().unwrap()
}

/// The first column of the table behind `<!-- checked: NAME -->`.
fn documented(name: &str) -> BTreeSet<String> {
    let marker = format!("<!-- checked: {name} -->\n");
    let (_, rest) = DOCUMENT.split_once(&marker).unwrap_or_else(|| panic!("docs/formats.md has no {marker}"));
    let rows = rest.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.split('`').nth(1).unwrap_or_else(|| panic!("no name in {row}")).to_owned()).collect()
}

fn members(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap_or_else(|| panic!("{value} is no object")).keys().cloned().collect()
}

fn definition() -> Definition {
    Definition {
        table: "g.apps".parse().unwrap(),
        since_tx: StreamTx::ZERO,
        create_table: "CREATE TABLE `apps` (…)".into(),
        rows_at_init: Some(false),
    }
}

fn head_with(entries: u64) -> Head {
    let tables = TableSet::parse(&["g.apps".to_owned()]).unwrap();
    let mut head = Head::new(uuid::Uuid::from_u128(7), "apps", tables, time());
    head.schemas.insert("g".into(), SchemaDefaults { collation: "utf8mb4_0900_ai_ci".into() });
    for n in 1..=entries {
        let tx = StreamTx(n);
        let segment = SegmentEntry {
            key: Key::segment(tx, tx, time(), Codec::Gzip),
            size: 1,
            md5: Md5::of(b""),
            raw_size: 1,
            codec: Codec::Gzip,
            first_tx: tx,
            last_tx: tx,
            count: 1,
            tables: vec!["g.apps".parse().unwrap()],
            covered_before: head.covered.clone(),
            covered_after: format!("00000000-0000-0000-0000-00000000000a:1-{n}").parse().unwrap(),
            first_commit: time(),
            last_commit: time(),
            definitions: vec![definition()],
        };
        head.append(Body::Segment(segment), time()).unwrap();
    }
    head
}

#[test]
fn the_documents_have_the_members_that_formats_md_lists() {
    let mut head = head_with(2 * MAX_ENTRIES as u64);
    let mut pages = Vec::new();
    while let Some(page) = head.to_seal() {
        let bytes = page.to_json().unwrap();
        head.seal(page.link(&bytes).unwrap()).unwrap();
        pages.push(serde_json::from_slice::<Value>(&bytes).unwrap());
    }
    let head: Value = serde_json::from_slice(&head.to_json().unwrap()).unwrap();
    assert_eq!(members(&head), documented("head"));
    assert_eq!(members(&pages[1]), documented("page"));
    assert_eq!(members(&head["page"]), documented("link"));
    let entry = &head["entries"][0];
    assert_eq!(members(entry), documented("entry"));
    assert_eq!(members(&entry["definitions"][0]), documented("definition"));
}

#[test]
fn the_note_has_the_members_and_the_bytes_that_formats_md_lists() {
    let note = Note {
        source_gtid: "00000000-0000-0000-0000-00000000000a:5".parse().unwrap(),
        schema_collations: vec![("g".into(), "utf8mb4_bin".into())],
    };
    assert_eq!(members(&serde_json::to_value(&note).unwrap()), documented("note"));
    let event: Event = note.to_event(0, 1).unwrap();
    assert!(event.body().starts_with(b"tablecast\0\x01{"));
    assert_eq!((event.kind(), event.header().flags, event.checksum()), (28, 0x80, Checksum::Crc32));
}

#[test]
fn the_position_has_the_columns_that_formats_md_lists() {
    let schema = include_str!("../sql/region/schema.sql");
    let (_, columns) =
        schema.split_once("tablecast.position (\n").expect("schema.sql makes tablecast.position");
    let names = columns.lines().take_while(|line| !line.contains("PRIMARY KEY"));
    let names: BTreeSet<String> =
        names.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect();
    assert_eq!(names, documented("position"));
}

#[test]
fn keys_numbers_and_limits_are_those_of_formats_md() {
    for example in [
        Key::page(Seq(1), Seq(500)),
        Key::segment(StreamTx(1), StreamTx(42), time(), Codec::Gzip),
        Key::head(),
    ] {
        assert!(DOCUMENT.contains(example.as_str()), "docs/formats.md lacks {example}");
    }
    for text in [
        format!("Format **{}.{}**", FORMAT.major, FORMAT.minor),
        format!("{{\"major\": {}, \"minor\": {}}}", FORMAT.major, FORMAT.minor),
        format!("at most {MAX_ENTRIES}"),
        format!("more than {MAX_ENTRIES} entries, the oldest {PAGE_ENTRIES} go"),
        format!("`.{}` if compressed by {}", Codec::Zstd.suffix(), Codec::Zstd),
        "SHA-256(\"tablecast:\" + stream UUID".to_owned(),
    ] {
        assert!(DOCUMENT.contains(&text), "docs/formats.md lacks {text:?}");
    }
}
