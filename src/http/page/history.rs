//! What a service has seen of lag and throughput while it runs: of the stream by its heads, of each region by its reports.
//!
//! Kept in memory and bounded; a service that starts again begins anew, but for what the head's own entries tell, and says since
//! when it knows. A time of which nothing is known is a gap, never a zero.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};

use crate::http::api::known_time;
use crate::stream::{Body, Entry, Head, RegionReport};

/// One point is kept for each minute, the worst of it.
const SLOT: i64 = 60;
/// For so long.
const KEPT: TimeDelta = TimeDelta::hours(24);
/// Of so many regions; of further ones nothing is kept. With all of them a service takes 4 MiB for it.
pub const MAX_REGIONS: usize = 100;
/// Between two points further apart than this nothing is known. What a region reports every five minutes is no gap yet.
pub const GAP: TimeDelta = TimeDelta::minutes(6);

#[derive(Debug, Default)]
pub struct History(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    stream: Track,
    regions: BTreeMap<String, Track>,
}

/// What was seen at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    pub at: DateTime<Utc>,
    /// In seconds; absent if nobody knew.
    pub lag: Option<u32>,
    /// The last stream transaction.
    pub tx: u64,
}

/// The points of one region, or of the stream, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Track(VecDeque<Point>);

impl History {
    pub fn new() -> History {
        History::default()
    }

    /// A head, as it was read just now. Its entries tell what was shipped since the last one, and how old it was then; the first
    /// head tells of a time before this service.
    pub fn head(&self, head: &Head, now: DateTime<Utc>) {
        let mut inner = self.lock();
        let last = inner.stream.0.back().map(|point| point.tx);
        let is_new =
            |entry: &&Entry| last.is_none_or(|last| entry.up_to().0 > last) && now - entry.created_at <= KEPT;
        let new: Vec<&Entry> = head.entries.iter().rev().take_while(is_new).collect();
        for entry in new.into_iter().rev() {
            if let Body::Segment(segment) = &entry.body
                && entry.created_at < now
            {
                let lag = lag(Some(segment.last_commit), entry.created_at);
                inner.stream.push(Point { at: entry.created_at, lag, tx: segment.last_tx.0 });
            }
        }
        inner.stream.push(Point { at: now, lag: lag(known_time(head.as_of), now), tx: head.last_tx.0 });
    }

    /// A report, and when it came. One that was seen before changes nothing.
    pub fn report(&self, report: &RegionReport, head: &Head, received_at: DateTime<Utc>) {
        if report.stream != head.stream {
            return;
        }
        let point = Point { at: received_at, lag: lag(report.as_of, received_at), tx: report.last_tx.0 };
        let mut inner = self.lock();
        if inner.regions.len() >= MAX_REGIONS && !inner.regions.contains_key(&report.region) {
            return;
        }
        inner.regions.entry(report.region.clone()).or_default().push(point);
    }

    pub fn stream(&self) -> Track {
        self.lock().stream.clone()
    }

    /// Empty: nothing is known of it.
    pub fn region(&self, name: &str) -> Track {
        self.lock().regions.get(name).cloned().unwrap_or_default()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lag(as_of: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Option<u32> {
    as_of.map(|as_of| u32::try_from((now - as_of).num_seconds().max(0)).unwrap_or(u32::MAX))
}

impl Track {
    fn push(&mut self, point: Point) {
        match self.0.back_mut() {
            // The store's clock and ours may differ a little, and who is first told need not be first.
            Some(last) if point.at <= last.at => return,
            Some(last) if last.at.timestamp() / SLOT == point.at.timestamp() / SLOT => {
                // A region that falls back to an older state starts anew.
                *last = Point { lag: last.lag.max(point.lag), ..point };
            }
            _ => self.0.push_back(point),
        }
        while self.0.front().is_some_and(|first| point.at - first.at > KEPT) {
            self.0.pop_front();
        }
    }

    /// Since when something is known.
    pub fn since(&self) -> Option<DateTime<Utc>> {
        self.0.front().map(|point| point.at)
    }

    /// The points from a time on, and the last one before it, from which a line comes in.
    pub fn from(&self, begin: DateTime<Utc>) -> Vec<Point> {
        let first = self.0.iter().rposition(|point| point.at < begin).unwrap_or(0);
        self.0.iter().skip(first).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_248_000 + second, 0).expect("a time")
    }

    #[test]
    fn a_history_is_bounded_and_keeps_the_worst_of_each_minute() {
        let mut track = Track::default();
        for second in (0..30 * 3_600).step_by(20) {
            track.push(Point {
                at: at(second),
                lag: Some(u32::try_from(second % 60).unwrap()),
                tx: second.unsigned_abs(),
            });
        }
        assert!(track.0.len() <= 24 * 60 + 1, "{}", track.0.len());
        assert!(track.0.iter().all(|point| point.lag == Some(40)), "the worst of each minute");
        assert_eq!(track.0.back().unwrap().at, at(30 * 3_600 - 20));
        assert_eq!(track.from(at(30 * 3_600 - 130)).len(), 3, "those since then, and the one before");
        // What is told twice, or late, changes nothing.
        let before = track.0.len();
        track.push(Point { at: at(5), lag: Some(9_999), tx: 1 });
        assert_eq!((track.0.len(), track.0.back().unwrap().lag), (before, Some(40)));
    }
}
