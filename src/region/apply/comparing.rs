//! A check in the stream: this region's rows are compared with what the source's were at the same transaction.
//!
//! The region stands at exactly that transaction here: the entry's place is behind it, nothing is under way, and nothing
//! is applied until the comparison is over or has taken too long. What is not let in is passed over, and so is what is in
//! quarantine or being restored. A comparison that fails is told and nothing more: no check is worth a stopped stream. Of
//! every table that is let in it is put down what was compared, or why that was not. A comparison that was cut short by a
//! kill is made again, as the position has not moved; should something have been applied since, it is left for the next
//! round.

use std::collections::BTreeSet;
use std::time::Instant;

use super::Report;
use super::pass::{Region, Start, base_tx};
use crate::binlog::name::TableName;
use crate::config::OnDrift;
use crate::error::chain;
use crate::region::checked::compare::{LONGEST, Outcome, Rows};
use crate::region::checked::{self, TableCheck};
use crate::region::plan::PlannedCheck;
use crate::region::position::{self, Executed, Position};
use crate::region::quarantine::{Quarantined, Reason};
use crate::region::restore;
use crate::stream::manifest::total;
use crate::stream::{CheckEntry, CheckedRange, Entry, Seq};
use crate::{Result, failpoint};

impl Region<'_> {
    /// Compares, and puts down what that has shown.
    pub(super) async fn compare_rows(
        &mut self,
        start: &Start,
        before: &Position,
        (entry, check): (&Entry, &CheckEntry),
        report: &mut Report,
    ) -> Result<()> {
        let gtids = position::gtid_executed(&mut self.control).await?;
        let executed = Executed::of(start.head.stream, &gtids).with_base(base_tx(Some(before)));
        let is_there = executed.complete_to() == check.at.0 && executed.last() <= check.at.0;
        let known = checked::list(&mut self.control, &self.config.stream).await?;
        let (ranges, mut outcomes) = self.comparable(check).await?;
        if ranges.is_empty() && outcomes.is_empty() {
            return Ok(());
        }
        if !is_there || before.last_tx != check.at {
            let why = format!("this region was not at transaction {} when it came to the check", check.at.0);
            tracing::debug!("entry {}: {why}", entry.seq.0);
            outcomes.extend(ranges.into_iter().map(|range| unknown(range, &why)));
            return self.put_down(start, (entry, check), (known, outcomes), report).await;
        }
        if ranges.is_empty() {
            return self.put_down(start, (entry, check), (known, outcomes), report).await;
        }
        let begin = Instant::now();
        failpoint::hit("check.before_compare");
        let mut ranges = ranges.into_iter();
        let mut rows = match Rows::open(&self.config.mysql).await {
            Ok(rows) => rows,
            Err(error) => {
                let why = chain(&error);
                tracing::warn!("entry {}: rows are not compared: {why}", entry.seq.0);
                outcomes.extend(ranges.map(|range| unknown(range, &why)));
                return self.put_down(start, (entry, check), (known, outcomes), report).await;
            }
        };
        let (store, spool) = (self.store.clone(), self.config.files.spool_dir.clone());
        while let Some(range) = ranges.next() {
            // By a run that was killed before the position moved.
            let of_this = |known: &&TableCheck| known.table == range.table && known.seq == entry.seq.0;
            if let Some(known) = known.iter().find(of_this) {
                let found = known.drift.as_ref();
                outcomes.extend(found.map(|found| (range, Outcome::Differs(found.drift.clone()))));
                continue;
            }
            let names = check.names.as_ref().map(|names| (names, &*store, spool.as_path()));
            match rows.compare(range, names).await {
                Ok(outcome) => {
                    if let Outcome::Unknown(why) = &outcome {
                        tracing::warn!("{} is not compared: {why}", range.table);
                    }
                    outcomes.push((range, outcome));
                }
                // The connection is not used again.
                Err(error) => {
                    let why = match rows.is_over() {
                        true => format!("given up after {} s: {}", LONGEST.as_secs(), chain(&error)),
                        false => chain(&error),
                    };
                    tracing::warn!(
                        "entry {}: rows are not compared from {} on: {why}",
                        entry.seq.0,
                        range.table
                    );
                    outcomes.push(unknown(range, &why));
                    outcomes.extend(ranges.by_ref().map(|range| unknown(range, &why)));
                }
            }
        }
        rows.close().await;
        failpoint::hit("check.compared");
        let took = begin.elapsed();
        tracing::debug!(
            "entry {}: {} tables compared in {} ms",
            entry.seq.0,
            outcomes.len(),
            took.as_millis()
        );
        self.put_down(start, (entry, check), (known, outcomes), report).await
    }

    /// What of the check can be compared here, and why the others that are let in cannot.
    async fn comparable<'c>(
        &mut self,
        check: &'c CheckEntry,
    ) -> Result<(Vec<&'c CheckedRange>, Vec<(&'c CheckedRange, Outcome)>)> {
        let open = restore::open_ones(&mut self.control, &self.config.stream).await?;
        let restored: BTreeSet<&TableName> = open.iter().flat_map(|restore| &restore.tables).collect();
        let (mut ranges, mut passed) = (Vec::new(), Vec::new());
        for range in check.ranges.iter().filter(|range| self.tables().names(&range.table)) {
            let table = &range.table;
            let why = match (self.is_passed_over(table), restored.contains(table)) {
                (true, _) => "it was in quarantine when the check came",
                (_, true) => "it was being restored when the check came",
                _ => {
                    ranges.push(range);
                    continue;
                }
            };
            passed.push(unknown(range, why));
        }
        Ok((ranges, passed))
    }

    /// What of it would be compared, for a plan.
    pub(super) fn planned_check(&self, seq: Seq, check: &CheckEntry) -> PlannedCheck {
        let ours = check
            .ranges
            .iter()
            .filter(|range| self.tables().names(&range.table) && !self.is_passed_over(&range.table));
        let rows = total(ours.clone().map(|range| range.rows));
        PlannedCheck { seq: seq.0, tables: ours.map(|range| range.table.clone()).collect(), rows }
    }

    async fn put_down(
        &mut self,
        start: &Start,
        (entry, check): (&Entry, &CheckEntry),
        (mut known, outcomes): (Vec<TableCheck>, Vec<(&CheckedRange, Outcome)>),
        report: &mut Report,
    ) -> Result<()> {
        let (name, now) = (&self.config.stream, self.clock.now());
        self.verify_lock().await?;
        let mut drifted = Vec::new();
        for (range, outcome) in outcomes {
            let at = known.iter().position(|known| known.table == range.table);
            let before = at.map(|at| known.swap_remove(at));
            known.push(match before {
                Some(told) if told.seq == entry.seq.0 => told,
                before => {
                    let after = TableCheck::after(before, (entry.seq, check), range, &outcome, now);
                    checked::save(&mut self.control, name, &after).await?;
                    after
                }
            });
            match outcome {
                Outcome::Same | Outcome::Unknown(_) => {}
                Outcome::Differs(drift) => {
                    let told =
                        format!("rows are not those of the source at transaction {}: {drift}", check.at.0);
                    tracing::warn!("{}: {told}", range.table);
                    report.warnings.push(format!("{}: {told}", range.table));
                    let (table, since) = (range.table.clone(), check.at.0 + 1);
                    drifted.push(Quarantined::new(table, Reason::Drifted, since, told, now));
                }
            }
        }
        report.figures.compared(&known);
        failpoint::hit("check.recorded");
        if self.config.apply.on_drift == OnDrift::Quarantine && !drifted.is_empty() {
            self.isolate(drifted, &start.head.definitions, report).await?;
        }
        Ok(())
    }
}

fn unknown<'c>(range: &'c CheckedRange, why: &str) -> (&'c CheckedRange, Outcome) {
    (range, Outcome::Unknown(why.to_owned()))
}
