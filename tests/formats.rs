//! docs/formats.md against the code: every member and column that the document lists is there, and no other.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use tablecast::binlog::event::{Checksum, Event};
use tablecast::binlog::gtid::GtidSet;
use tablecast::binlog::name::TableSet;
use tablecast::binlog::note::Note;
use tablecast::signing::SecretKey;
use tablecast::stream::head::MAX_DUMPS;
use tablecast::stream::page::{MAX_ENTRIES, PAGE_ENTRIES};
use tablecast::stream::{
    AddedTable, Body, Chain, CheckEntry, Checked, CheckedRange, Chunk, Codec, Definition, DumpEntry, DumpId,
    DumpedTable, FORMAT, Floor, Gap, Head, Key, Manifest, Md5, NamesObject, Paused, Refused, RegionReport,
    ReportedDrift, ReportedFailure, Request, RequestId, RequestState, RowKey, RowsChecksum, SchemaDefaults,
    SegmentEntry, Seq, StreamTx, TablesEntry, chunk, signature,
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

fn dump_id() -> DumpId {
    DumpId::new(time(), 0x0a1b_2c3d)
}

fn dump(head: &Head) -> DumpEntry {
    DumpEntry {
        id: dump_id(),
        manifest: Key::manifest(&dump_id()),
        size: 1,
        md5: Md5::of(b""),
        at: head.last_tx,
        snapshot: head.covered.clone(),
        tables: vec!["g.apps".parse().unwrap()],
        full: true,
        mandatory: false,
        lacks: None,
        brought: None,
        resync: false,
        rows: 1,
        bytes: 1,
        taken_at: time(),
        requests: vec![RequestId::new(1)],
    }
}

fn tables(head: &Head) -> TablesEntry {
    let mut covered_after = head.covered.clone();
    let gtid = "00000000-0000-0000-0000-00000000000b:1".parse().unwrap();
    covered_after.insert(&gtid);
    TablesEntry {
        version: 2,
        tables: TableSet::parse(&["g.apps", "g.new"]).unwrap(),
        added: vec![AddedTable {
            table: "g.new".parse().unwrap(),
            create_table: "CREATE TABLE `new` (…)".into(),
            has_rows: true,
            collation: "utf8mb4_bin".into(),
        }],
        removed: vec!["g.old".parse().unwrap()],
        at: head.last_tx,
        source_gtid: Some(gtid),
        covered_before: head.covered.clone(),
        covered_after,
        changed_at: time(),
    }
}

fn check(head: &Head) -> CheckEntry {
    let key = |text: &str| Some(RowKey(vec![text.into()]));
    CheckEntry {
        at: head.last_tx,
        checked_at: time(),
        ranges: vec![CheckedRange {
            table: "g.apps".parse().unwrap(),
            columns: Md5::of(b""),
            key: vec!["id".into()],
            after: key("1"),
            through: key("7"),
            rows: 6,
            checksum: RowsChecksum(7),
        }],
        names: Some(NamesObject {
            key: Key::check(head.last_seq.next(), time()),
            size: 1,
            md5: Md5::of(b""),
        }),
    }
}

fn paused() -> Paused {
    Paused { reason: "x".into(), by: "y".into(), since: time(), until: Some(time() + TimeDelta::hours(1)) }
}

fn value(bytes: Vec<u8>) -> Value {
    serde_json::from_slice(&bytes).unwrap()
}

#[test]
fn a_dump_s_documents_have_the_members_that_formats_md_lists() {
    let chunk = Chunk {
        key: Key::chunk(&dump_id(), 0, 0, Codec::Gzip),
        size: 1,
        md5: Md5::of(b""),
        raw_size: 100,
        codec: Codec::Gzip,
        rows: 1,
        checksum: RowsChecksum(1),
        largest_statement: 50,
    };
    let manifest = Manifest {
        format: FORMAT,
        stream: uuid::Uuid::from_u128(7),
        id: dump_id(),
        snapshot: Default::default(),
        taken_at: time(),
        server_version: "9.7.0".into(),
        table_set_version: 1,
        full: true,
        pause_us: 1,
        schemas: [("g".to_owned(), SchemaDefaults { collation: "utf8mb4_bin".into() })].into(),
        tables: vec![DumpedTable {
            table: "g.apps".parse().unwrap(),
            create_table: "CREATE TABLE `apps` (…)".into(),
            columns: vec!["id".into()],
            rows: 1,
            checksum: RowsChecksum(1),
            chunks: vec![chunk],
            largest_statement: 50,
        }],
        absent: vec!["g.gone".parse().unwrap()],
        writer: "tablecast".into(),
        extra: Default::default(),
    };
    let manifest = value(manifest.to_json().unwrap());
    assert_eq!(members(&manifest), documented("manifest"));
    assert_eq!(members(&manifest["tables"][0]), documented("dumped table"));
    assert_eq!(members(&manifest["tables"][0]["chunks"][0]), documented("chunk"));
    let request = Request {
        format: FORMAT,
        id: RequestId::new(1),
        stream: uuid::Uuid::from_u128(7),
        regions: vec!["eu1".into()],
        tables: vec!["g.apps".parse().unwrap()],
        all_tables: false,
        mandatory: false,
        reason: String::new(),
        body_sha256: "0".repeat(64),
        joined: [(RequestId::new(9), "0".repeat(64))].into(),
        state: RequestState::Uploaded,
        attempts: 1,
        not_before: Some(time()),
        created_at: time(),
        updated_at: time(),
        dump: Some(dump_id()),
        seq: Some(Seq(1)),
        at: Some(StreamTx(1)),
        rows: 1,
        rows_total: 1,
        bytes: 1,
        eta_seconds: Some(1),
        error: Some("x".into()),
        extra: Default::default(),
    };
    assert_eq!(members(&value(request.to_json().unwrap())), documented("request"));
    let quarantined = serde_json::json!({"table": "g.apps", "since_tx": 1, "since": time(), "error": "1032"});
    let restoring = serde_json::json!({
        "tables": ["g.apps"], "dump": dump_id(), "state": "loading", "rows": 1, "rows_total": 2,
    });
    let report = RegionReport {
        format: FORMAT,
        region: "eu1".into(),
        stream: uuid::Uuid::from_u128(7),
        seq: Seq(1),
        chain: Chain::genesis(uuid::Uuid::from_u128(7)),
        last_tx: StreamTx(1),
        base_tx: StreamTx(1),
        as_of: Some(time()),
        lag_seconds: Some(1),
        quarantined: vec![serde_json::from_value(quarantined).unwrap()],
        restoring: vec![serde_json::from_value(restoring).unwrap()],
        ghosts: Some(Vec::new()),
        left_out: vec!["g.out".parse().unwrap()],
        drifted: vec![ReportedDrift {
            table: "g.apps".parse().unwrap(),
            at_tx: StreamTx(1),
            found_at: time(),
            what: "id 7 differs".into(),
        }],
        checked_at: Some(time()),
        last_error: Some("x".into()),
        failure: Some(ReportedFailure {
            at: time(),
            job: "apply".into(),
            kind: "history".into(),
            exit_code: 10,
            hint: Some("y".into()),
            runbook: "docs/exit-codes.md#history".into(),
        }),
        paused: Some(paused()),
        version: "0.1.0".into(),
        reported_at: time(),
        extra: Default::default(),
    };
    assert_eq!(members(&value(report.to_json().unwrap())), documented("report"));
    assert_eq!(members(&value(report.to_json().unwrap())["paused"]), documented("paused"));
    assert_eq!(members(&value(report.to_json().unwrap())["failure"]), documented("failure"));
    for state in RequestState::ALL {
        assert!(DOCUMENT.contains(&format!("`{state}`")), "docs/formats.md lacks {state}");
    }
}

#[test]
fn the_documents_have_the_members_that_formats_md_lists() {
    let mut head = head_with(2 * MAX_ENTRIES as u64 - 3);
    let mut pages = Vec::new();
    while let Some(page) = head.to_seal() {
        let bytes = page.to_json().unwrap();
        head.seal(page.link(&bytes).unwrap()).unwrap();
        pages.push(serde_json::from_slice::<Value>(&bytes).unwrap());
    }
    head.append(Body::Tables(tables(&head)), time()).unwrap();
    let owed = serde_json::to_value(&head.set_changed).unwrap();
    let resync = DumpEntry {
        mandatory: true,
        resync: true,
        lacks: Some(GtidSet::new()),
        brought: Some(GtidSet::new()),
        ..dump(&head)
    };
    head.append(Body::Dump(resync), time()).unwrap();
    let check = check(&head);
    let range = check.ranges[0].clone();
    head.append(Body::Check(check), time()).unwrap();
    let after = range.after.clone();
    head.checked = Some(Checked {
        seq: head.last_seq,
        since: Seq(1),
        at: time(),
        took_ms: 1,
        next: Some(range.table.clone()),
        after,
    });
    head.source_region = Some("us-east-1".into());
    head.gap = Some(Gap {
        server: uuid::Uuid::from_u128(10),
        tables: vec!["g.apps".parse().unwrap()],
        since: Some(time()),
        found_at: time(),
        executed: head.covered.clone(),
        lost: true,
        also: vec![uuid::Uuid::from_u128(11)],
    });
    head.refused = Some(Refused { why: "x".into(), hint: "y".into(), found_at: time() });
    head.paused = Some(paused());
    let page = head.page.clone().unwrap();
    head.floor = Some(Floor { seq: page.last, chain: page.chain, tx: page.last_tx });
    let folder = tempfile::tempdir().unwrap();
    let key = SecretKey::make(&folder.path().join("key"), [7; 32]).unwrap();
    let signed = signature::sign(&head.to_json().unwrap(), &key).unwrap();
    let text = String::from_utf8(signed.clone()).unwrap();
    let line = text.lines().nth_back(1).unwrap();
    let shape: String = line.chars().filter(|c| !c.is_ascii_hexdigit()).collect();
    let shown = DOCUMENT.lines().find_map(|line| line.strip_prefix("    \"signature\"")).unwrap();
    let shown = format!("\"signature\"{}", shown.replace("<128 hex>", "").replace("<16 hex>", ""));
    assert_eq!(shape, shown.chars().filter(|c| !c.is_ascii_hexdigit()).collect::<String>());
    let head: Value = serde_json::from_slice(&signed).unwrap();
    assert_eq!(members(&head), documented("head"));
    assert_eq!(members(&head["signature"]), documented("signature"));
    assert_eq!(members(&head["floor"]), documented("floor"));
    let newest = head["entries"].as_array().unwrap();
    let newest = &newest[newest.len() - 3..];
    assert_eq!(members(&newest[0]), documented("tables"));
    assert_eq!(members(&newest[0]["added"][0]), documented("added"));
    assert_eq!(members(&newest[1]), documented("dump"));
    assert_eq!(members(&newest[2]), documented("check"));
    assert_eq!(members(&newest[2]["ranges"][0]), documented("checked range"));
    assert_eq!(members(&newest[2]["names"]), documented("names"));
    assert_eq!(members(&head["checked"]), documented("checked"));
    assert_eq!(members(&head["gap"]), documented("gap"));
    assert_eq!(members(&head["refused"]), documented("refused"));
    assert_eq!(members(&head["paused"]), documented("paused"));
    for member in members(&head["set_changed"]).union(&members(&owed)) {
        assert!(DOCUMENT.contains(&format!("\"{member}\"")), "docs/formats.md lacks {member}");
    }
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
        Key::manifest(&dump_id()),
        Key::chunk(&dump_id(), 0, 12, Codec::Gzip),
        Key::check(Seq(7), time()),
        Key::request(&RequestId::new(0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f)),
        Key::region("eu_west-1").unwrap(),
    ] {
        assert!(DOCUMENT.contains(example.as_str()), "docs/formats.md lacks {example}");
    }
    for text in [
        format!("Format **{}.{}**", FORMAT.major, FORMAT.minor),
        format!("{{\"major\": {}, \"minor\": {}}}", FORMAT.major, FORMAT.minor),
        format!("at most {MAX_ENTRIES}"),
        format!("At most {MAX_DUMPS}, of more"),
        format!("longer than {} bytes", chunk::STATEMENT),
        chunk::HEADER.lines().map(|line| format!("    {line}\n")).collect(),
        format!("more than {MAX_ENTRIES} entries, the oldest {PAGE_ENTRIES} go"),
        format!("`.{}` if compressed by {}", Codec::Zstd.suffix(), Codec::Zstd),
        "SHA-256(\"tablecast:\" + stream UUID".to_owned(),
    ] {
        assert!(DOCUMENT.contains(&text), "docs/formats.md lacks {text:?}");
    }
}
