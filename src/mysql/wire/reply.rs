//! What a statement answers: OK, an error, or rows.

use std::fmt;

use super::fields::Fields;
use super::{Wire, command};
use crate::{Error, Result};

/// Another result of the same query follows.
const MORE_RESULTS_EXIST: u16 = 0x8;

/// One result. A query of several statements answers with several; see `Done::has_more` (and mind that the
/// answer of `BINLOG '…'` never says so, whatever follows).
#[derive(Clone, Debug)]
pub enum Reply {
    Done(Done),
    /// The statement failed; nothing after it in the same query was run.
    Error(ServerError),
    /// Text, NULL as `None`.
    Rows {
        rows: Vec<Vec<Option<Vec<u8>>>>,
        has_more: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    pub affected_rows: u64,
    pub warnings: u16,
    pub has_more: bool,
}

/// What an ERR packet says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    pub code: u16,
    pub state: String,
    pub message: String,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ERROR {} ({}): {}", self.code, self.state, self.message)
    }
}

impl std::error::Error for ServerError {}

impl ServerError {
    /// As an error of ours, with kind and hint by its number.
    pub fn into_error(self, doing: &str) -> Error {
        crate::mysql::server_error(self.code, &self.state, &self.message, doing)
    }

    /// Reads an ERR packet; whatever is not there is empty.
    pub(in crate::mysql) fn parse(payload: &[u8]) -> ServerError {
        let mut fields = Fields(payload.get(1..).unwrap_or_default());
        let code = fields.int(2).unwrap_or_default() as u16;
        let state = match fields.0.strip_prefix(b"#").and_then(|rest| rest.split_at_checked(5)) {
            Some((state, rest)) => {
                fields.0 = rest;
                String::from_utf8_lossy(state).into_owned()
            }
            // Before the login there is no state.
            None => "HY000".to_owned(),
        };
        ServerError { code, state, message: String::from_utf8_lossy(fields.0).into_owned() }
    }
}

impl Wire {
    /// Runs one statement and answers its first result; an error becomes one of ours, named by `doing`.
    pub async fn query(&mut self, sql: &[u8], doing: &str) -> Result<Reply> {
        self.send(command::QUERY, sql).await?;
        match self.reply().await? {
            Reply::Error(error) => Err(error.into_error(doing)),
            reply => Ok(reply),
        }
    }

    /// The next reply belongs to the same query, whatever the last one said: BINLOG's never says so.
    pub fn expect_more(&mut self) {
        self.has_more = true;
    }

    /// Reads one result: the next of the same query while there are more, else the first of the next query.
    pub async fn reply(&mut self) -> Result<Reply> {
        if !self.has_more {
            self.begin_answer();
        }
        let reply = self.one_reply().await?;
        self.has_more = match &reply {
            Reply::Done(done) => done.has_more,
            Reply::Rows { has_more, .. } => *has_more,
            Reply::Error(_) => false,
        };
        Ok(reply)
    }

    async fn one_reply(&mut self) -> Result<Reply> {
        let first = self.payload().await?;
        match first.first() {
            Some(0x00) => match parse_ok(&first) {
                Some(done) => Ok(Reply::Done(done)),
                None => Err(self.garbled("an OK packet that ends early")),
            },
            Some(0xff) => Ok(Reply::Error(ServerError::parse(&first))),
            Some(0xfb) => Err(self.garbled("the server asks for a local file")),
            _ => self.rows(&first).await,
        }
    }

    async fn rows(&mut self, count: &[u8]) -> Result<Reply> {
        let Some(columns) = Fields(count).length_encoded() else {
            return Err(self.garbled("a result without a column count"));
        };
        for _ in 0..columns {
            self.payload().await?;
        }
        self.payload().await?; // EOF after the columns
        let mut rows = Vec::new();
        loop {
            let payload = self.payload().await?;
            match payload.first() {
                Some(0xfe) if payload.len() < 9 => {
                    let status = Fields(payload.get(3..).unwrap_or_default()).int(2).unwrap_or_default();
                    let has_more = status as u16 & MORE_RESULTS_EXIST != 0;
                    return Ok(Reply::Rows { rows, has_more });
                }
                Some(0xff) => return Ok(Reply::Error(ServerError::parse(&payload))),
                _ => {}
            }
            let mut fields = Fields(&payload);
            let row: Option<Vec<_>> =
                (0..columns).map(|_| fields.value().map(|value| value.map(<[u8]>::to_vec))).collect();
            rows.push(row.ok_or_else(|| self.garbled("a row that ends early"))?);
        }
    }
}

pub(super) fn parse_ok(payload: &[u8]) -> Option<Done> {
    let mut fields = Fields(payload.get(1..)?);
    let affected_rows = fields.length_encoded()?;
    let _last_insert_id = fields.length_encoded()?;
    let status = fields.int(2)? as u16;
    let warnings = fields.int(2)? as u16;
    Some(Done { affected_rows, warnings, has_more: status & MORE_RESULTS_EXIST != 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_packet_is_read_with_and_without_a_state() {
        let error = ServerError::parse(b"\xff\x15\x04#28000Access denied");
        assert_eq!((error.code, &*error.state, &*error.message), (1045, "28000", "Access denied"));
        let error = ServerError::parse(b"\xff\x10\x04Too many connections");
        assert_eq!((error.code, &*error.message), (1040, "Too many connections"));
        assert_eq!(ServerError::parse(b"\xff").code, 0);
    }

    #[test]
    fn an_ok_packet_says_whether_more_follows() {
        let done = parse_ok(b"\x00\x03\x00\x0a\x00\x01\x00").unwrap();
        assert_eq!(done, Done { affected_rows: 3, warnings: 1, has_more: true });
        assert_eq!(parse_ok(b"\x00\x03\x00\x0a"), None);
    }
}
