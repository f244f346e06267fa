//! A mini-replica whose filter leaves out a table of the set: found, remembered in the stream, and never covered.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;

use tablecast::error::Kind;

use super::kit::Stream;
use crate::support::mysql::Server;

const ALL: &str = "REPLICATE_DO_TABLE = (g.apps, g.plans)";
const WRONG: &str = "REPLICATE_DO_TABLE = (g.apps)";

async fn filter(mini: &Server, rules: &str) {
    mini.sql(&format!(
        "STOP REPLICA SQL_THREAD; CHANGE REPLICATION FILTER {rules}; START REPLICA SQL_THREAD"
    ))
    .await;
}

async fn world(more: &str) -> (Server, Server, Stream) {
    let [primary, mini] = Server::start_all([&[], &[]]);
    let tables = "CREATE TABLE g.apps (id INT PRIMARY KEY); CREATE TABLE g.plans (id INT PRIMARY KEY)";
    primary.sql(&format!("CREATE DATABASE g; {tables}")).await;
    mini.replicate_from(&primary, "").await;
    mini.catch_up(&primary).await;
    let stream = Stream::make(&mini, &["g.apps", "g.plans"], more).await;
    (primary, mini, stream)
}

/// I3: rows that the filter kept away are in nobody's binlog but the primary's.
#[tokio::test(flavor = "multi_thread")]
async fn i3_what_a_wrong_filter_has_passed_over_is_never_covered_and_a_resync_from_a_whole_copy_goes_on() {
    let (primary, mini, stream) = world("").await;
    filter(&mini, WRONG).await;
    primary.sql("INSERT INTO g.apps VALUES (1); INSERT INTO g.plans VALUES (1)").await;
    mini.catch_up(&primary).await;
    let before = stream.head().await;
    let dry = stream.run(&["upload", "--dry-run"], "");
    assert_eq!(dry.status.code(), Some(10), "{dry:?}");
    assert_eq!(stream.head().await, before, "a dry run writes nothing");
    // I7: killed right before it is written down, the next run finds it; killed behind that, it stands there.
    for point in ["upload.before_gap", "upload.after_gap"] {
        let killed = stream.run(&["upload"], &format!("{point}=kill"));
        assert_eq!(killed.status.signal(), Some(9), "{point}: {killed:?}");
        assert_eq!(stream.head().await.gap.is_some(), point == "upload.after_gap");
    }
    let error = stream.upload().await.expect_err("refused");
    assert_eq!(error.kind(), Kind::History, "{error}");
    assert!(error.to_string().contains("leave out g.plans"), "{error}");
    let hint = error.hint_text().expect("what to do").to_owned();
    for says in ["at least since 20", "processor rebuild", "--resync", "docs/runbooks/"] {
        assert!(hint.contains(says), "{says}: {hint}");
    }
    // Mended, and run on another machine: what was executed meanwhile stays lost.
    filter(&mini, ALL).await;
    primary.sql("INSERT INTO g.plans VALUES (2)").await;
    mini.catch_up(&primary).await;
    let _ = std::fs::remove_dir_all(&stream.config.files.cache_dir);
    for _ in 0..2 {
        let error = stream.upload().await.expect_err("refused");
        assert_eq!(error.kind(), Kind::History, "{error}");
        assert!(error.to_string().contains("left out g.plans"), "{error}");
    }
    let head = stream.head().await;
    assert_eq!(
        (&head.covered, head.last_seq),
        (&before.covered, before.last_seq),
        "nothing is shipped or covered"
    );
    for (args, code) in [(&["doctor"][..], 4), (&["status"], 0), (&["stream", "show"], 0)] {
        let said = stream.run(args, "");
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(text.contains("g.plans") && text.contains("left out"), "{args:?}: {text}");
        assert_eq!(said.status.code(), Some(code), "{text}");
    }
    // Its own copy lacks the rows too: no region must get that.
    let error = stream.resync().await.expect_err("refused");
    assert_eq!(error.kind(), Kind::History, "{error}");
    assert!(error.to_string().contains("the copy of g.plans"), "{error}");
    // A new copy, here by hand.
    mini.sql("SET sql_log_bin = 0; INSERT INTO g.plans VALUES (1)").await;
    mini.sql("FLUSH BINARY LOGS").await;
    let log: String =
        mini.value("SELECT LOCAL->>'$.binary_log_file' FROM performance_schema.log_status").await;
    mini.sql(&format!("PURGE BINARY LOGS TO '{log}'")).await;
    stream.resync().await.expect("it goes on");
    assert_eq!(stream.head().await.gap, None);
    assert_eq!(stream.head().await.full_dump().expect("a dump").dump.rows, 3);
    primary.sql("INSERT INTO g.plans VALUES (3)").await;
    mini.catch_up(&primary).await;
    assert_eq!(stream.upload().await.expect("shipped").kept, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_filter_under_which_nothing_was_executed_has_lost_nothing() {
    let (primary, mini, stream) = world("").await;
    primary.sql("INSERT INTO g.apps VALUES (1)").await;
    mini.catch_up(&primary).await;
    stream.upload().await.expect("shipped");
    filter(&mini, WRONG).await;
    for _ in 0..2 {
        let error = stream.upload().await.expect_err("found, though there is nothing to ship");
        assert_eq!(error.kind(), Kind::Usage, "{error}");
        assert!(error.hint_text().is_some_and(|hint| hint.contains("nothing is lost")), "{error:?}");
    }
    assert!(stream.head().await.gap.is_some_and(|gap| !gap.lost));
    filter(&mini, ALL).await;
    stream.upload().await.expect("as if nothing had been");
    assert_eq!(stream.head().await.gap, None);
    // Once more, and this time something is executed before it is mended, which no run sees.
    filter(&mini, WRONG).await;
    stream.upload().await.expect_err("found");
    primary.sql("INSERT INTO g.plans VALUES (1)").await;
    mini.catch_up(&primary).await;
    filter(&mini, ALL).await;
    for _ in 0..2 {
        let error = stream.upload().await.expect_err("lost");
        assert_eq!(error.kind(), Kind::History, "{error}");
    }
}

/// A run that follows has its connection all along.
#[tokio::test(flavor = "multi_thread")]
async fn i3_a_filter_that_goes_wrong_under_a_following_run_ends_it_before_it_covers_what_is_passed_over() {
    let (primary, mini, stream) = world("[upload]\ninterval = \"100ms\"").await;
    let mut command = stream.program(&["upload", "--follow"]);
    let following = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("run tablecast");
    primary.sql("INSERT INTO g.apps VALUES (1)").await;
    while stream.head().await.last_tx.0 < 1 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    mini.sql("STOP REPLICA SQL_THREAD").await;
    primary.sql("INSERT INTO g.plans VALUES (1)").await;
    mini.sql(&format!("CHANGE REPLICATION FILTER {WRONG}")).await;
    let ended = following.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(2), "nothing is lost yet: {ended:?}");
    mini.sql("START REPLICA SQL_THREAD").await;
    mini.catch_up(&primary).await;
    let again = stream.run(&["upload", "--follow"], "");
    assert_eq!(again.status.code(), Some(10), "{again:?}");
    assert!(!mini.gtid_executed().await.is_subset(&stream.head().await.covered));
}
