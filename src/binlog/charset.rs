//! Character sets as far as the bytes of a statement depend on them: where a character ends, and what an
//! identifier's bytes mean.

use crate::Result;

/// A character set of MySQL, by its family of encodings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charset {
    /// utf8mb3, utf8mb4
    Utf8,
    Ascii,
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
    /// Every character one byte; the name as MySQL has it.
    Single(&'static str),
    /// ucs2, utf16, utf16le, utf32: no client may use them.
    Wide(&'static str),
}

impl Charset {
    /// The character set of a collation id; an unknown id is an error.
    pub fn of_collation(_id: u16) -> Result<Charset> {
        todo!()
    }
}
