//! `stream init`: what it refuses, and that nothing is left when it does.

use tablecast::error::Kind;

use super::kit::Stream;
use crate::support::mysql::Server;

async fn refused(stream: &Stream, tables: &[&str]) -> (Kind, String, String) {
    let error = stream.init(tables).await.expect_err("refused");
    assert!(stream.store.list("").await.expect("a listing").is_empty(), "nothing is written");
    (error.kind(), error.to_string(), error.hint_text().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_cannot_travel_is_refused_by_name() {
    let server = Server::start(&[]);
    server
        .sql(
            "CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY); CREATE VIEW g.v AS SELECT 1; \
             CREATE TABLE g.old (id INT) ENGINE=MyISAM",
        )
        .await;
    let stream = Stream::plan(&server, &["g.*", "nope.*"], "").await;
    for (tables, says) in [
        (&["g.nope"][..], "no such table"),
        (&["g.v"], "not a table"),
        (&["g.old"], "is MyISAM, not InnoDB"),
        (&["g.*"], "make a stream of g.old"),
        (&["nope.*"], "no schema nope"),
        (&["g.apps", "g.nope"], "g.nope"),
    ] {
        let (kind, message, hint) = refused(&stream, tables).await;
        assert_eq!(kind, Kind::Usage, "{tables:?}");
        assert!(message.contains(says) && !hint.is_empty(), "{message} / {hint}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_xa_transaction_is_not_begun_after() {
    let server = Server::start(&[]);
    server.sql("CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY)").await;
    server.sql("XA START 'x'; INSERT INTO g.apps VALUES (1); XA END 'x'; XA PREPARE 'x'").await;
    let stream = Stream::plan(&server, &["g.apps"], "").await;
    let (kind, message, _) = refused(&stream, &["g.apps"]).await;
    assert_eq!(kind, Kind::Gate);
    assert!(message.contains("1 prepared"), "{message}");
    server.sql("XA ROLLBACK 'x'").await;
    stream.init(&["g.apps"]).await.expect("a stream");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_does_not_begin_in_the_middle_of_a_migration() {
    let server = Server::start(&[]);
    server.sql("CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY); CREATE TABLE g._apps_gho LIKE g.apps").await;
    let stream = Stream::plan(&server, &["g.*"], "").await;
    for set in ["g.apps", "g.*"] {
        let (kind, message, hint) = refused(&stream, &[set]).await;
        assert_eq!(kind, Kind::Usage, "{message}");
        assert!(message.contains("g._apps_gho") && hint.contains("migration"), "{message} / {hint}");
    }
    // Of a table that is not in the set it does not matter.
    server.sql("CREATE TABLE g.plans (id INT PRIMARY KEY)").await;
    stream.init(&["g.plans"]).await.expect("a stream");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_stream_in_the_same_place_is_refused() {
    let server = Server::start(&[]);
    server.sql("CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY)").await;
    let stream = Stream::make(&server, &["g.apps"], "").await;
    let before = stream.head().await;
    let error = stream.init(&["g.apps"]).await.expect_err("refused");
    assert_eq!(error.kind(), Kind::Usage);
    assert!(error.to_string().contains("there is one already"), "{error}");
    assert_eq!(stream.head().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfit_server_is_refused_with_what_mends_it() {
    for (option, kind, says) in [
        ("--binlog-format=STATEMENT", Kind::Gate, "binlog_format is STATEMENT"),
        ("--binlog-format=MIXED", Kind::Gate, "binlog_format is MIXED"),
        ("--gtid-mode=ON_PERMISSIVE", Kind::Gate, "gtid_mode is ON_PERMISSIVE"),
        ("--skip-log-bin", Kind::Usage, "log_bin is OFF"),
        ("--binlog-ignore-db=g", Kind::Gate, "keeps schema g out of the binlog"),
    ] {
        let server = Server::start(&[option]);
        server.sql("CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY)").await;
        let (found, message, hint) =
            refused(&Stream::plan(&server, &["g.apps"], "").await, &["g.apps"]).await;
        assert_eq!(found, kind, "{option}: {message}");
        assert!(message.contains(says) && !hint.is_empty(), "{option}: {message} / {hint}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_lacks_privileges_is_refused_and_the_printed_grants_suffice() {
    let server = Server::start(&[]);
    server
        .sql("CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY); CREATE USER 'up'@'%' IDENTIFIED BY 'x'")
        .await;
    let mut stream = Stream::plan(&server, &["g.apps"], "").await;
    stream.config.mysql = server.config_as("up", "x");
    let (kind, message, hint) = refused(&stream, &["g.apps"]).await;
    assert_eq!(kind, Kind::Denied, "{message}");
    assert!(hint.contains("GRANT") || hint.contains("grants"), "{hint}");
    let tables = tablecast::binlog::name::TableSet::parse(&["g.apps"]).expect("a set");
    for grant in tablecast::source::preflight::grants("'up'@'%'", &tables) {
        server.sql(&grant).await;
    }
    stream.init(&["g.apps"]).await.expect("the grants suffice for init");
    server.sql("INSERT INTO g.apps VALUES (1); ALTER TABLE g.apps ADD COLUMN a INT").await;
    let report = stream.upload().await.expect("the grants suffice for upload");
    assert_eq!(report.kept, 2);
    // What is printed beside: for changes of the set, which the stream works without.
    for grant in tablecast::source::preflight::writer_grants("'up'@'%'", &tables) {
        server.sql(&grant).await;
    }
    let checks = tablecast::source::preflight::checks(&stream.config, Some(&stream.head().await)).await;
    for check in checks.expect("checks") {
        assert_eq!(check.outcome, tablecast::source::preflight::Outcome::Passed, "{check:?}");
    }
    server.sql("CREATE TABLE g.plans (id INT PRIMARY KEY); GRANT SELECT ON g.plans TO 'up'@'%'").await;
    let plans = ["g.plans".parse().expect("a name")];
    let add =
        tablecast::source::tables::add(&stream.config, &*stream.store, &plans, &Default::default()).await;
    assert_eq!(add.expect("the grants suffice for tables").version, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn whether_a_table_has_rows_is_said_of_the_very_beginning() {
    let server = Server::start(&[]);
    server.sql("CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY)").await;
    let stream = Stream::plan(&server, &["g.apps"], "").await;
    let mut init = stream
        .program(&["stream", "init", "--table", "g.apps"])
        .env("TABLECAST_FAILPOINTS", "init.after_moment=sleep:4000")
        .spawn()
        .expect("run tablecast");
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    server.sql("INSERT INTO g.apps VALUES (1)").await;
    assert!(init.wait().expect("it ends").success());
    let head = stream.head().await;
    let apps = "g.apps".parse().expect("a name");
    let has_rows = head.definition(&apps).expect("its definition").rows_at_init;
    // The row came either before the beginning or behind it.
    assert_eq!(has_rows, Some(head.covered == server.gtid_executed().await));
    // What to do about rows is what the README says.
    let other = Stream::plan(&server, &["g.apps"], "").await;
    let said = other.run(&["stream", "init", "--table", "g.apps"], "");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let next = "next: `tablecast dump take --all-tables` here, then `tablecast bootstrap` in each region";
    assert!(said.contains("these tables hold rows") && said.contains(next), "{said}");
    assert!(!said.contains("mysqldump"), "{said}");
}
