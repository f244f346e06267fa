//! What a transaction that could not be run means: the region's copy has drifted, or something else is wrong.
//!
//! A row that is not there, a duplicate, a missing table: the region is not what the stream left it as. Nothing
//! is skipped. The message names table, key, stream transaction and source GTID.

mod key;

use mysql_async::Conn;

use super::replay::{Failure, RunError};
use super::segments::Fetched;
use crate::binlog::name::TableName;
use crate::mysql::server_error;
use crate::{Error, Kind, Result};

/// The error for a transaction that failed. Looks the row up where MySQL's message does not say which it is.
pub async fn explain(conn: &mut Conn, fetched: &Fetched, failure: Failure) -> Error {
    let Failure { n, source_gtid, doing, error } = failure;
    let at = format!("stream transaction {n} (source {source_gtid})");
    let (code, state, message) = match error {
        RunError::Server { code, state, message, .. } => (code, state, message),
        RunError::Lost(error) => return error.during(format!("apply {at}: {doing}")),
    };
    let Some(trouble) = trouble(code) else {
        let error = server_error(code, &state, &message, &format!("apply {at}: {doing}"));
        return match error.kind() {
            // ER_UNKNOWN_TIME_ZONE
            _ if code == 1298 => error.hint(format!(
                "a session at the source names its time zone, and this server knows none by name: {}",
                super::preflight::TIME_ZONES
            )),
            // Not a matter of trying again: the same statement meets the same answer.
            Kind::Mysql => Error::new(Kind::Failed, format!("apply {at}: {doing}: {message}"))
                .hint("nothing of this transaction was kept; mend the cause and run `tablecast apply` again")
                .caused_by(format!("ERROR {code} ({state})")),
            _ => error,
        };
    };
    let row = match key::find(conn, fetched, n, code, &message).await {
        Ok(row) => row,
        Err(error) => {
            tracing::debug!(%error, "could not find out which row it is");
            None
        }
    };
    let place = match row {
        Some(Row { table, key: Some(key) }) => format!(" on {table}, key {key}"),
        Some(Row { table, key: None }) => format!(" on {table}"),
        None => String::new(),
    };
    Error::new(Kind::Drift, format!("apply {at}{place}: {trouble}: {message}"))
        .hint(
            "this region's copy differs from the source: something else wrote to it. Nothing was skipped; put the \
             rows back as they were before that transaction (`tablecast inspect` shows its rows), then run `tablecast apply`",
        )
        .caused_by(format!("ERROR {code} ({state}): {message}"))
}

/// The row that did not fit, as far as it can be told.
struct Row {
    table: TableName,
    key: Option<String>,
}

/// What an error says about the region's copy; `None` if it says nothing about it.
fn trouble(code: u16) -> Option<&'static str> {
    Some(match code {
        // ER_KEY_NOT_FOUND
        1032 => "the row to change is not there",
        // ER_DUP_ENTRY, ER_DUP_ENTRY_WITH_KEY_NAME
        1062 | 1586 => "the row is there already",
        // ER_NO_REFERENCED_ROW, _2; ER_ROW_IS_REFERENCED, _2
        1216 | 1452 => "the row that it refers to is not there",
        1217 | 1451 => "another row still refers to it",
        // ER_BAD_DB_ERROR, ER_NO_SUCH_TABLE, ER_BAD_TABLE_ERROR
        1049 | 1051 | 1146 => "the table is not there",
        // ER_TABLE_EXISTS_ERROR
        1050 => "the table is there already",
        // ER_BAD_FIELD_ERROR, ER_DUP_FIELDNAME, ER_DUP_KEYNAME, ER_CANT_DROP_FIELD_OR_KEY, ER_KEY_COLUMN_DOES_NOT_EXITS,
        // ER_FK_DUP_NAME, ER_CHECK_CONSTRAINT_DUP_NAME, ER_CHECK_CONSTRAINT_NOT_FOUND
        1054 | 1060 | 1061 | 1072 | 1091 | 1826 | 3821 | 3822 => "the table is defined otherwise",
        // ER_REPLICA_CONVERSION_FAILED, ER_BINLOG_ROW_WRONG_TABLE_DEF, ER_BAD_NULL_ERROR, ER_NO_DEFAULT_FOR_FIELD,
        // ER_DATA_TOO_LONG
        1677 | 1535 | 1048 | 1364 | 1406 => "the table's columns are defined otherwise",
        _ => return None,
    })
}

impl Row {
    fn of(table: &TableName) -> Row {
        Row { table: table.clone(), key: None }
    }
}

/// The same result type for the submodule.
type Found = Result<Option<Row>>;
