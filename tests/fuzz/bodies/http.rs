//! Bodies that the service is sent, and those that a region is answered: JSON of a bounded size, read or refused.

use axum::body::Body;
use axum::extract::Request;
use tablecast::http::api::{DumpRequest, Job, Jobs, Status, Stream};
use tablecast::http::{body, dumps};
use tablecast::stream::{Head, RegionReport};
use uuid::Uuid;

pub fn http(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let content_type =
        ["application/json", "application/JSON; charset=utf-8", "text/plain", ""][usize::from(first % 4)];
    if let Some(asked) = sent::<DumpRequest>(content_type, rest, body::LIMIT) {
        let written = serde_json::to_vec(&asked).expect("text");
        assert_eq!(serde_json::from_slice::<DumpRequest>(&written).expect("as it was written"), asked);
        let tables = tablecast::binlog::name::TableSet::parse(&["g.*", "h.a"]).expect("a set");
        let head = Head::new(Uuid::from_u128(0x57), "apps", tables, Default::default());
        if let Ok(new) = dumps::new_request(&head, &asked, Some("a key")) {
            // What gets into the queue can be read there.
            assert!(new.tables.iter().all(|table| head.table_set.tables.names(table)), "{new:?}");
            assert!(new.tables.len() <= 1_000 && new.reason.chars().count() <= 500, "{new:?}");
        }
    }
    if let Some(mut report) = sent::<RegionReport>(content_type, rest, body::REPORT_LIMIT)
        && report.validate().is_ok()
    {
        let written = report.to_json().expect("it is sound");
        // It gets a seal of its own.
        report.extra.remove("sha256");
        assert!(RegionReport::parse(&report.region, &written).is_ok_and(|read| read == report));
    }
    // Answers.
    let _ = serde_json::from_slice::<Job>(rest);
    let _ = serde_json::from_slice::<Jobs>(rest);
    let _ = serde_json::from_slice::<Status>(rest);
    let _ = serde_json::from_slice::<Stream>(rest);
}

fn sent<T: serde::de::DeserializeOwned>(content_type: &str, bytes: &[u8], limit: usize) -> Option<T> {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    }
    let request = Request::post("/v1/dumps")
        .header("content-type", content_type)
        .body(Body::from(bytes.to_vec()))
        .expect("a request");
    let read: Result<T, _> = RUNTIME.with(|runtime| runtime.block_on(body::json(request, limit)));
    assert!(read.is_err() || bytes.len() <= limit);
    assert!(read.is_err() || content_type.starts_with("application/"));
    read.ok()
}
