//! What a check costs, for docs/benchmarks.md: `cargo test --release --test main drift::cost -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use super::kit::{checks, head, known, slice};
use crate::apply::kit::Stream;
use crate::support::mysql::Server;

const ROWS: u64 = 2_000_000;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "figures, not a test"]
async fn a_round_of_two_million_rows() {
    let stream = Stream::new(
        "drift_cost",
        "CREATE TABLE @.t (id INT PRIMARY KEY, v VARCHAR(180), n INT, at DATETIME)",
    )
    .await;
    let region = Server::start(&["--innodb-buffer-pool-size=1G"]);
    for n in 0..20 {
        let (first, last) = (n * ROWS / 20 + 1, (n + 1) * ROWS / 20);
        stream
            .sql(&format!(
                "SET cte_max_recursion_depth = 1000000; INSERT INTO @.t WITH RECURSIVE n (n) AS (SELECT {first} UNION ALL \
                 SELECT n + 1 FROM n WHERE n < {last}) SELECT n, REPEAT(MD5(n), 5), n, '2026-11-22' FROM n"
            ))
            .await;
    }
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    for time in [50, 200, 1000] {
        let (before, begin) = (checks(&stream).await.len(), Instant::now());
        let (mut took, mut objects) = (Vec::new(), 0);
        loop {
            slice(&stream, Duration::from_millis(time)).await;
            let checked = head(&stream).await.checked.unwrap();
            took.push(checked.took_ms);
            if checked.next.is_none() {
                break;
            }
        }
        let round = begin.elapsed();
        let all = checks(&stream).await;
        let new = &all[before..];
        let rows: u64 = new.iter().map(|(_, check)| check.rows()).sum();
        objects += new.iter().filter_map(|(_, check)| Some(check.names.as_ref()?.size)).sum::<u64>();
        took.sort_unstable();
        let entry = new[0].1.ranges.len();
        println!(
            "slice {time} ms: {rows} rows in {} checks, {} rows each; the stream stood still {} ms (median), {} ms (most); \
             {:.1} bytes a row in the objects, {entry} range an entry; the round as one-shots {:.1} s",
            new.len(),
            rows / new.len() as u64,
            took[took.len() / 2],
            took[took.len() - 1],
            objects as f64 / rows as f64,
            round.as_secs_f64()
        );
        let begin = Instant::now();
        stream.apply(&region).await.unwrap();
        let took = begin.elapsed().as_millis() as f64;
        println!("  region: {:.0} ms for all, {:.0} ms a check", took, took / new.len() as f64);
        assert!(known(&stream, &region).await.iter().all(|table| table.drift.is_none()));
    }
}
