//! The position moves: behind each entry that is done, and with a newer head where nothing is to be done.

use chrono::{DateTime, Utc};

use super::figures::Figures;
use super::pass::{Region, Start, seconds_since};
use super::{Next, Report};
use crate::region::position::{self, Position};
use crate::region::scope::left_out;
use crate::stream::{Body, Entry};
use crate::{Result, failpoint};

impl Region<'_> {
    /// Puts down that an entry is done; of one that brings no transactions, that is all.
    pub(super) async fn record(
        &mut self,
        start: &Start,
        before: &Position,
        entry: &Entry,
        report: &mut Report,
    ) -> Result<Position> {
        let after = self.after(start, before, entry);
        failpoint::hit("apply.before_position");
        self.verify_lock().await?;
        position::advance(&mut self.control, &self.config.stream, before, &after).await?;
        failpoint::hit("apply.after_position");
        report.entries += 1;
        report.figures.meters.got_on(self.clock.now());
        report.figures.applied(entry.segment().map_or(0, |segment| segment.size));
        self.tell(report, &after);
        if entry.tables().is_some() {
            // Other tables are the guard's from here on.
            self.guard_is_due();
            self.keep_guard(&start.head, entry.seq, report).await;
        }
        Ok(after)
    }

    fn after(&self, start: &Start, before: &Position, entry: &Entry) -> Position {
        let head = &start.head;
        let is_last = entry.seq == head.last_seq;
        let (last_tx, covered, as_of) = match &entry.body {
            // Never more than the head vouches for.
            Body::Segment(segment) => {
                (segment.last_tx, segment.covered_after.clone(), Some(head.as_of.min(segment.last_commit)))
            }
            Body::Tables(change) => {
                (before.last_tx, change.covered_after.clone(), Some(head.as_of.min(change.changed_at)))
            }
            Body::Dump(_) | Body::Check(_) => (before.last_tx, before.covered.clone(), before.as_of),
        };
        let as_of = if is_last { Some(head.as_of) } else { as_of };
        Position {
            stream: head.stream,
            store: self.store.url(),
            seq: entry.seq,
            chain: entry.chain,
            last_tx,
            base_tx: before.base_tx,
            covered: if is_last { head.covered.clone() } else { covered },
            as_of: before.as_of.max(as_of),
            applied_at: self.clock.now(),
            head_etag: is_last.then(|| start.etag.clone()),
            lets_in: before.lets_in.clone(),
            left_out: left_out(self.tables(), head),
        }
    }

    /// Nothing to run, but the head is another: its time and coverage are put down.
    pub(super) async fn refresh(&mut self, start: Start, report: &mut Report) -> Result<Next> {
        let Some(before) = start.position else { return Ok(Next::Nothing) };
        let is_last = before.seq == start.head.last_seq;
        if !is_last || self.options.dry_run {
            return Ok(Next::Over);
        }
        let after = Position {
            store: self.store.url(),
            left_out: left_out(self.tables(), &start.head),
            covered: start.head.covered,
            as_of: later(before.as_of, start.head.as_of),
            applied_at: self.clock.now(),
            head_etag: Some(start.etag),
            ..before.clone()
        };
        position::advance(&mut self.control, &self.config.stream, &before, &after).await?;
        self.tell(report, &after);
        Ok(Next::Nothing)
    }

    pub(super) fn tell(&self, report: &mut Report, position: &Position) {
        report.seq = position.seq.0;
        report.last_tx = position.last_tx.0;
        report.left_out.clone_from(&position.left_out);
        report.as_of = position.as_of.filter(|as_of| *as_of != DateTime::UNIX_EPOCH);
        report.lag_seconds = report.as_of.map(|as_of| seconds_since(as_of, self.clock.now()));
        report.figures.is_placed = true;
        Figures::tell(report);
    }
}

fn later(old: Option<DateTime<Utc>>, new: DateTime<Utc>) -> Option<DateTime<Utc>> {
    Some(old.map_or(new, |old| old.max(new)))
}
