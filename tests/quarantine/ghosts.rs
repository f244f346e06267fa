//! Online migrations (gh-ost's names and steps) while their table is in quarantine, or comes back in between.

use super::kit::{Stream, apply, assert_others_equal, isolated, row, rows};
use crate::support::mysql::Server;

/// Begins a migration of `a` that adds a column, as gh-ost does it.
async fn begin(stream: &Stream) {
    stream
        .sql(
            "CREATE TABLE @._a_ghc (id BIGINT PRIMARY KEY AUTO_INCREMENT, hint VARCHAR(64)); \
             INSERT INTO @._a_ghc (hint) VALUES ('state'); CREATE TABLE @._a_gho LIKE @.a; \
             ALTER TABLE @._a_gho ADD COLUMN w INT; INSERT INTO @._a_gho (id, v) SELECT id, v FROM @.a WHERE id < 3",
        )
        .await;
}

/// Copies the rest, cuts over, cleans up.
async fn end(stream: &Stream) {
    stream
        .sql(
            "INSERT IGNORE INTO @._a_gho (id, v) SELECT id, v FROM @.a; INSERT INTO @._a_ghc (hint) VALUES ('copied'); \
             CREATE TABLE @._a_del (id INT PRIMARY KEY); DROP TABLE @._a_del; \
             RENAME TABLE @.a TO @._a_del, @._a_gho TO @.a; DROP TABLE @._a_ghc; DROP TABLE @._a_del",
        )
        .await;
}

async fn assert_no_ghosts(region: &Server, schema: &str) {
    let ghosts: Vec<String> = region
        .rows(&format!("SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{schema}' AND TABLE_NAME LIKE '\\_a%'"))
        .await;
    assert!(ghosts.is_empty(), "{ghosts:?}");
}

#[tokio::test]
async fn ghosts_of_a_table_in_quarantine_are_passed_over_and_cleaned_up() {
    let (stream, region) = isolated("qg_whole").await;
    begin(&stream).await;
    assert_eq!(apply(&stream, &region).await, ["_a_ghc", "_a_gho", "a"]);
    end(&stream).await;
    assert_eq!(apply(&stream, &region).await, ["a"]);
    assert_no_ghosts(&region, "qg_whole").await;
    assert_others_equal(&stream, &region, &["a"], 16).await;
    // Readers still have the table as it was.
    assert_eq!(region.value::<u64>("SELECT COUNT(*) FROM qg_whole.a").await, 2);
}

#[tokio::test]
async fn ghosts_that_were_there_before_the_quarantine_are_cleaned_up_too() {
    let (stream, region) = super::kit::applied("qg_before").await;
    begin(&stream).await;
    assert!(apply(&stream, &region).await.is_empty());
    region.sql("DELETE FROM qg_before.a WHERE id = 2").await;
    stream
        .sql("BEGIN; UPDATE @.a SET v = 'm' WHERE id = 2; UPDATE @._a_gho SET v = 'm' WHERE id = 2; COMMIT")
        .await;
    end(&stream).await;
    assert_eq!(apply(&stream, &region).await, ["a"]);
    assert_no_ghosts(&region, "qg_before").await;
    assert_others_equal(&stream, &region, &["a"], 16).await;
}

/// I5: the table comes back in the middle of a migration (here by hand, as a restore would), and the ghost that has
/// missed rows never takes its place.
#[tokio::test]
async fn i5_a_ghost_that_missed_rows_never_becomes_the_table() {
    let (stream, region) = isolated("qg_back").await;
    begin(&stream).await;
    apply(&stream, &region).await;
    // What a restore does.
    region.sql("DELETE FROM qg_back.a; DELETE FROM tablecast.quarantine WHERE table_name = 'a'").await;
    let rows_of_a: Vec<(u32, String)> = stream.source.rows("SELECT id, v FROM qg_back.a").await;
    for (id, v) in rows_of_a {
        region.sql(&format!("INSERT INTO qg_back.a VALUES ({id}, '{v}')")).await;
    }
    stream.sql("INSERT INTO @.a VALUES (20, 'new')").await;
    assert_eq!(apply(&stream, &region).await, ["_a_ghc", "_a_gho"]);
    assert_others_equal(&stream, &region, &["_a_ghc", "_a_gho"], 10).await;
    end(&stream).await;
    assert_eq!(apply(&stream, &region).await, ["a"]);
    assert_eq!(rows(&stream, &region).await, [row("a", "tied", 15, 1)]);
    assert_no_ghosts(&region, "qg_back").await;
    assert_eq!(region.value::<u64>("SELECT COUNT(*) FROM qg_back.a").await, 4);
}

#[tokio::test]
async fn a_ghost_that_does_not_fit_leaves_its_table_alone_until_the_cut_over() {
    let (stream, region) = super::kit::applied("qg_ghost").await;
    begin(&stream).await;
    apply(&stream, &region).await;
    region.sql("DELETE FROM qg_ghost._a_gho").await;
    stream
        .sql("BEGIN; UPDATE @.a SET v = 'm' WHERE id = 2; UPDATE @._a_gho SET v = 'm' WHERE id = 2; COMMIT")
        .await;
    assert_eq!(apply(&stream, &region).await, ["_a_gho"]);
    assert_others_equal(&stream, &region, &["_a_gho"], 9).await;
    end(&stream).await;
    assert_eq!(apply(&stream, &region).await, ["a"]);
    assert_no_ghosts(&region, "qg_ghost").await;
}
