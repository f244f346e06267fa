//! Reading numbers and bytes out of an event: every read says whether the bytes are there.
//!
//! Little-endian integers, MySQL's two variable-length integers (length-encoded: "Protocol::LengthEncodedInteger"
//! of the client protocol; and that of `libs/mysql/serialization`), nothing else. A read past the end is
//! `Kind::Corrupt` and names what was being read.

use crate::error::{Error, Kind, Result};

/// Walks over bytes; `what` names them in errors.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
    whole: usize,
    what: &'static str,
}

impl<'a> Cursor<'a> {
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { rest: bytes, whole: bytes.len(), what }
    }

    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// An error about these bytes.
    pub fn corrupt(&self, why: impl std::fmt::Display) -> Error {
        let at = self.whole - self.rest.len();
        Error::new(Kind::Corrupt, format!("{}: {why} (byte {at} of {})", self.what, self.whole))
    }

    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            return Err(self.corrupt(format_args!("{len} bytes are needed, {} are left", self.rest.len())));
        };
        self.rest = rest;
        Ok(taken)
    }

    /// `len` bytes, at most eight, as a little-endian integer.
    pub fn int(&mut self, len: usize) -> Result<u64> {
        let taken = self.bytes(len)?;
        Ok(taken.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.int(1)? as u8)
    }

    pub fn u16(&mut self) -> Result<u16> {
        Ok(self.int(2)? as u16)
    }

    pub fn u32(&mut self) -> Result<u32> {
        Ok(self.int(4)? as u32)
    }

    pub fn u64(&mut self) -> Result<u64> {
        self.int(8)
    }

    /// A length-encoded integer of the client protocol.
    pub fn length_encoded(&mut self) -> Result<u64> {
        match self.u8()? {
            first @ 0..=0xfa => Ok(u64::from(first)),
            0xfc => self.int(2),
            0xfd => self.int(3),
            0xfe => self.int(8),
            first => Err(self.corrupt(format_args!("{first:#x} does not begin a length-encoded integer"))),
        }
    }

    /// A length-encoded integer that counts bytes or things of which each takes at least one byte.
    pub fn length(&mut self) -> Result<usize> {
        let value = self.length_encoded()?;
        usize::try_from(value).map_err(|_| self.corrupt(format_args!("{value} is not a length")))
    }

    /// An unsigned variable-length integer of `libs/mysql/serialization` (readme.md there).
    pub fn varint(&mut self) -> Result<u64> {
        let first = self.u8()?;
        let ones = first.trailing_ones() as usize;
        if ones == 0 {
            return Ok(u64::from(first >> 1));
        }
        let following = self.int(ones)?;
        if ones == 8 {
            return Ok(following);
        }
        // The first byte holds 7 - ones bits of the number above its ones and their closing zero.
        let low_bits = 7 - ones;
        let low = u64::from(first).checked_shr(ones as u32 + 1).unwrap_or(0);
        Ok(following << low_bits | low)
    }

    /// A signed one: the lowest bit is the sign.
    pub fn signed_varint(&mut self) -> Result<i64> {
        let raw = self.varint()?;
        let magnitude = (raw >> 1) as i64;
        Ok(if raw & 1 == 1 { !magnitude } else { magnitude })
    }
}

/// Appends an unsigned variable-length integer of `libs/mysql/serialization`.
pub fn put_varint(out: &mut Vec<u8>, value: u64) {
    let bits = u64::BITS - value.leading_zeros();
    let len = match bits {
        0 => 1,
        57..=64 => 9,
        _ => bits.div_ceil(7) as usize,
    };
    if len == 9 {
        out.push(0xff);
        out.extend(value.to_le_bytes());
        return;
    }
    // `len` bytes together hold len - 1 ones, a zero and 7 * len bits of the number.
    let together = u128::from(value) << len | ((1u128 << (len - 1)) - 1);
    out.extend(&together.to_le_bytes()[..len]);
}

/// Appends a length-encoded integer of the client protocol.
pub fn put_length_encoded(out: &mut Vec<u8>, value: u64) {
    match value {
        0..=0xfa => out.push(value as u8),
        0xfb..=0xffff => {
            out.push(0xfc);
            out.extend(&value.to_le_bytes()[..2]);
        }
        0x1_0000..=0xff_ffff => {
            out.push(0xfd);
            out.extend(&value.to_le_bytes()[..3]);
        }
        _ => {
            out.push(0xfe);
            out.extend(value.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_examples_of_the_serialization_librarys_readme_decode() {
        let mut unsigned = Cursor::new("test", &[0b1111_1011, 0xff, 0b0000_0111]);
        assert_eq!(unsigned.varint().unwrap(), 65535);
        let signed = |bytes: [u8; 3]| Cursor::new("test", &bytes).signed_varint().unwrap();
        assert_eq!(signed([0b1111_0011, 0xff, 0b0000_1111]), 65535);
        assert_eq!(signed([0b1110_1011, 0xff, 0b0000_1111]), -65535);
        assert_eq!(signed([0b1111_1011, 0xff, 0b0000_1111]), -65536);
    }

    #[test]
    fn a_read_past_the_end_names_what_was_read() {
        let error = Cursor::new("a query event", &[1, 2]).u32().unwrap_err();
        assert_eq!(error.to_string(), "a query event: 4 bytes are needed, 2 are left (byte 0 of 2)");
    }

    proptest! {
        #[test]
        fn variable_length_integers_round_trip(bits in 0..=64u32, noise: u64) {
            let value = if bits == 0 { 0 } else { noise >> (64 - bits) };
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut cursor = Cursor::new("test", &out);
            prop_assert_eq!(cursor.varint().unwrap(), value);
            prop_assert!(cursor.is_empty());
            let mut out = Vec::new();
            put_length_encoded(&mut out, value);
            let mut cursor = Cursor::new("test", &out);
            prop_assert_eq!(cursor.length_encoded().unwrap(), value);
            prop_assert!(cursor.is_empty());
        }
    }
}
