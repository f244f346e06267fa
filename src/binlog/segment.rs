//! Segments: ordinary binlog files that hold only transactions of one stream.

use std::io::{Read, Write};
use uuid::Uuid;

use super::event::{Event, FormatDescription};
use super::gtid::Gtid;
use super::note::Note;
use super::transaction::Transaction;
use crate::error::Result;

pub struct SegmentWriter<W: Write> {
    _out: W,
}

/// What a finished segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    pub first: u64,
    pub last: u64,
    pub count: u64,
    /// Uncompressed.
    pub bytes: u64,
}

impl<W: Write> SegmentWriter<W> {
    pub fn new(_out: W, _stream: Uuid, _format: &FormatDescription, _first_tx: u64) -> Result<Self> {
        todo!()
    }

    /// Writes the transaction as the stream's next one; returns its number.
    pub fn push(&mut self, _transaction: &mut Transaction, _depends_on: u64) -> Result<u64> {
        todo!()
    }

    pub fn count(&self) -> u64 {
        todo!()
    }

    /// Written so far, uncompressed.
    pub fn bytes(&self) -> u64 {
        todo!()
    }

    pub fn finish(self) -> Result<(W, Written)> {
        todo!()
    }
}

pub struct SegmentReader<R: Read> {
    input: R,
    format: Event,
}

/// How a transaction begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionHead {
    /// Its number in the stream.
    pub n: u64,
    /// It must not start before every transaction up to this one has committed; 0: none.
    pub depends_on: u64,
    pub source_gtid: Gtid,
    pub note: Note,
    pub commit_us: u64,
    pub original_commit_us: u64,
    /// Of all its events, the GTID event included.
    pub length: u64,
}

#[derive(Debug)]
pub enum Item {
    Begin(TransactionHead),
    Event(Event),
    /// After XID, COMMIT or the DDL statement.
    End,
}

impl<R: Read> SegmentReader<R> {
    pub fn new(_input: R, _expected_stream: Option<Uuid>) -> Result<Self> {
        todo!()
    }

    pub fn stream(&self) -> Uuid {
        todo!()
    }

    pub fn format_description(&self) -> &Event {
        &self.format
    }

    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Item>> {
        let _ = &mut self.input;
        todo!()
    }
}
