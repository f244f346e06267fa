//! What `stream init` made, or would make.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use crate::binlog::gtid::GtidSet;
use crate::binlog::name::{TableName, TableSet};
use crate::config::Config;
use crate::stream::{Definition, Head};

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub dry_run: bool,
    pub plan: Plan,
    pub warnings: Vec<String>,
}

/// The stream as it is made.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    pub name: String,
    /// The UUID of all its GTIDs. A dry run's is not the one that a later run makes.
    pub stream: Uuid,
    pub store: String,
    pub source: String,
    /// What was asked for: names and patterns.
    pub set: TableSet,
    /// The tables that these are today.
    pub tables: Vec<TableName>,
    pub definitions: Vec<Definition>,
    /// The source's transactions up to here are not in the stream.
    pub covered: GtidSet,
    /// Whether that is the source as it was when the stream was made.
    pub begins_now: bool,
    pub as_of: DateTime<Utc>,
    /// Tables that held rows then; the stream carries only what comes after.
    pub tables_with_rows: Vec<TableName>,
}

impl Plan {
    pub(crate) fn new(
        config: &Config,
        head: &Head,
        tables: Vec<TableName>,
        tables_with_rows: Vec<TableName>,
        begins_now: bool,
    ) -> Self {
        Self {
            name: head.name.clone(),
            stream: head.stream,
            store: config.store.to_string(),
            source: config.mysql.to_string(),
            set: head.table_set.tables.clone(),
            tables,
            definitions: head.definitions.clone(),
            covered: head.covered.clone(),
            begins_now,
            as_of: head.as_of,
            tables_with_rows,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = &self.plan;
        let made = if self.dry_run { "would make" } else { "made" };
        let names: Vec<String> = plan.set.patterns().map(ToString::to_string).collect();
        writeln!(f, "{made} stream {} ({}) at {}", plan.name, plan.stream, plan.store)?;
        writeln!(f, "tables: {} ({} today)", names.join(", "), plan.tables.len())?;
        write!(f, "begins after: {}", plan.covered)?;
        if !plan.tables_with_rows.is_empty() {
            let tables: Vec<String> = plan.tables_with_rows.iter().map(ToString::to_string).collect();
            write!(
                f,
                "\nthese tables hold rows, and the stream carries only what comes after this point: {}\nevery region \
                 begins with a dump that has them",
                tables.join(", ")
            )?;
        }
        for warning in &self.warnings {
            write!(f, "\nwarning: {warning}")?;
        }
        Ok(())
    }
}
