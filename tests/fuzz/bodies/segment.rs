//! The reader of segments, on binlogs whose framing and checksums are right and whose content is at will.

use std::io::Cursor;

use tablecast::binlog::event::{Checksum, Event, HEADER_LEN, MAGIC};
use tablecast::binlog::segment::{Item, SegmentReader};

use super::is_of_the_bucket;

/// More than any input holds.
const MOST: usize = 100_000;

pub fn segment(data: &[u8]) {
    read(data);
    read(&framed(data));
}

fn read(bytes: &[u8]) {
    let mut reader = match SegmentReader::new(Cursor::new(bytes), None) {
        Ok(reader) => reader,
        Err(error) => return is_of_the_bucket(&error),
    };
    let (mut last, mut is_open) = (None, false);
    for _ in 0..MOST {
        match reader.next() {
            Ok(Some(Item::Begin(begin))) => {
                assert!(!is_open, "a transaction begins in another");
                assert!(last.is_none_or(|last| begin.n == last + 1), "{} behind {last:?}", begin.n);
                assert!(reader.stream().is_some());
                (last, is_open) = (Some(begin.n), true);
            }
            Ok(Some(Item::Event(_))) => assert!(is_open, "an event outside of any transaction"),
            Ok(Some(Item::End)) => {
                assert!(is_open, "an end without a beginning");
                is_open = false;
            }
            Ok(None) => {
                assert!(!is_open, "the end of the file inside a transaction");
                return;
            }
            Err(error) => return is_of_the_bucket(&error),
        }
    }
    panic!("it goes on for ever");
}

/// Lengths, positions and checksums as they must be. Each event's own length says where the next one begins.
fn framed(data: &[u8]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    let mut rest = data.strip_prefix(&MAGIC).unwrap_or(data);
    while let Some((header, _)) = rest.split_first_chunk::<HEADER_LEN>() {
        let length = u32::from_le_bytes([header[9], header[10], header[11], header[12]]) as usize;
        let length = length.clamp(HEADER_LEN + 4, rest.len().max(HEADER_LEN + 4)).min(rest.len());
        let (event, more) = rest.split_at(length);
        rest = more;
        let Some(body) = event.get(HEADER_LEN..event.len().saturating_sub(4)) else { break };
        let Ok(mut header) = tablecast::binlog::event::Header::parse(header) else { break };
        header.size = 0;
        let event = Event::build(header, body, Checksum::Crc32);
        let end = bytes.len() + event.bytes().len();
        bytes.extend(event.at_position(u32::try_from(end).unwrap_or(0)).bytes());
    }
    bytes
}
