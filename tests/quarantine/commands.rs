//! What people and scripts see of a quarantine: exit codes, lists, the way back by hand.

use std::process::{Command, Stdio};

use serde_json::Value;
use tablecast::region::apply;

use super::kit::{Stream, applied, assert_others_equal, isolated, names, row, rows};
use crate::apply::kit::options;
use crate::support::granted;
use crate::support::mysql::Server;

/// Runs the built program with the region's file: exit code, stdout, stderr.
fn run(stream: &Stream, region: &Server, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tablecast"));
    command
        .arg("--config")
        .arg(stream.region_file(region, granted::USER, &["@.*"]))
        .args(args)
        .stdin(Stdio::null());
    let output = command.env_remove("TABLECAST_FAILPOINTS").output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn json(stream: &Stream, region: &Server, args: &[&str]) -> (i32, Value) {
    let (code, stdout, stderr) = run(stream, region, &[args, &["--json"]].concat());
    (code, serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}")))
}

#[track_caller]
fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

#[tokio::test]
async fn a_table_in_quarantine_is_seen_everywhere() {
    let (stream, region) = isolated("qc_seen").await;
    let named = "in quarantine: qc_seen.a (since transaction 4)";
    let (code, _, stderr) = run(&stream, &region, &["apply"]);
    assert_eq!(code, 3, "{stderr}");
    assert_says(&stderr, &[named, "all other tables are up to date", "docs/runbooks/quarantined-table.md"]);
    let (code, document) = json(&stream, &region, &["apply"]);
    assert_eq!((code, &document["kind"]), (3, &"partly".into()));
    assert_eq!(document["quarantined"][0]["table"], "qc_seen.a");
    assert_eq!(document["quarantined"][0]["since_tx"], "4");

    let (code, stdout, stderr) = run(&stream, &region, &["status"]);
    assert_eq!(code, 3);
    assert_says(&stdout, &["quarantine", "qc_seen.a since transaction 4", "key id=2"]);
    assert_says(&stderr, &[named]);
    let (code, document) = json(&stream, &region, &["status", "--fail-if-lag", "1d"]);
    assert_eq!((code, &document["quarantined"][0]["code"]), (3, &1032.into()));

    let (code, stdout, _) = run(&stream, &region, &["doctor"]);
    assert_eq!(code, 4);
    assert_says(&stdout, &["FAIL  quarantine", "qc_seen.a since transaction 4", "quarantined-table.md"]);

    let (code, stdout, _) = run(&stream, &region, &["quarantine", "list"]);
    assert_eq!(code, 0);
    assert_says(
        &stdout,
        &["qc_seen.a", "conflict", "key id=2", "1 transaction", "waits", "tablecast dump take qc_seen.a"],
    );
    let (code, document) = json(&stream, &region, &["quarantine", "list"]);
    let known = &document["quarantined"][0];
    assert_eq!((code, &known["passed_over"], &known["reason"]), (0, &"1".into(), &"conflict".into()));
    let uuid: String = stream.source.value("SELECT @@server_uuid").await;
    assert_says(known["source_gtid"].as_str().unwrap(), &[&uuid]);

    // A transaction that it may have missed is not said to be shown.
    let gtid = known["source_gtid"].as_str().unwrap().to_owned();
    let (code, _, stderr) = run(&stream, &region, &["wait", "--source-gtid", &gtid]);
    assert_eq!(code, 3, "{stderr}");
    assert_says(&stderr, &["qc_seen.a"]);
}

#[tokio::test]
async fn a_table_that_missed_changes_is_released_by_force_only() {
    let (stream, region) = isolated("qc_force").await;
    let (code, _, stderr) = run(&stream, &region, &["quarantine", "release", "qc_force.a"]);
    assert_eq!(code, 4);
    assert_says(
        &stderr,
        &["1 transaction, from 4 on", "tablecast restore qc_force.a", "none of them comes again"],
    );
    assert_eq!(rows(&stream, &region).await.len(), 1);
    let (code, stdout, _) =
        run(&stream, &region, &["quarantine", "release", "qc_force.a", "--force", "--dry-run"]);
    assert_eq!((code, rows(&stream, &region).await.len()), (0, 1));
    assert_says(&stdout, &["would release qc_force.a"]);
    // Somebody has copied it.
    region.sql("INSERT INTO qc_force.a VALUES (2, 'gone')").await;
    let (code, stdout, _) = run(&stream, &region, &["quarantine", "release", "qc_force.a", "--force"]);
    assert_eq!(code, 0);
    assert_says(&stdout, &["it goes on without what 1 transaction changed in it"]);
    stream.sql("UPDATE @.a SET v = 'back'").await;
    stream.upload().await;
    assert_eq!(run(&stream, &region, &["apply"]).0, 0);
    stream.assert_equal(&region).await;
    assert_eq!(run(&stream, &region, &["status"]).0, 0);
    let (code, _, stderr) = run(&stream, &region, &["quarantine", "release", "qc_force.a"]);
    assert_eq!(code, 1);
    assert_says(&stderr, &["it is not in quarantine"]);
}

#[tokio::test]
async fn a_mended_definition_is_released_without_force_and_nothing_was_lost() {
    let (stream, region) = applied("qc_mended").await;
    region.sql("ALTER TABLE qc_mended.a DROP KEY v").await;
    stream.sql("UPDATE @.b SET v = 'x'").await;
    stream.upload().await;
    assert_eq!(run(&stream, &region, &["apply"]).0, 3);
    assert_eq!(rows(&stream, &region).await, [row("a", "definition", 4, 0)]);
    region.sql("ALTER TABLE qc_mended.a ADD KEY v (v)").await;
    // Not while apply runs.
    let config = region.config();
    let lock = tablecast::mysql::Lock::acquire(&config, "tablecast:apply:qc_mended", options().lock_wait);
    let lock = lock.await.unwrap();
    assert_eq!(run(&stream, &region, &["quarantine", "release", "qc_mended.a"]).0, 11);
    lock.release().await.unwrap();
    let (code, stdout, _) = run(&stream, &region, &["quarantine", "release", "qc_mended.a"]);
    assert_eq!(code, 0);
    assert_says(&stdout, &["released qc_mended.a: nothing of it was passed over"]);
    stream.sql("UPDATE @.a SET v = 'x'").await;
    stream.upload().await;
    assert_eq!(run(&stream, &region, &["apply"]).0, 0);
    stream.assert_equal(&region).await;
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_isolated_and_what_is_passed_over() {
    let (stream, region) = isolated("qc_dry").await;
    region.sql("ALTER TABLE qc_dry.b MODIFY v VARCHAR(41)").await;
    stream.sql("UPDATE @.a SET v = 'x'; UPDATE @.b SET v = 'x'").await;
    stream.upload().await;
    let before = stream.state(&region).await;
    let (code, stdout, _) = run(&stream, &region, &["apply", "--dry-run"]);
    assert_eq!(code, 0);
    assert_says(
        &stdout,
        &["put qc_dry.b into quarantine: ", "varchar(41)", "pass over the changes of qc_dry.a"],
    );
    assert_eq!(before, stream.state(&region).await);
    // A region that stops there says that it would.
    let stream = stream.stopping();
    let (code, _, stderr) = run(&stream, &region, &["apply", "--dry-run"]);
    assert_eq!(code, 1);
    assert_says(&stderr, &["varchar(41)"]);
}

#[tokio::test]
async fn until_ends_in_the_middle_of_what_is_passed_over() {
    let (stream, region) = isolated("qc_until").await;
    for id in 10..16 {
        stream
            .sql(&format!(
                "BEGIN; INSERT INTO @.a VALUES ({id}, 'x'); INSERT INTO @.b VALUES ({id}, 'x'); COMMIT"
            ))
            .await;
    }
    stream.sql("DROP TABLE @.a; INSERT INTO @.b VALUES (20, 'x')").await;
    stream.upload().await;
    let config = stream.region_config(&region);
    for (until, missed) in [(6, 3), (8, 5)] {
        let options = apply::Options { until: Some(until), ..options() };
        let report = stream.apply_with(&config, options).await.unwrap();
        assert_eq!(names(&report.quarantined), ["a"]);
        assert_eq!(stream.executed(&region).await, format!("1-{until}"));
        assert_eq!(rows(&stream, &region).await, [row("a", "conflict", 4, missed)]);
    }
    assert_eq!(run(&stream, &region, &["apply"]).0, 0);
    stream.assert_equal(&region).await;
    assert_others_equal(&stream, &region, &[], 12).await;
}

/// A region of the version before has no such table; apply makes it, and so do its replicas.
#[tokio::test]
async fn a_region_of_an_earlier_version_gets_the_table() {
    let (stream, region) = applied("qc_old").await;
    region.sql("DROP TABLE tablecast.quarantine").await;
    let (code, stdout, _) = run(&stream, &region, &["quarantine", "list"]);
    assert_eq!(code, 0);
    assert_says(&stdout, &["no table is in quarantine"]);
    assert_eq!(run(&stream, &region, &["status"]).0, 0);
    region.sql("DELETE FROM qc_old.a").await;
    stream.sql("UPDATE @.a SET v = 'x'").await;
    stream.upload().await;
    assert_eq!(run(&stream, &region, &["apply"]).0, 3);
    assert_eq!(rows(&stream, &region).await, [row("a", "conflict", 4, 1)]);
}

/// Known before: a drifted region had a green doctor.
#[tokio::test]
async fn a_drifted_region_that_stops_has_no_green_doctor() {
    let (stream, region) = applied("qc_doctor").await;
    let stream = stream.stopping();
    region.sql("DELETE FROM qc_doctor.a").await;
    stream.sql("UPDATE @.a SET v = 'x'").await;
    stream.upload().await;
    assert_eq!(run(&stream, &region, &["apply"]).0, 1);
    assert_eq!(rows(&stream, &region).await, []);
    let (code, stdout, _) = run(&stream, &region, &["doctor"]);
    assert_eq!(code, 4);
    assert_says(&stdout, &["FAIL  last run", "stream transaction 4"]);
    // And one whose table was altered, before apply has met it.
    let (stream, region) = applied("qc_doctor2").await;
    region.sql("ALTER TABLE qc_doctor2.a ADD COLUMN mine INT").await;
    let (code, stdout, _) = run(&stream, &region, &["doctor"]);
    assert_eq!(code, 4);
    assert_says(&stdout, &["FAIL  definitions", "`mine` int", "ends with 3 (partly)"]);
}

/// A following run isolates and goes on in the same process.
#[tokio::test]
async fn a_following_run_goes_on_behind_a_conflict() {
    let (stream, region) = applied("qc_follow").await;
    let mut command = stream.command(&region);
    let mut child = command.arg("--follow").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    region.sql("DELETE FROM qc_follow.a").await;
    for last in 4..8 {
        stream.sql("BEGIN; UPDATE @.a SET v = CONCAT(v, 1); UPDATE @.b SET v = CONCAT(v, 1); COMMIT").await;
        stream.upload().await;
        for _ in 0..300 {
            if region.rows::<u64>("SELECT last_tx FROM tablecast.position").await == [last] {
                break;
            }
            assert_eq!(child.try_wait().unwrap(), None, "it ended");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        assert_others_equal(&stream, &region, &["a"], last).await;
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(log.matches("quarantine of qc_follow.a").count(), 1, "told once:\n{log}");
    assert_says(&log, &["from stream transaction 4 on", "all other tables go on"]);
}

/// Released, it would be missed by nobody until its next change.
#[tokio::test]
async fn a_table_that_is_not_there_is_not_released_by_force_either() {
    let (stream, region) = isolated("qc_missing").await;
    region.sql("DROP TABLE qc_missing.a").await;
    let (code, _, stderr) = run(&stream, &region, &["quarantine", "release", "qc_missing.a", "--force"]);
    assert_eq!(code, 4);
    assert_says(&stderr, &["this region does not have it", "tablecast restore qc_missing.a"]);
    assert_eq!(rows(&stream, &region).await.len(), 1);
}
