//! `/v1/stream`, `/v1/status` and `/v1/token`: how the stream is, how everything is, who asks.
//!
//! With `after`, `/v1/stream` waits for news. It answers as soon as there is an entry behind `after`, or the head is
//! written anew otherwise; with 204 when the time is over, or the service or the connection is about to end. What
//! breaks meanwhile loses nothing: whoever waits asks again.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use tokio::time::{Instant, sleep_until};

use super::api::{Status, Stream, TokenInfo};
use super::auth::{Caller, Schemes};
use super::dumps::{jobs, named};
use super::overview;
use super::peers::Seat;
use super::problem::{Problem, Usual};
use super::service::{self, Service};
use super::tokens::Scope;
use super::watcher::{Seen, Watcher};
use crate::source::migrations::{self, Reported};
use crate::stream::{Head, Key};

/// How long news are waited for, in seconds, unless the request says so, and at most. Many a proxy gives up after 30.
const WAIT: u64 = 25;
const LONGEST_WAIT: u64 = 30;

/// The query.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    after: Option<u64>,
    wait: Option<u64>,
}

/// Show the stream
#[utoipa::path(
    get, path = "/v1/stream", operation_id = "showStream", tag = "stream",
    params(
        ("after" = Option<u64>, Query, description = "Answer only when the stream has an entry behind this one, or its head is written anew"),
        ("wait" = Option<u64>, Query, description = "With `after`: wait so many seconds at most, else 25; more than 30 count as 30"),
    ),
    responses(
        (status = 200, description = "The stream", body = Stream),
        (status = 204, description = "Nothing new has come: ask again"),
        (status = 400, description = "A query that cannot be understood", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "A token without the scope `read`", body = Problem, content_type = "application/problem+json"),
        Usual,
    ),
    security(("token" = ["read"])),
)]
pub async fn stream(
    State(service): State<Arc<Service>>,
    Extension(seat): Extension<Arc<Seat>>,
    headers: HeaderMap,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Problem> {
    let waits = matches!(&asked, Ok(Query(Asked { after: Some(_), .. })));
    let caller = match waits {
        true => Caller::waiting(&headers, &service)?,
        false => Caller::of(&headers, &service, Schemes::Bearer)?,
    };
    caller.must_have(Scope::Read)?;
    let Query(asked) = asked.map_err(|error| Problem::new("malformed", error.body_text()))?;
    let Some(after) = asked.after else {
        if asked.wait.is_some() {
            return Err(Problem::new("malformed", "`wait` stands without `after`")
                .hint("after=SEQ: the last entry that you have"));
        }
        let head = service.head().await?;
        return Ok(named(&caller, Json(Stream::of(&head, service.now()))));
    };
    let wait = Duration::from_secs(asked.wait.unwrap_or(WAIT).min(LONGEST_WAIT));
    let mut answer = match news(&service, &caller, &seat, after, wait).await? {
        Some(head) => named(&caller, Json(Stream::of(&head, service.now()))),
        None => named(&caller, StatusCode::NO_CONTENT),
    };
    answer.extensions_mut().insert(service::Usual);
    Ok(answer)
}

/// The head, as soon as it says something new to whoever has everything up to `after`. `None`: it did not.
async fn news(
    service: &Arc<Service>,
    caller: &Caller,
    seat: &Seat,
    after: u64,
    wait: Duration,
) -> Result<Option<Arc<Head>>, Problem> {
    let until = Instant::now() + wait;
    let _counted = service.limits.wait(&caller.token.name)?;
    // Before the head is read: what comes behind that is not missed.
    let mut seen = Watcher::watch(service);
    let (head, tag) = service.head_of(service::HEAD_AGE).await?;
    if head.last_seq.0 > after {
        return Ok(Some(head));
    }
    // Who has more than we know of only hears of what is behind that.
    let is_level = head.last_seq.0 == after;
    let Some(_idle) = seat.wait() else {
        return Err(Problem::new("too-many-requests", "too many wait for news already").retry_after(5));
    };
    loop {
        tokio::select! {
            () = sleep_until(until) => return Ok(None),
            () = seat.ending.cancelled() => return Ok(None),
            // The sender lives as long as the service.
            _ = seen.changed() => {}
        }
        let is_news = match &*seen.borrow_and_update() {
            Seen::Head { seq, etag } => *seq > after || (is_level && *etag != tag),
            Seen::Unreadable => true,
            Seen::Nothing => false,
        };
        if is_news {
            return Ok(Some(service.head().await?));
        }
    }
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
async fn whole(service: &Service) -> Result<Status, Problem> {
    let head = service.head().await?;
    let reports = migrations::reports(&*service.store, Key::REGIONS).await?;
    status_of(service, &head, &reports).await
}

/// How everything is, by this head and these reports.
pub async fn status_of(service: &Service, head: &Head, reports: &[Reported]) -> Result<Status, Problem> {
    for reported in reports {
        if let Ok(report) = &reported.report {
            service.history.report(report, head, reported.received_at);
        }
    }
    Ok(overview::status(head, reports, &jobs(service).await?, service.now()))
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
