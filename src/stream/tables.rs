//! A change of the table set as the index tells of it: which tables travel from here on, and what those that
//! come in look like.
//!
//! The set changes by one transaction at the primary, a row in `tablecast.table_set`. That transaction has no
//! number in the stream; its place is this entry: what lies before it is of the old set, what follows of the new
//! one.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::document::Format;
use super::ids::{Seq, StreamTx};
use crate::binlog::gtid::{Gtid, GtidSet};
use crate::binlog::name::{TableName, TablePattern, TableSet};

/// The first format with such entries: whoever writes or reads an older one does not know them.
pub const KNOWN_SINCE: Format = Format { major: 1, minor: 2 };

/// The table set from here on: `"kind": "tables"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TablesEntry {
    /// The set's version: one more than before.
    pub version: u64,
    /// The whole set, names and patterns.
    pub tables: TableSet,
    /// The base tables that come in and are there already, sorted by table, as they were at this transaction.
    pub added: Vec<AddedTable>,
    /// The names and patterns that go out, sorted.
    pub removed: Vec<TablePattern>,
    /// The last stream transaction before it.
    pub at: StreamTx,
    /// The transaction at the source that changed the set; absent if a resync stood for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_gtid: Option<Gtid>,
    /// The source's GTIDs that the stream had covered before this entry, MySQL's text form.
    pub covered_before: GtidSet,
    /// The same after it: that transaction, and those up to there that do not travel.
    pub covered_after: GtidSet,
    /// When the set was changed: the source's clock, RFC 3339, UTC.
    pub changed_at: DateTime<Utc>,
}

/// A table that comes into the set with a definition, and perhaps with rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedTable {
    /// The table, `"schema.table"`.
    pub table: TableName,
    /// `SHOW CREATE TABLE`, normalised: see [`fn@super::definition::normalise`].
    pub create_table: String,
    /// Whether it may hold rows: regions then wait for the dump that follows.
    pub has_rows: bool,
    /// Its schema's default collation, which implies the character set.
    pub collation: String,
}

impl TablesEntry {
    /// Whether regions need a dump before its tables are theirs.
    pub fn needs_dump(&self) -> bool {
        self.added.iter().any(|added| added.has_rows)
    }

    /// What must hold in it by itself; says what does not.
    pub(super) fn validate(&self) -> Result<(), String> {
        // Version 1 is made by `stream init`, without an entry.
        if self.version < 2 {
            return Err(format!("no change of the set leads to version {}", self.version));
        }
        if self.at.0 > super::ids::MAX {
            return Err(format!("there is no transaction {}", self.at.0));
        }
        if !self.added.is_sorted_by(|a, b| a.table < b.table) {
            return Err("added tables are not sorted, or one is named twice".into());
        }
        for added in &self.added {
            if !self.tables.names(&added.table) {
                return Err(format!("{} is added, and the set does not name it", added.table));
            }
            if added.create_table.is_empty() || added.collation.is_empty() {
                return Err(format!("{} is added without its definition", added.table));
            }
        }
        if !self.removed.is_sorted_by(|a, b| a < b) {
            return Err("removed tables are not sorted, or one is named twice".into());
        }
        if let Some(kept) = self.tables.patterns().find(|pattern| self.removed.contains(pattern)) {
            return Err(format!("{kept} is removed, and the set has it"));
        }
        // What is covered never shrinks, and grows by this very transaction.
        let grows = self
            .source_gtid
            .as_ref()
            .is_none_or(|gtid| self.covered_after.contains(gtid) && !self.covered_before.contains(gtid));
        if !self.covered_before.is_subset(&self.covered_after) || !grows {
            return Err(format!(
                "the change of the set cannot lead from covered {} to covered {}",
                self.covered_before, self.covered_after
            ));
        }
        Ok(())
    }
}

/// The newest change of the table set, as the head keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetChanged {
    /// Its entry.
    pub seq: Seq,
    /// The last stream transaction before it.
    pub at: StreamTx,
    /// The transaction at the source; absent if a resync stood for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_gtid: Option<Gtid>,
    /// Whether a full, mandatory dump must follow and has not: tables came in that hold rows.
    pub owes_dump: bool,
    /// The tables that it is owed for, sorted; absent if none, or if an older version wrote this.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owed_for: Vec<TableName>,
    /// The resync behind it, if there was one: its source need not have that transaction, and every dump from there on
    /// knows of the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<Seq>,
    /// The names and patterns of earlier versions that this one has not, sorted; absent if none. Older entries may hold
    /// rows of such tables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<TablePattern>,
}

impl SetChanged {
    /// What a change at entry `seq` comes to behind `before`, which ended with the set `set`.
    pub(super) fn of(seq: Seq, change: &TablesEntry, set: &TableSet, before: Option<&SetChanged>) -> Self {
        let known = before.iter().flat_map(|before| &before.former);
        let former: BTreeSet<TablePattern> = known
            .chain(set.patterns())
            .filter(|pattern| !change.tables.patterns().any(|kept| kept == *pattern))
            .cloned()
            .collect();
        // What an earlier change owes is owed until a dump has come, or until what it is owed for has left again.
        let still = before.filter(|before| before.owes_dump);
        let owed = still.iter().flat_map(|before| &before.owed_for);
        let new = change.added.iter().filter(|added| added.has_rows).map(|added| &added.table);
        let owed_for: BTreeSet<TableName> =
            owed.chain(new).filter(|table| change.tables.names(table)).cloned().collect();
        let for_unknown = still.is_some_and(|before| before.owed_for.is_empty());
        Self {
            seq,
            at: change.at,
            source_gtid: change.source_gtid.clone(),
            owes_dump: for_unknown || !owed_for.is_empty(),
            // Of a debt that is older than this member no part is forgiven.
            owed_for: if for_unknown { Vec::new() } else { owed_for.into_iter().collect() },
            settled: None,
            former: former.into_iter().collect(),
        }
    }

    /// The dump has come.
    pub(super) fn paid(&mut self) {
        self.owes_dump = false;
        self.owed_for.clear();
    }
}
