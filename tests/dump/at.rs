//! `at` is exact: for every table of a dump, each stream transaction that touches it is in the dump if and only if
//! it is not behind `at`. Shown by counters: transactions add 1 to those of the tables that they touch, so a counter
//! is the number of transactions of the stream up to `at` that touch its table.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mysql_async::prelude::Queryable;
use tablecast::binlog::event::{TableMap, kind};
use tablecast::binlog::name::TableName;
use tablecast::binlog::segment::{Item, SegmentReader};
use tablecast::clock::SystemClock;
use tablecast::source::upload;
use tablecast::stream::{RequestState, StreamTx};
use tokio::task::JoinHandle;

use super::kit::{ask, dumps, load, wait_for};
use crate::support::mysql::Server;
use crate::upload::kit::{Stream, once};

const TABLES: [&str; 3] = ["a", "b", "c"];

const SETUP: &str = "CREATE DATABASE g; CREATE DATABASE private; CREATE TABLE private.t (id INT PRIMARY KEY, n INT);
    INSERT INTO private.t VALUES (1, 0), (2, 0), (3, 0), (4, 0);
    CREATE TABLE g.a (id INT PRIMARY KEY, n BIGINT, pad VARCHAR(200)); CREATE TABLE g.b LIKE g.a; CREATE TABLE g.c LIKE g.a;
    INSERT INTO g.a (id, n) VALUES (1, 0); INSERT INTO g.b (id, n) VALUES (1, 0); INSERT INTO g.c (id, n) VALUES (1, 0)";

/// Transactions without a pause, on this many connections, until told to stop.
fn load_on(server: &Server, connections: u64) -> (Arc<AtomicBool>, Arc<AtomicU64>, Vec<JoinHandle<()>>) {
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writers = (0..connections).map(|writer| {
        let (stop, done) = (stop.clone(), done.clone());
        let options = mysql_async::OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(server.port)
            .user(Some("root"))
            .prefer_socket(false);
        tokio::spawn(async move {
            let mut conn = mysql_async::Conn::new(options).await.expect("connect");
            let mut n = writer;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                // Always in one order of tables: no deadlocks.
                let tables: Vec<&str> = TABLES
                    .into_iter()
                    .enumerate()
                    .filter(|(at, _)| n >> at & 1 == 1)
                    .map(|(_, t)| t)
                    .collect();
                let mut sql = "BEGIN; ".to_owned();
                if n % 3 == 0 {
                    sql += &format!("UPDATE private.t SET n = n + 1 WHERE id = {}; ", writer + 1);
                }
                for table in tables {
                    sql += &format!(
                        "UPDATE g.{table} SET n = n + 1, pad = REPEAT('x', {}) WHERE id = 1; ",
                        n % 200
                    );
                }
                conn.query_drop(sql + "COMMIT").await.expect("a transaction");
                done.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    let writers = writers.collect();
    (stop, done, writers)
}

/// How many transactions up to `at` touch each table.
async fn touched(stream: &Stream, at: StreamTx) -> BTreeMap<TableName, u64> {
    let mut touched = BTreeMap::new();
    for entry in stream.entries().await {
        let Some(segment) = entry.segment() else { continue };
        let bytes = stream.segment(segment).await;
        let mut reader = SegmentReader::new(&bytes[..], None).expect("a segment");
        let mut tables = std::collections::BTreeSet::new();
        let mut n = 0;
        while let Some(item) = reader.next().expect("a sound segment") {
            match item {
                Item::Begin(transaction) => n = transaction.n,
                Item::Event(event) if event.kind() == kind::TABLE_MAP => {
                    tables.insert(TableMap::parse_name(&event).expect("a name").1);
                }
                Item::Event(_) => {}
                Item::End => {
                    let counts = std::mem::take(&mut tables);
                    if n <= at.0 {
                        counts.into_iter().for_each(|table| *touched.entry(table).or_default() += 1);
                    }
                }
            }
        }
    }
    touched
}

/// Takes dumps from `source` while `primary` is written to; each must be of the moment that it says.
async fn dumps_under_load_are_exact(primary: &Server, source: &Server, copy: &Server, count: usize) {
    let stream = Stream::make(source, &["g.*"], "[upload]\ninterval = \"50ms\"").await;
    let options = upload::Options { follow: true, ..once() };
    let (config, store, theirs) = (stream.config.clone(), stream.store.clone(), options.clone());
    let follows = tokio::spawn(async move { upload::run(&config, store, &SystemClock, &theirs).await });
    let (stop, done, writers) = load_on(primary, 4);
    let mut before = 0;
    for n in 0..count {
        let asked = ask(&stream, if n % 2 == 0 { &[] } else { &["g.a", "g.c"] }).await;
        wait_for(&stream, &asked.id, RequestState::Uploaded).await;
        let now = done.load(Ordering::Relaxed);
        assert!(now > before, "writers stand still");
        before = now;
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("no panic");
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    options.stop.cancel();
    follows.await.expect("no panic").expect("a clean end");
    stream.upload().await.expect("the rest");
    let mut all = Vec::new();
    for entry in stream.entries().await {
        all.extend(entry.dump().map(|dump| (entry.seq, dump.clone())));
    }
    assert_eq!(all.len(), count);
    assert!(dumps(&stream).await.len() <= count);
    let mut last = StreamTx::ZERO;
    for (seq, dump) in all {
        assert!(dump.at > last, "{seq:?}: time goes on, {:?} after {last:?}", dump.at);
        last = dump.at;
        let expected = touched(&stream, dump.at).await;
        let dump_ref = tablecast::stream::DumpRef { seq, dump, extra: Default::default() };
        let manifest = load(&stream, &dump_ref, copy).await;
        for table in &manifest.tables {
            let found: u64 = copy.value(&format!("SELECT n FROM {}", table.table.quoted())).await;
            assert_eq!(
                found,
                expected.get(&table.table).copied().unwrap_or(0),
                "{} at {last:?}",
                table.table
            );
        }
        println!("at {}: writers waited {} us at most", last.0, manifest.pause_us);
        assert!(manifest.pause_us < 1_000_000, "{} us", manifest.pause_us);
        copy.sql("DROP DATABASE g").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i4_a_dump_of_a_primary_under_load_is_of_exactly_the_transaction_it_says() {
    let [primary, copy] = Server::start_all([&[], &[]]);
    primary.sql(SETUP).await;
    dumps_under_load_are_exact(&primary, &primary, &copy, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn i4_so_is_one_of_a_replica_with_several_workers_that_keep_the_order_of_commits() {
    let replica: &[&str] = &["--replica-parallel-workers=4", "--replica-preserve-commit-order=ON"];
    let [primary, replica, copy] = Server::start_all([&[], replica, &[]]);
    primary.sql(SETUP).await;
    replica.replicate_from(&primary, "").await;
    replica.catch_up(&primary).await;
    // As a replica should be.
    replica.sql("SET GLOBAL super_read_only = ON").await;
    dumps_under_load_are_exact(&primary, &replica, &copy, 4).await;
    let running: String =
        replica.value("SELECT SERVICE_STATE FROM performance_schema.replication_applier_status").await;
    assert_eq!(running, "ON", "I7: the replica goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn i4_so_is_one_of_a_replica_whose_workers_commit_in_any_order() {
    let replica: &[&str] = &["--replica-parallel-workers=4", "--replica-preserve-commit-order=OFF"];
    let [primary, replica, copy] = Server::start_all([&[], replica, &[]]);
    primary.sql(SETUP).await;
    replica.replicate_from(&primary, "").await;
    replica.catch_up(&primary).await;
    dumps_under_load_are_exact(&primary, &replica, &copy, 3).await;
}
