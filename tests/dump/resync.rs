//! `upload --resync`: a stream with a hole in its history goes on behind a dump that stands for it.

use std::os::unix::process::ExitStatusExt;

use tablecast::Kind;
use tablecast::stream::{Seq, StreamTx};

use super::kit::{dumps, equals};
use crate::support::mysql::Server;
use crate::upload::kit::Stream;

const SETUP: &str =
    "CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY); CREATE TABLE g.plans (id INT PRIMARY KEY)";

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_has_purged_what_the_stream_lacks_goes_on_behind_a_dump() {
    let [source, copy] = Server::start_all([&[], &[]]);
    source.sql(SETUP).await;
    let stream = Stream::make(&source, &["g.*"], "").await;
    source.sql("INSERT INTO g.apps VALUES (1)").await;
    stream.upload().await.expect("upload");
    source
        .sql("INSERT INTO g.apps VALUES (2); ALTER TABLE g.apps ADD COLUMN name VARCHAR(9) DEFAULT 'x'")
        .await;
    source.sql("DROP TABLE g.plans; FLUSH BINARY LOGS; INSERT INTO g.apps VALUES (3, 'y')").await;
    let newest: Vec<mysql_async::Row> = source.rows("SHOW BINARY LOGS").await;
    let newest: String = newest.last().expect("a log").get(0).expect("a name");
    source.sql(&format!("PURGE BINARY LOGS TO '{newest}'")).await;
    let error = stream.upload().await.expect_err("refused");
    assert_eq!(error.kind(), Kind::History);
    assert!(error.hint_text().is_some_and(|hint| hint.contains("--resync")), "{error:?}");
    let before = stream.head().await;

    let plan = stream.run(&["upload", "--resync", "--dry-run"], "");
    let says = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert!(
        plan.status.success() && says.contains("1 tables") && !says.contains("nothing is lost"),
        "{says}"
    );
    for step in ["dump.locked", "dump.after_manifest_put", "dump.before_append"] {
        let killed = stream.run(&["upload", "--resync"], &format!("{step}=kill"));
        assert_eq!(killed.status.signal(), Some(9), "{step}");
        assert_eq!(stream.head().await, before, "I7, {step}: nothing half done");
    }
    let done = stream.run(&["upload", "--resync"], "");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let head = stream.head().await;
    assert_eq!(source.gtid_executed().await.difference(&head.covered).to_string(), "");
    let dumps = dumps(&stream).await;
    let dump = &dumps[0].dump;
    assert!(dump.resync && dump.full && dump.mandatory);
    assert_eq!((dumps[0].seq, dump.at, head.last_tx), (Seq(2), StreamTx(1), StreamTx(1)));
    equals(&stream, &dumps[0], &source, &copy).await;
    let definition = head.definition(&"g.apps".parse().expect("a name")).expect("known");
    assert!(definition.create_table.contains("`name`"), "what it became in the hole: {definition:?}");
    assert_eq!(head.definition(&"g.plans".parse().expect("a name")), None);

    source.sql("INSERT INTO g.apps VALUES (4, 'z')").await;
    stream.upload().await.expect("it goes on");
    assert_eq!(stream.head().await.last_tx, StreamTx(2));
    assert!(stream.run(&["verify"], "").status.success());
    let again = stream.run(&["upload", "--resync", "--dry-run"], "");
    assert!(String::from_utf8_lossy(&again.stdout).contains("nothing is lost"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_that_lost_what_was_shipped_is_survived_by_a_resync() {
    let [old, new, copy] = Server::start_all([&[], &[], &[]]);
    old.sql(SETUP).await;
    new.replicate_from(&old, "").await;
    new.catch_up(&old).await;
    let mut stream = Stream::make(&old, &["g.*"], "").await;
    old.sql("INSERT INTO g.apps VALUES (1)").await;
    new.catch_up(&old).await;
    new.sql("STOP REPLICA; RESET REPLICA ALL").await;
    old.sql("INSERT INTO g.apps VALUES (2)").await;
    stream.upload().await.expect("shipped");
    old.stop();
    new.sql("INSERT INTO g.apps VALUES (3)").await;
    stream.read_from(&new);
    assert_eq!(stream.upload().await.expect_err("refused").kind(), Kind::History);
    stream.resync().await.expect("resynced");
    let dumps = dumps(&stream).await;
    assert_eq!((dumps[0].dump.resync, dumps[0].dump.at), (true, StreamTx(2)));
    equals(&stream, &dumps[0], &new, &copy).await;
    for id in 4..6 {
        new.sql(&format!("INSERT INTO g.apps VALUES ({id})")).await;
        stream.upload().await.expect("what was lost is settled");
        assert_eq!(stream.head().await.last_tx, StreamTx(id - 1));
    }
    // Also when a newer dump has taken the place of the one that settled it.
    super::kit::ask(&stream, &[]).await;
    stream.upload().await.expect("a dump");
    let dumps = super::kit::dumps(&stream).await;
    assert!(dumps.iter().all(|dump| !dump.dump.resync), "{dumps:?}");
    std::fs::remove_dir_all(&stream.config.files.cache_dir).expect("a cache");
    new.sql("INSERT INTO g.apps VALUES (7)").await;
    stream.upload().await.expect("it stays settled");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_travel_is_passed_by_a_resync() {
    let source = Server::start(&[]);
    source.sql(SETUP).await;
    let stream = Stream::make(&source, &["g.apps"], "").await;
    source
        .sql("INSERT INTO g.apps VALUES (1); SET binlog_format = STATEMENT; INSERT INTO g.apps VALUES (2)")
        .await;
    assert_eq!(stream.upload().await.expect_err("refused").kind(), Kind::Gate);
    stream.resync().await.expect("resynced");
    source.sql("INSERT INTO g.apps VALUES (3)").await;
    stream.upload().await.expect("it goes on");
    let head = stream.head().await;
    assert_eq!((head.last_tx, head.dumps[0].dump.rows), (StreamTx(2), 2));
}
