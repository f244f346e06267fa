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
pub const OVERHEAD: u64 = 16 * 1024;

/// The length of the statement that carries so many bytes of events.
pub fn statement_length(event_bytes: u64) -> u64 {
    event_bytes.div_ceil(3) * 4 + OVERHEAD
}

/// How many bytes of events fit into a statement of such a length.
pub fn events_in(statement: u64) -> u64 {
    statement.saturating_sub(OVERHEAD) / 4 * 3
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

    /// Adds a table map; returns a full piece when it does not fit any more.
    pub fn map(&mut self, event: &Event) -> Result<Option<Piece>> {
        let mut full = None;
        if self.pending.as_ref().is_some_and(|(_, header)| header.ends_statement()) {
            self.maps.clear();
            if self.held() + event.bytes().len() > self.limit {
                self.close()?;
                full = Some(std::mem::take(&mut self.piece));
            }
        }
        self.settle();
        self.events.extend_from_slice(event.bytes());
        self.maps.push(event.bytes().to_vec());
        Ok(full)
    }

    /// Adds a row event; returns a full piece when it does not fit any more.
    pub fn rows(&mut self, event: Event, header: RowsHeader) -> Result<Option<Piece>> {
        let mut full = None;
        if self.pending.is_some() && self.held() + event.bytes().len() > self.limit {
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

    /// The statement that is being packed ends here, though its last row event has been left out.
    pub fn end_statement(&mut self) -> Result<()> {
        if let Some((event, header)) = self.pending.take() {
            let event = if header.ends_statement() { event } else { with_stmt_end(event)? };
            let header = RowsHeader::parse(&event)?;
            self.pending = Some((event, header));
        }
        Ok(())
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

    /// Bytes gathered so far for this piece.
    fn held(&self) -> usize {
        let pending = self.pending.as_ref().map_or(0, |(event, _)| event.bytes().len());
        self.piece.sql.len() + self.events.len() + pending
    }

    /// Puts the pending row event where it belongs, as it is.
    fn settle(&mut self) {
        if let Some((event, _)) = self.pending.take() {
            self.events.extend_from_slice(event.bytes());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binlog::event::{Checksum, HEADER_LEN, Header, STMT_END, kind};

    fn event(kind: u8, body: &[u8]) -> Event {
        let header = Header { timestamp: 1, kind, server_id: 1, size: 0, log_pos: 0, flags: 0 };
        Event::build(header, body, Checksum::Crc32)
    }

    fn map() -> Event {
        event(kind::TABLE_MAP, &[7, 0, 0, 0, 0, 0, 1, 0, 1, b'g', 0, 1, b't', 0, 1, 3, 0, 0])
    }

    /// A write of one column to table 7, padded to a size.
    fn rows(flags: u16, size: usize) -> (Event, RowsHeader) {
        let mut body = vec![7, 0, 0, 0, 0, 0];
        body.extend(flags.to_le_bytes());
        body.extend([2, 0, 1, 1]);
        body.resize(body.len() + size, 0);
        let event = event(kind::WRITE_ROWS, &body);
        let header = RowsHeader::parse(&event).unwrap();
        (event, header)
    }

    /// The kinds of the events in each BINLOG of a piece, with STMT_END marked.
    fn events(piece: &Piece) -> Vec<String> {
        let sql = String::from_utf8(piece.sql.clone()).unwrap();
        let statements: Vec<&str> = sql.split(';').collect();
        assert_eq!(statements.len(), piece.results);
        statements
            .into_iter()
            .map(|statement| {
                match statement.strip_prefix("BINLOG '").and_then(|text| text.strip_suffix('\'')) {
                    Some(text) => describe(&BASE64.decode(text).unwrap()),
                    None => statement.to_owned(),
                }
            })
            .collect()
    }

    fn describe(mut bytes: &[u8]) -> String {
        let mut text = String::new();
        while let Some(head) = bytes.first_chunk::<HEADER_LEN>() {
            let size = Header::parse(head).unwrap().size as usize;
            let event = Event::from_bytes(bytes[..size].to_vec(), Checksum::Crc32).unwrap();
            text += match event.kind() {
                kind::TABLE_MAP => "m",
                _ if RowsHeader::parse(&event).unwrap().ends_statement() => "R",
                _ => "r",
            };
            bytes = &bytes[size..];
        }
        text
    }

    #[test]
    fn a_small_transaction_is_one_binlog_statement() {
        let mut packer = Packer::new(10_000);
        for _ in 0..3 {
            assert_eq!(packer.map(&map()).unwrap(), None);
            let (event, header) = rows(STMT_END, 10);
            assert_eq!(packer.rows(event, header).unwrap(), None);
        }
        assert_eq!(events(&packer.finish().unwrap()), ["mRmRmR"]);
    }

    #[test]
    fn a_statement_that_is_split_carries_its_maps_and_ends_in_every_piece() {
        let mut packer = Packer::new(1_000);
        assert_eq!(packer.map(&map()).unwrap(), None);
        assert_eq!(packer.map(&map()).unwrap(), None);
        let mut pieces = Vec::new();
        for flags in [0, 0, 0, 0, STMT_END] {
            let (event, header) = rows(flags, 400);
            pieces.extend(packer.rows(event, header).unwrap());
        }
        pieces.push(packer.finish().unwrap());
        let pieces: Vec<_> = pieces.iter().flat_map(events).collect();
        assert_eq!(pieces, ["mmrR", "mmrR", "mmR"]);
    }

    #[test]
    fn a_row_event_larger_than_a_piece_stands_alone() {
        let mut packer = Packer::new(1_000);
        assert_eq!(packer.map(&map()).unwrap(), None);
        let (event, header) = rows(STMT_END, 5_000);
        assert_eq!(packer.rows(event, header).unwrap(), None);
        let first = packer.map(&map()).unwrap().unwrap();
        let (event, header) = rows(STMT_END, 10);
        assert_eq!(packer.rows(event, header).unwrap(), None);
        assert_eq!(events(&first), ["mR"]);
        assert_eq!(events(&packer.finish().unwrap()), ["mR"]);
    }

    #[test]
    fn a_statement_whose_last_rows_are_left_out_ends_all_the_same() {
        let mut packer = Packer::new(10_000);
        packer.end_statement().unwrap();
        for _ in 0..2 {
            assert_eq!(packer.map(&map()).unwrap(), None);
            let (event, header) = rows(0, 10);
            packer.rows(event, header).unwrap();
            packer.end_statement().unwrap();
            packer.end_statement().unwrap();
        }
        assert_eq!(events(&packer.finish().unwrap()), ["mRmR"]);
    }

    #[test]
    fn a_savepoint_runs_between_the_rows_around_it() {
        let mut packer = Packer::new(10_000);
        assert_eq!(packer.map(&map()).unwrap(), None);
        let (event, header) = rows(STMT_END, 10);
        packer.rows(event, header).unwrap();
        packer.statement(b"SAVEPOINT a").unwrap();
        assert_eq!(packer.map(&map()).unwrap(), None);
        let (event, header) = rows(STMT_END, 10);
        packer.rows(event, header).unwrap();
        assert_eq!(events(&packer.finish().unwrap()), ["mR", "SAVEPOINT a", "mR"]);
    }
}
