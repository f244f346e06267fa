//! Running a segment: transactions side by side where the binlog's clock allows it, rows through `BINLOG`, DDL
//! byte for byte.
//!
//! [`read`] turns a checked segment into jobs, [`schedule`] hands them to [`worker`]s in an order that the source
//! could have committed (I4), each worker holds one connection whose session is in a known state ([`session`]).
//! A transaction runs under its stream GTID, so the server itself refuses to run it twice.

mod probe;
mod raw;
mod read;
mod schedule;
mod session;
mod share;
mod statement;
mod worker;

pub use raw::RunError;
pub use read::{Maps, PIECE};
pub use schedule::{Replay, Workers};
pub use session::{Context, Session, refused};
pub use statement::{LARGE, Packer, Piece, events_in, statement_length};
pub use worker::{is_passing, lost_to_a_lock};

use crate::binlog::gtid::Gtid;

/// Why a transaction could not be run.
#[derive(Debug)]
pub struct Failure {
    /// Its number in the stream.
    pub n: u64,
    pub source_gtid: Gtid,
    /// What was being done: `run DDL`, `run its rows`…
    pub doing: String,
    pub error: RunError,
}
