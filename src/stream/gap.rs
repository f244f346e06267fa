//! What the filter of a source may have kept from the stream.
//!
//! A replica logs a transaction that its filter emptied with its GTID, like any other: once it is covered, nobody can
//! tell any more that rows of the set were in it. So upload writes what it has seen into the head, where the next run
//! finds it on whatever machine, and covers nothing more (docs/processor.md). A region need not care: what is
//! in the index is good.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::binlog::gtid::GtidSet;
use crate::binlog::name::TableName;

/// Tables of the set that the replication filter of a source left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    /// The source's `server_uuid`.
    pub server: Uuid,
    /// The tables, sorted.
    pub tables: Vec<TableName>,
    /// Since when its filter was as it was found: the source's clock, RFC 3339, UTC; absent if it does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// When upload found it, by the clock of its machine.
    pub found_at: DateTime<Utc>,
    /// What the source had executed then, or by the newest look that found rows lost; MySQL's text form.
    pub executed: GtidSet,
    /// Whether it had executed anything under that filter, as far as can be known: then rows may be lost. If not, it is
    /// enough that the filter is mended before it does.
    pub lost: bool,
    /// Further sources that had such a filter afterwards, sorted; what they had executed then is in `executed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Uuid>,
}

impl Gap {
    /// Whether this server's filter was found to be wrong.
    pub fn is_of(&self, server: Uuid) -> bool {
        self.server == server || self.also.contains(&server)
    }

    /// What must hold in it by itself; says what does not.
    pub(super) fn validate(&self) -> Result<(), String> {
        if self.tables.is_empty() || !self.tables.is_sorted_by(|a, b| a < b) {
            return Err("the tables of the gap are none, not sorted, or one is named twice".into());
        }
        Ok(())
    }
}
