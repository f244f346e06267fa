//! `/metrics`: what the service knows, for Prometheus.
//!
//! It answers also while the bucket does not: then it tells that, and what it has counted itself, and nothing of the
//! stream or the regions. A figure that is not known is left out. Each region is read by itself: one whose report cannot be
//! read takes no other with it, and is told as such, lest its alerts end because nobody sees it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use futures::StreamExt;
use tokio::time::{Instant, timeout_at};

use super::api::{JobState, Region, RegionState};
use super::auth::Caller;
use super::dumps::{jobs, named};
use super::openapi;
use super::problem::Problem;
use super::regions::judge;
use super::service::{self, Service};
use super::tokens::Scope;
use crate::metrics::catalogue as m;
use crate::metrics::{Base, MEDIA_TYPE, Metric, Samples, figure, textfile, timestamp};
use crate::source::{figures, migrations};
use crate::stream::{Head, Key, Request};

/// How long the bucket may take: Prometheus gives up after 10 s unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(7);
/// How many reports are read side by side.
const READERS: usize = 16;
/// The longest name and version that is told of a region's program.
const PROGRAM: usize = 64;

/// Figures for Prometheus
///
/// In Prometheus' text format 0.0.4. Reads the head, every region's report and every request for a dump from the bucket.
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics", tag = "health",
    responses(
        (status = 200, description = "The figures; without those of the bucket if that does not answer", content_type = "text/plain"),
        (status = 401, description = "No token, or a wrong one", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "A token without the scope `read`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "Too many requests; see Retry-After", body = Problem, content_type = "application/problem+json"),
    ),
    security(("token" = ["read"])),
)]
pub async fn metrics(State(service): State<Arc<Service>>, caller: Caller) -> Result<Response, Problem> {
    caller.must_have(Scope::Read)?;
    let mut samples = Samples::default();
    let (stream, base) = (service.name.as_str(), base(&service));
    bucket(&service, stream, Instant::now() + PATIENCE, &mut samples).await;
    samples.extend(service.meters.samples(&base));
    samples.extend(textfile::build_info(&base));
    samples.set(&m::SERVICE_START, &[stream], timestamp(service.started));
    samples.tell_ages(service.now());
    let mut answer = named(&caller, samples.to_text());
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    answer.extensions_mut().insert(service::Usual);
    Ok(answer)
}

/// Counts an answer. A path that no route fits is the caller's choice, and no label.
pub fn answered(service: &Service, path: &str, method: &Method, status: StatusCode) {
    let route = openapi::route(path).unwrap_or("other");
    let method = match *method {
        Method::GET | Method::POST | Method::PUT | Method::DELETE | Method::HEAD => method.as_str(),
        _ => "other",
    };
    service.meters.add(&m::HTTP_REQUESTS, &[route, method, status.as_str()], 1.0);
}

fn base(service: &Service) -> Base {
    let stream = service.name.clone();
    Base { stream, role: "source".into(), region: String::new(), command: "serve".into() }
}

/// What the bucket tells until then.
async fn bucket(service: &Service, stream: &str, until: Instant, samples: &mut Samples) {
    // Until it has been read.
    samples.set(&m::STREAM_READABLE, &[stream], 0.0);
    let Ok(Ok(head)) = timeout_at(until, service.head()).await else { return };
    samples.set(&m::STREAM_READABLE, &[stream], 1.0);
    for (metric, value) in figures::of_head(&head) {
        samples.set(metric, &[stream], value);
    }
    let paused = head.pause(service.now());
    samples.set(&m::STREAM_PAUSED, &[stream], f64::from(u8::from(paused.is_some())));
    samples.set(&m::STREAM_PAUSED_SINCE, &[stream], paused.and_then(|paused| timestamp(paused.since)));
    let mut of_jobs = Samples::default();
    let queue = async {
        of_jobs.set(&m::DUMP_JOBS_READABLE, &[stream], 0.0);
        match jobs(service).await {
            Ok(jobs) => {
                of_jobs.set(&m::DUMP_JOBS_READABLE, &[stream], 1.0);
                dumps(&jobs, stream, &mut of_jobs);
            }
            Err(problem) => tracing::warn!("the requests for dumps cannot be read: {problem:?}"),
        }
    };
    // What has been found when the time is over is told.
    let _ =
        tokio::join!(timeout_at(until, queue), timeout_at(until, regions(service, &head, stream, samples)));
    samples.extend(of_jobs);
}

/// Every region that has ever reported, and which of them cannot be read.
async fn regions(service: &Service, head: &Head, stream: &str, samples: &mut Samples) {
    samples.set(&m::REGIONS_READABLE, &[stream], 0.0);
    let listed = match migrations::listed(&*service.store, Key::REGIONS).await {
        Ok(listed) => listed,
        Err(error) => {
            tracing::warn!("the regions' reports cannot be listed: {error}");
            return;
        }
    };
    samples.set(&m::REGIONS_READABLE, &[stream], 1.0);
    for (name, listed) in &listed {
        // Until it has been read.
        samples.set(&m::REGION_READABLE, &[stream, name], 0.0);
        samples.set(&m::REGION_REPORT, &[stream, name], timestamp(listed.modified));
    }
    let read = listed.into_iter().map(|(name, listed)| async move {
        (migrations::reported(&*service.store, name.clone(), &listed).await, name)
    });
    let mut reading = futures::stream::iter(read).buffer_unordered(READERS);
    let (mut fetched, mut failed) = (0, 0);
    while let Some((reported, name)) = reading.next().await {
        let (regions, unreadable) = match reported {
            Ok(Some(reported)) => {
                fetched += 1;
                samples.set(&m::REGIONS_READABLE, &[stream], 1.0);
                judge(&[reported], head, service.now())
            }
            Ok(None) => {
                // Forgotten in between.
                samples.retain(|_, values| values.get(1) != Some(&name));
                continue;
            }
            Err(error) => {
                tracing::warn!("the report of region {name} cannot be read: {error}");
                failed += 1;
                // None at all: that is the store's trouble, and no region's.
                samples.set(&m::REGIONS_READABLE, &[stream], f64::from(fetched > 0 || failed < 2));
                continue;
            }
        };
        for report in unreadable {
            tracing::warn!("the report of region {name} is passed over: {}", report.error);
        }
        for one in &regions {
            samples.set(&m::REGION_READABLE, &[stream, &name], 1.0);
            region(one, head, stream, samples);
        }
    }
}

fn dumps(jobs: &[Request], stream: &str, samples: &mut Samples) {
    use JobState::{Cancelled, Failed, Queued, Running, Uploaded};
    for state in [Queued, Running, Uploaded, Failed, Cancelled] {
        let count = jobs.iter().filter(|job| JobState::from(job.state) == state).count();
        samples.set(&m::DUMP_JOBS, &[stream, state.name()], figure(count as u64));
    }
    let oldest = jobs.iter().filter(|job| !job.state.is_final()).map(|job| job.created_at).min();
    samples.set(&m::DUMP_JOB_OLDEST, &[stream], oldest.and_then(timestamp));
    let running = jobs.iter().filter(|job| JobState::from(job.state) == Running);
    let heard = running.map(|job| job.updated_at).max();
    samples.set(&m::DUMP_JOB_PROGRESS, &[stream], heard.and_then(timestamp));
}

fn region(region: &Region, head: &Head, stream: &str, samples: &mut Samples) {
    let report = &region.report;
    let name = report.region.as_str();
    for state in RegionState::ALL {
        let is = f64::from(u8::from(state == region.state));
        samples.set(&m::REGION_STATE, &[stream, name, state.name()], is);
    }
    let behind = region.behind_entries.map(|_| head.last_tx.0.saturating_sub(report.last_tx));
    let skew = (report.reported_at - region.received_at).num_milliseconds() as f64 / 1e3;
    let paused = report.paused.as_ref();
    let figures: [(&'static Metric, Option<f64>); 13] = [
        (&m::REGION_AS_OF, report.as_of.and_then(timestamp)),
        (&m::REGION_SEQ, Some(figure(report.seq))),
        (&m::REGION_TX, Some(figure(report.last_tx))),
        (&m::REGION_BEHIND_ENTRIES, region.behind_entries.map(figure)),
        (&m::REGION_BEHIND_TRANSACTIONS, behind.map(figure)),
        (&m::REGION_QUARANTINED, Some(figure(report.quarantined.len() as u64))),
        (&m::REGION_DRIFTED, Some(figure(report.drifted.len() as u64))),
        (&m::REGION_CHECKED, report.checked_at.and_then(timestamp)),
        (&m::REGION_RESTORING, Some(figure(report.restoring.len() as u64))),
        (&m::REGION_PAUSED, Some(f64::from(u8::from(paused.is_some())))),
        (&m::REGION_PAUSED_SINCE, paused.and_then(|paused| timestamp(paused.since))),
        (&m::REGION_REPORT, timestamp(region.received_at)),
        (&m::REGION_SKEW, Some(skew)),
    ];
    for (metric, value) in figures {
        samples.set(metric, &[stream, name], value);
    }
    samples.set(&m::REGION_INFO, &[stream, name, &program(&report.version)], 1.0);
}

/// A name and a version, of what may be any text: a label is kept by Prometheus for as long as its history.
fn program(version: &str) -> String {
    let is_fit = |c: &char| c.is_ascii_alphanumeric() || " .+-_".contains(*c);
    version.chars().filter(is_fit).take(PROGRAM).collect()
}
