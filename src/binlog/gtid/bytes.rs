//! Sets as bytes: the body of a PREVIOUS_GTIDS event, and what COM_BINLOG_DUMP_GTID sends.
//!
//! `Gtid_set::encode` in sql/rpl_gtid_set.cc. A count of name spaces, then each with its UUID, its intervals
//! (first, one past the last). A set with tags has 1 in the highest and lowest byte of the count and a tag, perhaps
//! empty, behind every UUID; servers before 8.3 do not read that form, and a set without tags never takes it.

use uuid::Uuid;

use super::{GtidSet, MAX_NUMBER, Tag, Tsid};
use crate::binlog::wire::{Cursor, put_varint};
use crate::error::Result;

const TAGGED: u64 = 1;

impl GtidSet {
    pub fn encode(&self) -> Vec<u8> {
        let tagged = self.intervals().any(|(tsid, _)| tsid.tag.is_some());
        let spaces = self.intervals().count() as u64;
        let mut out = Vec::new();
        let header = if tagged { TAGGED << 56 | spaces << 8 | TAGGED } else { spaces };
        out.extend(header.to_le_bytes());
        for (tsid, intervals) in self.intervals() {
            out.extend(tsid.uuid.as_bytes());
            if tagged {
                let tag = tsid.tag.as_ref().map_or("", Tag::as_str);
                put_varint(&mut out, tag.len() as u64);
                out.extend(tag.as_bytes());
            }
            out.extend((intervals.len() as u64).to_le_bytes());
            for &(first, last) in intervals {
                out.extend(first.to_le_bytes());
                out.extend((last + 1).to_le_bytes());
            }
        }
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<GtidSet> {
        let mut input = Cursor::new("GTID set", bytes);
        let header = input.u64()?;
        let (tagged, spaces) = match header >> 56 {
            0 => (false, header),
            TAGGED => (true, header << 8 >> 16),
            format => return Err(input.corrupt(format_args!("unknown encoding {format}"))),
        };
        let mut set = GtidSet::new();
        for _ in 0..spaces {
            let mut uuid = [0; 16];
            uuid.copy_from_slice(input.bytes(16)?);
            let mut tsid = Tsid::untagged(Uuid::from_bytes(uuid));
            if tagged {
                tsid.tag = read_tag(&mut input)?;
            }
            let mut end = 0;
            for _ in 0..input.u64()? {
                let (first, past) = (input.u64()?, input.u64()?);
                if first <= end || past <= first || past > MAX_NUMBER + 1 {
                    return Err(input.corrupt(format_args!("interval {first} to {past} after {end}")));
                }
                set.insert_range(&tsid, first, past - 1);
                end = past;
            }
        }
        if !input.is_empty() {
            return Err(input.corrupt("more bytes than the set has"));
        }
        Ok(set)
    }
}

/// A string of `libs/mysql/serialization`: its length, then its bytes; empty for no tag.
pub(in crate::binlog) fn read_tag(input: &mut Cursor<'_>) -> Result<Option<Tag>> {
    let len = input.varint()?;
    if len > Tag::MAX_LEN as u64 {
        return Err(input.corrupt(format_args!("a tag of {len} bytes")));
    }
    let bytes = input.bytes(len as usize)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let tag = std::str::from_utf8(bytes).ok().and_then(Tag::new);
    tag.map(Some).ok_or_else(|| input.corrupt("this is not a tag"))
}
