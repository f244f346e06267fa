//! The filter on real binlog files (tests/fixtures/binlog) and on events put together by hand.

use std::collections::HashMap;
use std::io::Cursor;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::binlog::event::{HEADER_LEN, MAGIC, RowsHeader, TableMap, query_text, read_event};
use crate::binlog::gtid::GtidSet;
use crate::binlog::segment::{Item, SegmentReader, SegmentWriter};
use crate::binlog::spool::TAKEN_AWAY;

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../../../tests/fixtures/binlog/", $name, ".binlog")).as_slice()
    };
}

fn events_of(mut file: &[u8]) -> Vec<Event> {
    file = &file[MAGIC.len()..];
    std::iter::from_fn(|| read_event(&mut file, Checksum::Crc32, "the fixture").unwrap()).collect()
}

fn set(patterns: &[&str]) -> TableSet {
    TableSet::parse(patterns).unwrap()
}

fn apps() -> TableSet {
    set(&["g.apps", "g.partners", "g.copied"])
}

#[derive(Debug, Default)]
struct Outcome {
    kept: Vec<Transaction>,
    foreign: Vec<Foreign>,
    set_changes: Vec<SetChange>,
}

fn run(set: TableSet, events: impl IntoIterator<Item = Event>) -> Result<Outcome> {
    let mut filter = Filter::new(set, &std::env::temp_dir());
    let mut outcome = Outcome::default();
    for event in events {
        match filter.push(event)? {
            Step::Kept(transaction) => outcome.kept.push(*transaction),
            Step::Foreign(foreign) => outcome.foreign.push(foreign),
            Step::TableSet(change) => outcome.set_changes.push(*change),
            Step::More | Step::Format(_) => {}
        }
    }
    assert!(filter.is_between_transactions());
    Ok(outcome)
}

fn refusal(set: TableSet, events: impl IntoIterator<Item = Event>) -> Error {
    run(set, events).map(|_| ()).unwrap_err()
}

fn kept_events(transaction: &mut Transaction) -> Vec<Event> {
    let mut input = transaction.events.reader().unwrap();
    std::iter::from_fn(|| read_event(&mut input, Checksum::Crc32, "the spool").unwrap()).collect()
}

/// The events as a reader of a test wants them; checks on the way that every rows event has its table map in its
/// own statement and that every statement ends.
fn told(transaction: &mut Transaction) -> Vec<String> {
    let mut maps = HashMap::new();
    let mut in_statement = false;
    let mut told = Vec::new();
    for event in kept_events(transaction) {
        assert!(!in_statement || event.kind() == kind::TABLE_MAP || kind::is_rows(event.kind()), "{told:?}");
        told.push(match event.kind() {
            kind::QUERY => String::from_utf8_lossy(query_text(&event).unwrap())
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" "),
            kind::XID => "XID".to_owned(),
            kind::TABLE_MAP => {
                let map = TableMap::parse(&event).unwrap();
                maps.insert(map.table_id, map.table.clone());
                format!("map {}", map.table)
            }
            _ => {
                let rows = RowsHeader::parse(&event).unwrap();
                let table = maps.get(&rows.table_id).expect("a table map in this statement").clone();
                in_statement = !rows.ends_statement();
                if rows.ends_statement() {
                    maps.clear();
                }
                let end = if rows.ends_statement() { ", end" } else { "" };
                format!("{} {table}{end}", event.header().name())
            }
        });
    }
    assert!(!in_statement);
    told
}

#[test]
fn i3_of_a_real_binlog_everything_of_the_set_is_kept_and_nothing_else() {
    let mut outcome = run(apps(), events_of(fixture!("everyday"))).unwrap();
    let told: Vec<Vec<String>> = outcome.kept.iter_mut().map(told).collect();
    let rows = |statement: &str| {
        let statement = statement.split("; ").map(str::to_owned);
        [vec!["BEGIN".to_owned()], statement.collect(), vec!["XID".to_owned()]].concat()
    };
    let ddl = |text: &str| vec![text.to_owned()];
    let write = "map g.apps; Write_rows g.apps, end";
    let update = "map g.apps; Update_rows g.apps, end";
    let expected = [
        ddl("CREATE TABLE g.apps (id INT UNSIGNED PRIMARY KEY, name VARCHAR(50) NOT NULL, doc JSON, amount \
             DECIMAL(10,2))"),
        rows(write),
        rows(&format!("{write}; {update}; {update}")),
        rows(write),
        rows(
            "CREATE TABLE `g`.`copied` ( `id` int unsigned NOT NULL, `name` varchar(50) COLLATE utf8mb4_bin NOT \
             NULL ) START TRANSACTION; map g.copied; Write_rows g.copied, end",
        ),
        rows(write),
        rows("map g.apps; Update_rows_partial g.apps, end"),
        rows(update),
        rows("map g.apps; Delete_rows g.apps, end"),
        rows(&format!("{write}; SAVEPOINT `sp`; {write}")),
        ddl("ALTER TABLE g.apps ADD COLUMN at TIMESTAMP NULL"),
        ddl("CREATE INDEX by_name ON g.apps (name)"),
        ddl("CREATE TABLE g.partners LIKE g.apps"),
        ddl("TRUNCATE TABLE g.copied"),
        ddl("RENAME TABLE g.copied TO g._copied_del"),
    ];
    for (told, expected) in told.iter().zip(&expected) {
        assert_eq!(told, expected);
    }
    assert_eq!(told.len(), expected.len());
}

#[test]
fn i3_every_transaction_of_a_real_binlog_is_kept_or_foreign_and_that_once() {
    let events = events_of(fixture!("everyday"));
    let all: Vec<Gtid> = events
        .iter()
        .filter(|event| matches!(event.kind(), kind::GTID | kind::GTID_TAGGED))
        .map(|event| GtidEvent::parse(event).unwrap().gtid.unwrap())
        .collect();
    let outcome = run(apps(), events).unwrap();
    assert_eq!(outcome.kept.len() + outcome.foreign.len(), all.len());
    let kept = outcome.kept.iter().map(|transaction| &transaction.source_gtid);
    let seen: GtidSet = kept.chain(outcome.foreign.iter().map(|foreign| &foreign.gtid)).collect();
    assert_eq!(seen, all.iter().collect());
    assert!(outcome.kept.iter().any(|transaction| transaction.source_gtid.tsid.tag.is_some()));
}

#[test]
fn what_upload_needs_to_know_of_a_transaction_is_told() {
    let outcome = run(apps(), events_of(fixture!("everyday"))).unwrap();
    for transaction in &outcome.kept {
        assert!(!transaction.tables.is_empty());
        assert!(transaction.commit_us() > 1_700_000_000_000_000);
        assert_eq!(transaction.clock.file, 1);
        assert!(transaction.clock.last_committed < transaction.clock.sequence_number);
    }
    let create = &outcome.kept[0];
    assert!(create.ddl.as_ref().unwrap().depends_on_schema_default);
    let rename = outcome.kept.last().unwrap();
    let tables: Vec<String> = rename.tables.iter().map(ToString::to_string).collect();
    assert_eq!(tables, ["g._copied_del", "g.copied"]);
    assert!(outcome.kept[1].ddl.is_none());
    let schemas: Vec<String> = outcome
        .foreign
        .iter()
        .filter_map(|foreign| foreign.schema.as_ref())
        .map(|ddl| {
            format!("{:?} {} {:?}", ddl.verb, ddl.schema, ddl.collation.as_deref().unwrap_or_default())
        })
        .collect();
    assert!(
        outcome.foreign.iter().all(|foreign| foreign.schema.is_some() == foreign.server_collation.is_some())
    );
    let expected = [
        "Create g \"utf8mb4_bin\"",
        "Create private \"\"",
        "Alter g \"utf8mb4_0900_ai_ci\"",
        "Drop private \"\"",
    ];
    assert_eq!(schemas, expected);
}

#[test]
fn i6_what_would_reach_the_set_but_cannot_travel_is_refused_by_name() {
    for (file, why) in [
        (fixture!("xa_on_the_set"), "it changes g.apps in an XA transaction"),
        (
            fixture!("statement_on_the_set"),
            "UPDATE as a statement: it names g.apps, which is in the table set",
        ),
        (
            fixture!("statement_elsewhere_on_the_set"),
            "INSERT as a statement: it may have changed something in g, where the table set has tables",
        ),
        (fixture!("load_data_on_the_set"), "as a statement: it names g.partners, which is in the table set"),
        (
            fixture!("mixed_drop"),
            "DROP TABLE names g._copied_del, which is in the table set, and other.u, which is not",
        ),
        (
            fixture!("rename_out_of_the_set"),
            "RENAME TABLE names g.partners, which is in the table set, and other.partners, which is not",
        ),
    ] {
        let error = refusal(apps(), events_of(file));
        assert_eq!(error.kind(), Kind::Gate, "{error}");
        assert!(error.hint_text().is_some(), "{error}");
        let text = error.to_string();
        assert!(text.starts_with("read source transaction ") && text.ends_with(why), "{text}");
    }
}

#[test]
fn i6_the_same_files_pass_where_the_set_has_nothing_to_do_with_them() {
    for file in [
        fixture!("everyday"),
        fixture!("xa_on_the_set"),
        fixture!("statement_on_the_set"),
        fixture!("statement_elsewhere_on_the_set"),
        fixture!("load_data_on_the_set"),
        fixture!("mixed_drop"),
        fixture!("rename_out_of_the_set"),
        fixture!("drop_database"),
    ] {
        assert!(run(set(&["elsewhere.t"]), events_of(file)).unwrap().kept.is_empty());
    }
}

#[test]
fn i6_drop_database_becomes_drops_of_exactly_the_sets_tables() {
    let mut outcome = run(set(&["g.apps", "h.x"]), events_of(fixture!("drop_database"))).unwrap();
    let told = told(&mut outcome.kept[0]);
    for ghost in ["apps", "_apps_gho", "_apps_ghc", "_apps_del", "_apps_new", "_apps_old"] {
        assert!(told[0].contains(&format!("`g`.`{ghost}`")), "{told:?}");
    }
    assert_eq!((told.len(), told[0].matches("`g`").count()), (1, 6), "{told:?}");
    assert!(told[0].starts_with("DROP TABLE IF EXISTS `g`.`"));
    assert_eq!(outcome.kept[0].schema.as_ref().unwrap().schema, "g");
    // It is read back as what it is meant to be, by the code that a region judges it by.
    let event = kept_events(&mut outcome.kept[0]).remove(0);
    assert!(matches!(
        statement::meaning_of(&event, &set(&["g.apps"])).unwrap(),
        statement::Meaning::Keep(..)
    ));
}

#[test]
fn i6_drop_database_under_a_pattern_is_refused() {
    let error = refusal(set(&["g.*"]), events_of(fixture!("drop_database")));
    assert_eq!(error.kind(), Kind::Gate);
    assert!(
        error.to_string().ends_with("DROP DATABASE g, of which the table set has every table"),
        "{error}"
    );
}

/// The first transaction of the fixture in which one statement changes g.apps and private.users.
fn multi_table() -> Vec<Event> {
    let events = events_of(fixture!("everyday"));
    let open =
        |event: &Event| kind::is_rows(event.kind()) && !RowsHeader::parse(event).unwrap().ends_statement();
    let inside = events.iter().position(open).unwrap();
    let start = events[..inside].iter().rposition(|event| event.kind() == kind::GTID).unwrap();
    let end = inside + events[inside..].iter().position(|event| event.kind() == kind::XID).unwrap();
    [&events[..1], &events[start..=end]].concat()
}

#[test]
fn i3_where_the_last_rows_of_a_statement_are_dropped_the_last_kept_ones_end_it() {
    // The server wrote private.users first, g.apps last: so this set keeps the first only.
    let mut outcome = run(set(&["private.users"]), multi_table()).unwrap();
    let told = told(&mut outcome.kept[0]);
    let update = ["map private.users", "Update_rows private.users, end"];
    let expected = [
        ["BEGIN", "map private.users", "Write_rows private.users, end"].as_slice(),
        &update,
        &update,
        &["map private.users", "Delete_rows private.users, end", "XID"],
    ];
    assert_eq!(told, expected.concat());
}

#[test]
fn i3_a_statement_that_is_kept_whole_is_not_changed_at_all() {
    let events = multi_table();
    let mut outcome = run(set(&["private.users", "g.apps"]), events.clone()).unwrap();
    let kept = kept_events(&mut outcome.kept[0]);
    assert_eq!(kept, events[2..]);
}

#[test]
fn i3_several_rows_events_of_a_statement_stay_in_order_and_only_the_last_ends_it() {
    let mut events = multi_table();
    // A large statement has many: the open ones of private.users again and again, between and behind.
    let open = events
        .iter()
        .position(|event| kind::is_rows(event.kind()) && !RowsHeader::parse(event).unwrap().ends_statement())
        .unwrap();
    let again = events[open].clone();
    events.splice(open..open, [again.clone(), again.clone()]);
    let mut outcome = run(set(&["private.users"]), events).unwrap();
    let told = told(&mut outcome.kept[0]);
    let rows: Vec<&String> = told.iter().filter(|line| line.starts_with("Update_rows")).collect();
    let (open, end) = ("Update_rows private.users", "Update_rows private.users, end");
    assert_eq!(rows, [open, open, end, end]);
}

/// Fewer, larger transactions: the fixture's transactions that are compressed.
fn compressed() -> (Event, Vec<(Event, Event)>) {
    let events = events_of(fixture!("everyday"));
    let payloads = events.windows(2).filter(|two| two[1].kind() == kind::TRANSACTION_PAYLOAD);
    let pairs = payloads.map(|two| (two[0].clone(), two[1].clone())).collect();
    (events[0].clone(), pairs)
}

fn large(payload: &Event, bytes: Vec<u8>, checksum: Checksum) -> Result<Step> {
    let (format, pairs) = compressed();
    let mut filter = Filter::new(apps(), &std::env::temp_dir());
    filter.push(format).unwrap();
    filter.push(pairs[0].0.clone()).unwrap();
    filter.push_payload(payload.header(), Cursor::new(bytes), checksum)
}

#[test]
fn i3_a_payload_too_large_to_hold_gives_what_one_that_is_held_gives() {
    let (format, pairs) = compressed();
    let (gtid, payload) = pairs[0].clone();
    let mut held = run(apps(), [format, gtid, payload.clone()]).unwrap().kept.remove(0);
    // As it came, and as the binlog connection gives it: its checksum verified and taken off.
    let with_checksum = payload.bytes()[HEADER_LEN..].to_vec();
    for (bytes, checksum) in [(with_checksum, Checksum::Crc32), (payload.body().to_vec(), Checksum::None)] {
        let Step::Kept(mut streamed) = large(&payload, bytes, checksum).unwrap() else {
            panic!("it is kept")
        };
        assert_eq!(kept_events(&mut held), kept_events(&mut streamed));
        assert!(told(&mut streamed).len() > 3);
    }
}

#[test]
fn i1_a_damaged_or_cut_payload_is_an_error() {
    let payload = compressed().1[0].1.clone();
    let whole = payload.bytes()[HEADER_LEN..].to_vec();
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(
            large(&payload, flipped, Checksum::Crc32).map(|_| ()).unwrap_err().kind(),
            Kind::Corrupt,
            "bit {bit}"
        );
    }
    for len in 0..whole.len() {
        let error = large(&payload, whole[..len].to_vec(), Checksum::Crc32).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{len} bytes: {error}");
    }
    for len in 0..payload.body().len() {
        let cut = payload.body()[..len].to_vec();
        let error = large(&payload, cut, Checksum::None).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{len} bytes: {error}");
    }
}

proptest! {
    #[test]
    fn i1_a_payload_that_is_wrong_under_a_right_checksum_is_an_error_or_harmless(
        at: prop::sample::Index,
        byte: u8,
        cut: prop::sample::Index,
    ) {
        let (format, pairs) = compressed();
        let (gtid, payload) = pairs[0].clone();
        let mut body = payload.body().to_vec();
        let at = at.index(body.len());
        body[at] = byte;
        body.truncate(cut.index(body.len()) + 1);
        let crafted = Event::build(payload.header(), &body, Checksum::Crc32);
        let _ = run_loosely(apps(), [format, gtid, crafted]);
    }

    #[test]
    fn i6_events_in_any_order_never_panic_and_never_let_another_table_through(
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..60),
    ) {
        let events = events_of(fixture!("everyday"));
        let picked = order.iter().map(|index| events[index.index(events.len())].clone());
        for mut transaction in run_loosely(apps(), std::iter::once(events[0].clone()).chain(picked)) {
            for event in kept_events(&mut transaction) {
                if event.kind() == kind::TABLE_MAP {
                    prop_assert!(apps().admits(&TableMap::parse(&event).unwrap().table));
                }
            }
        }
    }
}

/// What was kept until an error.
fn run_loosely(set: TableSet, events: impl IntoIterator<Item = Event>) -> Vec<Transaction> {
    let mut filter = Filter::new(set, &std::env::temp_dir());
    let mut kept = Vec::new();
    for event in events {
        match filter.push(event) {
            Ok(Step::Kept(transaction)) => kept.push(*transaction),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    kept
}

#[test]
fn i3_a_binlog_whose_structure_is_wrong_is_an_error() {
    let events = multi_table();
    let (format, gtid, begin) = (events[0].clone(), events[1].clone(), events[2].clone());
    let xid = events.last().unwrap().clone();
    let map = events.iter().find(|event| event.kind() == kind::TABLE_MAP).unwrap().clone();
    let rows = events.iter().find(|event| kind::is_rows(event.kind())).unwrap().clone();
    let open = events
        .iter()
        .find(|event| kind::is_rows(event.kind()) && !RowsHeader::parse(event).unwrap().ends_statement())
        .unwrap()
        .clone();
    let all = |events: &[&Event]| events.iter().map(|&event| event.clone()).collect::<Vec<_>>();
    for (name, events, why) in [
        ("no format", all(&[&gtid]), "before any format description"),
        ("no GTID", all(&[&format, &begin]), "outside a transaction"),
        ("a GTID inside", all(&[&format, &gtid, &begin, &gtid]), "before the transaction's end"),
        ("a new file inside", all(&[&format, &gtid, &begin, &format]), "before the transaction's end"),
        ("no BEGIN", all(&[&format, &gtid, &xid]), "at the end of what did not begin"),
        ("two BEGINs", all(&[&format, &gtid, &begin, &begin]), "is not in its place"),
        ("rows of nothing", all(&[&format, &gtid, &begin, &rows]), "which no table map names"),
        ("rows before BEGIN", all(&[&format, &gtid, &map, &rows]), "before BEGIN"),
        ("a statement without end", all(&[&format, &gtid, &begin, &map, &open, &xid]), "do not end"),
    ] {
        let error = refusal(set(&["private.users", "g.apps"]), events);
        assert_eq!(error.kind(), Kind::Corrupt, "{name}: {error}");
        assert!(error.to_string().contains(why), "{name}: {error}");
    }
}

/// An event as a server would write it.
fn made(kind: u8, body: &[u8]) -> Event {
    let header = Header { timestamp: 1, kind, server_id: 7, size: 0, log_pos: 900, flags: 0 };
    Event::build(header, body, Checksum::Crc32)
}

#[test]
fn a_transaction_without_a_gtid_is_refused() {
    let events = events_of(fixture!("everyday"));
    let mut body = events.iter().find(|event| event.kind() == kind::GTID).unwrap().body().to_vec();
    body[1..25].fill(0);
    let error = refusal(apps(), [events[0].clone(), made(kind::ANONYMOUS_GTID, &body)]);
    assert_eq!(error.kind(), Kind::Gate);
    assert!(error.hint_text().unwrap().contains("gtid_mode=ON"));
}

#[test]
fn an_incident_at_the_source_is_lost_history() {
    let format = events_of(fixture!("everyday"))[0].clone();
    let error = refusal(apps(), [format, made(kind::INCIDENT, b"\x01\0\x0ddisk was full")]);
    assert_eq!(error.kind(), Kind::History);
    assert!(error.to_string().ends_with("before 900: disk was full"), "{error}");
}

#[test]
fn an_event_of_a_newer_server_stops_the_filter_unless_that_server_says_that_it_may_be_ignored() {
    let events = multi_table();
    let newer = made(99, b"whatever");
    let ignorable = Event::build(Header { flags: 0x80, ..newer.header() }, b"whatever", Checksum::Crc32);
    let with = |event: Event| [&events[..3], &[event], &events[3..]].concat();
    assert_eq!(run(apps(), with(ignorable)).unwrap().kept.len(), 1);
    let error = refusal(apps(), with(newer));
    assert_eq!(error.kind(), Kind::Gate);
    assert!(error.to_string().contains("an event of kind 99"), "{error}");
}

#[test]
fn a_rollback_is_foreign_but_refused_if_it_left_changes_of_the_set() {
    let events = multi_table();
    let commit = events_of(fixture!("everyday"))
        .into_iter()
        .find(|event| event.kind() == kind::QUERY && query_text(event).unwrap() == b"COMMIT")
        .unwrap();
    let mut body = commit.body().to_vec();
    body.truncate(body.len() - b"COMMIT".len());
    let rollback = made(kind::QUERY, &[&body, b"ROLLBACK".as_slice()].concat());
    let rolled_back = [&events[..events.len() - 1], &[rollback]].concat();
    assert_eq!(run(set(&["elsewhere.t"]), rolled_back.clone()).unwrap().foreign.len(), 1);
    let error = refusal(apps(), rolled_back);
    assert_eq!(error.kind(), Kind::Gate);
    assert!(
        error
            .to_string()
            .ends_with("it changed g.apps and was rolled back, with changes that cannot be undone")
    );
}

#[test]
fn the_same_format_again_is_no_reason_to_cut_and_another_one_is() {
    let format = events_of(fixture!("everyday"))[0].clone();
    let mut filter = Filter::new(apps(), &std::env::temp_dir());
    assert!(matches!(filter.push(format.clone()).unwrap(), Step::Format(_)));
    assert!(matches!(filter.push(format.clone()).unwrap(), Step::More));
    let mut body = format.body().to_vec();
    body[2..7].copy_from_slice(b"8.0.1");
    let other = Event::build(format.header(), &body, Checksum::Crc32);
    let Step::Format(other) = filter.push(other).unwrap() else { panic!("another server wrote it") };
    assert!(other.server_version.starts_with("8.0.1"));
}

#[test]
fn i3_what_is_kept_of_a_real_binlog_is_a_segment_that_reads_back() {
    let events = events_of(fixture!("everyday"));
    let format = FormatDescription::parse(&events[0]).unwrap();
    let stream = uuid::Uuid::from_u128(9);
    let mut writer = SegmentWriter::new(Vec::new(), stream, &format, 1).unwrap();
    let mut clock = crate::binlog::clock::Clock::new(0);
    let mut outcome = run(apps(), events).unwrap();
    for transaction in &mut outcome.kept {
        let depends_on = clock.next(&transaction.clock);
        writer.push(transaction, depends_on).unwrap();
    }
    let (bytes, written) = writer.finish().unwrap();
    assert_eq!(written.last, outcome.kept.len() as u64);
    // For a look by hand, and by mysqlbinlog.
    if let Some(path) = std::env::var_os("TABLECAST_KEEP_SEGMENT") {
        std::fs::write(path, &bytes).unwrap();
    }
    let mut reader = SegmentReader::new(bytes.as_slice(), Some(stream)).unwrap();
    let mut heads = Vec::new();
    while let Some(item) = reader.next().unwrap() {
        if let Item::Begin(head) = item {
            heads.push(head.source_gtid);
        }
    }
    let expected: Vec<Gtid> =
        outcome.kept.iter().map(|transaction| transaction.source_gtid.clone()).collect();
    assert_eq!(heads, expected);
}

#[test]
fn table_maps_that_no_rows_followed_are_not_doubled_by_the_next_statement() {
    let events = multi_table();
    let map = events
        .iter()
        .find(|event| {
            event.kind() == kind::TABLE_MAP && TableMap::parse(event).unwrap().table.to_string() == "g.apps"
        })
        .unwrap()
        .clone();
    let before_rows = [&events[..3], &[map.clone(), map], &events[3..]].concat();
    let mut outcome = run(apps(), before_rows).unwrap();
    let told = told(&mut outcome.kept[0]);
    assert_eq!(told[..3], ["BEGIN", "map g.apps", "Write_rows g.apps, end"]);
}

#[test]
fn an_xa_transaction_on_other_tables_may_end_in_any_way() {
    let events = events_of(fixture!("everyday"));
    let text_of = |event: &Event| query_text(event).unwrap_or_default().to_vec();
    let start = events.iter().position(|event| text_of(event).starts_with(b"XA START")).unwrap();
    let over = events.iter().find(|event| text_of(event).starts_with(b"XA COMMIT")).unwrap();
    let prepare = events.iter().find(|event| event.kind() == kind::XA_PREPARE).unwrap();
    // Its GTID, XA START, table map, rows, XA END.
    let inside = &events[start - 1..start + 4];
    for last in [over, prepare] {
        let whole = [&events[..1], inside, std::slice::from_ref(last)].concat();
        assert_eq!(run(apps(), whole).unwrap().foreign.len(), 1);
        let without_rows = [&events[..1], &inside[..2], std::slice::from_ref(last)].concat();
        assert_eq!(run(set(&["private.users"]), without_rows).unwrap().foreign.len(), 1);
    }
    let unfinished = [&events[..1], inside, &[events[0].clone()]].concat();
    assert_eq!(refusal(apps(), unfinished).kind(), Kind::Corrupt);
}

#[test]
fn a_large_transaction_that_is_taken_away_while_it_is_read_needs_no_file() {
    let all = events_of(fixture!("everyday"));
    let is_map = |event: &Event| {
        event.kind() == kind::TABLE_MAP && apps().names(&TableMap::parse(event).unwrap().table)
    };
    let at = (2..all.len())
        .find(|&at| {
            let rows = all.get(at + 1).filter(|event| kind::is_rows(event.kind()));
            is_map(&all[at])
                && all[at - 1].kind() == kind::QUERY
                && all[at - 2].kind() == kind::GTID
                && rows.is_some_and(|rows| RowsHeader::parse(rows).unwrap().ends_statement())
        })
        .expect("a transaction of one statement that begins with these");
    // There is no such folder.
    let mut filter = Filter::new(apps(), Path::new("/nowhere/at/all"));
    for event in [&all[0], &all[at - 2], &all[at - 1]] {
        filter.push(event.clone()).unwrap();
    }
    let mut taken = 0;
    while taken < 5 << 20 {
        for event in [&all[at], &all[at + 1]] {
            filter.push(event.clone()).unwrap();
            if let Some(under_way) = filter.under_way(TAKEN_AWAY) {
                taken += under_way.events.len();
                under_way.events.clear();
            }
        }
    }
}
