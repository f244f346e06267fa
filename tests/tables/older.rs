//! Beside uploads and regions of versions that know nothing of changes of the set: what they would pass over is refused
//! before, or found afterwards, by name.

use tablecast::error::Kind;
use tablecast::store::{self, head::Read};
use tablecast::stream::{Format, Head, Key, RegionReport};

use super::kit::{SETUP, kinds, refused, set, tables};
use crate::support::mysql::Server;
use crate::support::report_of;
use crate::upload::kit::{OURS, Stream, ours};

const OLDER: Format = Format { major: 1, minor: 1 };

async fn tip(stream: &Stream) -> (Head, store::Etag) {
    match store::head::read(&*stream.store, None).await.expect("a head") {
        Read::Head { head, etag } => (*head, etag),
        Read::Unchanged => panic!("unchanged from nothing"),
    }
}

/// As if an upload that knows nothing of changes had read all that the source has.
async fn pass_over(stream: &Stream, server: &Server) {
    let (mut head, etag) = tip(stream).await;
    head.covered.extend(&server.gtid_executed().await);
    store::head::write(&*stream.store, &mut head, Some(&etag)).await.expect("a head");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_an_older_version_wrote_last_is_changed_only_after_an_upload_of_this_one() {
    let server = Server::start(&[]);
    server.sql(SETUP).await;
    let stream = Stream::make(&server, &["g.apps"], "").await;
    stream.upload().await.expect("upload");
    let (mut head, etag) = tip(&stream).await;
    head.format = OLDER;
    let bytes = head.to_json().expect("json");
    stream.store.swap(&Key::head(), &bytes, Some(&etag)).await.expect("as it was written");
    for args in [&["add", "g.plans"][..], &["add", "g.plans", "--dry-run"], &["remove", "g.plans"]] {
        let said = refused(&stream, args, 2);
        assert!(
            said.contains("in format 1.1") && said.contains("`tablecast upload` of this version"),
            "{said}"
        );
    }
    // Also one that has nothing to ship.
    assert_eq!(stream.upload().await.expect("upload").segment_count, 0);
    tables(&stream, &["add", "g.plans"], 0);
}

/// I3: its transaction is covered, so no upload ever comes to it again.
#[tokio::test(flavor = "multi_thread")]
async fn i3_a_change_that_an_older_upload_has_passed_over_ends_the_stream_by_name_at_once() {
    let server = Server::start(&[]);
    server.sql(SETUP).await;
    let stream = Stream::make(&server, &["g.apps"], "").await;
    tables(&stream, &["add", "g.plans"], 0);
    assert_eq!(tables(&stream, &["list"], 0)["passed_over"], false);
    pass_over(&stream, &server).await;
    // Idle, with something to read, and following.
    for then in ["DO 1", &format!("{OURS} INSERT INTO g.apps (name) VALUES ('a')")] {
        server.sql(then).await;
        let error = stream.upload().await.expect_err("found");
        assert_eq!(error.kind(), Kind::History, "{error}");
        assert!(error.to_string().contains("version 2 of the table set"), "{error}");
        assert!(error.hint_text().is_some_and(|hint| hint.contains("--resync")), "{error:?}");
    }
    let following = stream.run(&["upload", "--follow"], "");
    assert_eq!(following.status.code(), Some(10), "{following:?}");
    pass_over(&stream, &server).await;
    let list = tables(&stream, &["list"], 0);
    assert_eq!((&list["passed_over"], &list["pending"][0]["version"]), (&true.into(), &"2".into()));
    assert!(list["warnings"][0].as_str().is_some_and(|said| said.contains("was passed over")), "{list}");
    for command in ["doctor", "status"] {
        let said = stream.run(&[command], "");
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(text.contains("version 2 of the table set"), "{text}");
        assert_eq!(said.status.code(), Some(if command == "doctor" { 4 } else { 0 }), "{text}");
    }
    let said = refused(&stream, &["add", "private.t"], 10);
    assert!(said.contains("was passed over"), "{said}");
    stream.resync().await.expect("resync");
    assert_eq!(set(&stream).await, (2, "g.apps, g.plans".to_owned()));
    tables(&stream, &["add", "private.t"], 0);
    server.sql(&format!("{OURS} INSERT INTO g.plans (price) VALUES (1)")).await;
    stream.upload().await.expect("upload");
    let executed = server.gtid_executed().await;
    stream.holds_exactly(&ours(&executed), &executed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn regions_that_would_stop_at_a_change_are_named_beforehand() {
    let server = Server::start(&[]);
    server.sql(SETUP).await;
    let stream = Stream::make(&server, &["g.apps"], "").await;
    let uuid = stream.head().await.stream;
    for (region, format) in [("eu1", OLDER), ("ap1", tablecast::stream::FORMAT)] {
        let report = RegionReport { format, version: "tablecast 0.0.9".into(), ..report_of(region, uuid) };
        let key = Key::region(region).expect("a key");
        stream.store.swap(&key, &report.to_json().expect("json"), None).await.expect("a report");
    }
    for args in [
        &["add", "g.plans", "--dry-run"][..],
        &["add", "g.plans"],
        &["remove", "g.plans", "--dry-run"],
        &["remove", "g.plans"],
    ] {
        let done = tables(&stream, args, 0);
        let warnings = done["warnings"].as_array().expect("warnings");
        assert_eq!(warnings.len(), 1, "{done}");
        let said = warnings[0].as_str().expect("a text");
        assert!(said.contains("region eu1 runs tablecast 0.0.9") && said.contains("exit code 13"), "{said}");
    }
}

/// A dump for every region is not worth a table that has left again.
#[tokio::test(flavor = "multi_thread")]
async fn a_dump_is_owed_as_long_as_what_it_is_for_is_in_the_set_and_status_says_so() {
    let server = Server::start(&[]);
    server.sql(SETUP).await;
    server.sql("INSERT INTO g.plans (price) VALUES (1)").await;
    let stream = Stream::make(&server, &["g.apps"], "").await;
    let status = || -> serde_json::Value {
        let said = stream.run(&["status", "--json"], "");
        serde_json::from_slice(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"))
    };
    tables(&stream, &["add", "g.plans"], 0);
    let open = status();
    assert_eq!((&open["set_changes"][0]["version"], &open["owes_dump"]), (&"2".into(), &false.into()));
    let text = stream.run(&["status"], "");
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("version 2 of the table set, made at"), "{text}");
    // Recorded, and killed before the dump is there.
    let killed = stream.run(&["upload"], "dump.snapshot=kill");
    assert_eq!(killed.status.code(), None, "{killed:?}");
    let owed = status();
    assert_eq!((&owed["owes_dump"], &owed["owed_for"][0]), (&true.into(), &"g.plans".into()));
    assert_eq!(owed["set_changes"].as_array().map(Vec::len), Some(0));
    let text = stream.run(&["status"], "");
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("a dump of all tables") && text.contains("(g.plans)"), "{text}");
    tables(&stream, &["remove", "g.plans"], 0);
    let report = stream.upload().await.expect("upload");
    assert!(!report.owes_dump, "{report:?}");
    assert_eq!(status()["owes_dump"], false);
    // Added and removed before any upload: no dump is asked for at all.
    tables(&stream, &["add", "g.plans"], 0);
    tables(&stream, &["remove", "g.plans"], 0);
    assert!(!stream.upload().await.expect("upload").owes_dump);
    assert_eq!(kinds(&stream).await.iter().filter(|kind| **kind == "tables").count(), 4);
}
