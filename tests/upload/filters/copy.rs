//! Whose copy of the tables a resync believes, once a filter has left one out: I3, for its dump goes to every region.

use tablecast::error::Kind;

use super::{ALL, WRONG, filter, world};
use crate::processor::kit::{PROCESSOR, Supervisor, primary_section, purge};
use crate::support::mysql::Server;
use crate::upload::kit::Stream;

async fn is_not_believed(stream: &Stream, why: &str) {
    let error = stream.resync().await.expect_err(why);
    assert_eq!(error.kind(), Kind::History, "{why}: {error}");
    assert!(error.to_string().contains("the copy of g.plans"), "{why}: {error}");
    assert!(error.hint_text().is_some_and(|hint| hint.contains("processor rebuild")), "{why}: {error:?}");
}

async fn replica_of(primary: &Server) -> Server {
    let replica = Server::start(&[]);
    replica.replicate_from(primary, "").await;
    replica.catch_up(primary).await;
    replica
}

/// I3: that rows were lost was seen at the second server. What the first one lost nobody has seen, and its logs begin
/// where they did when it was found.
#[tokio::test(flavor = "multi_thread")]
async fn i3_a_copy_that_lost_rows_is_no_new_one_because_another_server_was_read_in_between() {
    let (primary, mini, mut stream) = world("").await;
    let second = replica_of(&primary).await;
    primary.sql("INSERT INTO g.apps VALUES (1)").await;
    mini.catch_up(&primary).await;
    stream.upload().await.expect("shipped");
    purge(&mini).await;
    filter(&mini, WRONG).await;
    assert_eq!(stream.upload().await.expect_err("found").kind(), Kind::Usage, "nothing is lost yet");
    primary.sql("INSERT INTO g.plans VALUES (1)").await;
    mini.catch_up(&primary).await;
    second.catch_up(&primary).await;
    stream.read_from(&second);
    assert_eq!(stream.upload().await.expect_err("a detour").kind(), Kind::History);
    filter(&mini, ALL).await;
    stream.read_from(&mini);
    is_not_believed(&stream, "back at the first one").await;
    assert_eq!(stream.upload().await.expect_err("seen").kind(), Kind::History);
    is_not_believed(&stream, "and it was looked at").await;
    assert!(stream.resync_on_trust().await.is_err(), "its logs still begin before that");
    mini.sql("SET sql_log_bin = 0; INSERT INTO g.plans VALUES (1)").await;
    purge(&mini).await;
    stream.resync_on_trust().await.expect("a new copy, by hand");
    assert_eq!(stream.head().await.full_dump().expect("a dump").dump.rows, 2);
}

/// I3: nor for a second one that is behind and has the same filter, which adds nothing to what is known to be lost. Its own
/// copy nobody has looked at before: it is asked for, though nothing is known to be lost yet.
#[tokio::test(flavor = "multi_thread")]
async fn i3_a_second_processor_with_the_same_my_cnf_is_asked_before_anything_is_known_to_be_lost() {
    let (primary, mini, mut stream) = world("").await;
    let [second, behind] = [replica_of(&primary).await, replica_of(&primary).await];
    behind.sql("STOP REPLICA SQL_THREAD").await;
    primary.sql("INSERT INTO g.apps VALUES (1)").await;
    mini.catch_up(&primary).await;
    stream.upload().await.expect("shipped");
    purge(&mini).await;
    for server in [&mini, &second] {
        filter(server, WRONG).await;
    }
    assert_eq!(stream.upload().await.expect_err("found").kind(), Kind::Usage, "nothing is lost yet");
    primary.sql("INSERT INTO g.plans VALUES (1)").await;
    second.catch_up(&primary).await;
    filter(&second, ALL).await;
    stream.read_from(&second);
    is_not_believed(&stream, "it had the filter a minute ago").await;
    assert!(stream.head().await.gap.is_some_and(|gap| !gap.lost));
    behind.sql(&format!("CHANGE REPLICATION FILTER {WRONG}")).await;
    stream.read_from(&behind);
    assert_eq!(stream.upload().await.expect_err("found here too").kind(), Kind::History);
    mini.catch_up(&primary).await;
    filter(&mini, ALL).await;
    stream.read_from(&mini);
    is_not_believed(&stream, "back at the first one").await;
}

/// I3: what binlog_expire_logs_seconds purges in a few days was executed by the same old copy.
#[tokio::test(flavor = "multi_thread")]
async fn i3_a_copy_whose_binary_logs_have_expired_is_no_new_one_unless_somebody_says_so() {
    let (primary, mini, stream) = world("").await;
    filter(&mini, WRONG).await;
    primary.sql("INSERT INTO g.plans VALUES (1)").await;
    mini.catch_up(&primary).await;
    assert_eq!(stream.upload().await.expect_err("found").kind(), Kind::History);
    filter(&mini, ALL).await;
    primary.sql("INSERT INTO g.apps VALUES (1)").await;
    mini.catch_up(&primary).await;
    purge(&mini).await;
    is_not_believed(&stream, "days later").await;
    let dry = stream.run(&["upload", "--resync", "--dry-run"], "");
    assert_eq!(dry.status.code(), Some(10), "{dry:?}");
    let report = stream.resync_on_trust().await.expect("somebody says so");
    let said = report.warnings.iter().find(|warning| warning.contains("taken on trust")).expect("it is said");
    let purged = mini.value::<String>("SELECT @@GLOBAL.gtid_purged").await;
    assert!(said.contains("g.plans") && said.contains("since 20") && said.contains(&purged), "{said}");
}

/// I3: a CLONE of the primary is a new copy, if all that was executed behind it was by the filters of now.
#[tokio::test(flavor = "multi_thread")]
async fn i3_a_clone_is_believed_as_long_as_its_filters_have_not_changed_and_its_binary_logs_are_there() {
    let primary = Server::start(&[]);
    primary.sql("CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY); CREATE TABLE g.plans (id INT PRIMARY KEY)").await;
    let mini = replica_of(&primary).await;
    let stream = Stream::make_by(PROCESSOR, &mini, &["g.apps", "g.plans"], &primary_section(&primary)).await;
    filter(&mini, WRONG).await;
    primary.sql("INSERT INTO g.plans VALUES (1)").await;
    mini.catch_up(&primary).await;
    assert_eq!(stream.upload().await.expect_err("found").kind(), Kind::History);
    let rebuild = || {
        let _systemd = Supervisor::of(&mini);
        let rebuilt = stream.run(&["processor", "rebuild", "--replace"], "");
        assert_eq!(rebuilt.status.code(), Some(4), "what was left out: {rebuilt:?}");
    };
    rebuild();
    // Nobody looks while it goes wrong again.
    filter(&mini, WRONG).await;
    primary.sql("INSERT INTO g.plans VALUES (2)").await;
    mini.catch_up(&primary).await;
    filter(&mini, crate::processor::kit::FILTERS).await;
    is_not_believed(&stream, "its filters were changed since").await;
    rebuild();
    primary.sql("INSERT INTO g.plans VALUES (3)").await;
    mini.catch_up(&primary).await;
    purge(&mini).await;
    is_not_believed(&stream, "its first transactions since are gone").await;
    rebuild();
    primary.sql("INSERT INTO g.plans VALUES (4)").await;
    mini.catch_up(&primary).await;
    let report = stream.resync().await.expect("a new copy");
    assert!(!report.warnings.iter().any(|warning| warning.contains("trust")), "{:?}", report.warnings);
    let head = stream.head().await;
    assert_eq!((&head.gap, head.full_dump().expect("a dump").dump.rows), (&None, 4));
}
