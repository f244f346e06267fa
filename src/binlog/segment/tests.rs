//! What the writer makes, the reader gives back; what anything else makes, it refuses.

use std::io::{self, Read, Write};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::binlog::clock::SourceClock;
use crate::binlog::event::{
    Checksum, Event, FormatDescription, GtidEvent, Header, MAGIC, kind, query_text, read_event,
};
use crate::binlog::gtid::Gtid;
use crate::binlog::spool::Spool;
use crate::binlog::transaction::Transaction;
use crate::error::{Kind, Result};

const EVERYDAY: &[u8] = include_bytes!("../../../tests/fixtures/binlog/everyday.binlog");
const STREAM: Uuid = Uuid::from_u128(0x7ab1_eca5);

fn real_events() -> Vec<Event> {
    let mut input = &EVERYDAY[MAGIC.len()..];
    std::iter::from_fn(|| read_event(&mut input, Checksum::Crc32, "the fixture").unwrap()).collect()
}

fn format() -> FormatDescription {
    FormatDescription::parse(&real_events()[0]).unwrap()
}

/// The real transactions of the fixture that are not compressed and are shaped as a segment's are, unfiltered.
fn transactions() -> Vec<Transaction> {
    let mut all = Vec::new();
    let mut open: Option<Transaction> = None;
    for event in real_events() {
        if matches!(event.kind(), kind::GTID | kind::GTID_TAGGED | kind::ROTATE) {
            all.extend(open.take().filter(|transaction| !transaction.events.is_empty()));
        }
        match event.kind() {
            kind::GTID | kind::GTID_TAGGED => {
                let gtid = GtidEvent::parse(&event).unwrap();
                open = Some(transaction(gtid, event.header()));
            }
            kind::QUERY if query_text(&event).unwrap().starts_with(b"XA ") => open = None,
            kind::QUERY | kind::TABLE_MAP | kind::XID => append(&mut open, &event),
            kind if kind::is_rows(kind) => append(&mut open, &event),
            kind::XA_PREPARE | kind::INTVAR | kind::RAND | kind::USER_VAR | kind::BEGIN_LOAD_QUERY => {
                open = None
            }
            _ => {}
        }
    }
    all
}

fn transaction(gtid_event: GtidEvent, header: Header) -> Transaction {
    Transaction {
        source_gtid: gtid_event.gtid.clone().unwrap(),
        clock: SourceClock { file: 1, last_committed: 0, sequence_number: 1 },
        gtid_event,
        timestamp: header.timestamp,
        server_id: header.server_id,
        tables: Default::default(),
        ddl: None,
        schema: None,
        schema_collations: Vec::new(),
        events: Spool::new(&std::env::temp_dir()),
    }
}

fn append(open: &mut Option<Transaction>, event: &Event) {
    if let Some(transaction) = open {
        transaction.events.append(event.bytes()).unwrap();
    }
}

fn spooled(transaction: &mut Transaction) -> Vec<Event> {
    let mut input = transaction.events.reader().unwrap();
    std::iter::from_fn(|| read_event(&mut input, Checksum::Crc32, "the spool").unwrap()).collect()
}

fn segment(first: u64, transactions: &mut [Transaction]) -> (Vec<u8>, Written) {
    let mut writer = SegmentWriter::new(Vec::new(), STREAM, &format(), first).unwrap();
    for (at, transaction) in transactions.iter_mut().enumerate() {
        let n = writer.push(transaction, (first + at as u64).saturating_sub(3)).unwrap();
        assert_eq!(n, first + at as u64);
    }
    let bytes = writer.bytes();
    let (out, written) = writer.finish().unwrap();
    assert_eq!(written.bytes, out.len() as u64);
    assert!(bytes < written.bytes, "the STOP event is still to come");
    (out, written)
}

fn read(bytes: &[u8]) -> Result<Vec<(TransactionHead, Vec<Event>)>> {
    let mut reader = SegmentReader::new(bytes, Some(STREAM))?;
    let mut all: Vec<(TransactionHead, Vec<Event>)> = Vec::new();
    let mut inside = false;
    while let Some(item) = reader.next()? {
        match item {
            Item::Begin(head) => {
                assert!(!inside);
                inside = true;
                all.push((head, Vec::new()));
            }
            Item::Event(event) => all.last_mut().unwrap().1.push(event),
            Item::End => inside = false,
        }
    }
    assert!(!inside);
    assert!(reader.next()?.is_none(), "the end stays the end");
    Ok(all)
}

fn small_segment() -> Vec<u8> {
    let mut few: Vec<Transaction> =
        transactions().into_iter().filter(|transaction| transaction.events.len() < 500).take(3).collect();
    segment(1, &mut few).0
}

/// I1: what was compressed before its end was known stands where it would have stood.
#[test]
fn i1_a_transaction_written_while_it_was_read_is_the_same_as_one_written_whole() {
    let mut all = transactions();
    let at = all.iter().position(|one| one.ddl.is_none() && one.events.len() > 300).unwrap();
    let events = spooled(&mut all[at]);
    let rows: Vec<&Event> = events.iter().filter(|event| kind::is_rows(event.kind())).collect();
    let large = || {
        let mut transaction = transactions().swap_remove(at);
        transaction.events.clear();
        for event in events.iter().take_while(|event| !kind::is_rows(event.kind())) {
            transaction.events.append(event.bytes()).unwrap();
        }
        while transaction.events.len() < LARGE {
            rows.iter().for_each(|event| transaction.events.append(event.bytes()).unwrap());
        }
        transaction.events.append(events.last().unwrap().bytes()).unwrap();
        transaction
    };
    let mut whole = SegmentWriter::new(Vec::new(), STREAM, &format(), 7).unwrap();
    whole.push(&mut large(), 3).unwrap();
    whole.push(&mut transactions()[0], 7).unwrap();
    let (whole, written) = whole.finish().unwrap();

    let mut around = SegmentWriter::new(Vec::new(), STREAM, &format(), 7).unwrap();
    let mut transaction = large();
    let place = around.place_of_large(&transaction.source_gtid, &transaction.gtid_event).unwrap();
    let mut ahead = EventWriter::new(Vec::new(), place);
    let mut some = Spool::with_limit(&std::env::temp_dir(), 3 << 20);
    for event in spooled(&mut transaction) {
        some.append(event.bytes()).unwrap();
        if some.len() > 5 << 20 {
            ahead.push(&mut some).unwrap();
            assert!(some.is_empty());
        }
    }
    ahead.push(&mut some).unwrap();
    let (bytes, events) = ahead.finish().unwrap();
    let (n, out) = around.push_around(&transaction, 3, events).unwrap();
    assert_eq!(n, 7);
    out.extend_from_slice(&bytes);
    around.push(&mut transactions()[0], 7).unwrap();
    let (around, same) = around.finish().unwrap();
    assert_eq!(same, written);
    assert!(around == whole);
    assert_eq!(read(&whole).unwrap().len(), 2);

    // Elsewhere than it was made for.
    let mut other = SegmentWriter::new(Vec::new(), STREAM, &format(), 7).unwrap();
    other.push(&mut transactions()[0], 3).unwrap();
    assert_eq!(other.push_around(&transaction, 3, events).unwrap_err().kind(), Kind::Failed);
}

#[test]
fn i3_what_is_written_is_read_back_as_the_same_transactions() {
    let mut written = transactions();
    assert!(written.len() > 20);
    written[3].schema_collations.push(("g".to_owned(), "utf8mb4_bin".to_owned()));
    let (bytes, summary) = segment(41, &mut written);
    let last = 40 + written.len() as u64;
    assert_eq!((summary.first, summary.last, summary.count), (41, last, written.len() as u64));
    let back = read(&bytes).unwrap();
    assert_eq!(back.len(), written.len());
    for (at, (transaction, (head, events))) in written.iter_mut().zip(&back).enumerate() {
        assert_eq!((head.n, head.depends_on), (41 + at as u64, 38 + at as u64));
        assert_eq!(head.source_gtid, transaction.source_gtid);
        assert_eq!(head.note.schema_collations, transaction.schema_collations);
        assert_eq!(head.commit_us, transaction.commit_us());
        assert_eq!(head.timestamp, transaction.timestamp);
        let originals = spooled(transaction);
        assert_eq!(events.len(), originals.len());
        for (event, original) in events.iter().zip(&originals) {
            assert_eq!(event.body(), original.body());
            assert_eq!(event.header(), Header { log_pos: event.header().log_pos, ..original.header() });
        }
    }
}

#[test]
fn a_segment_is_a_binlog_of_the_streams_own_gtids() {
    let bytes = small_segment();
    let mut input = &bytes[MAGIC.len()..];
    let mut at = MAGIC.len();
    let mut kinds = Vec::new();
    while let Some(event) = read_event(&mut input, Checksum::Crc32, "a segment").unwrap() {
        at += event.bytes().len();
        assert_eq!(event.header().log_pos as usize, at, "{event:?}");
        kinds.push(event.kind());
        if event.kind() == kind::GTID {
            let gtid = GtidEvent::parse(&event).unwrap();
            assert_eq!(gtid.gtid, Some(Gtid::new(STREAM, gtid.sequence_number)));
        }
    }
    assert_eq!(kinds[..4], [kind::FORMAT_DESCRIPTION, kind::PREVIOUS_GTIDS, kind::GTID, kind::IGNORABLE]);
    assert_eq!(kinds.last(), Some(&kind::STOP));
}

#[test]
fn i1_every_single_bit_flip_of_a_small_segment_is_an_error() {
    let mut bytes = small_segment();
    assert!(read(&bytes).is_ok());
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let error = read(&bytes).expect_err("a flipped bit is found");
        assert_eq!(error.kind(), Kind::Corrupt, "bit {bit}: {error}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn i1_every_truncation_of_a_small_segment_is_an_error() {
    let bytes = small_segment();
    for len in 0..bytes.len() {
        let error = read(&bytes[..len]).expect_err("a truncated file is found");
        assert_eq!(error.kind(), Kind::Corrupt, "{len} bytes: {error}");
    }
    let error = read(&[bytes.as_slice(), b"x"].concat()).unwrap_err();
    assert!(error.to_string().contains("bytes behind its end"), "{error}");
}

/// Where each event of a file begins.
fn boundaries(bytes: &[u8]) -> Vec<usize> {
    let mut at = vec![MAGIC.len()];
    let mut input = &bytes[MAGIC.len()..];
    while let Some(event) = read_event(&mut input, Checksum::Crc32, "a segment").unwrap() {
        at.push(at.last().unwrap() + event.bytes().len());
    }
    at
}

#[test]
fn i3_an_event_that_is_removed_doubled_or_moved_is_an_error() {
    let bytes = small_segment();
    let bounds = boundaries(&bytes);
    for pair in bounds.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        let removed = [&bytes[..from], &bytes[to..]].concat();
        assert_eq!(read(&removed).expect_err("removed").kind(), Kind::Corrupt);
        let doubled = [&bytes[..to], &bytes[from..]].concat();
        assert_eq!(read(&doubled).expect_err("doubled").kind(), Kind::Corrupt);
    }
    for three in bounds.windows(3) {
        let (a, b, c) = (three[0], three[1], three[2]);
        let swapped = [&bytes[..a], &bytes[b..c], &bytes[a..b], &bytes[c..]].concat();
        assert_eq!(read(&swapped).expect_err("swapped").kind(), Kind::Corrupt);
    }
}

/// Puts right positions and checksums on whatever events are given.
fn file_of(events: &[Event]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for event in events {
        let end = bytes.len() + event.bytes().len();
        bytes.extend(event.clone().at_position(end as u32).bytes());
    }
    bytes
}

#[test]
fn i3_a_crafted_segment_whose_structure_is_wrong_is_an_error() {
    let bytes = small_segment();
    let mut input = &bytes[MAGIC.len()..];
    let events: Vec<Event> =
        std::iter::from_fn(|| read_event(&mut input, Checksum::Crc32, "a segment").unwrap()).collect();
    assert!(read(&file_of(&events)).is_ok());
    let without = |at: usize| {
        let mut events = events.clone();
        events.remove(at);
        file_of(&events)
    };
    let first_query = events.iter().position(|event| event.kind() == kind::QUERY).unwrap();
    for (name, file, why) in [
        ("no previous GTIDs", without(1), "in place of Previous_gtids"),
        ("no first transaction's GTID", without(2), "where a transaction should begin"),
        ("no note", without(3), "in place of the note"),
        ("no statement", without(first_query), "is not in its place"),
        ("no end", without(events.len() - 1), "it ends before its end"),
    ] {
        let error = read(&file).unwrap_err();
        assert!(error.to_string().contains(why), "{name}: {error}");
    }
    let mut twice = events.clone();
    twice.splice(2..2, events[2..=first_query].iter().cloned());
    let error = read(&file_of(&twice)).unwrap_err();
    assert!(error.to_string().contains(&format!("{STREAM}:1\" where {STREAM}:2 should be")), "{error}");
}

#[test]
fn a_segment_of_another_stream_is_refused() {
    let (bytes, _) = segment(7, &mut transactions()[..1]);
    let other = Uuid::from_u128(1);
    let error = SegmentReader::new(bytes.as_slice(), Some(other)).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains(&format!("of stream {STREAM}, not of {other}")), "{error}");
    // The first segment of a stream has no past that would name it.
    let (bytes, _) = segment(1, &mut transactions()[..1]);
    let mut reader = SegmentReader::new(bytes.as_slice(), Some(other)).unwrap();
    assert!(reader.next().is_err());
}

#[test]
fn a_segment_is_read_without_knowing_its_stream() {
    let (bytes, _) = segment(1, &mut transactions()[..1]);
    let mut reader = SegmentReader::new(bytes.as_slice(), None).unwrap();
    assert_eq!((reader.stream(), reader.next_n()), (None, 1));
    assert!(matches!(reader.next().unwrap(), Some(Item::Begin(_))));
    assert_eq!((reader.stream(), reader.next_n()), (Some(STREAM), 2));
}

#[test]
fn a_transaction_cannot_depend_on_itself_or_on_a_later_one() {
    let mut writer = SegmentWriter::new(Vec::new(), STREAM, &format(), 5).unwrap();
    let error = writer.push(&mut transactions()[0], 5).unwrap_err();
    assert_eq!(error.to_string(), "write stream transaction 5: it cannot depend on 5");
}

#[test]
fn a_full_disk_is_an_error_of_the_write() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let writer = SegmentWriter::new(Full, STREAM, &format(), 1).unwrap();
    let error = writer.finish().map(|_| ()).unwrap_err();
    assert_eq!((error.kind(), error.to_string()), (Kind::Failed, "write a segment".to_owned()));
}

#[test]
fn a_damaged_gzip_file_is_corrupt_and_not_an_error_of_the_machine() {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&small_segment()).unwrap();
    let packed = packed.finish().unwrap();
    for len in 0..packed.len() {
        let mut reader = flate2::read::GzDecoder::new(&packed[..len]);
        let mut all = Vec::new();
        // The segment may be whole where only gzip's own end is missing: then its size and md5 tell.
        if reader.read_to_end(&mut all).is_err() {
            let input = flate2::read::GzDecoder::new(&packed[..len]);
            let result = SegmentReader::new(input, Some(STREAM)).and_then(|mut reader| {
                while reader.next()?.is_some() {}
                Ok(())
            });
            assert!(result.as_ref().is_err_and(|error| error.kind() == Kind::Corrupt), "{len}: {result:?}");
        }
    }
}

proptest! {
    #[test]
    fn i1_random_bytes_never_make_the_reader_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        at: prop::sample::Index,
    ) {
        let _ = read(&bytes);
        let mut behind_a_head = small_segment();
        let bounds = boundaries(&behind_a_head);
        behind_a_head.truncate(bounds[at.index(bounds.len())]);
        behind_a_head.extend(&bytes);
        prop_assert!(bytes.is_empty() || read(&behind_a_head).is_err());
    }
}
