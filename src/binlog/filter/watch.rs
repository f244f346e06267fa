//! The one table outside the set whose rows the filter reads: `tablecast.table_set`, in which the set itself is
//! changed (sql/source/table_set.sql). A row that is inserted there for this stream is a new version of its set.
//!
//! Such a row must stand alone in its transaction. Rows of other tables beside it would belong to the old set or to
//! the new one, and nobody could say which.

use mysql_common::binlog::value::BinlogValue;
use mysql_common::value::Value;
use uuid::Uuid;

use crate::binlog::event::{Checksum, Event, FormatDescription};
use crate::binlog::gtid::Gtid;
use crate::binlog::name::TableName;
use crate::binlog::rows::{BinlogRow, Images, RowsReader};
use crate::error::{Error, Kind, Result};

/// Whether this is the table in which table sets are changed.
pub fn is_table_set(table: &TableName) -> bool {
    table.schema == "tablecast" && table.table == "table_set"
}

/// A transaction that changes the stream's table set, and nothing else.
#[derive(Debug)]
pub struct SetChange {
    pub gtid: Gtid,
    /// When it committed at the server where it was made, in microseconds since 1970.
    pub commit_us: u64,
    pub row: SetRow,
}

/// A row of `tablecast.table_set` as far as upload reads it; the last three are JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetRow {
    pub version: u64,
    pub tables: String,
    pub added: String,
    pub removed: String,
}

/// What a rows event of that table does.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Watched {
    /// New versions of this stream's set.
    pub rows: Vec<SetRow>,
    /// Rows of this stream were changed or deleted: that is not how a set is changed.
    pub meddled: bool,
}

/// Reads a rows event of the table, given its table map.
pub(super) fn read(format: &FormatDescription, map: &Event, rows: &Event, stream: Uuid) -> Result<Watched> {
    let mut reader = RowsReader::new(&format.to_event())?;
    let mut watched = Watched::default();
    // Out of a compressed payload they come without a checksum, and the reader expects one.
    let [map, rows] = [map, rows].map(|event| event.clone().with_checksum(Checksum::Crc32));
    reader.event(&map, |_, _| Ok(()))?;
    reader.event(&rows, |_, images| take(images, stream, &mut watched))?;
    Ok(watched)
}

fn take(images: Images, stream: Uuid, watched: &mut Watched) -> Result<()> {
    match images {
        (None, Some(mut row)) => {
            if is_of(&mut row, stream)? {
                watched.rows.push(SetRow {
                    version: number(&mut row, 2)?,
                    tables: text(&mut row, 3)?,
                    added: text(&mut row, 4)?,
                    removed: text(&mut row, 5)?,
                });
            }
        }
        // A MINIMAL image has the key, and that has the UUID; which column is which it does not tell.
        (Some(mut row), _) => {
            let uuid = stream.to_string();
            let is_uuid = |value: Option<BinlogValue<'_>>| matches!(value, Some(BinlogValue::Value(Value::Bytes(text))) if text.eq_ignore_ascii_case(uuid.as_bytes()));
            watched.meddled |= (0..row.len()).any(|at| is_uuid(row.take(at)));
        }
        (None, None) => {}
    }
    Ok(())
}

fn is_of(row: &mut BinlogRow, stream: Uuid) -> Result<bool> {
    Ok(text(row, 1)?.eq_ignore_ascii_case(&stream.to_string()))
}

fn text(row: &mut BinlogRow, at: usize) -> Result<String> {
    match row.take(at) {
        Some(BinlogValue::Value(Value::Bytes(bytes))) => {
            String::from_utf8(bytes).map_err(|cause| unreadable(at).caused_by(cause))
        }
        _ => Err(unreadable(at)),
    }
}

fn number(row: &mut BinlogRow, at: usize) -> Result<u64> {
    match row.take(at) {
        Some(BinlogValue::Value(Value::UInt(number))) => Ok(number),
        // Without metadata in the table map a column has no sign.
        Some(BinlogValue::Value(Value::Int(number))) => u64::try_from(number).map_err(|_| unreadable(at)),
        _ => Err(unreadable(at)),
    }
}

fn unreadable(at: usize) -> Error {
    Error::new(Kind::Gate, format!("column {} of a row in tablecast.table_set cannot be read", at + 1)).hint(
        "was the table altered? sql/source/table_set.sql is how it has to be; `tablecast upload --resync` goes on \
         behind this transaction",
    )
}
