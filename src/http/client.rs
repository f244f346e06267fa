//! The region's side: asks the source's service for dumps and tells it where the region stands.
//!
//! The token is read from its file for each request, so that a new one needs no restart. Nothing is tried again
//! here: who asks decides that. What fails says operation, URL, status and what the service's problem document
//! says, hint included; redirects are not followed, so that the token goes nowhere else.

use std::collections::BTreeSet;
use std::error::Error as StdError;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

use super::api::{DumpRequest, Job, Jobs, Status, Stream, TokenInfo};
use super::problem::Problem;
use crate::binlog::name::TableName;
use crate::config::{Config, RegionConfig};
use crate::error::{Error, Kind, Result, one_line};
use crate::region::ask::{Asked, Asker};
use crate::stream::{RegionReport, RequestId, Seq};

const CONNECT_TIME: Duration = Duration::from_secs(5);
const REQUEST_TIME: Duration = Duration::from_secs(45);
/// The largest answer that is read.
const ANSWER_LIMIT: usize = 8 << 20;

/// A client of the source's service. Making one connects to nothing and reads nothing.
pub struct Client {
    /// Without a slash at its end.
    url: String,
    region: RegionConfig,
    http: OnceCell<reqwest::Client>,
}

/// The way to the source's service, if the region's config names one.
pub fn of(config: &Config) -> Option<Client> {
    let region = config.region.as_ref()?;
    let url = region.source_url.as_ref()?.trim_end_matches('/').to_owned();
    Some(Client { url, region: region.clone(), http: OnceCell::new() })
}

/// The same where there must be one.
pub fn required(config: &Config, command: &str) -> Result<Client> {
    of(config).ok_or_else(|| {
        Error::new(Kind::Usage, format!("{command}: {} names no source_url", config.path.display()))
            .hint("write in [region] source_url = \"https://source:8443\" and token_file = \"/etc/tablecast/token\"")
    })
}

impl Client {
    /// Where the service is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Asks for a dump. The same key with the same tables and reason is the same job.
    pub async fn request_dump(&self, tables: &BTreeSet<TableName>, reason: &str, key: &str) -> Result<Job> {
        let body = DumpRequest {
            region: self.region.name.clone(),
            tables: tables.iter().map(ToString::to_string).collect(),
            reason: shortened(reason),
        };
        self.call(Method::POST, "/v1/dumps", |request| request.header("Idempotency-Key", key).json(&body))
            .await
    }

    pub async fn dumps(&self) -> Result<Jobs> {
        self.call(Method::GET, "/v1/dumps", |request| request).await
    }

    pub async fn dump(&self, id: &RequestId) -> Result<Job> {
        self.call(Method::GET, &format!("/v1/dumps/{id}"), |request| request).await
    }

    pub async fn cancel_dump(&self, id: &RequestId) -> Result<Job> {
        self.call(Method::DELETE, &format!("/v1/dumps/{id}"), |request| request).await
    }

    pub async fn stream(&self) -> Result<Stream> {
        self.call(Method::GET, "/v1/stream", |request| request).await
    }

    /// How everything is.
    pub async fn status(&self) -> Result<Status> {
        self.call(Method::GET, "/v1/status", |request| request).await
    }

    /// Whether the service says, within this time, that there is something new behind `after`.
    pub async fn wait_for_news(&self, after: Seq, wait: Duration) -> Result<bool> {
        let path = format!("/v1/stream?after={}&wait={}", after.0, wait.as_secs());
        // 204 has no body.
        self.send(Method::GET, &path, |request| request).await.map(|body| !body.is_empty())
    }

    /// What this region's token is good for.
    pub async fn token(&self) -> Result<TokenInfo> {
        self.call(Method::GET, "/v1/token", |request| request).await
    }

    pub async fn send_report(&self, report: &RegionReport) -> Result<()> {
        let path = format!("/v1/regions/{}", report.region);
        // So that a thousand tables fit; the whole text stands in the region.
        let mut report = report.clone();
        report.quarantined.iter_mut().for_each(|table| table.error = cut(&table.error, 300));
        self.send(Method::PUT, &path, |request| request.json(&report)).await.map(drop)
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        with: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<T> {
        let doing = self.doing(&method, path);
        let body = self.send(method, path, with).await?;
        serde_json::from_slice(&body).map_err(|cause| {
            Error::new(Kind::Failed, format!("{doing}: the answer is not what this version expects"))
                .hint("is source_url the service of tablecast, and of the same version?")
                .caused_by(cause)
        })
    }

    /// The body of the answer, if it is a good one.
    async fn send(
        &self,
        method: Method,
        path: &str,
        with: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Vec<u8>> {
        let doing = self.doing(&method, path);
        let token = self.read_token().await?;
        let http = self.http.get_or_try_init(|| self.connector()).await?;
        let request = http.request(method, format!("{}{path}", self.url)).bearer_auth(token.expose_secret());
        let answer = with(request).send().await.map_err(|cause| unreachable_service(&doing, cause))?;
        let status = answer.status();
        let body = read(&doing, answer).await?;
        if status.is_success() {
            return Ok(body);
        }
        Err(refused(&doing, status, &body))
    }

    fn doing(&self, method: &Method, path: &str) -> String {
        format!("{method} {}{path}", self.url)
    }

    async fn read_token(&self) -> Result<SecretString> {
        let Some(path) = &self.region.token_file else {
            return Err(Error::new(Kind::Usage, format!("ask {}: there is no token_file for it", self.url)).hint(
                "write token_file = \"/etc/tablecast/token\" in [region]; `tablecast token` at the source makes the token",
            ));
        };
        let unusable = |why: &str| {
            Error::new(Kind::Usage, format!("token_file {}: {why}", path.display()))
                .hint("it holds the token on its first line; `tablecast token` at the source makes one")
        };
        let text =
            tokio::fs::read_to_string(path).await.map_err(|e| unusable("cannot be read").caused_by(e))?;
        let token = text.lines().next().unwrap_or_default().trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(unusable("its first line is no token"));
        }
        Ok(SecretString::from(token))
    }

    async fn connector(&self) -> Result<reqwest::Client> {
        crate::tls::use_our_provider();
        let roots = crate::tls::roots("source_ca", self.region.source_ca.as_deref()).await?;
        let tls = rustls::ClientConfig::builder_with_provider(crate::tls::provider())
            .with_safe_default_protocol_versions()
            .map_err(|cause| Error::new(Kind::Failed, "set up TLS").caused_by(cause))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        reqwest::Client::builder()
            .use_preconfigured_tls(tls)
            .connect_timeout(CONNECT_TIME)
            .timeout(REQUEST_TIME)
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .user_agent(concat!("tablecast/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|cause| Error::new(Kind::Failed, "set up the HTTP client").caused_by(cause))
    }
}

async fn read(doing: &str, mut answer: Response) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(|cause| unreachable_service(doing, cause))? {
        if body.len() + piece.len() > ANSWER_LIMIT {
            return Err(Error::new(
                Kind::Failed,
                format!("{doing}: the answer has more than {ANSWER_LIMIT} bytes"),
            )
            .hint("is source_url the service of tablecast?"));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// The service could not be asked at all, or its answer did not come.
fn unreachable_service(doing: &str, cause: reqwest::Error) -> Error {
    let cause = cause.without_url();
    let is_tls = is_about_tls(&cause);
    let (kind, why, hint) = if is_tls {
        (
            Kind::Denied,
            "TLS refused",
            "the service's certificate must name the host in source_url and be signed by source_ca, or without it by a \
             public authority; one that is signed by itself must not be an authority's (CaUsedAsEndEntity): \
             docs/http.md shows how to make one",
        )
    } else if cause.is_timeout() {
        (
            Kind::Failed,
            "no answer in time",
            "is `tablecast serve` running at the source, and reachable from here?",
        )
    } else if cause.is_connect() {
        (
            Kind::Failed,
            "the service cannot be reached",
            "is `tablecast serve` running at the source, is source_url right, does a firewall let it through?",
        )
    } else if cause.is_builder() {
        (Kind::Usage, "not a URL that can be asked", "write source_url = \"https://HOST:PORT\"")
    } else {
        (Kind::Failed, "the connection broke", "try again; the log of `tablecast serve` may say more")
    };
    Error::new(kind, format!("{doing}: {why}")).hint(hint).caused_by(cause)
}

/// Whether TLS is what failed. Its error comes wrapped in ones of I/O, which do not name it as their source.
fn is_about_tls(error: &(dyn StdError + 'static)) -> bool {
    if error.is::<rustls::Error>() {
        return true;
    }
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(inner) => is_about_tls(inner),
        None => error.source().is_some_and(is_about_tls),
    }
}

/// A refusal, in the service's own words where it is ours.
fn refused(doing: &str, status: StatusCode, body: &[u8]) -> Error {
    let kind = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Kind::Denied,
        StatusCode::NOT_FOUND => Kind::NotFound,
        StatusCode::CONFLICT => Kind::Conflict,
        StatusCode::BAD_REQUEST
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNSUPPORTED_MEDIA_TYPE
        | StatusCode::UNPROCESSABLE_ENTITY => Kind::Usage,
        _ => Kind::Failed,
    };
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => {
            let code = status.as_u16();
            let error = Error::new(kind, format!("{doing}: {code} {}: {}", problem.title, problem.detail));
            match problem.hint {
                Some(hint) => error.hint(hint),
                None => error,
            }
        }
        Err(_) => Error::new(kind, format!("{doing}: the answer is {status}"))
            .hint("is source_url the service of tablecast, or something in front of it?"),
    }
}

/// A reason as the service takes it.
fn shortened(reason: &str) -> String {
    cut(&one_line(reason), 500)
}

/// At most so many characters of a text.
fn cut(text: &str, most: usize) -> String {
    match text.chars().count() > most {
        true => text.chars().take(most - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

#[async_trait]
impl Asker for Client {
    async fn ask(&self, tables: &BTreeSet<TableName>, reason: &str, key: &str) -> Result<Asked> {
        let job = self.request_dump(tables, reason, key).await?;
        Ok(Asked { id: job.id.parse()?, state: job.state.into() })
    }

    async fn report(&self, report: &RegionReport) -> Result<()> {
        self.send_report(report).await
    }

    async fn news(&self, after: Seq, wait: Duration) -> Result<bool> {
        self.wait_for_news(after, wait).await
    }
}
