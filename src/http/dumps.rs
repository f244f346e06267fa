//! `/v1/dumps`: asking for dumps, seeing what becomes of them, taking them back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request as HttpRequest, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::api::{DumpRequest, Job, JobState, Jobs};
use super::auth::{Caller, Name};
use super::body;
use super::problem::{Problem, Usual};
use super::service::Service;
use super::tokens::Scope;
use crate::binlog::name::TableName;
use crate::error::Kind;
use crate::source::dump::queue::{self, NewRequest, Queued};
use crate::stream::request::MAX_TABLES;
use crate::stream::{Head, Request, RequestId, RequestState};

/// Most characters of a reason.
const MAX_REASON: usize = 500;
/// Most characters of an Idempotency-Key.
const MAX_KEY: usize = 200;
/// How long a request waits for its turn at the queue.
const TURN: Duration = Duration::from_secs(10);

/// Ask for a dump of some tables
///
/// The answer is a job, to be looked at until its state is final. The same Idempotency-Key with the same body is
/// answered with the same job for ever. A job that is queued or running and covers the tables is answered with,
/// and the region waits for it as well: there is never more than one pending job for the same tables.
#[utoipa::path(
    post, path = "/v1/dumps", operation_id = "requestDump", tag = "dumps", request_body = DumpRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 200 visible characters; names this request for ever")),
    responses(
        (status = 202, description = "The job that will bring the dump", body = Job,
         headers(("Location" = String, description = "Where the job can be looked at"))),
        (status = 400, description = "Not JSON, not this shape, or an unfit Idempotency-Key", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Another region's token, or one without the scope `dump`", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "More than 64 KiB", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Not application/json", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A table outside the set, too many tables, or a used Idempotency-Key with another body", body = Problem, content_type = "application/problem+json"),
        Usual,
    ),
    security(("token" = ["dump"])),
)]
pub async fn request(
    State(service): State<Arc<Service>>,
    caller: Caller,
    request: HttpRequest,
) -> Result<Response, Problem> {
    caller.must_have(Scope::Dump)?;
    let key = idempotency_key(request.headers())?;
    let asked: DumpRequest = body::json(request, body::LIMIT).await?;
    caller.must_act_for(&asked.region)?;
    let head = service.head().await?;
    let new = new_request(&head, &asked, key.as_deref())?;
    let turn = tokio::time::timeout(TURN, service.changes.acquire()).await;
    let Ok(Ok(_turn)) = turn else {
        return Err(Problem::new("unavailable", "too many requests wait for their turn").retry_after(1));
    };
    let queued = queue::queue(&*service.store, &head, &*service.clock, &new, &service.known).await?;
    let (how, job) = match &queued {
        Queued::Made(job) => ("made", job),
        Queued::Joined(job) => ("joined", job),
        Queued::Again(job) => ("again", job),
        Queued::Full(oldest) => {
            let detail = format!(
                "region {:?} waits for {} dumps or more, or has asked for {} within an hour",
                asked.region,
                queue::MAX_PENDING,
                queue::MAX_AN_HOUR
            );
            return Err(Problem::new("too-many-requests", detail)
                .hint(format!("ask for several tables in one request; the oldest is job {}", oldest.id))
                .retry_after(60));
        }
        Queued::OtherBody(job) => {
            return Err(Problem::new(
                "key-reused",
                format!("this Idempotency-Key has been used for job {} with another body", job.id),
            )
            .hint("a key names one request for ever: use a fresh one for another"));
        }
    };
    tracing::info!(job = %job.id, how, region = asked.region, tables = new.tables.len(), "a dump is asked for");
    let location = HeaderValue::from_str(&format!("/v1/dumps/{}", job.id));
    let location = location.map_err(|_| Problem::new("failed", "a job's id is no header's value"))?;
    let answer = (StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(Job::from(job)));
    Ok(named(&caller, answer))
}

/// An answer, with the token's name for the log.
pub fn named(caller: &Caller, answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    response.extensions_mut().insert(Name(caller.token.name.clone()));
    response
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut given = headers.get_all("idempotency-key").iter();
    let Some(value) = given.next() else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| (1..=MAX_KEY).contains(&key.len()) && given.next().is_none());
    match key {
        Some(key) => Ok(Some(key.to_owned())),
        None => Err(Problem::new(
            "malformed",
            "the Idempotency-Key is not one text of 1 to 200 visible characters",
        )
        .hint("a UUID does well")),
    }
}

/// What is asked for, checked against the stream.
pub fn new_request(head: &Head, asked: &DumpRequest, key: Option<&str>) -> Result<NewRequest, Problem> {
    let count = asked.tables.len();
    if count == 0 || count > MAX_TABLES {
        return Err(Problem::new("invalid", format!("{count} tables are named, not 1 to {MAX_TABLES}")));
    }
    if asked.reason.chars().count() > MAX_REASON || asked.reason.chars().any(char::is_control) {
        let why = format!("the reason is not one line of at most {MAX_REASON} characters");
        return Err(Problem::new("invalid", why));
    }
    let mut tables = BTreeSet::new();
    for text in &asked.tables {
        let table: TableName = text.parse().map_err(|_| {
            let shown: String = text.chars().take(140).collect();
            Problem::new("invalid", format!("{shown:?} is not the name of a table"))
                .hint("name each table: schema.table; a part with odd characters stands in backquotes")
        })?;
        let set = &head.table_set.tables;
        if !set.names(&table) {
            let detail = format!("{table} is not in the table set of stream {}", head.name);
            return Err(Problem::new("not-in-set", detail).hint(format!("the set is {set}")));
        }
        tables.insert(table);
    }
    Ok(NewRequest::of_region(head.stream, &asked.region, tables, &asked.reason, key))
}

/// Which jobs are listed.
#[derive(Clone, Debug, Deserialize)]
pub struct Filter {
    state: Option<JobState>,
    region: Option<String>,
    limit: Option<usize>,
}

/// List jobs, the newest first
///
/// A token with `read` sees all of them, one with `dump` those that its region waits for.
#[utoipa::path(
    get, path = "/v1/dumps", operation_id = "listDumps", tag = "dumps",
    params(
        ("state" = Option<JobState>, Query, description = "Only jobs in this state"),
        ("region" = Option<String>, Query, description = "Only jobs that this region waits for"),
        ("limit" = Option<u32>, Query, description = "At most so many: 1 to 1,000, else 100"),
    ),
    responses(
        (status = 200, description = "Jobs", body = Jobs),
        (status = 400, description = "An unfit filter", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "A token with neither `read` nor `dump`", body = Problem, content_type = "application/problem+json"),
        Usual,
    ),
    security(("token" = ["read"]), ("token" = ["dump"])),
)]
pub async fn list(
    State(service): State<Arc<Service>>,
    caller: Caller,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Response, Problem> {
    may_look(&caller)?;
    let Query(filter) = filter.map_err(|error| Problem::new("malformed", error.body_text()))?;
    let limit = filter.limit.unwrap_or(100);
    if !(1..=1_000).contains(&limit) {
        return Err(Problem::new("malformed", format!("limit is {limit}, not 1 to 1000")));
    }
    let mut jobs = jobs(&service).await?;
    jobs.retain(|job| {
        sees(&caller, job)
            && filter.state.is_none_or(|state| RequestState::from(state) == job.state)
            && filter.region.as_ref().is_none_or(|region| job.regions.contains(region))
    });
    let dumps = jobs.iter().take(limit).map(Job::from).collect();
    Ok(named(&caller, Json(Jobs { dumps, total: jobs.len() })))
}

/// Every job, the newest first.
pub async fn jobs(service: &Service) -> Result<Vec<Request>, Problem> {
    let head = service.head().await?;
    let found = queue::all(&*service.store, head.stream, &service.known).await?;
    Ok(found.into_iter().rev().map(|found| found.request).collect())
}

fn may_look(caller: &Caller) -> Result<(), Problem> {
    match caller.token.may(Scope::Dump) {
        true => Ok(()),
        false => caller.must_have(Scope::Read),
    }
}

fn sees(caller: &Caller, job: &Request) -> bool {
    caller.token.may(Scope::Read) || job.regions.iter().any(|region| caller.token.acts_for(region))
}

/// Show a job
#[utoipa::path(
    get, path = "/v1/dumps/{id}", operation_id = "showDump", tag = "dumps",
    params(("id" = String, Path, description = "The job's id")),
    responses(
        (status = 200, description = "The job", body = Job),
        (status = 403, description = "A token with neither `read` nor `dump`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such job, or not one for this token to see", body = Problem, content_type = "application/problem+json"),
        Usual,
    ),
    security(("token" = ["read"]), ("token" = ["dump"])),
)]
pub async fn show(
    State(service): State<Arc<Service>>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    may_look(&caller)?;
    let job = find(&service, &caller, &part(id)).await?;
    Ok(named(&caller, Json(Job::from(&job))))
}

/// What stands in the path; nothing, if that is no text at all: then there is nothing of that name.
pub fn part(part: Result<Path<String>, PathRejection>) -> String {
    part.map(|Path(part)| part).unwrap_or_default()
}

async fn find(service: &Service, caller: &Caller, id: &str) -> Result<Request, Problem> {
    let head = service.head().await?;
    let missing = || {
        Problem::new("not-found", "there is no such job")
            .hint("GET /v1/dumps (`tablecast dump list`) lists those there are")
    };
    let id: RequestId = id.parse().map_err(|_| missing())?;
    match queue::read(&*service.store, &id).await {
        Ok((job, _)) if job.stream == head.stream && sees(caller, &job) => Ok(job),
        Ok(_) => Err(missing()),
        Err(error) if error.is_not_found() => Err(missing()),
        Err(error) => Err(error.into()),
    }
}

/// Take a job back
///
/// Where other regions wait for it too, only the token's own region leaves, and the job goes on. A token with
/// `admin` ends it for all.
#[utoipa::path(
    delete, path = "/v1/dumps/{id}", operation_id = "cancelDump", tag = "dumps",
    params(("id" = String, Path, description = "The job's id")),
    responses(
        (status = 200, description = "The job as it is now", body = Job),
        (status = 403, description = "A token without the scope `dump`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such job that the token's region waits for", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It is uploaded or has failed already", body = Problem, content_type = "application/problem+json"),
        Usual,
    ),
    security(("token" = ["dump"])),
)]
pub async fn cancel(
    State(service): State<Arc<Service>>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    caller.must_have(Scope::Dump)?;
    let job = find(&service, &caller, &part(id)).await?;
    match queue::cancel(&*service.store, &*service.clock, &job.id, caller.region()).await {
        Ok(job) => {
            tracing::info!(job = %job.id, state = %job.state, token = caller.token.name, "a job is taken back");
            Ok(named(&caller, Json(Job::from(&job))))
        }
        Err(error) if error.is_not_found() => {
            let problem = Problem::new("not-found", "this region does not wait for that job");
            Err(problem
                .hint("only whoever waits for a job takes it back: `tablecast dump list` says who does"))
        }
        Err(error) if error.kind() == Kind::Conflict => {
            let problem = Problem::new("finished", format!("job {} is {}", job.id, job.state));
            Err(problem.hint("what is over cannot be taken back"))
        }
        Err(error) => Err(error.into()),
    }
}
