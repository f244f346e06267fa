//! What every route shares: the bucket, the head as it was a moment ago, the tokens, the limits; and the way
//! of a request through them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use chrono::{DateTime, Utc};
use futures::FutureExt;
use tokio::sync::{Mutex, Semaphore};
use tower_http::timeout::TimeoutLayer;
use uuid::Uuid;

use super::auth::Name;
use super::limits::Limits;
use super::migrations::Sight;
use super::page::history::History;
use super::page::runbooks;
use super::peers::{Peers, Seat};
use super::problem::{self, Problem};
use super::tokens::Tokens;
use super::watched::Watched;
use super::watcher::Watcher;
use super::{dumps, health, metrics, migrations, openapi, page, regions, stream};
use crate::clock::Clock;
use crate::config::{Config, WATCH};
use crate::error::{Error, Kind, Result};
use crate::metrics::Meters;
use crate::source::dump::queue::Known;
use crate::store::head::{self, Read};
use crate::store::{Etag, Store};
use crate::stream::Head;

/// How old the head may be that an answer is made from.
pub const HEAD_AGE: Duration = Duration::from_millis(500);
/// How long the store may take for the head.
const HEAD_TIME: Duration = Duration::from_secs(8);
/// How long any request may take, once its body is there.
const REQUEST_TIME: Duration = Duration::from_secs(40);
/// How many requests may change the queue at once; each costs several requests to the store.
const CHANGES: usize = 8;

pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The state of a service. None of it outlives the process, and none has to.
pub struct Service {
    /// What the config calls the stream.
    pub name: String,
    pub started: DateTime<Utc>,
    pub meters: Meters,
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub tokens: Watched<Tokens>,
    pub limits: Limits,
    pub peers: Peers,
    /// Requests for dumps that are over.
    pub known: Known,
    pub changes: Semaphore,
    /// Looks at the head for those who wait for news.
    pub watcher: Watcher,
    /// The source's MySQL, for those who ask about migrations.
    pub sight: Sight,
    /// What was seen of lag and throughput, for the page.
    pub history: History,
    head: Mutex<Option<Seen>>,
}

/// The head, or why it could not be read, as of `at`.
struct Seen {
    at: Instant,
    head: std::result::Result<(Arc<Head>, Etag), Unread>,
}

/// An error that can be told more than once.
struct Unread {
    kind: Kind,
    message: String,
    hint: Option<String>,
}

impl Service {
    pub fn new(
        config: &Config,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        tokens: Watched<Tokens>,
        meters: Meters,
    ) -> Service {
        Service {
            name: config.stream.clone(),
            started: clock.now(),
            meters,
            sight: Sight::new(config.clone()),
            history: History::new(),
            known: Known::fresh(&*store, &config.files.cache_dir),
            store,
            clock,
            tokens,
            limits: Limits::new(),
            peers: Peers::new(),
            changes: Semaphore::new(CHANGES),
            watcher: Watcher::new(config.serve.as_ref().map_or(WATCH, |serve| serve.watch)),
            head: Mutex::new(None),
        }
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// The head as it was at most half a second ago. However many ask, the store is asked once; also that it
    /// does not answer is remembered that long.
    pub async fn head(&self) -> Result<Arc<Head>> {
        self.head_of(HEAD_AGE).await.map(|(head, _)| head)
    }

    /// The head as it was so long ago at most, and its tag.
    pub async fn head_of(&self, age: Duration) -> Result<(Arc<Head>, Etag)> {
        let mut seen = self.head.lock().await;
        if seen.as_ref().is_none_or(|seen| seen.at.elapsed() >= age) {
            let before = seen.take().and_then(|seen| seen.head.ok());
            let read = self.read_head(before).await;
            let head = read.map_err(|error| {
                tracing::error!(error = ?error, "the head cannot be read");
                let (message, hint) = (error.to_string(), error.hint_text().map(str::to_owned));
                // What is wrong with our config is no fault of the request.
                let kind = if error.kind() == Kind::Usage { Kind::Failed } else { error.kind() };
                Unread { kind, message, hint }
            });
            *seen = Some(Seen { at: Instant::now(), head });
        }
        match seen.as_ref().map(|seen| &seen.head) {
            Some(Ok((head, etag))) => Ok((head.clone(), etag.clone())),
            Some(Err(Unread { kind, message, hint })) => {
                let error = Error::new(*kind, message.clone());
                Err(match hint {
                    Some(hint) => error.hint(hint.clone()),
                    None => error,
                })
            }
            None => Err(Error::new(Kind::Store, "read the head: it was not read")),
        }
    }

    /// Reads the head, whatever was read before.
    pub async fn first_head(&self) -> Result<Arc<Head>> {
        self.read_head(None).await.map(|(head, _)| head)
    }

    async fn read_head(&self, before: Option<(Arc<Head>, Etag)>) -> Result<(Arc<Head>, Etag)> {
        let reading = head::read(&*self.store, before.as_ref().map(|(_, etag)| etag));
        let read = tokio::time::timeout(HEAD_TIME, reading).await.map_err(|_| {
            let doing = format!("read {}/index.json", self.store.url());
            Error::new(Kind::Store, format!("{doing}: no answer within {} s", HEAD_TIME.as_secs()))
        })??;
        let (head, etag) = match (read, before) {
            (Read::Head { head, etag }, _) => {
                head::check_name(&self.name, &head, &self.store.url())?;
                (Arc::from(head), etag)
            }
            (Read::Unchanged, Some(before)) => before,
            (Read::Unchanged, None) => {
                return Err(Error::new(Kind::Store, "read the head: unchanged since never"));
            }
        };
        self.history.head(&head, self.now());
        Ok((head, etag))
    }
}

/// Every route, in front of what all of them share.
pub fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/", get(page::page))
        .route("/runbooks", get(runbooks::list))
        .route("/runbooks/{name}", get(runbooks::show))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics::metrics))
        .route("/openapi.json", get(openapi::serve))
        .route("/v1/dumps", post(dumps::request).get(dumps::list))
        .route("/v1/dumps/{id}", get(dumps::show).delete(dumps::cancel))
        .route("/v1/migrations", get(migrations::list))
        .route("/v1/migrations/{table}", get(migrations::show))
        .route("/v1/regions", get(regions::list))
        .route("/v1/regions/{name}", get(regions::show).put(regions::report))
        .route("/v1/status", get(stream::status))
        .route("/v1/stream", get(stream::stream))
        .route("/v1/token", get(stream::token))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, REQUEST_TIME))
        .layer(middleware::from_fn_with_state(service.clone(), around))
        .with_state(service)
}

/// Marks an answer that is usual enough to leave no line in the log.
#[derive(Clone, Copy)]
pub struct Usual;

/// Around every request: its place, its id, a problem document for every refusal, and a line in the log.
async fn around(
    State(service): State<Arc<Service>>,
    Extension(seat): Extension<Arc<Seat>>,
    request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let id = request_id(&request);
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    // A bug in one route ends that request, not the connection's task without a word.
    let mut response = match seat.sit().await {
        false => Problem::new("unavailable", "too many are served at once").retry_after(5).into_response(),
        true => {
            let answered = std::panic::AssertUnwindSafe(next.run(request)).catch_unwind().await;
            answered.unwrap_or_else(|_| {
                tracing::error!(request = id, %method, path, "a request ended by a panic: this is a bug");
                Problem::new("failed", "the service met a bug").into_response()
            })
        }
    };
    if is_bare_refusal(&response) {
        let allow = response.headers().get(header::ALLOW).cloned();
        let mut problem = Problem::of_status(response.status());
        if response.status() == StatusCode::SERVICE_UNAVAILABLE {
            problem = problem.retry_after(5);
        }
        if let Some(allow) = allow {
            problem = problem.header(header::ALLOW, allow);
        }
        response = problem.into_response();
    }
    let name = response.extensions_mut().remove::<Name>().map(|name| name.0).unwrap_or_default();
    // A connection is kept for whoever has shown a valid token, and while nobody waits for one.
    if name.is_empty() || service.peers.are_waiting() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    let is_usual = response.extensions_mut().remove::<Usual>().is_some();
    metrics::answered(&service, &path, &method, response.status());
    log(&method, &path, response.status(), &name, &id, began.elapsed(), is_usual);
    response
}

/// An error that came without a document of ours: from the router, or a time that was over.
fn is_bare_refusal(response: &Response) -> bool {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let is_ours = kind.is_some_and(|kind| kind == problem::MEDIA_TYPE || kind.starts_with("text/html"));
    (status.is_client_error() || status.is_server_error()) && !is_ours
}

/// The caller's own id, if it is fit to be written to a log; else a new one.
fn request_id(request: &Request) -> String {
    let fits = |id: &&str| {
        (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    let given = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(fits);
    given.map_or_else(|| Uuid::new_v4().simple().to_string(), str::to_owned)
}

fn log(
    method: &Method,
    path: &str,
    status: StatusCode,
    token: &str,
    id: &str,
    took: Duration,
    is_usual: bool,
) {
    let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let status = status.as_u16();
    // What a path may be is the caller's choice.
    let path = path.get(..200).unwrap_or(path);
    if (is_usual || matches!(path, "/livez" | "/readyz")) && status < 400 {
        tracing::debug!(%method, path, status, ms, token, request = id, "asked");
    } else {
        tracing::info!(%method, path, status, ms, token, request = id, "asked");
    }
}
