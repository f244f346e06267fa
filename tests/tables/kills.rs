//! I7: `kill -9` at any instant of a change, then a rerun.

use std::os::unix::process::ExitStatusExt;

use super::kit::{SETUP, changes, kinds, set, tables};
use crate::dump::kit::dumps;
use crate::support::mysql::Server;
use crate::upload::kit::{OURS, Stream, ours};

fn killed(stream: &Stream, args: &[&str], failpoint: &str) {
    let output = stream.run(args, &format!("{failpoint}=kill"));
    assert_eq!(output.status.signal(), Some(9), "{failpoint}: {output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_a_change_killed_at_any_failpoint_is_made_or_not_and_leaves_no_lock() {
    let server = Server::start(&[]);
    server.sql(SETUP).await;
    server.sql("INSERT INTO g.plans (price) VALUES (1)").await;
    let stream = Stream::make(&server, &["g.apps"], "").await;
    for (point, is_made) in [
        ("before_lock", false),
        ("locked", false),
        ("before_insert", false),
        ("after_insert", true),
        ("unlocked", true),
    ] {
        let rows = async || server.value::<u64>("SELECT COUNT(*) FROM tablecast.table_set").await;
        let before = rows().await;
        stream.grant(&["g.plans"]);
        killed(&stream, &["tables", "add", "g.plans"], &format!("tables.{point}"));
        assert_eq!(rows().await - before, u64::from(is_made), "{point}");
        // Nobody cleans up: writers go on at once.
        server.sql("SET lock_wait_timeout = 5; INSERT INTO g.plans (price) VALUES (1)").await;
        let rerun = tables(&stream, &["add", "g.plans"], 0);
        assert_eq!(rerun["changed"], !is_made, "{point}");
        tables(&stream, &["remove", "g.plans"], 0);
    }
    stream.upload().await.expect("upload");
    assert_eq!(set(&stream).await, (11, "g.apps".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_an_upload_killed_around_a_change_or_its_dump_loses_neither() {
    let server = Server::start(&[]);
    server.sql(SETUP).await;
    server.sql("INSERT INTO g.plans (price) VALUES (1)").await;
    for (n, point) in [
        "upload.before_tables_entry",
        "upload.after_tables_entry",
        "upload.before_owed_request",
        "queue.before_turn",
        "queue.before_request",
        "upload.after_owed_request",
        "dump.requests_running",
        "dump.snapshot",
        "dump.before_append",
        "dump.after_append",
    ]
    .into_iter()
    .enumerate()
    {
        let stream = Stream::make(&server, &["g.apps"], "").await;
        server.sql(&format!("{OURS} INSERT INTO g.apps (name) VALUES ('{point}')")).await;
        tables(&stream, &["add", "g.plans"], 0);
        server.sql(&format!("{OURS} INSERT INTO g.plans (price) VALUES ({n})")).await;
        killed(&stream, &["upload"], point);
        stream.shipped().await;
        stream.upload().await.unwrap_or_else(|error| panic!("after {point}: {error}"));
        assert_eq!(kinds(&stream).await, ["segment", "tables", "segment", "dump"], "{point}");
        assert_eq!(changes(&stream).await.len(), 1, "{point}");
        let dump = dumps(&stream).await.remove(0);
        assert!(dump.dump.full && dump.dump.mandatory, "{point}");
        let head = stream.head().await;
        assert!(!head.set_changed.expect("a change").owes_dump, "{point}");
        assert_eq!(head.last_tx.0, 2, "{point}");
        let executed = server.gtid_executed().await;
        assert!(executed.is_subset(&head.covered), "{point}");
    }
    let executed = server.gtid_executed().await;
    assert!(ours(&executed).count() == 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_a_stream_init_killed_behind_its_first_row_is_made_by_the_next() {
    let server = Server::start(&[]);
    server.sql(SETUP).await;
    let stream = Stream::plan(&server, &["g.apps"], "").await;
    killed(&stream, &["stream", "init", "--table", "g.apps"], "init.after_first_version");
    let made = stream.run(&["stream", "init", "--table", "g.apps"], "");
    assert!(made.status.success(), "{made:?}");
    assert_eq!(server.value::<u64>("SELECT COUNT(*) FROM tablecast.table_set").await, 2);
    tables(&stream, &["add", "g.plans"], 0);
    stream.upload().await.expect("upload");
    assert_eq!(set(&stream).await, (2, "g.apps, g.plans".to_owned()));
}
