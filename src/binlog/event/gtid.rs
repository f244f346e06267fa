//! GTID events: the one that begins every transaction.
//!
//! `Gtid_event` in libs/mysql/binlog/event/control_events.h and .cpp. GTID (33) and ANONYMOUS_GTID (34) have a
//! fixed layout that grew at its end; GTID_TAGGED (42, since 8.3) is a message of `libs/mysql/serialization`
//! (readme.md there). Written is only the first: a stream's transactions have no tag.

use uuid::Uuid;

use super::{CHECKSUM_LEN, Checksum, Event, HEADER_LEN, Header, kind};
use crate::binlog::gtid::bytes::read_tag;
use crate::binlog::gtid::{Gtid, MAX_NUMBER, Tsid};
use crate::binlog::wire::{Cursor, put_length_encoded};
use crate::error::{Error, Kind, Result};

/// What a server without an answer writes as a version.
pub const UNDEFINED_VERSION: u32 = 999_999;

const FLAG_MAY_HAVE_SBR: u8 = 1;
/// Says that the logical clock follows.
const LOGICAL_TIMESTAMP: u8 = 2;
/// The bit of the seven bytes of a commit time that says that the original one follows.
const TWO_TIMES: u64 = 1 << 55;
/// The same for the server's version.
const TWO_VERSIONS: u32 = 1 << 31;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GtidEvent {
    /// None: anonymous.
    pub gtid: Option<Gtid>,
    /// The logical clock: this transaction may start when every one up to `last_committed` has committed.
    /// Counts within one binlog file. Both 0 if the server did not say.
    pub last_committed: u64,
    pub sequence_number: u64,
    /// Microseconds since 1970, at the server that wrote this binlog; 0 if it did not say.
    pub immediate_commit_us: u64,
    /// The same at the server where the transaction began.
    pub original_commit_us: u64,
    /// Bytes from this event to the end of the transaction, both included; 0 if the server did not say.
    pub transaction_length: u64,
    /// As 80403 for 8.4.3.
    pub immediate_server_version: u32,
    pub original_server_version: u32,
    /// The transaction may hold statements, DDL among them.
    pub may_have_sbr: bool,
}

impl GtidEvent {
    pub fn parse(event: &Event) -> Result<GtidEvent> {
        match event.kind() {
            kind::GTID | kind::ANONYMOUS_GTID => parse_fixed(event),
            kind::GTID_TAGGED => parse_tagged(event),
            _ => {
                let what = format!("read a GTID event: this is a {} event", event.header().name());
                Err(Error::new(Kind::Corrupt, what))
            }
        }
    }

    /// The event, of kind GTID, with `transaction_length` set for `rest` bytes that follow it in its
    /// transaction. The length counts the event itself, whose own size depends on the length.
    pub fn to_event(&self, timestamp: u32, server_id: u32, rest: u64) -> Result<Event> {
        let Some(Gtid { tsid: Tsid { uuid, tag: None }, number }) = &self.gtid else {
            let what = format!("write a GTID event: {:?} has no form without a tag", self.gtid);
            return Err(Error::new(Kind::Failed, what));
        };
        let mut body = Vec::with_capacity(80);
        body.push(if self.may_have_sbr { FLAG_MAY_HAVE_SBR } else { 0 });
        body.extend(uuid.as_bytes());
        body.extend(number.to_le_bytes());
        body.push(LOGICAL_TIMESTAMP);
        body.extend(self.last_committed.to_le_bytes());
        body.extend(self.sequence_number.to_le_bytes());
        let one_time = self.immediate_commit_us == self.original_commit_us;
        let times =
            [self.immediate_commit_us | if one_time { 0 } else { TWO_TIMES }, self.original_commit_us];
        for time in &times[..if one_time { 1 } else { 2 }] {
            body.extend(&time.to_le_bytes()[..7]);
        }
        let one_version = self.immediate_server_version == self.original_server_version;
        let versions_len = if one_version { 4 } else { 8 };
        let others = HEADER_LEN + body.len() + versions_len + CHECKSUM_LEN;
        put_length_encoded(&mut body, length_with_itself(rest + others as u64));
        let flag = if one_version { 0 } else { TWO_VERSIONS };
        body.extend((self.immediate_server_version | flag).to_le_bytes());
        if !one_version {
            body.extend(self.original_server_version.to_le_bytes());
        }
        let header = Header { timestamp, kind: kind::GTID, server_id, size: 0, log_pos: 0, flags: 0 };
        Ok(Event::build(header, &body, Checksum::Crc32))
    }
}

/// `without` plus the size of the length-encoded integer that holds the sum.
fn length_with_itself(without: u64) -> u64 {
    let size = |value: u64| match value {
        0..=0xfa => 1,
        0xfb..=0xffff => 3,
        0x1_0000..=0xff_ffff => 4,
        _ => 9,
    };
    let mut whole = without + 1;
    while whole != without + size(whole) {
        whole = without + size(whole);
    }
    whole
}

fn parse_fixed(event: &Event) -> Result<GtidEvent> {
    let mut input = Cursor::new("GTID event", event.body());
    let flags = input.u8()?;
    let uuid = read_uuid(input.bytes(16)?);
    let number = input.u64()?;
    let gtid = match event.kind() {
        kind::ANONYMOUS_GTID => None,
        _ => Some(gtid(&input, Tsid::untagged(uuid), number)?),
    };
    let mut parsed = GtidEvent { may_have_sbr: flags & FLAG_MAY_HAVE_SBR != 0, ..GtidEvent::of(gtid) };
    // 5.7.4 and older wrote another type code here and other things behind it.
    if input.is_empty() || input.u8()? != LOGICAL_TIMESTAMP {
        return Ok(parsed);
    }
    parsed.last_committed = input.u64()?;
    parsed.sequence_number = input.u64()?;
    if input.is_empty() {
        return Ok(parsed);
    }
    let immediate = input.int(7)?;
    parsed.immediate_commit_us = immediate & !TWO_TIMES;
    parsed.original_commit_us =
        if immediate & TWO_TIMES == 0 { parsed.immediate_commit_us } else { input.int(7)? };
    if input.is_empty() {
        return Ok(parsed);
    }
    parsed.transaction_length = input.length_encoded()?;
    if input.is_empty() {
        return Ok(parsed);
    }
    let immediate = input.u32()?;
    parsed.immediate_server_version = immediate & !TWO_VERSIONS;
    parsed.original_server_version =
        if immediate & TWO_VERSIONS == 0 { parsed.immediate_server_version } else { input.u32()? };
    // A commit group ticket may follow; it means something inside the server only.
    Ok(parsed)
}

fn parse_tagged(event: &Event) -> Result<GtidEvent> {
    let mut input = Cursor::new("tagged GTID event", event.body());
    let version = input.varint()?;
    if version != 1 {
        return Err(input.corrupt(format_args!("serialization version {version}, not 1")));
    }
    let size = input.varint()?;
    if size != event.body().len() as u64 {
        return Err(input.corrupt(format_args!("the message says {size} bytes")));
    }
    let last_needed = input.varint()?;
    let (mut uuid, mut number, mut tag) = (None, None, None);
    let mut original_commit_us = None;
    let mut original_server_version = None;
    let mut parsed = GtidEvent::of(None);
    let mut before = None;
    while !input.is_empty() {
        let field = input.varint()?;
        if before.is_some_and(|before| field <= before) {
            return Err(input.corrupt(format_args!("field {field} is not in its place")));
        }
        before = Some(field);
        match field {
            0 => parsed.may_have_sbr = input.varint()? & u64::from(FLAG_MAY_HAVE_SBR) != 0,
            1 => {
                let mut bytes = [0; 16];
                for byte in &mut bytes {
                    let value = input.varint()?;
                    *byte = u8::try_from(value).map_err(|_| input.corrupt("a byte above 255"))?;
                }
                uuid = Some(Uuid::from_bytes(bytes));
            }
            2 => number = Some(unsigned(&mut input)?),
            3 => tag = read_tag(&mut input)?,
            4 => parsed.last_committed = unsigned(&mut input)?,
            5 => parsed.sequence_number = unsigned(&mut input)?,
            6 => parsed.immediate_commit_us = input.varint()?,
            7 => original_commit_us = Some(input.varint()?),
            8 => parsed.transaction_length = input.varint()?,
            9 => parsed.immediate_server_version = server_version(&mut input)?,
            10 => original_server_version = Some(server_version(&mut input)?),
            11 => {
                // The commit group ticket.
                input.varint()?;
            }
            // A field of a newer server. Its length is not known, so nothing behind it can be read: fine
            // as long as that server says that it may be passed over, since newer fields come last.
            _ if field > last_needed => break,
            _ => {
                let why = format!("field {field} must not be passed over, and this version does not know it");
                return Err(input.corrupt(why));
            }
        }
    }
    let (Some(uuid), Some(number)) = (uuid, number) else {
        return Err(input.corrupt("it names no transaction"));
    };
    parsed.gtid = Some(gtid(&input, Tsid { uuid, tag }, number)?);
    parsed.original_commit_us = original_commit_us.unwrap_or(parsed.immediate_commit_us);
    parsed.original_server_version = original_server_version.unwrap_or(parsed.immediate_server_version);
    Ok(parsed)
}

impl GtidEvent {
    fn of(gtid: Option<Gtid>) -> GtidEvent {
        GtidEvent {
            gtid,
            last_committed: 0,
            sequence_number: 0,
            immediate_commit_us: 0,
            original_commit_us: 0,
            transaction_length: 0,
            immediate_server_version: UNDEFINED_VERSION,
            original_server_version: UNDEFINED_VERSION,
            may_have_sbr: true,
        }
    }
}

fn gtid(input: &Cursor<'_>, tsid: Tsid, number: u64) -> Result<Gtid> {
    match number {
        1..=MAX_NUMBER => Ok(Gtid { tsid, number }),
        _ => Err(input.corrupt(format_args!("{number} is not the number of a transaction"))),
    }
}

fn read_uuid(bytes: &[u8]) -> Uuid {
    Uuid::from_slice(bytes).unwrap_or_default()
}

/// A signed field that is never negative.
fn unsigned(input: &mut Cursor<'_>) -> Result<u64> {
    let value = input.signed_varint()?;
    u64::try_from(value).map_err(|_| input.corrupt(format_args!("{value} is negative")))
}

fn server_version(input: &mut Cursor<'_>) -> Result<u32> {
    let value = input.varint()?;
    u32::try_from(value).map_err(|_| input.corrupt(format_args!("{value} is not a version")))
}
