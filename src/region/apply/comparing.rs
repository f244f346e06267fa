//! A check in the stream: this region's rows are compared with what the source's were at the same transaction.
//!
//! The region stands at exactly that transaction here: the entry's place is behind it, nothing is under way, and nothing
//! is applied until the comparison is over or has taken too long. What is in quarantine, being restored or not let in is
//! passed over. A comparison that fails is told and nothing more: no check is worth a stopped stream. One that was cut
//! short by a kill is made again, as the position has not moved; should something have been applied since, it is left
//! for the next round.

use std::collections::BTreeSet;
use std::time::Instant;

use super::Report;
use super::pass::{Region, Start, base_tx};
use crate::binlog::name::TableName;
use crate::config::OnDrift;
use crate::error::chain;
use crate::region::checked::compare::{Outcome, Rows};
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
        if !is_there || before.last_tx != check.at {
            tracing::debug!(
                "entry {}: no check, the region is not at transaction {}",
                entry.seq.0,
                check.at.0
            );
            return Ok(());
        }
        let known = checked::list(&mut self.control, &self.config.stream).await?;
        let ranges = self.comparable(check).await?;
        if ranges.is_empty() {
            return Ok(());
        }
        let begin = Instant::now();
        failpoint::hit("check.before_compare");
        let mut rows = match Rows::open(&self.config.mysql).await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::warn!("entry {}: rows are not compared: {}", entry.seq.0, chain(&error));
                return Ok(());
            }
        };
        let (store, spool) = (self.store.clone(), self.config.files.spool_dir.clone());
        let mut outcomes = Vec::new();
        for range in ranges {
            // By a run that was killed before the position moved.
            let of_this = |known: &&TableCheck| known.table == range.table && known.seq == entry.seq.0;
            if let Some(known) = known.iter().find(of_this) {
                let found = known.drift.as_ref();
                outcomes.extend(found.map(|found| (range, Outcome::Differs(found.drift.clone()))));
                continue;
            }
            let names = check.names.as_ref().map(|names| (names, &*store, spool.as_path()));
            match rows.compare(range, names).await {
                Ok(outcome) => outcomes.push((range, outcome)),
                // The connection is not used again.
                Err(error) => {
                    tracing::warn!("entry {}: rows are not compared: {}", entry.seq.0, chain(&error));
                    outcomes.push((range, Outcome::Unknown(chain(&error))));
                    break;
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

    /// What of the check can be compared here.
    async fn comparable<'c>(&mut self, check: &'c CheckEntry) -> Result<Vec<&'c CheckedRange>> {
        let open = restore::open_ones(&mut self.control, &self.config.stream).await?;
        let restored: BTreeSet<&TableName> = open.iter().flat_map(|restore| &restore.tables).collect();
        let is_ours = |range: &&CheckedRange| {
            let table = &range.table;
            self.tables().names(table) && !self.is_passed_over(table) && !restored.contains(table)
        };
        Ok(check.ranges.iter().filter(is_ours).collect())
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
                Outcome::Same => {}
                Outcome::Unknown(why) => tracing::warn!("{} is not compared: {why}", range.table),
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
