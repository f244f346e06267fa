//! A store that counts what is asked of it, by operation and by what came of it, and the bytes of the objects.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{Body, Download, Etag, Fetched, Listed, Stat, Store};
use crate::error::{Error, Kind, Result};
use crate::metrics::catalogue::{STORE_RECEIVED, STORE_REQUESTS, STORE_SENT};
use crate::metrics::{Meters, figure};
use crate::stream::Key;

/// The same store, with its operations counted. Failures are told from the first time on, with 0: a series that begins
/// with its first failure has no increase then.
pub fn counted(inner: Arc<dyn Store>, meters: Meters) -> Arc<dyn Store> {
    for operation in ["get", "put", "list", "head", "delete"] {
        for outcome in ["error", "denied"] {
            meters.add(&STORE_REQUESTS, &[operation, outcome], 0.0);
        }
    }
    Arc::new(CountedStore { inner, meters })
}

struct CountedStore {
    inner: Arc<dyn Store>,
    meters: Meters,
}

impl CountedStore {
    fn count<T>(&self, operation: &str, result: &Result<T>) {
        self.note(operation, result.as_ref().map_or_else(outcome, |_| "ok"));
    }

    fn note(&self, operation: &str, outcome: &str) {
        self.meters.add(&STORE_REQUESTS, &[operation, outcome], 1.0);
    }

    fn sent(&self, bytes: u64) {
        self.meters.add(&STORE_SENT, &[], figure(bytes));
    }

    fn received(&self, bytes: u64) {
        self.meters.add(&STORE_RECEIVED, &[], figure(bytes));
    }
}

fn outcome(error: &Error) -> &'static str {
    match error.kind() {
        Kind::NotFound => "not_found",
        Kind::Conflict => "conflict",
        Kind::Denied => "denied",
        _ => "error",
    }
}

#[async_trait]
impl Store for CountedStore {
    fn url(&self) -> String {
        self.inner.url()
    }

    async fn get(&self, key: &Key, unless: Option<&Etag>) -> Result<Fetched> {
        let got = self.inner.get(key, unless).await;
        match &got {
            Ok(Fetched::Unchanged) => self.note("get", "unchanged"),
            got => self.count("get", got),
        }
        if let Ok(Fetched::Object { bytes, .. }) = &got {
            self.received(bytes.len() as u64);
        }
        got
    }

    async fn download(&self, key: &Key, to: &Path, limit: u64) -> Result<Download> {
        let done = self.inner.download(key, to, limit).await;
        self.count("get", &done);
        if let Ok(download) = &done {
            self.received(download.size);
        }
        done
    }

    async fn create(&self, key: &Key, body: Body<'_>) -> Result<Etag> {
        let made = self.inner.create(key, body).await;
        self.count("put", &made);
        if made.is_ok() {
            self.sent(match body {
                Body::Bytes(bytes) => bytes.len() as u64,
                Body::Packed { size, .. } => size,
                Body::File(path) => std::fs::metadata(path).map_or(0, |file| file.len()),
            });
        }
        made
    }

    async fn swap(&self, key: &Key, bytes: &[u8], expected: Option<&Etag>) -> Result<Etag> {
        let swapped = self.inner.swap(key, bytes, expected).await;
        self.count("put", &swapped);
        if swapped.is_ok() {
            self.sent(bytes.len() as u64);
        }
        swapped
    }

    async fn stat(&self, key: &Key) -> Result<Stat> {
        let stat = self.inner.stat(key).await;
        self.count("head", &stat);
        stat
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        let listed = self.inner.list(prefix).await;
        self.count("list", &listed);
        listed
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let deleted = self.inner.delete(key).await;
        self.count("delete", &deleted);
        deleted
    }

    async fn whole_files_only(&self) -> Result<Option<&'static str>> {
        self.inner.whole_files_only().await
    }

    async fn give_up_unfinished(&self, before: DateTime<Utc>) -> Result<u64> {
        self.inner.give_up_unfinished(before).await
    }
}
