//! The columns whose values make up a row: what an INSERT may name, in the table's order. Generated columns are
//! left out, invisible ones and a generated invisible primary key are not.

use super::scan::rows;
use crate::binlog::name::{TableName, quote};
use crate::mysql::wire::Wire;
use crate::stream::Md5;
use crate::{Error, Kind, Result};

/// A column by its name and how its values are carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub kind: ColumnKind,
}

/// How a column's values are selected and written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// Integers and DECIMAL: the digits as the server prints them.
    Number,
    /// FLOAT and DOUBLE, as DOUBLE: what the server prints of a FLOAT itself is rounded to six digits.
    Float,
    /// ENUM and SET, by number: their texts may be empty, or the same in two character sets.
    Member,
    /// Dates and times, and YEAR, of which the number 0 and the text '0000' are the same and the text '0' is not.
    Temporal,
    /// Text in UTF-8 or ASCII, quoted.
    Text { charset: String },
    /// Text in another character set, by its bytes.
    Encoded { charset: String },
    /// Bytes, bits, geometries, vectors.
    Bytes,
    /// Quoted and said to be UTF-8: a JSON column takes no binary string.
    Json,
}

impl Column {
    /// What stands for this column in a select list.
    pub fn selected(&self) -> String {
        let name = quote(&self.name);
        match self.kind {
            // Not `+ 0`: that is 0 for -0.
            ColumnKind::Float => format!("{name}*1e0"),
            // Not `+ 0` either: that is a DOUBLE, and cannot tell two sets of 64 members.
            ColumnKind::Member => format!("CAST({name} AS UNSIGNED)"),
            // Read from its own text, as a copy will be: a DECIMAL 1.50 in it is the number 1.5 there.
            ColumnKind::Json => format!("CAST(CAST({name} AS CHAR CHARACTER SET utf8mb4) AS JSON)"),
            _ => name,
        }
    }

    /// `data_type` and `charset` as information_schema.COLUMNS names them; `None`: a type we do not know.
    pub(super) fn of(name: String, data_type: &str, charset: Option<&str>) -> Option<Column> {
        let kind = match data_type {
            "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "decimal" => ColumnKind::Number,
            "float" | "double" => ColumnKind::Float,
            "enum" | "set" => ColumnKind::Member,
            "date" | "time" | "datetime" | "timestamp" | "year" => ColumnKind::Temporal,
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => {
                let charset = charset?.to_owned();
                match charset.as_str() {
                    "utf8mb4" | "utf8mb3" | "utf8" | "ascii" => ColumnKind::Text { charset },
                    _ => ColumnKind::Encoded { charset },
                }
            }
            "json" => ColumnKind::Json,
            "bit" | "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" | "vector" => {
                ColumnKind::Bytes
            }
            "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
            | "multipolygon" | "geomcollection" | "geometrycollection" => ColumnKind::Bytes,
            _ => return None,
        };
        Some(Column { name, kind })
    }
}

/// The columns of `table` that an INSERT may name. `Kind::NotFound`: there is no such table (or none that this
/// account may read). A column of a type that this version cannot carry is `Kind::Failed`.
pub async fn columns(wire: &mut Wire, table: &TableName) -> Result<Vec<Column>> {
    let doing = format!("read the columns of {table} at {}", wire.peer());
    let query = format!(
        "SELECT COLUMN_NAME, LOWER(DATA_TYPE), CHARACTER_SET_NAME, \
         EXTRA LIKE '%VIRTUAL GENERATED%' OR EXTRA LIKE '%STORED GENERATED%' \
         FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {} ORDER BY ORDINAL_POSITION",
        text_literal(&table.schema),
        text_literal(&table.table)
    );
    let found = rows(wire, &query, &doing).await?;
    if found.is_empty() {
        return Err(Error::new(
            Kind::NotFound,
            format!("{doing}: there is no such table, or none to be seen"),
        )
        .hint("the account needs SELECT on it: `tablecast grants` prints the privileges"));
    }
    let mut columns = Vec::new();
    for row in found {
        let [name, data_type, charset, generated] = row.as_slice() else { continue };
        if generated.as_deref() == Some("1") {
            continue;
        }
        let (name, data_type) = (name.clone().unwrap_or_default(), data_type.clone().unwrap_or_default());
        let unknown =
            format!("{doing}: column {name} is of type {data_type}, which this version cannot carry");
        let column = Column::of(name, &data_type, charset.as_deref());
        columns.push(column.ok_or_else(|| Error::new(Kind::Failed, unknown))?);
    }
    Ok(columns)
}

/// What makes rows of one table comparable with rows of another: names and kinds of their columns, in order.
pub fn digest(columns: &[Column]) -> Md5 {
    let mut text = String::new();
    for Column { name, kind } in columns {
        let kind = match kind {
            ColumnKind::Number => "number",
            ColumnKind::Float => "float",
            ColumnKind::Member => "member",
            ColumnKind::Temporal => "temporal",
            ColumnKind::Text { .. } => "text",
            ColumnKind::Encoded { .. } => "encoded",
            ColumnKind::Bytes => "bytes",
            ColumnKind::Json => "json",
        };
        text.push_str(&format!("{} {kind}\n", quote(name)));
    }
    Md5::of(text.as_bytes())
}

/// A name as a text that compares with information_schema's columns, in a session with NAMES binary.
pub(super) fn text_literal(text: &str) -> String {
    if text.is_empty() {
        return "''".to_owned();
    }
    let hex: String = text.bytes().map(|byte| format!("{byte:02X}")).collect();
    format!("_utf8mb4 0x{hex}")
}
