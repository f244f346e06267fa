//! Row events as `BINLOG '…'` statements: the server decodes the row images itself, so no value is ever text.
//!
//! A statement's row events may be spread over several BINLOGs if each carries the table maps that it needs and
//! ends with the STMT_END flag. So a transaction of any size passes in pieces, and no piece is larger than the
//! server's `max_allowed_packet`, as long as a single row event is not.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::Result;
use crate::binlog::event::{Event, RowsHeader, with_stmt_end};

/// What surrounds the base64 text of one statement, with room for the SET statements before it.
pub const OVERHEAD: u64 = 64 * 1024;

/// The length of the statement that carries so many bytes of events.
pub fn statement_length(event_bytes: u64) -> u64 {
    event_bytes.div_ceil(3) * 4 + OVERHEAD
}

/// SQL text with the number of results that it brings.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Piece {
    pub sql: Vec<u8>,
    pub results: usize,
}

impl Piece {
    /// Adds one statement.
    pub fn push(&mut self, statement: &[u8]) {
        if !self.sql.is_empty() {
            self.sql.push(b';');
        }
        self.sql.extend_from_slice(statement);
        self.results += 1;
    }

    pub fn append(&mut self, other: &Piece) {
        if other.results > 0 {
            self.push(&other.sql);
            self.results += other.results - 1;
        }
    }
}

/// `BINLOG '…'` of whole events.
pub fn binlog(events: &[u8]) -> Vec<u8> {
    let mut sql = Vec::with_capacity(events.len().div_ceil(3) * 4 + 16);
    sql.extend_from_slice(b"BINLOG '");
    sql.extend_from_slice(BASE64.encode(events).as_bytes());
    sql.push(b'\'');
    sql
}

/// Gathers the events of one transaction into pieces of bounded size.
pub struct Packer {
    limit: usize,
    /// Done statements of the piece that is being filled.
    piece: Piece,
    /// Events of the BINLOG that is being filled.
    events: Vec<u8>,
    /// The current statement's table maps, needed again if it goes on in another BINLOG.
    maps: Vec<Vec<u8>>,
    /// The last row event: not yet in `events`, as it may have to end the BINLOG.
    pending: Option<(Event, RowsHeader)>,
}

impl Packer {
    /// `limit`: bytes of events in a piece, exceeded only by a single larger row event.
    pub fn new(limit: usize) -> Self {
        Self { limit, piece: Piece::default(), events: Vec::new(), maps: Vec::new(), pending: None }
    }

    /// Adds a table map.
    pub fn map(&mut self, event: &Event) {
        if self.settle() {
            self.maps.clear();
        }
        self.events.extend_from_slice(event.bytes());
        self.maps.push(event.bytes().to_vec());
    }

    /// Adds a row event; returns a full piece when it does not fit any more.
    pub fn rows(&mut self, event: Event, header: RowsHeader) -> Result<Option<Piece>> {
        let held = self.pending.as_ref().map_or(0, |(event, _)| event.bytes().len());
        let mut full = None;
        if held > 0 && self.piece.sql.len() + self.events.len() + held + event.bytes().len() > self.limit {
            self.close()?;
            full = Some(std::mem::take(&mut self.piece));
            for map in &self.maps {
                self.events.extend_from_slice(map);
            }
        } else {
            self.settle();
        }
        self.pending = Some((event, header));
        Ok(full)
    }

    /// Adds a statement of its own, e.g. a SAVEPOINT, after everything before it.
    pub fn statement(&mut self, text: &[u8]) -> Result<()> {
        self.close()?;
        self.maps.clear();
        self.piece.push(text);
        Ok(())
    }

    /// The last piece of the transaction.
    pub fn finish(mut self) -> Result<Piece> {
        self.close()?;
        Ok(self.piece)
    }

    /// Puts the pending row event where it belongs, as it is; true if it ended its statement.
    fn settle(&mut self) -> bool {
        match self.pending.take() {
            Some((event, header)) => {
                self.events.extend_from_slice(event.bytes());
                header.ends_statement()
            }
            None => false,
        }
    }

    /// Ends the BINLOG that is being filled with a row event that carries STMT_END.
    fn close(&mut self) -> Result<()> {
        if let Some((event, _)) = self.pending.take() {
            self.events.extend_from_slice(with_stmt_end(event)?.bytes());
        }
        if !self.events.is_empty() {
            self.piece.push(&binlog(&self.events));
            self.events.clear();
        }
        Ok(())
    }
}
