//! Character sets as far as the bytes of a statement depend on them: where a character ends, and what an
//! identifier's bytes mean.
//!
//! In sjis, cp932, gbk, gb18030 and big5 the second byte of a character may be `\` or a backquote; who lexes
//! bytes without knowing that finds quotes where there are none. Decoding is as MySQL decodes
//! (strings/ctype-*.cc); a character on which MySQL and the Encoding Standard differ is refused, because a
//! name that is decoded wrongly is another table.

use crate::error::{Error, Kind, Result};

mod single;
#[cfg(test)]
mod tests;

/// A character set of MySQL, by its family of encodings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charset {
    /// utf8mb3, utf8mb4
    Utf8,
    Ascii,
    /// No character set: the server takes identifiers as UTF-8.
    Binary,
    Sjis,
    Cp932,
    Gbk,
    Gb2312,
    Gb18030,
    Big5,
    Ujis,
    Eucjpms,
    Euckr,
    /// Every character one byte, the lower half ASCII; the name as MySQL has it.
    Single(&'static str),
    /// ucs2, utf16, utf16le, utf32, swe7: not ASCII in the lower half. No client may use the wide ones.
    NotAscii(&'static str),
}

impl Charset {
    /// The character set of a collation id; an unknown id is an error.
    pub fn of_collation(id: u16) -> Result<Charset> {
        let charset = match id {
            1 | 84 => Charset::Big5,
            2 | 9 | 21 | 27 | 77 => Charset::Single("latin2"),
            3 | 69 => Charset::Single("dec8"),
            4 | 80 => Charset::Single("cp850"),
            5 | 8 | 15 | 31 | 47..=49 | 94 => Charset::Single("latin1"),
            6 | 72 => Charset::Single("hp8"),
            7 | 74 => Charset::Single("koi8r"),
            10 | 82 => Charset::NotAscii("swe7"),
            11 | 65 => Charset::Ascii,
            12 | 91 => Charset::Ujis,
            13 | 88 => Charset::Sjis,
            14 | 23 | 50..=52 => Charset::Single("cp1251"),
            16 | 71 => Charset::Single("hebrew"),
            18 | 89 => Charset::Single("tis620"),
            19 | 85 => Charset::Euckr,
            20 | 41..=42 | 79 => Charset::Single("latin7"),
            22 | 75 => Charset::Single("koi8u"),
            24 | 86 => Charset::Gb2312,
            25 | 70 => Charset::Single("greek"),
            26 | 34 | 44 | 66 | 99 => Charset::Single("cp1250"),
            28 | 87 => Charset::Gbk,
            29 | 58..=59 => Charset::Single("cp1257"),
            30 | 78 => Charset::Single("latin5"),
            32 | 64 => Charset::Single("armscii8"),
            33 | 45 | 46 | 76 | 83 | 192..=247 | 255..=323 => Charset::Utf8,
            35 | 90 | 128..=151 | 159 => Charset::NotAscii("ucs2"),
            36 | 68 => Charset::Single("cp866"),
            37 | 73 => Charset::Single("keybcs2"),
            38 | 43 => Charset::Single("macce"),
            39 | 53 => Charset::Single("macroman"),
            40 | 81 => Charset::Single("cp852"),
            54..=55 | 101..=124 => Charset::NotAscii("utf16"),
            56 | 62 => Charset::NotAscii("utf16le"),
            57 | 67 => Charset::Single("cp1256"),
            60..=61 | 160..=183 => Charset::NotAscii("utf32"),
            63 => Charset::Binary,
            92..=93 => Charset::Single("geostd8"),
            95..=96 => Charset::Cp932,
            97..=98 => Charset::Eucjpms,
            248..=250 => Charset::Gb18030,
            _ => {
                return Err(Error::new(
                    Kind::Gate,
                    format!("read a statement's character set: the collation id {id} is unknown"),
                )
                .hint("this version of tablecast does not know that collation; a newer one may"));
            }
        };
        Ok(charset)
    }

    /// How many bytes the character at the start of `bytes` has; 0 if they are no character of this set, or
    /// there are none. A single byte that means nothing counts as a character here; [`decode`](Self::decode)
    /// refuses it.
    pub fn char_len(self, bytes: &[u8]) -> usize {
        let Some(&first) = bytes.first() else { return 0 };
        if first < 0x80 {
            return 1;
        }
        let second_in = |ranges: &[(u8, u8)]| {
            let fits =
                bytes.get(1).is_some_and(|b| ranges.iter().any(|(low, high)| (low..=high).contains(&b)));
            if fits { 2 } else { 0 }
        };
        match self {
            Charset::Ascii => 0,
            Charset::Binary | Charset::Single(_) | Charset::NotAscii(_) => 1,
            Charset::Utf8 => utf8_len(bytes),
            Charset::Sjis | Charset::Cp932 => match first {
                0x81..=0x9F | 0xE0..=0xFC => second_in(&[(0x40, 0x7E), (0x80, 0xFC)]),
                _ => 1,
            },
            Charset::Gbk if matches!(first, 0x81..=0xFE) => second_in(&[(0x40, 0x7E), (0x80, 0xFE)]),
            Charset::Gb2312 if matches!(first, 0xA1..=0xF7) => second_in(&[(0xA1, 0xFE)]),
            Charset::Big5 if matches!(first, 0xA1..=0xF9) => second_in(&[(0x40, 0x7E), (0xA1, 0xFE)]),
            Charset::Euckr if matches!(first, 0x81..=0xFE) => {
                second_in(&[(0x41, 0x5A), (0x61, 0x7A), (0x81, 0xFE)])
            }
            Charset::Ujis | Charset::Eucjpms => match first {
                0x8E => second_in(&[(0xA1, 0xDF)]),
                0x8F => match bytes.get(1..3) {
                    Some([0xA1..=0xFE, 0xA1..=0xFE]) => 3,
                    _ => 0,
                },
                0xA1..=0xFE => second_in(&[(0xA1, 0xFE)]),
                _ => 1,
            },
            Charset::Gb18030 if matches!(first, 0x81..=0xFE) => match bytes.get(1..4) {
                Some([0x30..=0x39, 0x81..=0xFE, 0x30..=0x39]) => 4,
                _ => second_in(&[(0x40, 0x7E), (0x80, 0xFE)]),
            },
            Charset::Gbk | Charset::Gb2312 | Charset::Big5 | Charset::Euckr | Charset::Gb18030 => 1,
        }
    }

    /// Whether a byte below 0x80 may be the tail of a character.
    pub fn has_ascii_tails(self) -> bool {
        matches!(
            self,
            Charset::Sjis | Charset::Cp932 | Charset::Gbk | Charset::Gb18030 | Charset::Big5 | Charset::Euckr
        )
    }

    /// The text of an identifier's bytes, or why it cannot be known.
    pub fn decode(self, bytes: &[u8]) -> Result<String, String> {
        let unknown = |at: &[u8]| {
            let shown: String = at.iter().take(4).map(|b| format!("{b:02X}")).collect();
            format!("the bytes {shown} are no known character of {}", self.name())
        };
        if bytes.is_ascii() && !matches!(self, Charset::NotAscii(_)) {
            return Ok(bytes.iter().map(|&b| char::from(b)).collect());
        }
        if matches!(self, Charset::Utf8 | Charset::Binary) {
            return std::str::from_utf8(bytes)
                .map(str::to_string)
                .map_err(|e| unknown(&bytes[e.valid_up_to()..]));
        }
        let mut text = String::with_capacity(bytes.len());
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = self.char_len(rest);
            let c = rest.get(..length).and_then(|character| self.decode_one(character));
            text.push(c.ok_or_else(|| unknown(rest))?);
            rest = &rest[length..];
        }
        Ok(text)
    }

    fn decode_one(self, character: &[u8]) -> Option<char> {
        if let [byte @ ..0x80] = character {
            return (!matches!(self, Charset::NotAscii(_))).then_some(char::from(*byte));
        }
        let encoding = match self {
            Charset::Single(name) => {
                let (_, upper) = single::TABLES.iter().find(|(known, _)| *known == name)?;
                return upper.chars().nth(usize::from(*character.first()?) - 0x80).filter(|&c| c != '?');
            }
            Charset::Ascii | Charset::Binary | Charset::Utf8 | Charset::NotAscii(_) => return None,
            Charset::Sjis | Charset::Cp932 => encoding_rs::SHIFT_JIS,
            Charset::Gbk | Charset::Gb2312 => encoding_rs::GBK,
            Charset::Gb18030 => encoding_rs::GB18030,
            Charset::Big5 => encoding_rs::BIG5,
            Charset::Ujis | Charset::Eucjpms => encoding_rs::EUC_JP,
            Charset::Euckr => encoding_rs::EUC_KR,
        };
        let text = encoding.decode_without_bom_handling_and_without_replacement(character)?;
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) if !self.differs(character) => Some(c),
            _ => None,
        }
    }

    /// Whether MySQL reads the character otherwise than the Encoding Standard, or not at all. Blocks with a
    /// difference in them are refused whole; found by comparing every code with a server's conversion.
    fn differs(self, character: &[u8]) -> bool {
        let &[lead, tail, ref more @ ..] = character else { return false };
        match self {
            Charset::Sjis => match lead {
                0x81 => matches!(tail, 0x5F | 0x60 | 0x61 | 0x7C | 0x91 | 0x92 | 0xCA),
                0x87 | 0xED | 0xEE | 0xF0.. => true,
                _ => false,
            },
            Charset::Gbk => match lead {
                0xA1..=0xA9 => true,
                0xAA..=0xAF | 0xF8..=0xFD => tail >= 0xA1,
                0xD7 => tail >= 0xFA,
                0xFE => tail >= 0x50,
                _ => false,
            },
            Charset::Gb2312 => matches!(lead, 0xA1..=0xAF) || (lead == 0xD7 && tail >= 0xFA),
            Charset::Gb18030 if more.is_empty() => {
                matches!(lead, 0xA3 | 0xA6) || (lead == 0xFE && tail >= 0x50)
            }
            Charset::Big5 => match lead {
                0xA1..=0xA3 | 0xC7 | 0xC8 => true,
                0xC6 => tail >= 0xA1,
                0xF9 => tail >= 0xDD,
                _ => false,
            },
            Charset::Ujis => match lead {
                0xA1 => matches!(tail, 0xC0..=0xC2 | 0xDD | 0xF1 | 0xF2),
                0xA2 => tail == 0xCC,
                0x8F | 0xAD | 0xF9.. => true,
                _ => false,
            },
            Charset::Eucjpms => matches!(lead, 0x8F | 0xF9..),
            _ => false,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Charset::Utf8 => "utf8mb4",
            Charset::Ascii => "ascii",
            Charset::Binary => "binary",
            Charset::Sjis => "sjis",
            Charset::Cp932 => "cp932",
            Charset::Gbk => "gbk",
            Charset::Gb2312 => "gb2312",
            Charset::Gb18030 => "gb18030",
            Charset::Big5 => "big5",
            Charset::Ujis => "ujis",
            Charset::Eucjpms => "eucjpms",
            Charset::Euckr => "euckr",
            Charset::Single(name) | Charset::NotAscii(name) => name,
        }
    }
}

/// The length of the UTF-8 character at the start, 0 if there is none.
fn utf8_len(bytes: &[u8]) -> usize {
    let length = match bytes.first() {
        Some(0xC2..=0xDF) => 2,
        Some(0xE0..=0xEF) => 3,
        Some(0xF0..=0xF4) => 4,
        _ => return 0,
    };
    match bytes.get(..length).map(std::str::from_utf8) {
        Some(Ok(_)) => length,
        _ => 0,
    }
}
