//! What arrives.

use std::process::Command;

use super::kit::{Stream, assert_error, options};
use crate::support::mysql::{HOSTILE, Server};
use tablecast::Kind;

const APPS: &str = "CREATE TABLE @.apps (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(80), at TIMESTAMP NULL) \
                    COLLATE utf8mb4_0900_ai_ci";

#[tokio::test]
async fn rows_and_ddl_arrive_in_a_region_whose_every_default_differs() {
    let stream = Stream::new("ap_hostile", APPS).await;
    let [plain, hostile] = Server::start_all([&[], HOSTILE]);
    stream.sql("INSERT INTO @.apps (name, at) VALUES ('one', NOW()), ('two', NULL)").await;
    stream
        .sql(
            "ALTER TABLE @.apps ADD COLUMN price DECIMAL(8,2) AS (LENGTH(name) * 1.5) STORED, ADD KEY (name)",
        )
        .await;
    stream.sql("SET time_zone='-07:00', sql_mode='ANSI_QUOTES'; USE @; \
                CREATE TABLE \"more\" (t TIMESTAMP DEFAULT '2020-01-01 12:00:00', x INT DEFAULT 7) COLLATE latin1_bin")
        .await;
    stream.sql("INSERT INTO @.more () VALUES (), (); UPDATE @.apps SET name = UPPER(name); DELETE FROM @.apps WHERE id = 2")
        .await;
    stream.sql("CREATE TABLE @.copied SELECT id, name FROM @.apps").await;
    stream.upload().await;
    for region in [&plain, &hostile] {
        let report = stream.apply(region).await.unwrap();
        assert_eq!(report.last_tx, report.transactions, "{report:?}");
        stream.assert_equal(region).await;
        assert_eq!(stream.executed(region).await, format!("1-{}", report.last_tx));
    }
    // Nothing new: nothing done.
    let before = stream.state(&plain).await;
    let report = stream.apply(&plain).await.unwrap();
    assert_eq!((report.transactions, report.entries), (0, 0));
    assert_eq!(before, stream.state(&plain).await);
}

#[tokio::test]
async fn many_entries_and_sessions_arrive_once_and_in_order() {
    let stream =
        Stream::new("ap_many", "CREATE TABLE @.n (id INT PRIMARY KEY, v INT, KEY (v)) COLLATE utf8mb4_bin")
            .await;
    let region = Server::start(&[]);
    for round in 0..5 {
        let writers = (0..4).map(|writer| {
            let stream = &stream;
            async move {
                for i in 0..25 {
                    let id = writer * 1000 + round * 25 + i;
                    stream
                        .sql(&format!(
                            "INSERT INTO @.n VALUES ({id}, 0); UPDATE @.n SET v = v + 1 + {i} WHERE id = {id}"
                        ))
                        .await;
                }
            }
        });
        futures::future::join_all(writers).await;
        stream.upload().await;
    }
    let report = stream.apply(&region).await.unwrap();
    assert_eq!((report.entries, report.transactions, report.last_tx), (5, 1000, 1000));
    stream.assert_equal(&region).await;
    assert_eq!(stream.executed(&region).await, "1-1000");
}

#[tokio::test]
async fn a_transaction_larger_than_a_piece_arrives_whole() {
    let stream =
        Stream::new("ap_large", "CREATE TABLE @.n (id INT PRIMARY KEY, v VARCHAR(200)) COLLATE utf8mb4_bin")
            .await;
    let region = Server::start(&["--max-allowed-packet=4M"]);
    stream
        .sql(
            "SET cte_max_recursion_depth = 100000; INSERT INTO @.n WITH RECURSIVE s AS (SELECT 1 n UNION ALL SELECT \
             n + 1 FROM s WHERE n < 30000) SELECT n, REPEAT('x', 150) FROM s; \
             BEGIN; UPDATE @.n SET v = CONCAT(id, v); DELETE FROM @.n WHERE id % 3 = 0; SAVEPOINT `ä # b`; \
             DELETE FROM @.n WHERE id % 5 = 0; ROLLBACK TO `ä # b`; COMMIT",
        )
        .await;
    stream.upload().await;
    let report = stream.apply(&region).await.unwrap();
    assert_eq!(report.transactions, 2);
    stream.assert_equal(&region).await;
}

#[tokio::test]
async fn until_stops_behind_a_transaction_and_the_next_run_goes_on() {
    let stream = Stream::new("ap_until", APPS).await;
    let region = Server::start(&[]);
    for i in 0..6 {
        stream.sql(&format!("INSERT INTO @.apps (name) VALUES ('{i}')")).await;
    }
    stream.upload().await;
    let config = stream.region_config(&region);
    let until = tablecast::region::apply::Options { until: Some(4), ..options() };
    stream.apply_with(&config, until).await.unwrap();
    assert_eq!(region.value::<u64>("SELECT COUNT(*) FROM ap_until.apps").await, 4);
    let report = stream.apply(&region).await.unwrap();
    assert_eq!((report.transactions, report.skipped, report.last_tx), (2, 4, 6));
    stream.assert_equal(&region).await;
}

#[tokio::test]
async fn a_dry_run_prints_the_plan_and_changes_nothing() {
    let stream = Stream::new("ap_dry", APPS).await;
    let region = Server::start(&[]);
    stream.sql("INSERT INTO @.apps (name) VALUES ('a')").await;
    stream.upload().await;
    let before = stream.state(&region).await;
    let dry = tablecast::region::apply::Options { dry_run: true, ..options() };
    let report = stream.apply_with(&stream.region_config(&region), dry).await.unwrap();
    let text = report.to_string();
    for part in [
        "create the schema ap_dry",
        "create the table ap_dry.apps, empty",
        "apply entry 1: transactions 1 to 1",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(before, stream.state(&region).await);
}

#[tokio::test]
async fn the_region_s_own_replicas_get_rows_and_position() {
    let stream = Stream::new("ap_replica", APPS).await;
    let [region, replica] = Server::start_all([&[], &[]]);
    replica.replicate_from(&region, "").await;
    stream.sql("INSERT INTO @.apps (name) VALUES ('a'); ALTER TABLE @.apps ADD COLUMN b JSON; UPDATE @.apps SET b='[1]'").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    replica.catch_up(&region).await;
    stream.assert_equal(&replica).await;
    assert_eq!(
        replica.value::<u64>("SELECT last_tx FROM tablecast.position WHERE name='ap_replica'").await,
        3
    );
}

#[tokio::test]
async fn a_stream_waits_for_a_table_lock_of_another_session() {
    let stream = Stream::new("ap_locks", APPS).await;
    let region = Server::start(&[]);
    stream.apply(&region).await.unwrap();
    stream.sql("INSERT INTO @.apps (name) VALUES ('a'); ALTER TABLE @.apps ADD COLUMN c INT").await;
    stream.upload().await;
    let mut reader = region.connect().await;
    use mysql_async::prelude::Queryable;
    reader.query_drop("BEGIN; SELECT * FROM ap_locks.apps").await.unwrap();
    let release = async {
        tokio::time::sleep(std::time::Duration::from_secs(7)).await;
        reader.query_drop("COMMIT").await.unwrap();
    };
    let (report, ()) = tokio::join!(stream.apply(&region), release);
    assert_eq!(report.unwrap().transactions, 2);
    stream.assert_equal(&region).await;
}

#[tokio::test]
async fn a_row_larger_than_the_region_takes_is_told_before_anything_runs() {
    let stream =
        Stream::new("ap_packet", "CREATE TABLE @.b (id INT PRIMARY KEY, v LONGBLOB) COLLATE utf8mb4_bin")
            .await;
    let region = Server::start(&["--max-allowed-packet=4M"]);
    stream.sql("INSERT INTO @.b VALUES (1, 'small')").await;
    stream.sql("INSERT INTO @.b VALUES (2, REPEAT('x', 5000000))").await;
    stream.upload().await;
    stream
        .assert_refused(
            &region,
            Kind::Failed,
            "a row event of ap_packet.b",
            "SET PERSIST max_allowed_packet=",
        )
        .await;
    region.sql("SET GLOBAL max_allowed_packet=16777216").await;
    stream.apply(&region).await.unwrap();
    stream.assert_equal(&region).await;
}

#[tokio::test]
async fn a_missing_row_stops_the_run_and_the_message_names_it() {
    let stream = Stream::new("ap_drift", APPS).await.stopping();
    let region = Server::start(&[]);
    stream.sql("INSERT INTO @.apps (name) VALUES ('a'), ('b'), ('c')").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    region.sql("DELETE FROM ap_drift.apps WHERE id = 2").await;
    stream.sql("UPDATE @.apps SET name = 'x' WHERE id IN (1, 2, 3)").await;
    stream.upload().await;
    let error = stream.apply(&region).await.unwrap_err();
    assert_error(&error, Kind::Drift, "ap_drift.apps, key id=2", "put the rows back");
    let text = error.to_string();
    let uuid: String = stream.source.value("SELECT @@server_uuid").await;
    assert!(text.contains("stream transaction 2") && text.contains(&uuid), "{text}");
    assert_eq!(stream.run(&region, "").status.code(), Some(1));
    let told: String = region.value("SELECT error FROM tablecast.state").await;
    assert!(told.contains("key id=2"), "{told}");
    assert_eq!(stream.executed(&region).await, "1");
    // Mended by hand, it goes on.
    region.sql("INSERT INTO ap_drift.apps (id, name) VALUES (2, 'b')").await;
    stream.apply(&region).await.unwrap();
    stream.assert_equal(&region).await;
    assert_eq!(region.value::<Option<String>>("SELECT error FROM tablecast.state").await, None);
}

#[tokio::test]
async fn a_duplicate_row_stops_the_run_and_the_message_names_it() {
    let stream = Stream::new("ap_dup", APPS).await.stopping();
    let region = Server::start(&[]);
    stream.apply(&region).await.unwrap();
    region.sql("INSERT INTO ap_dup.apps (id, name) VALUES (1, 'mine')").await;
    stream.sql("INSERT INTO @.apps (name) VALUES ('a')").await;
    stream.upload().await;
    let error = stream.apply(&region).await.unwrap_err();
    assert_error(&error, Kind::Drift, "on ap_dup.apps, key '1' of 'apps.PRIMARY'", "Nothing was skipped");
    assert_eq!(stream.executed(&region).await, "");
}

#[tokio::test]
async fn entries_from_several_binlog_files_of_the_source_arrive_in_one_run() {
    let stream = Stream::new("ap_files", APPS).await;
    let region = Server::start(&[]);
    for name in ["a", "b", "c", "d"] {
        stream.sql(&format!("INSERT INTO @.apps (name) VALUES ('{name}'), ('{name}2')")).await;
        stream.upload().await;
        // Another file, another format description.
        stream.source.sql("FLUSH BINARY LOGS").await;
    }
    assert_eq!(stream.apply(&region).await.unwrap().transactions, 4);
    stream.assert_equal(&region).await;
}

#[tokio::test]
async fn a_schema_whose_default_changed_is_followed_step_by_step() {
    let stream = Stream::new("ap_default", "").await;
    let region = Server::start(&[]);
    stream.sql("ALTER DATABASE @ COLLATE latin1_swedish_ci; CREATE TABLE @.a (v VARCHAR(9))").await;
    stream.sql("ALTER DATABASE @ COLLATE utf8mb4_0900_ai_ci; CREATE TABLE @.b (v VARCHAR(9))").await;
    stream.sql("INSERT INTO @.a VALUES ('a'); INSERT INTO @.b VALUES ('b')").await;
    stream.upload().await;
    // The schema is made as the first table needs it; the second waits for an ALTER DATABASE.
    let error = stream.apply(&region).await.unwrap_err();
    let hint = "ALTER DATABASE `ap_default` COLLATE utf8mb4_0900_ai_ci";
    assert_error(&error, Kind::Definition, "stream transaction 2", hint);
    assert_eq!(stream.executed(&region).await, "1");
    region.sql(hint).await;
    stream.apply(&region).await.unwrap();
    stream.assert_equal(&region).await;
}

#[tokio::test]
async fn a_statement_in_a_schema_that_the_region_lacks_arrives() {
    let stream = Stream::new("ap_elsewhere", APPS).await;
    let region = Server::start(&[]);
    stream.sql("CREATE DATABASE ap_private; USE ap_private; ALTER TABLE @.apps ADD COLUMN b INT").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    stream.assert_equal(&region).await;
}

#[tokio::test]
async fn hidden_columns_of_functional_keys_do_not_count() {
    let stream = Stream::new(
        "ap_hidden",
        "CREATE TABLE @.f (id INT PRIMARY KEY, n INT, j JSON, v INT AS (n + 1) VIRTUAL, KEY ((n * 2))) \
         COLLATE utf8mb4_bin; \
         CREATE TABLE @.m (j JSON, KEY ((CAST(j->'$.a' AS UNSIGNED ARRAY)))) COLLATE utf8mb4_bin; \
         CREATE TABLE @.g (x INT, y POINT, z VECTOR(3), b BIT(9), e ENUM('a','b'), s SET('a','b'), c CHAR(200), \
         d DECIMAL(20,5), t TIME(3), dt DATETIME(6), ts TIMESTAMP(2) NULL, bl MEDIUMBLOB, bi BINARY(9), yr YEAR, \
         tt TINYTEXT, lt LONGTEXT, vb VARBINARY(300), f FLOAT(7,3), dd DOUBLE, da DATE, mi MEDIUMINT UNSIGNED) \
         COLLATE utf8mb4_0900_ai_ci",
    )
    .await;
    let region = Server::start(&[]);
    stream
        .sql("INSERT INTO @.f (id, n, j) VALUES (1, 2, '{\"a\":[1,2]}'); INSERT INTO @.g (x) VALUES (1)")
        .await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    stream.assert_equal(&region).await;
}

#[tokio::test]
async fn a_schema_that_was_dropped_and_made_again_arrives_in_old_and_new_regions() {
    let stream = Stream::of_set("ap_again", "CREATE TABLE @.t (id INT PRIMARY KEY)", &["@.t"]).await;
    let [old, new] = Server::start_all([&[], &[]]);
    stream.sql("INSERT INTO @.t VALUES (1)").await;
    stream.upload().await;
    stream.apply(&old).await.unwrap();
    // Not only the table: the whole schema goes from the region, by hand.
    stream.sql("DROP DATABASE @").await;
    stream.upload().await;
    stream.apply(&old).await.unwrap();
    assert_eq!(stream.tables(&old).await, []);
    old.sql("DROP DATABASE ap_again").await;
    stream.sql("CREATE DATABASE @; CREATE TABLE @.t (id INT PRIMARY KEY, v VARCHAR(9)); INSERT INTO @.t VALUES (2, 'x')").await;
    stream.upload().await;
    for region in [&old, &new] {
        stream.apply(region).await.unwrap();
        stream.assert_equal(region).await;
    }
}

#[tokio::test]
async fn statements_fit_into_small_packets() {
    let table = "CREATE TABLE @.n (id INT PRIMARY KEY, v VARCHAR(2000)) COLLATE utf8mb4_0900_ai_ci";
    let stream = Stream::new("ap_small", table).await;
    let region = Server::start(&["--max-allowed-packet=64K"]);
    for id in 0..60 {
        stream.sql(&format!("INSERT INTO @.n VALUES ({id}, REPEAT('x', 1500))")).await;
    }
    stream
        .sql("INSERT INTO @.n SELECT a.id * 1000 + b.id + 100, b.v FROM @.n a, @.n b; UPDATE @.n SET v = CONCAT(id, v)")
        .await;
    stream.upload().await;
    assert_eq!(stream.apply(&region).await.unwrap().transactions, 62);
    stream.assert_equal(&region).await;
}

/// Where commits are synced there are many workers, to share that; fewer of them must do. What needs a connection of its
/// own (DDL) gets it.
#[tokio::test]
async fn i4_i7_a_region_that_has_few_connections_left_is_applied_to_over_those() {
    let stream = Stream::new("ap_few", "CREATE TABLE @.n (id INT PRIMARY KEY, v INT)").await;
    let region = Server::start(&["--sync-binlog=1"]);
    // The workers may have half of them, ten. Others take all but eight: two for the run itself, four workers, and what
    // closes meanwhile.
    region.sql("CREATE USER few WITH MAX_USER_CONNECTIONS 20; GRANT ALL ON *.* TO few").await;
    let mut others = Vec::new();
    for _ in 0..12 {
        others.push(region.connect_as("few").await);
    }
    let many = |of: std::ops::Range<u32>| -> String {
        let inserts = of.clone().map(|id| format!("INSERT INTO @.n (id, v) VALUES ({id}, 0);"));
        let updates = of.step_by(10).map(|id| format!("UPDATE @.n SET v = {id} + 1 WHERE id < 3;"));
        inserts.chain(updates).collect()
    };
    stream.sql(&format!("{}ALTER TABLE @.n ADD COLUMN w INT;{}", many(0..200), many(200..400))).await;
    stream.upload().await;
    let file = stream.region_file(&region, "few", &["@.*"]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_tablecast"));
    let output = command.arg("-v").arg("--config").arg(file).arg("apply").output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    assert!(log.contains("going on with fewer workers"), "{log}");
    stream.assert_equal(&region).await;
    assert_eq!(stream.executed(&region).await, "1-441");
    drop(others);
}

/// I4: what changes nothing here has its GTID all the same, the last of a run too.
#[tokio::test]
async fn i4_rows_that_are_here_already_as_they_shall_be_are_a_transaction_with_its_gtid() {
    let stream = Stream::new("ap_same", "CREATE TABLE @.n (id INT PRIMARY KEY, v INT)").await;
    let region = Server::start(&[]);
    stream.sql("INSERT INTO @.n VALUES (1, 1), (2, 1)").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    region.sql("UPDATE ap_same.n SET v = 2").await;
    for statements in
        ["UPDATE @.n SET v = 2 WHERE id = 1", "UPDATE @.n SET v = 2; UPDATE @.n SET v = 3 WHERE id = 1"]
    {
        stream.sql(statements).await;
        stream.upload().await;
        let report = stream.apply(&region).await.unwrap();
        assert_eq!(stream.executed(&region).await, format!("1-{}", report.last_tx));
        assert!(report.quarantined.is_empty());
    }
    stream.assert_equal(&region).await;
}

/// A server reads the values of partitions by the character set of whoever opens the table first.
#[tokio::test]
async fn rows_written_in_another_character_set_find_partitions_that_are_not_ascii() {
    let table = "CREATE TABLE @.p (k VARCHAR(9) COLLATE utf8mb4_bin) PARTITION BY RANGE COLUMNS (k)
      (PARTITION a VALUES LESS THAN ('ä'), PARTITION b VALUES LESS THAN ('é'), PARTITION c VALUES LESS THAN (MAXVALUE))";
    // Nobody else flushes its tables: it would fall into the same trap.
    let source: &'static Server = Box::leak(Box::new(Server::start(&[])));
    let region = Server::start(&[]);
    let stream = Stream::of_source(source, "ap_parted", table, &["@.*"]).await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    for charset in ["latin1", "gbk", "utf8mb4"] {
        let insert = "INSERT INTO @.p VALUES (_utf8mb4 0xC3A5), (_utf8mb4 0xC3A9)";
        stream.sql(&format!("SET NAMES {charset}; {insert}; SET NAMES utf8mb4")).await;
        stream.upload().await;
        region.sql("FLUSH TABLES").await;
        stream.apply(&region).await.unwrap();
    }
    let found: u64 = region.value("SELECT COUNT(*) FROM ap_parted.p PARTITION (b)").await;
    assert_eq!(found, 3);
    stream.assert_equal(&region).await;
}
