//! One event of a binlog: its bytes, checked for length and checksum before anything looks inside.
//!
//! Formats: "The Binary Log" in the MySQL Source Code Documentation, `libs/mysql/binlog/event` of mysql-server.
//! This module frames; its submodules read the few kinds of event that Tablecast has to understand. Row images
//! are never decoded. Bytes that do not fit are `Kind::Corrupt`.

mod format;
mod gtid;
mod query_text;
mod read;
mod rows;
mod table_map;
#[cfg(test)]
mod tests;

pub use format::FormatDescription;
pub use gtid::GtidEvent;
pub use query_text::query_text;
pub use read::{failed, read_event, read_event_of};
pub use rows::{Change, RowsHeader, STMT_END, with_stmt_end, without_stmt_end};
pub use table_map::{ColumnType, TableMap};

use crate::error::{Error, Kind, Result};

/// The first four bytes of a binlog file.
pub const MAGIC: [u8; 4] = [0xfe, b'b', b'i', b'n'];

/// Every event begins with a header of this size (binlog format 4).
pub const HEADER_LEN: usize = 19;

pub const CHECKSUM_LEN: usize = 4;

/// No event is larger: `max_allowed_packet` of a replica's connection ends at 1 GiB, and so do row events.
/// A header that claims more is not a header.
pub const MAX_EVENT_LEN: u32 = (1 << 30) + (1 << 20);

/// The server may forget to set it on a clean end; it says that the file is still being written.
pub const FLAG_IN_USE: u16 = 0x1;
/// The statement depends on its session (LOG_EVENT_THREAD_SPECIFIC_F): it dropped a table, used a temporary one,
/// or called something like CONNECTION_ID().
pub const FLAG_THREAD_SPECIFIC: u16 = 0x4;
/// Made by the server for this connection, not in any file.
pub const FLAG_ARTIFICIAL: u16 = 0x20;
/// A reader that does not know this event skips it.
pub const FLAG_IGNORABLE: u16 = 0x80;

/// `Log_event_type` in libs/mysql/binlog/event/binlog_event.h.
pub mod kind {
    pub const QUERY: u8 = 2;
    pub const STOP: u8 = 3;
    pub const ROTATE: u8 = 4;
    pub const INTVAR: u8 = 5;
    pub const APPEND_BLOCK: u8 = 9;
    pub const DELETE_FILE: u8 = 11;
    pub const RAND: u8 = 13;
    pub const USER_VAR: u8 = 14;
    pub const FORMAT_DESCRIPTION: u8 = 15;
    pub const XID: u8 = 16;
    pub const BEGIN_LOAD_QUERY: u8 = 17;
    pub const EXECUTE_LOAD_QUERY: u8 = 18;
    pub const TABLE_MAP: u8 = 19;
    pub const WRITE_ROWS_V1: u8 = 23;
    pub const UPDATE_ROWS_V1: u8 = 24;
    pub const DELETE_ROWS_V1: u8 = 25;
    pub const INCIDENT: u8 = 26;
    pub const HEARTBEAT: u8 = 27;
    pub const IGNORABLE: u8 = 28;
    pub const ROWS_QUERY: u8 = 29;
    pub const WRITE_ROWS: u8 = 30;
    pub const UPDATE_ROWS: u8 = 31;
    pub const DELETE_ROWS: u8 = 32;
    pub const GTID: u8 = 33;
    pub const ANONYMOUS_GTID: u8 = 34;
    pub const PREVIOUS_GTIDS: u8 = 35;
    pub const TRANSACTION_CONTEXT: u8 = 36;
    pub const VIEW_CHANGE: u8 = 37;
    pub const XA_PREPARE: u8 = 38;
    pub const PARTIAL_UPDATE_ROWS: u8 = 39;
    pub const TRANSACTION_PAYLOAD: u8 = 40;
    pub const HEARTBEAT_V2: u8 = 41;
    pub const GTID_TAGGED: u8 = 42;

    /// Events that carry rows.
    pub fn is_rows(kind: u8) -> bool {
        matches!(kind, WRITE_ROWS_V1..=DELETE_ROWS_V1 | WRITE_ROWS..=DELETE_ROWS | PARTIAL_UPDATE_ROWS)
    }

    /// The name that mysqlbinlog and SHOW BINLOG EVENTS use.
    pub fn name(kind: u8) -> &'static str {
        match kind {
            QUERY => "Query",
            STOP => "Stop",
            ROTATE => "Rotate",
            INTVAR => "Intvar",
            APPEND_BLOCK => "Append_block",
            DELETE_FILE => "Delete_file",
            RAND => "RAND",
            USER_VAR => "User var",
            FORMAT_DESCRIPTION => "Format_desc",
            XID => "Xid",
            BEGIN_LOAD_QUERY => "Begin_load_query",
            EXECUTE_LOAD_QUERY => "Execute_load_query",
            TABLE_MAP => "Table_map",
            WRITE_ROWS_V1 => "Write_rows_v1",
            UPDATE_ROWS_V1 => "Update_rows_v1",
            DELETE_ROWS_V1 => "Delete_rows_v1",
            INCIDENT => "Incident",
            HEARTBEAT | HEARTBEAT_V2 => "Heartbeat",
            IGNORABLE => "Ignorable",
            ROWS_QUERY => "Rows_query",
            WRITE_ROWS => "Write_rows",
            UPDATE_ROWS => "Update_rows",
            DELETE_ROWS => "Delete_rows",
            GTID => "Gtid",
            ANONYMOUS_GTID => "Anonymous_Gtid",
            PREVIOUS_GTIDS => "Previous_gtids",
            TRANSACTION_CONTEXT => "Transaction_context",
            VIEW_CHANGE => "View_change",
            XA_PREPARE => "XA_prepare",
            PARTIAL_UPDATE_ROWS => "Update_rows_partial",
            TRANSACTION_PAYLOAD => "Transaction_payload",
            GTID_TAGGED => "Gtid_tagged",
            _ => "unknown",
        }
    }
}

/// Whether events end with four bytes of CRC32 over the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    None,
    Crc32,
}

impl Checksum {
    pub fn byte_count(self) -> usize {
        match self {
            Checksum::None => 0,
            Checksum::Crc32 => CHECKSUM_LEN,
        }
    }
}

/// The 19 bytes that begin every event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Seconds since 1970, when the statement began.
    pub timestamp: u32,
    pub kind: u8,
    pub server_id: u32,
    /// Of the whole event, header and checksum included.
    pub size: u32,
    /// Where the event ends in its file, modulo 2^32; 0 for artificial events and inside a payload.
    pub log_pos: u32,
    pub flags: u16,
}

impl Header {
    /// Reads a header and nothing else; refuses a size that no event has.
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Header> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let header = Header {
            timestamp: word(0),
            kind: bytes[4],
            server_id: word(5),
            size: word(9),
            log_pos: word(13),
            flags: u16::from_le_bytes([bytes[17], bytes[18]]),
        };
        if header.size < HEADER_LEN as u32 || header.size > MAX_EVENT_LEN {
            let what = format!("event header: a {} event cannot have {} bytes", header.name(), header.size);
            return Err(Error::new(Kind::Corrupt, what));
        }
        Ok(header)
    }

    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0..4].copy_from_slice(&self.timestamp.to_le_bytes());
        bytes[4] = self.kind;
        bytes[5..9].copy_from_slice(&self.server_id.to_le_bytes());
        bytes[9..13].copy_from_slice(&self.size.to_le_bytes());
        bytes[13..17].copy_from_slice(&self.log_pos.to_le_bytes());
        bytes[17..19].copy_from_slice(&self.flags.to_le_bytes());
        bytes
    }

    pub fn name(&self) -> &'static str {
        kind::name(self.kind)
    }
}

/// A whole event whose size and checksum have been found right.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    bytes: Vec<u8>,
    header: Header,
    checksum: Checksum,
}

impl Event {
    /// Takes the bytes of one event: header, body and, with `Checksum::Crc32`, the checksum. The size in the
    /// header must be theirs. A format description says itself whether it has a checksum.
    pub fn from_bytes(bytes: Vec<u8>, checksum: Checksum) -> Result<Event> {
        let Some(head) = bytes.first_chunk::<HEADER_LEN>() else {
            let what = format!("read an event: {} bytes, a header has {HEADER_LEN}", bytes.len());
            return Err(Error::new(Kind::Corrupt, what));
        };
        let header = Header::parse(head)?;
        let corrupt = |why: String| {
            let what = format!("read a {} event that ends at {}: {why}", header.name(), header.log_pos);
            Error::new(Kind::Corrupt, what)
        };
        if header.size as usize != bytes.len() {
            return Err(corrupt(format!("its header says {} bytes, there are {}", header.size, bytes.len())));
        }
        // A format description has room for a checksum even where the algorithm says that there is none.
        let (checksum, verify) = match header.kind {
            kind::FORMAT_DESCRIPTION => (Checksum::Crc32, format::checksum_of(&bytes)? == Checksum::Crc32),
            _ => (checksum, checksum == Checksum::Crc32),
        };
        if bytes.len() < HEADER_LEN + checksum.byte_count() {
            return Err(corrupt(format!("{} bytes leave no room for its checksum", bytes.len())));
        }
        let event = Event { bytes, header, checksum };
        if header.kind == kind::FORMAT_DESCRIPTION {
            // One flipped bit makes another kind of event look like one that needs no checksum.
            FormatDescription::parse(&event)?;
        }
        if verify {
            let (computed, stored) = (event.computed_crc(), event.stored_crc());
            if computed != stored {
                return Err(corrupt(format!("its checksum is {stored:08x}, its bytes give {computed:08x}")));
            }
        }
        Ok(event)
    }

    /// Makes an event; `header.size` and the checksum are filled in.
    pub fn build(header: Header, body: &[u8], checksum: Checksum) -> Event {
        let size = HEADER_LEN + body.len() + checksum.byte_count();
        let header = Header { size: size as u32, ..header };
        let mut bytes = Vec::with_capacity(size);
        bytes.extend(header.to_bytes());
        bytes.extend(body);
        bytes.resize(size, 0);
        let mut event = Event { bytes, header, checksum };
        event.seal();
        event
    }

    pub fn header(&self) -> Header {
        self.header
    }

    pub fn kind(&self) -> u8 {
        self.header.kind
    }

    /// Header, body, checksum.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Without header and checksum.
    pub fn body(&self) -> &[u8] {
        &self.bytes[HEADER_LEN..self.bytes.len() - self.checksum.byte_count()]
    }

    pub fn checksum(&self) -> Checksum {
        self.checksum
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The same event with, or without, a checksum. A format description keeps its own.
    pub fn with_checksum(mut self, checksum: Checksum) -> Event {
        if checksum == self.checksum || self.kind() == kind::FORMAT_DESCRIPTION {
            return self;
        }
        let body_end = self.bytes.len() - self.checksum.byte_count();
        self.bytes.resize(body_end + checksum.byte_count(), 0);
        self.checksum = checksum;
        self.header.size = self.bytes.len() as u32;
        self.rewrite_header(self.header);
        self
    }

    /// The same event ending at another position of a file.
    pub fn at_position(mut self, log_pos: u32) -> Event {
        self.rewrite_header(Header { log_pos, ..self.header });
        self
    }

    fn rewrite_header(&mut self, header: Header) {
        self.header = header;
        self.bytes[..HEADER_LEN].copy_from_slice(&header.to_bytes());
        self.seal();
    }

    /// Changes bytes of the body in place.
    fn edit_body(mut self, edit: impl FnOnce(&mut [u8])) -> Event {
        let end = self.bytes.len() - self.checksum.byte_count();
        edit(&mut self.bytes[HEADER_LEN..end]);
        self.seal();
        self
    }

    fn seal(&mut self) {
        if let Checksum::Crc32 = self.checksum {
            let crc = self.computed_crc();
            let at = self.bytes.len() - CHECKSUM_LEN;
            self.bytes[at..].copy_from_slice(&crc.to_le_bytes());
        }
    }

    /// Over everything before the checksum. The server clears LOG_EVENT_BINLOG_IN_USE_F of a format description
    /// in place, without a new checksum, and computes as if it had never been set (`Log_event_footer`).
    fn computed_crc(&self) -> u32 {
        let covered = &self.bytes[..self.bytes.len() - CHECKSUM_LEN];
        if self.header.kind != kind::FORMAT_DESCRIPTION || self.header.flags & FLAG_IN_USE == 0 {
            return crc32fast::hash(covered);
        }
        let cleared = Header { flags: self.header.flags & !FLAG_IN_USE, ..self.header };
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&cleared.to_bytes());
        hasher.update(&covered[HEADER_LEN..]);
        hasher.finalize()
    }

    fn stored_crc(&self) -> u32 {
        let end = self.bytes.len();
        u32::from_le_bytes([
            self.bytes[end - 4],
            self.bytes[end - 3],
            self.bytes[end - 2],
            self.bytes[end - 1],
        ])
    }
}

/// How many bytes the event has that begins here; all of them are here.
pub fn event_at(bytes: &[u8]) -> Result<usize> {
    let size = match bytes.first_chunk() {
        Some(head) => Header::parse(head)?.size as usize,
        None => HEADER_LEN,
    };
    if size < HEADER_LEN + CHECKSUM_LEN || size > bytes.len() {
        let what = format!("read an event: it has {size} bytes, {} are there", bytes.len());
        return Err(Error::new(Kind::Corrupt, what));
    }
    Ok(size)
}

/// Whether the CRC32 of a whole event, no format description, is that of its bytes.
pub fn verify(event: &[u8]) -> Result<()> {
    let covered = event_at(event)? - CHECKSUM_LEN;
    if crc32fast::hash(&event[..covered]).to_le_bytes() != event[covered..] {
        let what = format!("read an event of {} bytes: its checksum is not that of its bytes", event.len());
        return Err(Error::new(Kind::Corrupt, what));
    }
    Ok(())
}

/// Puts a whole event with a CRC32, no format description, at another position of a file, in place.
pub fn put_at_position(event: &mut [u8], log_pos: u32) {
    let Some(covered) = event.len().checked_sub(CHECKSUM_LEN).filter(|len| *len >= HEADER_LEN) else {
        return;
    };
    event[13..17].copy_from_slice(&log_pos.to_le_bytes());
    let crc = crc32fast::hash(&event[..covered]);
    event[covered..].copy_from_slice(&crc.to_le_bytes());
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} event, {} bytes, ends at {}", self.header.name(), self.bytes.len(), self.header.log_pos)
    }
}
