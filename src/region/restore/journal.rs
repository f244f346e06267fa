//! `tablecast.restore`: every restore of this region, those under way and those of the past.
//!
//! The row is what a killed run is continued by, and what people read afterwards. It is written by whoever holds
//! the lock of apply, but for new rows: those may also come from `restore`, beside a running apply.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row, Value};
use serde::{Deserialize, Serialize};

use crate::binlog::name::TableName;
use crate::region::position::datetime;
use crate::stream::{DumpId, RequestId, Seq, StreamTx};
use crate::{Error, Kind, Result, mysql};

const READ: &str = include_str!("../../../sql/region/restore_read.sql");
const INSERT: &str = include_str!("../../../sql/region/restore_insert.sql");
const UPDATE: &str = include_str!("../../../sql/region/restore_update.sql");
const LOADED: &str = include_str!("../../../sql/region/restore_loaded.sql");

/// Why a table is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Why {
    /// It is quarantined.
    Quarantine,
    /// Somebody ran `restore`.
    Asked,
    /// The source has told every region to.
    Mandatory,
    /// The same, because the stream has a hole that only this dump fills.
    Resync,
    /// The region is new.
    Bootstrap,
}

/// How far a restore is. Written by the run that holds the lock of apply, each before what it announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// No dump yet, or none that fits. Also what a load that was cut short goes back to.
    Wanted,
    /// Rows go into the shadow tables. A run that finds this drops them and begins again.
    Loading,
    /// The shadows hold what the manifest promises, up to `until` of the stream. Later runs go on from there.
    Loaded,
    /// The RENAME is tried; whether it has happened is told by the tables.
    Swapping,
    Done,
    /// Nobody needs it any more.
    Superseded,
}

const WHYS: [(Why, &str); 5] = [
    (Why::Quarantine, "quarantine"),
    (Why::Asked, "asked"),
    (Why::Mandatory, "mandatory"),
    (Why::Resync, "resync"),
    (Why::Bootstrap, "bootstrap"),
];

const STATES: [(State, &str); 6] = [
    (State::Wanted, "wanted"),
    (State::Loading, "loading"),
    (State::Loaded, "loaded"),
    (State::Swapping, "swapping"),
    (State::Done, "done"),
    (State::Superseded, "superseded"),
];

impl State {
    /// Whether nothing more happens with it.
    pub fn is_final(self) -> bool {
        matches!(self, State::Done | State::Superseded)
    }
}

macro_rules! words {
    ($($type:ident $list:ident),*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($list.iter().find(|(value, _)| value == self).map_or("", |(_, word)| word))
            }
        }

        impl FromStr for $type {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                let found = $list.iter().find(|(_, word)| *word == text).map(|(value, _)| *value);
                found.ok_or_else(|| odd(&format!("{text:?} is not a word that this version knows")))
            }
        }
    )*};
}

words!(Why WHYS, State STATES);

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub struct Restore {
    pub id: u64,
    pub why: Why,
    pub tables: BTreeSet<TableName>,
    pub state: State,
    /// No dump before this entry will do.
    pub entry: Seq,
    pub dump: Option<DumpId>,
    pub at: StreamTx,
    pub until: StreamTx,
    pub rows: u64,
    pub rows_total: u64,
    pub attempts: u32,
    pub request: Option<RequestId>,
    pub plan: Vec<Planned>,
    pub message: Option<String>,
    pub wanted_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
    pub loaded_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
}

/// A table of a restore, as the manifest has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    pub table: TableName,
    /// `SHOW CREATE TABLE` as it came; absent: the source has no such table.
    pub create_table: Option<String>,
}

impl Restore {
    /// One that is only wanted yet.
    pub fn new(why: Why, tables: BTreeSet<TableName>, now: DateTime<Utc>) -> Restore {
        Restore {
            id: 0,
            why,
            tables,
            state: State::Wanted,
            entry: Seq::ZERO,
            dump: None,
            at: StreamTx::ZERO,
            until: StreamTx::ZERO,
            rows: 0,
            rows_total: 0,
            attempts: 0,
            request: None,
            plan: Vec::new(),
            message: None,
            wanted_at: now,
            started_at: None,
            loaded_at: None,
            finished_at: None,
        }
    }

    /// Back to the beginning, with whatever it had loaded given up.
    pub fn again(&mut self) {
        self.state = State::Wanted;
        (self.dump, self.at, self.until) = (None, StreamTx::ZERO, StreamTx::ZERO);
        (self.rows, self.rows_total) = (0, 0);
        self.plan.clear();
        self.loaded_at = None;
    }

    /// Nobody needs it any more.
    pub fn supersede(&mut self, why: String, now: DateTime<Utc>) {
        self.state = State::Superseded;
        (self.message, self.finished_at) = (Some(why), Some(now));
    }

    /// The tables for messages.
    pub fn names(&self) -> String {
        names(&self.tables)
    }
}

/// `g.a, g.b and 7 more`
pub fn names<'a>(tables: impl IntoIterator<Item = &'a TableName>) -> String {
    const SHOWN: usize = 5;
    let all: Vec<String> = tables.into_iter().map(ToString::to_string).collect();
    match all.len() {
        ..=SHOWN => all.join(", "),
        n => format!("{} and {} more", all[..SHOWN].join(", "), n - SHOWN),
    }
}

/// Restores that are not at their end, oldest first. None where there is no such table yet.
pub async fn open_ones(conn: &mut Conn, name: &str) -> Result<Vec<Restore>> {
    let query = format!("{READ} AND state IN ('wanted', 'loading', 'loaded', 'swapping') ORDER BY id");
    read(conn, &query, name).await
}

/// The newest `limit` of all, newest first.
pub async fn recent(conn: &mut Conn, name: &str, limit: u64) -> Result<Vec<Restore>> {
    read(conn, &format!("{READ} ORDER BY id DESC LIMIT {limit}"), name).await
}

/// Those that the dump of this entry, which is for every region, has brought about.
pub async fn of_entry(conn: &mut Conn, name: &str, entry: Seq) -> Result<Vec<Restore>> {
    let query = format!("{READ} AND why IN ('mandatory', 'resync') AND for_entry = {}", entry.0);
    read(conn, &query, name).await
}

/// Those that have ended well, from the dump of this entry or of a later one.
pub async fn done(conn: &mut Conn, name: &str, entry: Seq) -> Result<Vec<Restore>> {
    read(conn, &format!("{READ} AND state = 'done' AND entry >= {}", entry.0), name).await
}

/// One of them.
pub async fn one(conn: &mut Conn, name: &str, id: u64) -> Result<Option<Restore>> {
    Ok(read(conn, &format!("{READ} AND id = {id}"), name).await?.pop())
}

async fn read(conn: &mut Conn, query: &str, name: &str) -> Result<Vec<Restore>> {
    let doing = format!("read the restores of {name}");
    let rows: Vec<Row> = match conn.exec(query, (name,)).await {
        Ok(rows) => rows,
        // ER_BAD_DB_ERROR, ER_NO_SUCH_TABLE
        Err(mysql_async::Error::Server(error)) if matches!(error.code, 1049 | 1146) => return Ok(Vec::new()),
        Err(error) => return Err(mysql::error(error, &doing)),
    };
    rows.into_iter().map(|row| parse(row).map_err(|error| error.during(doing.clone()))).collect()
}

/// Puts a new row down; its id.
pub async fn insert(conn: &mut Conn, name: &str, restore: &Restore) -> Result<u64> {
    let values: Vec<Value> = vec![
        name.into(),
        restore.why.to_string().into(),
        json(&restore.tables).into(),
        restore.state.to_string().into(),
        restore.entry.0.into(),
        restore.dump.as_ref().map(ToString::to_string).into(),
        restore.at.0.into(),
        datetime(restore.wanted_at).into(),
        matches!(restore.why, Why::Mandatory | Why::Resync).then_some(restore.entry.0).into(),
    ];
    conn.exec_drop(INSERT, values)
        .await
        .map_err(|error| mysql::error(error, &format!("record the restore of {}", restore.names())))?;
    Ok(conn.last_insert_id().unwrap_or_default())
}

/// Puts down how many rows have been loaded.
pub async fn progress(conn: &mut Conn, id: u64, rows: u64) -> Result<()> {
    conn.exec_drop("UPDATE tablecast.restore SET row_count = ? WHERE id = ?", (rows, id))
        .await
        .map_err(|error| mysql::error(error, &format!("record the progress of restore {id}")))
}

/// Puts down that somebody asks for a restore that a quarantine has wanted.
pub async fn is_asked(conn: &mut Conn, id: u64) -> Result<()> {
    conn.exec_drop("UPDATE tablecast.restore SET why = ? WHERE id = ?", (Why::Asked.to_string(), id))
        .await
        .map_err(|error| mysql::error(error, &format!("record who wants restore {id}")))
}

/// Puts down that the shadows hold the dump's state.
pub async fn loaded(conn: &mut Conn, id: u64, at: StreamTx, rows: u64, now: DateTime<Utc>) -> Result<()> {
    conn.exec_drop(LOADED, (at.0, rows, datetime(now), id))
        .await
        .map_err(|error| mysql::error(error, &format!("record that restore {id} is loaded")))
}

/// The statement that puts down how far the shadows are, to be run in the transaction that brings them there.
pub fn until(id: u64, until: u64) -> String {
    format!("UPDATE tablecast.restore SET until_tx = {until} WHERE id = {id}")
}

/// Writes a row as it is now, but for `until`: that belongs to whoever brings the shadows forward.
pub async fn update(conn: &mut Conn, restore: &Restore) -> Result<()> {
    conn.exec_drop(UPDATE, values(restore)).await.map_err(|error| {
        mysql::error(error, &format!("record restore {} of {}", restore.id, restore.names()))
    })
}

fn values(restore: &Restore) -> Vec<Value> {
    vec![
        json(&restore.tables).into(),
        restore.state.to_string().into(),
        restore.entry.0.into(),
        restore.dump.as_ref().map(ToString::to_string).into(),
        restore.at.0.into(),
        restore.rows.into(),
        restore.rows_total.into(),
        restore.attempts.into(),
        restore.request.as_ref().map(ToString::to_string).into(),
        (!restore.plan.is_empty()).then(|| json(&restore.plan)).into(),
        restore.message.clone().into(),
        restore.started_at.map(datetime).into(),
        restore.loaded_at.map(datetime).into(),
        restore.finished_at.map(datetime).into(),
        restore.id.into(),
    ]
}

fn json(value: &impl Serialize) -> String {
    // Names and texts: nothing that JSON could not hold.
    serde_json::to_string(value).unwrap_or_default()
}

fn parse(mut row: Row) -> Result<Restore> {
    let why: String = take(&mut row, "why")?;
    let state: String = take(&mut row, "state")?;
    let tables: String = take(&mut row, "tables")?;
    let plan: Option<String> = take(&mut row, "plan")?;
    let dump: Option<String> = take(&mut row, "dump")?;
    let request: Option<String> = take(&mut row, "request")?;
    let unreadable = |what: &str| {
        let what = what.to_owned();
        move |error: serde_json::Error| odd(&format!("column {what}")).caused_by(error)
    };
    Ok(Restore {
        id: take(&mut row, "id")?,
        why: why.parse()?,
        state: state.parse()?,
        tables: serde_json::from_str(&tables).map_err(unreadable("tables"))?,
        entry: Seq(take(&mut row, "entry")?),
        dump: dump.map(|dump| dump.parse()).transpose()?,
        at: StreamTx(take(&mut row, "at_tx")?),
        until: StreamTx(take(&mut row, "until_tx")?),
        rows: take(&mut row, "row_count")?,
        rows_total: take(&mut row, "row_total")?,
        attempts: take(&mut row, "attempts")?,
        request: request.map(|request| request.parse()).transpose()?,
        plan: match plan {
            Some(plan) => serde_json::from_str(&plan).map_err(unreadable("plan"))?,
            None => Vec::new(),
        },
        message: take(&mut row, "message")?,
        wanted_at: time(&mut row, "wanted_at")?.unwrap_or_default(),
        started_at: time(&mut row, "started_at")?,
        loaded_at: time(&mut row, "loaded_at")?,
        finished_at: time(&mut row, "finished_at")?,
    })
}

fn time(row: &mut Row, column: &str) -> Result<Option<DateTime<Utc>>> {
    let text: Option<String> = take(row, column)?;
    text.map(|text| text.parse().map_err(|error| odd(&format!("{text:?} is not a time")).caused_by(error)))
        .transpose()
}

fn take<T: mysql_async::prelude::FromValue>(row: &mut Row, column: &str) -> Result<T> {
    match row.take_opt(column) {
        Some(Ok(value)) => Ok(value),
        _ => Err(odd(&format!("column {column} is not as this version made it"))),
    }
}

fn odd(what: &str) -> Error {
    Error::new(Kind::Corrupt, format!("tablecast.restore: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip() {
        for (why, word) in WHYS {
            assert_eq!((why.to_string(), word.parse::<Why>().unwrap()), (word.to_owned(), why));
        }
        for (state, word) in STATES {
            assert_eq!((state.to_string(), word.parse::<State>().unwrap()), (word.to_owned(), state));
        }
        assert_eq!("lost".parse::<State>().unwrap_err().kind(), Kind::Corrupt);
    }

    #[test]
    fn many_tables_are_not_all_named() {
        let tables: Vec<TableName> = (0..7).map(|n| TableName::new("g", format!("t{n}"))).collect();
        assert_eq!(names(&tables[..2]), "g.t0, g.t1");
        assert_eq!(names(&tables), "g.t0, g.t1, g.t2, g.t3, g.t4 and 2 more");
    }
}
