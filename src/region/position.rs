//! `tablecast.position`: how far this region has come, one row a stream.
//!
//! Written after every entry in a small transaction of its own with an automatic GTID, and replicated to the
//! region's own replicas. It never runs ahead of the transactions: those are in `gtid_executed` first. A row that
//! is older than `gtid_executed` is what a killed run leaves, and the next run passes over what is there.

use chrono::{DateTime, Utc};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::former;
use crate::binlog::gtid::{GtidSet, Tsid};
use crate::binlog::name::{TableName, TableSet};
use crate::store::Etag;
use crate::stream::{Chain, Seq, StreamTx};
use crate::{Error, Kind, Result, mysql};

const SCHEMA: &str = include_str!("../../sql/region/schema.sql");
const READ: &str = include_str!("../../sql/region/position_read.sql");
const INSERT: &str = include_str!("../../sql/region/position_insert.sql");
const UPDATE: &str = include_str!("../../sql/region/position_update.sql");
const BASE_TX: &str = include_str!("../../sql/region/position_base_tx.sql");
const LETS_IN: &str = include_str!("../../sql/region/position_lets_in.sql");
const LIST: &str = include_str!("../../sql/region/position_list.sql");

/// ER_BAD_FIELD_ERROR
const UNKNOWN_COLUMN: u16 = 1054;

/// Where the region stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Position {
    pub stream: Uuid,
    /// The store that `head_etag` belongs to.
    pub store: String,
    pub seq: Seq,
    pub chain: Chain,
    pub last_tx: StreamTx,
    /// The state up to here came with a dump: these transactions are not in `gtid_executed`, and count as run.
    pub base_tx: StreamTx,
    pub covered: GtidSet,
    pub as_of: Option<DateTime<Utc>>,
    pub applied_at: DateTime<Utc>,
    /// The head that has been applied to its end.
    pub head_etag: Option<Etag>,
    /// The region's list that brought it here; `None`: a version wrote it whose list let in everything.
    pub lets_in: Option<TableSet>,
    /// Tables of the stream that this list does not let in, as the newest head that was applied tells: sorted.
    pub left_out: Vec<TableName>,
}

impl Position {
    /// Before the first entry.
    pub fn start(stream: Uuid, store: String, covered: GtidSet, list: &TableSet, now: DateTime<Utc>) -> Self {
        Self {
            stream,
            store,
            seq: Seq::ZERO,
            chain: Chain::genesis(stream),
            last_tx: StreamTx::ZERO,
            base_tx: StreamTx::ZERO,
            covered,
            as_of: None,
            applied_at: now,
            head_etag: None,
            lets_in: Some(list.clone()),
            left_out: Vec::new(),
        }
    }
}

/// The statements that make the schema and the table, each by itself.
pub fn schema_statements() -> impl Iterator<Item = &'static str> {
    SCHEMA
        .split_inclusive(";\n")
        .map(|text| text.trim().trim_end_matches(';'))
        .filter(|text| !text.is_empty())
}

/// Makes the schema `tablecast` and the table, where they are missing.
pub async fn create(conn: &mut Conn) -> Result<()> {
    for statement in schema_statements() {
        conn.query_drop(statement)
            .await
            .map_err(|error| mysql::error(error, "create the schema tablecast and its tables"))?;
    }
    Ok(())
}

/// Makes those of our tables that a region of an earlier version lacks, and the columns that they lack, and moves what
/// has got a place of its own since. Writes nothing where all is as this version has it.
pub async fn complete(conn: &mut Conn) -> Result<()> {
    const DOING: &str = "look for the tables of tablecast";
    const THERE: &str = "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'tablecast'";
    const COLUMNS: &str = "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'tablecast' AND \
        TABLE_NAME = 'position'";
    let there: Vec<String> = conn.query(THERE).await.map_err(|error| mysql::error(error, DOING))?;
    let columns: Vec<String> = conn.query(COLUMNS).await.map_err(|error| mysql::error(error, DOING))?;
    for (column, statement) in [("base_tx", BASE_TX), ("left_out", LETS_IN)] {
        if !columns.is_empty() && !columns.iter().any(|found| found == column) {
            conn.query_drop(statement)
                .await
                .map_err(|error| mysql::error(error, &format!("add {column} to tablecast.position")))?;
        }
    }
    if !our_tables().all(|table| there.iter().any(|found| found == table)) {
        create(conn).await?;
    }
    former::take_over(conn).await
}

/// The tables that the statements make, without their schema.
fn our_tables() -> impl Iterator<Item = &'static str> {
    let made = schema_statements().filter_map(|text| text.split_once("EXISTS tablecast."));
    made.filter_map(|(_, rest)| rest.split_whitespace().next())
}

/// Reads the stream's row; `None` if there is none, or no table yet.
pub async fn read(conn: &mut Conn, name: &str) -> Result<Option<Position>> {
    let doing = format!("read the position of {name}");
    let mut read = conn.exec_first(READ, (name,)).await;
    if matches!(&read, Err(mysql_async::Error::Server(error)) if error.code == UNKNOWN_COLUMN) {
        // Made by a version before lists were kept, or before dumps, and not yet upgraded: all of it was replayed.
        let older = READ.replacen("lets_in, left_out", "NULL AS lets_in, NULL AS left_out", 1);
        read = conn.exec_first(&older, (name,)).await;
        if matches!(&read, Err(mysql_async::Error::Server(error)) if error.code == UNKNOWN_COLUMN) {
            read = conn.exec_first(older.replacen("base_tx", "0 AS base_tx", 1), (name,)).await;
        }
    }
    let row: Option<Row> = match read {
        Ok(row) => row,
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(mysql::error(error, &doing)),
    };
    row.map(|row| parse(row).map_err(|error| error.during(doing))).transpose()
}

/// What this stream is called in rows that are there, should they go by other names.
pub async fn other_names(conn: &mut Conn, stream: Uuid) -> Result<Vec<String>> {
    const NAMES: &str = "SELECT name FROM tablecast.position WHERE stream = ?";
    match conn.exec(NAMES, (stream.to_string(),)).await {
        Ok(names) => Ok(names),
        Err(error) if is_missing(&error) => Ok(Vec::new()),
        Err(error) => Err(mysql::error(error, &format!("look for a position of stream {stream}"))),
    }
}

/// 1049: no schema; 1146: no table. Without any right on them the server says 1044 or 1142 instead.
pub fn is_missing(error: &mysql_async::Error) -> bool {
    matches!(error, mysql_async::Error::Server(error) if matches!(error.code, 1049 | 1146))
}

fn parse(mut row: Row) -> Result<Position> {
    let stream: String = take(&mut row, "stream")?;
    let applied_at: Option<String> = take(&mut row, "applied_at")?;
    let covered: String = take(&mut row, "covered")?;
    let chain: String = take(&mut row, "chain")?;
    Ok(Position {
        stream: stream.parse().map_err(|error| {
            Error::new(Kind::Corrupt, format!("tablecast.position: {stream:?} is not a UUID"))
                .caused_by(error)
        })?,
        store: take(&mut row, "store")?,
        seq: Seq(take(&mut row, "seq")?),
        chain: chain.parse()?,
        last_tx: StreamTx(take(&mut row, "last_tx")?),
        base_tx: StreamTx(take(&mut row, "base_tx")?),
        covered: covered.parse()?,
        as_of: time(take(&mut row, "as_of")?)?,
        applied_at: time(applied_at)?.unwrap_or_default(),
        head_etag: take::<Option<String>>(&mut row, "head_etag")?.map(Etag::new),
        lets_in: list(&mut row, "lets_in")?,
        left_out: list(&mut row, "left_out")?.unwrap_or_default(),
    })
}

fn list<T: DeserializeOwned>(row: &mut Row, column: &str) -> Result<Option<T>> {
    let Some(text) = take::<Option<String>>(row, column)? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|error| {
        Error::new(Kind::Corrupt, format!("tablecast.position: {column} {text:?} is no list of tables"))
            .caused_by(error)
    })
}

fn list_text(list: &impl Serialize) -> String {
    // Names: nothing that JSON could not hold.
    serde_json::to_string(list).unwrap_or_default()
}

fn left_out_text(position: &Position) -> Option<String> {
    (!position.left_out.is_empty()).then(|| list_text(&position.left_out))
}

/// Puts down the region's list that holds from here on, as part of the caller's transaction if `conn` is one.
pub async fn set_list(conn: &mut impl Queryable, name: &str, list: &TableSet) -> Result<()> {
    conn.exec_drop(LIST, (list_text(list), name))
        .await
        .map_err(|error| mysql::error(error, &format!("record the list of tables of {name}")))
}

/// A time as the statements here select it.
pub fn time(text: Option<String>) -> Result<Option<DateTime<Utc>>> {
    text.map(|text| {
        text.parse().map_err(|error| {
            Error::new(Kind::Corrupt, format!("a table of the schema tablecast: {text:?} is not a time"))
                .caused_by(error)
        })
    })
    .transpose()
}

pub fn take<T: mysql_async::prelude::FromValue>(row: &mut Row, column: &str) -> Result<T> {
    match row.take_opt(column) {
        Some(Ok(value)) => Ok(value),
        _ => {
            let message =
                format!("a table of the schema tablecast: column {column} is not as this version made it");
            Err(Error::new(Kind::Corrupt, message))
        }
    }
}

/// Puts the first row of a stream there.
pub async fn insert(conn: &mut Conn, name: &str, position: &Position) -> Result<()> {
    let values = (
        name,
        position.stream.to_string(),
        &position.store,
        position.seq.0,
        position.chain.to_string(),
        position.last_tx.0,
        position.base_tx.0,
        position.covered.to_string(),
        position.as_of.map(datetime),
        datetime(position.applied_at),
        position.lets_in.as_ref().map(list_text),
        left_out_text(position),
    );
    let doing = format!("record the position of {name}");
    conn.exec_drop(INSERT, values).await.map_err(|error| mysql::error(error, &doing))
}

/// Moves the row from `old` to `new`; `Kind::Locked` if somebody else has moved it meanwhile.
pub async fn advance(conn: &mut Conn, name: &str, old: &Position, new: &Position) -> Result<()> {
    let doing = format!("record the position of {name}: entry {}", new.seq.0);
    let values: Vec<mysql_async::Value> = vec![
        (&new.store).into(),
        new.seq.0.into(),
        new.chain.to_string().into(),
        new.last_tx.0.into(),
        new.base_tx.0.into(),
        new.covered.to_string().into(),
        new.as_of.map(datetime).into(),
        datetime(new.applied_at).into(),
        new.head_etag.as_ref().map(|etag| etag.as_str().to_owned()).into(),
        left_out_text(new).into(),
        name.into(),
        old.stream.to_string().into(),
        old.seq.0.into(),
        old.chain.to_string().into(),
    ];
    conn.exec_drop(UPDATE, values).await.map_err(|error| mysql::error(error, &doing))?;
    // The same values again change no row, and that is no sign of anybody else.
    if conn.affected_rows() == 0 && new != old {
        let now = read(conn, name).await?;
        if now.as_ref().map(|now| (now.seq, now.chain)) != Some((new.seq, new.chain)) {
            let message =
                format!("{doing}: it is no longer at entry {}, another run has moved it", old.seq.0);
            return Err(Error::new(Kind::Locked, message).hint("run `tablecast apply` again"));
        }
    }
    Ok(())
}

/// `gtid_executed` of the whole server.
pub async fn gtid_executed(conn: &mut Conn) -> Result<GtidSet> {
    const DOING: &str = "read gtid_executed";
    let text: Option<String> = conn
        .query_first("SELECT @@GLOBAL.gtid_executed")
        .await
        .map_err(|error| mysql::error(error, DOING))?;
    text.unwrap_or_default().parse().map_err(|error: Error| error.during(DOING))
}

pub fn datetime(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S%.6f").to_string()
}

/// The stream's transactions that the server has committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Executed {
    intervals: Vec<(u64, u64)>,
}

impl Executed {
    pub fn of(stream: Uuid, executed: &GtidSet) -> Self {
        let tsid = Tsid::untagged(stream);
        let intervals = executed.intervals().filter(|(of, _)| **of == tsid);
        Self { intervals: intervals.flat_map(|(_, intervals)| intervals.iter().copied()).collect() }
    }

    /// The same with everything up to `base`, which came with a dump.
    pub fn with_base(mut self, base: StreamTx) -> Self {
        if base > StreamTx::ZERO {
            self.intervals.retain(|&(_, last)| last > base.0);
            match self.intervals.first_mut() {
                Some(first) if first.0 <= base.0 + 1 => first.0 = 1,
                _ => self.intervals.insert(0, (1, base.0)),
            }
        }
        self
    }

    /// Everything up to `n`.
    pub fn up_to(n: u64) -> Self {
        Self { intervals: if n == 0 { Vec::new() } else { vec![(1, n)] } }
    }

    /// How many from `first` to `last` are there.
    pub fn count(&self, first: u64, last: u64) -> u64 {
        let within = self.intervals.iter().map(|&(begin, end)| (begin.max(first), end.min(last)));
        within.filter(|(begin, end)| begin <= end).map(|(begin, end)| end - begin + 1).sum()
    }

    pub fn contains(&self, n: u64) -> bool {
        let at = self.intervals.partition_point(|(_, last)| *last < n);
        self.intervals.get(at).is_some_and(|(first, _)| *first <= n)
    }

    /// Whether everything from `first` to `last` is there.
    pub fn contains_all(&self, first: u64, last: u64) -> bool {
        let at = self.intervals.partition_point(|(_, end)| *end < first);
        self.intervals.get(at).is_some_and(|&(begin, end)| begin <= first && last <= end)
    }

    /// Whether everything up to `n` is there.
    pub fn is_complete_to(&self, n: u64) -> bool {
        n == 0 || self.intervals.first().is_some_and(|&(first, last)| first == 1 && n <= last)
    }

    /// The last transaction up to which nothing is missing.
    pub fn complete_to(&self) -> u64 {
        self.intervals.first().map_or(0, |&(first, last)| if first == 1 { last } else { 0 })
    }

    /// The first transaction from `n` on that is not there.
    pub fn next_missing(&self, n: u64) -> u64 {
        let at = self.intervals.partition_point(|(_, last)| *last < n);
        self.intervals.get(at).filter(|(first, _)| *first <= n).map_or(n, |&(_, last)| last + 1)
    }

    /// The last transaction that is there; 0: none.
    pub fn last(&self) -> u64 {
        self.intervals.last().map_or(0, |&(_, last)| last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_made_statement_by_statement() {
        let statements: Vec<_> = schema_statements().collect();
        assert_eq!(statements.len(), 9);
        assert_eq!(
            our_tables().collect::<Vec<_>>(),
            ["position", "quarantine", "restore", "guard", "guard_taken", "former", "state", "checked"]
        );
        assert!(statements[1].contains("CREATE TABLE IF NOT EXISTS tablecast.position"));
        assert!(!statements[1].ends_with(';'));
    }

    #[test]
    fn what_came_with_a_dump_counts_as_executed() {
        let stream = Uuid::from_u128(7);
        let executed = |set: &str, base: u64| {
            let set =
                if set.is_empty() { GtidSet::new() } else { format!("{stream}:{set}").parse().unwrap() };
            Executed::of(stream, &set).with_base(StreamTx(base)).intervals
        };
        assert_eq!(executed("", 0), []);
        assert_eq!(executed("", 5), [(1, 5)]);
        assert_eq!(executed("6-9", 5), [(1, 9)]);
        assert_eq!(executed("7-9", 5), [(1, 5), (7, 9)]);
        assert_eq!(executed("1-3:5:7-9", 5), [(1, 5), (7, 9)]);
        assert_eq!(executed("1-3:5-8", 5), [(1, 8)]);
        assert_eq!(executed("1-9", 5), [(1, 9)]);
        assert_eq!(executed("1-9", 20), [(1, 20)]);
    }

    #[test]
    fn executed_transactions_are_those_of_the_stream_only() {
        let stream = Uuid::from_u128(7);
        let set = format!("{}:1-9,{stream}:1-3:5-6:x:1-100", Uuid::from_u128(1)).parse().unwrap();
        let executed = Executed::of(stream, &set);
        let there: Vec<u64> = (0..9).filter(|&n| executed.contains(n)).collect();
        assert_eq!(there, [1, 2, 3, 5, 6]);
        assert_eq!((executed.last(), executed.complete_to()), (6, 3));
        assert_eq!((executed.count(2, 5), executed.count(7, 9)), (3, 0));
        assert_eq!([1, 4, 5, 9].map(|n| executed.next_missing(n)), [4, 4, 7, 9]);
        assert!(executed.contains_all(1, 3) && executed.contains_all(5, 6) && !executed.contains_all(3, 5));
        assert!(executed.is_complete_to(3) && !executed.is_complete_to(4) && executed.is_complete_to(0));
    }
}
