//! Drift made by hand in a region, one kind at a time: the table is isolated, nothing stops.

use super::kit::{Stream, applied, assert_others_equal, names, row, rows};
use crate::support::mysql::Server;

/// Every table changed, the last transaction in two of them at once and behind the first: it cannot pass it.
async fn change_all(stream: &Stream) {
    for table in ["a", "b", "c"] {
        stream.sql(&format!("UPDATE @.{table} SET v = CONCAT(v, '!')")).await;
    }
    stream
        .sql("BEGIN; UPDATE @.a SET v = 'both' WHERE id = 1; INSERT INTO @.b VALUES (7, 'both'); COMMIT")
        .await;
}

/// I4: exactly the healthy part arrives, once.
async fn assert_isolated(stream: &Stream, region: &Server, reason: &str) {
    change_all(stream).await;
    stream.upload().await;
    let report = stream.apply(region).await.unwrap();
    assert_eq!(names(&report.quarantined), ["a"]);
    assert_eq!(report.last_tx, 7);
    assert_eq!(rows(stream, region).await, [row("a", reason, 4, 2)]);
    assert_others_equal(stream, region, &["a"], 7).await;
    // And it stays so.
    stream.sql("DELETE FROM @.a WHERE id < 3").await;
    stream.upload().await;
    let report = stream.apply(region).await.unwrap();
    assert_eq!(names(&report.quarantined), ["a"]);
    assert_eq!(rows(stream, region).await, [row("a", reason, 4, 3)]);
    assert_others_equal(stream, region, &["a"], 8).await;
}

#[tokio::test]
async fn a_row_deleted_by_hand_isolates_its_table() {
    let (stream, region) = applied("qu_deleted").await;
    region.sql("DELETE FROM qu_deleted.a WHERE id = 2").await;
    assert_isolated(&stream, &region, "conflict").await;
    let error: String = region.value("SELECT error FROM tablecast.quarantine").await;
    let uuid: String = stream.source.value("SELECT @@server_uuid").await;
    for part in ["stream transaction 4", &uuid, "qu_deleted.a, key id=2", "1032"] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(region.value::<u16>("SELECT code FROM tablecast.quarantine").await, 1032);
    // No change of it ran: the rows are those of before.
    let found: Vec<(u32, String)> = region.rows("SELECT id, v FROM qu_deleted.a ORDER BY id").await;
    assert_eq!(found, [(1, "x".to_owned()), (3, "z".to_owned())]);
    assert_eq!(region.value::<Option<String>>("SELECT MAX(error) FROM tablecast.state").await, None);
}

#[tokio::test]
async fn a_row_added_by_hand_isolates_its_table_only_when_it_is_in_the_way() {
    let (stream, region) = applied("qu_added").await;
    region.sql("INSERT INTO qu_added.a VALUES (7, 'mine')").await;
    change_all(&stream).await;
    stream.sql("BEGIN; INSERT INTO @.b VALUES (8, 'both'); INSERT INTO @.a VALUES (7, 'both'); COMMIT").await;
    stream.upload().await;
    let report = stream.apply(&region).await.unwrap();
    assert_eq!(names(&report.quarantined), ["a"]);
    assert_eq!(rows(&stream, &region).await, [row("a", "conflict", 8, 1)]);
    assert_others_equal(&stream, &region, &["a"], 8).await;
}

#[tokio::test]
async fn a_column_changed_by_hand_isolates_its_table_before_a_row_lands_in_it() {
    let (stream, region) = applied("qu_column").await;
    region.sql("ALTER TABLE qu_column.a MODIFY v VARCHAR(40) FIRST").await;
    assert_isolated(&stream, &region, "definition").await;
}

#[tokio::test]
async fn an_index_dropped_by_hand_isolates_its_table() {
    let (stream, region) = applied("qu_index").await;
    region.sql("ALTER TABLE qu_index.a DROP KEY v").await;
    assert_isolated(&stream, &region, "definition").await;
}

#[tokio::test]
async fn a_table_dropped_by_hand_is_isolated() {
    let (stream, region) = applied("qu_table").await;
    region.sql("DROP TABLE qu_table.a").await;
    assert_isolated(&stream, &region, "definition").await;
}

#[tokio::test]
async fn a_schema_dropped_by_hand_is_made_again_and_its_tables_are_isolated() {
    let (stream, region) = applied("qu_schema").await;
    region.sql("DROP DATABASE qu_schema").await;
    change_all(&stream).await;
    stream.sql("CREATE TABLE @.new (id INT PRIMARY KEY); INSERT INTO @.new VALUES (1)").await;
    stream.upload().await;
    let report = stream.apply(&region).await.unwrap();
    assert_eq!(names(&report.quarantined), ["a", "b", "c"]);
    assert_others_equal(&stream, &region, &["a", "b", "c"], 9).await;
}

#[tokio::test]
async fn tables_tied_by_foreign_keys_are_isolated_together() {
    let tables = "CREATE TABLE @.p (id INT PRIMARY KEY); \
                  CREATE TABLE @.c (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES @.p (id)); \
                  CREATE TABLE @.d (id INT PRIMARY KEY, c INT, FOREIGN KEY (c) REFERENCES @.c (id)); \
                  CREATE TABLE @.other (id INT PRIMARY KEY)";
    let stream = Stream::new("qu_family", tables).await;
    let region = Server::start(&[]);
    stream
        .sql("INSERT INTO @.p VALUES (1), (2); INSERT INTO @.c VALUES (1, 1); INSERT INTO @.d VALUES (1, 1)")
        .await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    region.sql("DELETE FROM qu_family.p WHERE id = 2").await;
    stream
        .sql("INSERT INTO @.c VALUES (2, 2); INSERT INTO @.d VALUES (2, 2); INSERT INTO @.other VALUES (1)")
        .await;
    stream.upload().await;
    let report = stream.apply(&region).await.unwrap();
    assert_eq!(names(&report.quarantined), ["c", "d", "p"]);
    assert_eq!(
        rows(&stream, &region).await,
        [row("c", "conflict", 4, 1), row("d", "tied", 4, 1), row("p", "tied", 4, 0)]
    );
    assert_others_equal(&stream, &region, &["c", "d", "p"], 6).await;
}

/// Where the stream knows no definition, the columns of the row events tell, at the segment that brings them.
#[tokio::test]
async fn columns_that_differ_isolate_a_table_whose_definition_is_not_known() {
    let (stream, region) = applied("qu_blind").await;
    region.sql("ALTER TABLE qu_blind.a MODIFY v VARCHAR(40) FIRST").await;
    stream.sql("UPDATE @.b SET v = 'x'").await;
    stream.upload().await;
    stream.sql("UPDATE @.b SET v = 'y'; UPDATE @.a SET v = 'z'; UPDATE @.c SET v = 'x'").await;
    stream.upload().await;
    let index = stream.bucket().join("index.json");
    let mut blind = tablecast::stream::Head::parse(&std::fs::read(&index).unwrap()).unwrap();
    blind.definitions.clear();
    std::fs::write(&index, blind.to_json().unwrap()).unwrap();
    let report = stream.apply(&region).await.unwrap();
    assert_eq!(names(&report.quarantined), ["a"]);
    assert_eq!(rows(&stream, &region).await, [row("a", "definition", 6, 1)]);
    assert_others_equal(&stream, &region, &["a"], 7).await;
}
