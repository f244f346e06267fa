//! What an upload costs: requests, bytes, time.

use std::time::Duration;

use tablecast::stream::{Head, StreamTx};

use super::kit::{Bucket, OURS, Stream, ours};
use crate::support::mysql::Server;
use crate::support::once_within;
use crate::support::s3::{Asked, Fault};

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_source_ships_next_to_nothing_when_next_to_nothing_is_of_the_set() {
    let server = Server::start(&[]);
    server
        .sql(
            "CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY, name TEXT); CREATE DATABASE private; \
             CREATE TABLE private.t (id INT PRIMARY KEY, n INT); INSERT INTO private.t VALUES (1, 0); \
             CREATE PROCEDURE private.work(times INT, ours INT) BEGIN \
               DECLARE i INT DEFAULT 0; \
               WHILE i < times DO UPDATE private.t SET n = n + 1; SET i = i + 1; END WHILE; \
             END",
        )
        .await;
    let stream = Stream::make(&server, &["g.apps"], "").await;
    for id in 0..100 {
        server.sql("CALL private.work(1000, 0)").await;
        server.sql(&format!("{OURS} INSERT INTO g.apps VALUES ({id}, 'an application')")).await;
    }
    let report = stream.upload().await.expect("upload");
    assert_eq!((report.kept, report.foreign), (100, 100_000));
    assert!(report.compressed_bytes < 100_000, "{} bytes", report.compressed_bytes);
    let head = stream.head().await.to_json().expect("json");
    assert!(head.len() < 10_000, "the head has {} bytes", head.len());
    let executed = server.gtid_executed().await;
    stream.holds_exactly(&ours(&executed), &executed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_upload_ends_in_a_tenth_of_a_second() {
    let server = Server::start(&[]);
    server.sql("CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY)").await;
    let stream = Stream::make(&server, &["g.apps"], "").await;
    assert!(stream.run(&["upload"], "").status.success());
    once_within(Duration::from_millis(100), || assert!(stream.run(&["upload"], "").status.success()));
}

/// Counts the requests, one by one, that runs with nothing to do make.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_upload_costs_one_conditional_get_and_now_and_then_a_look_at_the_requests() {
    let server = Server::start(&[]);
    server.sql("CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY)").await;
    let bucket = Bucket::make(&server, "g.apps");
    server.sql("INSERT INTO g.apps VALUES (1)").await;
    bucket.succeeds(&["upload"]);
    bucket.s3.asked();
    // On a machine that is busy enough a minute passes meanwhile, and the head is written so that regions know how fresh
    // they are.
    let asked = || -> Vec<Asked> {
        bucket.succeeds(&["upload"]);
        bucket.s3.asked().into_iter().filter(|asked| asked.kind != "PutObject").collect()
    };
    let head = Asked { kind: "GetObject", key: "apps/index.json".into(), conditional: true, md5: false };
    let requests =
        Asked { kind: "ListObjectsV2", key: "apps/requests/".into(), conditional: false, md5: false };
    for _ in 0..3 {
        assert_eq!(asked(), std::slice::from_ref(&head));
    }
    // The note that nothing was pending is old.
    let cache = bucket.folder.path().join("cache");
    let notes = std::fs::read_dir(&cache).expect("a cache").map(|entry| entry.expect("an entry").path());
    let note = notes.into_iter().find(|path| path.to_string_lossy().contains("quiet-")).expect("a note");
    std::fs::write(&note, "2026-01-01T00:00:00Z").expect("an old note");
    assert_eq!(asked(), [head.clone(), requests]);
    assert_eq!(asked(), [head]);
    // On another machine, or without the cache: one GET all the same, and the look.
    std::fs::remove_dir_all(cache).expect("a cache");
    assert_eq!(asked().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_the_store_that_is_lost_loses_and_doubles_nothing() {
    let server = Server::start(&[]);
    server.sql("CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY)").await;
    let bucket = Bucket::make(&server, "g.apps");
    for lost in [1, 2] {
        let id = lost;
        server.sql(&format!("INSERT INTO g.apps VALUES ({id})")).await;
        bucket.s3.fail("PutObject", (0..lost).map(|_| Fault::NoAnswer));
        bucket.succeeds(&["upload"]);
        assert!(bucket.s3.faults_are_over());
        let head = Head::parse(&bucket.s3.object("apps/index.json").expect("a head")).expect("a sound head");
        assert_eq!(head.last_tx, StreamTx(id));
    }
    bucket.succeeds(&["verify"]);
}
