//! What an upload costs: requests, bytes, time.

use std::time::{Duration, Instant};

use super::kit::{OURS, Stream, ours};
use crate::support::mysql::Server;

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
    // The best of a few: other tests share this machine.
    let mut best = Duration::MAX;
    for _ in 0..10 {
        let begin = Instant::now();
        assert!(stream.run(&["upload"], "").status.success());
        best = best.min(begin.elapsed());
    }
    assert!(best < Duration::from_millis(100), "{best:?}");
}
