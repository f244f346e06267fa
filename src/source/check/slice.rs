//! What one check reads: some rows of some tables at one moment, in the order of their keys, for so long and no longer.
//!
//! Tables are taken in the order of their names, from where the last check stopped. A table without a key is read as a
//! whole or not at all.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::binlog::gtid::GtidSet;
use crate::binlog::name::{TableName, TableSet};
use crate::config::Config;
use crate::error::{Error, Kind, Result, chain};
use crate::mysql;
use crate::mysql::table::{self, Column, KeyedScan, Range, TableKey, TableScan};
use crate::mysql::wire::Wire;
use crate::source::dump::{InnodbTable, innodb_tables, snapshot};
use crate::stream::check::NamesWriter;
use crate::stream::{CheckedRange, NamedRow, RowKey, RowsChecksum};

/// Most tables of one check: each of them is locked for an instant.
pub(super) const MOST_TABLES: usize = 32;
/// With the tables of one check so many rows are expected, no more than a check has time for.
const ENOUGH_ROWS: u64 = 1_000_000;
/// Rows are read in pieces of so many, or of so many bytes: the clock is looked at behind each.
const PIECE_ROWS: u64 = 2_000;
const PIECE_BYTES: u64 = 4 << 20;
/// A table without a key is not read if it is larger: the stream would stand still for it.
const ROWS_WITHOUT_KEY: u64 = 100_000;
const BYTES_WITHOUT_KEY: u64 = 64 << 20;
/// How long the lock is tried for: meanwhile the stream stands still.
const PATIENCE: Duration = Duration::from_millis(300);

/// Rows as they were at one moment.
pub(super) struct Slice {
    /// What the source had executed.
    pub executed: GtidSet,
    pub taken_at: DateTime<Utc>,
    pub ranges: Vec<CheckedRange>,
    /// The object that names the rows, if any of the tables has a key.
    pub names: Option<Vec<u8>>,
    pub next: Place,
    /// Tables that are not checked, and why.
    pub left: Vec<(TableName, String)>,
}

/// Where a check begins: behind a key of a table. Without a table, with the first.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    pub table: Option<TableName>,
    pub after: Option<RowKey>,
}

/// How much is read at once.
pub(super) struct Bounds {
    pub tables: usize,
    pub time: Duration,
    /// A single table that cannot be locked or read is left, and the next one is gone on to.
    pub passes_on: bool,
}

/// Reads from `place` on, within `bounds`.
pub(super) async fn read(config: &Config, set: &TableSet, place: &Place, bounds: &Bounds) -> Result<Slice> {
    let mut conn = mysql::connect(&config.mysql).await?;
    let there = innodb_tables(&mut conn, set, &format!("check rows at {}", config.mysql)).await?;
    let _ = conn.disconnect().await;
    let from = place.table.as_ref();
    let first = there.iter().position(|table| from.is_none_or(|from| table.name >= *from)).unwrap_or(0);
    let (mut rows, mut end) = (0, first);
    while end < there.len() && end - first < bounds.tables && rows < ENOUGH_ROWS {
        rows += there[end].rows;
        end += 1;
    }
    let picked = &there[first..end];
    let names: Vec<TableName> = picked.iter().map(|table| table.name.clone()).collect();
    let mut next = Place { table: there.get(end).map(|table| table.name.clone()), after: None };
    let mut snapshot = match snapshot::take(&config.mysql, &names, 1, PATIENCE).await {
        Ok(snapshot) => snapshot,
        Err(error) if bounds.passes_on && names.len() == 1 => {
            return Ok(Slice::without(&names[0], &error, next));
        }
        Err(error) => return Err(error),
    };
    let Some(mut wire) = snapshot.wires.pop() else {
        return Err(Error::new(Kind::Failed, "check rows: a snapshot without a connection"));
    };
    let mut reading = Reading {
        end: Instant::now() + bounds.time,
        ranges: Vec::new(),
        left: Vec::new(),
        names: NamesWriter::default(),
    };
    for (at, table) in picked.iter().enumerate() {
        if at > 0 && Instant::now() >= reading.end {
            next = Place { table: Some(table.name.clone()), after: None };
            break;
        }
        let after = place.after.clone().filter(|_| from == Some(&table.name));
        match reading.table(&mut wire, table, after).await {
            Ok(None) => {}
            Ok(Some(stopped)) => {
                next = Place { table: Some(table.name.clone()), after: Some(stopped) };
                break;
            }
            // The connection is not used again.
            Err(error) if bounds.passes_on && names.len() == 1 => {
                return Ok(Slice::without(&table.name, &error, next));
            }
            Err(error) => return Err(error),
        }
    }
    wire.close().await;
    let Reading { ranges, left, names, .. } = reading;
    let (executed, taken_at) = (snapshot.executed, snapshot.taken_at);
    Ok(Slice { executed, taken_at, ranges, names: names.finish()?, next, left })
}

impl Slice {
    /// Nothing was read but that this table cannot be.
    fn without(table: &TableName, error: &Error, next: Place) -> Slice {
        let left = vec![(table.clone(), chain(error))];
        let (executed, taken_at) = (GtidSet::new(), DateTime::UNIX_EPOCH);
        Slice { executed, taken_at, ranges: Vec::new(), names: None, next, left }
    }

    pub fn tables(&self) -> BTreeSet<TableName> {
        self.ranges.iter().map(|range| range.table.clone()).collect()
    }
}

struct Reading {
    end: Instant,
    ranges: Vec<CheckedRange>,
    left: Vec<(TableName, String)>,
    names: NamesWriter,
}

impl Reading {
    /// Reads one table; says behind which key it stopped, if not at the end.
    async fn table(
        &mut self,
        wire: &mut Wire,
        table: &InnodbTable,
        after: Option<RowKey>,
    ) -> Result<Option<RowKey>> {
        let name = &table.name;
        let columns = match table::columns(wire, name).await {
            Ok(columns) => columns,
            // A type that this version cannot carry is no reason to check nothing.
            Err(error) if matches!(error.kind(), Kind::Failed | Kind::NotFound) => {
                self.left.push((name.clone(), chain(&error)));
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let mut range = CheckedRange {
            table: name.clone(),
            columns: table::digest(&columns),
            key: Vec::new(),
            after: None,
            through: None,
            rows: 0,
            checksum: RowsChecksum::default(),
        };
        let Some(key) = table::table_key(wire, name).await? else {
            if table.rows > ROWS_WITHOUT_KEY || table.bytes > BYTES_WITHOUT_KEY {
                let why = format!(
                    "it has no key that rows could be read by, and about {} rows: they would have to be read at once",
                    table.rows
                );
                self.left.push((name.clone(), why));
                return Ok(None);
            }
            let mut scan = TableScan::open(wire, name, &columns, &Range::all()).await?;
            while let Some(tuple) = scan.next().await? {
                range.rows += 1;
                range.checksum += RowsChecksum::of_row(tuple);
            }
            self.ranges.push(range);
            return Ok(None);
        };
        (range.key, range.after) = (key.columns(), after.clone());
        self.names.table(name)?;
        let row_bytes = (table.bytes / table.rows.max(1)).max(1);
        let limit = (PIECE_BYTES / row_bytes).clamp(1, PIECE_ROWS);
        let mut last = after;
        loop {
            let (rows, end) =
                self.piece(wire, (name, &columns, &key), last.as_ref(), limit, &mut range).await?;
            last = end.or(last);
            if rows < limit {
                break;
            }
            if Instant::now() >= self.end {
                range.through.clone_from(&last);
                break;
            }
        }
        let stopped = range.through.clone();
        self.ranges.push(range);
        Ok(stopped)
    }

    /// Reads the next rows; says how many there were, and the key of the last.
    async fn piece(
        &mut self,
        wire: &mut Wire,
        (name, columns, key): (&TableName, &[Column], &TableKey),
        after: Option<&RowKey>,
        limit: u64,
        range: &mut CheckedRange,
    ) -> Result<(u64, Option<RowKey>)> {
        let piece = key.piece(after, None, Some(limit))?;
        let mut scan = KeyedScan::open(wire, name, columns, key, &piece).await?;
        let (mut rows, mut last) = (0, None);
        while let Some((tuple, of)) = scan.next().await? {
            let checksum = RowsChecksum::of_row(tuple);
            range.checksum += checksum;
            rows += 1;
            let named = NamedRow::new(of, checksum);
            self.names.row(&named)?;
            last = Some(named.key);
        }
        range.rows += rows;
        Ok((rows, last))
    }
}
