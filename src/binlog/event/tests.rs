//! Framing and parsers: real events are read, whatever is damaged is an error and never a panic.

use proptest::prelude::*;

use super::*;
use crate::binlog::gtid::Gtid;
use crate::binlog::name::TableName;
use crate::error::Kind;

const EVERYDAY: &[u8] = include_bytes!("../../../tests/fixtures/binlog/everyday.binlog");

/// Every event of a real binlog file.
fn real_events() -> Vec<Event> {
    let mut input = &EVERYDAY[MAGIC.len()..];
    let mut events = Vec::new();
    while let Some(event) = read_event(&mut input, Checksum::Crc32, "the fixture").unwrap() {
        events.push(event);
    }
    events
}

fn of_kind(wanted: u8) -> Vec<Event> {
    real_events().into_iter().filter(|event| event.kind() == wanted).collect()
}

/// Everything that reads the inside of an event.
fn parse_as_everything(event: &Event) {
    let _ = FormatDescription::parse(event);
    let _ = TableMap::parse(event);
    let _ = TableMap::parse_name(event);
    let _ = RowsHeader::parse(event);
    let _ = GtidEvent::parse(event);
    let _ = query_text(event);
    let _ = with_stmt_end(event.clone());
}

const PARSED_KINDS: [u8; 10] = [
    kind::FORMAT_DESCRIPTION,
    kind::TABLE_MAP,
    kind::WRITE_ROWS_V1,
    kind::UPDATE_ROWS,
    kind::PARTIAL_UPDATE_ROWS,
    kind::GTID,
    kind::ANONYMOUS_GTID,
    kind::GTID_TAGGED,
    kind::QUERY,
    kind::XID,
];

proptest! {
    #[test]
    fn i1_random_bytes_are_an_error_and_never_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..120),
        kind in prop::sample::select(&PARSED_KINDS),
        checksum in prop::sample::select(&[Checksum::None, Checksum::Crc32]),
    ) {
        prop_assert!(Event::from_bytes(bytes.clone(), Checksum::Crc32).is_err());
        let _ = read_event(&mut bytes.as_slice(), checksum, "random bytes");
        // The same bytes as the body of an event that is whole.
        let header = Header { timestamp: 0, kind, server_id: 0, size: 0, log_pos: 0, flags: 0 };
        parse_as_everything(&Event::build(header, &bytes, checksum));
    }

    #[test]
    fn i1_a_real_event_with_a_changed_byte_never_makes_a_parser_panic(
        event in prop::sample::select(real_events()),
        at: prop::sample::Index,
        byte: u8,
        cut: prop::sample::Index,
    ) {
        let mut body = event.body().to_vec();
        if !body.is_empty() {
            let at = at.index(body.len());
            body[at] = byte;
            let cut = cut.index(body.len() + 1);
            // Built anew, so that the checksum is right and only the parser stands in the way.
            parse_as_everything(&Event::build(event.header(), &body[..cut], Checksum::Crc32));
        }
        parse_as_everything(&Event::build(event.header(), &body, Checksum::Crc32));
    }

    #[test]
    fn a_gtid_event_round_trips_and_its_length_counts_itself(
        numbers in (any::<[u32; 2]>(), 0..1u64 << 60, 0..1u64 << 60),
        times in prop_oneof![
            (0..1u64 << 55).prop_map(|t| (t, t)),
            (0..1u64 << 55, 0..1u64 << 55)
        ],
        versions in prop_oneof![
            (0..1u32 << 31).prop_map(|v| (v, v)),
            (0..1u32 << 31, 0..1u32 << 31)
        ],
        may_have_sbr: bool,
        rest in prop_oneof![0..400u64, 65_300..65_600u64, 16_777_000..16_777_400u64, 1u64 << 31..1 << 33],
    ) {
        let ([timestamp, server_id], last_committed, sequence_number) = numbers;
        let mut written = GtidEvent {
            gtid: Some("3e11fa47-71ca-11e1-9e33-c80aa9429562:5".parse().unwrap()),
            last_committed,
            sequence_number,
            immediate_commit_us: times.0,
            original_commit_us: times.1,
            transaction_length: 0,
            immediate_server_version: versions.0,
            original_server_version: versions.1,
            may_have_sbr,
        };
        let event = written.to_event(timestamp, server_id, rest).unwrap();
        let read = GtidEvent::parse(&Event::from_bytes(event.bytes().to_vec(), Checksum::Crc32).unwrap()).unwrap();
        prop_assert_eq!(read.transaction_length, rest + event.bytes().len() as u64);
        written.transaction_length = read.transaction_length;
        prop_assert_eq!(read, written);
    }
}

#[test]
fn i1_no_bit_of_a_real_event_can_be_flipped_unseen() {
    for event in real_events().iter().filter(|event| event.bytes().len() < 300) {
        for bit in 0..event.bytes().len() * 8 {
            let mut bytes = event.bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let found = Event::from_bytes(bytes, Checksum::Crc32);
            let in_use_flag = event.kind() == kind::FORMAT_DESCRIPTION && bit == 17 * 8;
            // A format description that says that checksums are off is taken as it is; whoever wants
            // checksums sees that.
            let no_checksums = found.as_ref().is_ok_and(|event| {
                FormatDescription::parse(event).is_ok_and(|format| format.checksum == Checksum::None)
            });
            assert!(found.is_err() || in_use_flag || no_checksums, "bit {bit} of {event:?}");
        }
        for len in 0..event.bytes().len() {
            assert!(Event::from_bytes(event.bytes()[..len].to_vec(), Checksum::Crc32).is_err());
        }
    }
}

#[test]
fn an_input_that_ends_inside_an_event_says_how_far_it_came() {
    let mut input = &EVERYDAY[MAGIC.len()..][..60];
    let error = read_event(&mut input, Checksum::Crc32, "segments/7").unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    let expected = "read segments/7: it ends inside a Format_desc event, which has 123 bytes, after 60";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_header_that_claims_a_gigabyte_reserves_nothing() {
    let mut header = [0xff; HEADER_LEN];
    header[9..13].copy_from_slice(&(1u32 << 30).to_le_bytes());
    let error = read_event(&mut header.as_slice(), Checksum::None, "here").unwrap_err();
    assert!(error.to_string().contains("after 19"), "{error}");
}

#[test]
fn a_checksum_is_added_and_taken_away() {
    for event in real_events() {
        let bare = event.clone().with_checksum(Checksum::None);
        assert_eq!(bare.body(), event.body());
        let read = Event::from_bytes(bare.bytes().to_vec(), Checksum::None).unwrap();
        assert_eq!(read.with_checksum(Checksum::Crc32), event);
        let moved = event.clone().at_position(77);
        assert_eq!(Event::from_bytes(moved.bytes().to_vec(), Checksum::Crc32).unwrap().header().log_pos, 77);
    }
}

#[test]
fn a_real_format_description_is_read_and_written_for_a_segment() {
    let event = &real_events()[0];
    let format = FormatDescription::parse(event).unwrap();
    assert_eq!(format.checksum, Checksum::Crc32);
    assert!(format.version() >= (8, 0, 0), "{format:?}");
    let ours = format.to_event();
    assert_eq!(ours.header().flags, 0);
    assert_eq!(ours.header().log_pos as usize, MAGIC.len() + ours.bytes().len());
    assert_eq!(FormatDescription::parse(&ours).unwrap(), format);
    assert!(format.is_same_format(&FormatDescription::parse(&ours).unwrap()));
}

#[test]
fn a_format_description_with_other_layouts_is_refused() {
    let event = &real_events()[0];
    // The fixed part of a Table_map event, which stands at 57 + 19 - 1.
    let wrong = event.clone().edit_body(|body| body[75] = 6);
    let error = FormatDescription::parse(&wrong).unwrap_err();
    assert!(error.to_string().contains("Table_map events have 6 bytes of fixed data, not 8"), "{error}");
}

#[test]
fn real_gtid_events_are_read_tagged_or_not() {
    let plain = GtidEvent::parse(&of_kind(kind::GTID)[4]).unwrap();
    assert_eq!((plain.last_committed, plain.sequence_number), (4, 5));
    assert_eq!(plain.immediate_commit_us, plain.original_commit_us);
    assert!(plain.immediate_server_version >= 80_000, "{plain:?}");
    let tagged = of_kind(kind::GTID_TAGGED);
    let tagged = GtidEvent::parse(&tagged[0]).unwrap();
    let Gtid { tsid, number } = tagged.gtid.clone().unwrap();
    let plain_uuid = plain.gtid.clone().unwrap().tsid.uuid;
    assert_eq!((tsid.uuid, tsid.tag.unwrap().to_string(), number), (plain_uuid, "nightly".to_owned(), 1));
    assert_eq!(tagged.sequence_number, 9);
    assert_eq!(tagged.original_server_version, plain.original_server_version);
    assert!(tagged.immediate_commit_us > plain.immediate_commit_us);
    assert!(!tagged.may_have_sbr);
}

#[test]
fn the_length_in_a_real_gtid_event_leads_to_the_next_transaction() {
    let events = real_events();
    let starts: Vec<usize> = (0..events.len())
        .filter(|&at| matches!(events[at].kind(), kind::GTID | kind::GTID_TAGGED | kind::ROTATE))
        .collect();
    assert!(starts.len() > 30);
    for pair in starts.windows(2) {
        let length: usize = events[pair[0]..pair[1]].iter().map(|event| event.bytes().len()).sum();
        let gtid = GtidEvent::parse(&events[pair[0]]).unwrap();
        // A compressed transaction says what it has uncompressed.
        if events[pair[0] + 1].kind() != kind::TRANSACTION_PAYLOAD {
            assert_eq!(gtid.transaction_length, length as u64, "{gtid:?}");
        }
    }
}

#[test]
fn a_tagged_gtid_event_with_a_field_of_a_newer_server_is_read_only_if_that_server_allows_it() {
    let event = &of_kind(kind::GTID_TAGGED)[0];
    let with_field = |last_needed: u8| {
        let mut body = event.body().to_vec();
        // Both are small enough to be one byte: twice the value.
        body[1] += 2 * 2;
        body[2] = last_needed * 2;
        body.extend([12 * 2, 2]);
        GtidEvent::parse(&Event::build(event.header(), &body, Checksum::Crc32))
    };
    assert_eq!(with_field(0).unwrap(), GtidEvent::parse(event).unwrap());
    let error = with_field(12).unwrap_err();
    assert!(error.to_string().contains("field 12 must not be passed over"), "{error}");
}

#[test]
fn real_table_maps_are_read_with_names_signs_and_keys() {
    let maps: Vec<TableMap> =
        of_kind(kind::TABLE_MAP).iter().map(|event| TableMap::parse(event).unwrap()).collect();
    let apps = maps.iter().find(|map| map.table.to_string() == "g.apps").unwrap();
    assert_eq!(apps.column_names.as_deref().unwrap(), ["id", "name", "doc", "amount"]);
    assert_eq!(apps.primary_key.as_deref(), Some([0].as_slice()));
    let unsigned: Vec<_> = apps.columns.iter().map(|column| column.unsigned).collect();
    assert_eq!(unsigned, [Some(true), None, None, Some(false)]);
    let nullable: Vec<_> = apps.columns.iter().map(|column| column.nullable).collect();
    assert_eq!(nullable, [false, false, true, true]);
    assert_eq!(apps.columns[3].metadata, u16::from_le_bytes([10, 2]), "DECIMAL(10,2)");
    for event in of_kind(kind::TABLE_MAP) {
        let map = TableMap::parse(&event).unwrap();
        assert_eq!(TableMap::parse_name(&event).unwrap(), (map.table_id, map.table));
    }
}

#[test]
fn a_renamed_table_map_differs_in_its_name_only() {
    let to = TableName::new("g", "_tablecast_0123456789abcdef_new");
    for event in of_kind(kind::TABLE_MAP) {
        let renamed = TableMap::renamed(&event, &to).unwrap();
        let (before, after) = (TableMap::parse(&event).unwrap(), TableMap::parse(&renamed).unwrap());
        assert_eq!(after, TableMap { table: to.clone(), ..before.clone() });
        assert_eq!(TableMap::renamed(&renamed, &before.table).unwrap().bytes(), event.bytes());
        Event::from_bytes(renamed.bytes().to_vec(), renamed.checksum()).unwrap();
    }
}

#[test]
fn the_end_of_a_statement_is_marked_without_touching_the_rows() {
    let events: Vec<Event> = real_events().into_iter().filter(|event| kind::is_rows(event.kind())).collect();
    let open = events.iter().find(|event| !RowsHeader::parse(event).unwrap().ends_statement()).unwrap();
    let ended = with_stmt_end(open.clone()).unwrap();
    let (before, after) = (RowsHeader::parse(open).unwrap(), RowsHeader::parse(&ended).unwrap());
    assert!(after.ends_statement());
    assert_eq!(RowsHeader { flags: before.flags | STMT_END, ..before }, after);
    assert_eq!(open.body()[8..], ended.body()[8..]);
    assert_eq!(before.columns, 3);
    assert_eq!(before.change, Change::Update);
    assert!(Event::from_bytes(ended.into_bytes(), Checksum::Crc32).is_ok());
}

#[test]
fn the_text_of_a_query_event_is_found() {
    let texts: Vec<Vec<u8>> =
        of_kind(kind::QUERY).iter().map(|event| query_text(event).unwrap().to_vec()).collect();
    assert!(texts.contains(&b"BEGIN".to_vec()));
    assert!(texts.contains(&b"CREATE INDEX by_name ON g.apps (name)".to_vec()));
}
