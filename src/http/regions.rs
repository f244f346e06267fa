//! `/v1/regions`: where the regions stand, as they report it themselves.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Duration, Utc};

use super::api::{Region, RegionState, Regions, Report, Unreadable};
use super::auth::Caller;
use super::body;
use super::dumps::{named, part};
use super::problem::{Problem, Usual};
use super::service::Service;
use super::tokens::{Scope, is_region_name};
use crate::error::Result;
use crate::source::migrations::{self, Reported, SILENT_AFTER};
use crate::store::{Fetched, Store};
use crate::stream::{Head, Key, RegionReport};

/// With entries to apply, and so much older than now, a region is behind.
pub const BEHIND_AFTER: Duration = Duration::minutes(5);

/// Report where a region stands
///
/// The last report is kept, whatever it says. Prune deletes nothing that a region which reported has yet to read.
#[utoipa::path(
    put, path = "/v1/regions/{name}", operation_id = "reportRegion", tag = "regions", request_body = Report,
    params(("name" = String, Path, description = "The region")),
    responses(
        (status = 204, description = "Noted"),
        (status = 400, description = "Not JSON, or not this shape", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Another region's token, or one without the scope `report`", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The report is about another stream", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "More than 512 KiB", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Not application/json", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A report that cannot be true, or of another region than the path's", body = Problem, content_type = "application/problem+json"),
        Usual,
    ),
    security(("token" = ["report"])),
)]
pub async fn report(
    State(service): State<Arc<Service>>,
    caller: Caller,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let name = part(name);
    caller.must_have(Scope::Report)?;
    caller.must_act_for(&name)?;
    if !is_region_name(&name) {
        return Err(Problem::new("invalid", "the path's last part is no name of a region"));
    }
    let report: RegionReport = body::json(request, body::REPORT_LIMIT).await?;
    let head = service.head().await?;
    check(&report, &name, &head)?;
    put(&*service.store, &report).await?;
    service.history.report(&report, &head, service.now());
    Ok(named(&caller, StatusCode::NO_CONTENT))
}

fn check(report: &RegionReport, name: &str, head: &Head) -> Result<(), Problem> {
    if report.region != name {
        return Err(Problem::new(
            "invalid",
            format!("the report is of region {:?}, the path says {name:?}", report.region),
        ));
    }
    report.validate().map_err(|error| Problem::new("invalid", error.to_string()))?;
    if report.stream != head.stream {
        let detail =
            format!("the region follows stream {}, this service serves {}", report.stream, head.stream);
        return Err(Problem::new("other-stream", detail)
            .hint("`store` in the region's config and in the source's must name the same place"));
    }
    Ok(())
}

/// Puts the report in the place of the one before. Where another one came in between, the two were sent at the same
/// time, and it is as if this one had come first.
pub(crate) async fn put(store: &dyn Store, report: &RegionReport) -> Result<()> {
    let (key, bytes) = (Key::region(&report.region)?, report.to_json()?);
    let etag = match store.get(&key, None).await {
        Ok(Fetched::Object { etag, .. }) => Some(etag),
        Ok(Fetched::Unchanged) => None,
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error),
    };
    match store.swap(&key, &bytes, etag.as_ref()).await {
        Err(error) if error.is_conflict() => Ok(()),
        result => result.map(drop),
    }
}

/// List the regions
#[utoipa::path(
    get, path = "/v1/regions", operation_id = "listRegions", tag = "regions",
    responses(
        (status = 200, description = "Every region that has ever reported", body = Regions),
        (status = 403, description = "A token without the scope `read`", body = Problem, content_type = "application/problem+json"),
        Usual,
    ),
    security(("token" = ["read"])),
)]
pub async fn list(State(service): State<Arc<Service>>, caller: Caller) -> Result<Response, Problem> {
    caller.must_have(Scope::Read)?;
    let reports = migrations::reports(&*service.store, Key::REGIONS).await?;
    let (regions, unreadable) = judge(&reports, &*service.head().await?, service.now());
    Ok(named(&caller, Json(Regions { regions, unreadable })))
}

/// Show a region
#[utoipa::path(
    get, path = "/v1/regions/{name}", operation_id = "showRegion", tag = "regions",
    params(("name" = String, Path, description = "The region")),
    responses(
        (status = 200, description = "The region", body = Region),
        (status = 403, description = "A token without the scope `read`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "It has never reported", body = Problem, content_type = "application/problem+json"),
        Usual,
    ),
    security(("token" = ["read"])),
)]
pub async fn show(
    State(service): State<Arc<Service>>,
    caller: Caller,
    name: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let name = part(name);
    caller.must_have(Scope::Read)?;
    let missing = || {
        Problem::new("not-found", "no region of this name has ever reported")
            .hint("GET /v1/regions lists those that have")
    };
    if !is_region_name(&name) {
        return Err(missing());
    }
    let key = Key::region(&name)?;
    let listed = migrations::listed(&*service.store, key.as_str()).await?;
    let (name, listed) = listed.into_iter().find(|(listed, _)| *listed == name).ok_or_else(missing)?;
    let report = migrations::reported(&*service.store, name, &listed).await?.ok_or_else(missing)?;
    let (mut regions, mut unreadable) = judge(&[report], &*service.head().await?, service.now());
    if let Some(Unreadable { region, error, .. }) = unreadable.pop() {
        tracing::warn!("the report of region {region}: {error}");
        return Err(Problem::new("failed", "the last report of this region cannot be read")
            .hint("the service's log says why; the region's next report takes its place"));
    }
    Ok(named(&caller, Json(regions.pop().ok_or_else(missing)?)))
}

/// How every region is, and those of which nobody knows.
pub fn judge(reports: &[Reported], head: &Head, now: DateTime<Utc>) -> (Vec<Region>, Vec<Unreadable>) {
    let (mut regions, mut unreadable) = (Vec::new(), Vec::new());
    for Reported { region: name, received_at, report } in reports {
        let (name, received_at) = (name.clone(), *received_at);
        match report {
            Ok(report) => regions.push(region(report.clone(), head, received_at, now)),
            Err(error) => unreadable.push(Unreadable { region: name, received_at, error: error.clone() }),
        }
    }
    (regions, unreadable)
}

fn region(mut report: RegionReport, head: &Head, received_at: DateTime<Utc>, now: DateTime<Utc>) -> Region {
    let age = (now - received_at).max(Duration::zero());
    report.paused = report.paused.filter(|paused| !paused.is_over(now));
    let is_here = report.stream == head.stream;
    let behind_entries = is_here.then(|| head.last_seq.0.saturating_sub(report.seq.0));
    let is_old = report.as_of.is_none_or(|as_of| now - as_of > BEHIND_AFTER);
    let state = if age > SILENT_AFTER {
        RegionState::Silent
    } else if report.paused.is_some() {
        RegionState::Paused
    } else if report.last_error.is_some() || !is_here {
        RegionState::Failing
    } else if !report.quarantined.is_empty() {
        RegionState::Quarantined
    } else if !report.restoring.is_empty() {
        RegionState::Restoring
    } else if is_old && behind_entries != Some(0) {
        RegionState::Behind
    } else {
        RegionState::Ok
    };
    let age_seconds = u64::try_from(age.num_seconds()).unwrap_or(0);
    Region { state, received_at, age_seconds, behind_entries, report: report.into() }
}
