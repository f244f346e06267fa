//! `kill -9` at each step of a restore, then a rerun (I5, I7, I8).

use std::os::unix::process::ExitStatusExt;

use mysql_async::prelude::Queryable;

use super::kit::{FULL, SOME, Stream, assert_clean, dump, publish, restores, take};
use crate::support::mysql::Server;

const SIGKILL: i32 = 9;

/// Two tables that foreign keys tie, one of them drifted, and a dump that is older than the region.
async fn drifted(schema: &'static str) -> (Stream, Server) {
    let tables = "CREATE TABLE @.p (id INT PRIMARY KEY, v VARCHAR(40), KEY (v), CONSTRAINT own CHECK (id >= 0)); \
                  CREATE TABLE @.c (id INT PRIMARY KEY, p INT, v VARCHAR(40), CONSTRAINT named FOREIGN KEY (p) REFERENCES @.p \
                  (id) ON DELETE CASCADE); CREATE TABLE @.o (id INT PRIMARY KEY)";
    let stream = Stream::new(schema, tables).await;
    let region = Server::start(&[]);
    stream
        .sql(
            "SET cte_max_recursion_depth = 100000; INSERT INTO @.p (id, v) WITH RECURSIVE s AS (SELECT 1 n UNION ALL SELECT n + 1 \
             FROM s WHERE n < 9000) SELECT n, REPEAT('x', 40) FROM s; INSERT INTO @.c SELECT id, id, v FROM @.p",
        )
        .await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    stream.assert_equal(&region).await;
    let taken = take(&stream, &["c", "p"]).await;
    stream
        .sql("UPDATE @.p SET v = CONCAT(id, '!'); DELETE FROM @.p WHERE id < 100; INSERT INTO @.o VALUES (1)")
        .await;
    stream.upload().await;
    region.sql(&format!("DELETE FROM {schema}.c WHERE id = 2000; SET foreign_key_checks = 0; DELETE FROM {schema}.p WHERE id = 50")).await;
    publish(&stream, &taken, SOME).await;
    (stream, region)
}

async fn kill_at(schema: &'static str, failpoints: &[&str]) {
    let (stream, region) = drifted(schema).await;
    let mut killed = 0;
    for failpoint in failpoints {
        let output = stream.run(&region, &format!("restore.{failpoint}"));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.signal(), Some(SIGKILL), "{failpoint}: {:?} {text}", output.status);
        killed += 1;
        // Whoever reads meanwhile sees tables that are whole (I8).
        let rows: u64 = region.value(&format!("SELECT COUNT(*) FROM {schema}.p")).await;
        assert!([8901, 8900, 8999, 9000].contains(&rows), "after {failpoint}: {rows} rows");
    }
    let output = stream.run(&region, "");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "after {killed} kills: {text}");
    stream.assert_equal(&region).await;
    assert_clean(&region).await;
    stream.sql("INSERT INTO @.p VALUES (-0, 'after'); DELETE FROM @.p WHERE id = 200").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    stream.assert_equal(&region).await;
}

/// Each kill goes on from where the one before it has left the region.
#[tokio::test]
async fn kills_while_loading_begin_it_again() {
    kill_at(
        "rk_load",
        &[
            "begun=kill",
            "shadows_made=kill",
            "chunk_loaded=kill",
            "before_chunk_commit=kill@2",
            "rows_loaded=kill",
            "rows_checked=kill",
            "keys_built=kill",
        ],
    )
    .await;
}

#[tokio::test]
async fn kills_while_catching_up_run_nothing_twice() {
    kill_at(
        "rk_catch",
        &[
            "loaded=kill",
            "in_catch_up=kill",
            "caught_up=kill",
            "segment_caught_up=kill",
            "held=kill",
            "checks_added=kill",
        ],
    )
    .await;
}

#[tokio::test]
async fn kills_around_the_swap_end_with_the_new_tables_and_nothing_left() {
    kill_at(
        "rk_swap_a",
        &[
            "triggers_carried=kill",
            "before_rename=kill",
            "after_rename=kill",
            "old_dropped=kill",
            "keys_named=kill",
            "before_done=kill",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_kill_behind_the_swap_changes_nothing_more() {
    kill_at("rk_swap_b", &["done=kill"]).await;
}

/// Runs apply once, which must end by itself with tables that wait; the restore's row.
async fn left_waiting(stream: &Stream, region: &Server, failpoints: &str) -> (String, u32, String) {
    let output = stream.run(region, failpoints);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{failpoints}: {:?} {text}", output.status);
    let query = "SELECT state, attempts, CAST(started_at AS CHAR) FROM tablecast.restore";
    let mut rows: Vec<(String, u32, String)> = region.rows(query).await;
    assert_eq!(rows.len(), 1, "{rows:?} {text}");
    rows.remove(0)
}

async fn goes_on_to_its_end(stream: &Stream, region: &Server, started: &str) {
    let output = stream.run(region, "");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    stream.assert_equal(region).await;
    assert_clean(region).await;
    assert_eq!(restores(region).await, [("done".to_owned(), "quarantine".to_owned())]);
    // Nothing was loaded anew.
    let begun: String = region.value("SELECT CAST(started_at AS CHAR) FROM tablecast.restore").await;
    assert_eq!(begun, started);
}

/// I5, I7: behind the RENAME there is only forward, and the stream waits for the end of it.
#[tokio::test]
async fn an_error_behind_the_rename_is_gone_on_from_and_never_loads_again() {
    let (stream, region) = drifted("rk_behind").await;
    let failpoints = "restore.old_dropped=fail,restore.keys_named=fail";
    let (state, attempts, started) = left_waiting(&stream, &region, failpoints).await;
    assert_eq!((state.as_str(), attempts), ("swapping", 1));
    let seq = "SELECT seq FROM tablecast.position";
    let before: u64 = region.value(seq).await;
    stream.sql("UPDATE @.p SET v = 'later' WHERE id = 300; INSERT INTO @.o VALUES (2)").await;
    stream.upload().await;
    // Passed over for the quarantine, this would be lost to the new table.
    let (state, ..) =
        left_waiting(&stream, &region, "restore.old_dropped=fail,restore.keys_named=fail").await;
    assert_eq!((state.as_str(), region.value::<u64>(seq).await), ("swapping", before));
    goes_on_to_its_end(&stream, &region, &started).await;
}

/// I7: what one error at the RENAME costs is a try, not the shadows.
#[tokio::test]
async fn a_refused_rename_keeps_the_shadows_for_the_next_run() {
    let (stream, region) = drifted("rk_refused").await;
    let (state, attempts, started) = left_waiting(&stream, &region, "restore.before_rename=fail").await;
    assert_eq!((state.as_str(), attempts), ("loaded", 1));
    goes_on_to_its_end(&stream, &region, &started).await;
}

#[tokio::test]
async fn a_run_from_cron_does_not_stay_for_a_reader_who_keeps_the_tables() {
    let (stream, region) = drifted("rk_cron").await;
    let output = stream.run(&region, "restore.loaded=kill");
    assert_eq!(output.status.signal(), Some(SIGKILL));
    let mut reader = region.connect().await;
    reader.query_drop("BEGIN").await.unwrap();
    reader.query_drop("SELECT COUNT(*) FROM rk_cron.p").await.unwrap();
    let (state, _, started) = left_waiting(&stream, &region, "").await;
    assert_eq!(state, "loaded");
    reader.query_drop("COMMIT").await.unwrap();
    goes_on_to_its_end(&stream, &region, &started).await;
}

#[tokio::test]
async fn a_server_that_dies_in_the_midst_of_a_restore_is_restored_by_the_next_run() {
    let (stream, region) = drifted("rk_server").await;
    let mut child = stream.spawn(&region, "restore.rows_loaded=sleep:3000");
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    region.kill9();
    child.wait().unwrap();
    region.restart(&[]);
    let output = stream.run(&region, "");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    stream.assert_equal(&region).await;
    assert_clean(&region).await;
}

/// I5, I7: a new region whose bootstrap is killed at each step.
#[tokio::test]
async fn a_bootstrap_that_is_killed_again_and_again_ends_with_equal_tables() {
    let tables = "CREATE TABLE @.p (id INT PRIMARY KEY, v VARCHAR(40), KEY (v), CONSTRAINT own CHECK (id >= 0)); CREATE TABLE \
                  @.c (id INT PRIMARY KEY, p INT, CONSTRAINT named FOREIGN KEY (p) REFERENCES @.p (id) ON DELETE CASCADE)";
    let stream = Stream::new("rk_boot", tables).await;
    stream.sql("INSERT INTO @.p VALUES (1, 'a'), (2, 'b'); INSERT INTO @.c VALUES (1, 1), (2, 2)").await;
    let taken = take(&stream, &["c", "p"]).await;
    stream.sql("DELETE FROM @.p WHERE id = 1; INSERT INTO @.p VALUES (3, 'c')").await;
    stream.upload().await;
    publish(&stream, &taken, FULL).await;
    stream.sql("INSERT INTO @.p VALUES (4, 'd')").await;
    stream.upload().await;
    let region = Server::start(&[]);
    for failpoint in [
        "begun",
        "rows_loaded",
        "loaded",
        "before_rename",
        "after_rename",
        "old_dropped",
        "keys_named",
        "before_done",
        "done",
    ] {
        let mut command = stream.command_of(&region, &["bootstrap"]);
        command.env("TABLECAST_FAILPOINTS", format!("restore.{failpoint}=kill"));
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.signal(), Some(SIGKILL), "{failpoint}: {:?} {text}", output.status);
    }
    let output = stream.command_of(&region, &["bootstrap"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    stream.assert_equal(&region).await;
    assert_clean(&region).await;
    dump(&stream, &["c", "p"], FULL).await;
    stream.sql("DELETE FROM @.p WHERE id = 2").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    stream.assert_equal(&region).await;
}
