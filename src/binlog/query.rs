//! The Query event: a statement with its session context.
//!
//! Layout: class Query_event in libs/mysql/binlog/event/statement_events.h (mysql-server). The status variables
//! are `session`'s business. Bytes that do not fit are `Kind::Corrupt`.

use super::event::{Event, kind};
use super::session::StatusVars;
use super::wire::Cursor;
use crate::error::Result;

/// A Query event's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryEvent {
    pub thread_id: u32,
    pub exec_time: u32,
    pub error_code: u16,
    /// The default database, UTF-8; empty if there was none.
    pub schema: Vec<u8>,
    pub status: StatusVars,
    /// The statement, in the client's character set.
    pub text: Vec<u8>,
}

impl QueryEvent {
    pub fn parse(event: &Event) -> Result<QueryEvent> {
        if event.kind() != kind::QUERY {
            let input = Cursor::new("query event", event.body());
            return Err(input.corrupt(format_args!("this is a {} event", event.header().name())));
        }
        QueryEvent::parse_body(event.body())
    }

    /// Parses an event's body (without header and checksum).
    pub fn parse_body(body: &[u8]) -> Result<QueryEvent> {
        let mut input = Cursor::new("query event", body);
        let thread_id = input.u32()?;
        let exec_time = input.u32()?;
        let schema_len = usize::from(input.u8()?);
        let error_code = input.u16()?;
        let status_len = usize::from(input.u16()?);
        let status = StatusVars { raw: input.bytes(status_len)?.to_vec() };
        let schema = input.bytes(schema_len)?.to_vec();
        if input.u8()? != 0 || schema.contains(&0) {
            return Err(input.corrupt("the database's name does not end where its length says"));
        }
        let text = input.bytes(input.remaining())?.to_vec();
        Ok(QueryEvent { thread_id, exec_time, error_code, schema, status, text })
    }

    /// The body's bytes. The schema and the status variables must have come from [`parse_body`](Self::parse_body)
    /// or be as short as a server's.
    pub fn encode_body(&self) -> Vec<u8> {
        debug_assert!(self.schema.len() <= 255 && self.status.raw.len() <= usize::from(u16::MAX));
        let mut body = Vec::with_capacity(14 + self.status.raw.len() + self.schema.len() + self.text.len());
        body.extend(self.thread_id.to_le_bytes());
        body.extend(self.exec_time.to_le_bytes());
        body.push(self.schema.len() as u8);
        body.extend(self.error_code.to_le_bytes());
        body.extend((self.status.raw.len() as u16).to_le_bytes());
        body.extend(&self.status.raw);
        body.extend(&self.schema);
        body.push(0);
        body.extend(&self.text);
        body
    }
}
