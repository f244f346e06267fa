//! The Query event: a statement with its session context.

use super::session::StatusVars;
use crate::Result;

/// A Query event's body (statement_events.h, class Query_event).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryEvent {
    pub thread_id: u32,
    pub exec_time: u32,
    pub error_code: u16,
    /// The default database, UTF-8; empty if there was none.
    pub schema: Vec<u8>,
    pub status: StatusVars,
    pub text: Vec<u8>,
}

impl QueryEvent {
    /// Parses an event's body (without header and checksum).
    pub fn parse_body(_body: &[u8]) -> Result<QueryEvent> {
        todo!()
    }

    /// The body's bytes.
    pub fn encode_body(&self) -> Vec<u8> {
        todo!()
    }
}
