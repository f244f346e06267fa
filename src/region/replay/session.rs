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
use crate::binlog::charset::Charset;
use crate::binlog::name::quote;
use crate::binlog::segment::TransactionHead;
use crate::binlog::session::{self, UTF8MB4, UpdatedSchemas};
use crate::config::MysqlConfig;
use crate::mysql::server_error;
use crate::{Error, Kind, Result};

/// What replay needs beside what [`session::constant_statements`] sets. No result depends on it: it keeps locks few
/// and waits short (a worker tries again, a reader in the region should not wait behind us), and it lets in what
/// the source has let in, whose definition is compared afterwards. Without autocommit no transaction needs a BEGIN.
const SESSION: &str = "SET autocommit=0, completion_type='NO_CHAIN', transaction_isolation='READ-COMMITTED', \
    transaction_read_only=0, lock_wait_timeout=5, innodb_lock_wait_timeout=10, wait_timeout=86400, \
    net_read_timeout=600, max_execution_time=0, innodb_strict_mode=0, sql_log_bin=1, \
    rbr_exec_mode='STRICT', session_track_gtids='OFF'";

/// Row events under binlog_format=STATEMENT are refused by the server (1662). Deprecated, so only where needed.
const ROW_FORMAT: &str = "SET binlog_format='ROW'";

/// The collation `binary`.
const BINARY: u16 = 63;

/// ER_SPECIFIC_ACCESS_DENIED_ERROR
const ACCESS_DENIED: u16 = 1227;

/// What a connection needs to know of its server and stream.
#[derive(Clone, Debug)]
pub struct Context {
    pub config: MysqlConfig,
    pub version: (u16, u16, u16),
    /// The server's binlog_format is not ROW.
    pub set_row_format: bool,
    pub max_allowed_packet: u64,
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
        let result = self.raw.run(piece).await;
        self.seen(result)
    }

    /// Sends statements whose end [`finish`](Self::finish) waits for; they may run although those before them fail.
    pub async fn begin(&mut self, piece: &Piece) -> Result<(), RunError> {
        let result = self.raw.begin(piece).await;
        self.seen(result)
    }

    /// Waits until no more than `but` of what was begun are left; if one fails, until all is over.
    pub async fn finish(&mut self, but: usize) -> Result<(), RunError> {
        let result = self.raw.finish(but).await;
        self.seen(result)
    }

    fn seen(&mut self, result: Result<(), RunError>) -> Result<(), RunError> {
        if result.is_err() {
            self.current = None;
        }
        result
    }

    /// What puts the session into a transaction's context and opens it under its stream GTID. The context counts
    /// as in force from here on; any failure makes it unknown again.
    pub fn opening(&mut self, head: &TransactionHead, of: &session::Session) -> Piece {
        self.opening_in(without_moment(of), timestamp(of), head)
    }

    /// As [`opening`](Self::opening), for rows. Their statements are ASCII, savepoints too, which the gate names, so
    /// character_set_client says nothing of them. In a multi-byte one the server looks at each byte of a
    /// literal for the begin of a character, and converts all of it (`sql/sql_lex.cc`, `get_text`; `sql/sql_yacc.yy`,
    /// `TEXT_STRING_sys`); `binary` needs neither.
    pub fn opening_of_rows(&mut self, head: &TransactionHead, of: &session::Session) -> Piece {
        self.opening_in(for_rows(of), timestamp(of), head)
    }

    fn opening_in(&mut self, of: session::Session, timestamp: String, head: &TransactionHead) -> Piece {
        let mut piece = self.context(of);
        piece.push(
            format!(
                "SET timestamp={timestamp}, original_commit_timestamp={}, gtid_next='{}:{}'",
                head.original_commit_us, self.context.stream, head.n
            )
            .as_bytes(),
        );
        piece
    }

    /// Puts the session into this context, if it is not in it.
    fn context(&mut self, of: session::Session) -> Piece {
        let mut piece = Piece::default();
        if self.current.as_ref() != Some(&of) {
            for statement in of.varying_statements(self.context.version) {
                piece.push(statement.as_bytes());
            }
            self.current = Some(of);
        }
        piece
    }

    /// Whether the context of a transaction's rows is in force.
    pub fn is_in(&self, of: &session::Session) -> bool {
        self.current.as_ref() == Some(&for_rows(of))
    }

    /// As [`opening_of_rows`](Self::opening_of_rows), for tables that are nobody's but ours: under an automatic GTID.
    pub fn opening_of_ours(&mut self, of: &session::Session) -> Piece {
        let mut piece = self.context(for_rows(of));
        piece.push(b"SET gtid_next='AUTOMATIC'");
        piece
    }

    /// Takes a named lock, of plain characters, and keeps it as long as the connection lives.
    pub async fn take_lock(&mut self, name: &str, seconds: u32) -> Result<()> {
        let doing = format!("take lock '{name}'");
        let got = self.raw.row(&format!("SELECT GET_LOCK('{name}', {seconds})")).await;
        match got.map_err(|error| refused(error, &doing))?.first().map(String::as_str) {
            Some("1") => Ok(()),
            _ => Err(Error::new(Kind::Mysql, format!("{doing}: another connection holds it"))
                .hint("it works off what it was sent before its run ended; the next attempt carries on")),
        }
    }

    /// Puts the session into a DDL statement's context, and asks the server what it has made of that: the gate has
    /// read the text by this sql_mode and this character set, and the server must read it by the same (I6).
    /// Comes before [`opening`](Self::opening): under a stream GTID nothing runs but its transaction.
    pub async fn enter(&mut self, of: &session::Session) -> Result<(), RunError> {
        let mut piece = Piece::default();
        let context = without_moment(of);
        for statement in context.varying_statements(self.context.version) {
            piece.push(statement.as_bytes());
        }
        self.run(&piece).await?;
        let found = self.raw.row("SELECT @@sql_mode, @@character_set_client").await?;
        check_reading(of, &found).map_err(RunError::Lost)?;
        self.current = Some(context);
        Ok(())
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

/// The modes that change where a token begins and ends (`sql/sql_lex.cc`).
const LEXING: [(&str, u64); 3] =
    [("ANSI_QUOTES", 0x4), ("IGNORE_SPACE", 0x8), ("NO_BACKSLASH_ESCAPES", 0x10_0000)];

/// Whether a server that says `found` (sql_mode, character_set_client) reads a text as the gate has read it.
fn check_reading(of: &session::Session, found: &[String]) -> Result<()> {
    let (mode, charset) = (of.effective_sql_mode(), of.client_charset()?);
    let [found_mode, found_charset] = found else {
        let message = format!("read the session's sql_mode: the server answers {found:?}");
        return Err(Error::new(Kind::Failed, message));
    };
    let same_mode = LEXING
        .iter()
        .all(|(name, bit)| found_mode.split(',').any(|found| found == *name) == (mode & bit != 0));
    let same_charset = found_charset == charset.name()
        || (charset == Charset::Utf8 && matches!(found_charset.as_str(), "utf8" | "utf8mb3"));
    if same_mode && same_charset {
        return Ok(());
    }
    let name = charset.name();
    Err(Error::new(
        Kind::Gate,
        format!(
            "gate: sql_mode {mode:#x} and character set {name} are '{found_mode}' and {found_charset} to this server: \
             it may read another statement than the gate has read"
        ),
    )
    .hint("the statement was not run; `tablecast inspect` shows it and its context"))
}

/// The context of rows: none of them is text. A partitioned table that is opened first while collation_connection is
/// not UTF-8 has other partitions than it was given, if their values are not ASCII: rows would be put into the wrong
/// ones (MySQL 9.7; a native replica does that).
fn for_rows(of: &session::Session) -> session::Session {
    let mut of = without_moment(of);
    of.charset = Some(session::Charsets { client: BINARY, connection: UTF8MB4, ..of.charsets() });
    of
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binlog::query::QueryEvent;
    use crate::binlog::session::StatusVars;

    /// I6.
    #[test]
    fn a_server_that_would_read_another_statement_is_not_given_it() {
        let (status, text) = (StatusVars::default(), b"DROP TABLE t".to_vec());
        let query =
            QueryEvent { thread_id: 1, exec_time: 0, error_code: 0, schema: Vec::new(), status, text };
        let mut of = session::Session::of(0, &query).unwrap();
        let reads = |of: &session::Session, mode: &str, charset: &str| {
            check_reading(of, &[mode.to_owned(), charset.to_owned()]).map_err(|error| error.kind())
        };
        of.sql_mode = Some(0x4_0008);
        assert_eq!(reads(&of, "IGNORE_SPACE,ANSI", "utf8mb4"), Ok(()));
        assert_eq!(reads(&of, "IGNORE_SPACE,ANSI", "utf8mb3"), Ok(()));
        // What a server makes of MODE_ANSI.
        let ansi = "REAL_AS_FLOAT,PIPES_AS_CONCAT,ANSI_QUOTES,IGNORE_SPACE,ONLY_FULL_GROUP_BY,ANSI";
        assert_eq!(reads(&of, ansi, "utf8mb4"), Err(Kind::Gate));
        assert_eq!(reads(&of, "IGNORE_SPACE,ANSI", "gbk"), Err(Kind::Gate));
        assert_eq!(reads(&of, "NO_BACKSLASH_ESCAPES,IGNORE_SPACE", "utf8mb4"), Err(Kind::Gate));
        of.sql_mode = Some(0);
        of.charset = Some(session::Charsets { client: 13, connection: 13, server: 255 });
        assert_eq!(reads(&of, "", "sjis"), Ok(()));
        assert_eq!(reads(&of, "", "utf8mb4"), Err(Kind::Gate));
        assert_eq!(check_reading(&of, &[]).unwrap_err().kind(), Kind::Failed);
    }
}
