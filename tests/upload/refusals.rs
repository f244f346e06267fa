//! What upload refuses: each with its kind and a hint, and nothing shipped.

use tablecast::binlog::gtid::{Gtid, GtidSet};
use tablecast::error::{Error, Kind};

use super::kit::Stream;
use crate::support::mysql::Server;

const SETUP: &str = "CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY, name TEXT); \
     CREATE TABLE g.other (id INT PRIMARY KEY); CREATE DATABASE private; CREATE TABLE private.t (id INT PRIMARY KEY)";

/// Runs the statements after a harmless transaction, uploads, and returns the refusal.
async fn refusal(tables: &[&str], statements: &str) -> Error {
    let server = Server::start(&[]);
    server.sql(SETUP).await;
    let stream = Stream::make(&server, tables, "").await;
    server.sql(statements).await;
    let before = stream.head().await;
    let error = stream.upload().await.expect_err("refused");
    let after = stream.head().await;
    let refused = after.refused.clone().expect("the head tells of it");
    assert!(refused.hint.contains("--resync"), "{refused:?}");
    assert_eq!((after.last_seq, after.last_tx), (before.last_seq, before.last_tx), "nothing is shipped");
    assert!(stream.store.list("segments/").await.expect("a listing").is_empty(), "nothing is shipped");
    assert!(error.hint_text().is_some(), "{error}: no hint");
    // It is refused again, and not lost on the way.
    assert_eq!(stream.upload().await.expect_err("refused again").to_string(), error.to_string());
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_carried_faithfully_stops_the_upload() {
    for (tables, statements, names) in [
        (&["g.apps"][..], "SET binlog_format = STATEMENT; INSERT INTO g.apps VALUES (1, 'a')", "g"),
        (
            &["g.apps"],
            "XA START 'x'; INSERT INTO g.apps VALUES (1, 'a'); XA END 'x'; XA PREPARE 'x'; XA COMMIT 'x'",
            "XA",
        ),
        (&["g.apps"], "DROP TABLE g.apps, g.other", "g.other"),
        (&["g.apps"], "RENAME TABLE g.apps TO private.apps", "private.apps"),
        (&["g.apps"], "RENAME TABLE private.t TO g._t, g.apps TO g.x, g._t TO g.apps", "g.apps"),
        (&["g.*"], "DROP DATABASE g", "g"),
    ] {
        let error = refusal(tables, statements).await;
        assert_eq!(error.kind(), Kind::Gate, "{statements}: {error}");
        let text = format!("{error:?}");
        assert!(text.contains(names), "{statements}: {text}");
        assert!(text.contains(':'), "{statements}: names the source GTID: {text}");
    }
}

/// I3: what is refused is not in the stream, and what came before it is.
#[tokio::test(flavor = "multi_thread")]
async fn what_came_before_a_refused_transaction_is_shipped() {
    let server = Server::start(&[]);
    server.sql(SETUP).await;
    let stream = Stream::make(&server, &["g.apps"], "").await;
    server.sql("INSERT INTO g.apps VALUES (1, 'a'); INSERT INTO g.apps VALUES (2, 'b')").await;
    server.sql("DROP TABLE g.apps, g.other").await;
    server
        .sql("CREATE TABLE g.apps (id INT PRIMARY KEY, name TEXT); INSERT INTO g.apps VALUES (3, 'c')")
        .await;
    for _ in 0..2 {
        let error = stream.upload().await.expect_err("refused");
        assert_eq!(error.kind(), Kind::Gate, "{error:?}");
        assert_eq!(stream.head().await.last_tx.0, 2);
        assert_eq!(stream.store.list("segments/").await.expect("a listing").len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_of_the_set_is_passed_over_whatever_it_is() {
    let server = Server::start(&[]);
    server.sql(SETUP).await;
    let stream = Stream::make(&server, &["g.apps"], "").await;
    for statements in [
        "XA START 'x'; INSERT INTO private.t VALUES (1); XA END 'x'; XA PREPARE 'x'; XA COMMIT 'x'",
        "XA START 'y'; INSERT INTO private.t VALUES (2); XA END 'y'; XA PREPARE 'y'; XA ROLLBACK 'y'",
        "USE private; SET binlog_format = STATEMENT; INSERT INTO t VALUES (3)",
        "DROP TABLE g.other, private.t",
        "DROP DATABASE private",
        "CREATE USER u; GRANT SELECT ON *.* TO u",
        "CREATE PROCEDURE g.p() SELECT 1; CREATE EVENT g.e ON SCHEDULE EVERY 1 DAY DO SELECT 1",
        "CREATE VIEW g.v AS SELECT * FROM g.apps",
        "ALTER DATABASE g CHARACTER SET latin1",
        "FLUSH TABLES; ANALYZE TABLE g.apps",
    ] {
        server.sql(statements).await;
        let report = stream.upload().await.unwrap_or_else(|e| panic!("{statements}: {e:?}"));
        assert_eq!(report.kept, 0, "{statements}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_has_purged_what_the_stream_lacks_has_lost_history() {
    let server = Server::start(&[]);
    server.sql(SETUP).await;
    let stream = Stream::make(&server, &["g.apps"], "").await;
    server.sql("INSERT INTO g.apps VALUES (1, 'a'); FLUSH BINARY LOGS").await;
    let file: String = server
        .rows::<mysql_async::Row>("SHOW BINARY LOGS")
        .await
        .pop()
        .and_then(|mut row| row.take(0))
        .expect("a binlog");
    server.sql(&format!("PURGE BINARY LOGS TO '{file}'")).await;
    let before = stream.head().await;
    let error = stream.upload().await.expect_err("refused");
    assert_eq!(error.kind(), Kind::History, "{error:?}");
    assert_eq!(error.kind().exit_code(), 10);
    assert!(error.hint_text().is_some_and(|hint| hint.contains("dump")), "{:?}", error.hint_text());
    assert_eq!(stream.head().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_has_lost_its_own_newest_transactions_is_refused() {
    let server = Server::start(&[]);
    server.sql(SETUP).await;
    let stream = Stream::make(&server, &["g.apps"], "").await;
    server.sql("INSERT INTO g.apps VALUES (1, 'a')").await;
    stream.upload().await.expect("upload");
    let executed = server.gtid_executed().await;
    // As after a restore from a copy of before the insert: the same UUID, one transaction less.
    let tsid = executed.intervals().next().map(|(tsid, _)| tsid.clone()).expect("a set");
    let last = executed.last_of(&tsid).expect("a last");
    server
        .sql(&format!("RESET BINARY LOGS AND GTIDS; SET GLOBAL gtid_purged = '{}:1-{}'", tsid.uuid, last - 1))
        .await;
    let error = stream.upload().await.expect_err("refused");
    assert_eq!(error.kind(), Kind::History, "{error:?}");
    assert!(error.to_string().contains("has lost"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_behind_what_the_stream_covers_is_waited_for() {
    let [primary, replica] = Server::start_all([&[], &[]]);
    primary.sql(SETUP).await;
    replica.replicate_from(&primary, "").await;
    replica.catch_up(&primary).await;
    let mut stream = Stream::make(&primary, &["g.apps"], "").await;
    replica.sql("STOP REPLICA").await;
    primary.sql("INSERT INTO g.apps VALUES (1, 'a')").await;
    stream.upload().await.expect("upload");
    stream.read_from(&replica);
    let report = stream.upload().await.expect("nothing to do");
    assert_eq!((report.kept, report.puts), (0, 0));
    // Its clock says nothing about a stream that is ahead of it.
    assert_eq!(report.plan.expect("a plan").as_of, None);
    assert!(report.warnings.iter().any(|warning| warning.contains("behind")), "{:?}", report.warnings);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_gtid_mode_was_changed_is_refused_before_anything_is_read() {
    let server = Server::start(&[]);
    server.sql(SETUP).await;
    let stream = Stream::make(&server, &["g.apps"], "").await;
    server.sql("SET GLOBAL gtid_mode = ON_PERMISSIVE; SET GLOBAL gtid_mode = OFF_PERMISSIVE").await;
    server.sql("INSERT INTO g.apps VALUES (1, 'a')").await;
    let error = stream.upload().await.expect_err("refused");
    assert_eq!(error.kind(), Kind::Gate, "{error:?}");
    assert_eq!(stream.head().await.last_tx.0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_without_a_gtid_stops_the_upload() {
    let server = Server::start(&["--gtid-mode=ON_PERMISSIVE"]);
    server.sql(SETUP).await;
    server.sql("SET GLOBAL gtid_mode = ON").await;
    let stream = Stream::make(&server, &["g.apps"], "").await;
    server.sql("SET GLOBAL gtid_mode = ON_PERMISSIVE; INSERT INTO g.apps VALUES (1, 'a')").await;
    server.sql("SET gtid_next = 'ANONYMOUS'; INSERT INTO g.apps VALUES (2, 'b')").await;
    server.sql("SET GLOBAL gtid_mode = ON").await;
    let error = stream.upload().await.expect_err("refused");
    assert_eq!(error.kind(), Kind::Gate, "{error:?}");
    assert!(error.hint_text().is_some_and(|hint| hint.contains("gtid_mode")), "{:?}", error.hint_text());
    assert_eq!(stream.head().await.last_tx.0, 0);
}

/// A server that has what `executed` says, and its tables, as after a failover to it.
async fn promoted(executed: &GtidSet) -> Server {
    let server = Server::start(&[]);
    server.sql(&format!("SET sql_log_bin = 0; {SETUP}")).await;
    server.sql("RESET BINARY LOGS AND GTIDS").await;
    server.sql(&format!("SET GLOBAL gtid_purged = '{executed}'")).await;
    server
}

/// A stream that has shipped one transaction and passed one over, and what the source had executed then.
async fn one_shipped_and_one_passed_over(server: &Server) -> (Stream, GtidSet, Gtid) {
    server.sql(SETUP).await;
    let stream = Stream::make(server, &["g.apps"], "").await;
    server.sql("INSERT INTO private.t VALUES (1); INSERT INTO g.apps VALUES (1, 'a')").await;
    stream.upload().await.expect("upload");
    let executed = server.gtid_executed().await;
    let tsid = executed.intervals().next().map(|(tsid, _)| tsid.clone()).expect("a set");
    let last = executed.last_of(&tsid).expect("a last");
    (stream, executed, Gtid { tsid, number: last })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_that_lost_a_shipped_transaction_ends_the_stream() {
    let primary = Server::start(&[]);
    let (mut stream, executed, shipped) = one_shipped_and_one_passed_over(&primary).await;
    let mut lost = GtidSet::new();
    lost.insert(&shipped);
    let promoted = promoted(&executed.difference(&lost)).await;
    stream.read_from(&promoted);
    let before = stream.head().await;
    let error = stream.upload().await.expect_err("refused");
    assert_eq!(error.kind(), Kind::History, "{error:?}");
    assert!(error.to_string().contains(&shipped.to_string()), "{error}");
    assert!(error.hint_text().is_some_and(|hint| hint.contains("failover")), "{:?}", error.hint_text());
    assert_eq!(stream.head().await, before, "as_of stands still");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_has_nothing_of_the_stream_is_refused() {
    let primary = Server::start(&[]);
    let (mut stream, ..) = one_shipped_and_one_passed_over(&primary).await;
    let other = Server::start(&[]);
    stream.read_from(&other);
    assert_eq!(stream.upload().await.expect_err("refused").kind(), Kind::History);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_that_lost_only_what_does_not_travel_changes_nothing() {
    let primary = Server::start(&[]);
    let (mut stream, executed, shipped) = one_shipped_and_one_passed_over(&primary).await;
    let mut lost = GtidSet::new();
    lost.insert(&Gtid { number: shipped.number - 1, ..shipped });
    let promoted = promoted(&executed.difference(&lost)).await;
    stream.read_from(&promoted);
    for id in 2..4 {
        promoted.sql(&format!("INSERT INTO g.apps VALUES ({id}, 'b')")).await;
        let report = stream.upload().await.expect("goes on");
        assert_eq!((report.kept, report.last_tx.0), (1, id));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_what_comes_back_to_the_source_is_not_shipped_again() {
    let server = Server::start(&[]);
    server.sql(SETUP).await;
    let stream = Stream::make(&server, &["g.apps"], "").await;
    let uuid = stream.head().await.stream;
    server
        .sql(&format!(
            "SET gtid_next = '{uuid}:1'; INSERT INTO g.apps VALUES (1, 'a'); SET gtid_next = 'AUTOMATIC'"
        ))
        .await;
    let before = stream.head().await;
    let error = stream.upload().await.expect_err("refused");
    assert_eq!(error.kind(), Kind::History, "{error}");
    assert!(error.to_string().contains(&format!("{uuid}:1 is a transaction of this very stream")), "{error}");
    assert_eq!(stream.head().await, before, "nothing is shipped");
}
