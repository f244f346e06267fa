//! The two lists that say what a region has, and what becomes of its tables when one of them changes: the stream's set,
//! by an entry between two transactions, and the region's own, by its config.
//!
//! A table that comes in with rows is in quarantine until a dump has brought it; one without is made here. A table that
//! goes out stays as it is, as an ordinary one, and nothing is left of its quarantine and restores. All of it is durable
//! before the position says so, and may be done again.

use std::collections::BTreeSet;

use mysql_async::TxOpts;

use super::Report;
use super::pass::{Region, Start};
use crate::binlog::name::{TableName, TableSet};
use crate::region::definitions::{self, Drifted, Missing};
use crate::region::gate;
use crate::region::plan::{NewSchema, NewTable, PlannedSet};
use crate::region::position::{self, Position};
use crate::region::quarantine::{self, Quarantined, Reason};
use crate::region::restore;
use crate::stream::{AddedTable, Definition, Entry, Seq, TablesEntry};
use crate::{Error, Kind, Result, failpoint, mysql};

impl Region<'_> {
    /// What a change of the set will mean here.
    pub(super) fn planned_set(&self, seq: Seq, change: &TablesEntry) -> PlannedSet {
        let mut set = PlannedSet { seq: seq.0, version: change.version, ..PlannedSet::default() };
        for AddedTable { table, has_rows, .. } in &change.added {
            let to = match (self.tables().names(table), has_rows) {
                (false, _) => &mut set.left_out,
                (true, true) => &mut set.wait,
                (true, false) => &mut set.create,
            };
            to.push(table.clone());
        }
        set.removed.clone_from(&change.removed);
        set
    }

    /// The stream's set changes here: everything before it has run, nothing behind it.
    pub(super) async fn change_set(
        &mut self,
        start: &Start,
        entry: &Entry,
        change: &TablesEntry,
        report: &mut Report,
    ) -> Result<()> {
        let name = self.config.stream.as_str();
        self.verify_lock().await?;
        position::complete(&mut self.control).await?;
        failpoint::hit("tables.before");
        let added: BTreeSet<TableName> = change.added.iter().map(|added| added.table.clone()).collect();
        let is_out = |table: &TableName| !change.tables.admits(table);
        // What would bring a table as it was before is given up first.
        let changed = restore::Changed { is_out: &is_out, anew: &added, entry: entry.seq };
        self.has_given_up |= restore::follow_set(&mut self.control, name, &changed, self.clock.now()).await?;
        failpoint::hit("tables.restores_left");
        self.let_go(is_out, report).await?;
        failpoint::hit("tables.let_go");
        // Restored already from a dump that knows of this change: the region was further than its position.
        let brought: BTreeSet<TableName> = restore::done(&mut self.control, name, entry.seq)
            .await?
            .into_iter()
            .flat_map(|restore| restore.tables)
            .collect();
        let here: Vec<&AddedTable> = change
            .added
            .iter()
            .filter(|added| self.tables().names(&added.table) && !brought.contains(&added.table))
            .collect();
        let (with_rows, empty): (Vec<&AddedTable>, Vec<&AddedTable>) =
            here.into_iter().partition(|added| added.has_rows);
        self.wait_for_dump(&with_rows, change, report).await?;
        failpoint::hit("tables.waiting");
        self.create_added(&empty, start, change, report).await?;
        failpoint::hit("tables.created");
        tracing::info!(
            "the table set has version {} from entry {} on{}",
            change.version,
            entry.seq.0,
            said(change, self.tables())
        );
        Ok(())
    }

    /// Tables with rows: the dump of the whole set that follows brings them.
    async fn wait_for_dump(
        &mut self,
        added: &[&AddedTable],
        change: &TablesEntry,
        report: &mut Report,
    ) -> Result<()> {
        let now = self.clock.now();
        let row = |added: &&AddedTable| {
            let error = format!(
                "it has come into the stream's set (version {}) with rows: the dump of the whole set that follows \
                 brings it",
                change.version
            );
            Quarantined::new(added.table.clone(), Reason::Added, change.at.0 + 1, error, now)
        };
        // By the region's own foreign keys only: what an old copy here is tied to shares its fate.
        self.isolate(added.iter().map(row).collect(), &[], report).await.map(drop)
    }

    /// Tables without rows are made as they were when they came in.
    async fn create_added(
        &mut self,
        added: &[&AddedTable],
        start: &Start,
        change: &TablesEntry,
        report: &mut Report,
    ) -> Result<()> {
        let tables = added.iter().map(|added| added.table.clone()).collect();
        let defined = |table: &TableName| {
            added.iter().find(|added| added.table == *table).map(|added| added.create_table.as_str())
        };
        let unfit = quarantine::unfit(&self.scope, &tables, defined);
        let now = self.clock.now();
        let tied = unfit.iter().map(|(table, parent)| {
            let why = quarantine::why_unfit(&[(table.clone(), parent.clone())].into());
            Quarantined::new(table.clone(), Reason::Tied, change.at.0 + 1, why, now)
        });
        self.isolate(tied.collect(), &[], report).await?;
        let mut missing = Missing::default();
        let mut there = Vec::new();
        for AddedTable { table, create_table, collation, .. } in added {
            if unfit.contains_key(table) {
                continue;
            }
            gate::definition(self.tables(), table, create_table)?;
            let definition = Definition {
                table: table.clone(),
                since_tx: change.at.next(),
                create_table: create_table.clone(),
                rows_at_init: None,
            };
            there.push(definition);
            if definitions::show_create(&mut self.control, table).await?.is_some() {
                continue;
            }
            let schema = &table.schema;
            let is_planned = missing.schemas.iter().any(|new| new.schema == *schema);
            if !is_planned && definitions::schema_collation(&mut self.control, schema).await?.is_none() {
                missing
                    .schemas
                    .push(NewSchema { schema: schema.clone(), collation: Some(collation.clone()) });
            }
            missing.tables.push(NewTable { table: table.clone(), create_table: create_table.clone() });
        }
        self.verify_lock().await?;
        definitions::create(&mut self.control, &missing).await?;
        failpoint::hit("tables.made");
        // What was here before may be another table, and what is made here may come out otherwise.
        let mut drifted = self.compare(there.clone()).await?;
        for definition in there {
            let table = &definition.table;
            let is_known =
                drifted.iter().any(|drifted| drifted.table == *table) || self.is_passed_over(table);
            if !is_known && definitions::has_rows(&mut self.control, table).await? {
                drifted.push(Drifted {
                    since: definition.since_tx,
                    error: full(table),
                    table: table.clone(),
                });
            }
        }
        self.isolate_drifted(drifted, 0, false, &start.head.definitions, report).await
    }

    /// Tables that this region no longer has part in: out of quarantine, and open to local writes again.
    async fn let_go(&mut self, is_out: impl Fn(&TableName) -> bool, report: &mut Report) -> Result<()> {
        let held = self.quarantined.iter().map(|known| known.table.clone());
        let out: BTreeSet<TableName> = held.filter(|table| is_out(table)).collect();
        if out.is_empty() {
            return Ok(());
        }
        quarantine::remove(&mut self.control, &self.config.stream, &out).await?;
        for table in &out {
            tracing::info!(%table, "{table} is no longer in the stream's set: its quarantine ends, and it stays as it is");
        }
        self.read_quarantine(report).await
    }

    /// Whether the config's list is the one that brought the region to its position.
    pub(super) fn follows_list(&self, at: &Position) -> bool {
        at.lets_in.as_ref() == Some(self.tables()) && !self.quarantined.iter().any(|known| self.is_out(known))
    }

    fn is_out(&self, known: &Quarantined) -> bool {
        !self.tables().admits(&known.table)
    }

    /// Follows a change of the region's own list, before anything runs under it. Tables that it lets in anew were passed
    /// over until here, and wait for a dump: they are returned. In a dry run nothing is changed.
    pub(super) async fn follow_list(
        &mut self,
        start: &mut Start,
        entries: &[Entry],
        report: &mut Report,
    ) -> Result<Vec<TableName>> {
        let list = self.tables().clone();
        let Some(at) = start.position.as_ref().filter(|at| !self.follows_list(at)) else {
            return Ok(Vec::new());
        };
        let before = at.lets_in.clone().unwrap_or_else(|| list.clone());
        let is_new = |table: &&TableName| {
            list.names(table) && !before.admits(table) && !start.ahead.contains_key(*table)
        };
        // Those that are there now, and those that are dropped before the region comes to the end.
        let known = start.head.definitions.iter().map(|definition| &definition.table);
        let touched = entries.iter().filter_map(Entry::segment).flat_map(|segment| &segment.tables);
        let new: BTreeSet<TableName> = known.chain(touched).filter(is_new).cloned().collect();
        if self.options.dry_run {
            return Ok(new.into_iter().collect());
        }
        self.verify_lock().await?;
        position::complete(&mut self.control).await?;
        failpoint::hit("list.before");
        let (now, next) = (self.clock.now(), start.executed.complete_to() + 1);
        let row = |table: &TableName| {
            let error =
                "this region's list lets it in since now: what it missed comes with a dump".to_owned();
            Quarantined::new(table.clone(), Reason::LetIn, next, error, now)
        };
        self.isolate(new.iter().map(row).collect(), &[], report).await?;
        failpoint::hit("list.let_in");
        let is_out = |table: &TableName| !list.admits(table);
        let changed = restore::Changed { is_out: &is_out, anew: &BTreeSet::new(), entry: Seq::ZERO };
        let name = &self.config.stream;
        self.has_given_up |= restore::follow_set(&mut self.control, name, &changed, now).await?;
        let out = self.quarantined.iter().filter(|known| self.is_out(known)).map(|known| known.table.clone());
        let out: BTreeSet<TableName> = out.collect();
        // Together: a table whose quarantine has ended must not be taken for one that missed nothing, should the list be
        // as before in the next run.
        let wrong = |error| mysql::error(error, "record the list of tables");
        let mut transaction = self.control.start_transaction(TxOpts::default()).await.map_err(wrong)?;
        quarantine::remove(&mut transaction, &self.config.stream, &out).await?;
        position::set_list(&mut transaction, &self.config.stream, &list).await?;
        failpoint::hit("list.before_commit");
        transaction.commit().await.map_err(wrong)?;
        failpoint::hit("list.recorded");
        if let Some(at) = &mut start.position {
            at.lets_in = Some(list);
        }
        self.read_quarantine(report).await?;
        Ok(new.into_iter().collect())
    }
}

fn full(table: &TableName) -> Error {
    let message = format!(
        "check {table}: it holds rows here, and was empty at the source when it came into the stream's set"
    );
    Error::new(Kind::Drift, message).hint(format!(
        "a copy from before is left here: if nobody needs it, TRUNCATE TABLE {}; or `tablecast restore {table}`",
        table.quoted()
    ))
}

/// What it means here, for the log.
fn said(change: &TablesEntry, list: &TableSet) -> String {
    let (here, out): (Vec<&AddedTable>, Vec<&AddedTable>) =
        change.added.iter().partition(|added| list.names(&added.table));
    let names = |added: &[&AddedTable]| {
        added.iter().map(|added| added.table.to_string()).collect::<Vec<_>>().join(", ")
    };
    let mut text = String::new();
    if !here.is_empty() {
        text += &format!("; new: {}", names(&here));
    }
    if !out.is_empty() {
        text += &format!("; not let in by this region's list: {}", names(&out));
    }
    if !change.removed.is_empty() {
        let removed: Vec<String> = change.removed.iter().map(ToString::to_string).collect();
        text += &format!("; removed: {}", removed.join(", "));
    }
    text
}
