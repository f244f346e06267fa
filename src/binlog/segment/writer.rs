//! Writing a segment.

use std::io::{BufWriter, Write};

use uuid::Uuid;

use crate::binlog::event::{Checksum, Event, FormatDescription, GtidEvent, Header, MAGIC, kind, read_event};
use crate::binlog::gtid::{Gtid, GtidSet, Tsid};
use crate::binlog::note::Note;
use crate::binlog::transaction::Transaction;
use crate::error::{Error, Kind, Result};

/// Writes one segment, transaction after transaction.
pub struct SegmentWriter<W: Write> {
    out: BufWriter<W>,
    stream: Uuid,
    server_id: u32,
    /// Of the last transaction; it becomes that of the STOP event.
    timestamp: u32,
    first: u64,
    count: u64,
    position: u64,
}

/// What a finished segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    pub first: u64,
    /// `first - 1` if the segment is empty.
    pub last: u64,
    pub count: u64,
    /// Uncompressed.
    pub bytes: u64,
}

impl<W: Write> SegmentWriter<W> {
    /// `first_tx`: the number that the first transaction gets.
    pub fn new(out: W, stream: Uuid, format: &FormatDescription, first_tx: u64) -> Result<Self> {
        let mut writer = SegmentWriter {
            out: BufWriter::with_capacity(64 << 10, out),
            stream,
            server_id: format.server_id,
            timestamp: format.timestamp,
            first: first_tx,
            count: 0,
            position: 0,
        };
        writer.write(&MAGIC)?;
        writer.write_event(format.to_event())?;
        let mut before = GtidSet::new();
        before.insert_range(&Tsid::untagged(stream), 1, first_tx.saturating_sub(1));
        writer.write_own(kind::PREVIOUS_GTIDS, &before.encode())?;
        Ok(writer)
    }

    /// Writes the transaction as the stream's next one; returns its number. It may start in a region when every
    /// stream transaction up to `depends_on` has committed.
    pub fn push(&mut self, transaction: &mut Transaction, depends_on: u64) -> Result<u64> {
        let n = self.first + self.count;
        let (timestamp, server_id) = (transaction.timestamp, transaction.server_id);
        if depends_on >= n {
            let what = format!("write stream transaction {n}: it cannot depend on {depends_on}");
            return Err(Error::new(Kind::Failed, what));
        }
        let note = Note {
            source_gtid: transaction.source_gtid.clone(),
            schema_collations: transaction.schema_collations.clone(),
        };
        let note = note.to_event(timestamp, server_id)?;
        let gtid = GtidEvent {
            gtid: Some(Gtid::new(self.stream, n)),
            last_committed: depends_on,
            sequence_number: n,
            ..transaction.gtid_event.clone()
        };
        let gtid =
            gtid.to_event(timestamp, server_id, note.bytes().len() as u64 + transaction.events.len())?;
        self.write_event(gtid)?;
        self.write_event(note)?;
        let mut events = transaction.events.reader()?;
        let whence = "a transaction back from its spool";
        while let Some(event) = read_event(&mut events, Checksum::Crc32, whence)? {
            self.write_event(event)?;
        }
        self.timestamp = timestamp;
        self.count += 1;
        Ok(n)
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// Written so far, uncompressed.
    pub fn bytes(&self) -> u64 {
        self.position
    }

    /// Closes the file with a STOP event, so that one that was cut between two transactions is known as cut.
    pub fn finish(mut self) -> Result<(W, Written)> {
        self.write_own(kind::STOP, &[])?;
        let written = Written {
            first: self.first,
            last: self.first + self.count - 1,
            count: self.count,
            bytes: self.position,
        };
        let out = self.out.into_inner().map_err(|failed| write_failed(failed.into_error()))?;
        Ok((out, written))
    }

    fn write_own(&mut self, kind: u8, body: &[u8]) -> Result<()> {
        let header = Header {
            timestamp: self.timestamp,
            kind,
            server_id: self.server_id,
            size: 0,
            log_pos: 0,
            flags: 0,
        };
        self.write_event(Event::build(header, body, Checksum::Crc32))
    }

    fn write_event(&mut self, event: Event) -> Result<()> {
        let end = self.position + event.bytes().len() as u64;
        // Positions have 32 bits; past 4 GiB the server writes the lower ones too.
        self.write(event.at_position(end as u32).bytes())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(write_failed)?;
        self.position += bytes.len() as u64;
        Ok(())
    }
}

fn write_failed(cause: std::io::Error) -> Error {
    Error::new(Kind::Failed, "write a segment").caused_by(cause)
}
