//! Segments: ordinary binlog files that hold only transactions of one stream.
//!
//! A segment is: the four magic bytes, a format description, PREVIOUS_GTIDS (the stream's transactions before this
//! file), transactions, a STOP event. Every event has a checksum and its position. A transaction is: a GTID
//! event `<stream>:<n>` whose logical clock counts over the whole stream (`sequence_number` = n), a note
//! (`Note`), then either one DDL statement, or BEGIN, table maps and rows, XID or COMMIT.
//!
//! The writer makes nothing else; the reader takes nothing else: what is cut, flipped, reordered or out of place is
//! `Kind::Corrupt`. Both hold one event at a time. What may *run* is not decided here, that is the region's gate.

mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use reader::{Item, SegmentReader, TransactionHead};
pub use writer::{EventWriter, EventsWritten, LARGE, SegmentWriter, Written};

/// How a transaction in a segment ends.
const COMMIT: &[u8] = b"COMMIT";
const BEGIN: &[u8] = b"BEGIN";
