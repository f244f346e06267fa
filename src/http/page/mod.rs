//! Pages for people: `/` shows how everything is and what to do next, `/runbooks` how to do it.
//!
//! Made here, from what `/v1/status` says, what the service has seen while it runs, and what the source's MySQL tells, if it
//! answers at once. They work without a script and need nothing from elsewhere; a script of a few lines only fetches `/` again. What
//! is not known is shown as unknown, and whatever somebody else wrote goes through [`markup`].

mod chart;
pub mod history;
mod markdown;
mod markup;
pub mod runbooks;
mod tables;
mod view;

use std::sync::{Arc, LazyLock};

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html as Body, IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::auth::{Caller, Schemes};
use super::dumps::named;
use super::migrations;
use super::problem::Problem;
use super::service::Service;
use super::stream::status_of;
use super::tokens::Scope;
use crate::source::migrations as source;
use crate::stream::Key;
use markup::Html;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("refresh.js");

/// Nothing but this style and this script, by their hashes; nothing from elsewhere, and no place in anybody's frame.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    );
    HeaderValue::from_str(&policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
});

/// The query.
#[derive(Debug, Deserialize)]
pub struct Asked {
    hours: Option<u32>,
}

/// The page for people
#[utoipa::path(
    get, path = "/", operation_id = "page", tag = "people",
    params(("hours" = Option<u32>, Query, description = "How many hours the charts show: 1, 6 or 24")),
    responses(
        (status = 200, description = "Source, regions, dumps, migrations, and what to do next", content_type = "text/html"),
        (status = 401, description = "No token, or a wrong one", content_type = "text/html"),
        (status = 403, description = "A token without the scope `read`", content_type = "text/html"),
        (status = 429, description = "Too many requests; see Retry-After", content_type = "text/html"),
        (status = 500, description = "The service failed", content_type = "text/html"),
        (status = 503, description = "The bucket does not answer; see Retry-After", content_type = "text/html"),
    ),
    security(("browser" = ["read"]), ("token" = ["read"])),
)]
pub async fn page(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Response {
    // A query that nobody understands asks for nothing.
    let hours = asked.ok().and_then(|Query(asked)| asked.hours).filter(|hours| view::HOURS.contains(hours));
    answer(show(&service, &headers, hours.unwrap_or(1)).await)
}

async fn show(service: &Service, headers: &HeaderMap, hours: u32) -> Result<Response, Problem> {
    let caller = Caller::of(headers, service, Schemes::Browser)?;
    caller.must_have(Scope::Read)?;
    let head = service.head().await?;
    let reports = source::reports(&*service.store, Key::REGIONS).await?;
    let status = status_of(service, &head, &reports).await?;
    let migrations = migrations::glance(service, &head, &reports).await;
    let seen = view::Seen {
        status: &status,
        migrations: migrations.as_ref(),
        history: &service.history,
        now: service.now(),
        hours,
    };
    Ok(looked_at(&caller, seen.document()))
}

/// A page, to whoever may see it.
fn looked_at(caller: &Caller, html: Html) -> Response {
    named(caller, Body(html.into_string()))
}

/// A page or a refusal, with the headers of both.
fn answer(answer: Result<Response, Problem>) -> Response {
    let mut response = answer.unwrap_or_else(refusal);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY.clone());
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

fn refusal(problem: Problem) -> Response {
    let body = Html::of(
        "<article class=\"text\"><h1>{}</h1><p>{}</p><p>{}</p></article>",
        &[&&*problem.title, &problem.detail, &Html::with_code(problem.hint.as_deref().unwrap_or_default())],
    );
    let html = Body(document(&problem.title, &body).into_string());
    // The headers of the problem (the challenge, when to try again) are the browser's business, too.
    let mut response = problem.into_response();
    let status: StatusCode = response.status();
    let headers = std::mem::take(response.headers_mut());
    let mut page = (status, html).into_response();
    for (name, value) in headers {
        if let Some(name) =
            name.filter(|name| *name != header::CONTENT_TYPE && *name != header::CONTENT_LENGTH)
        {
            page.headers_mut().insert(name, value);
        }
    }
    page
}

/// A page of text.
fn document(title: &str, body: &Html) -> Html {
    Html::of(
        "<!doctype html>\n<html lang=\"en\"><head>{}<title>{} · Tablecast</title></head><body>\
         <header><p class=\"brand\"><a href=\"/\">Tablecast</a></p><nav aria-label=\"Pages\"><a href=\"/\">Status</a> \
         <a href=\"/runbooks\">Runbooks</a></nav></header><main id=\"main\">{}</main></body></html>\n",
        &[&head(), &title, body],
    )
}

/// What every page has in its head.
fn head() -> Html {
    // Part of the program, as the templates are; a style has no `{}`.
    let style = Html::of("<style>", &[]).and_static(STYLE).and_static("</style>");
    Html::of(
        "<meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">{}",
        &[&style],
    )
}
