//! `tablecast.quarantine`: tables whose copy here differs from the source's. Their changes are passed over, so
//! that every other table goes on; a restore ends it.
//!
//! A row is durable before the first change that it stops, and it is written with an automatic GTID, so the
//! region's own replicas have it too. Read under the apply lock at the start of every pass; changed by `apply`, by
//! the restore in the transaction that begins its journal, and by `quarantine release`, all under that lock.
//!
//! `since_tx` is the first transaction whose change to the table is not in it. Parallel workers may have
//! committed later ones before it failed: the logical clock lets them pass each other only if neither depends on
//! the other. What the table holds then is no state that the source ever had, and that does no harm: nobody
//! mends it by running more of the stream on it. A restore replaces the whole table by its rows as of the
//! region's own position P (a dump, and from it on everything up to P out of the segments, whatever
//! `gtid_executed` says), so none of what is in the old one is used.

mod family;
mod passing;
pub mod release;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row, TxOpts, Value};
use serde::{Serialize, Serializer};

use super::position::{datetime, is_missing, take, time};
use crate::binlog::name::TableName;
use crate::figures::number;
use crate::stream::RequestId;
use crate::{Error, Kind, Result, mysql};

pub use family::{Family, family, unfit, why_unfit};
pub use passing::{Passing, Turns, turns};

const READ: &str = include_str!("../../sql/region/quarantine_read.sql");
const INSERT: &str = include_str!("../../sql/region/quarantine_insert.sql");
const COUNT: &str = include_str!("../../sql/region/quarantine_count.sql");
const DELETE: &str = include_str!("../../sql/region/quarantine_delete.sql");

/// Why a table is in quarantine. Durable: it stands in the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A change of it did not fit its rows or its definition. Set by apply.
    Conflict,
    /// It is defined otherwise than at the source, or it is missing. Set by apply.
    Definition,
    /// Another table of its family, or of a statement that names both, is. Set by apply.
    Tied,
    /// A restore holds it still. Set by the restore.
    Held,
    /// It has come into the stream's set with rows, which the dump that follows brings. Set by apply.
    Added,
    /// The region's list has come to let it in, and a dump has to bring it. Set by apply.
    LetIn,
    /// A check has found that its rows are not those of the source. Set by apply.
    Drifted,
    /// It has come in, and a table of that name is here that was never the stream's and holds rows: a person decides.
    /// Set by apply.
    Own,
}

impl Reason {
    const ALL: [Reason; 8] = [
        Reason::Conflict,
        Reason::Definition,
        Reason::Tied,
        Reason::Held,
        Reason::Added,
        Reason::LetIn,
        Reason::Drifted,
        Reason::Own,
    ];

    /// As the row and `--json` have it.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Conflict => "conflict",
            Reason::Definition => "definition",
            Reason::Tied => "tied",
            Reason::Held => "held",
            Reason::Added => "added",
            Reason::LetIn => "let_in",
            Reason::Drifted => "drifted",
            Reason::Own => "own",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Reason {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Reason::ALL.into_iter().find(|reason| reason.name() == text).ok_or_else(|| {
            Error::new(Kind::TooNew, format!("read tablecast.quarantine: reason {text:?} is not known"))
                .hint("a newer tablecast has written it: use that one")
        })
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A table in quarantine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quarantined {
    pub table: TableName,
    pub reason: Reason,
    /// Changes by this stream transaction and those behind it are passed over.
    #[serde(serialize_with = "super::plan::as_text")]
    pub since_tx: u64,
    /// The same transaction at the source, if one failed.
    pub source_gtid: Option<String>,
    /// MySQL's error number, if a statement failed.
    pub code: Option<u16>,
    pub error: String,
    pub at: DateTime<Utc>,
    /// Transactions whose changes to it were left out, or are about to be: at least so many.
    #[serde(serialize_with = "super::plan::as_text")]
    pub passed_over: u64,
    /// The transaction up to which they are counted.
    #[serde(skip)]
    pub counted_to: u64,
    /// The request for the dump that is to mend it.
    pub request: Option<RequestId>,
    pub requested_at: Option<DateTime<Utc>>,
    /// Why the source could not be asked.
    pub request_error: Option<String>,
    pub request_attempts: u32,
}

impl Quarantined {
    pub fn new(table: TableName, reason: Reason, since_tx: u64, error: String, at: DateTime<Utc>) -> Self {
        Self {
            table,
            reason,
            since_tx,
            source_gtid: None,
            code: None,
            error,
            at,
            passed_over: 0,
            counted_to: 0,
            request: None,
            requested_at: None,
            request_error: None,
            request_attempts: 0,
        }
    }

    /// What is somebody's is replaced by nothing that nobody asked for.
    pub fn own(table: &TableName, since_tx: u64, at: DateTime<Utc>) -> Self {
        let error = format!(
            "a table of this name is here, with rows that are not the stream's: DROP or RENAME it if it is to make way, \
             or have it replaced by `tablecast restore {table}`"
        );
        Self::new(table.clone(), Reason::Own, since_tx, error, at)
    }
}

/// The tables in quarantine; empty also where the table is not there yet.
pub async fn list(conn: &mut Conn, name: &str) -> Result<Vec<Quarantined>> {
    let doing = format!("read the quarantine of {name}");
    let rows: Vec<Row> = match conn.exec(READ, (name,)).await {
        Ok(rows) => rows,
        Err(error) if is_missing(&error) => return Ok(Vec::new()),
        Err(error) => return Err(mysql::error(error, &doing)),
    };
    rows.into_iter().map(|row| parse(row).map_err(|error| error.during(doing.clone()))).collect()
}

fn parse(mut row: Row) -> Result<Quarantined> {
    let (schema, table): (String, String) = (take(&mut row, "table_schema")?, take(&mut row, "table_name")?);
    let (reason, at): (String, String) = (take(&mut row, "reason")?, take(&mut row, "at")?);
    Ok(Quarantined {
        table: TableName::new(schema, table),
        reason: reason.parse()?,
        since_tx: take(&mut row, "since_tx")?,
        source_gtid: take(&mut row, "source_gtid")?,
        code: take(&mut row, "code")?,
        error: take(&mut row, "error")?,
        at: time(Some(at))?.unwrap_or_default(),
        passed_over: take(&mut row, "passed_over")?,
        counted_to: take(&mut row, "counted_to")?,
        request: take::<Option<String>>(&mut row, "request")?.map(|id| id.parse()).transpose()?,
        requested_at: time(take(&mut row, "requested_at")?)?,
        request_error: take(&mut row, "request_error")?,
        request_attempts: take(&mut row, "request_attempts")?,
    })
}

/// Puts tables into quarantine, all or none. A table that is in it stays as it is, except that `since_tx` can become
/// earlier, and that it may turn out to be somebody's own. Under the apply lock.
pub async fn add(conn: &mut Conn, name: &str, tables: &[Quarantined]) -> Result<()> {
    let doing = format!("put tables of {name} into quarantine");
    let wrong = |error| mysql::error(error, &doing);
    let mut transaction = conn.start_transaction(TxOpts::default()).await.map_err(wrong)?;
    insert(&mut transaction, name, tables).await?;
    transaction.commit().await.map_err(wrong)
}

/// The same as part of the caller's transaction.
pub async fn insert(conn: &mut impl Queryable, name: &str, tables: &[Quarantined]) -> Result<()> {
    for new in tables {
        let values: Vec<Value> = vec![
            name.into(),
            (&new.table.schema).into(),
            (&new.table.table).into(),
            new.reason.name().into(),
            new.since_tx.into(),
            new.source_gtid.as_deref().into(),
            new.code.into(),
            new.error.as_str().into(),
            datetime(new.at).into(),
            new.passed_over.into(),
        ];
        let doing = format!("put {} into quarantine", new.table);
        conn.exec_drop(INSERT, values).await.map_err(|error| mysql::error(error, &doing))?;
    }
    Ok(())
}

/// Ends the quarantine of tables, as part of the caller's transaction if `conn` is one. Under the apply lock.
pub async fn remove(conn: &mut impl Queryable, name: &str, tables: &BTreeSet<TableName>) -> Result<()> {
    for table in tables {
        conn.exec_drop(DELETE, (name, &table.schema, &table.table))
            .await
            .map_err(|error| mysql::error(error, &format!("end the quarantine of {table}")))?;
    }
    Ok(())
}

/// Counts what is about to be passed over, up to transaction `to`. Written before it is: a count that a kill has made
/// too early is right again when the rest has run, and what is in it already is not counted twice.
pub async fn count(conn: &mut Conn, name: &str, table: &TableName, more: u64, to: u64) -> Result<()> {
    conn.exec_drop(COUNT, (more, to, name, &table.schema, &table.table, to))
        .await
        .map_err(|error| mysql::error(error, &format!("count what is passed over for {table}")))
}

/// What tables in quarantine mean for the exit code of `doing`.
pub fn verdict(doing: &str, stream: &str, tables: &[Quarantined]) -> Option<Error> {
    if tables.is_empty() {
        return None;
    }
    let tables: Vec<String> = tables
        .iter()
        .map(|known| format!("{} (since transaction {})", known.table, number(known.since_tx)))
        .collect();
    let message = format!("{doing} {stream}: in quarantine: {}", tables.join(", "));
    Some(Error::new(Kind::Partly, message).hint(
        "all other tables are up to date; `tablecast quarantine list` says why and what is done about it, \
         docs/runbooks/quarantined-table.md what you can do",
    ))
}
