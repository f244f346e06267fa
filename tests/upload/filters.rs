//! A mini-replica whose filter leaves out a table of the set: found, remembered in the stream, and never covered.

mod copy;

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
    world_of(&["g.apps", "g.plans"], more).await
}

async fn world_of(set: &[&str], more: &str) -> (Server, Server, Stream) {
    let [primary, mini] = Server::start_all([&[], &[]]);
    let tables = "CREATE TABLE g.apps (id INT PRIMARY KEY); CREATE TABLE g.plans (id INT PRIMARY KEY)";
    primary.sql(&format!("CREATE DATABASE g; {tables}")).await;
    mini.replicate_from(&primary, "").await;
    mini.catch_up(&primary).await;
    let stream = Stream::make(&mini, set, more).await;
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
    stream.resync().await.expect_err("nothing proves it");
    stream.resync_on_trust().await.expect("it goes on");
    assert_eq!(stream.head().await.gap, None);
    assert_eq!(stream.head().await.full_dump().expect("a dump").dump.rows, 3);
    primary.sql("INSERT INTO g.plans VALUES (3)").await;
    mini.catch_up(&primary).await;
    assert_eq!(stream.upload().await.expect("shipped").kept, 1);
}

/// I3: a copy that was new when its wrong filter was found, and nothing lost, has lost what it executed behind that: to have its
/// binary logs begin before the finding makes it no new one. Nobody need have seen it in between.
#[tokio::test(flavor = "multi_thread")]
async fn i3_a_copy_that_was_new_when_its_filter_was_found_is_no_new_one_for_the_resync() {
    let (primary, mini, stream) = world("").await;
    primary.sql("INSERT INTO g.apps VALUES (1)").await;
    mini.catch_up(&primary).await;
    stream.upload().await.expect("shipped");
    // As CLONE leaves it.
    crate::processor::kit::purge(&mini).await;
    filter(&mini, WRONG).await;
    assert_eq!(stream.upload().await.expect_err("found").kind(), Kind::Usage, "nothing is lost yet");
    primary.sql("INSERT INTO g.plans VALUES (1)").await;
    mini.catch_up(&primary).await;
    filter(&mini, ALL).await;
    for _ in 0..2 {
        let error = stream.resync().await.expect_err("its copy lacks the row");
        assert!(error.to_string().contains("the copy of g.plans"), "{error}");
        assert_eq!(stream.upload().await.expect_err("seen now").kind(), Kind::History);
    }
    // Seen while the filter was wrong again.
    filter(&mini, WRONG).await;
    primary.sql("INSERT INTO g.plans VALUES (2)").await;
    mini.catch_up(&primary).await;
    assert_eq!(stream.upload().await.expect_err("seen").kind(), Kind::History);
    filter(&mini, ALL).await;
    assert_eq!(stream.resync().await.expect_err("nor those").kind(), Kind::History);
    mini.sql("SET sql_log_bin = 0; INSERT INTO g.plans VALUES (1), (2)").await;
    crate::processor::kit::purge(&mini).await;
    stream.resync_on_trust().await.expect("a new copy, by hand");
    assert_eq!(stream.head().await.full_dump().expect("a dump").dump.rows, 3);
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
    // The filters are looked at about once a second. What was executed by the last look is known to be whole; without one
    // since the row above, upload could not know that nothing is lost, and would rightly end with 10.
    tokio::time::sleep(Duration::from_secs(3)).await;
    mini.sql(&format!("CHANGE REPLICATION FILTER {WRONG}")).await;
    let ended = following.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(2), "nothing is lost yet: {ended:?}");
    mini.sql("START REPLICA SQL_THREAD").await;
    mini.catch_up(&primary).await;
    let again = stream.run(&["upload", "--follow"], "");
    assert_eq!(again.status.code(), Some(10), "{again:?}");
    assert!(!mini.gtid_executed().await.is_subset(&stream.head().await.covered));
}

/// I3: one my.cnf serves many processors, and nobody has looked at the second one while its filter was wrong.
#[tokio::test(flavor = "multi_thread")]
async fn i3_a_resync_from_a_second_processor_with_the_same_wrong_filter_is_refused_and_one_from_the_primary_goes_on()
 {
    let (primary, mini, mut stream) = world("").await;
    let [second] = Server::start_all([&[]]);
    second.replicate_from(&primary, "").await;
    second.catch_up(&primary).await;
    for server in [&mini, &second] {
        filter(server, WRONG).await;
    }
    primary.sql("INSERT INTO g.plans VALUES (1)").await;
    mini.catch_up(&primary).await;
    second.catch_up(&primary).await;
    assert_eq!(stream.upload().await.expect_err("found").kind(), Kind::History);
    stream.read_from(&second);
    let uuid = second.value::<String>("SELECT @@server_uuid").await;
    for is_seen in [false, true] {
        if is_seen {
            filter(&second, WRONG).await;
            assert_eq!(stream.upload().await.expect_err("found here too").kind(), Kind::History);
            // With no filter at all it looks like a full replica, and is none.
            filter(&second, "REPLICATE_DO_TABLE = ()").await;
        } else {
            filter(&second, ALL).await;
        }
        let error = stream.resync().await.expect_err("its copy lacks the row");
        assert_eq!(error.kind(), Kind::History, "{error}");
        assert!(error.to_string().contains("the copy of g.plans"), "{error}");
        let also = stream.head().await.gap.expect("it stays").also;
        assert_eq!(also.iter().any(|also| also.to_string() == uuid), is_seen);
    }
    // The first one is not forgotten for the second.
    stream.read_from(&mini);
    filter(&mini, "REPLICATE_DO_TABLE = ()").await;
    assert_eq!(stream.resync().await.expect_err("nor is this one's whole").kind(), Kind::History);
    stream.read_from(&primary);
    stream.resync().await.expect("the primary has all rows");
    let head = stream.head().await;
    assert_eq!((&head.gap, head.full_dump().expect("a dump").dump.rows), (&None, 1));
}

/// I3: a schema pattern is no reason not to look at the tables that the stream knows, nor to trust that no other will come.
#[tokio::test(flavor = "multi_thread")]
async fn i3_of_a_schema_pattern_a_table_that_is_left_out_is_found_and_a_filter_that_only_names_tables_is_refused()
 {
    let (primary, mini, stream) = world_of(&["g.*"], "").await;
    let before = stream.head().await;
    filter(&mini, ALL).await;
    primary.sql("INSERT INTO g.apps VALUES (1); CREATE TABLE g.later (id INT PRIMARY KEY)").await;
    mini.catch_up(&primary).await;
    for args in [&["upload", "--dry-run"][..], &["upload"]] {
        let said = stream.run(args, "");
        assert_eq!(said.status.code(), Some(2), "{said:?}");
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(text.contains("do not let in every table of g.*") && text.contains("rebuild"), "{text}");
    }
    assert_eq!(stream.head().await, before, "nothing is covered");
    filter(&mini, "REPLICATE_DO_TABLE = ()").await;
    assert_eq!(stream.upload().await.expect("all is let in").kept, 1);
    let before = stream.head().await;
    filter(&mini, "REPLICATE_IGNORE_TABLE = (g.plans)").await;
    let doctor = String::from_utf8_lossy(&stream.run(&["doctor"], "").stdout).into_owned();
    assert!(doctor.contains("leave out g.plans"), "{doctor}");
    primary.sql("INSERT INTO g.plans VALUES (1)").await;
    mini.catch_up(&primary).await;
    let error = stream.upload().await.expect_err("refused");
    assert_eq!(error.kind(), Kind::History, "{error}");
    assert!(error.to_string().contains("leave out g.plans"), "{error}");
    let head = stream.head().await;
    assert_eq!(head.covered, before.covered);
    assert!(head.gap.is_some_and(|gap| gap.lost));
}

/// Nothing was executed under the filter: the primary has all that the stream lacks.
#[tokio::test(flavor = "multi_thread")]
async fn a_gap_that_lost_nothing_ends_at_the_primary() {
    let (primary, mini, mut stream) = world("").await;
    stream.upload().await.expect("nothing yet");
    filter(&mini, WRONG).await;
    assert_eq!(stream.upload().await.expect_err("found").kind(), Kind::Usage);
    primary.sql("INSERT INTO g.plans VALUES (1)").await;
    stream.read_from(&primary);
    assert_eq!(stream.upload().await.expect("the primary sends it").kept, 1);
    assert_eq!(stream.head().await.gap, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_executed_before_the_filters_came_into_force_is_said_to_be_taken_on_trust() {
    let (primary, mini, stream) = world("").await;
    let is_said = |report: &tablecast::source::upload::Report| {
        report.warnings.iter().any(|warning| warning.contains("taken on trust"))
    };
    // From here on the stream knows a time.
    primary.sql("INSERT INTO g.apps VALUES (0)").await;
    mini.catch_up(&primary).await;
    stream.upload().await.expect("upload");
    filter(&mini, WRONG).await;
    primary.sql("INSERT INTO g.apps VALUES (1)").await;
    mini.catch_up(&primary).await;
    filter(&mini, ALL).await;
    assert!(is_said(&stream.upload().await.expect("no run has seen it")));
    // A primary that is silent leaves the stream's time where it was, so it may be said once more.
    for id in [2, 3] {
        primary.sql(&format!("INSERT INTO g.apps VALUES ({id})")).await;
        mini.catch_up(&primary).await;
        let report = stream.upload().await.expect("upload");
        assert!(id == 2 || !is_said(&report), "complete up to later than that: {:?}", report.warnings);
    }
}
