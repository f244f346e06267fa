//! Names of tables, and the table set: which tables travel.

use std::fmt;

/// Schemas that are the server's own or ours; no pattern and no name reaches into them.
pub const SYSTEM_SCHEMAS: [&str; 5] =
    ["mysql", "sys", "information_schema", "performance_schema", "tablecast"];

/// A table by schema and name, as the server stores them (case kept, never quoted).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    pub schema: String,
    pub table: String,
}

impl TableName {
    pub fn new(schema: impl Into<String>, table: impl Into<String>) -> Self {
        Self { schema: schema.into(), table: table.into() }
    }

    /// The name as SQL: `` `g`.`apps` ``, backquotes doubled.
    pub fn quoted(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(&self.table))
    }
}

/// An identifier as SQL, in backquotes.
pub fn quote(identifier: &str) -> String {
    format!("`{}`", identifier.replace('`', "``"))
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}
