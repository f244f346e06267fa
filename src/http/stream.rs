//! `/v1/stream`, `/v1/status` and `/v1/token`: how the stream is, how everything is, who asks.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;

use super::api::{Job, Status, Stream, TokenInfo, known_time};
use super::auth::Caller;
use super::dumps::{jobs, named};
use super::problem::{Problem, Usual};
use super::regions::regions;
use super::service::Service;
use super::tokens::Scope;
use crate::stream::Key;

/// Show the stream
#[utoipa::path(
    get, path = "/v1/stream", operation_id = "showStream", tag = "stream",
    responses(
        (status = 200, description = "The stream", body = Stream),
        (status = 403, description = "A token without the scope `read`", body = Problem, content_type = "application/problem+json"),
        Usual,
    ),
    security(("token" = ["read"])),
)]
pub async fn stream(State(service): State<Arc<Service>>, caller: Caller) -> Result<Response, Problem> {
    caller.must_have(Scope::Read)?;
    let head = service.head().await?;
    Ok(named(&caller, Json(Stream::from(&*head))))
}

/// Show how everything is
#[utoipa::path(
    get, path = "/v1/status", operation_id = "showStatus", tag = "stream",
    responses(
        (status = 200, description = "Stream, regions and pending jobs", body = Status),
        (status = 403, description = "A token without the scope `read`", body = Problem, content_type = "application/problem+json"),
        Usual,
    ),
    security(("token" = ["read"])),
)]
pub async fn status(State(service): State<Arc<Service>>, caller: Caller) -> Result<Response, Problem> {
    caller.must_have(Scope::Read)?;
    let status = whole(&service).await?;
    Ok(named(&caller, Json(status)))
}

/// How everything is.
pub async fn whole(service: &Service) -> Result<Status, Problem> {
    let head = service.head().await?;
    let regions = regions(service, &head, Key::REGIONS).await?;
    let jobs = jobs(service).await?;
    let pending = jobs.iter().filter(|job| !job.state.is_final()).map(Job::from).collect();
    let lag = known_time(head.as_of).map(|as_of| (service.now() - as_of).num_seconds());
    let lag_seconds = lag.map(|seconds| u64::try_from(seconds).unwrap_or(0));
    Ok(Status { stream: Stream::from(&*head), lag_seconds, regions, pending })
}

/// Show what the presented token is good for
#[utoipa::path(
    get, path = "/v1/token", operation_id = "showToken", tag = "stream",
    responses(
        (status = 200, description = "The token's name, region and scopes", body = TokenInfo),
        (status = 401, description = "No token, or a wrong one", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "Too many requests; see Retry-After", body = Problem, content_type = "application/problem+json"),
    ),
    security(("token" = [])),
)]
pub async fn token(caller: Caller) -> Response {
    named(&caller, Json(TokenInfo::from(&caller.token)))
}
