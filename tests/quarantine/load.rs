//! Quarantine while four workers run what the logical clock lets run side by side.

use std::collections::BTreeMap;

use super::kit::{Stream, apply, assert_others_equal, row};
use crate::support::mysql::Server;

const TABLES: &str = "CREATE TABLE @.a (id INT PRIMARY KEY, n INT NOT NULL, KEY (n)); \
                      CREATE TABLE @.b (id INT PRIMARY KEY, n INT NOT NULL); \
                      CREATE TABLE @.c (id INT PRIMARY KEY, n INT NOT NULL)";

/// Writers of rows of their own, so that most transactions depend on few others: every transaction changes `a` and
/// `b`, some `c` instead. `n` of a row grows by one with each.
async fn write(stream: &Stream, writers: u32, rounds: u32) {
    let one = |writer: u32| async move {
        let mut text = String::new();
        for round in 0..rounds {
            let id = writer * 10 + round % 5;
            text += &match round % 4 {
                3 => format!("UPDATE @.c SET n = n + 1 WHERE id = {id};"),
                _ => format!(
                    "BEGIN; UPDATE @.b SET n = n + 1 WHERE id = {id}; UPDATE @.a SET n = n + 1 WHERE id = {id}; COMMIT;"
                ),
            };
        }
        stream.sql(&text).await;
    };
    futures::future::join_all((0..writers).map(one)).await;
}

async fn filled(schema: &'static str) -> (Stream, Server) {
    let stream = Stream::new(schema, TABLES).await;
    let region = Server::start(&[]);
    for table in ["a", "b", "c"] {
        let rows: Vec<String> = (0..80).map(|id| format!("({id}, 0)")).collect();
        stream.sql(&format!("INSERT INTO @.{table} VALUES {}", rows.join(","))).await;
    }
    apply(&stream, &region).await;
    (stream, region)
}

/// I4: after a failure other transactions have committed out of order; on the rerun exactly the healthy part of each
/// that is missing is applied, and no change of the table by `since_tx` or behind it.
#[tokio::test]
async fn i4_under_load_exactly_the_healthy_part_of_every_transaction_arrives() {
    let (stream, region) = filled("ql_load").await;
    // A row in the middle of everybody's work goes.
    region.sql("DELETE FROM ql_load.a WHERE id = 32").await;
    write(&stream, 8, 200).await;
    assert_eq!(apply(&stream, &region).await, ["a"]);
    let last = 3 + 8 * 200;
    assert_others_equal(&stream, &region, &["a"], last).await;
    let (since, passed): (u64, u64) =
        region.rows("SELECT since_tx, passed_over FROM tablecast.quarantine").await.remove(0);
    // What the region has in each row of `a` is a number of changes: in the stream's order they are the first ones of
    // that row, and all of those before `since_tx` are among them.
    let (before, all) = changes_of_a(&stream, since);
    let here: Vec<(u32, u64)> = region.rows("SELECT id, n FROM ql_load.a").await;
    let mut applied = 0;
    for (id, n) in here {
        let (least, most) = (before.get(&id).copied().unwrap_or(0), all.get(&id).copied().unwrap_or(0));
        assert!(least <= n && n <= most, "row {id}: {n} changes here, {least} before {since}, {most} in all");
        applied += n;
    }
    let whole: u64 = all.values().sum();
    // Row 32 is not there; what changed it was never applied.
    assert_eq!(before.get(&32), None, "since_tx is the first transaction that changed the row");
    assert_eq!(applied + passed, whole, "each change of `a` was applied or passed over, once");
    // A second load: nothing of it arrives in `a`.
    let checksum = region.checksum("ql_load.a").await;
    write(&stream, 8, 50).await;
    assert_eq!(apply(&stream, &region).await, ["a"]);
    assert_eq!(region.checksum("ql_load.a").await, checksum);
    assert_others_equal(&stream, &region, &["a"], last + 8 * 50).await;
}

/// How often each row of `a` changes in the stream: before transaction `since`, and in all. Read from the segments.
fn changes_of_a(stream: &Stream, since: u64) -> (BTreeMap<u32, u64>, BTreeMap<u32, u64>) {
    let (mut before, mut all) = (BTreeMap::new(), BTreeMap::new());
    let seqs = std::fs::read_dir(stream.bucket().join("segments")).unwrap().count();
    for seq in 1..=seqs {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tablecast"));
        command
            .arg("--config")
            .arg(stream.source_file())
            .args(["inspect", "--rows", "--json"])
            .arg(seq.to_string());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        for transaction in document["transactions"].as_array().unwrap() {
            let n: u64 = transaction["n"].as_str().unwrap().parse().unwrap();
            for change in transaction["rows"].as_array().into_iter().flatten() {
                let is_update = change["before"].is_object() && change["after"].is_object();
                if !is_update || !change["table"].as_str().unwrap().ends_with(".a") {
                    continue;
                }
                let id: u32 = change["after"]["@1"].as_str().unwrap().parse().unwrap();
                *all.entry(id).or_default() += 1;
                if n < since {
                    *before.entry(id).or_default() += 1;
                }
            }
        }
    }
    (before, all)
}

/// Conflicts in all tables, one after the other, in one run.
#[tokio::test]
async fn several_conflicts_in_one_run_under_load_end_with_one_row_each() {
    let (stream, region) = filled("ql_all").await;
    region.sql("DELETE FROM ql_all.a WHERE id = 11; DELETE FROM ql_all.b WHERE id = 53; DELETE FROM ql_all.c WHERE id = 73").await;
    write(&stream, 8, 100).await;
    assert_eq!(apply(&stream, &region).await, ["a", "b", "c"]);
    assert_others_equal(&stream, &region, &["a", "b", "c"], 3 + 800).await;
    let found: Vec<(String, String)> =
        region.rows("SELECT table_name, reason FROM tablecast.quarantine ORDER BY 1").await;
    let expected = ["a", "b", "c"].map(|table| row(table, "conflict", 0, 0)).map(|row| (row.0, row.1));
    assert_eq!(found, expected);
}
