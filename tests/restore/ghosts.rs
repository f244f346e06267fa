//! Ghost tables of a migration in flight where a dump takes the place of history: no dump holds a ghost. I5: one that
//! may lack rows never becomes the table.

use super::kit::{FULL, Kind, SOME, Stream, assert_clean, dump};
use crate::support::mysql::Server;

const TABLES: &str =
    "CREATE TABLE @.a (id INT PRIMARY KEY, v VARCHAR(40)); CREATE TABLE @.b (id INT PRIMARY KEY)";

async fn begun(schema: &'static str) -> Stream {
    let stream = Stream::new(schema, TABLES).await;
    stream
        .sql(
            "INSERT INTO @.a VALUES (1, 'x'), (2, 'y'), (3, 'z'); CREATE TABLE @._a_gho LIKE @.a; \
             ALTER TABLE @._a_gho ADD COLUMN w INT; INSERT INTO @._a_gho (id, v) SELECT id, v FROM @.a WHERE id < 3",
        )
        .await;
    stream.upload().await;
    stream
}

/// Cuts over: the region's table is in quarantine, and is right again with a dump. The old one goes when it goes at the
/// source.
async fn cut_over_and_heal(stream: &Stream, region: &Server) {
    stream.sql("RENAME TABLE @.a TO @._a_del, @._a_gho TO @.a; INSERT INTO @.a VALUES (4, 'new', 1)").await;
    stream.upload().await;
    let report = stream.apply(region).await.unwrap();
    let quarantined: Vec<&str> = report.quarantined.iter().map(|known| known.table.table.as_str()).collect();
    assert_eq!(quarantined, ["_a_del", "a"]);
    dump(stream, &["a"], SOME).await;
    stream.sql("DROP TABLE @._a_del").await;
    stream.upload().await;
    stream.apply(region).await.unwrap();
    stream.assert_equal(region).await;
    assert_clean(region).await;
}

#[tokio::test]
async fn i5_a_ghost_that_may_lack_what_a_resync_stands_for_never_becomes_the_table() {
    let stream = begun("rg_resync").await;
    let region = Server::start(&[]);
    stream.apply(&region).await.unwrap();
    stream.assert_equal(&region).await;
    // A row that is only inserted: nothing that comes later would show that it is missing.
    stream.sql("SET sql_log_bin = 0; INSERT INTO @._a_gho (id, v) SELECT id, v FROM @.a WHERE id = 3").await;
    dump(&stream, &["a", "b"], Kind { full: true, mandatory: true, resync: true }).await;
    stream.sql("INSERT INTO @.b VALUES (1)").await;
    stream.upload().await;
    let report = stream.apply(&region).await.unwrap();
    let quarantined: Vec<&str> = report.quarantined.iter().map(|known| known.table.table.as_str()).collect();
    assert_eq!(quarantined, ["_a_gho"]);
    cut_over_and_heal(&stream, &region).await;
}

#[tokio::test]
async fn i5_an_empty_ghost_that_a_new_region_finds_never_becomes_the_table() {
    let stream = begun("rg_found").await;
    dump(&stream, &["a", "b"], FULL).await;
    let region = Server::start(&[]);
    // Left when the server was emptied.
    region.sql("CREATE DATABASE rg_found; CREATE TABLE rg_found._a_gho (id INT PRIMARY KEY, v VARCHAR(40), w INT)").await;
    let output = stream.command_of(&region, &["bootstrap"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    stream.sql("INSERT INTO @._a_gho (id, v) SELECT id, v FROM @.a WHERE id = 3").await;
    cut_over_and_heal(&stream, &region).await;
}

#[tokio::test]
async fn i5_a_ghost_that_a_new_region_never_had_takes_the_table_with_it_at_the_cut_over() {
    let stream = begun("rg_never").await;
    stream.sql("INSERT INTO @._a_gho (id, v) SELECT id, v FROM @.a WHERE id = 3").await;
    dump(&stream, &["a", "b"], FULL).await;
    let region = Server::start(&[]);
    let output = stream.command_of(&region, &["bootstrap"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    cut_over_and_heal(&stream, &region).await;
}
