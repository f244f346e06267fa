//! What replay leaves out, worked out beforehand for a whole segment: which tables from which transaction on, up to
//! which. The same value says what has to be durable before the segment runs, and what ends with it.
//!
//! Rules for a statement that names a table in quarantine: it is passed over, and a healthy table that it names
//! goes into quarantine with it, because nobody can say any more what it would have become. Names that no table
//! has afterwards are dropped here, too (DROP, RENAME), and a quarantine of such a name ends there.
//!
//! A table that the region's list does not let in is left out always, whatever stands in the quarantine: this is what
//! keeps what the gate has only read from running (I6). Of a statement that names one, the tables that it changes and
//! that are let in go into quarantine; a parent that it merely refers to is as it was.
//!
//! Ghost tables share the fate of their table, and keep it: a ghost that missed a change is in quarantine by
//! itself until it is gone. If its table comes back meanwhile, by a restore, the cut-over still names a table in
//! quarantine, and the ghost never becomes the table.

use std::collections::{BTreeMap, BTreeSet};

use super::Quarantined;
use crate::binlog::ddl::TableDdl;
use crate::binlog::name::{TableName, TableSet};
use crate::region::position::Executed;
use crate::region::segments::{DdlStep, Scan};

/// From which transaction to which; both are left out.
type Interval = (u64, u64);

/// What is left out of a stretch of the stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passing {
    intervals: BTreeMap<TableName, Vec<Interval>>,
}

/// What a segment does to the quarantine, beside what is left out of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turns {
    pub passing: Passing,
    /// Tables that go into quarantine with a statement that names one in it, ghosts that miss a change: the table,
    /// the transaction, and the table that it comes from.
    pub tied: Vec<(TableName, u64, TableName)>,
    /// Tables whose quarantine ends, with the transaction at which they are gone.
    pub ended: Vec<(TableName, u64)>,
    /// DDL that is left out.
    pub statements: BTreeSet<u64>,
}

impl Passing {
    pub fn of(tables: &[Quarantined]) -> Passing {
        let open = |table: &Quarantined| (table.table.clone(), vec![(table.since_tx, u64::MAX)]);
        Passing { intervals: tables.iter().map(open).collect() }
    }

    /// Whether what transaction `n` does to the table is left out.
    pub fn covers(&self, set: &TableSet, table: &TableName, n: u64) -> bool {
        self.cause(set, table, n).is_some()
    }

    /// The table because of which this one's changes by transaction `n` are left out: one in quarantine, or itself.
    fn cause(&self, set: &TableSet, table: &TableName, n: u64) -> Option<TableName> {
        if !set.admits(table) {
            return Some(table.clone());
        }
        self.held(set, table, n)
    }

    /// The same among the tables that are let in.
    fn held(&self, set: &TableSet, table: &TableName, n: u64) -> Option<TableName> {
        if self.intervals.is_empty() {
            return None;
        }
        if self.is_in(table, n) {
            return Some(table.clone());
        }
        set.ghost_of(table).filter(|base| self.is_in(base, n))
    }

    /// Whether the table itself is in quarantine at transaction `n`.
    fn is_in(&self, table: &TableName, n: u64) -> bool {
        let intervals = self.intervals.get(table).into_iter().flatten();
        intervals.into_iter().any(|&(since, to)| since <= n && n <= to)
    }

    /// Whether a statement is passed over: it names a table in quarantine, or one that is not let in.
    pub fn leaves_out(&self, set: &TableSet, ddl: &TableDdl, n: u64) -> bool {
        ddl.names().any(|table| self.covers(set, table, n))
    }

    /// How many of the transactions behind `counted`, up to `until`, are still to be passed over for a table.
    pub fn count(
        &self,
        scan: &Scan,
        executed: &Executed,
        table: &TableName,
        counted: u64,
        until: u64,
    ) -> u64 {
        let touched = scan.transactions.get(table).into_iter().flatten();
        let left_out =
            touched.filter(|&&n| n > counted && n <= until && self.is_in(table, n) && !executed.contains(n));
        left_out.count() as u64
    }

    fn open(&mut self, table: TableName, since: u64) {
        self.intervals.entry(table).or_default().push((since, u64::MAX));
    }

    /// Ends the quarantine of a table at `n`, if it was in it.
    fn close(&mut self, table: &TableName, n: u64) -> bool {
        let intervals = self.intervals.get_mut(table).into_iter().flatten();
        match intervals.into_iter().find(|(since, to)| *since <= n && n < *to) {
            Some((_, to)) => {
                *to = n;
                true
            }
            None => false,
        }
    }
}

/// Follows a segment up to transaction `until`.
pub fn turns(tables: &[Quarantined], set: &TableSet, scan: &Scan, executed: &Executed, until: u64) -> Turns {
    let mut turns = Turns { passing: Passing::of(tables), ..Turns::default() };
    if tables.is_empty() && scan.ddls.iter().flat_map(|ddl| &ddl.names).all(|table| set.admits(table)) {
        return turns;
    }
    let mut events: Vec<(u64, Event<'_>)> = Vec::new();
    for (table, touched) in &scan.transactions {
        // Of rows only those of ghosts turn anything.
        if set.ghost_of(table).is_some() {
            events.extend(touched.iter().map(|&n| (n, Event::Ghost(table))));
        }
    }
    events.extend(scan.ddls.iter().map(|ddl| (ddl.n, Event::Ddl(ddl))));
    events.retain(|(n, _)| *n <= until);
    // The rows of a CREATE TABLE … SELECT come behind it.
    events.sort_by_key(|(n, event)| (*n, matches!(event, Event::Ghost(_))));
    for (n, event) in events {
        match event {
            Event::Ghost(table) => turns.ghost(set, table, n, executed),
            Event::Ddl(ddl) => turns.statement(set, ddl, n, executed),
        }
    }
    turns
}

enum Event<'a> {
    Ghost(&'a TableName),
    Ddl(&'a DdlStep),
}

impl Turns {
    /// A ghost that misses a change is in quarantine by itself from there on.
    fn ghost(&mut self, set: &TableSet, table: &TableName, n: u64, executed: &Executed) {
        if executed.contains(n) || self.passing.is_in(table, n) {
            return;
        }
        if let Some(cause) = self.passing.cause(set, table, n) {
            self.tie(table, n, &cause);
        }
    }

    /// What one that has run has tied is durable already, unless it is gone again.
    fn statement(&mut self, set: &TableSet, ddl: &DdlStep, n: u64, executed: &Executed) {
        let held = ddl.names.iter().find_map(|table| self.passing.held(set, table, n));
        let (cause, changed) = match (held, ddl.names.iter().find(|table| !set.admits(table))) {
            (Some(held), _) => (held, ddl.names.len()),
            (None, Some(outside)) => (outside.clone(), ddl.targets),
            (None, None) => return,
        };
        self.statements.insert(n);
        for table in ddl.names.iter().take(changed).filter(|table| set.admits(table)) {
            let is_gone = ddl.gone.contains(table);
            if !is_gone && !executed.contains(n) && !self.passing.is_in(table, n) {
                self.tie(table, n, &cause);
            }
        }
        for table in &ddl.gone {
            if self.passing.close(table, n) {
                self.ended.push((table.clone(), n));
            }
        }
    }

    fn tie(&mut self, table: &TableName, n: u64, cause: &TableName) {
        self.passing.open(table.clone(), n);
        self.tied.push((table.clone(), n, cause.clone()));
    }
}

#[cfg(test)]
#[path = "passing_tests.rs"]
mod tests;
