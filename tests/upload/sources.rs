//! What is shipped from which kind of source, and how a run goes on where another ended.

use std::time::{Duration, Instant};

use tablecast::binlog::name::TableName;
use tablecast::clock::SystemClock;
use tablecast::source::upload;
use tablecast::stream::StreamTx;

use super::kit::{OURS, Stream, once, ours};
use crate::support::mysql::{Server, tool};

#[tokio::test(flavor = "multi_thread")]
async fn i3_transactions_of_the_set_are_shipped_once_and_the_others_leave_only_their_gtid() {
    let server = Server::start(&[]);
    server
        .sql(
            "CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY, name TEXT); CREATE DATABASE private",
        )
        .await;
    let stream = Stream::make(&server, &["g.apps"], "").await;

    server.sql("CREATE TABLE private.t (id INT PRIMARY KEY)").await;
    server.sql(&format!("{OURS} INSERT INTO g.apps VALUES (1, 'one')")).await;
    server.sql("INSERT INTO private.t VALUES (1)").await;
    // Both in one transaction: only the set's row changes travel, in a transaction of the set.
    server
        .sql(&format!(
            "{OURS} BEGIN; INSERT INTO private.t VALUES (2); INSERT INTO g.apps VALUES (2, 'two'); \
             UPDATE private.t SET id = 3 WHERE id = 2; COMMIT"
        ))
        .await;
    server.sql(&format!("{OURS} ALTER TABLE g.apps ADD COLUMN more INT")).await;
    let report = stream.upload().await.expect("upload");
    assert_eq!((report.kept, report.segment_count), (3, 1));
    let executed = server.gtid_executed().await;
    stream.holds_exactly(&ours(&executed), &executed).await;

    // Nothing new; then the next one goes on with the next number.
    assert_eq!(stream.upload().await.expect("upload").segment_count, 0);
    server.sql(&format!("{OURS} INSERT INTO g.apps VALUES (4, 'four', 4)")).await;
    assert_eq!(stream.upload().await.expect("upload").last_tx, StreamTx(4));
    let executed = server.gtid_executed().await;
    stream.holds_exactly(&ours(&executed), &executed).await;

    // What the server's own tools say about each segment.
    for entry in stream.entries().await {
        let segment = entry.segment().expect("a segment");
        let bytes = stream.segment(segment).await;
        let output =
            tool("mysqlbinlog", &["--verify-binlog-checksum", "-vv", "-"], &bytes).expect("mysqlbinlog");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(!text.contains("private"), "{text}");
        assert_eq!(segment.tables, [TableName::new("g", "apps")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_compresses_its_transactions_ships_the_same() {
    let server = Server::start(&["--binlog-transaction-compression=ON"]);
    server.sql("CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY, name LONGTEXT); CREATE TABLE g.not LIKE g.apps".replace("g.not", "g.`not`").as_str()).await;
    let stream = Stream::make(&server, &["g.apps"], "").await;
    server.sql(&format!("{OURS} INSERT INTO g.apps VALUES (1, REPEAT('a', 100000)), (2, 'b')")).await;
    server.sql("INSERT INTO g.`not` VALUES (1, REPEAT('a', 100000))").await;
    stream.upload().await.expect("upload");
    let executed = server.gtid_executed().await;
    stream.holds_exactly(&ours(&executed), &executed).await;
    let entries = stream.entries().await;
    let segment = entries[0].segment().expect("a segment");
    let bytes = stream.segment(segment).await;
    let output = tool("mysqlbinlog", &["--verify-binlog-checksum", "-v", "-"], &bytes).expect("mysqlbinlog");
    assert!(String::from_utf8_lossy(&output.stdout).contains("aaaa"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_transaction_too_large_to_hold_passes() {
    let server = Server::start(&["--binlog-transaction-compression=ON"]);
    server
        .sql("CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY AUTO_INCREMENT, b LONGBLOB)")
        .await;
    let stream = Stream::make(&server, &["g.apps"], "").await;
    let mut insert = format!("{OURS} BEGIN; ");
    for _ in 0..20_000 {
        insert.push_str("INSERT INTO g.apps (b) VALUES (RANDOM_BYTES(1024)); ");
    }
    server.sql(&(insert + "COMMIT")).await;
    server.sql(&format!("{OURS} INSERT INTO g.apps (b) VALUES ('small')")).await;
    let report = stream.upload().await.expect("upload");
    assert_eq!(report.kept, 2);
    let executed = server.gtid_executed().await;
    stream.holds_exactly(&ours(&executed), &executed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_stream_goes_on_from_a_replica_and_from_the_primary_that_it_becomes() {
    let [primary, replica] = Server::start_all([&[], &[]]);
    primary.sql("CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY)").await;
    replica.replicate_from(&primary, "").await;
    let mut stream = Stream::make(&primary, &["g.apps"], "").await;
    primary.sql(&format!("{OURS} INSERT INTO g.apps VALUES (1)")).await;
    stream.upload().await.expect("from the primary");

    primary.sql(&format!("{OURS} INSERT INTO g.apps VALUES (2); INSERT INTO g.apps VALUES (3)")).await;
    replica.catch_up(&primary).await;
    stream.read_from(&replica);
    let report = stream.upload().await.expect("from the replica");
    assert_eq!((report.kept, report.last_tx), (2, StreamTx(3)));

    // The primary dies; the replica writes transactions under its own UUID.
    primary.kill9();
    replica.sql("STOP REPLICA; RESET REPLICA ALL").await;
    replica.sql(&format!("{OURS} INSERT INTO g.apps VALUES (4)")).await;
    let report = stream.upload().await.expect("from the new primary");
    assert_eq!((report.kept, report.warnings.len()), (1, 0));
    let executed = replica.gtid_executed().await;
    stream.holds_exactly(&ours(&executed), &executed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filtered_mini_replica_ships_what_the_primary_would() {
    let [primary, mini] = Server::start_all([&[], &[]]);
    primary
        .sql("CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY); CREATE TABLE g.other LIKE g.apps")
        .await;
    mini.replicate_from(&primary, "REPLICATE_DO_TABLE = (g.apps)").await;
    mini.catch_up(&primary).await;
    let stream = Stream::make(&mini, &["g.apps"], "").await;
    primary.sql("INSERT INTO g.other VALUES (1)").await;
    primary.sql(&format!("{OURS} INSERT INTO g.apps VALUES (1)")).await;
    mini.catch_up(&primary).await;
    let report = stream.upload().await.expect("upload");
    assert_eq!((report.kept, report.foreign), (1, 1));
    let executed = primary.gtid_executed().await;
    stream.holds_exactly(&ours(&executed), &executed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_of_stands_still_while_the_replica_that_is_read_stands_still() {
    let [primary, replica] = Server::start_all([&[], &[]]);
    primary.sql("CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY)").await;
    replica.replicate_from(&primary, "").await;
    replica.catch_up(&primary).await;
    let stream = Stream::make(&replica, &["g.apps"], "").await;
    primary.sql("INSERT INTO g.apps VALUES (1)").await;
    replica.catch_up(&primary).await;
    let first = stream.upload().await.expect("upload").as_of.expect("as_of");

    replica.sql("STOP REPLICA IO_THREAD").await;
    let cut: String = primary.value("SELECT CAST(NOW(6) AS CHAR)").await;
    primary.sql("INSERT INTO g.apps VALUES (2)").await;
    let report = stream.upload().await.expect("upload");
    assert!(report.warnings.iter().any(|warning| warning.contains("stands still")), "{:?}", report.warnings);
    let stopped = report.as_of.expect("as_of");
    assert_eq!(stopped, first, "the connection was cut at {cut}");

    replica.sql("START REPLICA IO_THREAD").await;
    replica.catch_up(&primary).await;
    let later = stream.upload().await.expect("upload").as_of.expect("as_of");
    assert!(later > first);
}

#[tokio::test(flavor = "multi_thread")]
async fn following_ships_at_every_interval_and_ends_at_a_transaction_boundary_when_told() {
    let server = Server::start(&[]);
    server.sql("CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY)").await;
    let stream = Stream::make(&server, &["g.apps"], "[upload]\ninterval = \"100ms\"").await;
    let options = upload::Options { follow: true, ..once() };
    let (config, store) = (stream.config.clone(), stream.store.clone());
    let theirs = options.clone();
    let run = tokio::spawn(async move { upload::run(&config, store, &SystemClock, &theirs).await });

    let mut conn = server.connect().await;
    use mysql_async::prelude::Queryable;
    conn.query_drop("SET gtid_next = 'AUTOMATIC:ours'").await.expect("a tag");
    for id in 1..=5 {
        conn.query_drop(format!("INSERT INTO g.apps VALUES ({id})")).await.expect("insert");
        wait_for_tx(&stream, id).await;
    }
    // An open transaction at the source, and one that is complete when the signal comes.
    conn.query_drop("INSERT INTO g.apps VALUES (6)").await.expect("insert");
    options.stop.cancel();
    let report = run.await.expect("no panic").expect("a clean end");
    assert!(report.stopped);
    stream.upload().await.expect("what was not shipped is shipped by the next run");
    let executed = server.gtid_executed().await;
    stream.holds_exactly(&ours(&executed), &executed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn following_outlives_a_restart_of_the_source() {
    let server = Server::start(&[]);
    server.sql("CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY)").await;
    let stream = Stream::make(&server, &["g.apps"], "[upload]\ninterval = \"100ms\"").await;
    let options = upload::Options { follow: true, ..once() };
    let (config, store) = (stream.config.clone(), stream.store.clone());
    let theirs = options.clone();
    let run = tokio::spawn(async move { upload::run(&config, store, &SystemClock, &theirs).await });
    server.sql(&format!("{OURS} INSERT INTO g.apps VALUES (1)")).await;
    wait_for_tx(&stream, 1).await;
    server.restart(&[]);
    server.sql(&format!("{OURS} INSERT INTO g.apps VALUES (2)")).await;
    wait_for_tx(&stream, 2).await;
    options.stop.cancel();
    run.await.expect("no panic").expect("a clean end");
    let executed = server.gtid_executed().await;
    stream.holds_exactly(&ours(&executed), &executed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_is_in_the_head_exactly_when_it_is_sure() {
    let server = Server::start(&[]);
    server
        .sql("CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY); INSERT INTO g.apps VALUES (1)")
        .await;
    let stream = Stream::make(&server, &["g.*"], "").await;
    let apps = TableName::new("g", "apps");
    let head = stream.head().await;
    assert_eq!(head.definition(&apps).expect("known").rows_at_init, Some(true));

    server.sql("INSERT INTO g.apps VALUES (2); ALTER TABLE g.apps ADD COLUMN name TEXT").await;
    server
        .sql("CREATE TABLE g.child (id INT PRIMARY KEY, app INT, FOREIGN KEY (app) REFERENCES g.apps (id))")
        .await;
    stream.upload().await.expect("upload");
    let head = stream.head().await;
    let known = head.definition(&apps).expect("known");
    assert_eq!(known.since_tx, StreamTx(2));
    assert!(known.create_table.contains("`name` text"), "{}", known.create_table);
    // The first entry also says what a region that begins at the beginning has to make.
    let entries = stream.entries().await;
    let first = entries[0].segment().expect("a segment");
    assert!(first.definitions.iter().any(|d| d.table == apps && d.since_tx == StreamTx(0)));

    // The foreign key's text follows the rename, though the statement does not name the child.
    server.sql("RENAME TABLE g.apps TO g.programs").await;
    stream.upload().await.expect("upload");
    let head = stream.head().await;
    assert_eq!(head.definition(&apps), None);
    let child = head.definition(&TableName::new("g", "child")).expect("known");
    assert!(child.create_table.contains("`programs`"), "{}", child.create_table);

    server.sql("DROP TABLE g.child").await;
    stream.upload().await.expect("upload");
    assert_eq!(stream.head().await.definition(&TableName::new("g", "child")), None);
}

async fn wait_for_tx(stream: &Stream, tx: u64) {
    let begin = Instant::now();
    while stream.head().await.last_tx < StreamTx(tx) {
        assert!(begin.elapsed() < Duration::from_secs(60), "transaction {tx} does not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_made_again_has_the_default_of_the_session_that_made_it() {
    let server = Server::start(&[]);
    server.sql("CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY, name TEXT)").await;
    let stream = Stream::make(&server, &["g.apps"], "").await;
    server.sql("DROP DATABASE g; SET collation_server = latin1_bin; CREATE DATABASE g").await;
    server.sql("CREATE TABLE g.apps (id INT PRIMARY KEY, name TEXT)").await;
    stream.upload().await.expect("upload");
    let head = stream.head().await;
    assert_eq!(head.schemas.get("g").map(|defaults| defaults.collation.as_str()), Some("latin1_bin"));
    let apps = "g.apps".parse().expect("a name");
    assert!(head.definition(&apps).is_some_and(|definition| definition.create_table.contains("latin1_bin")));
}
