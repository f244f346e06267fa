//! What goes wrong, as an answer: problem documents (RFC 9457) with `type`, `title`, `status`, `detail`, and
//! `hint`, which says what to do, as the errors of the command line do.
//!
//! No answer holds a secret, or more of the service's insides than the one who asks needs: the causes of a
//! failure go to the log.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema as _;
use utoipa::openapi::{self, Ref, RefOr};

use crate::error::{Error, Kind};

pub const MEDIA_TYPE: &str = "application/problem+json";

/// A refusal or failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Problem {
    /// Which kind of problem this is; the same for all of its kind.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "urn:tablecast:problem:not-in-set")]
    pub kind: Box<str>,
    #[schema(value_type = String)]
    pub title: Box<str>,
    #[schema(example = 422)]
    pub status: u16,
    /// What is wrong with this very request.
    pub detail: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    #[serde(skip)]
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// Every kind of problem: its name, its status, its title. docs/http.md lists them.
pub const KINDS: &[(&str, StatusCode, &str)] = &[
    ("malformed", StatusCode::BAD_REQUEST, "The request cannot be understood"),
    ("unauthenticated", StatusCode::UNAUTHORIZED, "A valid token is needed"),
    ("missing-scope", StatusCode::FORBIDDEN, "The token does not allow this"),
    ("other-region", StatusCode::FORBIDDEN, "The token acts for another region"),
    ("not-found", StatusCode::NOT_FOUND, "There is nothing here"),
    ("method-not-allowed", StatusCode::METHOD_NOT_ALLOWED, "The route does not know this method"),
    ("too-slow", StatusCode::REQUEST_TIMEOUT, "The request did not arrive in time"),
    ("finished", StatusCode::CONFLICT, "The job is over already"),
    ("other-stream", StatusCode::CONFLICT, "The report is about another stream"),
    ("too-large", StatusCode::PAYLOAD_TOO_LARGE, "The request is too large"),
    ("not-json", StatusCode::UNSUPPORTED_MEDIA_TYPE, "The request's body is not JSON"),
    ("invalid", StatusCode::UNPROCESSABLE_ENTITY, "The request asks for what cannot be"),
    ("not-in-set", StatusCode::UNPROCESSABLE_ENTITY, "The table is not in the stream's table set"),
    ("key-reused", StatusCode::UNPROCESSABLE_ENTITY, "The Idempotency-Key belongs to another request"),
    ("too-many-requests", StatusCode::TOO_MANY_REQUESTS, "Too many requests"),
    ("headers-too-large", StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "The request's headers are too large"),
    ("failed", StatusCode::INTERNAL_SERVER_ERROR, "The service failed"),
    ("unavailable", StatusCode::SERVICE_UNAVAILABLE, "The service cannot answer now"),
];

impl Problem {
    /// A problem of one of the [`KINDS`].
    pub fn new(name: &str, detail: impl Into<String>) -> Problem {
        let known = KINDS.iter().find(|(known, ..)| *known == name);
        let (status, title) =
            known.map_or((StatusCode::INTERNAL_SERVER_ERROR, "Failed"), |(_, s, t)| (*s, *t));
        Problem {
            kind: format!("urn:tablecast:problem:{name}").into(),
            title: title.into(),
            status: status.as_u16(),
            detail: detail.into(),
            hint: None,
            headers: Vec::new(),
        }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }

    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Problem {
        self.headers.push((name, value));
        self
    }

    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// `seconds` from now it may go better.
    pub fn retry_after(self, seconds: u64) -> Problem {
        self.header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// For an answer that something below has made without a document.
    pub fn of_status(status: StatusCode) -> Problem {
        let name = KINDS.iter().find(|(_, known, _)| *known == status).map_or("failed", |(name, ..)| *name);
        let problem = Problem::new(name, status.canonical_reason().unwrap_or("failed").to_lowercase());
        Problem { status: status.as_u16(), ..problem }
    }
}

/// For the service's description: what every route for those with a token may answer beside its own.
pub struct Usual;

impl utoipa::IntoResponses for Usual {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        let answer = |(status, description): (u16, &str)| {
            let problem = openapi::Content::new(Some(Ref::from_schema_name(Problem::name())));
            let response =
                openapi::ResponseBuilder::new().description(description).content(MEDIA_TYPE, problem);
            (status.to_string(), RefOr::T(response.build()))
        };
        [
            (401, "No token, or a wrong one"),
            (429, "Too many requests; see Retry-After"),
            (500, "The service failed"),
            (503, "The bucket does not answer; see Retry-After"),
        ]
        .map(answer)
        .into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status(), Json(&self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        headers.extend(self.headers);
        response
    }
}

/// What failed below, told to somebody far away; the causes have been logged by then.
impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        let problem = match error.kind() {
            Kind::Usage => Problem::new("invalid", error.to_string()),
            // The store does not answer, refuses this service, or holds no stream: nothing that the request is about.
            Kind::Store | Kind::Denied | Kind::NotFound | Kind::Conflict | Kind::Mysql => {
                tracing::error!(error = ?error, "the store cannot be used");
                Problem::new("unavailable", error.to_string()).retry_after(5)
            }
            _ => {
                tracing::error!(error = ?error, "a request failed");
                Problem::new("failed", error.to_string())
            }
        };
        match error.hint_text() {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_one_name() {
        let names: std::collections::BTreeSet<_> = KINDS.iter().map(|(name, ..)| name).collect();
        assert_eq!(names.len(), KINDS.len());
        for (name, status, title) in KINDS {
            let problem = Problem::new(name, "x");
            assert_eq!((problem.status(), &*problem.title), (*status, *title));
        }
    }

    #[test]
    fn a_store_that_does_not_answer_is_no_fault_of_the_request() {
        let problem = Problem::from(Error::new(Kind::Store, "read s3://b/index.json: no answer in time"));
        let response = problem.into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "5");
        assert_eq!(response.headers()[header::CONTENT_TYPE], MEDIA_TYPE);
    }
}
