//! Views in a schema of which the set has every table: they never travel, and a RENAME does not say that it is one's.

use super::kit::{Stream, apply};
use crate::restore::kit::{SOME, assert_clean, dump};
use crate::support::mysql::Server;

async fn applied(schema: &'static str) -> (Stream, Server) {
    let stream = Stream::new(schema, "CREATE TABLE @.a (id INT PRIMARY KEY, v INT)").await;
    let region = Server::start(&[]);
    stream.sql("INSERT INTO @.a VALUES (1, 0); CREATE VIEW @.v AS SELECT * FROM @.a").await;
    assert!(apply(&stream, &region).await.is_empty());
    (stream, region)
}

async fn base_tables(server: &Server, schema: &str) -> Vec<String> {
    server
        .rows(&format!(
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{schema}' AND TABLE_TYPE = 'BASE TABLE'"
        ))
        .await
}

/// I3: what is no table's does not travel, and a table's RENAME does, whatever views are beside it.
#[tokio::test]
async fn a_view_that_is_renamed_does_not_travel() {
    let (stream, region) = applied("qv_view").await;
    stream.sql("RENAME TABLE @.v TO @.w; UPDATE @.a SET v = 1").await;
    let report = stream.upload().await;
    assert_eq!((report.kept, report.foreign > 0), (1, true));
    assert!(stream.apply(&region).await.unwrap().quarantined.is_empty());
    // The same name is a table's next, and its RENAME, made and read in one go, is one.
    stream.sql("DROP VIEW @.w; CREATE TABLE @.w LIKE @.a; RENAME TABLE @.w TO @.x; INSERT INTO @.x VALUES (7, 7)").await;
    assert_eq!(stream.upload().await.kept, 3);
    assert!(stream.apply(&region).await.unwrap().quarantined.is_empty());
    stream.sql("RENAME TABLE @.x TO @.y; CREATE VIEW @.x AS SELECT 1").await;
    assert_eq!(stream.upload().await.kept, 1);
    assert!(stream.apply(&region).await.unwrap().quarantined.is_empty());
    assert_eq!(base_tables(&region, "qv_view").await, ["a", "y"]);
    assert_eq!(stream.source.checksum("qv_view.y").await, region.checksum("qv_view.y").await);
}

/// Where it cannot be recognised, it ends in quarantine and heals from there, like any statement that a region's tables
/// cannot take.
#[tokio::test]
async fn a_view_that_is_renamed_twice_before_it_is_read_heals_from_a_dump() {
    let (stream, region) = applied("qv_twice").await;
    stream.sql("RENAME TABLE @.v TO @.w; RENAME TABLE @.w TO @.x; RENAME TABLE @.a TO @.b, @.x TO @.y").await;
    stream.sql("UPDATE @.b SET v = 2").await;
    let quarantined = apply(&stream, &region).await;
    // Names that are left behind leave the quarantine with the statement that does so.
    assert_eq!(quarantined, ["b", "y"]);
    dump(&stream, &["b", "y"], SOME).await;
    let report = stream.apply(&region).await.unwrap();
    assert!(report.quarantined.is_empty() && report.waiting.is_empty(), "{:?}", report.waiting);
    assert_clean(&region).await;
    assert_eq!(base_tables(&region, "qv_twice").await, ["b"]);
    stream.sql("UPDATE @.b SET v = 3").await;
    assert!(apply(&stream, &region).await.is_empty());
    assert_eq!(stream.source.checksum("qv_twice.b").await, region.checksum("qv_twice.b").await);
}

/// I4: whoever puts a view in a table's place keeps that table alone from going on.
#[tokio::test]
async fn a_view_in_a_region_in_the_place_of_a_table_isolates_that_table_alone() {
    let (stream, region) = super::kit::applied("qv_place").await;
    region.sql("RENAME TABLE qv_place.a TO qv_place.elsewhere; CREATE VIEW qv_place.a AS SELECT * FROM qv_place.elsewhere").await;
    stream.sql("UPDATE @.a SET v = 'there'; UPDATE @.b SET v = 'here'").await;
    assert_eq!(apply(&stream, &region).await, ["a"]);
    assert_eq!(stream.source.checksum("qv_place.b").await, region.checksum("qv_place.b").await);
}
