//! TABLE_MAP: which table a number stands for, until the end of the statement.
//!
//! `Table_map_event` in libs/mysql/binlog/event/rows_event.h. Optional metadata (names, signedness, primary key)
//! is there as far as the source's `binlog_row_metadata` wrote it.

use super::{Event, kind};
use crate::binlog::name::TableName;
use crate::binlog::wire::Cursor;
use crate::error::Result;

/// What stands before the names.
const TABLE_ID_AND_FLAGS: usize = 8;

/// A column as the row images hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnType {
    /// `enum_field_types` in include/field_types.h.
    pub type_code: u8,
    /// One or two bytes whose meaning depends on the type; two as they lie in the event, little-endian.
    pub metadata: u16,
    pub nullable: bool,
    /// None for types that have no sign, or if the event does not say.
    pub unsigned: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableMap {
    pub table_id: u64,
    pub table: TableName,
    pub columns: Vec<ColumnType>,
    pub column_names: Option<Vec<String>>,
    /// Indexes into `columns`, in the order of the key.
    pub primary_key: Option<Vec<usize>>,
}

impl TableMap {
    /// Number and name only: all that the filter needs.
    pub fn parse_name(event: &Event) -> Result<(u64, TableName)> {
        let mut input = cursor(event)?;
        read_name(&mut input)
    }

    /// The same event for a table of another name, with the same columns.
    pub fn renamed(event: &Event, to: &TableName) -> Result<Event> {
        let mut input = cursor(event)?;
        input.bytes(TABLE_ID_AND_FLAGS)?;
        for _ in 0..2 {
            let len = input.length()?;
            input.bytes(len + 1)?;
        }
        let rest = input.bytes(input.remaining())?;
        let mut body = event.body()[..TABLE_ID_AND_FLAGS].to_vec();
        for name in [&to.schema, &to.table] {
            // One byte: an identifier has at most 64 characters of three bytes each.
            let Ok(len @ ..=250) = u8::try_from(name.len()) else {
                return Err(input.corrupt(format_args!("a name of {} bytes", name.len())));
            };
            body.push(len);
            body.extend_from_slice(name.as_bytes());
            body.push(0);
        }
        body.extend_from_slice(rest);
        Ok(Event::build(event.header(), &body, event.checksum()))
    }

    pub fn parse(event: &Event) -> Result<TableMap> {
        let mut input = cursor(event)?;
        let (table_id, table) = read_name(&mut input)?;
        let count = input.length()?;
        let types = input.bytes(count)?;
        let metadata_len = input.length()?;
        let mut metadata = Cursor::new("table map event, column metadata", input.bytes(metadata_len)?);
        let nulls = input.bytes(count.div_ceil(8))?;
        let mut columns = Vec::with_capacity(count);
        for (at, &type_code) in types.iter().enumerate() {
            let metadata = metadata.int(metadata_len_of(type_code))? as u16;
            let nullable = nulls[at / 8] & 1 << (at % 8) != 0;
            columns.push(ColumnType { type_code, metadata, nullable, unsigned: None });
        }
        if !metadata.is_empty() {
            return Err(metadata.corrupt("more metadata than the columns have"));
        }
        let mut map = TableMap { table_id, table, columns, column_names: None, primary_key: None };
        while !input.is_empty() {
            let field = input.u8()?;
            let len = input.length()?;
            map.read_optional(field, input.bytes(len)?)?;
        }
        Ok(map)
    }

    /// `Optional_metadata_field_type`; what is not needed here is passed over.
    fn read_optional(&mut self, field: u8, value: &[u8]) -> Result<()> {
        const SIGNEDNESS: u8 = 1;
        const COLUMN_NAME: u8 = 4;
        const SIMPLE_PRIMARY_KEY: u8 = 8;
        const PRIMARY_KEY_WITH_PREFIX: u8 = 9;
        let mut input = Cursor::new("table map event, optional metadata", value);
        match field {
            SIGNEDNESS => {
                let numeric = self.columns.iter_mut().filter(|column| is_numeric(column.type_code));
                for (at, column) in numeric.enumerate() {
                    let Some(bits) = value.get(at / 8) else {
                        return Err(input.corrupt("fewer signs than numeric columns"));
                    };
                    column.unsigned = Some(bits & 0x80 >> (at % 8) != 0);
                }
            }
            COLUMN_NAME => {
                let mut names = Vec::with_capacity(self.columns.len());
                while !input.is_empty() {
                    let len = input.length()?;
                    names.push(text(&mut input, len)?);
                }
                if names.len() != self.columns.len() {
                    let (names, columns) = (names.len(), self.columns.len());
                    return Err(input.corrupt(format_args!("{names} names for {columns} columns")));
                }
                self.column_names = Some(names);
            }
            SIMPLE_PRIMARY_KEY | PRIMARY_KEY_WITH_PREFIX => {
                let mut key = Vec::new();
                while !input.is_empty() {
                    let column = input.length()?;
                    if column >= self.columns.len() {
                        return Err(input.corrupt(format_args!("column {column} of the primary key")));
                    }
                    key.push(column);
                    if field == PRIMARY_KEY_WITH_PREFIX {
                        input.length()?;
                    }
                }
                self.primary_key = Some(key);
            }
            _ => {}
        }
        Ok(())
    }
}

fn cursor(event: &Event) -> Result<Cursor<'_>> {
    let input = Cursor::new("table map event", event.body());
    match event.kind() {
        kind::TABLE_MAP => Ok(input),
        _ => Err(input.corrupt(format_args!("this is a {} event", event.header().name()))),
    }
}

fn read_name(input: &mut Cursor<'_>) -> Result<(u64, TableName)> {
    let table_id = input.int(6)?;
    let _flags = input.u16()?;
    let mut name = || -> Result<String> {
        let len = input.length()?;
        let name = text(input, len)?;
        match input.u8()? {
            0 => Ok(name),
            _ => Err(input.corrupt("a name does not end where its length says")),
        }
    };
    let (schema, table) = (name()?, name()?);
    Ok((table_id, TableName::new(schema, table)))
}

fn text(input: &mut Cursor<'_>, len: usize) -> Result<String> {
    let bytes = input.bytes(len)?;
    let text = std::str::from_utf8(bytes).map_err(|_| input.corrupt("a name is not UTF-8"))?;
    Ok(text.to_owned())
}

/// `Table_map_event`, "metadata" in the table of column types.
fn metadata_len_of(type_code: u8) -> usize {
    match type_code {
        // FLOAT, DOUBLE, TIMESTAMP2, DATETIME2, TIME2, VECTOR, JSON, the BLOBs, GEOMETRY
        4 | 5 | 17..=19 | 242 | 245 | 249..=252 | 255 => 1,
        // VARCHAR, BIT, NEWDECIMAL, ENUM, SET, VAR_STRING, STRING
        15 | 16 | 246..=248 | 253 | 254 => 2,
        _ => 0,
    }
}

/// Types that the signedness bits count: TINY to DOUBLE, LONGLONG, INT24, YEAR is not among them, NEWDECIMAL.
fn is_numeric(type_code: u8) -> bool {
    matches!(type_code, 1..=5 | 8 | 9 | 246)
}
