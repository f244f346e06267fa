//! Transactions in which only a part is left out (I4: the rest arrives, exactly once).

use super::kit::{Stream, apply, assert_others_equal, isolated, row, rows};
use crate::support::granted;
use crate::support::mysql::Server;

#[tokio::test]
async fn i4_of_a_statement_on_two_tables_the_healthy_part_arrives() {
    let (stream, region) = isolated("qu_multi").await;
    stream
        .sql(
            "USE @; UPDATE @.a JOIN @.b USING (id) SET a.v = 'both', b.v = 'both'; \
             UPDATE @.b JOIN @.a USING (id) SET a.v = 'again', b.v = 'again'; \
             UPDATE @.a JOIN @.b USING (id) JOIN @.c USING (id) SET a.v = 3, b.v = 3, c.v = 3; \
             DELETE @.a, @.b FROM @.a JOIN @.b USING (id) WHERE id = 1; \
             UPDATE @.a LEFT JOIN @.b ON b.id = a.id + 1000 SET a.v = 'alone', b.v = 'alone'; \
             BEGIN; UPDATE @.b SET v = 'x'; UPDATE @.a SET v = 'x'; UPDATE @.c SET v = 'x'; \
             INSERT INTO @.a VALUES (50, 'x'); INSERT INTO @.b VALUES (50, 'x'); COMMIT",
        )
        .await;
    assert_eq!(apply(&stream, &region).await, ["a"]);
    assert_others_equal(&stream, &region, &["a"], 10).await;
    assert_eq!(rows(&stream, &region).await, [row("a", "conflict", 4, 7)]);
}

#[tokio::test]
async fn savepoints_around_what_is_left_out_stay_valid() {
    let (stream, region) = isolated("qu_savepoint").await;
    stream
        .sql(
            "BEGIN; SAVEPOINT one; UPDATE @.a SET v = 's'; COMMIT; \
             BEGIN; SAVEPOINT one; UPDATE @.a SET v = 't'; SAVEPOINT two; UPDATE @.a SET v = 'u'; ROLLBACK TO two; \
             UPDATE @.a SET v = 'w'; COMMIT; \
             BEGIN; UPDATE @.b SET v = 's'; SAVEPOINT one; UPDATE @.a SET v = 'v'; UPDATE @.b SET v = 't'; \
             ROLLBACK TO one; INSERT INTO @.a VALUES (60, 'x'); UPDATE @.c SET v = 'after'; COMMIT",
        )
        .await;
    assert_eq!(apply(&stream, &region).await, ["a"]);
    assert_others_equal(&stream, &region, &["a"], 7).await;
}

#[tokio::test]
async fn of_a_transaction_in_pieces_the_healthy_part_arrives() {
    let table = "CREATE TABLE @.a (id INT PRIMARY KEY, v VARCHAR(200)); CREATE TABLE @.b LIKE @.a";
    let stream = Stream::new("qu_pieces", table).await;
    let region = Server::start(&[]);
    let fill = "SET cte_max_recursion_depth = 100000; INSERT INTO @.a WITH RECURSIVE s AS (SELECT 1 n UNION ALL SELECT \
                n + 1 FROM s WHERE n < 20000) SELECT n, REPEAT('x', 150) FROM s; INSERT INTO @.b SELECT * FROM @.a";
    stream.sql(fill).await;
    assert!(apply(&stream, &region).await.is_empty());
    // The failure comes in the middle of it, with pieces behind us.
    region.sql("DELETE FROM qu_pieces.a WHERE id = 15000").await;
    stream
        .sql(
            "BEGIN; UPDATE @.b SET v = CONCAT(id, v); UPDATE @.a SET v = CONCAT(id, v); \
             UPDATE @.a JOIN @.b USING (id) SET a.v = 'z', b.v = CONCAT('z', id); DELETE FROM @.b WHERE id % 7 = 0; COMMIT",
        )
        .await;
    assert_eq!(apply(&stream, &region).await, ["a"]);
    assert_eq!(rows(&stream, &region).await, [row("a", "conflict", 3, 1)]);
    assert_others_equal(&stream, &region, &["a"], 3).await;
    let error: String = region.value("SELECT error FROM tablecast.quarantine").await;
    assert!(error.contains("on qu_pieces.a"), "{error}");
    // Nothing of it was kept in `a`.
    assert_eq!(
        region.value::<u64>("SELECT COUNT(*) FROM qu_pieces.a WHERE v = REPEAT('x', 150)").await,
        19_999
    );
}

/// Two tables of one name in two schemas, and MySQL's message tells neither.
#[tokio::test]
async fn the_table_that_failed_is_told_from_one_of_the_same_name() {
    let tables = "CREATE DATABASE qu_name2; CREATE TABLE @.t (id INT PRIMARY KEY, v INT); \
                  CREATE TABLE qu_name2.t LIKE @.t";
    let stream = Stream::of_set("qu_name1", tables, &["@.*", "qu_name2.*"]).await;
    let region = Server::start(&[]);
    let config =
        tablecast::config::load(&stream.region_file(&region, granted::USER, &["@.*", "qu_name2.*"])).unwrap();
    let apply = async || {
        stream.upload().await;
        stream.apply_with(&config, crate::apply::kit::options()).await.unwrap()
    };
    stream.sql("INSERT INTO @.t VALUES (1, 1), (2, 2); INSERT INTO qu_name2.t VALUES (1, 1), (2, 2)").await;
    apply().await;
    region.sql("DELETE FROM qu_name2.t WHERE id = 2").await;
    stream.sql("BEGIN; UPDATE @.t SET v = 9; UPDATE qu_name2.t SET v = 9; COMMIT").await;
    let report = apply().await;
    let tables: Vec<String> = report.quarantined.iter().map(|known| known.table.to_string()).collect();
    assert_eq!(tables, ["qu_name2.t"]);
    assert_others_equal(&stream, &region, &[], 3).await;
}

#[tokio::test]
async fn conflicts_in_several_tables_of_a_transaction_isolate_each_of_them() {
    let (stream, region) = isolated("qu_several").await;
    region.sql("DELETE FROM qu_several.b; INSERT INTO qu_several.c VALUES (9, 'mine')").await;
    stream
        .sql("BEGIN; UPDATE @.a SET v = 1; UPDATE @.b SET v = 1; INSERT INTO @.c VALUES (9, 9); COMMIT; UPDATE @.c SET v = 2")
        .await;
    assert_eq!(apply(&stream, &region).await, ["a", "b", "c"]);
    assert_eq!(
        rows(&stream, &region).await,
        [row("a", "conflict", 4, 2), row("b", "conflict", 5, 1), row("c", "conflict", 5, 2)]
    );
    assert_others_equal(&stream, &region, &["a", "b", "c"], 6).await;
}

/// Two streams in one region: the other one does not notice.
#[tokio::test]
async fn another_stream_of_the_region_is_not_touched() {
    let (stream, region) = isolated("qu_one").await;
    let other = Stream::new("qu_two", "CREATE TABLE @.a (id INT PRIMARY KEY)").await;
    other.sql("INSERT INTO @.a VALUES (1)").await;
    assert!(apply(&other, &region).await.is_empty());
    other.assert_equal(&region).await;
    assert_eq!(rows(&stream, &region).await.len(), 1);
    assert_eq!(rows(&other, &region).await, []);
    assert_eq!(apply(&stream, &region).await, ["a"]);
}

#[tokio::test]
async fn the_regions_own_replica_has_the_same_rows_and_the_same_quarantine() {
    let stream = Stream::new(
        "qu_replica",
        "CREATE TABLE @.a (id INT PRIMARY KEY, v INT); CREATE TABLE @.b (id INT PRIMARY KEY, v INT)",
    )
    .await;
    let [region, replica] = Server::start_all([&[], &[]]);
    replica.replicate_from(&region, "").await;
    stream.sql("INSERT INTO @.a VALUES (1, 1); INSERT INTO @.b VALUES (1, 1)").await;
    apply(&stream, &region).await;
    region.sql("DELETE FROM qu_replica.a").await;
    stream
        .sql(
            "BEGIN; UPDATE @.a SET v = 2; UPDATE @.b SET v = 2; COMMIT; ALTER TABLE @.a ADD COLUMN w INT; \
             BEGIN; SAVEPOINT s; UPDATE @.a SET w = 5; COMMIT; CREATE TABLE @.x LIKE @.a; DROP TABLE @.x",
        )
        .await;
    assert_eq!(apply(&stream, &region).await, ["a"]);
    replica.catch_up(&region).await;
    assert_eq!(rows(&stream, &replica).await, rows(&stream, &region).await);
    assert_eq!(stream.tables(&replica).await, stream.tables(&region).await);
    assert_others_equal(&stream, &region, &["a"], 7).await;
}
