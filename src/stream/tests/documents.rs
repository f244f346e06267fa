//! Manifest, request and report: what they may say, and that no bytes make their readers panic or let something in.

use super::*;
use crate::stream::dump::RowsChecksum;
use crate::stream::{
    Chunk, DumpId, DumpedTable, Manifest, Paused, RegionReport, ReportedDrift, ReportedFailure,
    ReportedQuarantine, ReportedRestore, Request, RequestId, RequestState,
};

/// How much more than usual is tried: TABLECAST_ROUNDS=100 for a long run.
fn cases(usual: u32) -> ProptestConfig {
    let rounds = std::env::var("TABLECAST_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1);
    ProptestConfig::with_cases(usual.saturating_mul(rounds))
}

fn id() -> DumpId {
    DumpId::new(at(0), 0xdead_beef)
}

fn manifest() -> Manifest {
    let chunk = |table: usize, chunk: usize| Chunk {
        key: Key::chunk(&id(), table, chunk, Codec::Gzip),
        size: 50,
        md5: Md5::of(b"chunk"),
        raw_size: 500,
        codec: Codec::Gzip,
        rows: 7,
        checksum: RowsChecksum(u128::MAX - chunk as u128),
        largest_statement: 300 + chunk as u64,
    };
    let dumped = |name: &str, number: usize, chunks: usize| {
        let chunks: Vec<Chunk> = (0..chunks).map(|at| chunk(number, at)).collect();
        DumpedTable {
            table: TableName::new("g", name),
            create_table: format!("CREATE TABLE `{name}` (\n  `id` int\n)"),
            columns: vec!["id".into(), "ID2".into()],
            rows: chunks.iter().map(|chunk| chunk.rows).sum(),
            checksum: chunks.iter().map(|chunk| chunk.checksum).sum(),
            largest_statement: chunks.iter().map(|chunk| chunk.largest_statement).max().unwrap_or(0),
            chunks,
        }
    };
    Manifest {
        format: FORMAT,
        stream: STREAM,
        id: id(),
        snapshot: covered(9),
        taken_at: at(3),
        server_version: "9.7.0".into(),
        table_set_version: 1,
        full: true,
        pause_us: 1_234,
        schemas: [("g".to_owned(), SchemaDefaults { collation: "utf8mb4_0900_ai_ci".into() })].into(),
        tables: vec![dumped("apps", 0, 3), dumped("empty", 1, 0), dumped("zebras", 2, 1)],
        absent: vec![TableName::new("g", "gone")],
        writer: "tablecast 0.1.0".into(),
        extra: Default::default(),
    }
}

fn request() -> Request {
    Request {
        format: FORMAT,
        id: RequestId::new(5),
        stream: STREAM,
        regions: vec!["ap1".into(), "eu1".into()],
        tables: vec![TableName::new("g", "apps")],
        all_tables: false,
        mandatory: false,
        reason: "row 7 is gone".into(),
        body_sha256: "0a".repeat(32),
        joined: [(RequestId::new(9), "0b".repeat(32))].into(),
        state: RequestState::Queued,
        attempts: 0,
        not_before: Some(at(10)),
        created_at: at(1),
        updated_at: at(2),
        dump: None,
        seq: None,
        at: None,
        rows: 0,
        rows_total: 100,
        bytes: 0,
        eta_seconds: Some(3),
        error: None,
        extra: Default::default(),
    }
}

fn report() -> RegionReport {
    RegionReport {
        format: FORMAT,
        region: "eu1".into(),
        stream: STREAM,
        seq: Seq(7),
        chain: Chain::genesis(SOURCE),
        last_tx: StreamTx(70),
        base_tx: StreamTx(4),
        as_of: Some(at(5)),
        lag_seconds: Some(1),
        quarantined: vec![ReportedQuarantine {
            table: TableName::new("g", "apps"),
            since_tx: StreamTx(66),
            since: at(4),
            error: "1032".into(),
        }],
        left_out: vec!["g.out".parse().unwrap()],
        drifted: vec![ReportedDrift {
            table: "g.apps".parse().unwrap(),
            at_tx: StreamTx(1),
            found_at: at(9),
            what: "id 7 differs".into(),
        }],
        checked_at: Some(at(9)),
        restoring: vec![ReportedRestore {
            tables: vec![TableName::new("g", "apps")],
            dump: id(),
            state: "loading".into(),
            rows: 5,
            rows_total: 10,
        }],
        ghosts: Some(vec![TableName::new("g", "_apps_gho")]),
        last_error: Some("x".into()),
        failure: Some(ReportedFailure {
            at: at(5),
            job: "apply".into(),
            kind: "history".into(),
            exit_code: 10,
            hint: Some("y".into()),
            runbook: "docs/exit-codes.md#history".into(),
        }),
        paused: Some(Paused {
            reason: "disk full".into(),
            by: "ada@db3".into(),
            since: at(5),
            until: Some(at(9)),
        }),
        version: "0.1.0".into(),
        reported_at: at(6),
        extra: Default::default(),
    }
}

/// One of the three documents, by the function that reads it: whether what was read is sound, and its text again.
type Reader = fn(&[u8]) -> Result<(bool, Vec<u8>)>;

fn documents() -> [(Vec<u8>, Reader); 3] {
    [
        (manifest().to_json().unwrap(), |bytes| {
            let read = Manifest::parse(&id(), bytes)?;
            Ok((read.validate().is_ok(), read.to_json()?))
        }),
        (request().to_json().unwrap(), |bytes| {
            let read = Request::parse(&RequestId::new(5), bytes)?;
            Ok((read.validate().is_ok(), read.to_json()?))
        }),
        (report().to_json().unwrap(), |bytes| {
            let read = RegionReport::parse("eu1", bytes)?;
            Ok((read.validate().is_ok(), read.to_json()?))
        }),
    ]
}

#[test]
fn each_reads_back_as_it_was_written_and_gives_the_same_bytes_again() {
    for (bytes, reader) in documents() {
        assert_eq!(reader(&bytes).unwrap(), (true, bytes));
    }
    let parsed = Manifest::parse(&id(), &manifest().to_json().unwrap()).unwrap();
    assert_eq!(parsed, manifest());
    assert_eq!((parsed.rows(), parsed.bytes(), parsed.chunks().count()), (28, 200, 4));
    assert_eq!(parsed.table(&TableName::new("g", "zebras")).map(|table| table.rows), Some(7));
}

#[test]
fn every_bit_flip_and_every_truncation_is_refused() {
    for (bytes, reader) in documents() {
        for at in 0..bytes.len() {
            assert!(reader(&bytes[..at]).is_err(), "cut at {at}");
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            assert!(reader(&bytes).is_err(), "byte {at}: {}", String::from_utf8_lossy(&bytes));
        }
        assert!(reader(&[&bytes[..], b"\n"].concat()).is_err());
    }
}

#[test]
fn a_later_minor_version_is_read_and_its_members_are_kept_and_a_major_one_is_refused_by_name() {
    for (bytes, reader) in documents() {
        let minor = edited(&bytes, |v| {
            v["format"]["minor"] = json!(9);
            v["novelty"] = json!([1, {"x": null}]);
        });
        let again: Value = serde_json::from_slice(&reader(&minor).unwrap().1).unwrap();
        assert_eq!((&again["novelty"], &again["format"]["minor"]), (&json!([1, {"x": null}]), &json!(9)));
        let major = edited(&bytes, |v| v["format"]["major"] = json!(2));
        assert_eq!(reader(&major).unwrap_err().kind(), Kind::TooNew);
    }
}

/// The places in a document: pointers to every value in it.
fn places(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| places(value, format!("{at}/{name}"), found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, value)| places(value, format!("{at}/{i}"), found));
        }
        _ => {}
    }
    found.push(at);
}

fn odd_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|value| json!(value)),
        prop::sample::select(vec![0u64, 1, 7, 300, 1 << 53, i64::MAX as u64, u64::MAX])
            .prop_map(|value| json!(value)),
        Just(json!(-1)),
        Just(json!(1.5)),
        Just(json!([])),
        Just(json!({})),
        prop::sample::select(vec![
            "",
            "x",
            "g.apps",
            "mysql.user",
            "g.*",
            "\0",
            "queued",
            "uploaded",
            "failed",
            "gzip",
            "zstd",
            "index.json",
            "../../etc/passwd",
            "2026-01-01T00:00:00Z",
            "ffffffffffffffffffffffffffffffff",
            "20270115T080000000Z-deadbeef",
        ])
        .prop_map(|value| json!(value)),
        "\\PC{0,20}".prop_map(|value| json!(value)),
    ]
}

proptest! {
    #![proptest_config(cases(600))]

    /// Sealed again as its writer would: what is let in is sound, and reads back.
    #[test]
    fn an_edited_document_is_refused_or_sound(
        which in 0usize..3,
        edits in prop::collection::vec((any::<prop::sample::Index>(), odd_value(), 0u8..3), 1..4),
    ) {
        let (bytes, reader) = &documents()[which];
        let edited = edited(bytes, |document| {
            for (place, with, how) in edits {
                let mut found = Vec::new();
                places(document, String::new(), &mut found);
                found.retain(|place| !place.is_empty());
                let place = place.get(&found).clone();
                let (parent, name) = place.rsplit_once('/').unwrap();
                match document.pointer_mut(parent) {
                    Some(Value::Object(members)) if how == 0 => drop(members.remove(name)),
                    Some(Value::Array(items)) if how == 0 => drop(items.pop()),
                    Some(Value::Array(items)) if how == 1 && !items.is_empty() => items.push(items[0].clone()),
                    _ => *document.pointer_mut(&place).unwrap() = with,
                }
                if !document.is_object() {
                    *document = json!({});
                }
            }
        });
        if let Ok((is_sound, again)) = reader(&edited) {
            prop_assert!(is_sound);
            prop_assert!(reader(&again).is_ok());
        }
    }

    #[test]
    fn random_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[{\\[\"a-z:,0-9\\]}]{0,80}") {
        for (_, reader) in documents() {
            prop_assert!(reader(&bytes).is_err());
            prop_assert!(reader(text.as_bytes()).is_err());
        }
    }
}

fn refuses(result: Result<Vec<u8>>, message: &str) {
    let error = result.expect_err(message);
    assert!(matches!(error.kind(), Kind::Corrupt | Kind::Usage), "{error:?}");
    assert!(error.to_string().contains(message), "{error:?} does not say: {message}");
}

#[test]
fn every_invariant_of_a_manifest_is_checked() {
    type Edit = fn(&mut Manifest);
    let wrong: [(&str, Edit); 24] = [
        ("not sorted", |m| m.absent.push(m.absent[0].clone())),
        ("not sorted", |m| m.absent[0] = m.tables[0].table.clone()),
        ("format 2 is not 1", |m| m.format.major = 2),
        ("version 0", |m| m.table_set_version = 0),
        ("it names no table", |m| {
            m.full = false;
            m.tables.clear();
            m.absent.clear();
        }),
        ("not sorted", |m| m.tables.reverse()),
        ("not sorted", |m| m.tables[1].table = m.tables[0].table.clone()),
        ("of the server's", |m| m.tables[2].table = TableName::new("mysql", "user")),
        ("no defaults of the schema", |m| m.schemas.clear()),
        ("its definition is empty", |m| m.tables[0].create_table.clear()),
        ("no column can be called", |m| m.tables[0].columns[0].clear()),
        ("no column can be called", |m| m.tables[0].columns[0].push('\0')),
        ("no column can be called", |m| m.tables[0].columns[0] = "x".repeat(65)),
        ("two columns", |m| m.tables[0].columns[0] = m.tables[0].columns[1].clone()),
        ("has the key", |m| m.tables[0].chunks.swap(0, 1)),
        ("has the key", |m| m.tables[2].chunks[0].key = Key::chunk(&id(), 0, 0, Codec::Gzip)),
        ("has the key", |m| m.tables[2].chunks[0].codec = Codec::Zstd),
        ("said to be empty", |m| m.tables[0].chunks[0].size = 0),
        ("said to be empty", |m| m.tables[0].chunks[0].rows = 0),
        ("cannot hold", |m| m.tables[0].chunks[0].raw_size = 10),
        ("cannot hold", |m| m.tables[0].chunks[0].largest_statement = 501),
        ("its chunks hold", |m| m.tables[0].rows += 1),
        ("its chunks hold", |m| m.tables[0].checksum += RowsChecksum(1)),
        ("the longest statement", |m| m.tables[0].largest_statement -= 1),
    ];
    for (message, edit) in wrong {
        let mut manifest = manifest();
        edit(&mut manifest);
        refuses(manifest.to_json(), message);
    }
    let error = Manifest::parse(&DumpId::new(at(9), 1), &manifest().to_json().unwrap()).unwrap_err();
    assert!(error.to_string().contains("it is that of dump"), "{error}");
}

#[test]
fn every_invariant_of_a_request_is_checked() {
    type Edit = fn(&mut Request);
    let wrong: [(&str, Edit); 16] = [
        ("format 2 is not 1", |r| r.format.major = 2),
        ("lists some, or lists none", |r| r.tables.clear()),
        ("lists some, or lists none", |r| r.all_tables = true),
        ("not sorted", |r| r.tables.push(r.tables[0].clone())),
        ("of the server's", |r| r.tables = vec![TableName::new("tablecast", "position")]),
        ("1001 tables", |r| r.tables = (0..1_001).map(|n| TableName::new("g", format!("t{n:04}"))).collect()),
        ("0 regions wait", |r| r.regions.clear()),
        ("regions are not sorted", |r| r.regions.reverse()),
        ("regions are not sorted", |r| r.regions = vec![String::new()]),
        ("a text of more", |r| r.reason = "x".repeat(5_000)),
        ("a text of more", |r| r.error = Some("x".repeat(5_000))),
        ("body_sha256", |r| r.body_sha256 = "0A".repeat(32)),
        ("before it was made", |r| r.updated_at = at(0)),
        ("it is uploaded and names no dump", |r| r.state = RequestState::Uploaded),
        ("it is uploaded and names no dump", |r| {
            (r.state, r.dump, r.seq, r.at) =
                (RequestState::Uploaded, Some(id()), Some(Seq(0)), Some(StreamTx(0)));
        }),
        ("does not say why", |r| r.state = RequestState::Failed),
    ];
    for (message, edit) in wrong {
        let mut request = request();
        edit(&mut request);
        refuses(request.to_json(), message);
    }
}

#[test]
fn every_invariant_of_a_report_is_checked() {
    type Edit = fn(&mut RegionReport);
    let wrong: [(&str, Edit); 10] = [
        ("format 2 is not 1", |r| r.format.major = 2),
        ("not 1 to 64", |r| r.region.clear()),
        ("not 1 to 64", |r| r.region = "x".repeat(65)),
        ("above 2^63", |r| r.seq = Seq(u64::MAX)),
        ("at entry 0", |r| r.seq = Seq::ZERO),
        ("not sorted", |r| r.quarantined.push(r.quarantined[0].clone())),
        ("ghost tables are not sorted", |r| r.ghosts = Some(vec![r.quarantined[0].table.clone(); 2])),
        ("it names no table", |r| r.restoring[0].tables.clear()),
        ("a text of more", |r| r.quarantined[0].error = "x".repeat(5_000)),
        ("a text of more", |r| r.version = "x".repeat(5_000)),
    ];
    for (message, edit) in wrong {
        let mut report = report();
        edit(&mut report);
        refuses(report.to_json(), message);
    }
    let bytes = report().to_json().unwrap();
    assert!(RegionReport::parse("ap1", &bytes).unwrap_err().to_string().contains("it is of region \"eu1\""));
}

/// As a fault of whoever reads it, `status` and `stream prune` would end with another code; found by fuzzing.
#[test]
fn a_report_of_a_name_that_no_region_can_have_is_refused_as_damage() {
    for name in [String::new(), "x".repeat(65)] {
        let bytes = crate::stream::document::seal(&RegionReport { region: name, ..report() }, &[]);
        let error = RegionReport::parse("eu1", &bytes).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{error}");
    }
}

/// Somebody may send the service a stored report as it was read; found by fuzzing.
#[test]
fn a_document_that_was_sealed_before_gets_one_seal() {
    let mut twice: RegionReport = serde_json::from_slice(&report().to_json().unwrap()).unwrap();
    assert!(twice.extra.contains_key("sha256"));
    twice.extra.insert("later".into(), 7.into());
    let bytes = twice.to_json().unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes).matches("sha256").count(), 1);
    twice.extra.remove("sha256");
    assert_eq!(RegionReport::parse("eu1", &bytes).unwrap(), twice);
}

#[test]
fn a_request_goes_only_where_it_may() {
    use RequestState::{Cancelled, Failed, Queued, Running, Uploaded};
    let allowed = [
        (Queued, Queued),
        (Queued, Running),
        (Queued, Failed),
        (Queued, Cancelled),
        (Running, Queued),
        (Running, Running),
        (Running, Uploaded),
        (Running, Failed),
        (Running, Cancelled),
    ];
    for from in RequestState::ALL {
        for to in RequestState::ALL {
            let mut request = Request { state: from, ..request() };
            let result = request.advance(to, at(50));
            assert_eq!(result.is_ok(), allowed.contains(&(from, to)), "{from} to {to}");
            match result {
                Ok(()) => assert_eq!((request.state, request.updated_at), (to, at(50))),
                Err(error) => assert_eq!((error.kind(), request.state), (Kind::Conflict, from)),
            }
            assert_eq!(request.attempts, u32::from((from, to) == (Queued, Running)));
        }
        assert_eq!(from.is_final(), RequestState::ALL.iter().all(|to| !from.may_become(*to)));
    }
}

#[test]
fn the_same_idempotency_key_gives_the_same_request_and_no_other_does() {
    let id = RequestId::of_key(STREAM, "eu1", "k");
    assert_eq!(id, RequestId::of_key(STREAM, "eu1", "k"));
    for other in [
        RequestId::of_key(SOURCE, "eu1", "k"),
        RequestId::of_key(STREAM, "eu", "1k"),
        RequestId::of_key(STREAM, "eu1", "l"),
    ] {
        assert_ne!(id, other);
    }
    assert_eq!(id.to_string().parse::<RequestId>().unwrap(), id);
    assert!(id.to_string().to_uppercase().parse::<RequestId>().is_err());
}
