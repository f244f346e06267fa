//! One connection that runs transactions, its session in a state that owes nothing to the server's defaults.
//!
//! What no event carries is set once when the connection is made, from fixed values. What an event carries
//! (sql_mode, character sets, time zone…) is set before each transaction, if it is not as it was. An automatic
//! GTID is never in force while a stream's transaction runs, and no statement outside of one runs under a stream
//! GTID: after COMMIT the server itself refuses the next statement until gtid_next is set again.

use std::sync::Arc;

use uuid::Uuid;

use super::raw::{RawConnection, RunError};
use super::statement::{Piece, binlog};
use crate::binlog::name::quote;
use crate::binlog::segment::TransactionHead;
use crate::binlog::session::{self, UpdatedSchemas};
use crate::config::MysqlConfig;
use crate::mysql::server_error;
use crate::{Error, Kind, Result};

/// What replay needs beside what [`session::constant_statements`] sets. No result depends on it: it keeps locks few
/// and waits short (a worker tries again, a reader in the region should not wait behind us), and it lets in what
/// the source has let in, whose definition is compared afterwards.
const SESSION: &str = "SET autocommit=1, completion_type='NO_CHAIN', transaction_isolation='READ-COMMITTED', \
    transaction_read_only=0, lock_wait_timeout=5, innodb_lock_wait_timeout=10, wait_timeout=86400, \
    net_read_timeout=600, max_execution_time=0, innodb_strict_mode=0, sql_log_bin=1, \
    rbr_exec_mode='STRICT', session_track_gtids='OFF'";

/// Row events under binlog_format=STATEMENT are refused by the server (1662). Deprecated, so only where needed.
const ROW_FORMAT: &str = "SET binlog_format='ROW'";

/// ER_SPECIFIC_ACCESS_DENIED_ERROR
const ACCESS_DENIED: u16 = 1227;

/// What a connection needs to know of its server and stream.
#[derive(Clone, Debug)]
pub struct Context {
    pub config: MysqlConfig,
    pub version: (u16, u16, u16),
    /// The server's binlog_format is not ROW.
    pub set_row_format: bool,
    pub stream: Uuid,
}

/// A connection ready for transactions of one stream.
pub struct Session {
    context: Arc<Context>,
    raw: RawConnection,
    /// The format description that the server has been given.
    format: Option<Arc<Vec<u8>>>,
    /// The context that is in force; `None`: unknown, set all of it.
    current: Option<session::Session>,
}

impl Session {
    /// Connects and sets what is fixed. `Kind::Denied` where a privilege is missing.
    pub async fn open(context: Arc<Context>) -> Result<Session> {
        let raw = RawConnection::connect(&context.config).await?;
        let mut piece = Piece::default();
        if context.set_row_format {
            piece.push(ROW_FORMAT.as_bytes());
        }
        for statement in session::constant_statements(context.version) {
            piece.push(statement.as_bytes());
        }
        piece.push(SESSION.as_bytes());
        let mut session = Session { context, raw, format: None, current: None };
        session.run(&piece).await.map_err(|error| refused(error, "prepare a session for replay"))?;
        Ok(session)
    }

    /// Shows that the account may do what replay does, without changing anything.
    pub async fn prove(&mut self, n: u64) -> Result<()> {
        let mut piece = Piece::default();
        piece.push(format!("SET gtid_next='{}:{n}'", self.context.stream).as_bytes());
        // Only this gives the GTID free again.
        piece.push(b"ROLLBACK");
        piece.push(b"SET gtid_next='AUTOMATIC'");
        self.run(&piece).await.map_err(|error| refused(error, "set gtid_next, as replay does"))?;
        let mut piece = Piece::default();
        piece.push(b"BINLOG ''");
        match self.run(&piece).await {
            // The privilege is looked at before the text, in which nothing is.
            Err(RunError::Server { code, .. }) if code != ACCESS_DENIED => Ok(()),
            Err(error) => Err(refused(error, "run BINLOG, as replay does")),
            Ok(()) => Ok(()),
        }
    }

    /// Gives the server the layout of the events to come. Rows must not be sent before.
    pub async fn describe(&mut self, format: &Arc<Vec<u8>>) -> Result<(), RunError> {
        if self.format.as_ref().is_none_or(|known| known != format) {
            let mut piece = Piece::default();
            // Behind a transaction gtid_next is used up, and every statement but SET is refused (1837).
            piece.push(b"SET gtid_next='AUTOMATIC'");
            piece.push(&binlog(format));
            self.run(&piece).await?;
            self.format = Some(format.clone());
        }
        Ok(())
    }

    /// Runs statements; stops at the first that fails.
    pub async fn run(&mut self, piece: &Piece) -> Result<(), RunError> {
        let result = self.raw.run(&piece.sql, piece.results).await;
        if result.is_err() {
            self.current = None;
        }
        result
    }

    /// What puts the session into a transaction's context and opens it under its stream GTID. The context counts
    /// as in force from here on; any failure makes it unknown again.
    pub fn opening(&mut self, head: &TransactionHead, of: &session::Session) -> Piece {
        let mut piece = Piece::default();
        let timestamp = timestamp(of);
        let of = without_moment(of);
        if self.current.as_ref() != Some(&of) {
            for statement in of.varying_statements(self.context.version) {
                piece.push(statement.as_bytes());
            }
            self.current = Some(of);
        }
        piece.push(
            format!(
                "SET timestamp={timestamp}, original_commit_timestamp={}, gtid_next='{}:{}'",
                head.original_commit_us, self.context.stream, head.n
            )
            .as_bytes(),
        );
        piece
    }

    /// Makes `schema` the default database, named in UTF-8 whatever the session's character set will be.
    pub async fn use_schema(&mut self, schema: &str) -> Result<(), RunError> {
        let mut piece = Piece::default();
        piece.push(b"SET NAMES utf8mb4");
        piece.push(format!("USE {}", quote(schema)).as_bytes());
        self.current = None;
        self.run(&piece).await
    }

    /// Ends the transaction that failed, so that its GTID is free again.
    pub async fn rollback(&mut self) -> Result<(), RunError> {
        let mut piece = Piece::default();
        piece.push(b"ROLLBACK");
        piece.push(b"SET gtid_next='AUTOMATIC'");
        self.run(&piece).await
    }

    pub async fn close(self) {
        self.raw.close().await;
    }
}

/// The session without what changes with every transaction and is set with each.
fn without_moment(of: &session::Session) -> session::Session {
    session::Session {
        timestamp: 0,
        microseconds: None,
        thread_id: 0,
        schema: String::new(),
        updated_schemas: UpdatedSchemas::Unknown,
        ..of.clone()
    }
}

fn timestamp(of: &session::Session) -> String {
    format!("{}.{:06}", of.timestamp, of.microseconds.unwrap_or(0))
}

/// The error for a statement that is not a transaction's own.
pub fn refused(error: RunError, doing: &str) -> Error {
    match error {
        RunError::Server { code, state, message, .. } => {
            let error = server_error(code, &state, &message, doing);
            match error.kind() {
                Kind::Denied => error,
                _ => error.hint("`tablecast doctor` checks every precondition of this region"),
            }
        }
        RunError::Lost(error) => error.during(doing.to_owned()),
    }
}
