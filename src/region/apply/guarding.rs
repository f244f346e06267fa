//! Apply looks after the write guard: at its start, also where nothing is new, after whatever may have made, moved or replaced a table, and once a
//! minute. Nothing of it fails a run: what cannot be set is told once, and stands in `tablecast.guard`.
//!
//! Two DDL statements need it to look before they run. A RENAME into another schema fails on a table with triggers, so
//! they are lifted first. And a table that takes another's place, as a migration's ghost does, is guarded before it
//! does: one that was made in the same segment would come too late otherwise.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::Report;
use super::pass::Region;
use crate::binlog::name::TableName;
use crate::config::Guard;
use crate::error::chain;
use crate::failpoint;
use crate::region::guard::{self, Scope};
use crate::region::position::Executed;
use crate::region::segments::{DdlStep, Fetched};
use crate::store::head::{self, Read};
use crate::stream::{Head, Seq};

/// Somebody may take a trigger away by hand.
const EVERY: Duration = Duration::from_secs(60);

/// What a run knows of the guard.
#[derive(Debug)]
pub(super) struct Watch {
    looked: Option<Instant>,
    /// The same while nothing was new.
    looked_idle: Option<Instant>,
    /// Something may have changed since.
    is_due: bool,
    /// What it was to be, the last time.
    mode: Guard,
}

impl Watch {
    pub(super) fn new(mode: Guard) -> Watch {
        Watch { looked: None, looked_idle: None, is_due: true, mode }
    }
}

impl Region<'_> {
    /// Tables may be others than they were.
    pub fn guard_is_due(&mut self) {
        self.guard.is_due = true;
    }

    /// The same where the head is as it was, and so has not been read: it is, only if a table looks bare.
    pub(super) async fn keep_guard_idle(&mut self, at: Seq, report: &mut Report) {
        let is_late = self.guard.looked_idle.is_none_or(|looked| looked.elapsed() >= EVERY);
        if !is_late || self.is_dry_run() {
            return;
        }
        self.guard.looked_idle = Some(Instant::now());
        match guard::seems_bare(&mut self.control, self.config, at).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "could not look after the write guard. Apply goes on");
                return;
            }
        }
        let read = match failpoint::reach("apply.idle_head") {
            Ok(()) => head::read(&*self.store, None).await,
            Err(error) => Err(error),
        };
        match read {
            Ok(Read::Head { head, .. }) => {
                self.guard_is_due();
                self.keep_guard(&head, at, report).await;
            }
            Ok(Read::Unchanged) => {}
            // What the run is for has been done.
            Err(error) => {
                tracing::warn!(error = %chain(&error), "could not look after the write guard. Apply goes on");
            }
        }
    }

    /// Looks at the guard if it is time, and mends it.
    ///
    /// `at`: the entry that the region has come to.
    pub(super) async fn keep_guard(&mut self, head: &Head, at: Seq, report: &mut Report) {
        let is_late = self.guard.looked.is_none_or(|looked| looked.elapsed() >= EVERY);
        if !(self.guard.is_due || is_late) || self.is_dry_run() {
            return;
        }
        self.guard.looked = Some(Instant::now());
        let kept = async {
            let scope = Scope::new(self.config, Some(head), at)?;
            guard::keep(&mut self.control, self.config, &scope).await
        };
        let problem = match kept.await {
            // Whoever changes it now does what is to be done; we look again.
            Ok(kept) if kept.is_busy => return,
            Ok(kept) => {
                self.guard.mode = kept.mode;
                if !kept.steps.is_empty() {
                    tracing::info!("the write guard: {} changes", kept.steps.len());
                }
                for step in &kept.steps {
                    tracing::debug!("{step}");
                }
                let problem = kept.problem();
                if let Some(problem) = problem.as_ref().filter(|_| kept.is_news) {
                    tracing::warn!("the write guard is not as it should be: {problem}. Apply goes on");
                }
                problem
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "could not look after the write guard. Apply goes on");
                Some(chain(&error))
            }
        };
        self.guard.is_due = false;
        report.warnings.retain(|warning| !warning.starts_with(WARNING));
        report.warnings.extend(problem.map(|problem| format!("{WARNING}{problem}")));
    }

    /// Before transaction `n` of a segment, at which it stops for the guard.
    pub(super) async fn guard_before(&mut self, n: u64, fetched: &Fetched, head: &Head, report: &mut Report) {
        let Some(step) = fetched.scan.ddls.iter().find(|step| step.n == n) else { return };
        self.guard.is_due = true;
        if !moves_between_schemas(step) {
            return self.keep_guard(head, fetched.entry.seq, report).await;
        }
        if let Err(error) = guard::lift(&mut self.control, &step.names[..step.targets]).await {
            tracing::warn!(error = %chain(&error), "could not lift the guard from a table that leaves its schema");
        }
    }

    /// Where a segment stops for the guard: the transactions before which [`Self::guard_before`] is due.
    pub(super) fn guard_stops(&self, fetched: &Fetched, executed: &Executed) -> BTreeSet<u64> {
        stops(&fetched.scan.ddls, executed, self.guard.mode == Guard::Triggers)
    }
}

/// How its warnings begin.
const WARNING: &str = "write guard: ";

fn moves_between_schemas(step: &DdlStep) -> bool {
    step.renames.iter().any(|(from, to)| from.schema != to.schema)
}

/// A table can only lack its guard if it was made since we looked: those renamed in the segment that made them.
fn stops(ddls: &[DdlStep], executed: &Executed, has_triggers: bool) -> BTreeSet<u64> {
    let (mut made, mut found): (BTreeSet<&TableName>, BTreeSet<u64>) = Default::default();
    for step in ddls.iter().filter(|step| !executed.contains(step.n)) {
        let is_new = step.renames.iter().any(|(from, _)| made.contains(from));
        if moves_between_schemas(step) || (has_triggers && is_new) {
            found.insert(step.n);
            made.clear();
        }
        made.extend(&step.names[..step.targets]);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> TableName {
        text.parse().unwrap()
    }

    fn step(n: u64, names: &[&str], renames: &[(&str, &str)]) -> DdlStep {
        DdlStep {
            n,
            names: names.iter().map(|name| table(name)).collect(),
            targets: names.len(),
            gone: Vec::new(),
            renames: renames.iter().map(|(from, to)| (table(from), table(to))).collect(),
        }
    }

    #[test]
    fn a_segment_stops_before_a_new_table_takes_anothers_place_and_before_one_leaves_its_schema() {
        let cut_over = [("g.t", "g._t_del"), ("g._t_gho", "g.t")];
        let names = ["g.t", "g._t_del", "g._t_gho", "g.t"];
        let ddls = [
            step(3, &["g._t_gho"], &[]),
            step(4, &["g._t_gho"], &[]),
            step(9, &names, &cut_over),
            // The next migration's ghost was there before the segment, as far as we know.
            step(12, &names, &cut_over),
            step(14, &["g.t", "h.t"], &[("g.t", "h.t")]),
        ];
        let none = Executed::default();
        assert_eq!(stops(&ddls, &none, true), BTreeSet::from([9, 12, 14]));
        assert_eq!(stops(&ddls[3..], &none, true), BTreeSet::from([14]));
        assert_eq!(stops(&ddls, &none, false), BTreeSet::from([14]));
        assert!(stops(&ddls, &Executed::up_to(14), true).is_empty());
    }
}
