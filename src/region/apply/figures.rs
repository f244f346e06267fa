//! The figures of a run of apply, for its text file.

use super::Report;
use crate::metrics::catalogue::{
    APPLY_BYTES, APPLY_ENTRIES, APPLY_QUARANTINES, APPLY_SKIPPED, APPLY_TRANSACTIONS, REGION_AS_OF,
    REGION_BEHIND_ENTRIES, REGION_BEHIND_TRANSACTIONS, REGION_CHECKED, REGION_DRIFTED, REGION_QUARANTINED,
    REGION_SEQ, REGION_TX, RETRIES,
};
use crate::metrics::{Meters, figure, timestamp};
use crate::region::checked::TableCheck;
use crate::region::plan::Point;
use crate::region::quarantine::Reason;

/// What of a report has been told.
#[derive(Clone, Debug, Default)]
pub(in crate::region) struct Figures {
    pub(super) meters: Meters,
    /// Transactions, transactions skipped, entries.
    counted: [u64; 3],
    /// Where the region stands has been read.
    pub(super) is_placed: bool,
    /// Where the stream ends that was read last.
    pub(super) end: Option<Point>,
}

impl Figures {
    pub(super) fn new(meters: Meters) -> Figures {
        Figures { meters, ..Figures::default() }
    }

    /// Brings the figures up to what the report says.
    pub(super) fn tell(report: &mut Report) {
        let meters = report.figures.meters.clone();
        let figures = &mut report.figures;
        let now = [report.transactions, report.skipped, report.entries];
        let metrics = [&APPLY_TRANSACTIONS, &APPLY_SKIPPED, &APPLY_ENTRIES];
        for (metric, (now, before)) in metrics.into_iter().zip(now.into_iter().zip(figures.counted)) {
            meters.add(metric, &[], figure(now - before));
        }
        figures.counted = now;
        if !figures.is_placed {
            return;
        }
        meters.set(&REGION_AS_OF, &[], report.as_of.and_then(timestamp));
        meters.set(&REGION_SEQ, &[], figure(report.seq));
        meters.set(&REGION_TX, &[], figure(report.last_tx));
        if let Some(end) = figures.end {
            meters.set(&REGION_BEHIND_ENTRIES, &[], figure(end.seq.saturating_sub(report.seq)));
            meters.set(&REGION_BEHIND_TRANSACTIONS, &[], figure(end.last_tx.saturating_sub(report.last_tx)));
        }
    }

    pub(super) fn quarantined(&self, tables: usize) {
        self.meters.set(&REGION_QUARANTINED, &[], figure(tables as u64));
    }

    /// What checks have shown so far.
    pub(super) fn compared(&self, known: &[TableCheck]) {
        let drifted = known.iter().filter(|table| table.drift.is_some()).count();
        self.meters.set(&REGION_DRIFTED, &[], figure(drifted as u64));
        if let Some(last) = known.iter().filter_map(TableCheck::compared_at).max() {
            self.meters.set(&REGION_CHECKED, &[], timestamp(last));
        }
    }

    pub(super) fn isolated(&self, reason: Reason) {
        self.meters.add(&APPLY_QUARANTINES, &[reason.name()], 1.0);
    }

    pub(super) fn applied(&self, bytes: u64) {
        self.meters.add(&APPLY_BYTES, &[], figure(bytes));
    }

    /// A segment is run again, because other sessions held its locks.
    pub(super) fn again(&self) {
        self.meters.add(&RETRIES, &[], 1.0);
    }
}
