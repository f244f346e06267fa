//! `kill -9` around the decision (I7): the next run carries on, and everything arrives once.

use std::os::unix::process::ExitStatusExt;

use super::kit::{Stream, assert_others_equal, rows};
use crate::support::mysql::Server;

const TABLES: &str = "CREATE TABLE @.a (id INT PRIMARY KEY, v INT); CREATE TABLE @.b (id INT PRIMARY KEY, v INT); \
                      CREATE TABLE @.d (id INT PRIMARY KEY, v INT)";

/// A conflict in `a` and one in `d`; `d` is dropped and made anew behind it, `x` is tied to `a`.
async fn stream(schema: &'static str) -> Stream {
    let stream = Stream::new(schema, TABLES).await;
    stream.sql("INSERT INTO @.a VALUES (1, 0), (2, 0); INSERT INTO @.b VALUES (1, 0), (2, 0); INSERT INTO @.d VALUES (1, 0)").await;
    stream.upload().await;
    stream
        .sql(
            "BEGIN; UPDATE @.b SET v = v + 1; UPDATE @.a SET v = v + 1; COMMIT; UPDATE @.d SET v = 1; \
             BEGIN; UPDATE @.b SET v = v + 10; UPDATE @.d SET v = v + 10; UPDATE @.a SET v = v + 10; COMMIT; \
             CREATE TABLE @.x LIKE @.a; INSERT INTO @.x VALUES (1, 1); DROP TABLE @.d; \
             CREATE TABLE @.d (id INT PRIMARY KEY, w INT); INSERT INTO @.d VALUES (5, 5); UPDATE @.b SET v = v + 100",
        )
        .await;
    stream.upload().await;
    stream
        .sql("BEGIN; UPDATE @.a SET v = 7; UPDATE @.d SET w = 7; COMMIT; UPDATE @.b SET v = v + 1000")
        .await;
    stream.upload().await;
    stream
}

async fn kill_at(schema: &'static str, failpoints: &[&str]) {
    let stream = stream(schema).await;
    for failpoint in failpoints {
        let region = Server::start(&[]);
        let config = stream.region_config(&region);
        let first = tablecast::region::apply::Options { until: Some(3), ..crate::apply::kit::options() };
        stream.apply_with(&config, first).await.unwrap();
        region.sql(&format!("DELETE FROM {schema}.a WHERE id = 2; DELETE FROM {schema}.d")).await;
        let output = stream.run(&region, failpoint);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.signal(), Some(9), "{failpoint}: {:?} {text}", output.status);
        let output = stream.run(&region, "");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "after {failpoint}: {text}");
        assert_others_equal(&stream, &region, &["a", "x"], 14).await;
        let found: Vec<(String, String, u64)> =
            rows(&stream, &region).await.into_iter().map(|row| (row.0, row.1, row.2)).collect();
        let expected = [("a", "conflict", 4), ("x", "tied", 7)];
        assert_eq!(
            found,
            expected.map(|(table, reason, n)| (table.to_owned(), reason.to_owned(), n)),
            "{failpoint}"
        );
        // What was passed over is told, whatever was counted before the kill.
        let passed = rows(&stream, &region).await.iter().map(|row| row.3).collect::<Vec<_>>();
        assert_eq!(passed, [3, 2], "after {failpoint}");
    }
}

#[tokio::test]
async fn i7_a_kill_before_and_after_the_row_is_written_changes_nothing() {
    kill_at(
        "qk_record",
        &[
            "quarantine.before_record=kill",
            "quarantine.after_record=kill",
            "quarantine.before_record=kill@2",
            "quarantine.after_record=kill@2",
            "quarantine.before_record=kill@3",
            "quarantine.after_record=kill@3",
        ],
    )
    .await;
}

#[tokio::test]
async fn i7_a_kill_around_the_end_of_a_quarantine_changes_nothing() {
    kill_at("qk_end", &["quarantine.before_end=kill", "quarantine.after_end=kill"]).await;
}

#[tokio::test]
async fn i7_a_kill_while_a_table_is_passed_over_changes_nothing() {
    kill_at(
        "qk_run",
        &[
            "quarantine.after_count=kill",
            "apply.before_transaction=kill@3",
            "apply.after_commit=kill@3",
            "apply.after_commit=kill@5",
            "apply.before_ddl=kill",
            "apply.after_ddl=kill",
            "apply.after_ddl=kill@2",
            "apply.before_position=kill",
            "apply.after_position=kill",
        ],
    )
    .await;
}
