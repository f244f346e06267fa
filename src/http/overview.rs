//! How everything is, judged from what lies in the bucket. The service shows it to whoever asks; `status --all` looks
//! for itself where there is no service.

use chrono::{DateTime, Utc};

use super::api::{Job, Status, Stream, known_time};
use super::regions::judge;
use crate::error::Result;
use crate::source::dump::queue::{self, Known};
use crate::source::migrations::{self, Reported};
use crate::store::Store;
use crate::stream::{Head, Key, Request};

/// By this head, these reports and these requests for dumps.
pub fn status(head: &Head, reports: &[Reported], jobs: &[Request], now: DateTime<Utc>) -> Status {
    let (regions, unreadable) = judge(reports, head, now);
    let pending = jobs.iter().filter(|job| !job.state.is_final()).map(Job::from).collect();
    let lag = known_time(head.as_of).map(|as_of| (now - as_of).num_seconds());
    let lag_seconds = lag.map(|seconds| u64::try_from(seconds).unwrap_or(0));
    Status { stream: Stream::of(head, now), lag_seconds, regions, unreadable, pending }
}

/// Reads reports and requests from the bucket. `known`: requests that are over, and need not be read again.
pub async fn of_bucket(store: &dyn Store, head: &Head, known: &Known, now: DateTime<Utc>) -> Result<Status> {
    let reports = migrations::reports(store, Key::REGIONS).await?;
    let found = queue::all(store, head.stream, known).await?;
    let jobs: Vec<Request> = found.into_iter().rev().map(|found| found.request).collect();
    Ok(status(head, &reports, &jobs, now))
}
