//! The key that a table is divided by: its primary key, else a unique one without NULLs, of columns whose values
//! can be compared with literals in the key's own order.

use super::column::{Column, ColumnKind, text_literal};
use super::literal::hex;
use super::scan::rows;
use crate::Result;
use crate::binlog::name::{TableName, quote};
use crate::mysql::wire::Wire;

/// A key, and how bounds of it are written.
pub(super) struct Key {
    pub name: String,
    pub parts: Vec<Part>,
}

/// One column of a key.
pub(super) struct Part {
    pub column: String,
    form: Form,
}

#[derive(Clone, PartialEq, Eq)]
enum Form {
    Integer,
    Decimal,
    Temporal,
    /// In the comparison with a column, a literal takes on the column's collation if it is of its character set.
    Text {
        charset: String,
    },
    Bytes,
}

impl Key {
    pub fn is_integer(&self) -> bool {
        self.parts.first().is_some_and(|part| part.form == Form::Integer)
    }

    /// The columns, as they stand in a select list or an ORDER BY.
    pub fn list(&self) -> String {
        self.parts.iter().map(|part| quote(&part.column)).collect::<Vec<_>>().join(",")
    }
}

impl Part {
    /// A value as the server sent it, as a literal that compares as the column does; `None`: of no known form.
    pub fn literal(&self, value: &[u8]) -> Option<String> {
        let digits = |odd: &[u8]| value.iter().all(|byte| byte.is_ascii_digit() || odd.contains(byte));
        match &self.form {
            Form::Integer if digits(b"-") => String::from_utf8(value.to_vec()).ok(),
            Form::Decimal if digits(b"-.") => String::from_utf8(value.to_vec()).ok(),
            Form::Temporal if digits(b"-.: ") => Some(format!("'{}'", String::from_utf8_lossy(value))),
            Form::Text { charset } => Some(encoded(charset, value)),
            Form::Bytes => Some(encoded("binary", value)),
            Form::Integer | Form::Decimal | Form::Temporal => None,
        }
    }
}

fn encoded(charset: &str, value: &[u8]) -> String {
    if value.is_empty() {
        return format!("_{charset} ''");
    }
    let mut digits = Vec::new();
    hex(value, &mut digits);
    format!("_{charset} 0x{}", String::from_utf8_lossy(&digits))
}

/// The key to divide `table` by, if it has one.
pub(super) async fn key(wire: &mut Wire, table: &TableName) -> Result<Option<Key>> {
    let doing = format!("read the keys of {table} at {}", wire.peer());
    // A part without a column is an expression; one with SUB_PART, a prefix. Neither orders rows by the column.
    let query = format!(
        "SELECT s.INDEX_NAME, s.COLUMN_NAME, s.SUB_PART IS NOT NULL OR s.COLUMN_NAME IS NULL OR s.NULLABLE = 'YES' \
           OR s.IS_VISIBLE = 'NO' OR s.INDEX_TYPE <> 'BTREE', \
         LOWER(c.DATA_TYPE), c.CHARACTER_SET_NAME \
         FROM information_schema.STATISTICS s LEFT JOIN information_schema.COLUMNS c \
           ON c.TABLE_SCHEMA = s.TABLE_SCHEMA AND c.TABLE_NAME = s.TABLE_NAME AND c.COLUMN_NAME = s.COLUMN_NAME \
         WHERE s.TABLE_SCHEMA = {} AND s.TABLE_NAME = {} AND s.NON_UNIQUE = 0 \
         ORDER BY s.INDEX_NAME <> 'PRIMARY', s.INDEX_NAME, s.SEQ_IN_INDEX",
        text_literal(&table.schema),
        text_literal(&table.table)
    );
    let mut found: Vec<(String, Option<Vec<Part>>)> = Vec::new();
    for row in rows(wire, &query, &doing).await? {
        let [Some(name), column, odd, data_type, charset] = row.as_slice() else { continue };
        let part = match (column, data_type, odd.as_deref()) {
            (Some(column), Some(data_type), Some("0")) => part(column, data_type, charset.as_deref()),
            _ => None,
        };
        if found.last().is_none_or(|(last, _)| last != name) {
            found.push((name.clone(), Some(Vec::new())));
        }
        if let Some((_, parts)) = found.last_mut() {
            match part {
                Some(part) => {
                    if let Some(parts) = parts {
                        parts.push(part);
                    }
                }
                None => *parts = None,
            }
        }
    }
    Ok(found.into_iter().find_map(|(name, parts)| Some(Key { name, parts: parts? })))
}

fn part(column: &str, data_type: &str, charset: Option<&str>) -> Option<Part> {
    let of = Column::of(column.to_owned(), data_type, charset)?;
    let form = match of.kind {
        ColumnKind::Number if data_type == "decimal" => Form::Decimal,
        ColumnKind::Number => Form::Integer,
        ColumnKind::Temporal if matches!(data_type, "date" | "datetime" | "timestamp") => Form::Temporal,
        ColumnKind::Text { charset } | ColumnKind::Encoded { charset } => Form::Text { charset },
        ColumnKind::Bytes if matches!(data_type, "binary" | "varbinary") => Form::Bytes,
        _ => return None,
    };
    Some(Part { column: column.to_owned(), form })
}
