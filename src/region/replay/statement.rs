//! Row events as `BINLOG '…'` statements: the server decodes the row images itself, so no value is ever text.
//!
//! A statement's row events may be spread over several BINLOGs if each carries the table maps that it needs and
//! ends with the STMT_END flag. So a transaction of any size passes in pieces, and no piece is larger than the
//! server's `max_allowed_packet`, as long as a single row event is not. Such an event is held once, as it is, and turned
//! into text only while it is sent.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio::sync::oneshot;

use crate::Result;
use crate::binlog::event::{Event, RowsHeader, STMT_END, TableMap, with_stmt_end, without_stmt_end};
use crate::binlog::name::TableName;

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

/// Row events above this size are not turned into text before they are sent, and only one shall be held at a time.
pub const LARGE: usize = 1 << 20;

/// SQL text with the number of results that it brings.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Piece {
    pub sql: Vec<u8>,
    pub results: usize,
    /// What `sql` lacks, by where it belongs.
    large: Vec<Large>,
}

/// Events whose base64 text belongs at a place of a piece's text.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Large {
    at: usize,
    events: Arc<Vec<Event>>,
}

impl Large {
    /// Of the base64 text.
    fn len(&self) -> usize {
        self.events.iter().map(|event| event.bytes().len()).sum::<usize>().div_ceil(3) * 4
    }
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

    /// A text with one result.
    pub fn of(sql: Vec<u8>) -> Piece {
        Piece { sql, results: 1, large: Vec::new() }
    }

    /// Adds `BINLOG '…'` of these events. They are not copied.
    pub fn push_events(&mut self, events: Vec<Event>) {
        self.push(&binlog(&[]));
        self.large.push(Large { at: self.sql.len() - 1, events: Arc::new(events) });
    }

    /// Bytes of the whole text.
    pub fn len(&self) -> usize {
        self.sql.len() + self.large.iter().map(Large::len).sum::<usize>()
    }

    /// Whether some of the text is made only while it is sent.
    pub fn is_large(&self) -> bool {
        !self.large.is_empty()
    }

    /// The whole text, block after block, each of some 64 KiB at most but for what `sql` holds.
    pub fn blocks(&self) -> impl Iterator<Item = Cow<'_, [u8]>> {
        let ends = self.large.iter().map(|large| large.at).chain([self.sql.len()]);
        let starts = [0].into_iter().chain(self.large.iter().map(|large| large.at));
        let texts = starts.zip(ends).map(|(start, end)| Cow::Borrowed(&self.sql[start..end]));
        let mut large = self.large.iter();
        texts.flat_map(move |text| {
            [text].into_iter().chain(large.next().into_iter().flat_map(|large| encoded(&large.events)))
        })
    }

    /// Hands it on, with what ends when it has been run, to another thread. If it is large, comes back when that is over:
    /// the next may be as large. Whether anybody took it is what `send` says.
    pub fn hand_on(self, send: impl FnOnce(Piece, oneshot::Sender<()>) -> bool) -> bool {
        let is_large = self.is_large();
        let (run, has_run) = oneshot::channel();
        let is_taken = send(self, run);
        if is_taken && is_large {
            // Nothing is ever sent: the other end is dropped.
            let _ = has_run.blocking_recv();
        }
        is_taken
    }

    pub fn begins_with_rows(&self) -> bool {
        self.sql.starts_with(BINLOG)
    }

    pub fn append(&mut self, other: &Piece) {
        if other.results > 0 {
            self.push(&other.sql);
            self.results += other.results - 1;
            let shift = self.sql.len() - other.sql.len();
            let moved = |large: &Large| Large { at: large.at + shift, ..large.clone() };
            self.large.extend(other.large.iter().map(moved));
        }
    }
}

const BINLOG: &[u8] = b"BINLOG '";

/// `BINLOG '…'` of whole events.
pub fn binlog(events: &[u8]) -> Vec<u8> {
    let mut sql = Vec::with_capacity(events.len().div_ceil(3) * 4 + 16);
    sql.extend_from_slice(BINLOG);
    sql.extend_from_slice(BASE64.encode(events).as_bytes());
    sql.push(b'\'');
    sql
}

/// Bytes of events that are encoded at once; a multiple of three.
const BLOCK: usize = 48 << 10;

/// The base64 text of events, block after block.
fn encoded(events: &[Event]) -> impl Iterator<Item = Cow<'_, [u8]>> {
    let mut bytes = events.iter().flat_map(|event| event.bytes().chunks(BLOCK));
    let mut held: Vec<u8> = Vec::with_capacity(2 * BLOCK);
    std::iter::from_fn(move || {
        while held.len() < BLOCK {
            match bytes.next() {
                Some(more) => held.extend_from_slice(more),
                None if held.is_empty() => return None,
                None => return Some(Cow::Owned(BASE64.encode(std::mem::take(&mut held)).into_bytes())),
            }
        }
        let text = BASE64.encode(&held[..BLOCK]).into_bytes();
        held.drain(..BLOCK);
        Some(Cow::Owned(text))
    })
}

/// Gathers the events of one transaction into pieces of bounded size.
///
/// Statements of the source that follow each other are run as one where that means the same: the server opens and
/// locks the tables of a statement before its first row event and lets go of them behind the one that carries STMT_END
/// (`sql/log_event.cc`, `Rows_log_event::do_apply_event`), and a statement may change several tables in any way, as one
/// does whose tables have triggers. To open and lock is what small statements cost most.
pub struct Packer {
    limit: usize,
    /// Done statements of the piece that is being filled.
    piece: Piece,
    /// Ended statements of the BINLOG that is being filled.
    events: Vec<u8>,
    open: Statement,
    /// The table maps of the source's current statement, needed again if it goes on in another BINLOG.
    maps: Vec<Map>,
    /// The source's current statement has ended.
    is_ended: bool,
}

/// A table map.
#[derive(Clone)]
struct Map {
    table_id: u64,
    table: TableName,
    event: Event,
}

/// What the server will run as one statement.
#[derive(Default)]
struct Statement {
    maps: Vec<Map>,
    rows: Vec<u8>,
    /// The last row event: not yet in `rows`, as it may have to carry STMT_END.
    last: Option<(Event, RowsHeader)>,
}

impl Statement {
    /// Whether a statement with these maps, that begins with this row event, may go on in this one.
    fn takes(&self, maps: &[Map], header: &RowsHeader) -> bool {
        // Whether keys are checked is looked at once a statement.
        let same_flags = |(_, last): &(Event, RowsHeader)| last.flags | STMT_END == header.flags | STMT_END;
        self.last.as_ref().is_none_or(same_flags) && maps.iter().all(|map| self.agrees(map))
    }

    /// Numbers and tables belong to each other one to one in a statement.
    fn agrees(&self, map: &Map) -> bool {
        let same = |known: &&Map| known.table_id == map.table_id || known.table == map.table;
        self.maps.iter().find(same).is_none_or(|known| known.is_same_as(map))
    }

    fn knows(&self, map: &Map) -> bool {
        self.maps.iter().any(|known| known.table_id == map.table_id)
    }

    fn add(&mut self, maps: &[Map]) {
        for map in maps {
            if !self.knows(map) {
                self.maps.push(map.clone());
            }
        }
    }

    /// How many bytes of these maps are not in it.
    fn lacks(&self, maps: &[Map]) -> usize {
        maps.iter().filter(|map| !self.knows(map)).map(|map| map.event.bytes().len()).sum()
    }

    fn push(&mut self, event: Event, header: RowsHeader) -> Result<()> {
        if let Some((event, _)) = self.last.replace((event, header)) {
            self.rows.extend_from_slice(without_stmt_end(event)?.bytes());
        }
        Ok(())
    }

    fn len(&self) -> usize {
        let maps: usize = self.maps.iter().map(|map| map.event.bytes().len()).sum();
        maps + self.rows.len() + self.last.as_ref().map_or(0, |(event, _)| event.bytes().len())
    }

    /// Appends it, ended by STMT_END; nothing if there are no rows. What comes next begins anew.
    fn end(&mut self, events: &mut Vec<u8>) -> Result<()> {
        let statement = std::mem::take(self);
        if let Some((last, _)) = statement.last {
            for map in &statement.maps {
                events.extend_from_slice(map.event.bytes());
            }
            events.extend_from_slice(&statement.rows);
            events.extend_from_slice(with_stmt_end(last)?.bytes());
        }
        Ok(())
    }
}

impl Map {
    /// Whether both say the same of the same table: all but the moment.
    fn is_same_as(&self, other: &Map) -> bool {
        self.event.body() == other.event.body()
    }
}

impl Packer {
    /// `limit`: bytes of events in a piece, exceeded only by a single larger row event with its maps.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            piece: Piece::default(),
            events: Vec::new(),
            open: Statement::default(),
            maps: Vec::new(),
            is_ended: true,
        }
    }

    /// Adds a table map. It goes where its first rows go.
    pub fn map(&mut self, event: Event) -> Result<()> {
        if self.is_ended {
            self.maps.clear();
            self.is_ended = false;
        }
        let (table_id, table) = TableMap::parse_name(&event)?;
        self.maps.push(Map { table_id, table, event });
        Ok(())
    }

    /// Adds a row event; returns what is full: the piece into which it does not fit any more, and its own if it is
    /// large.
    pub fn rows(&mut self, event: Event, header: RowsHeader) -> Result<Vec<Piece>> {
        self.is_ended = header.ends_statement();
        // It has no rows, only ends the statement; unless a server has counted its tables that far.
        let is_mapped = self.maps.iter().any(|map| map.table_id == header.table_id);
        if RowsHeader::NO_TABLE.contains(&header.table_id) && !is_mapped {
            return Ok(Vec::new());
        }
        let mut full = Vec::new();
        if !self.open.takes(&self.maps, &header) {
            self.open.end(&mut self.events)?;
        }
        let coming = self.open.lacks(&self.maps) + event.bytes().len();
        if self.held() > 0 && self.held() + coming > self.limit {
            self.close()?;
            full.push(std::mem::take(&mut self.piece));
        }
        self.open.add(&self.maps);
        let is_large = event.bytes().len() > LARGE;
        self.open.push(event, header)?;
        if is_large {
            // Not held beside the next.
            self.close()?;
            full.push(std::mem::take(&mut self.piece));
        }
        Ok(full)
    }

    /// The statement that is being packed ends here, though its last row event has been left out.
    pub fn end_statement(&mut self) {
        self.is_ended = true;
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
        self.piece.sql.len() + self.events.len() + self.open.len()
    }

    /// Ends the BINLOG that is being filled.
    fn close(&mut self) -> Result<()> {
        if self.events.is_empty()
            && self.open.rows.is_empty()
            && let Some((last, _)) = self.open.last.take_if(|(event, _)| event.bytes().len() > LARGE)
        {
            let statement = std::mem::take(&mut self.open);
            let maps = statement.maps.into_iter().map(|map| map.event);
            self.piece.push_events(maps.chain([with_stmt_end(last)?]).collect());
            return Ok(());
        }
        self.open.end(&mut self.events)?;
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
    use crate::binlog::event::{Checksum, HEADER_LEN, Header, kind};

    fn event(kind: u8, body: &[u8]) -> Event {
        let header = Header { timestamp: 1, kind, server_id: 1, size: 0, log_pos: 0, flags: 0 };
        Event::build(header, body, Checksum::Crc32)
    }

    fn map() -> Event {
        map_of(7, b't', 3)
    }

    fn map_of(id: u8, name: u8, column: u8) -> Event {
        event(kind::TABLE_MAP, &[id, 0, 0, 0, 0, 0, 1, 0, 1, b'g', 0, 1, name, 0, 1, column, 0, 0])
    }

    /// A write of one column to table 7, padded to a size.
    fn rows(flags: u16, size: usize) -> (Event, RowsHeader) {
        rows_of(7, flags, size)
    }

    fn rows_of(id: u8, flags: u16, size: usize) -> (Event, RowsHeader) {
        let mut body = vec![id, 0, 0, 0, 0, 0];
        body.extend(flags.to_le_bytes());
        body.extend([2, 0, 1, 1]);
        body.resize(body.len() + size, 0);
        let event = event(kind::WRITE_ROWS, &body);
        let header = RowsHeader::parse(&event).unwrap();
        (event, header)
    }

    /// The kinds of the events in each BINLOG of a piece, with STMT_END marked.
    fn events(piece: &Piece) -> Vec<String> {
        let text: Vec<u8> = piece.blocks().flat_map(Cow::into_owned).collect();
        assert_eq!(text.len(), piece.len());
        let sql = String::from_utf8(text).unwrap();
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
    fn the_statements_of_a_small_transaction_are_run_as_one() {
        let mut packer = Packer::new(10_000);
        for _ in 0..3 {
            packer.map(map()).unwrap();
            let (event, header) = rows(STMT_END, 10);
            assert_eq!(packer.rows(event, header).unwrap(), []);
        }
        assert_eq!(events(&packer.finish().unwrap()), ["mrrR"]);
    }

    #[test]
    fn statements_on_several_tables_have_their_maps_in_front() {
        let mut packer = Packer::new(10_000);
        for (id, name) in [(7, b't'), (8, b'u'), (7, b't')] {
            packer.map(map_of(id, name, 3)).unwrap();
            let (event, header) = rows_of(id, STMT_END, 10);
            assert_eq!(packer.rows(event, header).unwrap(), []);
        }
        assert_eq!(events(&packer.finish().unwrap()), ["mmrrR"]);
    }

    /// Another number of the same table, another table under the same number, another layout, other checks.
    #[test]
    fn what_would_not_mean_the_same_in_one_statement_stays_in_two() {
        const NO_FOREIGN_KEY_CHECKS: u16 = 2;
        for (second, flags) in [
            (map_of(8, b't', 3), 0),
            (map_of(7, b'u', 3), 0),
            (map_of(7, b't', 8), 0),
            (map_of(7, b't', 3), NO_FOREIGN_KEY_CHECKS),
        ] {
            let mut packer = Packer::new(10_000);
            packer.map(map()).unwrap();
            let (event, header) = rows(STMT_END, 10);
            packer.rows(event, header).unwrap();
            let (id, _) = TableMap::parse_name(&second).unwrap();
            packer.map(second).unwrap();
            let (event, header) = rows_of(id as u8, flags | STMT_END, 10);
            packer.rows(event, header).unwrap();
            assert_eq!(events(&packer.finish().unwrap()), ["mRmR"]);
        }
    }

    /// Such an event must be the last of what it ends (`sql/log_event.cc` asserts it).
    #[test]
    fn an_event_without_a_table_only_ends_its_statement() {
        let mut packer = Packer::new(10_000);
        for _ in 0..2 {
            packer.map(map()).unwrap();
            let (open, header) = rows(0, 10);
            packer.rows(open, header).unwrap();
            let event = event(kind::WRITE_ROWS, &[0xff, 0xff, 0xff, 0, 0, 0, 1, 0, 2, 0, 0]);
            let header = RowsHeader::parse(&event).unwrap();
            assert_eq!(packer.rows(event, header).unwrap(), []);
        }
        assert_eq!(events(&packer.finish().unwrap()), ["mrR"]);
    }

    #[test]
    fn a_statement_that_is_split_carries_its_maps_and_ends_in_every_piece() {
        let mut packer = Packer::new(1_000);
        packer.map(map()).unwrap();
        packer.map(map_of(8, b'u', 3)).unwrap();
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
        packer.map(map()).unwrap();
        let (event, header) = rows(STMT_END, 5_000);
        assert_eq!(packer.rows(event, header).unwrap(), []);
        packer.map(map()).unwrap();
        let (event, header) = rows(STMT_END, 10);
        let first = packer.rows(event, header).unwrap().remove(0);
        assert_eq!(events(&first), ["mR"]);
        assert_eq!(events(&packer.finish().unwrap()), ["mR"]);
    }

    #[test]
    fn a_large_row_event_is_a_piece_at_once_and_is_turned_into_text_only_when_it_is_sent() {
        for size in [LARGE, LARGE + 1, LARGE + 2, 3 * BLOCK + LARGE] {
            let mut packer = Packer::new(LARGE / 2);
            packer.map(map()).unwrap();
            let (event, header) = rows(0, 10);
            assert_eq!(packer.rows(event, header).unwrap(), []);
            packer.map(map_of(8, b'u', 3)).unwrap();
            let (event, header) = rows_of(8, 0, size);
            let pieces = packer.rows(event, header).unwrap();
            assert_eq!(pieces.iter().flat_map(events).collect::<Vec<_>>(), ["mR", "mmR"]);
            assert!(pieces[1].is_large() && pieces[1].sql.len() < 100 && pieces[1].len() > size);
            let (event, header) = rows_of(8, STMT_END, 10);
            assert_eq!(packer.rows(event, header).unwrap(), []);
            packer.statement(b"SAVEPOINT a").unwrap();
            assert_eq!(events(&packer.finish().unwrap()), ["mmR", "SAVEPOINT a"]);
        }
    }

    #[test]
    fn large_events_stay_where_they_belong_when_pieces_are_joined() {
        let large = || {
            let mut packer = Packer::new(LARGE);
            packer.map(map()).unwrap();
            let (event, header) = rows(STMT_END, LARGE + 7);
            let mut pieces = packer.rows(event, header).unwrap();
            pieces.remove(0)
        };
        let mut joined = Piece::of(b"SET a=1".to_vec());
        joined.append(&large());
        joined.push(b"SAVEPOINT a");
        joined.append(&large());
        joined.push(b"COMMIT");
        assert_eq!(events(&joined), ["SET a=1", "mR", "SAVEPOINT a", "mR", "COMMIT"]);
        assert_eq!(joined.results, 5);
    }

    #[test]
    fn a_statement_whose_last_rows_are_left_out_ends_all_the_same() {
        let mut packer = Packer::new(10_000);
        packer.end_statement();
        for _ in 0..2 {
            packer.map(map()).unwrap();
            let (event, header) = rows(0, 10);
            packer.rows(event, header).unwrap();
            packer.end_statement();
            packer.end_statement();
        }
        assert_eq!(events(&packer.finish().unwrap()), ["mrR"]);
    }

    #[test]
    fn a_savepoint_runs_between_the_rows_around_it() {
        let mut packer = Packer::new(10_000);
        packer.map(map()).unwrap();
        let (event, header) = rows(STMT_END, 10);
        packer.rows(event, header).unwrap();
        packer.statement(b"SAVEPOINT a").unwrap();
        packer.map(map()).unwrap();
        let (event, header) = rows(STMT_END, 10);
        packer.rows(event, header).unwrap();
        assert_eq!(events(&packer.finish().unwrap()), ["mR", "SAVEPOINT a", "mR"]);
    }
}
