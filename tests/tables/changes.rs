//! What a change of the set does to the stream.

use tablecast::binlog::name::TableName;
use tablecast::stream::RequestState;

use super::kit::{SETUP, changes, kinds, set, tables};
use crate::dump::kit::{Following, dumps, manifest, request};
use crate::support::mysql::Server;
use crate::upload::kit::{OURS, Stream, ours};

/// I3.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_added_empty_travels_from_that_transaction_on_and_needs_no_dump() {
    let server = Server::start(&[]);
    server.sql(SETUP).await;
    let stream = Stream::make(&server, &["g.apps"], "").await;
    // Not of the set yet: passed over, though what they leave is nothing.
    server.sql("INSERT INTO g.plans (price) VALUES (1); DELETE FROM g.plans").await;
    server.sql(&format!("{OURS} INSERT INTO g.apps (name) VALUES ('a')")).await;
    let dry = tables(&stream, &["add", "g.plans", "--dry-run"], 0);
    assert_eq!(
        (&dry["changed"], &dry["version"], &dry["dry_run"]),
        (&true.into(), &"2".into(), &true.into())
    );
    assert_eq!(
        server.value::<u64>("SELECT COUNT(*) FROM tablecast.table_set").await,
        1,
        "nothing is written"
    );
    let done = tables(&stream, &["add", "g.plans", "--reason", "a test"], 0);
    assert_eq!((&done["version"], &done["needs_dump"]), (&"2".into(), &false.into()));
    assert_eq!(done["added"][0]["table"], "g.plans");
    server.sql(&format!("{OURS} INSERT INTO g.plans (price) VALUES (2)")).await;
    server.sql(&format!("{OURS} ALTER TABLE g.plans ADD COLUMN name TEXT")).await;
    let report = stream.upload().await.expect("upload");
    assert_eq!((report.set_changes.len(), report.owes_dump), (1, false));
    assert_eq!(kinds(&stream).await, ["segment", "tables", "segment"]);
    let change = &changes(&stream).await[0];
    assert_eq!((change.version, change.at.0, change.added.len()), (2, 1, 1));
    assert!(!change.added[0].has_rows);
    assert!(change.added[0].create_table.contains("`price`"), "{change:?}");
    let executed = server.gtid_executed().await;
    stream.holds_exactly(&ours(&executed), &executed).await;
    let head = stream.head().await;
    assert_eq!(head.table_set.tables.to_string(), "g.apps, g.plans");
    let definition = head.definition(&TableName::new("g", "plans")).expect("its definition");
    assert!(definition.create_table.contains("`name`") && definition.since_tx.0 == 3, "{definition:?}");
    assert!(dumps(&stream).await.is_empty());
    // Already so.
    let again = tables(&stream, &["add", "g.plans"], 0);
    assert_eq!((&again["changed"], &again["already"][0]), (&false.into(), &"g.plans".into()));
    // And nothing is left to do.
    assert_eq!(stream.upload().await.expect("upload").set_changes.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_not_there_yet_is_added_by_name_and_travels_from_its_create_on() {
    let server = Server::start(&[]);
    server.sql(SETUP).await;
    server.sql("CREATE DATABASE h COLLATE latin1_bin").await;
    let stream = Stream::make(&server, &["g.apps"], "").await;
    let done = tables(&stream, &["add", "g.later", "h.*"], 0);
    assert_eq!((&done["to_come"][0], &done["needs_dump"]), (&"g.later".into(), &false.into()));
    server.sql(&format!("{OURS} CREATE TABLE g.later (id INT PRIMARY KEY)")).await;
    server.sql(&format!("{OURS} INSERT INTO g.later VALUES (1)")).await;
    server.sql(&format!("{OURS} CREATE TABLE h.t (id INT PRIMARY KEY, name VARCHAR(9))")).await;
    stream.upload().await.expect("upload");
    let executed = server.gtid_executed().await;
    stream.holds_exactly(&ours(&executed), &executed).await;
    let head = stream.head().await;
    assert_eq!(head.table_set.tables.to_string(), "g.apps, g.later, h.*");
    assert_eq!(head.schemas["h"].collation, "latin1_bin");
    assert!(!head.schemas.contains_key("tablecast"), "{:?}", head.schemas);
    let known: Vec<_> = head.definitions.iter().map(|definition| definition.table.to_string()).collect();
    assert_eq!(known, ["g.apps", "g.later", "h.t"]);
}

/// A region cannot have those rows from anywhere else.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_holds_rows_is_followed_by_a_dump_of_everything_that_upload_takes_by_itself() {
    let server = Server::start(&[]);
    server.sql(SETUP).await;
    server.sql("INSERT INTO g.plans (price) VALUES (1), (2), (3)").await;
    let stream = Stream::make(&server, &["g.apps"], "").await;
    server.sql(&format!("{OURS} INSERT INTO g.apps (name) VALUES ('a')")).await;
    let done = tables(&stream, &["add", "g.plans"], 0);
    assert_eq!((&done["needs_dump"], &done["added"][0]["has_rows"]), (&true.into(), &true.into()));
    server.sql(&format!("{OURS} INSERT INTO g.plans (price) VALUES (4)")).await;
    let report = stream.upload().await.expect("upload");
    assert_eq!(kinds(&stream).await, ["segment", "tables", "segment", "dump"]);
    assert!(!report.owes_dump, "{report:?}");
    let dump = dumps(&stream).await.remove(0);
    assert!(dump.dump.full && dump.dump.mandatory && !dump.dump.resync);
    let manifest = manifest(&stream, &dump).await;
    assert_eq!((manifest.table_set_version, manifest.rows()), (2, 5));
    assert_eq!(request(&stream, &dump.dump.requests[0]).await.state, RequestState::Uploaded);
    let executed = server.gtid_executed().await;
    stream.holds_exactly(&ours(&executed), &executed).await;
    stream.upload().await.expect("nothing more to do");
    assert_eq!(dumps(&stream).await.len(), 1);
}

/// Upload was down meanwhile: each change has its own place among the transactions.
#[tokio::test(flavor = "multi_thread")]
async fn i3_several_changes_at_once_each_hold_from_their_own_transaction_on() {
    // What the source writes must not matter.
    let server = Server::start(&[
        "--binlog-row-image=MINIMAL",
        "--binlog-transaction-compression=ON",
        "--binlog-row-metadata=FULL",
        "--binlog-rows-query-log-events=ON",
    ]);
    server.sql(SETUP).await;
    let stream = Stream::make(&server, &["g.apps", "private.t"], "").await;
    let write = async |tag: &str| {
        server.sql(&format!("SET gtid_next = '{tag}'; INSERT INTO g.plans (price) VALUES (7)")).await;
    };
    write("AUTOMATIC").await;
    server.sql("DELETE FROM g.plans").await;
    tables(&stream, &["add", "g.plans"], 0);
    write("AUTOMATIC:ours").await;
    tables(&stream, &["remove", "g.plans"], 0);
    write("AUTOMATIC").await;
    server.sql("DELETE FROM g.plans").await;
    // It follows changes that upload has not seen.
    let third = tables(&stream, &["add", "g.*"], 0);
    assert_eq!((&third["version"], &third["pending"]), (&"4".into(), &"2".into()));
    assert_eq!(tables(&stream, &["list"], 0)["pending"].as_array().map(Vec::len), Some(3));
    write("AUTOMATIC:ours").await;
    write("AUTOMATIC:ours").await;
    stream.upload().await.expect("upload");
    let executed = server.gtid_executed().await;
    stream.holds_exactly(&ours(&executed), &executed).await;
    let ats: Vec<_> = changes(&stream).await.iter().map(|change| (change.version, change.at.0)).collect();
    assert_eq!(ats, [(2, 0), (3, 1), (4, 1)]);
    assert_eq!(changes(&stream).await[1].removed[0].to_string(), "g.plans");
    assert_eq!(set(&stream).await, (4, "g.apps, private.t, g.*".to_owned()));
    let known: Vec<_> = stream.head().await.definitions.iter().map(|known| known.table.to_string()).collect();
    assert_eq!(known, ["g.apps", "g.plans", "private.t"]);
    assert!(tables(&stream, &["list"], 0)["pending"].as_array().is_some_and(Vec::is_empty));
    // Whoever tidies up there does not stop the stream: a MINIMAL image has little more than the key.
    server.sql("UPDATE tablecast.table_set SET reason = 'old' WHERE version = 1; DELETE FROM tablecast.table_set WHERE version = 1").await;
    stream.upload().await.expect("upload");
    assert_eq!(set(&stream).await.0, 4);
}

/// A dump of before the change is not one of the new set, whatever its entry's number.
#[tokio::test(flavor = "multi_thread")]
async fn a_dump_that_is_under_way_when_the_set_changes_is_taken_again() {
    let server = Server::start(&[]);
    server.sql(SETUP).await;
    server.sql("INSERT INTO g.plans (price) VALUES (1), (2)").await;
    server.sql("INSERT INTO g.apps (name) VALUES ('a')").await;
    let stream = Stream::make(&server, &["g.apps"], "[upload]\ninterval = \"50ms\"").await;
    let asked = crate::dump::kit::ask(&stream, &[]).await;
    let following = Following::start(&stream, "dump.snapshot=sleep:3000@1");
    crate::dump::kit::wait_for(&stream, &asked.id, RequestState::Running).await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    tables(&stream, &["add", "g.plans"], 0);
    // Put back for half a minute, then of the new set.
    crate::dump::kit::wait_for(&stream, &asked.id, RequestState::Uploaded).await;
    following.stop();
    let head = stream.head().await;
    assert!(
        !head.set_changed.expect("a change").owes_dump || !stream.upload().await.expect("upload").owes_dump
    );
    for dump in dumps(&stream).await {
        assert_eq!(manifest(&stream, &dump).await.table_set_version, 2);
        assert!(dump.dump.holds(&["g.plans".parse::<TableName>().expect("a name")]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_who_add_tables_at_the_same_moment_both_succeed() {
    let server = Server::start(&[]);
    server.sql(SETUP).await;
    let more: Vec<String> = (0..6).map(|n| format!("CREATE TABLE g.t{n} (id INT PRIMARY KEY)")).collect();
    server.sql(&more.join("; ")).await;
    let stream = Stream::make(&server, &["g.apps"], "").await;
    stream.grant(&["g.t0", "g.t1", "g.t2", "g.t3", "g.t4", "g.t5"]);
    let running: Vec<_> = (0..6)
        .map(|n| {
            let mut command = stream.program(&["tables", "add", &format!("g.t{n}"), "--json"]);
            command.stdout(std::process::Stdio::piped()).spawn().expect("run tablecast")
        })
        .collect();
    for run in running {
        let output = run.wait_with_output().expect("wait for it");
        assert!(output.status.success(), "{output:?}");
    }
    stream.upload().await.expect("upload");
    assert_eq!(set(&stream).await, (7, "g.apps, g.t0, g.t1, g.t2, g.t3, g.t4, g.t5".to_owned()));
    let added: usize = changes(&stream).await.iter().map(|change| change.added.len()).sum();
    assert_eq!(added, 6);
}

/// The lock makes the row say the truth: what was written before the change is in the rows, what comes after is in the
/// stream.
#[tokio::test(flavor = "multi_thread")]
async fn i3_under_writes_every_change_of_an_added_table_is_before_its_dump_or_in_the_stream() {
    let server = Server::start(&[]);
    server.sql(SETUP).await;
    let stream = Stream::make(&server, &["g.apps"], "").await;
    let writer = {
        let mut conn = server.connect().await;
        tokio::spawn(async move {
            use mysql_async::prelude::Queryable;
            for _ in 0..400 {
                conn.query_drop("INSERT INTO g.plans (price) VALUES (1)").await.expect("insert");
            }
        })
    };
    while server.value::<u64>("SELECT COUNT(*) FROM g.plans").await < 20 {
        tokio::task::yield_now().await;
    }
    tables(&stream, &["add", "g.plans"], 0);
    writer.await.expect("the writer");
    stream.upload().await.expect("upload");
    let dump = dumps(&stream).await.remove(0);
    let change = changes(&stream).await.remove(0);
    // One row a transaction, and all that the stream carries are of this table.
    let in_stream = stream.head().await.last_tx.0;
    assert!(change.added[0].has_rows && in_stream < 400 - 19, "{in_stream}");
    assert_eq!(manifest(&stream, &dump).await.rows(), 400);
    let before: u64 =
        server.value(&format!("SELECT COUNT(*) FROM g.plans WHERE id <= {}", 400 - in_stream)).await;
    assert_eq!(before, 400 - in_stream);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_source_s_region_stands_in_the_head_as_soon_as_the_config_names_it() {
    let server = Server::start(&[]);
    server.sql(SETUP).await;
    let stream = Stream::make(&server, &["g.apps"], "").await;
    assert_eq!(stream.head().await.source_region, None);
    stream.reconfigure("[files]", "[source]\nregion = \"us-east-1\"\n[files]");
    for then in [None, Some("INSERT INTO g.apps (name) VALUES ('a')")] {
        if let Some(statement) = then {
            server.sql(statement).await;
        }
        let ran = stream.run(&["upload"], "");
        assert!(ran.status.success(), "{ran:?}");
        assert_eq!(stream.head().await.source_region.as_deref(), Some("us-east-1"));
    }
    let shown = stream.run(&["stream", "show"], "");
    assert!(String::from_utf8_lossy(&shown.stdout).contains("us-east-1"), "{shown:?}");
}
