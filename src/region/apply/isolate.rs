//! A table whose copy differs is isolated: put into quarantine before anything more of it runs, so that the pass
//! goes on with the others.
//!
//! Clean boundary: nothing is under way when a row is written here. After a failure the schedule starts nothing
//! new and waits for what runs, so `gtid_executed`, read again, says exactly what has been committed, in whatever
//! order. The next run of the segment leaves those out and passes over the table from the failed transaction on:
//! of that one its healthy part arrives, once, under its GTID. A transaction before it that had not run yet (the
//! logical clock let them be side by side) still changes the table; if it fails, `since_tx` moves back to it.

use std::collections::{BTreeMap, BTreeSet};

use super::Report;
use super::pass::Region;
use crate::binlog::name::TableName;
use crate::config::OnConflict;
use crate::error::chain;
use crate::region::definitions::Drifted;
use crate::region::drift::Judged;
use crate::region::position::{self, Executed};
use crate::region::quarantine::{self, Passing, Quarantined, Reason, Turns};
use crate::region::segments::Fetched;
use crate::stream::Definition;
use crate::{Result, failpoint};

impl Region<'_> {
    /// Reads what is in quarantine.
    pub(super) async fn read_quarantine(&mut self, report: &mut Report) -> Result<()> {
        self.quarantined = quarantine::list(&mut self.control, &self.config.stream).await?;
        report.quarantined = self.quarantined.clone();
        report.figures.quarantined(report.quarantined.len());
        Ok(())
    }

    /// Whether nothing of the table is looked at any more.
    pub(super) fn is_passed_over(&self, table: &TableName) -> bool {
        Passing::of(&self.quarantined).covers(self.tables(), table, u64::MAX - 1)
    }

    /// Tables that are defined otherwise than they should be: into quarantine from transaction `from` on, at the
    /// earliest, or the end of the run. `has_run`: the transaction that shows it has run here.
    pub(super) async fn isolate_drifted(
        &mut self,
        mut drifted: Vec<Drifted>,
        from: u64,
        has_run: bool,
        definitions: &[Definition],
        report: &mut Report,
    ) -> Result<()> {
        drifted.retain(|drifted| !self.is_passed_over(&drifted.table));
        if drifted.is_empty() {
            return Ok(());
        }
        if self.config.apply.on_conflict == OnConflict::Stop {
            return Err(drifted.swap_remove(0).error);
        }
        let now = self.clock.now();
        let one = |drifted: Drifted| {
            let (error, since) = (chain(&drifted.error), drifted.since.0.max(from));
            // A DDL that has run here already counts as missed: it did something else than at the source, and rows
            // behind it may have gone into wrong columns. Such a table is not released as if nothing had happened.
            let passed_over = u64::from(has_run);
            Quarantined {
                passed_over,
                ..Quarantined::new(drifted.table, Reason::Definition, since, error, now)
            }
        };
        self.isolate(drifted.into_iter().map(one).collect(), definitions, report).await.map(drop)
    }

    /// What a failed transaction means for the run: its tables are in quarantine and the run goes on, or its error.
    pub(super) async fn isolate_failed(
        &mut self,
        judged: Judged,
        definitions: &[Definition],
        report: &mut Report,
    ) -> Result<()> {
        let isolates = self.config.apply.on_conflict == OnConflict::Quarantine;
        if !isolates || judged.tables.is_empty() {
            return Err(judged.error);
        }
        let (text, now) = (chain(&judged.error), self.clock.now());
        let one = |table: &TableName| Quarantined {
            source_gtid: Some(judged.source_gtid.clone()),
            code: judged.code,
            ..Quarantined::new(table.clone(), Reason::Conflict, judged.n, text.clone(), now)
        };
        let tables = judged.tables.iter().map(one).collect();
        match self.isolate(tables, definitions, report).await? {
            true => Ok(()),
            // What is left out cannot fail: whatever this is, trying again would not end.
            false => Err(judged.error),
        }
    }

    /// Puts tables into quarantine, with their families. Says whether anything is new.
    pub(super) async fn isolate(
        &mut self,
        tables: Vec<Quarantined>,
        definitions: &[Definition],
        report: &mut Report,
    ) -> Result<bool> {
        let known: BTreeMap<TableName, (u64, Reason)> = self
            .quarantined
            .iter()
            .map(|known| (known.table.clone(), (known.since_tx, known.reason)))
            .collect();
        // That its rows are somebody's counts for more than what it is held for already.
        let is_new = |new: &Quarantined| {
            known.get(&new.table).is_none_or(|(since, reason)| {
                new.since_tx < *since || (new.reason == Reason::Own && *reason != Reason::Own)
            })
        };
        let mut all: Vec<Quarantined> = Vec::new();
        for new in tables.into_iter().filter(is_new) {
            for tied in self.tied_to(&new, definitions).await? {
                if is_new(&tied) && !all.iter().any(|other| other.table == tied.table) {
                    all.push(tied);
                }
            }
            all.retain(|other| other.table != new.table);
            all.push(new);
        }
        if all.is_empty() {
            return Ok(false);
        }
        self.verify_lock().await?;
        failpoint::hit("quarantine.before_record");
        position::complete(&mut self.control).await?;
        quarantine::add(&mut self.control, &self.config.stream, &all).await?;
        failpoint::hit("quarantine.after_record");
        let next = self.what_comes_next();
        for new in &all {
            let Quarantined { table, since_tx, error, .. } = new;
            report.figures.isolated(new.reason);
            if matches!(new.reason, Reason::Added | Reason::LetIn | Reason::Own) {
                tracing::info!(%table, since_tx, reason = %new.reason, "{table} waits, all other tables go on: {error}");
                continue;
            }
            tracing::warn!(
                %table, since_tx, reason = %new.reason,
                "quarantine of {table} from stream transaction {since_tx} on: {error}. Its changes are passed over, \
                 all other tables go on; {next}"
            );
        }
        self.read_quarantine(report).await?;
        Ok(true)
    }

    fn what_comes_next(&self) -> &'static str {
        match self.config.apply.request_dump && self.region.source_url.is_some() {
            true => "a dump brings it back: the newest that fits, or one that the source is asked for",
            false => "`tablecast restore` brings it back from a dump",
        }
    }

    /// The rest of a table's family. A ghost has none: it is gone before its table is looked at again.
    async fn tied_to(&mut self, new: &Quarantined, definitions: &[Definition]) -> Result<Vec<Quarantined>> {
        if !self.region.tables.names(&new.table) {
            return Ok(Vec::new());
        }
        let family = quarantine::family(&mut self.control, &self.scope, definitions, &new.table).await?;
        let others = family.members.into_iter().filter(|member| *member != new.table);
        let tied = others.map(|member| Quarantined {
            source_gtid: new.source_gtid.clone(),
            ..Quarantined::new(
                member,
                Reason::Tied,
                new.since_tx,
                format!("foreign keys tie it to {}, which is in quarantine", new.table),
                new.at,
            )
        });
        Ok(tied.collect())
    }

    /// Makes durable what a segment does to the quarantine before it runs, and counts what it passes over. Says
    /// what is left out, and how far the segment may run with that: to the first table that is gone, after which
    /// its name is free for another.
    pub(super) async fn follow(
        &mut self,
        fetched: &Fetched,
        executed: &Executed,
        until: u64,
        definitions: &[Definition],
        report: &mut Report,
    ) -> Result<(Turns, u64)> {
        let (set, scan) = (self.region.tables.clone(), &fetched.scan);
        loop {
            let turns = quarantine::turns(&self.quarantined, &set, scan, executed, until);
            if self.end(&turns, executed, report).await? {
                continue;
            }
            let cut = turns.ended.first().map_or(until, |(_, n)| until.min(*n));
            let turns = quarantine::turns(&self.quarantined, &set, scan, executed, cut);
            let now = self.clock.now();
            let tied = turns.tied.iter().map(|(table, n, with)| {
                let why =
                    format!("it belongs to {with}, or a statement names both; that one is in quarantine");
                Quarantined::new(table.clone(), Reason::Tied, *n, why, now)
            });
            if self.isolate(tied.collect(), definitions, report).await? {
                continue;
            }
            for known in &mut self.quarantined {
                let more = turns.passing.count(scan, executed, &known.table, known.counted_to, cut);
                if more > 0 {
                    let name = &self.config.stream;
                    quarantine::count(&mut self.control, name, &known.table, more, cut).await?;
                    failpoint::hit("quarantine.after_count");
                    (known.passed_over, known.counted_to) = (known.passed_over + more, cut);
                }
            }
            report.quarantined = self.quarantined.clone();
            return Ok((turns, cut));
        }
    }

    /// Ends the quarantine of tables that are gone by now. Says whether there were any.
    pub(super) async fn end(
        &mut self,
        turns: &Turns,
        executed: &Executed,
        report: &mut Report,
    ) -> Result<bool> {
        let ended = turns.ended.iter().filter(|(_, n)| executed.contains(*n));
        let gone: BTreeSet<TableName> = ended.map(|(table, _)| table.clone()).collect();
        if gone.is_empty() {
            return Ok(false);
        }
        failpoint::hit("quarantine.before_end");
        self.verify_lock().await?;
        quarantine::remove(&mut self.control, &self.config.stream, &gone).await?;
        failpoint::hit("quarantine.after_end");
        for table in gone {
            tracing::info!(%table, "{table} is gone, at the source and here: its quarantine ends");
        }
        self.read_quarantine(report).await?;
        Ok(true)
    }
}
