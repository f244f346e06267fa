//! Request bodies: JSON, of a bounded size, in a bounded time.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, header};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// The largest body of a request for a dump.
pub const LIMIT: usize = 64 << 10;
/// The largest report: it may name a thousand quarantined tables, each with its error.
pub const REPORT_LIMIT: usize = 512 << 10;
/// A body that has not arrived as a whole by then never will, or is sent to keep us waiting.
pub const TIME: Duration = Duration::from_secs(10);
/// How much of a body that is too large is taken in, and thrown away, so that a client that first sends and
/// then reads gets to read why it was refused.
const DRAIN: usize = 8 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(3);

/// The body of a request as JSON, if it has at most `limit` bytes.
pub async fn json<T: DeserializeOwned>(request: Request, limit: usize) -> Result<T, Problem> {
    let (parts, body) = request.into_parts();
    must_be_json(&parts.headers)?;
    let bytes = read(&parts.headers, body, limit).await?;
    parse(&bytes)
}

fn must_be_json(headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let said =
        if essence.is_empty() { "no Content-Type".to_owned() } else { format!("Content-Type {essence:?}") };
    Err(Problem::new("not-json", format!("the body comes with {said}"))
        .hint("send Content-Type: application/json"))
}

async fn read(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Problem> {
    let promised =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let is_too_large = promised.is_some_and(|length| length > limit as u64);
    let mut stream = body.into_data_stream();
    let mut bytes = BytesMut::new();
    let reading = async {
        while let Some(piece) = if is_too_large { None } else { stream.next().await } {
            let piece = piece.map_err(|_| Problem::new("malformed", "the body ended before its end"))?;
            if bytes.len() + piece.len() > limit {
                return Ok(false);
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(!is_too_large)
    };
    match tokio::time::timeout(TIME, reading).await {
        Err(_) => {
            Err(Problem::new("too-slow", format!("the body did not arrive within {} s", TIME.as_secs()))
                .header(header::CONNECTION, HeaderValue::from_static("close")))
        }
        Ok(Err(problem)) => Err(problem),
        Ok(Ok(true)) => Ok(bytes.freeze()),
        Ok(Ok(false)) => {
            let mut drained = 0;
            let draining = async {
                while let Some(Ok(piece)) = stream.next().await {
                    drained += piece.len();
                    if drained > DRAIN {
                        break;
                    }
                }
            };
            let _ = tokio::time::timeout(DRAIN_TIME, draining).await;
            Err(Problem::new("too-large", format!("the body has more than {limit} bytes"))
                .hint("ask for fewer tables in one request")
                .header(header::CONNECTION, HeaderValue::from_static("close")))
        }
    }
}

/// A JSON document as what is expected; what is wrong with it otherwise, and where.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let malformed =
        |why: String| Problem::new("malformed", why).hint("/openapi.json describes what belongs in the body");
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let place = error.path().to_string();
        let place = if place == "." { String::new() } else { format!("{}: ", short(&place)) };
        malformed(format!("{place}{}", short(&error.inner().to_string())))
    })?;
    reader.end().map_err(|error| malformed(short(&error.to_string())))?;
    Ok(value)
}

/// What the sender wrote may be repeated to them, but not at any length.
fn short(text: &str) -> String {
    const MOST: usize = 300;
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
