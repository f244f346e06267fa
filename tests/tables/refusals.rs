//! What cannot come into a set, or leave it, is refused by name, and nothing is written.

use mysql_async::prelude::Queryable;
use tablecast::error::Kind;

use super::kit::{SETUP, changes, refused, set, tables};
use crate::support::mysql::Server;
use crate::upload::kit::Stream;

async fn rows_written(server: &Server) -> u64 {
    server.value("SELECT COUNT(*) FROM tablecast.table_set").await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_travel_is_refused_by_name() {
    let server = Server::start(&[]);
    server.sql(SETUP).await;
    server
        .sql(
            "CREATE VIEW g.seen AS SELECT 1; CREATE TABLE g.old_style (id INT) ENGINE=MyISAM; \
             CREATE TABLE g.moving (id INT PRIMARY KEY); CREATE TABLE g._moving_gho (id INT PRIMARY KEY); \
             CREATE TABLE g.child (id INT PRIMARY KEY, parent INT, FOREIGN KEY to_plans (parent) REFERENCES g.plans (id))",
        )
        .await;
    let stream = Stream::make(&server, &["g.apps"], "").await;
    for (args, code, message) in [
        (&["add", "g.seen"][..], 2, "it is a view"),
        (&["add", "g.old_style"], 2, "MyISAM, not InnoDB"),
        (&["add", "g.moving"], 2, "has g._moving_gho, which an online migration"),
        (&["add", "g.child"], 2, "leads to g.plans, which is not in the set"),
        (&["add", "nowhere.t"], 2, "has no such schema"),
        (&["add", "mysql.user"], 2, "a schema of the server's"),
        (&["add", "g"], 2, "it needs schema.table"),
        (&["remove", "g.apps"], 2, "nothing would be left"),
        (&["remove", "g.aps"], 2, "remove g.aps: it is not in the set"),
        (&["remove", "g.*"], 2, "remove g.*: it is not in the set"),
    ] {
        for dry in [&["--dry-run"][..], &[]] {
            let args = [args, dry].concat();
            let said = refused(&stream, &args, code);
            assert!(said.contains(message), "{args:?}: {said}");
        }
    }
    assert_eq!(rows_written(&server).await, 1);
    tables(&stream, &["add", "g.child", "g.plans"], 0);
    let said = refused(&stream, &["remove", "g.plans"], 2);
    assert!(said.contains("g.child refers to it"), "{said}");
    // Its key would stay in regions, from rows that nobody changes any more.
    let said = refused(&stream, &["remove", "g.child"], 2);
    assert!(said.contains("it refers to g.plans (foreign key child_ibfk_1)"), "{said}");
    server.sql("CREATE TABLE g._plans_new (id INT PRIMARY KEY)").await;
    let said = refused(&stream, &["remove", "g.child", "g.plans"], 2);
    assert!(said.contains("has g._plans_new"), "{said}");
    server.sql("DROP TABLE g._plans_new").await;
    tables(&stream, &["remove", "g.child", "g.plans"], 0);
    let nothing = tables(&stream, &["remove", "g.plans"], 0);
    assert_eq!(nothing["changed"], false);
    tables(&stream, &["add", "private.*"], 0);
    let said = refused(&stream, &["remove", "private.t"], 2);
    assert!(said.contains("it is in the set by private.*"), "{said}");
    stream.upload().await.expect("upload");
    assert_eq!(set(&stream).await.0, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_is_still_open_is_named_and_nothing_changes() {
    let server = Server::start(&[]);
    server.sql(SETUP).await;
    let stream = Stream::make(&server, &["g.apps"], "").await;
    let mut open = server.connect().await;
    open.query_drop("BEGIN; INSERT INTO g.plans (price) VALUES (1)").await.expect("an open transaction");
    stream.grant(&["g.plans"]);
    let waiting = stream.program(&["tables", "add", "g.plans", "--json"]).spawn().expect("run tablecast");
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    assert_eq!(rows_written(&server).await, 1, "it waits");
    // Others write on between its attempts.
    server.sql("INSERT INTO g.plans (price) VALUES (2)").await;
    open.query_drop("COMMIT").await.expect("commit");
    let output = waiting.wait_with_output().expect("wait for it");
    assert!(output.status.success(), "{output:?}");
    stream.upload().await.expect("upload");
    assert!(changes(&stream).await[0].added[0].has_rows);
}

/// The set says what belongs to the stream: a change must not come together with what it is about.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_not_alone_in_its_transaction_is_refused_and_a_resync_goes_on_behind_it() {
    let server = Server::start(&[]);
    server.sql(SETUP).await;
    let stream = Stream::make(&server, &["g.apps"], "").await;
    stream.grant(&["g.plans"]);
    let uuid = stream.head().await.stream;
    let row = |version: u64, tables: &str| {
        format!(
            "INSERT INTO tablecast.table_set (stream, uuid, version, tables, added, removed, changed_at) \
             VALUES ('x', '{uuid}', {version}, '{tables}', '[]', '[]', NOW())"
        )
    };
    // Another stream's rows are nobody's business, nor are they that were deleted again.
    server
        .sql(&format!(
            "INSERT INTO tablecast.table_set (stream, uuid, version, tables, added, removed, changed_at) \
             VALUES ('y', UUID(), 2, 'nonsense', '', '', NOW()); DELETE FROM tablecast.table_set WHERE stream = 'y'; \
             UPDATE tablecast.table_set SET reason = 'x' WHERE uuid = '{uuid}'"
        ))
        .await;
    stream.upload().await.expect("nothing to it");
    assert_eq!(set(&stream).await.0, 1);
    server
        .sql(&format!("INSERT INTO g.apps (name) VALUES ('before'); BEGIN; INSERT INTO g.plans (price) VALUES (1); {}; COMMIT", row(2, r#"["g.apps", "g.plans"]"#)))
        .await;
    let refused = stream.upload().await.expect_err("not alone");
    assert_eq!(refused.kind(), Kind::Gate, "{refused}");
    assert_eq!(stream.head().await.last_tx.0, 1, "what came before it is shipped");
    stream.resync().await.expect("resync");
    assert_eq!(set(&stream).await, (2, "g.apps, g.plans".to_owned()), "the dump is of the newest set");
    let change = changes(&stream).await.remove(0);
    assert_eq!((change.source_gtid, change.added.len()), (None, 0));
    // A gap in the numbers is history that is lost.
    server.sql(&row(4, r#"["g.apps"]"#)).await;
    assert_eq!(stream.upload().await.expect_err("a gap").kind(), Kind::History);
    stream.resync().await.expect("resync");
    assert_eq!(set(&stream).await, (4, "g.apps".to_owned()));
    server.sql("INSERT INTO g.apps (name) VALUES ('after')").await;
    stream.upload().await.expect("it goes on");
    assert_eq!(tables(&stream, &["add", "g.plans"], 0)["version"], "5");
}

/// A row that nobody can read is no change that could be passed over.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_makes_no_sense_stops_the_stream_by_name() {
    let server = Server::start(&[]);
    server.sql(SETUP).await;
    let stream = Stream::make(&server, &["g.apps"], "").await;
    let uuid = stream.head().await.stream;
    server
        .sql(&format!(
            "INSERT INTO tablecast.table_set (stream, uuid, version, tables, added, removed, changed_at) \
             VALUES ('x', '{uuid}', 2, '[]', '[]', '[]', NOW())"
        ))
        .await;
    let refused = stream.upload().await.expect_err("an empty set");
    assert_eq!(refused.kind(), Kind::Gate);
    let told = tablecast::error::chain(&refused);
    assert!(told.contains("version 2 of the table set") && told.contains("it is empty"), "{told}");
}
