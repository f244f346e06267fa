//! Reading one range of a table, row by row.

use super::column::Column;
use super::literal::{MAX_TUPLE, Tuple};
use super::range::Range;
use crate::binlog::name::TableName;
use crate::mysql::wire::{Reply, Wire};
use crate::{Error, Kind, Result};

/// The rows of one range, in the order of the key where there is one. Read to its end, or the connection is not
/// used again.
pub struct TableScan<'w> {
    wire: &'w mut Wire,
    columns: u64,
    tuple: Tuple,
    doing: String,
}

impl<'w> TableScan<'w> {
    /// Begins to read the rows of `range`.
    pub async fn open(
        wire: &'w mut Wire,
        table: &TableName,
        columns: &[Column],
        range: &Range,
    ) -> Result<TableScan<'w>> {
        let doing = format!("read rows of {table} at {}", wire.peer());
        let mut list = columns.iter().map(Column::selected).collect::<Vec<_>>().join(",");
        if list.is_empty() {
            list.push('1');
        }
        let query = format!("SELECT {list} FROM {}{}", table.quoted(), range.clause());
        let columns_there = wire.open_rows(query.as_bytes(), &doing).await?;
        Ok(TableScan { wire, columns: columns_there, tuple: Tuple::new(columns), doing })
    }

    /// The next row's tuple, `(lit,…)`; it is valid until the next call.
    pub async fn next(&mut self) -> Result<Option<&[u8]>> {
        self.tuple.start();
        if !self.wire.next_row(self.columns, &mut self.tuple, &self.doing).await? {
            return Ok(None);
        }
        match self.tuple.finish() {
            Some(tuple) => Ok(Some(tuple)),
            None => Err(too_long(&self.doing)),
        }
    }
}

pub(super) fn too_long(doing: &str) -> Error {
    Error::new(Kind::Failed, format!("{doing}: a row makes an INSERT of more than {MAX_TUPLE} bytes"))
        .hint("no MySQL server takes a statement above 1 GiB: this row cannot travel in a dump")
}

/// The rows of a small result as text; what is no UTF-8 is replaced.
pub(super) async fn rows(wire: &mut Wire, query: &str, doing: &str) -> Result<Vec<Vec<Option<String>>>> {
    let text = |value: Option<Vec<u8>>| value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    match wire.query(query.as_bytes(), doing).await? {
        Reply::Rows { rows, .. } => {
            Ok(rows.into_iter().map(|row| row.into_iter().map(text).collect()).collect())
        }
        _ => Ok(Vec::new()),
    }
}
