//! What a pass of apply is about to do. `--dry-run` prints this very value; a real run carries it out.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use crate::binlog::name::{TableName, TablePattern};

/// A point in the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Point {
    #[serde(serialize_with = "as_text")]
    pub seq: u64,
    #[serde(serialize_with = "as_text")]
    pub last_tx: u64,
}

/// A schema of the set that the region lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewSchema {
    pub schema: String,
    /// The source's default; `None`: not known, the server's own.
    pub collation: Option<String>,
}

/// A table that stood empty at the source when the stream began, and that the region lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewTable {
    pub table: TableName,
    pub create_table: String,
}

/// A table that is not what it was left as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewQuarantine {
    pub table: TableName,
    pub error: String,
}

/// A change of the table set, and what it means here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PlannedSet {
    #[serde(serialize_with = "as_text")]
    pub seq: u64,
    #[serde(serialize_with = "as_text")]
    pub version: u64,
    /// Tables that are made, empty.
    pub create: Vec<TableName>,
    /// Tables that wait for the dump that follows.
    pub wait: Vec<TableName>,
    /// Tables that come in and that the region's list does not let in.
    pub left_out: Vec<TableName>,
    /// What goes out; the tables stay here, as ordinary ones.
    pub removed: Vec<TablePattern>,
}

/// A check of rows that this region's are compared with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PlannedCheck {
    #[serde(serialize_with = "as_text")]
    pub seq: u64,
    /// Those of its tables that are compared here.
    pub tables: Vec<TableName>,
    #[serde(serialize_with = "as_text")]
    pub rows: u64,
}

/// One segment that is to be run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedSegment {
    #[serde(serialize_with = "as_text")]
    pub seq: u64,
    pub key: String,
    #[serde(serialize_with = "as_text")]
    pub size: u64,
    #[serde(serialize_with = "as_text")]
    pub first_tx: u64,
    #[serde(serialize_with = "as_text")]
    pub last_tx: u64,
    #[serde(serialize_with = "as_text")]
    pub count: u64,
    pub tables: Vec<TableName>,
}

/// Everything that a pass will change in the region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    pub stream: String,
    pub uuid: Uuid,
    pub region: String,
    pub store: String,
    pub from: Point,
    pub to: Point,
    /// Entries behind these, for the passes that follow.
    #[serde(serialize_with = "as_text")]
    pub more_entries: u64,
    pub as_of: DateTime<Utc>,
    /// The schema `tablecast` and its tables are made first.
    pub create_position: bool,
    pub create_schemas: Vec<NewSchema>,
    pub create_tables: Vec<NewTable>,
    /// Tables in quarantine: their changes are passed over.
    pub passed_over: Vec<TableName>,
    /// Tables that go into it first, with everything that foreign keys tie to them.
    pub quarantine: Vec<NewQuarantine>,
    /// Tables that the region's list has come to let in: a dump has to bring them.
    pub let_in: Vec<TableName>,
    /// Tables of the stream that it does not let in: their changes are passed over.
    pub left_out: Vec<TableName>,
    pub sets: Vec<PlannedSet>,
    pub checks: Vec<PlannedCheck>,
    pub segments: Vec<PlannedSegment>,
}

pub(super) fn as_text<S: serde::Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

const NOT_LET_IN: &str = "this region's list does not let them in";

fn list(tables: &[TableName]) -> String {
    tables.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.create_position {
            writeln!(f, "create the schema tablecast with this region's position")?;
        }
        for NewSchema { schema, collation } in &self.create_schemas {
            match collation {
                Some(collation) => writeln!(f, "create the schema {schema} (default collation {collation})")?,
                None => writeln!(f, "create the schema {schema}")?,
            }
        }
        for NewTable { table, .. } in &self.create_tables {
            writeln!(f, "create the table {table}, empty, as it was when the stream began")?;
        }
        for NewQuarantine { table, error } in &self.quarantine {
            writeln!(f, "put {table} into quarantine: {error}")?;
        }
        for table in &self.passed_over {
            writeln!(f, "pass over the changes of {table}: it is in quarantine")?;
        }
        for table in &self.let_in {
            writeln!(
                f,
                "put {table} into quarantine until a dump brings it: this region's list lets it in now"
            )?;
        }
        if !self.left_out.is_empty() {
            writeln!(f, "pass over the changes of {}: {}", list(&self.left_out), NOT_LET_IN)?;
        }
        for set in &self.sets {
            writeln!(f, "change the table set to version {} (entry {})", set.version, set.seq)?;
            for table in &set.create {
                writeln!(f, "  create the table {table}, empty")?;
            }
            for table in &set.wait {
                writeln!(f, "  put {table} into quarantine until the dump that follows brings it")?;
            }
            if !set.left_out.is_empty() {
                writeln!(f, "  leave out {}: {}", list(&set.left_out), NOT_LET_IN)?;
            }
            for pattern in &set.removed {
                writeln!(f, "  let go of {pattern}: what is here of it stays, as ordinary tables")?;
            }
        }
        for segment in &self.segments {
            writeln!(
                f,
                "apply entry {}: transactions {} to {} ({} bytes) on {}",
                segment.seq,
                segment.first_tx,
                segment.last_tx,
                segment.size,
                list(&segment.tables),
            )?;
        }
        for check in &self.checks {
            let tables = list(&check.tables);
            writeln!(f, "compare {} rows of {tables} with the source's (entry {})", check.rows, check.seq)?;
        }
        write!(
            f,
            "{}: from entry {} (transaction {}) to entry {} (transaction {})",
            self.stream, self.from.seq, self.from.last_tx, self.to.seq, self.to.last_tx
        )?;
        match self.more_entries {
            0 => Ok(()),
            more => write!(f, ", then {more} more entries"),
        }
    }
}
