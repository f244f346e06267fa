//! What a change of the table set did, or would do.

use std::fmt;

use serde::Serialize;
use uuid::Uuid;

use crate::binlog::name::{TableName, TablePattern, TableSet};
use crate::source::upload::as_text;

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub stream: String,
    pub uuid: Uuid,
    /// The server that the change is written to.
    pub server: String,
    pub dry_run: bool,
    /// Whether anything changed, or would.
    pub changed: bool,
    /// The set's version from here on.
    #[serde(serialize_with = "as_text")]
    pub version: u64,
    /// The whole set from here on.
    pub tables: TableSet,
    /// What was asked for and is so already.
    pub already: Vec<TablePattern>,
    /// Base tables that come in and are there.
    pub added: Vec<Incoming>,
    /// Names that come in without a table of that name being there.
    pub to_come: Vec<TableName>,
    pub removed: Vec<TablePattern>,
    /// Whether a dump of the whole set follows, which every region restores.
    pub needs_dump: bool,
    /// For how long the tables that come in were locked against writes, in microseconds; absent in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locked_us: Option<u64>,
    /// Earlier changes that upload has not come to yet.
    #[serde(serialize_with = "as_text")]
    pub pending: u64,
    pub warnings: Vec<String>,
}

/// A table that comes in.
#[derive(Clone, Debug, Serialize)]
pub struct Incoming {
    pub table: TableName,
    pub has_rows: bool,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |patterns: &[TablePattern]| {
            patterns.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        if !self.already.is_empty() {
            writeln!(f, "already so: {}", list(&self.already))?;
        }
        if !self.changed {
            return write!(
                f,
                "{}: nothing to do; the table set is {} (version {})",
                self.stream, self.tables, self.version
            );
        }
        for Incoming { table, has_rows } in &self.added {
            let rows = if *has_rows { "with its rows, by a dump" } else { "empty" };
            writeln!(f, "add {table}, {rows}")?;
        }
        for table in &self.to_come {
            writeln!(f, "add {table}, which is not there yet: it travels from its CREATE TABLE on")?;
        }
        if !self.removed.is_empty() {
            writeln!(f, "remove {}: regions keep their copy as an ordinary table", list(&self.removed))?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        let verb = if self.dry_run { "would make" } else { "made" };
        write!(
            f,
            "{}: {verb} version {} of the table set at {}: {}",
            self.stream, self.version, self.server, self.tables
        )?;
        if let Some(locked_us) = self.locked_us.filter(|_| !self.added.is_empty()) {
            write!(f, "\nlocked against writes for {}.{:03} ms", locked_us / 1000, locked_us % 1000)?;
        }
        if self.pending > 0 {
            write!(
                f,
                "\nupload has not come to {} earlier changes yet; this one follows them",
                self.pending
            )?;
        }
        match (self.needs_dump, self.dry_run) {
            (true, false) => write!(
                f,
                "\nnext: `tablecast upload` records it and has a dump of all tables taken, which every region restores"
            ),
            (true, true) => {
                write!(f, "\nupload then has a dump of all tables taken, which every region restores")
            }
            (false, false) => write!(f, "\nnext: `tablecast upload` records it"),
            (false, true) => Ok(()),
        }
    }
}
