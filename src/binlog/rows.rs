//! Rows out of row events, decoded by mysql_common: for looking at, and for the one table that Tablecast itself
//! reads from a binlog. What is applied never passes here.
//!
//! It is handed only whole events whose length and checksum have been checked; should a crafted one make it panic
//! all the same, that is an error of the event, not of ours.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use mysql_common::binlog::EventStreamReader;
use mysql_common::binlog::consts::BinlogVersion;
use mysql_common::binlog::events::EventData;
pub use mysql_common::binlog::row::BinlogRow;

use super::event::{Event, TableMap, kind};
use super::name::TableName;
use crate::error::{Error, Kind, Result};

/// A row before and after: an insert has no before, a delete no after.
pub type Images = (Option<BinlogRow>, Option<BinlogRow>);

/// Takes the events of one binlog in their order: table maps, and the rows behind them.
pub struct RowsReader {
    reader: EventStreamReader,
    tables: HashMap<u64, TableMap>,
}

impl std::fmt::Debug for RowsReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowsReader").field("tables", &self.tables).finish_non_exhaustive()
    }
}

impl RowsReader {
    pub fn new(format: &Event) -> Result<RowsReader> {
        let mut reader = EventStreamReader::new(BinlogVersion::Version4);
        reader.read(format.bytes()).map_err(|cause| undecodable(format, cause))?;
        Ok(RowsReader { reader, tables: HashMap::new() })
    }

    /// Takes a table map, or hands the rows of an event to `each`; says whose they are.
    pub fn event(
        &mut self,
        event: &Event,
        each: impl FnMut(&TableMap, Images) -> Result<()>,
    ) -> Result<Option<TableName>> {
        if event.kind() == kind::TABLE_MAP {
            let map = TableMap::parse(event)?;
            self.tables.insert(map.table_id, map);
        }
        let decode = AssertUnwindSafe(|| self.decode(event, each));
        catch_unwind(decode).unwrap_or_else(|_| Err(undecodable(event, "the decoder panicked")))
    }

    fn decode(
        &mut self,
        event: &Event,
        mut each: impl FnMut(&TableMap, Images) -> Result<()>,
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
        for row in rows.rows(map) {
            let images = row.map_err(|cause| undecodable(event, cause))?;
            if images.0.is_none() && images.1.is_none() {
                return Err(undecodable(event, format!("a row of table {table_id} has no image")));
            }
            each(known, images)?;
        }
        Ok(Some(known.table.clone()))
    }
}

fn undecodable(event: &Event, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let header = event.header();
    let what = format!("decode the {} event that ends at {}", header.name(), header.log_pos);
    Error::new(Kind::Corrupt, what).caused_by(cause)
}
