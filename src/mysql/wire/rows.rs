//! Rows as they arrive: each value is handed on in the bytes of the connection's own buffer, nothing is allocated
//! for a value, and of a large row no more than a piece is here at a time.
//!
//! "ProtocolText::Resultset" of the MySQL source documentation. The caller reads to the end or closes the
//! connection: what is left unread would be taken for the next answer.

use bytes::Buf;

use super::fields::Fields;
use super::reply::ServerError;
use super::{FULL_PACKET, Wire, command};
use crate::Result;

/// A row above this size is handed on in pieces; a smaller one is taken from the buffer as a whole.
const LARGE: usize = 1 << 20;

/// NULL, in place of a length.
const NULL: u8 = 0xfb;

/// Takes the values of a row, in the order of the select list.
pub trait RowSink: Send {
    fn null(&mut self);
    /// A value of this many bytes begins; `part` brings them, and `end` ends it.
    fn begin(&mut self, len: u64);
    fn part(&mut self, bytes: &[u8]);
    fn end(&mut self);

    /// A value that is there as a whole.
    fn value(&mut self, bytes: &[u8]) {
        self.begin(bytes.len() as u64);
        self.part(bytes);
        self.end();
    }
}

impl Wire {
    /// Runs one SELECT, and answers how many columns its rows have; `next_row` reads them.
    pub async fn open_rows(&mut self, sql: &[u8], doing: &str) -> Result<u64> {
        self.send(command::QUERY, sql).await?;
        self.begin_answer();
        let first = self.payload().await?;
        if first.first() == Some(&0xff) {
            return Err(ServerError::parse(&first).into_error(doing));
        }
        let columns = match first.first() {
            None | Some(0x00 | 0xfb) => None,
            Some(_) => Fields(&first).length_encoded(),
        };
        let Some(columns) = columns else {
            return Err(self.garbled("a result without a column count"));
        };
        for _ in 0..columns {
            self.payload().await?;
        }
        self.payload().await?; // EOF after the columns
        Ok(columns)
    }

    /// Hands the next row's values to `sink`; false at the end of the rows.
    pub async fn next_row(&mut self, columns: u64, sink: &mut impl RowSink, doing: &str) -> Result<bool> {
        self.fill(4).await?;
        let len =
            usize::from(self.input[0]) | usize::from(self.input[1]) << 8 | usize::from(self.input[2]) << 16;
        if len > LARGE {
            self.large_row(columns, sink).await?;
            return Ok(true);
        }
        let sequence = self.input[3];
        if sequence != self.sequence_in {
            return Err(self.garbled(format_args!("packet {sequence} where {} was due", self.sequence_in)));
        }
        self.sequence_in = self.sequence_in.wrapping_add(1);
        self.fill(4 + len).await?;
        let payload = &self.input[4..4 + len];
        match payload.first() {
            Some(0xfe) if len < 9 => {
                self.input.advance(4 + len);
                return Ok(false);
            }
            Some(0xff) => return Err(ServerError::parse(payload).into_error(doing)),
            _ => {}
        }
        let mut fields = Fields(payload);
        for _ in 0..columns {
            match fields.value() {
                Some(Some(bytes)) => sink.value(bytes),
                Some(None) => sink.null(),
                None => return Err(self.garbled("a row that ends early")),
            }
        }
        self.input.advance(4 + len);
        Ok(true)
    }

    async fn large_row(&mut self, columns: u64, sink: &mut impl RowSink) -> Result<()> {
        let mut row = Pieces::default();
        loop {
            let len = self.chunk().await?;
            if len == 0 {
                break;
            }
            let bytes = self.consume(len);
            if row.take(&bytes, sink).is_none() {
                return Err(self.garbled("a value without a length"));
            }
        }
        match row.seen == columns && row.left == 0 && row.length.is_empty() {
            true => Ok(()),
            false => Err(self.garbled("a row that ends early")),
        }
    }
}

/// Where in a row that arrives in pieces we are.
#[derive(Default)]
struct Pieces {
    /// Bytes of a value's length, as far as they are here.
    length: Vec<u8>,
    /// Of the value that has begun.
    left: u64,
    seen: u64,
}

impl Pieces {
    fn take(&mut self, mut bytes: &[u8], sink: &mut impl RowSink) -> Option<()> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                sink.part(&bytes[..here]);
                bytes = &bytes[here..];
                self.left -= here as u64;
                if self.left == 0 {
                    sink.end();
                }
                continue;
            }
            self.length.push(bytes[0]);
            bytes = &bytes[1..];
            if self.length[0] == NULL {
                sink.null();
            } else if self.length[0] == 0xff {
                return None;
            } else {
                // Not all of the length's own bytes are here yet.
                let Some(len) = Fields(&self.length).length_encoded() else { continue };
                sink.begin(len);
                self.left = len;
                if len == 0 {
                    sink.end();
                }
            }
            self.length.clear();
            self.seen += 1;
        }
        Some(())
    }
}

const _: () =
    assert!(LARGE < FULL_PACKET, "a row of one packet is never taken for the first part of a longer one");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fields::put_length_encoded_bytes;
    use super::*;

    #[derive(Default)]
    struct Kept(Vec<Option<Vec<u8>>>);

    impl RowSink for Kept {
        fn null(&mut self) {
            self.0.push(None);
        }
        fn begin(&mut self, len: u64) {
            self.0.push(Some(Vec::with_capacity(len as usize)));
        }
        fn part(&mut self, bytes: &[u8]) {
            self.0.last_mut().unwrap().as_mut().unwrap().extend_from_slice(bytes);
        }
        fn end(&mut self) {}
    }

    proptest! {
        #[test]
        fn a_row_is_the_same_however_its_bytes_arrive(
            row in proptest::collection::vec(
                proptest::option::of(proptest::collection::vec(any::<u8>(), 0..600)), 0..9),
            at in 1usize..700,
        ) {
            let mut payload = Vec::new();
            for value in &row {
                match value {
                    None => payload.push(NULL),
                    Some(bytes) => put_length_encoded_bytes(&mut payload, bytes),
                }
            }
            let (mut pieces, mut kept) = (Pieces::default(), Kept::default());
            for piece in payload.chunks(at) {
                prop_assert!(pieces.take(piece, &mut kept).is_some());
            }
            prop_assert_eq!(pieces.seen, row.len() as u64);
            prop_assert_eq!(kept.0, row);
        }
    }
}
