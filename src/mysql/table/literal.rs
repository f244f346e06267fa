//! A row's values as SQL literals, in the grammar of dump chunks (docs/formats.md): made while the bytes arrive.

use super::column::{Column, ColumnKind};
use crate::mysql::wire::RowSink;

/// No server takes a statement above 1 GiB, so no row whose tuple is longer could ever be restored.
pub const MAX_TUPLE: usize = (1 << 30) - (1 << 16);
/// A buffer that one giant row has grown is given back.
const KEPT_CAPACITY: usize = 16 << 20;

/// One row's tuple, `(lit,lit)`, in a buffer that is used again for the next.
pub(super) struct Tuple {
    forms: Vec<Form>,
    text: Vec<u8>,
    at: usize,
    /// A number had an exponent in it.
    has_exponent: bool,
    is_empty_value: bool,
    is_too_long: bool,
}

/// How a value is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Number,
    Float,
    Quoted,
    Utf8Quoted,
    Hex,
    /// A table without a column to insert: what is selected in its place is not written.
    Nothing,
}

impl Tuple {
    pub fn new(columns: &[Column]) -> Self {
        let mut forms: Vec<Form> = columns.iter().map(|column| Form::of(&column.kind)).collect();
        if forms.is_empty() {
            forms.push(Form::Nothing);
        }
        Self {
            forms,
            text: Vec::new(),
            at: 0,
            has_exponent: false,
            is_empty_value: false,
            is_too_long: false,
        }
    }

    pub fn start(&mut self) {
        self.text.clear();
        if self.text.capacity() > KEPT_CAPACITY {
            self.text.shrink_to(KEPT_CAPACITY);
        }
        self.text.push(b'(');
        (self.at, self.is_too_long) = (0, false);
    }

    /// The whole tuple; `None` if it is longer than any server takes.
    pub fn finish(&mut self) -> Option<&[u8]> {
        self.text.push(b')');
        (!self.is_too_long).then_some(&self.text)
    }

    fn comma(&mut self) -> Form {
        if self.at > 0 {
            self.text.push(b',');
        }
        self.at += 1;
        self.forms[self.at - 1]
    }
}

impl Form {
    fn of(kind: &ColumnKind) -> Form {
        match kind {
            ColumnKind::Number | ColumnKind::Member => Form::Number,
            ColumnKind::Float => Form::Float,
            ColumnKind::Temporal | ColumnKind::Text { .. } => Form::Quoted,
            ColumnKind::Json => Form::Utf8Quoted,
            ColumnKind::Encoded { .. } | ColumnKind::Bytes => Form::Hex,
        }
    }
}

impl RowSink for Tuple {
    fn null(&mut self) {
        if self.comma() != Form::Nothing {
            self.text.extend_from_slice(b"NULL");
        }
    }

    fn begin(&mut self, len: u64) {
        self.is_empty_value = len == 0;
        self.has_exponent = false;
        match self.comma() {
            Form::Quoted => self.text.push(b'\''),
            Form::Utf8Quoted => self.text.extend_from_slice(b"_utf8mb4'"),
            // `0x` alone is no literal.
            Form::Hex if len == 0 => self.text.extend_from_slice(b"''"),
            Form::Hex => self.text.extend_from_slice(b"0x"),
            Form::Number | Form::Float | Form::Nothing => {}
        }
    }

    fn part(&mut self, bytes: &[u8]) {
        if self.text.len() + bytes.len() > MAX_TUPLE {
            self.is_too_long = true;
            return;
        }
        match self.forms[self.at - 1] {
            Form::Number => self.text.extend_from_slice(bytes),
            Form::Float => {
                self.has_exponent |= bytes.contains(&b'e');
                self.text.extend_from_slice(bytes);
            }
            Form::Quoted | Form::Utf8Quoted => escape(bytes, &mut self.text),
            Form::Hex => hex(bytes, &mut self.text),
            Form::Nothing => {}
        }
    }

    fn end(&mut self) {
        match self.forms[self.at - 1] {
            Form::Quoted | Form::Utf8Quoted => self.text.push(b'\''),
            // Without an exponent it would be a DECIMAL literal.
            Form::Float if !self.has_exponent => self.text.extend_from_slice(b"e0"),
            _ => {}
        }
        self.is_too_long |= self.text.len() > MAX_TUPLE;
    }
}

/// What follows the backslash; 0: the byte stands for itself.
const ESCAPES: [u8; 256] = {
    let mut escapes = [0; 256];
    escapes[b'\\' as usize] = b'\\';
    escapes[b'\'' as usize] = b'\'';
    escapes[0] = b'0';
    escapes[b'\n' as usize] = b'n';
    escapes[b'\r' as usize] = b'r';
    escapes[0x1a] = b'Z';
    escapes
};

/// By byte, which is right in UTF-8 and where the client's character set is binary.
fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|&byte| ESCAPES[usize::from(byte)] != 0) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(&[b'\\', ESCAPES[usize::from(rest[at])]]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

const DIGITS: &[u8; 16] = b"0123456789ABCDEF";

pub(super) fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len() * 2);
    for &byte in bytes {
        out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(kinds: &[ColumnKind], values: &[Option<&[u8]>]) -> String {
        let columns: Vec<Column> =
            kinds.iter().map(|kind| Column { name: "c".into(), kind: kind.clone() }).collect();
        let mut tuple = Tuple::new(&columns);
        tuple.start();
        for value in values {
            match value {
                Some(bytes) => tuple.value(bytes),
                None => tuple.null(),
            }
        }
        String::from_utf8(tuple.finish().expect("short").to_vec()).expect("UTF-8")
    }

    #[test]
    fn every_kind_has_its_literal() {
        let text = || ColumnKind::Text { charset: "utf8mb4".into() };
        let kinds = [ColumnKind::Number, ColumnKind::Float, ColumnKind::Float, text(), ColumnKind::Bytes];
        let values: [Option<&[u8]>; 5] =
            [Some(b"-12"), Some(b"-0"), Some(b"1.5e-7"), Some(b"it's\n"), Some(b"\x00\xff")];
        assert_eq!(tuple(&kinds, &values), r"(-12,-0e0,1.5e-7,'it\'s\n',0x00FF)");
        let kinds = [ColumnKind::Json, ColumnKind::Bytes, ColumnKind::Temporal, ColumnKind::Member];
        let values: [Option<&[u8]>; 4] = [Some(br#"{"a": "\\"}"#), Some(b""), None, Some(b"0")];
        assert_eq!(tuple(&kinds, &values), r#"(_utf8mb4'{"a": "\\\\"}','',NULL,0)"#);
    }

    #[test]
    fn a_table_without_columns_has_empty_tuples() {
        assert_eq!(tuple(&[], &[Some(b"1")]), "()");
    }
}
