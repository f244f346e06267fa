//! Checks on a stream of one test, taken when the test says so.

use std::sync::Arc;
use std::time::Duration;

use tablecast::clock::SystemClock;
use tablecast::config::{CheckConfig, Config};
use tablecast::region::checked::{self, TableCheck};
use tablecast::source::upload;
use tablecast::store::{self, Store};
use tablecast::stream::{CheckEntry, Head, Seq};

use crate::apply::kit::Stream;
use crate::support::mysql::Server;

pub async fn bucket(stream: &Stream) -> Arc<dyn Store> {
    store::open(&stream.source_config()).await.unwrap()
}

pub async fn head(stream: &Stream) -> Head {
    match store::head::read(&*bucket(stream).await, None).await.unwrap() {
        store::head::Read::Head { head, .. } => *head,
        store::head::Read::Unchanged => panic!("unchanged from nothing"),
    }
}

/// One is due at any time, whatever the last one cost.
pub fn at_once(config: Config, slice: Duration) -> Config {
    let every = Some(Duration::ZERO);
    Config { check: CheckConfig { every, slice, share: 1_000_000, max_threads_running: 1_000 }, ..config }
}

/// The same in a config file, as far as a file may say so.
pub const OFTEN: &str = "[check]\nevery = \"10ms\"\nshare = 50\nmax_threads_running = 1000\n";

/// Ships what is new and takes a check.
pub async fn slice(stream: &Stream, slice: Duration) {
    let options = crate::upload::kit::waiting(Duration::from_secs(60));
    let config = at_once(stream.source_config(), slice);
    upload::run(&config, store::open(&config).await.unwrap(), &SystemClock, &options).await.unwrap();
}

/// Slices until the last table has been read to its end. How many of them became entries.
pub async fn round(stream: &Stream, time: Duration) -> usize {
    let before = checks(stream).await.len();
    for _ in 0..1_000 {
        let known = head(stream).await.checked.map(|checked| checked.seq);
        slice(stream, time).await;
        let checked = head(stream).await.checked;
        // One that was put off is taken at the next call.
        if checked.is_some_and(|checked| Some(checked.seq) != known && checked.next.is_none()) {
            return checks(stream).await.len() - before;
        }
    }
    panic!("the round does not end");
}

/// A whole round, compared in the region.
pub async fn compare(stream: &Stream, region: &Server) -> Vec<TableCheck> {
    round(stream, Duration::from_secs(5)).await;
    stream.apply(region).await.unwrap();
    known(stream, region).await
}

/// What the region knows of each table.
pub async fn known(stream: &Stream, region: &Server) -> Vec<TableCheck> {
    checked::list(&mut region.connect().await, stream.schema).await.unwrap()
}

/// The checks in the stream.
pub async fn checks(stream: &Stream) -> Vec<(Seq, CheckEntry)> {
    let head = head(stream).await;
    head.entries.iter().filter_map(|entry| Some((entry.seq, entry.check()?.clone()))).collect()
}

/// Rows that differ, `1007 differs`, of every table; nothing if all are the same, and all were compared as a whole.
pub fn differences(known: &[TableCheck]) -> Vec<String> {
    let mut all = Vec::new();
    for table in known {
        assert_eq!(table.problem, None, "{table:?}");
        match &table.drift {
            None => assert!(table.same.as_ref().is_some_and(|same| same.tx == table.tx), "{table:?}"),
            Some(found) => all.extend(found.drift.rows.iter().map(|row| {
                let how = serde_json::to_value(row.how).unwrap();
                format!("{} {} {}", table.table.table, row.key, how.as_str().unwrap())
            })),
        }
    }
    all
}
