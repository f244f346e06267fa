//! Writing a segment.

use std::io::{BufWriter, Write};

use uuid::Uuid;

use crate::binlog::event::{
    Checksum, Event, FormatDescription, GtidEvent, Header, MAGIC, kind, put_at_position,
};
use crate::binlog::gtid::{Gtid, GtidSet, Tsid};
use crate::binlog::note::Note;
use crate::binlog::spool::Spool;
use crate::binlog::transaction::Transaction;
use crate::error::{Error, Kind, Result};

/// A transaction with so many bytes of events has the longest form of length in its GTID event.
pub const LARGE: u64 = 16 << 20;

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
        let n = self.begin(transaction, depends_on, transaction.events.len())?;
        transaction.events.events(|event| {
            // Positions have 32 bits; past 4 GiB the server writes the lower ones too.
            put_at_position(event, (self.position + event.len() as u64) as u32);
            self.out.write_all(event).map_err(write_failed)?;
            self.position += event.len() as u64;
            Ok(())
        })?;
        self.count += 1;
        Ok(n)
    }

    /// Writes what precedes the events of a transaction as the stream's next one, for events that have been written
    /// elsewhere, by an [`EventWriter`] that began at `place`. Gives the sink, into which they belong now, and its
    /// number.
    pub fn push_around(
        &mut self,
        transaction: &Transaction,
        depends_on: u64,
        events: EventsWritten,
    ) -> Result<(u64, &mut W)> {
        let n = self.begin(transaction, depends_on, events.bytes)?;
        if self.position != events.place {
            let (place, expected) = (self.position, events.place);
            let what = format!("write stream transaction {n}: it begins at {place}, not at {expected}");
            return Err(Error::new(Kind::Failed, what));
        }
        self.out.flush().map_err(write_failed)?;
        self.position += events.bytes;
        self.count += 1;
        Ok((n, self.out.get_mut()))
    }

    /// Where the events of the next transaction begin, if they are more than 16 MiB and `note` is its note.
    pub fn place_of_large(&self, source_gtid: &Gtid, gtid_event: &GtidEvent) -> Result<u64> {
        let note = Note { source_gtid: source_gtid.clone(), schema_collations: Vec::new() };
        let note = note.to_event(0, 0)?.bytes().len() as u64;
        let gtid = GtidEvent { gtid: Some(Gtid::new(self.stream, self.first)), ..gtid_event.clone() };
        let gtid = gtid.to_event(0, 0, LARGE)?.bytes().len() as u64;
        Ok(self.position + gtid + note)
    }

    /// GTID event and note, with `rest` bytes of events to follow.
    fn begin(&mut self, transaction: &Transaction, depends_on: u64, rest: u64) -> Result<u64> {
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
        let gtid = gtid.to_event(timestamp, server_id, note.bytes().len() as u64 + rest)?;
        self.write_event(gtid)?;
        self.write_event(note)?;
        self.timestamp = timestamp;
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

/// Writes the events of one transaction while it is still being read: as they stand in a segment, but elsewhere.
pub struct EventWriter<W: Write> {
    out: W,
    place: u64,
    bytes: u64,
}

/// What an [`EventWriter`] has written, for [`SegmentWriter::push_around`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventsWritten {
    /// Where in the segment they begin.
    pub place: u64,
    pub bytes: u64,
}

impl<W: Write> EventWriter<W> {
    pub fn new(out: W, place: u64) -> Self {
        Self { out, place, bytes: 0 }
    }

    /// Writes what is there, and forgets it there.
    pub fn push(&mut self, events: &mut Spool) -> Result<()> {
        events.events(|event| {
            self.bytes += event.len() as u64;
            put_at_position(event, (self.place + self.bytes) as u32);
            self.out.write_all(event).map_err(write_failed)
        })?;
        events.clear();
        Ok(())
    }

    pub fn finish(mut self) -> Result<(W, EventsWritten)> {
        self.out.flush().map_err(write_failed)?;
        Ok((self.out, EventsWritten { place: self.place, bytes: self.bytes }))
    }
}

fn write_failed(cause: std::io::Error) -> Error {
    Error::new(Kind::Failed, "write a segment").caused_by(cause)
}
