//! One segment: its transactions run, with stops where the guard, a schema's default or a quarantine needs one, and what
//! fails is set aside or ends the run.

use super::Report;
use super::pass::{Region, Start, base_tx};
use crate::binlog::name::TableName;
use crate::error::chain;
use crate::region::position::{self, Executed, Position};
use crate::region::segments::Fetched;
use crate::region::{definitions, drift, history, quarantine};
use crate::stream::Definition;
use crate::{Error, Kind, Result};

/// How often a segment is run again because it lost to locks of other sessions.
const ATTEMPTS: u32 = 3;

impl Region<'_> {
    /// Runs one segment and records it. `None`: ended before its end, by `until` or by the token.
    pub(super) async fn apply(
        &mut self,
        start: &Start,
        before: &Position,
        fetched: &Fetched,
        report: &mut Report,
    ) -> Result<Option<Position>> {
        let (entry, segment, scan) = (&fetched.entry, &fetched.segment, &fetched.scan);
        let until = self.options.until.unwrap_or(u64::MAX).min(segment.last_tx.0);
        let mut executed = start.executed.clone();
        let for_guard = self.guard_stops(fetched, &executed);
        let mut stops = for_guard.clone();
        stops.extend(scan.changes_of_defaults(&executed));
        let has_ddl = scan.ddls.iter().any(|ddl| !executed.contains(ddl.n));
        report.skipped += executed.count(segment.first_tx.0, until);
        let mut from = 0;
        for next in stops.into_iter().chain([u64::MAX]) {
            if from > until {
                break;
            }
            if for_guard.contains(&from) {
                self.guard_before(from, fetched, &start.head, report).await;
            }
            if from > 0 {
                let (set, range) = (&self.region.tables, from..=next - 1);
                let turns = quarantine::turns(&self.quarantined, set, scan, &executed, next - 1);
                let (control, left_out) = (&mut self.control, &turns.statements);
                definitions::check_schema_defaults(control, scan, &executed, left_out, range, &[]).await?;
            }
            executed = self.replay(start, fetched, executed, until.min(next - 1), report).await?;
            if report.stopped {
                return Ok(None);
            }
            from = next;
        }
        if has_ddl {
            self.guard_is_due();
        }
        self.keep_guard(&start.head, entry.seq, report).await;
        if until < segment.last_tx.0 {
            return Ok(None);
        }
        // What a change of the set behind it adds is not there yet.
        let is_ahead = |table: &TableName| start.ahead.get(table).is_some_and(|seq| *seq > entry.seq);
        let definitions: Vec<Definition> = start
            .head
            .definitions
            .iter()
            .filter(|definition| {
                before.last_tx < definition.since_tx
                    && definition.since_tx <= segment.last_tx
                    && !is_ahead(&definition.table)
            })
            .cloned()
            .collect();
        // What a DDL in here has left otherwise than at the source: rows behind it may have gone into wrong columns.
        let drifted = self.compare(definitions).await?;
        self.isolate_drifted(drifted, 0, true, &start.head.definitions, report).await?;
        self.record(start, before, entry, report).await.map(Some)
    }

    /// Runs a segment's transactions up to `until`. Says what the server has then.
    async fn replay(
        &mut self,
        start: &Start,
        fetched: &Fetched,
        mut executed: Executed,
        until: u64,
        report: &mut Report,
    ) -> Result<Executed> {
        let (stream, definitions) = (start.head.stream, &start.head.definitions);
        let mut attempt = 0;
        loop {
            attempt += 1;
            self.verify_lock().await?;
            let (turns, cut) = self.follow(fetched, &executed, until, definitions, report).await?;
            let Some(replay) = &mut self.replay else { return Ok(executed) };
            let passing = turns.passing.clone();
            let alone = fetched.alone().await;
            let outcome = replay.run(fetched, executed, passing, cut, &self.options.stop).await?;
            drop(alone);
            report.transactions += outcome.committed;
            report.stopped |= outcome.stopped;
            executed = Executed::of(stream, &position::gtid_executed(&mut self.control).await?)
                .with_base(base_tx(start.position.as_ref()));
            if outcome.failure.is_none() && !outcome.again && !report.stopped {
                history::check_run(&self.config.stream, &fetched.entry, cut, &executed)?;
            }
            self.end(&turns, &executed, report).await?;
            if let Some(failure) = outcome.failure {
                let Some(replay) = &self.replay else { return Ok(executed) };
                let set = &self.region.tables;
                let judged = drift::judge(&mut self.control, replay, fetched, &turns, set, failure).await?;
                if judged.has_passed && attempt < ATTEMPTS {
                    tracing::warn!(error = %chain(&judged.error), "it does not fail again, going on");
                    report.figures.meters.tried_again(judged.error.kind());
                    continue;
                }
                self.isolate_failed(judged, definitions, report).await?;
                attempt = 0;
                continue;
            }
            if report.stopped || (!outcome.again && cut == until) {
                return Ok(executed);
            }
            match outcome.again {
                true => report.figures.again(),
                false => attempt = 0,
            }
            // There are fewer workers now, which is not so twice.
            if outcome.crowded {
                attempt -= 1;
            }
            if attempt == ATTEMPTS {
                let message = format!("apply entry {}: other sessions hold its locks", fetched.entry.seq.0);
                return Err(Error::new(Kind::Mysql, message).hint(
                    "look for long transactions on these tables in the region (performance_schema.data_locks, \
                     metadata_locks); nothing is lost, run `tablecast apply` again",
                ));
            }
        }
    }
}
