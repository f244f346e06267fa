//! A transaction of the table set on its way from the filter into a segment.

use std::collections::BTreeSet;

use super::clock::SourceClock;
use super::ddl::{SchemaDdl, TableDdl};
use super::event::GtidEvent;
use super::gtid::Gtid;
use super::name::TableName;
use super::spool::Spool;

/// What the filter keeps of a source transaction.
#[derive(Debug)]
pub struct Transaction {
    pub source_gtid: Gtid,
    /// The source's GTID event as it was: commit times, server versions, whether statements are in it.
    pub gtid_event: GtidEvent,
    /// Of the source's GTID event: when the transaction was written, and by which server.
    pub timestamp: u32,
    pub server_id: u32,
    pub clock: SourceClock,
    /// Every table whose rows or definition it changes, ghosts by their own names.
    pub tables: BTreeSet<TableName>,
    /// The DDL in it, if it is DDL (rows beside it only for CREATE TABLE … SELECT).
    pub ddl: Option<TableDdl>,
    /// DROP DATABASE, carried as drops of the set's tables in it; `ddl` is None then.
    pub schema: Option<SchemaDdl>,
    /// To be filled in by upload, which knows the schemas' defaults: see `Note`.
    pub schema_collations: Vec<(String, String)>,
    /// The kept events behind the GTID event, one after the other, each with a CRC32: BEGIN, table maps and rows,
    /// XID or COMMIT; or the DDL statement alone.
    pub events: Spool,
}

impl Transaction {
    /// Microseconds since 1970 at which the server that wrote this binlog committed it.
    pub fn commit_us(&self) -> u64 {
        self.gtid_event.immediate_commit_us
    }

    /// The same at the server where it began.
    pub fn original_commit_us(&self) -> u64 {
        self.gtid_event.original_commit_us
    }

    /// What it takes in a segment, nearly: its events without the two that the writer puts before them.
    pub fn bytes(&self) -> u64 {
        self.events.len()
    }
}
