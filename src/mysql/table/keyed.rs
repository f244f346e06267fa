//! Rows in the order of a table's key, each with the key itself: a table read piece by piece, and rows that can be named.
//!
//! A piece is the rows behind one key, up to another, at most so many. Its bounds are values as the server sends them;
//! literals are made of them by the table's own key, so what somebody else hands in as a bound can be nothing but a value.

use super::column::Column;
use super::key::{Key, key};
use super::literal::Tuple;
use super::range::{Range, compare};
use super::scan::too_long;
use crate::binlog::name::{TableName, quote};
use crate::mysql::wire::{RowSink, Wire};
use crate::stream::RowKey;
use crate::{Error, Kind, Result};

/// The key by which a table's rows are read and named.
pub struct TableKey(Key);

/// The primary key of `table`, else a unique one without NULLs; `None`: it has none whose values can be compared.
pub async fn table_key(wire: &mut Wire, table: &TableName) -> Result<Option<TableKey>> {
    Ok(key(wire, table).await?.map(TableKey))
}

impl TableKey {
    pub fn columns(&self) -> Vec<String> {
        self.0.parts.iter().map(|part| part.column.clone()).collect()
    }

    /// The rows behind `after` and up to `through`, in the key's order; at most `limit`.
    pub fn piece(
        &self,
        after: Option<&RowKey>,
        through: Option<&RowKey>,
        limit: Option<u64>,
    ) -> Result<Range> {
        let key = &self.0;
        let mut clause = format!(" FORCE INDEX ({})", quote(&key.name));
        let behind = after.map(|bound| self.literals(bound)).transpose()?;
        let up_to = through.map(|bound| self.literals(bound)).transpose()?;
        let behind = behind.map(|bound| compare(key, &bound, ">", ">"));
        let up_to = up_to.map(|bound| compare(key, &bound, "<", "<="));
        for (condition, word) in behind.into_iter().chain(up_to).zip([" WHERE ", " AND "]) {
            clause.push_str(word);
            clause.push_str(&condition);
        }
        clause.push_str(" ORDER BY ");
        clause.push_str(&key.list());
        if let Some(limit) = limit {
            clause.push_str(&format!(" LIMIT {limit}"));
        }
        Ok(Range::of(clause))
    }

    fn literals(&self, bound: &RowKey) -> Result<Vec<String>> {
        let parts = &self.0.parts;
        let literals = parts.iter().zip(&bound.0).map(|(part, value)| part.literal(value));
        let literals = literals.collect::<Option<Vec<_>>>().filter(|all| all.len() == bound.0.len());
        literals.filter(|all| all.len() == parts.len()).ok_or_else(|| {
            let key = self.columns().join(", ");
            Error::new(Kind::Corrupt, format!("read rows by key ({key}): {bound} is no value of it"))
        })
    }
}

/// The rows of one piece. Read to its end, or the connection is not used again.
pub struct KeyedScan<'w> {
    wire: &'w mut Wire,
    columns: u64,
    sink: Keyed,
    doing: String,
}

impl<'w> KeyedScan<'w> {
    pub async fn open(
        wire: &'w mut Wire,
        table: &TableName,
        columns: &[Column],
        key: &TableKey,
        piece: &Range,
    ) -> Result<KeyedScan<'w>> {
        let doing = format!("read rows of {table} at {}", wire.peer());
        let mut list: Vec<String> = columns.iter().map(Column::selected).collect();
        if list.is_empty() {
            list.push("1".to_owned());
        }
        let sink = Keyed { tuple: Tuple::new(columns), values: list.len(), at: 0, key: Vec::new() };
        let query =
            format!("SELECT {},{} FROM {}{}", list.join(","), key.0.list(), table.quoted(), piece.clause());
        let columns = wire.open_rows(query.as_bytes(), &doing).await?;
        Ok(KeyedScan { wire, columns, sink, doing })
    }

    /// The next row's tuple, valid until the next call, and its key.
    pub async fn next(&mut self) -> Result<Option<(&[u8], RowKey)>> {
        self.sink.tuple.start();
        self.sink.at = 0;
        self.sink.key.clear();
        if !self.wire.next_row(self.columns, &mut self.sink, &self.doing).await? {
            return Ok(None);
        }
        let key = RowKey(self.sink.key.clone());
        match self.sink.tuple.finish() {
            Some(tuple) => Ok(Some((tuple, key))),
            None => Err(too_long(&self.doing)),
        }
    }
}

/// The first values make up the tuple, the rest the key.
struct Keyed {
    tuple: Tuple,
    values: usize,
    at: usize,
    key: Vec<Vec<u8>>,
}

impl RowSink for Keyed {
    fn null(&mut self) {
        self.at += 1;
        match self.at <= self.values {
            true => self.tuple.null(),
            // No key has NULLs: its columns are NOT NULL.
            false => self.key.push(Vec::new()),
        }
    }

    fn begin(&mut self, len: u64) {
        self.at += 1;
        match self.at <= self.values {
            true => self.tuple.begin(len),
            false => self.key.push(Vec::new()),
        }
    }

    fn part(&mut self, bytes: &[u8]) {
        match self.at <= self.values {
            true => self.tuple.part(bytes),
            false => self.key.last_mut().into_iter().for_each(|value| value.extend_from_slice(bytes)),
        }
    }

    fn end(&mut self) {
        if self.at <= self.values {
            self.tuple.end();
        }
    }
}
