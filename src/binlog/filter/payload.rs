//! TRANSACTION_PAYLOAD: a whole transaction's events, compressed. Unpacked as a stream.
//!
//! `Transaction_payload_event` and `codecs/binary.cpp` in libs/mysql/binlog/event: fields of type, length and
//! value, closed by a zero byte; then the payload. Events in it have no checksum of their own.

use std::io::{Read, Seek, SeekFrom};

use crate::binlog::event::{CHECKSUM_LEN, Checksum, Event, HEADER_LEN, Header, failed, read_event};
use crate::error::{Error, Kind, Result};

const WHENCE: &str = "a compressed payload";

/// `Transaction_payload_event`'s fields.
const END_OF_FIELDS: u64 = 0;
const PAYLOAD_SIZE: u64 = 1;
const COMPRESSION: u64 = 2;
const UNCOMPRESSED_SIZE: u64 = 3;

const ZSTD: u64 = 0;
const NOT_COMPRESSED: u64 = 255;

/// Verifies the checksum of an event's body by reading it once; gives it back from its start, without the
/// checksum.
pub(super) fn verified(header: Header, mut body: impl Read + Seek) -> Result<impl Read> {
    let io = |cause| failed(WHENCE, cause);
    let Some(len) = u64::from(header.size).checked_sub((HEADER_LEN + CHECKSUM_LEN) as u64) else {
        return Err(corrupt(format_args!("an event of {} bytes", header.size)));
    };
    let start = body.stream_position().map_err(io)?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header.to_bytes());
    let mut rest = len;
    let mut buffer = vec![0; 64 << 10];
    while rest > 0 {
        let want = rest.min(buffer.len() as u64) as usize;
        let got = body.read(&mut buffer[..want]).map_err(io)?;
        if got == 0 {
            return Err(corrupt(format_args!("it ends {rest} bytes too early")));
        }
        hasher.update(&buffer[..got]);
        rest -= got as u64;
    }
    let mut stored = [0; CHECKSUM_LEN];
    body.read_exact(&mut stored).map_err(io)?;
    let (stored, computed) = (u32::from_le_bytes(stored), hasher.finalize());
    if stored != computed {
        return Err(corrupt(format_args!("its checksum is {stored:08x}, its bytes give {computed:08x}")));
    }
    body.seek(SeekFrom::Start(start)).map_err(io)?;
    Ok(body.take(len))
}

/// Gives the payload's events one by one.
pub(super) fn unpack(mut body: impl Read, mut take: impl FnMut(Event) -> Result<()>) -> Result<()> {
    let (mut size, mut uncompressed, mut compression) = (None, None, None);
    loop {
        let field = length_encoded(&mut body)?;
        if field == END_OF_FIELDS {
            break;
        }
        let len = length_encoded(&mut body)?;
        if len > 9 {
            // No known field is longer than an integer.
            return Err(corrupt(format_args!("field {field} has {len} bytes")));
        }
        let mut value = vec![0; len as usize];
        body.read_exact(&mut value).map_err(|cause| failed(WHENCE, cause))?;
        let number = || length_encoded(&mut value.as_slice());
        match field {
            PAYLOAD_SIZE => size = Some(number()?),
            COMPRESSION => compression = Some(number()?),
            UNCOMPRESSED_SIZE => uncompressed = Some(number()?),
            _ => {}
        }
    }
    let Some(size) = size else { return Err(corrupt("it does not say its size")) };
    let packed = body.by_ref().take(size);
    let unpacked = match compression {
        Some(ZSTD) | None => {
            let decoder = zstd::stream::read::Decoder::new(packed).map_err(|cause| failed(WHENCE, cause))?;
            each_event(decoder, &mut take)?
        }
        Some(NOT_COMPRESSED) => each_event(packed, &mut take)?,
        Some(other) => return Err(corrupt(format_args!("unknown compression {other}"))),
    };
    if uncompressed.is_some_and(|expected| expected != unpacked) {
        let expected = uncompressed.unwrap_or_default();
        return Err(corrupt(format_args!("it unpacks to {unpacked} bytes, not {expected}")));
    }
    let mut more = [0];
    match body.read(&mut more).map_err(|cause| failed(WHENCE, cause))? {
        0 => Ok(()),
        _ => Err(corrupt("there are bytes behind its end")),
    }
}

/// Returns how many bytes they had.
fn each_event(mut input: impl Read, take: &mut impl FnMut(Event) -> Result<()>) -> Result<u64> {
    let mut total = 0;
    while let Some(event) = read_event(&mut input, Checksum::None, WHENCE)? {
        total += event.bytes().len() as u64;
        take(event)?;
    }
    Ok(total)
}

/// A length-encoded integer of the client protocol.
fn length_encoded(input: &mut impl Read) -> Result<u64> {
    let mut bytes = [0; 8];
    let mut read = |len: usize| -> Result<u64> {
        input.read_exact(&mut bytes[..len]).map_err(|cause| failed(WHENCE, cause))?;
        Ok(bytes[..len].iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    };
    match read(1)? {
        first @ 0..=0xfa => Ok(first),
        0xfc => read(2),
        0xfd => read(3),
        0xfe => read(8),
        first => Err(corrupt(format_args!("{first:#x} does not begin a number"))),
    }
}

fn corrupt(why: impl std::fmt::Display) -> Error {
    Error::new(Kind::Corrupt, format!("read {WHENCE}: {why}"))
}
