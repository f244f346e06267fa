//! The transaction that is being read.

use std::collections::BTreeSet;

use super::rows::{Kept, Statement};
use super::statement::{Meaning, meaning_of};
use super::watch::{self, SetChange, SetRow};
use super::{Foreign, Scope, Step, Transaction, UnderWay};
use crate::binlog::clock::SourceClock;
use crate::binlog::ddl::{SchemaDdl, TableDdl};
use crate::binlog::event::{Checksum, Event, FLAG_IGNORABLE, GtidEvent, Header, kind};
use crate::binlog::gtid::Gtid;
use crate::binlog::name::TableName;
use crate::binlog::spool::Spool;
use crate::error::{Error, Kind, Result};

#[derive(Debug)]
pub(super) struct Open {
    pub gtid: Gtid,
    gtid_event: GtidEvent,
    timestamp: u32,
    server_id: u32,
    clock: SourceClock,
    shape: Shape,
    /// Waits for something to be kept.
    begin: Option<Event>,
    statement: Statement,
    tables: BTreeSet<TableName>,
    ddl: Option<TableDdl>,
    schema: Option<SchemaDdl>,
    server_collation: Option<u16>,
    spool: Option<Spool>,
    /// A new version of the table set.
    set_row: Option<SetRow>,
    /// Rows that say what the set was have been changed.
    set_meddled: bool,
    /// It has rows of any table but that.
    other_rows: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// Nothing but its GTID so far.
    Fresh,
    /// BEGIN …
    Begun,
    /// XA START …
    Xa,
}

impl Open {
    pub fn new(gtid: Gtid, gtid_event: GtidEvent, header: Header, clock: SourceClock) -> Open {
        Open {
            gtid,
            gtid_event,
            timestamp: header.timestamp,
            server_id: header.server_id,
            clock,
            shape: Shape::Fresh,
            begin: None,
            statement: Statement::default(),
            tables: BTreeSet::new(),
            ddl: None,
            schema: None,
            server_collation: None,
            spool: None,
            set_row: None,
            set_meddled: false,
            other_rows: false,
        }
    }

    /// Takes the transaction's next event; true at its last.
    pub fn push(&mut self, scope: &Scope, event: Event) -> Result<bool> {
        match event.kind() {
            kind::TABLE_MAP => {
                let kept = self.statement.map(&scope.set, event)?;
                self.keep_rows(scope, kept).map(|()| false)
            }
            kind if kind::is_rows(kind) => {
                let kept = self.statement.rows(event)?;
                self.keep_rows(scope, kept).map(|()| false)
            }
            kind::XID if self.shape == Shape::Begun => {
                self.last(scope, event)?;
                Ok(true)
            }
            kind::XA_PREPARE if self.shape == Shape::Xa => Ok(true),
            kind::QUERY | kind::EXECUTE_LOAD_QUERY => self.query(scope, event),
            // What a statement needs to run, and what says where rows came from.
            kind::INTVAR | kind::RAND | kind::USER_VAR => Ok(false),
            kind::BEGIN_LOAD_QUERY | kind::APPEND_BLOCK | kind::DELETE_FILE => Ok(false),
            kind::ROWS_QUERY | kind::TRANSACTION_CONTEXT | kind::VIEW_CHANGE => Ok(false),
            _ if event.header().flags & FLAG_IGNORABLE != 0 => Ok(false),
            kind::XID | kind::XA_PREPARE => {
                let what = format!("{event:?} at the end of what did not begin");
                Err(Error::new(Kind::Corrupt, what))
            }
            other => {
                let what = format!("an event of kind {other}, which this version does not know");
                let hint = "a newer server may write it: update tablecast, or report it";
                Err(Error::new(Kind::Gate, what).hint(hint))
            }
        }
    }

    /// DDL is small, and what its note says is not known before its end.
    pub fn under_way(&mut self, at_least: u64) -> Option<UnderWay<'_>> {
        let is_ddl = self.ddl.is_some() || self.schema.is_some();
        let events = self.spool.as_mut().filter(|spool| !is_ddl && spool.len() >= at_least)?;
        Some(UnderWay { gtid: &self.gtid, gtid_event: &self.gtid_event, events })
    }

    /// What there is to keep of it.
    pub fn finish(mut self: Box<Self>) -> Result<Step> {
        let kept = !self.tables.is_empty();
        let Some(events) = self.spool.take().filter(|_| kept) else {
            let commit_us = match self.gtid_event.original_commit_us {
                0 => self.gtid_event.immediate_commit_us,
                original => original,
            };
            let Open { gtid, schema, server_collation, set_row, set_meddled, .. } = *self;
            return Ok(match set_row {
                Some(row) => Step::TableSet(Box::new(SetChange { gtid, commit_us, row })),
                None => Step::Foreign(Foreign { gtid, commit_us, schema, server_collation, set_meddled }),
            });
        };
        Ok(Step::Kept(Box::new(Transaction {
            source_gtid: self.gtid,
            gtid_event: self.gtid_event,
            timestamp: self.timestamp,
            server_id: self.server_id,
            clock: self.clock,
            tables: self.tables,
            ddl: self.ddl,
            schema: self.schema,
            schema_collations: Vec::new(),
            events,
        })))
    }

    fn query(&mut self, scope: &Scope, event: Event) -> Result<bool> {
        let alone = self.shape == Shape::Fresh;
        match (self.shape, meaning_of(&event, &scope.set)?) {
            (Shape::Fresh, Meaning::Begin) => {
                self.shape = Shape::Begun;
                self.begin = Some(event);
                Ok(false)
            }
            (Shape::Begun, Meaning::Commit) => {
                self.last(scope, event)?;
                Ok(true)
            }
            (Shape::Begun, Meaning::Rollback) => self.rolled_back().map(|()| true),
            (Shape::Begun, Meaning::Savepoint) => {
                self.statement.must_have_ended()?;
                self.append(scope, event)?;
                Ok(false)
            }
            (Shape::Fresh, Meaning::XaStart) => {
                self.shape = Shape::Xa;
                Ok(false)
            }
            (Shape::Xa, Meaning::XaEnd | Meaning::Savepoint) => Ok(false),
            (Shape::Xa | Shape::Fresh, Meaning::XaOver) => Ok(true),
            (_, Meaning::Keep(ddl, event)) => {
                self.statement.must_have_ended()?;
                self.not_in_xa(&ddl.targets)?;
                self.keep_ddl(scope, *ddl, event)?;
                Ok(alone)
            }
            (Shape::Fresh, Meaning::KeepDrops(tables, schema, event)) => {
                self.schema = Some(schema);
                self.tables.extend(tables);
                self.append(scope, event)?;
                Ok(true)
            }
            (Shape::Fresh, Meaning::Schema(schema, server_collation)) => {
                (self.schema, self.server_collation) = (Some(schema), server_collation);
                Ok(true)
            }
            (_, Meaning::Nothing) => Ok(alone),
            (
                _,
                Meaning::Begin
                | Meaning::Commit
                | Meaning::Rollback
                | Meaning::Savepoint
                | Meaning::XaStart
                | Meaning::XaEnd
                | Meaning::XaOver
                | Meaning::KeepDrops(..)
                | Meaning::Schema(..),
            ) => {
                let what = format!("{event:?} is not in its place");
                Err(Error::new(Kind::Corrupt, what))
            }
        }
    }

    fn keep_ddl(&mut self, scope: &Scope, ddl: TableDdl, event: Event) -> Result<()> {
        self.tables.extend(ddl.targets.iter().cloned());
        self.ddl = Some(ddl);
        self.append(scope, scope.zone.of_ddl(event)?)
    }

    fn keep_rows(&mut self, scope: &Scope, kept: Kept) -> Result<()> {
        if let (Some((map, rows)), Some(stream), Some(format)) = (&kept.watched, scope.stream, &scope.format)
        {
            let watched = watch::read(format, map, rows, stream)?;
            self.set_meddled |= watched.meddled;
            for row in watched.rows {
                if self.shape == Shape::Xa || self.set_row.replace(row).is_some() {
                    return Err(not_alone());
                }
            }
        }
        self.other_rows |= kept.others;
        if self.other_rows && self.set_row.is_some() {
            return Err(not_alone());
        }
        if let Some(table) = kept.table {
            self.not_in_xa(std::slice::from_ref(&table))?;
            if self.shape == Shape::Fresh {
                let what = format!("rows of {table} before BEGIN");
                return Err(Error::new(Kind::Corrupt, what));
            }
            self.tables.insert(table);
        }
        kept.events.into_iter().try_for_each(|event| self.append(scope, event))
    }

    /// XID or COMMIT.
    fn last(&mut self, scope: &Scope, event: Event) -> Result<()> {
        self.statement.must_have_ended()?;
        if self.tables.is_empty() { Ok(()) } else { self.append(scope, event) }
    }

    fn append(&mut self, scope: &Scope, event: Event) -> Result<()> {
        let spool = self.spool.get_or_insert_with(|| Spool::new(&scope.folder));
        if let Some(begin) = self.begin.take() {
            spool.append(scope.zone.of_rows(begin)?.with_checksum(Checksum::Crc32).bytes())?;
        }
        spool.append(event.with_checksum(Checksum::Crc32).bytes())
    }

    fn rolled_back(&mut self) -> Result<()> {
        (self.set_row, self.set_meddled) = (None, false);
        let Some(table) = self.tables.first() else { return Ok(()) };
        let what = format!("it changed {table} and was rolled back, with changes that cannot be undone");
        let hint =
            "a table of the set must not be changed together with one whose engine has no transactions";
        Err(Error::new(Kind::Gate, what).hint(hint))
    }

    fn not_in_xa(&self, tables: &[TableName]) -> Result<()> {
        let (Shape::Xa, Some(table)) = (self.shape, tables.first()) else { return Ok(()) };
        let what = format!("it changes {table} in an XA transaction");
        let hint = "XA transactions on tables of the set are not supported: use ordinary transactions there, or \
                    take the table out of the set";
        Err(Error::new(Kind::Gate, what).hint(hint))
    }
}

fn not_alone() -> Error {
    let what = "it changes the table set (tablecast.table_set), and something else";
    let hint = "change the set with `tablecast tables`: one change a transaction, and nothing beside it. `tablecast \
                upload --resync` goes on behind this one";
    Error::new(Kind::Gate, what).hint(hint)
}
