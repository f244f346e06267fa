//! A dump costs the stream nothing but the moment of its snapshot.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use tablecast::clock::SystemClock;
use tablecast::source::upload;
use tablecast::stream::{Head, RequestState};

use super::kit::{ask, wait_for};
use crate::support::mysql::Server;
use crate::support::s3::Fault;
use crate::upload::kit::{Bucket, Stream, once};

#[tokio::test(flavor = "multi_thread")]
async fn segments_are_cut_at_every_interval_while_a_large_dump_is_taken() {
    let source = Server::start(&[]);
    source
        .sql(
            "CREATE DATABASE g; SET SESSION cte_max_recursion_depth = 1000000;
             CREATE TABLE g.big (id INT PRIMARY KEY, pad VARCHAR(300)); CREATE TABLE g.busy (id INT PRIMARY KEY, n INT);
             INSERT INTO g.busy VALUES (1, 0);
             INSERT INTO g.big SELECT n, REPEAT(SHA2(n, 256), 4) FROM
               (WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 300000) SELECT n FROM s) s",
        )
        .await;
    let more = "[upload]\ninterval = \"100ms\"\n[dump]\nchunk_bytes = \"1MiB\"\n";
    let stream = Stream::make(&source, &["g.*"], more).await;
    let options = upload::Options { follow: true, ..once() };
    let (config, store, theirs) = (stream.config.clone(), stream.store.clone(), options.clone());
    let follows = tokio::spawn(async move { upload::run(&config, store, &SystemClock, &theirs).await });
    let stop = Arc::new(AtomicBool::new(false));
    let mut conn = source.connect().await;
    let until = stop.clone();
    let writer = tokio::spawn(async move {
        let mut longest = Duration::ZERO;
        while !until.load(Ordering::Relaxed) {
            let begin = Instant::now();
            conn.query_drop("UPDATE g.busy SET n = n + 1").await.expect("update");
            longest = longest.max(begin.elapsed());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        longest
    });
    let asked = ask(&stream, &[]).await;
    let running = wait_for(&stream, &asked.id, RequestState::Running).await;
    let done = wait_for(&stream, &asked.id, RequestState::Uploaded).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.store(true, Ordering::Relaxed);
    let longest_write = writer.await.expect("no panic");
    options.stop.cancel();
    follows.await.expect("no panic").expect("a clean end");
    let mut cut = Vec::new();
    for entry in stream.entries().await {
        if entry.segment().is_some() && entry.created_at >= running.updated_at {
            cut.push(entry.created_at);
        }
    }
    let during = cut.iter().filter(|at| **at <= done.updated_at).count();
    let gaps = cut.windows(2).map(|pair| pair[1] - pair[0]);
    let longest = gaps.max().expect("segments").num_milliseconds();
    println!(
        "{during} segments during the dump, the longest gap {longest} ms, the longest write {longest_write:?}"
    );
    assert!(during >= 5, "{during} segments in {}", done.updated_at - running.updated_at);
    // Debug builds, and a machine that others use: a dump that stood in the way would take seconds.
    assert!(longest < 1_500, "no segment for {longest} ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_fails_in_the_middle_of_a_dump_ends_with_the_whole_dump_and_the_whole_stream() {
    let source = Server::start(&[]);
    source
        .sql("CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY); INSERT INTO g.apps VALUES (1)")
        .await;
    let bucket = Bucket::make(&source, "g.apps");
    let down = || Fault::Error(503, s3s::S3ErrorCode::SlowDown);
    // An answer is lost at each step in turn; and once the bucket is down for longer than anybody tries.
    let lost = (0..7).map(|skip| (skip, vec![Fault::NoAnswer, Fault::NoAnswer]));
    for (n, (skip, faults)) in lost.chain([(2, (0..9).map(|_| down()).collect())]).enumerate() {
        // Queued, and not waited for.
        bucket.run(&["dump", "take", "g.apps", "--timeout", "1ms"]);
        source.sql(&format!("INSERT INTO g.apps VALUES ({})", n + 2)).await;
        bucket.s3.fail("PutObject", (0..skip).map(|_| Fault::Nothing).chain(faults));
        let _ = bucket.run(&["upload"]);
        bucket.s3.forget_faults();
        bucket.succeeds(&["upload"]);
        bucket.succeeds(&["verify"]);
        let head = bucket.s3.object("apps/index.json").expect("a head");
        let head = Head::parse(&head).expect("a sound head");
        let newest = head.dumps.last().expect("a dump");
        assert_eq!(head.last_tx.0, n as u64 + 1);
        assert_eq!(newest.dump.rows, newest.dump.at.0 + 1, "{n}: the dump is of the state it says");
        let listed = bucket.run(&["dump", "list", "--json"]);
        let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("JSON");
        let states: Vec<_> =
            listed["dumps"].as_array().expect("jobs").iter().map(|job| &job["state"]).collect();
        assert_eq!(states, vec!["uploaded"; n + 1], "{n}");
    }
}
