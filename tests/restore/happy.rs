//! Tables that differ are right again, whatever was done to them.

use mysql_async::prelude::Queryable;
use tablecast::binlog::name::{TableName, shadow_name};

use super::kit::{FULL, SOME, Stream, assert_clean, dump, publish, restores, take};
use crate::support::mysql::Server;

const TABLES: &str = "CREATE TABLE @.a (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(40), n INT, KEY (v), UNIQUE KEY u (n)); \
                      CREATE TABLE @.b (id INT PRIMARY KEY, v VARCHAR(40))";

async fn applied(schema: &'static str, options: &[&str]) -> (Stream, Server) {
    let stream = Stream::new(schema, TABLES).await;
    let region = Server::start(options);
    stream.sql("INSERT INTO @.a (v, n) VALUES ('x', 1), ('y', 2), ('z', 3); INSERT INTO @.b VALUES (1, 'x'), (2, 'y')").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    stream.assert_equal(&region).await;
    (stream, region)
}

#[tokio::test]
async fn a_table_with_a_row_missing_heals_from_a_dump_that_comes_later() {
    let (stream, region) = applied("rs_later", &[]).await;
    region.sql("DELETE FROM rs_later.a WHERE id = 2").await;
    stream.sql("UPDATE @.a SET v = CONCAT(v, '!'); INSERT INTO @.b VALUES (3, 'z')").await;
    stream.upload().await;
    let report = stream.apply(&region).await.unwrap();
    assert_eq!(report.quarantined.len(), 1);
    assert_eq!(report.waiting.len(), 1, "{:?}", report.waiting);
    assert!(report.waiting[0].contains("tablecast dump take 'rs_later.a'"), "{:?}", report.waiting);
    dump(&stream, &["a"], SOME).await;
    stream.sql("UPDATE @.a SET v = CONCAT(v, '?') WHERE id > 1; INSERT INTO @.a (v) VALUES ('new')").await;
    stream.upload().await;
    let report = stream.apply(&region).await.unwrap();
    assert_eq!((report.quarantined.len(), report.waiting.len()), (0, 0), "{:?}", report.waiting);
    stream.assert_equal(&region).await;
    assert_clean(&region).await;
    assert_eq!(restores(&region).await, [("done".to_owned(), "quarantine".to_owned())]);
}

#[tokio::test]
async fn a_table_heals_from_an_older_dump_and_what_the_stream_has_done_since() {
    let (stream, region) = applied("rs_older", &[]).await;
    dump(&stream, &["a", "b"], FULL).await;
    let late = take(&stream, &["a"]).await;
    stream.sql("UPDATE @.a SET v = CONCAT(v, '1') WHERE id <> 2; INSERT INTO @.a (v) VALUES ('p'), ('q'); DELETE FROM @.a WHERE id = 1").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    region.sql("DROP TABLE rs_older.a").await;
    stream.sql("UPDATE @.a SET v = CONCAT(v, '2'), n = id * 10").await;
    stream.upload().await;
    publish(&stream, &late, SOME).await;
    let report = stream.apply(&region).await.unwrap();
    assert_eq!((report.quarantined.len(), report.waiting.len()), (0, 0), "{:?}", report.waiting);
    stream.assert_equal(&region).await;
    assert_clean(&region).await;
}

/// Somebody changes the shadow behind the restore's back.
#[tokio::test(flavor = "multi_thread")]
async fn i8_rows_that_are_not_what_the_manifest_says_never_become_the_table() {
    let (stream, region) = applied("rs_other", &[]).await;
    region.sql("DELETE FROM rs_other.a WHERE id = 2").await;
    stream.sql("UPDATE @.a SET v = CONCAT(v, '!')").await;
    dump(&stream, &["a"], SOME).await;
    let folder = tempfile::tempdir().unwrap();
    let go_on = folder.path().join("go-on");
    let running = stream.spawn(&region, &format!("restore.rows_loaded=until:{}", go_on.display()));
    let shadow = shadow_name(&TableName::new("rs_other", "a")).quoted();
    let mut conn = region.connect().await;
    let mut loaded: Option<u64> = None;
    for _ in 0..1200 {
        loaded = conn.query_first(format!("SELECT COUNT(*) FROM {shadow}")).await.ok().flatten();
        if loaded == Some(3) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(loaded, Some(3), "the rows come into the shadow");
    region.sql(&format!("UPDATE {shadow} SET v = 'somebody else' WHERE id = 3")).await;
    std::fs::write(&go_on, "").unwrap();
    let output = running.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("have arrived with checksum"), "{said}");
    let theirs: Option<u64> =
        conn.query_first("SELECT COUNT(*) FROM rs_other.a WHERE v = 'somebody else'").await.unwrap();
    assert_eq!(theirs, Some(0), "{said}");
    // That dump is not tried again.
    dump(&stream, &["a"], SOME).await;
    stream.apply(&region).await.unwrap();
    stream.assert_equal(&region).await;
    assert_clean(&region).await;
}

/// A server reads the values of partitions by the session that opens the table first: those of dumps and restores, too.
#[tokio::test]
async fn a_table_whose_partitions_are_latin1_and_not_ascii_is_dumped_and_restored() {
    let table = "CREATE TABLE @.p (k VARCHAR(9) CHARACTER SET latin1 COLLATE latin1_bin, n INT) PARTITION BY LIST COLUMNS (k) \
                 (PARTITION a VALUES IN ('a'), PARTITION b VALUES IN ('ä'))";
    let stream = Stream::new("rs_parted", table).await;
    let region = Server::start(&[]);
    stream.sql("INSERT INTO @.p VALUES ('a', 1), ('ä', 2)").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    region.sql("DELETE FROM rs_parted.p").await;
    stream.sql("UPDATE @.p SET n = n + 1; FLUSH TABLES").await;
    dump(&stream, &["p"], SOME).await;
    // One more connection than the source has table caches: none of them takes the values for bytes now.
    for n in 0..17 {
        let mut application = stream.source.connect().await;
        let insert = format!("INSERT INTO rs_parted.p VALUES (_latin1 0xE4, {n})");
        application.query_drop(insert).await.unwrap();
    }
    stream.upload().await;
    let report = stream.apply(&region).await.unwrap();
    assert_eq!((report.quarantined.len(), report.waiting.len()), (0, 0), "{:?}", report.waiting);
    let found: u64 = region.value("SELECT COUNT(*) FROM rs_parted.p PARTITION (b)").await;
    assert_eq!(found, 18);
    assert_eq!(restores(&region).await, [("done".to_owned(), "quarantine".to_owned())]);
    stream.assert_equal(&region).await;
}
