//! `kill -9` wherever a list changes (I7): the next run carries on, and everything is as if nothing had been.

use std::os::unix::process::ExitStatusExt;

use super::kit::*;

const TABLES: &str = "CREATE TABLE @.a (id INT PRIMARY KEY, v VARCHAR(40)); \
                      CREATE TABLE @.old (id INT PRIMARY KEY, v VARCHAR(40)); \
                      CREATE TABLE @.empty (id INT PRIMARY KEY, v VARCHAR(40)); \
                      CREATE TABLE @.full (id INT PRIMARY KEY, v VARCHAR(40))";

#[tokio::test]
async fn i7_a_kill_while_the_set_changes_changes_nothing() {
    let stream = Stream::of_set("kt_set", TABLES, &["@.a", "@.old"]).await;
    let regions = Server::start_all([&[]; 8]);
    stream.sql("INSERT INTO @.a VALUES (1, 'x'); INSERT INTO @.old VALUES (1, 'x'); INSERT INTO @.full VALUES (1, 'x')").await;
    stream.upload().await;
    for region in &regions {
        stream.apply(region).await.unwrap();
        region.sql("DELETE FROM kt_set.old").await;
    }
    stream.sql("UPDATE @.old SET v = 'y'").await;
    stream.upload().await;
    for region in &regions {
        stream.apply(region).await.unwrap();
        assert_eq!(quarantined(region).await, [row("old", "conflict")]);
    }
    let added = [("empty", false), ("full", true)];
    change_set(&stream, &["@.a", "@.empty", "@.full"], &added, &["@.old"]).await;
    for table in ["a", "empty", "full"] {
        stream.sql(&format!("INSERT INTO @.{table} VALUES (7, 'new')")).await;
    }
    stream.upload().await;
    let failpoints = [
        "tables.before=kill",
        "tables.restores_left=kill",
        "tables.let_go=kill",
        "quarantine.after_record=kill",
        "tables.waiting=kill",
        "tables.made=kill",
        "tables.created=kill",
        "apply.after_position=kill",
    ];
    for (region, failpoint) in regions.iter().zip(failpoints) {
        let output = stream.run(region, failpoint);
        assert_eq!(output.status.signal(), Some(9), "{failpoint}: {}", said(&output));
        let output = stream.run(region, "");
        assert_eq!(output.status.code(), Some(3), "after {failpoint}: {}", said(&output));
        assert_eq!(quarantined(region).await, [row("full", "added")], "after {failpoint}");
        assert_same(&stream, region, &["a", "empty"]).await;
        let ended = [("superseded".to_owned(), "quarantine".to_owned())];
        assert_eq!(restores(region).await, ended, "after {failpoint}");
    }
    dump(&stream, &["a", "empty", "full"], MANDATORY).await;
    for region in &regions {
        stream.apply(region).await.unwrap();
        assert_same(&stream, region, &["a", "empty", "full"]).await;
        assert_clean(region).await;
        assert!(exists(region, &stream, "old").await);
    }
}

/// The operator may take the change of the list back after the kill: what was passed over is not forgotten.
#[tokio::test]
async fn i7_a_kill_while_the_regions_list_changes_changes_nothing() {
    let stream = Stream::new("kt_list", TABLES).await;
    let regions = Server::start_all([&[]; 4]);
    let (before, after) = (["@.a", "@.old"], ["@.a", "@.full"]);
    stream.sql("INSERT INTO @.a VALUES (1, 'x'); INSERT INTO @.old VALUES (1, 'x'); INSERT INTO @.full VALUES (1, 'x')").await;
    stream.upload().await;
    for region in &regions {
        apply_list(&stream, region, &before).await;
        region.sql("DELETE FROM kt_list.old").await;
    }
    stream.sql("UPDATE @.old SET v = 'y'").await;
    stream.upload().await;
    let failpoints =
        ["list.before=kill", "list.let_in=kill", "list.before_commit=kill", "list.recorded=kill"];
    for (region, failpoint) in regions.iter().zip(failpoints) {
        apply_list(&stream, region, &before).await;
        let killed = run_list(&stream, region, &after, &["apply"], failpoint);
        assert_eq!(killed.status.signal(), Some(9), "{failpoint}: {}", said(&killed));
        // Back to the list as it was: the table that missed a change is still known to have missed it.
        assert_code(&run_list(&stream, region, &before, &["apply"], ""), 3);
        let (table, reason) = quarantined(region).await.remove(0);
        assert_eq!(table, "old", "{failpoint}");
        assert!(reason == "conflict" || reason == "let_in", "{failpoint}: {reason}");
        assert_code(&run_list(&stream, region, &after, &["apply"], ""), 3);
        assert_eq!(quarantined(region).await, [row("full", "let_in")], "{failpoint}");
    }
    stream.sql("INSERT INTO @.full VALUES (2, 'y'); INSERT INTO @.a VALUES (2, 'y')").await;
    dump(&stream, &["a", "old", "empty", "full"], FULL).await;
    for region in &regions {
        apply_list(&stream, region, &after).await;
        assert_same(&stream, region, &["a", "full"]).await;
        assert_clean(region).await;
    }
}
