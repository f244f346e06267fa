//! `tablecast.checked`: what checks have shown of each table here, one row a table.
//!
//! Checks come in slices. Those that follow each other from a table's first row to its last are a round: once it is over
//! without a difference, all of the table was the same, each row at the transaction of its check. A difference stands until
//! such a round, or until a restore has brought the table anew: the transaction that ends the restore takes away what was
//! known of the table that is gone. No clock decides: what is compared behind that transaction stands. A slice that was not
//! compared ends the round under way, and nothing else: the next one comes.

pub mod compare;
pub mod rounds;

use std::collections::BTreeSet;
use std::fmt;

use chrono::{DateTime, Utc};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use serde::{Deserialize, Serialize};

use self::compare::Outcome;
use super::position::{is_missing, take};
use crate::binlog::name::TableName;
use crate::figures::{count, number};
use crate::stream::{CheckEntry, CheckedRange, Md5, RowKey, Seq};
use crate::{Error, Kind, Result, mysql};

const READ: &str = include_str!("../../../sql/region/checked_read.sql");
const WRITE: &str = include_str!("../../../sql/region/checked_write.sql");
const GONE: &str = include_str!("../../../sql/region/checked_gone.sql");
const FORGET: &str = include_str!("../../../sql/region/checked_forget.sql");

/// Most rows that are named of one table.
pub const MOST_ROWS: usize = 20;

/// What is known of one table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableCheck {
    pub table: TableName,
    /// The last check that spoke of it: entry and transaction.
    pub seq: u64,
    pub tx: u64,
    /// The region's time when rows of it were last compared; 1970: never.
    pub at: DateTime<Utc>,
    /// Why that could not be compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What was last not compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<Missed>,
    /// How far the round under way has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round: Option<Round>,
    /// The last round that found no difference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same: Option<Same>,
    /// What differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<Found>,
}

/// A check that was not compared, or does not count any more, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    pub seq: u64,
    pub tx: u64,
    pub why: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Entry and transaction of its first slice, and when that was compared.
    #[serde(default)]
    pub since_seq: u64,
    pub since_tx: u64,
    pub since: DateTime<Utc>,
    /// Rows so far, up to this key.
    pub rows: u64,
    pub through: RowKey,
    /// The key's columns, and a digest of all; absent: a version put it down that did not keep them.
    #[serde(default)]
    pub key: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Md5>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<Found>,
}

/// A whole table without a difference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Same {
    /// The entry of the first slice; 0: a version put it down that did not keep it.
    #[serde(default)]
    pub since_seq: u64,
    /// From the transaction of the first slice to that of the last.
    pub since_tx: u64,
    pub tx: u64,
    pub at: DateTime<Utc>,
    pub rows: u64,
}

/// A difference, and at which check it was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    pub seq: u64,
    pub tx: u64,
    pub at: DateTime<Utc>,
    #[serde(flatten)]
    pub drift: Drift,
}

/// How rows here differ from the source's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// Which rows were compared, as text, and their key.
    pub range: String,
    pub key: String,
    pub rows_there: u64,
    pub rows_here: u64,
    /// The first of those that differ; so many more do.
    pub rows: Vec<DriftedRow>,
    pub more: u64,
    /// Why none, or not all, are named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unnamed: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriftedRow {
    pub key: String,
    pub how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// There and here, and not the same.
    Differs,
    /// There, and not here.
    Missing,
    /// Here, and not there.
    Extra,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 5;
        write!(
            f,
            "{}: {} at the source, {} here",
            self.range,
            count(self.rows_there, "row"),
            number(self.rows_here)
        )?;
        for (at, row) in self.rows.iter().take(SHOWN).enumerate() {
            let how = match row.how {
                How::Differs => "differs",
                How::Missing => "is missing here",
                How::Extra => "is not at the source",
            };
            let key = if self.key.contains(", ") { format!("({})", self.key) } else { self.key.clone() };
            write!(f, "{} {key} {} {how}", if at == 0 { ";" } else { "," }, row.key)?;
        }
        let more = self.rows.len().saturating_sub(SHOWN) as u64 + self.more;
        if more > 0 {
            write!(f, ", and {} more", number(more))?;
        }
        match &self.unnamed {
            Some(why) => write!(f, "; which rows is not known: {why}"),
            None => Ok(()),
        }
    }
}

impl Drift {
    /// With what a later slice of the same round has found.
    fn and(mut self, later: Drift) -> Drift {
        const MORE: &str = " and more";
        if !self.range.ends_with(MORE) {
            self.range.push_str(MORE);
        }
        (self.rows_there, self.rows_here) =
            (self.rows_there.saturating_add(later.rows_there), self.rows_here + later.rows_here);
        self.rows.extend(later.rows);
        self.more += later.more + self.rows.len().saturating_sub(MOST_ROWS) as u64;
        self.rows.truncate(MOST_ROWS);
        self.unnamed = self.unnamed.or(later.unnamed);
        self
    }
}

impl TableCheck {
    /// The state behind one more comparison.
    pub fn after(
        known: Option<TableCheck>,
        (seq, check): (Seq, &CheckEntry),
        range: &CheckedRange,
        outcome: &Outcome,
        at: DateTime<Utc>,
    ) -> TableCheck {
        let (seq, tx) = (seq.0, check.at.0);
        let known = known.unwrap_or_else(|| TableCheck {
            table: range.table.clone(),
            seq,
            tx,
            at: DateTime::UNIX_EPOCH,
            problem: None,
            missed: None,
            round: None,
            same: None,
            drift: None,
        });
        let mut now = TableCheck { seq, tx, problem: None, ..known };
        let goes_on = now.round.take().filter(|round| round.goes_on_with(range));
        let before = match (&range.after, goes_on) {
            (None, _) => Some(((seq, tx, at), 0, None)),
            (Some(_), Some(round)) => {
                Some(((round.since_seq, round.since_tx, round.since), round.rows, round.drift))
            }
            (Some(_), None) => None,
        };
        let mut drift = before.as_ref().and_then(|(_, _, drift)| drift.clone());
        match outcome {
            Outcome::Unknown(why) => {
                now.problem = Some(why.clone());
                now.missed = Some(Missed { seq, tx, why: why.clone() });
                return now;
            }
            Outcome::Differs(found) => {
                drift = Some(match drift {
                    Some(earlier) => Found { drift: earlier.drift.and(found.clone()), ..earlier },
                    None => Found { seq, tx, at, drift: found.clone() },
                });
                now.drift.clone_from(&drift);
            }
            Outcome::Same => {}
        }
        now.at = at;
        let Some(((since_seq, since_tx, since), rows, _)) = before else { return now };
        // What the index says may be any number.
        let rows = rows.saturating_add(range.rows);
        match &range.through {
            Some(through) => {
                let (through, key, columns) = (through.clone(), range.key.clone(), Some(range.columns));
                now.round = Some(Round { since_seq, since_tx, since, rows, through, key, columns, drift });
            }
            None => {
                if drift.is_none() {
                    now.same = Some(Same { since_seq, since_tx, tx, at, rows });
                }
                now.drift = drift;
            }
        }
        now
    }

    /// A restore has brought the table anew: what was found of the one before says nothing of it.
    fn restored(&mut self) {
        (self.problem, self.round, self.same, self.drift) = (None, None, None, None);
        let why = "a restore has brought it anew since it was compared".to_owned();
        self.missed = Some(Missed { seq: self.seq, tx: self.tx, why });
    }

    /// When rows of it were last compared here.
    pub fn compared_at(&self) -> Option<DateTime<Utc>> {
        (self.at > DateTime::UNIX_EPOCH).then_some(self.at)
    }

    /// Whether all of what the source has read of it from this entry on was compared, or a difference was found there.
    pub fn is_compared_since(&self, seq: Seq) -> bool {
        let same = self.same.as_ref().is_some_and(|same| same.since_seq >= seq.0);
        same || self.drift.as_ref().is_some_and(|found| found.seq >= seq.0)
    }
}

impl Round {
    /// Whether these rows are the next in the same order: a key that was changed in between begins it anew.
    fn goes_on_with(&self, range: &CheckedRange) -> bool {
        Some(&self.through) == range.after.as_ref()
            && self.key == range.key
            && self.columns == Some(range.columns)
    }
}

/// The last entry that the region has applied; 0: none yet.
pub async fn position(conn: &mut Conn, name: &str) -> Result<Seq> {
    Ok(super::position::read(conn, name).await?.map_or(Seq::ZERO, |at| at.seq))
}

/// What is known of each table of the stream `name`, by table; nothing where there is no such table yet.
pub async fn list(conn: &mut Conn, name: &str) -> Result<Vec<TableCheck>> {
    let doing = format!("read what checks of {name} have shown");
    let rows: Vec<Row> = match conn.exec(READ, (name,)).await {
        Ok(rows) => rows,
        Err(error) if is_missing(&error) => return Ok(Vec::new()),
        Err(error) => return Err(mysql::error(error, &doing)),
    };
    let mut tables = Vec::new();
    for mut row in rows {
        let state: String = take(&mut row, "state")?;
        let table: TableCheck = serde_json::from_str(&state).map_err(|cause| {
            Error::new(Kind::Corrupt, format!("{doing}: {state:?} cannot be understood")).caused_by(cause)
        })?;
        tables.push(table);
    }
    tables.sort_by(|a, b| a.table.cmp(&b.table));
    Ok(tables)
}

/// Puts down what is known of one table. Under the apply lock.
pub async fn save(conn: &mut Conn, name: &str, table: &TableCheck) -> Result<()> {
    // Names and texts: nothing that JSON could not hold.
    let state = serde_json::to_string(table).unwrap_or_default();
    conn.exec_drop(WRITE, (name, &table.table.schema, &table.table.table, table.drift.is_some(), state))
        .await
        .map_err(|error| mysql::error(error, &format!("record what a check has shown of {}", table.table)))
}

/// A restore has brought these tables anew. Part of the transaction that ends it, under the apply lock: a run that is
/// killed before does all of that again, and no check is compared in between.
pub async fn restored(conn: &mut Conn, name: &str, tables: &BTreeSet<TableName>) -> Result<()> {
    for mut known in list(conn, name).await?.into_iter().filter(|known| tables.contains(&known.table)) {
        known.restored();
        save(conn, name, &known).await?;
    }
    Ok(())
}

/// Takes away what is known of tables that are not in this server any more.
pub async fn forget_gone(conn: &mut Conn, name: &str) -> Result<()> {
    conn.exec_drop(GONE, (name,)).await.map_err(|error| {
        mysql::error(error, &format!("forget what checks of {name} have shown of tables that are gone"))
    })
}

/// Takes away what is known of these tables, which the region follows no more. Part of the transaction that says so.
pub async fn forget(conn: &mut impl Queryable, name: &str, tables: &BTreeSet<TableName>) -> Result<()> {
    for table in tables {
        conn.exec_drop(FORGET, (name, &table.schema, &table.table))
            .await
            .map_err(|error| mysql::error(error, &format!("forget what checks have shown of {table}")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
