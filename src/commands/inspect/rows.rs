//! Row events, decoded by mysql_common. It is handed only whole events whose length and checksum have been
//! checked; should a crafted one make it panic all the same, that is an error of the segment, not of ours.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mysql_common::binlog::EventStreamReader;
use mysql_common::binlog::consts::BinlogVersion;
use mysql_common::binlog::events::{EventData, RowsEventData};
use mysql_common::binlog::row::BinlogRow;
use serde_json::{Map, Value, json};

use super::value;
use crate::binlog::event::{Event, TableMap, kind};
use crate::binlog::name::TableName;
use crate::error::{Error, Kind, Result};

/// One row, before and after. Columns that a MINIMAL image leaves out are not there.
pub enum Change {
    Insert { after: Row },
    Update { before: Row, after: Row },
    Delete { before: Row },
}

/// Column and value; `@1`, `@2`… where the binlog does not carry the names.
pub struct Row(Vec<(String, value::Shown)>);

pub struct Decoder {
    reader: EventStreamReader,
    tables: std::collections::HashMap<u64, TableMap>,
}

impl Decoder {
    pub fn new(format: &Event) -> Result<Decoder> {
        let mut reader = EventStreamReader::new(BinlogVersion::Version4);
        reader.read(format.bytes()).map_err(|cause| undecodable(format, cause))?;
        Ok(Decoder { reader, tables: std::collections::HashMap::new() })
    }

    /// Takes a table map, or the rows of an event into `changes`; says whose they are. Without `values` the
    /// changes carry no columns.
    pub fn event(
        &mut self,
        event: &Event,
        values: bool,
        changes: &mut Vec<Change>,
    ) -> Result<Option<TableName>> {
        if event.kind() == kind::TABLE_MAP {
            let map = TableMap::parse(event)?;
            self.tables.insert(map.table_id, map);
        }
        let decode = AssertUnwindSafe(|| self.decode(event, values, changes));
        catch_unwind(decode).unwrap_or_else(|_| Err(undecodable(event, "the decoder panicked")))
    }

    fn decode(
        &mut self,
        event: &Event,
        values: bool,
        changes: &mut Vec<Change>,
    ) -> Result<Option<TableName>> {
        let read = self.reader.read(event.bytes()).map_err(|cause| undecodable(event, cause))?;
        let data = match &read {
            Some(read) => read.read_data().map_err(|cause| undecodable(event, cause))?,
            None => None,
        };
        let Some(EventData::RowsEvent(rows)) = data else { return Ok(None) };
        let table_id = rows.table_id();
        let (Some(map), Some(known)) = (self.reader.get_tme(table_id), self.tables.get(&table_id)) else {
            // An event that only ends a statement names no table.
            return Ok(None);
        };
        let has_names = known.column_names.is_some();
        for row in rows.rows(map) {
            let (before, after) = row.map_err(|cause| undecodable(event, cause))?;
            changes.push(change(&rows, before, after, |row| Row::of(row, values, has_names), event)?);
        }
        Ok(Some(known.table.clone()))
    }
}

fn change(
    rows: &RowsEventData<'_>,
    before: Option<BinlogRow>,
    after: Option<BinlogRow>,
    shown: impl Fn(BinlogRow) -> Row,
    event: &Event,
) -> Result<Change> {
    Ok(match (before.map(&shown), after.map(&shown)) {
        (None, Some(after)) => Change::Insert { after },
        (Some(before), None) => Change::Delete { before },
        (Some(before), Some(after)) => Change::Update { before, after },
        (None, None) => {
            return Err(undecodable(event, format!("a row of table {} has no image", rows.table_id())));
        }
    })
}

fn undecodable(event: &Event, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let header = event.header();
    let what = format!("decode the {} event that ends at {}", header.name(), header.log_pos);
    Error::new(Kind::Corrupt, what).caused_by(cause)
}

impl Row {
    fn of(mut row: BinlogRow, values: bool, has_names: bool) -> Row {
        if !values {
            return Row(Vec::new());
        }
        let columns = row.columns();
        let mut shown = Vec::with_capacity(columns.len());
        for (at, column) in columns.iter().enumerate() {
            let name = column.name_str();
            // mysql_common counts nameless columns from @0, mysqlbinlog from @1.
            let name = match name.strip_prefix('@').and_then(|number| number.parse::<usize>().ok()) {
                Some(number) if !has_names => format!("@{}", number + 1),
                _ => name.into_owned(),
            };
            if let Some(value) = row.take(at) {
                shown.push((name, value::show(value, column)));
            }
        }
        Row(shown)
    }

    fn to_text(&self) -> String {
        let columns = self.0.iter().map(|(name, value)| format!("{name}={}", value.to_text()));
        columns.collect::<Vec<_>>().join(", ")
    }

    fn to_json(&self) -> Value {
        let columns = self.0.iter().map(|(name, value)| (name.clone(), value.to_json()));
        Value::Object(columns.collect::<Map<_, _>>())
    }
}

impl Change {
    pub fn to_text(&self) -> String {
        match self {
            Change::Insert { after } => format!("insert  {}", after.to_text()),
            Change::Update { before, after } => {
                format!("update  {}  →  {}", before.to_text(), after.to_text())
            }
            Change::Delete { before } => format!("delete  {}", before.to_text()),
        }
    }

    pub fn to_json(&self, table: &TableName) -> Value {
        match self {
            Change::Insert { after } => json!({"table": table, "change": "insert", "after": after.to_json()}),
            Change::Update { before, after } => {
                json!({"table": table, "change": "update", "before": before.to_json(), "after": after.to_json()})
            }
            Change::Delete { before } => {
                json!({"table": table, "change": "delete", "before": before.to_json()})
            }
        }
    }
}
