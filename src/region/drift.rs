//! What a transaction that could not be run means: the region's copy has drifted, or something else is wrong.
//!
//! A row that is not there, a duplicate, a missing table: the region is not what the stream left it as. Which table
//! that is must be certain, because it goes into quarantine: the only one that the transaction touches, else the
//! one whose row event fails when the transaction is run again event by event. Where neither tells, it is all of
//! them. The message names table, key, stream transaction and source GTID.

mod key;

use std::collections::{BTreeMap, BTreeSet};

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::definitions;
use super::privileges;
use super::quarantine::Turns;
use super::replay::{Failure, Replay, RunError};
use super::segments::{DdlStep, Fetched, Step};
use crate::binlog::name::{TableName, TableSet};
use crate::mysql::{self, server_error};
use crate::{Error, Kind, Result};

/// What a failure means.
pub struct Judged {
    pub error: Error,
    /// The tables that do not fit, if that is what it means.
    pub tables: BTreeSet<TableName>,
    pub n: u64,
    pub source_gtid: String,
    pub code: Option<u16>,
    /// The same transaction did not fail when it was run again.
    pub has_passed: bool,
}

/// The error for a transaction that failed, and the tables whose copy it shows to be another. Looks the row up where
/// MySQL's message does not say which it is.
pub async fn judge(
    conn: &mut Conn,
    replay: &Replay,
    fetched: &Fetched,
    turns: &Turns,
    set: &TableSet,
    failure: Failure,
) -> Result<Judged> {
    let Failure { n, source_gtid, doing, error } = failure;
    let at = format!("stream transaction {n} (source {source_gtid})");
    let mut judged = Judged {
        error: Error::new(Kind::Failed, String::new()),
        tables: BTreeSet::new(),
        n,
        source_gtid: source_gtid.to_string(),
        code: None,
        has_passed: false,
    };
    let (code, state, message) = match error {
        RunError::Server { code, state, message, .. } => (code, state, message),
        RunError::Lost(error) => {
            judged.error = error.during(format!("apply {at}: {doing}"));
            return Ok(judged);
        }
    };
    judged.code = Some(code);
    let touched: BTreeSet<TableName> = fetched
        .scan
        .transactions
        .iter()
        .filter(|(table, touched)| touched.binary_search(&n).is_ok() && !turns.passing.covers(set, table, n))
        .map(|(table, _)| table.clone())
        .collect();
    if code == UNKNOWN {
        judged.tables = otherwise(conn, fetched, &touched, n).await?;
    }
    let found = match judged.tables.is_empty() {
        true => trouble(code),
        false => Some("its columns are defined otherwise"),
    };
    let Some(trouble) = found else {
        let doing = format!("apply {at}: {doing}");
        let denied = match code {
            UNKNOWN => privileges::denied_rows(conn, &touched, &doing).await?,
            _ => None,
        };
        judged.error = match denied {
            Some(error) => error.caused_by(format!("ERROR {code} ({state}): {message}")),
            None => other(code, &state, &message, &doing),
        };
        return Ok(judged);
    };
    judged.tables = match fetched.scan.ddls.iter().find(|ddl| ddl.n == n) {
        _ if !judged.tables.is_empty() => judged.tables,
        Some(ddl) => of_statement(conn, ddl, code).await?,
        None if touched.len() == 1 => touched,
        None => match replay.probe(fetched, &turns.passing, n).await? {
            Some((table, _)) => BTreeSet::from([table]),
            None => {
                judged.has_passed = true;
                touched
            }
        },
    };
    // Nothing of them runs: whatever a statement says of them, they do not fail here.
    judged.tables.retain(|table| set.admits(table));
    let row = match key::find(conn, fetched, &judged.tables, n, code, &message).await {
        Ok(row) => row,
        Err(error) => {
            tracing::debug!(%error, "could not find out which row it is");
            None
        }
    };
    let place = match row {
        Some(Row { table, key: Some(key) }) => format!(" on {table}, key {key}"),
        Some(Row { table, key: None }) => format!(" on {table}"),
        None => {
            let tables: Vec<_> = judged.tables.iter().map(ToString::to_string).collect();
            format!(" on {}", tables.join(", "))
        }
    };
    judged.error = Error::new(Kind::Drift, format!("apply {at}{place}: {trouble}: {message}"))
        .hint(
            "this region's copy differs from the source: something else wrote to it. Nothing was skipped; put the \
             rows back as they were before that transaction (`tablecast inspect` shows its rows), then run `tablecast apply`",
        )
        .caused_by(format!("ERROR {code} ({state})"));
    Ok(judged)
}

/// ER_UNKNOWN_ERROR: all that BINLOG says of rows that the table has no columns for, and of a missing privilege.
const UNKNOWN: u16 = 1105;

/// Of the tables that a transaction changes rows of, those whose columns are not its rows'. They fitted when the
/// segment was looked at: somebody has changed them since.
async fn otherwise(
    conn: &mut Conn,
    fetched: &Fetched,
    touched: &BTreeSet<TableName>,
    n: u64,
) -> Result<BTreeSet<TableName>> {
    let mut found = BTreeSet::new();
    for table in touched {
        let steps = fetched.scan.tables.get(table).into_iter().flatten();
        for step in steps {
            let Step::Rows { first, last, columns, .. } = step else { continue };
            if !(*first..=*last).contains(&n) {
                continue;
            }
            match definitions::check_columns(conn, table, columns).await {
                Err(error) if error.kind() == Kind::Definition => {
                    found.insert(table.clone());
                }
                checked => checked?,
            }
        }
    }
    Ok(found)
}

/// An error that says nothing about the region's copy.
fn other(code: u16, state: &str, message: &str, doing: &str) -> Error {
    let error = server_error(code, state, message, doing);
    match error.kind() {
        // ER_UNKNOWN_TIME_ZONE
        _ if code == 1298 => error.hint(format!(
            "a session at the source names its time zone, and this server knows none by name: {}",
            super::preflight::TIME_ZONES
        )),
        _ if mysql::lacks_room(code) => error,
        // Not a matter of trying again: the same statement meets the same answer.
        Kind::Mysql => Error::new(Kind::Failed, format!("{doing}: {message}"))
            .hint("nothing of this transaction was kept; mend the cause and run `tablecast apply` again")
            .caused_by(format!("ERROR {code} ({state})")),
        _ => error,
    }
}

/// The tables that a DDL statement failed on: those that are missing, if that is what it says, or those that it
/// changes, and for a foreign key both sides. All that it names where none of that tells.
async fn of_statement(conn: &mut Conn, ddl: &DdlStep, code: u16) -> Result<BTreeSet<TableName>> {
    let mut found = BTreeSet::new();
    match code {
        1049 | 1051 | 1146 => {
            for table in &ddl.names {
                if !is_table(conn, table).await? {
                    found.insert(table.clone());
                }
            }
        }
        // Behind the targets stand the parents.
        1050 | 1054 | 1060 | 1061 | 1062 | 1072 | 1091 | 3821 | 3822 => {
            found.extend(ddl.names[..ddl.targets].iter().cloned());
        }
        _ => {}
    }
    if found.is_empty() {
        found.extend(ddl.names.iter().cloned());
    }
    Ok(found)
}

async fn is_table(conn: &mut Conn, table: &TableName) -> Result<bool> {
    const THERE: &str = "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?";
    let found: Option<u8> = conn
        .exec_first(THERE, (&table.schema, &table.table))
        .await
        .map_err(|error| mysql::error(error, &format!("look for {table}")))?;
    Ok(found.is_some())
}

/// The row that did not fit, as far as it can be told.
struct Row {
    table: TableName,
    key: Option<String>,
}

/// The key of the row that transaction `n` wants to change in `table` and that `place`, which stands for it here, lacks;
/// for a message.
pub async fn missing_key(
    conn: &mut Conn,
    fetched: &Fetched,
    table: &TableName,
    place: &TableName,
    n: u64,
) -> Option<String> {
    let places = BTreeMap::from([(table.clone(), place.clone())]);
    key::missing(conn, fetched, &places, n).await.ok().flatten().and_then(|row| row.key)
}

/// What an error says about the region's copy; `None` if it says nothing about it.
pub fn trouble(code: u16) -> Option<&'static str> {
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
        // ER_CANNOT_ADD_FOREIGN, ER_FK_NO_INDEX_PARENT, ER_FK_CANNOT_OPEN_PARENT, ER_FK_INCOMPATIBLE_COLUMNS
        1215 | 1822 | 1824 | 3780 => "the table that it refers to is defined otherwise",
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
