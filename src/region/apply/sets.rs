//! The two lists that say what a region has, and what becomes of its tables when one of them changes: the stream's set,
//! by an entry between two transactions, and the region's own, by its config.
//!
//! A table that comes in with rows is in quarantine until a dump has brought it; one without is made here. A table that
//! goes out stays as it is, as an ordinary one, and nothing is left of its quarantine and restores. All of it is durable
//! before the position says so, and may be done again.

use std::collections::BTreeSet;

use mysql_async::TxOpts;
use mysql_async::prelude::Queryable;

use super::Report;
use super::pass::{Region, Start};
use crate::binlog::name::{TableName, TableSet};
use crate::error::chain;
use crate::region::checked;
use crate::region::definitions::{self, Drifted, Missing};
use crate::region::plan::{NewSchema, NewTable, PlannedSet};
use crate::region::position::{self, Position};
use crate::region::quarantine::{self, Quarantined, Reason};
use crate::region::restore;
use crate::region::scope::Scope;
use crate::region::{former, gate, guard, ties};
use crate::stream::{AddedTable, Definition, Entry, Head, Seq, TablesEntry};
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
        let (removed, list) = (TableSet::new(change.removed.clone()), self.tables().clone());
        let has_left = |table: &TableName| {
            is_out(table) && list.names(table) && removed.as_ref().is_ok_and(|removed| removed.names(table))
        };
        let left = self.tables_here(has_left).await?;
        self.let_go(&left, entry.seq, is_out, report).await?;
        let scope = self.scope.clone().with_set(&change.tables);
        self.tell_ties(&left, &scope, report).await;
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
        let own = self.own_tables(added.iter().map(|added| &added.table)).await?;
        let row = |added: &&AddedTable| {
            if own.contains(&added.table) {
                return Quarantined::own(&added.table, change.at.0 + 1, now);
            }
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
        let own = self.own_tables(added.iter().map(|added| &added.table)).await?;
        let kept = own.iter().map(|table| Quarantined::own(table, change.at.0 + 1, now));
        self.isolate(tied.chain(kept).collect(), &[], report).await?;
        let mut missing = Missing::default();
        let mut there = Vec::new();
        for AddedTable { table, create_table, collation, .. } in added {
            if unfit.contains_key(table) || own.contains(table) {
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
    async fn let_go(
        &mut self,
        left: &[TableName],
        entry: Seq,
        is_out: impl Fn(&TableName) -> bool,
        report: &mut Report,
    ) -> Result<()> {
        self.guard_is_due();
        // Left to the guard's own round where somebody uses the table now.
        if let Err(error) = guard::lift(&mut self.control, left).await {
            tracing::warn!(error = %chain(&error), "could not lift the guard from what has left the set");
        }
        let (name, now) = (&self.config.stream, self.clock.now());
        former::record(&mut self.control, name, left, &self.quarantined, entry, now).await?;
        let known = checked::list(&mut self.control, name).await?.into_iter().map(|known| known.table);
        checked::forget(&mut self.control, name, &known.filter(|table| is_out(table)).collect()).await?;
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

    /// Foreign keys that tie what has been let go of to what is followed. Whoever lets it go at the source cannot see
    /// those that are the region's own.
    async fn tell_ties(&mut self, left: &[TableName], scope: &Scope, report: &mut Report) {
        if left.is_empty() {
            return;
        }
        match ties::look(&mut self.control, scope).await {
            Ok(found) => {
                for tie in found.iter().filter(|tie| tie.touches(|table| left.contains(table))) {
                    tracing::warn!("{tie}");
                    report.warnings.push(tie.to_string());
                }
            }
            // `status` and `doctor` look again.
            Err(error) => {
                tracing::warn!(error = %chain(&error), "foreign keys of what has left are not looked at")
            }
        }
    }

    /// The base tables of this server that are so.
    async fn tables_here(&mut self, is_so: impl Fn(&TableName) -> bool) -> Result<Vec<TableName>> {
        const THERE: &str =
            "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE'";
        let there: Vec<(String, String)> = self
            .control
            .query(THERE)
            .await
            .map_err(|error| mysql::error(error, "list the tables of this server"))?;
        let there = there.into_iter().map(|(schema, table)| TableName::new(schema, table));
        Ok(there.filter(is_so).collect())
    }

    /// Of tables that come in those that are here with rows and were never the stream's: somebody's.
    pub(in crate::region) async fn own_tables(
        &mut self,
        tables: impl Iterator<Item = &TableName>,
    ) -> Result<BTreeSet<TableName>> {
        let ours = former::were_ours(&mut self.control, &self.config.stream).await?;
        let mut own = BTreeSet::new();
        for table in tables.filter(|table| !ours.contains(*table)) {
            if definitions::show_create(&mut self.control, table).await?.is_some()
                && definitions::has_rows(&mut self.control, table).await?
            {
                own.insert(table.clone());
            }
        }
        Ok(own)
    }

    /// Tables that the stream has and this region's list no longer lets in: the config may be mistyped.
    fn tell_left(&self, left: &[TableName], head: &Head, report: &mut Report) {
        let followed = left.iter().filter(|table| head.table_set.tables.names(table));
        let names: Vec<String> = followed.map(ToString::to_string).collect();
        if names.is_empty() {
            return;
        }
        let warning = format!(
            "`tables` in [region] of {} no longer lets in {}: from here on its changes are passed over, and local writes \
             to it are not refused. If that was not meant, put it back, and a dump brings what it has missed",
            self.config.path.display(),
            names.join(", ")
        );
        tracing::warn!("{warning}");
        report.warnings.push(warning);
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
        // A restore that has brought another position may have jumped over an entry that takes tables out.
        let set = &start.head.table_set.tables;
        let changed_at = start.head.set_changed.as_ref().map_or(Seq::ZERO, |changed| changed.seq);
        let has_jumped = |at: &Position| {
            at.seq >= changed_at && self.quarantined.iter().any(|known| !set.admits(&known.table))
        };
        let must_follow = |at: &&Position| !self.follows_list(at) || has_jumped(at);
        let Some(at) = start.position.as_ref().filter(must_follow) else {
            return Ok(Vec::new());
        };
        let stands_at = at.seq;
        let before = at.lets_in.clone().unwrap_or_else(|| list.clone());
        let set = (at.seq >= changed_at).then(|| set.clone());
        let is_out =
            |table: &TableName| !list.admits(table) || set.as_ref().is_some_and(|set| !set.admits(table));
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
        let own = self.own_tables(new.iter()).await?;
        let row = |table: &TableName| {
            let error =
                "this region's list lets it in since now: what it missed comes with a dump".to_owned();
            match own.contains(table) {
                true => Quarantined::own(table, next, now),
                false => Quarantined::new(table.clone(), Reason::LetIn, next, error, now),
            }
        };
        self.isolate(new.iter().map(row).collect(), &[], report).await?;
        failpoint::hit("list.let_in");
        let changed = restore::Changed { is_out: &is_out, anew: &BTreeSet::new(), entry: Seq::ZERO };
        let scope = self.scope.clone();
        let has_left = |table: &TableName| before.names(table) && !list.names(table) && scope.knows(table);
        let left = self.tables_here(has_left).await?;
        self.tell_left(&left, &start.head, report);
        self.guard_is_due();
        if let Err(error) = guard::lift(&mut self.control, &left).await {
            tracing::warn!(error = %chain(&error), "could not lift the guard from what is off the list");
        }
        let name = &self.config.stream;
        former::record(&mut self.control, name, &left, &self.quarantined, stands_at, now).await?;
        self.has_given_up |= restore::follow_set(&mut self.control, name, &changed, now).await?;
        let out: BTreeSet<TableName> =
            self.quarantined.iter().map(|known| known.table.clone()).filter(|table| is_out(table)).collect();
        let known = checked::list(&mut self.control, name).await?.into_iter().map(|known| known.table);
        let known: BTreeSet<TableName> = known.filter(|table| is_out(table)).collect();
        // Together: a table whose quarantine has ended must not be taken for one that missed nothing, should the list be
        // as before in the next run.
        let wrong = |error| mysql::error(error, "record the list of tables");
        let mut transaction = self.control.start_transaction(TxOpts::default()).await.map_err(wrong)?;
        quarantine::remove(&mut transaction, &self.config.stream, &out).await?;
        checked::forget(&mut transaction, &self.config.stream, &known).await?;
        position::set_list(&mut transaction, &self.config.stream, &list).await?;
        failpoint::hit("list.before_commit");
        transaction.commit().await.map_err(wrong)?;
        failpoint::hit("list.recorded");
        if let Some(at) = &mut start.position {
            at.lets_in = Some(list);
        }
        self.read_quarantine(report).await?;
        self.tell_ties(&left, &scope, report).await;
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
