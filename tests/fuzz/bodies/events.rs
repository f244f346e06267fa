//! Events: how they are framed, what is in each, and the way of a whole transaction through the filter into a segment.
//!
//! The first byte says whether the rest is a binlog as it stands, or records from which events are made: kind, flags,
//! length, body, with the framing right.

use std::io::Cursor;

use tablecast::binlog::event::{
    Checksum, Event, FormatDescription, GtidEvent, Header, MAGIC, RowsHeader, TableMap, query_text,
    read_event,
};
use tablecast::binlog::filter::{Filter, Step};
use tablecast::binlog::name::TableSet;
use tablecast::binlog::note::Note;
use tablecast::binlog::query::QueryEvent;
use tablecast::binlog::segment::{Item, SegmentReader, SegmentWriter};
use tablecast::binlog::session::Session;
use uuid::Uuid;

const STREAM: Uuid = Uuid::from_u128(0x57);

pub fn events(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    match first {
        0 => framed(rest, Checksum::None),
        1 => framed(rest, Checksum::Crc32),
        _ => {
            let events = made(rest);
            events.iter().for_each(within);
            filtered(events);
        }
    }
}

fn framed(mut input: &[u8], checksum: Checksum) {
    while let Ok(Some(event)) = read_event(&mut input, checksum, "the fuzzer") {
        let again = Event::from_bytes(event.bytes().to_vec(), checksum).expect("it was read");
        assert_eq!(again.bytes(), event.bytes());
        assert_eq!(Header::parse(&event.header().to_bytes()).expect("it was read"), event.header());
        within(&event);
    }
}

/// Kind, flags, two bytes of length, and the body.
fn made(mut data: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    while let [kind, flags, low, high, rest @ ..] = data {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (body, more) = rest.split_at(length);
        let flags = u16::from(*flags);
        let header =
            Header { timestamp: 1_700_000_000, kind: *kind, server_id: 1, size: 0, log_pos: 0, flags };
        events.push(Event::build(header, body, Checksum::Crc32));
        data = more;
    }
    events
}

/// Whatever is understood is written as it is understood.
fn within(event: &Event) {
    if let Ok(format) = FormatDescription::parse(event) {
        let again = FormatDescription::parse(&format.to_event()).expect("as it was written");
        assert!(again.is_same_format(&format));
    }
    if let Ok(gtid) = GtidEvent::parse(event)
        && let Ok(written) = gtid.to_event(7, 1, 100)
    {
        let again = GtidEvent::parse(&written).expect("as it was written");
        assert_eq!(GtidEvent { transaction_length: 0, ..again }, GtidEvent { transaction_length: 0, ..gtid });
    }
    if let Ok(query) = QueryEvent::parse(event) {
        assert_eq!(query_text(event).expect("it was read"), query.text);
        if let Ok(session) = Session::of(event.header().timestamp, &query) {
            // I6: what sets the session is text that goes to a server.
            for statement in session.set_statements((8, 4, 0)) {
                assert!(statement.starts_with("SET "), "{statement:?}");
                assert!(!statement.contains(['\0', ';']), "{statement:?}");
            }
        }
    }
    if let Ok(map) = TableMap::parse(event) {
        assert_eq!(TableMap::parse_name(event).expect("it was read whole"), (map.table_id, map.table));
    }
    if let Ok(rows) = RowsHeader::parse(event) {
        assert_eq!(RowsHeader::parse_start(event).expect("it was read whole").0, rows.table_id);
    }
    if let Ok(Some(note)) = Note::from_event(event) {
        let written = note.to_event(7, 1).expect("it fits");
        assert_eq!(Note::from_event(&written).expect("as it was written"), Some(note));
    }
}

/// I3: what the filter keeps can be written into a segment, and read from it again.
fn filtered(events: Vec<Event>) {
    let set = TableSet::parse(&["g.apps", "h.*"]).expect("a set");
    let mut filter = Filter::new(set, &std::env::temp_dir()).watching(STREAM);
    let format = format();
    let description = FormatDescription::parse(&format).expect("a real one");
    let mut segment = SegmentWriter::new(Vec::new(), STREAM, &description, 1).expect("memory");
    let mut count = 0;
    for event in std::iter::once(format).chain(events) {
        match filter.push(event) {
            Ok(Step::Kept(mut transaction)) => {
                // Some come to nothing here: a tag has no form in the stream.
                if segment.push(&mut transaction, count).is_err() {
                    break;
                }
                count += 1;
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    let Ok((bytes, written)) = segment.finish() else { return };
    if written.count != count {
        return;
    }
    let mut reader = SegmentReader::new(Cursor::new(bytes), Some(STREAM)).expect("a segment");
    let mut read = 0;
    while let Some(item) = reader.next().expect("what was kept can be read") {
        read += u64::from(matches!(item, Item::Begin(_)));
    }
    assert_eq!(read, count);
}

/// The format description of a real server.
pub fn format() -> Event {
    let mut file = &include_bytes!("../../fixtures/binlog/everyday.binlog")[MAGIC.len()..];
    read_event(&mut file, Checksum::Crc32, "the fixture").expect("sound").expect("an event")
}
