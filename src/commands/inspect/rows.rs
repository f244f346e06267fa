//! Row events as people and programs see them.

use serde_json::{Map, Value, json};

use super::value;
use crate::binlog::event::Event;
use crate::binlog::name::TableName;
use crate::binlog::rows::{BinlogRow, RowsReader};
use crate::error::Result;

/// One row, before and after. Columns that a MINIMAL image leaves out are not there.
pub enum Change {
    Insert { after: Row },
    Update { before: Row, after: Row },
    Delete { before: Row },
}

/// Column and value; `@1`, `@2`… where the binlog does not carry the names.
pub struct Row(Vec<(String, value::Shown)>);

pub struct Decoder(RowsReader);

impl Decoder {
    pub fn new(format: &Event) -> Result<Decoder> {
        RowsReader::new(format).map(Decoder)
    }

    /// Takes a table map, or the rows of an event into `changes`; says whose they are. Without `values` the
    /// changes carry no columns.
    pub fn event(
        &mut self,
        event: &Event,
        values: bool,
        changes: &mut Vec<Change>,
    ) -> Result<Option<TableName>> {
        self.0.event(event, |map, (before, after)| {
            let shown = |row| Row::of(row, values, map.column_names.is_some());
            changes.extend(match (before.map(shown), after.map(shown)) {
                (None, after) => after.map(|after| Change::Insert { after }),
                (Some(before), None) => Some(Change::Delete { before }),
                (Some(before), Some(after)) => Some(Change::Update { before, after }),
            });
            Ok(())
        })
    }
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
