//! `kill -9` of `tablecast apply` at each named point, then a rerun (I4, I7): nothing lost, nothing doubled,
//! nobody cleans up.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use tablecast::config::MysqlConfig;

use super::kit::{Stream, options};
use crate::support::mysql::Server;

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// Two entries with every kind of transaction that apply treats in its own way: small ones, one in pieces, DDL, and
/// CREATE TABLE … SELECT.
async fn stream(schema: &'static str) -> Stream {
    let table = "CREATE TABLE @.n (id INT PRIMARY KEY, v VARCHAR(200)) COLLATE utf8mb4_bin";
    let stream = Stream::new(schema, table).await;
    for round in 0..2 {
        let first = round * 100_000;
        stream
            .sql(&format!(
                "INSERT INTO @.n (id, v) VALUES ({first}, 'a'); UPDATE @.n SET v = CONCAT(v, 'b') WHERE id = {first}; \
                 SET cte_max_recursion_depth = 100000; INSERT INTO @.n (id, v) WITH RECURSIVE s AS (SELECT 1 n UNION ALL \
                 SELECT n + 1 FROM s WHERE n < 15000) SELECT {first} + n, REPEAT('x', 100) FROM s; \
                 ALTER TABLE @.n ADD COLUMN c{round} INT DEFAULT {round}; \
                 CREATE TABLE @.copy{round} SELECT * FROM @.n LIMIT 20; \
                 UPDATE @.n SET v = 'end' WHERE id = {first}"
            ))
            .await;
        stream.upload().await;
    }
    stream
}

async fn assert_killed_and_mended(stream: &Stream, region: &Server, failpoint: &str) {
    let output = stream.run(region, failpoint);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.signal(), Some(SIGKILL), "{failpoint}: {:?} {text}", output.status);
    let output = stream.run(region, "");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "after {failpoint}: {text}");
    stream.assert_equal(region).await;
    assert_eq!(stream.executed(region).await, "1-12", "after {failpoint}");
    let done: u64 = region.value("SELECT last_tx FROM tablecast.position").await;
    assert_eq!(done, 12, "after {failpoint}");
}

/// Kills at each of these points, each in a region of its own.
async fn kill_at(schema: &'static str, failpoints: &[&str]) {
    let stream = stream(schema).await;
    for failpoint in failpoints {
        let region = Server::start(&[]);
        assert_killed_and_mended(&stream, &region, &format!("apply.{failpoint}")).await;
    }
}

#[tokio::test]
async fn a_kill_around_a_transaction_loses_and_doubles_nothing() {
    kill_at(
        "ki_tx",
        &[
            "after_lock=kill",
            "after_download=kill",
            "before_transaction=kill",
            "before_transaction=kill@9",
            "after_commit=kill",
            "after_commit=kill@8",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_kill_inside_a_large_transaction_leaves_none_of_it() {
    kill_at(
        "ki_large",
        &["in_transaction=kill", "in_transaction=kill@5", "before_commit=kill", "before_commit=kill@2"],
    )
    .await;
}

#[tokio::test]
async fn a_kill_around_ddl_neither_loses_nor_repeats_it() {
    kill_at(
        "ki_ddl",
        &["before_ddl=kill", "after_ddl=kill", "before_ddl=kill@2", "after_ddl=kill@2", "after_ddl=kill@3"],
    )
    .await;
}

#[tokio::test]
async fn a_kill_around_the_position_is_made_good_by_gtid_executed() {
    kill_at("ki_position", &["before_position=kill", "after_position=kill", "before_position=kill@2"]).await;
}

#[tokio::test]
async fn kills_at_random_moments_under_load_leave_equal_tables() {
    let stream = stream("ki_random").await;
    let region = Server::start(&[]);
    assert!(stream.run(&region, "").status.success());
    let mut next = 1_000_000;
    let mut ten_more = async || {
        for i in 0..10 {
            let id = next + i;
            stream.sql(&format!("INSERT INTO @.n (id, v) VALUES ({id}, 'x'); UPDATE @.n SET v = 'y{i}' WHERE id = {id} - 3")).await;
        }
        next += 10;
        stream.upload().await;
    };
    // A whole run of the same work tells over which time the moments are spread.
    ten_more().await;
    let began = Instant::now();
    assert!(stream.run(&region, "").status.success());
    let whole = began.elapsed();
    let mut kills = 0;
    for round in 0..50u32 {
        ten_more().await;
        let mut child = stream.spawn(&region, "");
        // From before the first connection to after the last.
        tokio::time::sleep(whole * (round % 20) / 18).await;
        kills += u32::from(child.try_wait().unwrap().is_none());
        let _ = child.kill();
        child.wait().unwrap();
    }
    assert!(kills > 10, "only {kills} runs were still at work");
    let output = stream.run(&region, "");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    stream.assert_equal(&region).await;
    let last: u64 = region.value("SELECT last_tx FROM tablecast.position").await;
    assert_eq!(stream.executed(&region).await, format!("1-{last}"));
}

#[tokio::test]
async fn a_killed_server_loses_no_ddl_and_no_row() {
    let stream = stream("ki_server").await;
    let region = Server::start(&[]);
    for failpoint in
        ["apply.after_ddl=sleep:3000", "apply.in_transaction=sleep:3000@7", "apply.after_commit=sleep:3000@3"]
    {
        let mut child = stream.spawn(&region, failpoint);
        tokio::time::sleep(Duration::from_millis(1500)).await;
        region.kill9();
        child.wait().unwrap();
        region.restart(&[]);
    }
    let output = stream.run(&region, "");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    stream.assert_equal(&region).await;
    assert_eq!(stream.executed(&region).await, "1-12");
}

#[tokio::test]
async fn two_processes_at_once_and_the_second_exits_11() {
    let stream = stream("ki_two").await;
    let region = Server::start(&[]);
    let slow = stream.spawn(&region, "apply.before_position=sleep:3000");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let output = stream.run(&region, "");
    assert_eq!(output.status.code(), Some(11), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(slow.wait_with_output().unwrap().status.success());
    stream.assert_equal(&region).await;
}

#[tokio::test]
async fn a_following_run_applies_what_comes_and_ends_cleanly_on_sigterm() {
    let stream = stream("ki_follow").await;
    let region = Server::start(&[]);
    let mut command = stream.command(&region);
    let mut child = command.arg("--follow").stderr(std::process::Stdio::piped()).spawn().unwrap();
    for last in 13..16 {
        stream.sql(&format!("INSERT INTO @.n (id, v) VALUES (-{last}, 'late')")).await;
        stream.upload().await;
        // As soon as the position says so.
        for _ in 0..100 {
            let done: Vec<u64> = match region.try_sql("SELECT last_tx FROM tablecast.position").await {
                Ok(()) => region.rows("SELECT last_tx FROM tablecast.position").await,
                Err(_) => Vec::new(),
            };
            if done == [last] {
                break;
            }
            assert_eq!(child.try_wait().unwrap(), None, "it ended");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        stream.assert_equal(&region).await;
        // It outlives its connections.
        if last == 14 {
            region.restart(&[]);
        }
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(128 + SIGTERM), "{status:?}");
}

/// I4. The next piece of the transaction is on its way already: it must not be run by itself, under the transaction's GTID.
#[tokio::test]
async fn i4_a_large_transaction_that_is_rolled_back_by_a_deadlock_comes_whole_or_not_at_all() {
    use mysql_async::prelude::Queryable;
    let table = "CREATE TABLE @.n (id INT PRIMARY KEY, v VARCHAR(200)) COLLATE utf8mb4_bin";
    let stream = Stream::new("ki_deadlock", table).await;
    stream.sql("INSERT INTO @.n (id, v) VALUES (0, 'first')").await;
    stream.upload().await;
    let region = Server::start(&[]);
    stream.apply(&region).await.unwrap();
    // Some pieces, of 4,500 rows each.
    stream
        .sql(
            "SET cte_max_recursion_depth = 100000; INSERT INTO @.n (id, v) WITH RECURSIVE s AS (SELECT 1 n UNION ALL \
             SELECT n + 1 FROM s WHERE n < 30000) SELECT n, REPEAT('x', 100) FROM s",
        )
        .await;
    stream.upload().await;
    // Heavier than what has been run by then, so that the server rolls that back.
    let mut other = region.connect().await;
    other.query_drop("CREATE DATABASE heavy; CREATE TABLE heavy.t (id INT PRIMARY KEY)").await.unwrap();
    other
        .query_drop(
            "SET cte_max_recursion_depth = 100000; BEGIN; INSERT INTO heavy.t WITH RECURSIVE s AS (SELECT 1 n UNION \
             ALL SELECT n + 1 FROM s WHERE n < 60000) SELECT n FROM s; INSERT INTO ki_deadlock.n VALUES (15000, 'mine')",
        )
        .await
        .unwrap();
    let deadlock = async {
        let waiting = "SELECT COUNT(*) FROM performance_schema.data_lock_waits";
        for _ in 0..600 {
            if region.value::<u64>(waiting).await > 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        other.query_drop("SELECT * FROM ki_deadlock.n WHERE id = 1 FOR UPDATE").await.unwrap();
        let deadlocks = "SELECT COUNT FROM information_schema.INNODB_METRICS WHERE NAME = 'lock_deadlocks'";
        let deadlocks: u64 = region.value(deadlocks).await;
        let begun = "SELECT COUNT(*) FROM ki_deadlock.n WHERE id > 0";
        let rows: u64 = region.value(begun).await;
        other.query_drop("ROLLBACK").await.unwrap();
        (deadlocks, rows)
    };
    let (applied, (deadlocks, rows)) = tokio::join!(stream.apply(&region), deadlock);
    assert_eq!((deadlocks, rows), (1, 0), "it was rolled back, and nothing of it is there");
    applied.unwrap();
    stream.assert_equal(&region).await;
    assert_eq!(stream.executed(&region).await, "1-2");
}

/// The server answers each statement by itself. Nobody may send it more while it cannot get rid of its answers.
#[tokio::test(flavor = "multi_thread")]
async fn i7_a_large_transaction_with_a_savepoint_a_row_goes_through_a_unix_socket() {
    let stream = Stream::new("ki_savepoints", "CREATE TABLE @.n (id INT PRIMARY KEY, v VARCHAR(200))").await;
    stream.sql("INSERT INTO @.n (id, v) VALUES (0, 'first')").await;
    stream.upload().await;
    let region = Server::start(&[]);
    stream.apply(&region).await.unwrap();
    let rows: String = (1..=8000)
        .map(|id| format!("SAVEPOINT s; INSERT INTO @.n (id, v) VALUES ({id}, REPEAT('x', 150));"))
        .collect();
    stream.sql(&format!("BEGIN; {rows} COMMIT")).await;
    stream.upload().await;
    let mut config = stream.region_config(&region);
    config.mysql = MysqlConfig { host: None, socket: Some(region.socket.clone()), ..config.mysql };
    let applied = stream.apply_with(&config, options()).await.unwrap();
    assert_eq!(applied.transactions, 1, "at the first attempt");
    stream.assert_equal(&region).await;
}
