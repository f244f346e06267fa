//! `[hooks] on_failure`: who is told of what, how often, and with what.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::{Value, json};

use super::kit::{Follower, Ran, command, events, told, until, with_hook, write_script};
use crate::apply::kit::Stream;
use crate::support::granted;
use crate::support::mysql::Server;
use crate::support::s3::{BUCKET, S3Server};

const APPS: &str = "CREATE TABLE @.apps (id INT PRIMARY KEY, name VARCHAR(80)) COLLATE utf8mb4_0900_ai_ci";

/// The script that docs/hooks.md prints, with stand-ins for its two programs.
#[test]
fn the_hook_of_the_docs_has_told_nobody_when_there_is_nothing_to_post() {
    let page = include_str!("../../docs/hooks.md");
    let lines = page.lines().skip_while(|line| *line != "    #!/bin/sh");
    let script: String =
        lines.map_while(|line| line.strip_prefix("    ")).map(|line| format!("{line}\n")).collect();
    let folder = tempfile::tempdir().unwrap();
    let posted = folder.path().join("posted");
    write_script(&folder.path().join("curl"), &format!("cat > '{}'", posted.display()));
    let tells = || {
        let mut sh = Command::new("/bin/sh");
        sh.args(["-c", &script]).env("PATH", format!("{}:/usr/bin:/bin", folder.path().display()));
        Ran::of(sh)
    };
    for (jq, code) in [("exit 5", 1), ("exit 127", 1), ("echo '{\"text\": \"it failed\"}'", 0)] {
        write_script(&folder.path().join("jq"), jq);
        tells().ends(code, &[]);
        assert_eq!(posted.exists(), code == 0, "{jq}");
    }
    assert_eq!(std::fs::read_to_string(&posted).unwrap(), "{\"text\": \"it failed\"}\n");
    write_script(&folder.path().join("curl"), "exit 22");
    tells().ends(22, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hook_is_told_of_the_first_failure_of_a_kind_and_of_its_end() {
    let stream = Stream::new("ho_region", APPS).await;
    let region = Server::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let config = with_hook(&stream.region_file(&region, granted::USER, &["@.*"]), folder.path(), "");
    let run = |arguments: &[&str]| {
        let mut command = command(&config, arguments);
        command.env("AWS_SECRET_ACCESS_KEY", "never-to-be-seen");
        Ran::of(command)
    };
    run(&["config", "check"]).ends(0, &["ok:"]);
    stream.sql("INSERT INTO @.apps VALUES (1, 'a')").await;
    stream.upload().await;
    run(&["apply"]).ends(0, &[]);
    let index = stream.bucket().join("index.json");
    let head = std::fs::read(&index).unwrap();
    // It is asked for, or nobody's fault.
    run(&["pause", "--reason", "a test"]).ends(0, &[]);
    run(&["apply"]).ends(14, &[]);
    run(&["resume"]).ends(0, &[]);
    std::fs::remove_file(&index).unwrap();
    run(&["apply", "--dry-run"]).ends(1, &[]);
    run(&["status", "--fail-if-lag", "1s"]);
    assert_eq!(told(folder.path()), [] as [Value; 0]);
    let first = run(&["apply", "--json"]).ends(1, &[]).json();
    run(&["apply"]).ends(1, &[]);
    let [failed] = &told(folder.path())[..] else { panic!("{:?}", told(folder.path())) };
    for (member, value) in [
        ("schema_version", json!(1)),
        ("event", json!("failed")),
        ("stream", json!("ho_region")),
        ("role", json!("region")),
        ("region", json!(format!("r{}", region.port))),
        ("job", json!("apply")),
        ("kind", first["kind"].clone()),
        ("exit_code", json!(1)),
        ("hint", first["hint"].clone()),
        ("runbook", first["runbook"].clone()),
    ] {
        assert_eq!(failed[member], value, "{member} of {failed}");
    }
    for member in ["run", "message", "host", "at", "config"] {
        assert!(failed[member].as_str().is_some_and(|text| !text.is_empty()), "{member} of {failed}");
    }
    // Another kind is news.
    std::fs::write(&index, r#"{"format":{"major":2,"minor":0},"writer":"tablecast 9.9.9"}"#).unwrap();
    run(&["apply"]).ends(13, &[]);
    std::fs::write(&index, &head).unwrap();
    run(&["apply"]).ends(0, &[]);
    run(&["apply"]).ends(0, &[]);
    let expected = ["failed not_found", "failed format_too_new", "recovered format_too_new"];
    assert_eq!(events(folder.path()), expected);
    // A bug is somebody's business as well.
    let mut panics = command(&config, &["apply"]);
    panics.env("TABLECAST_FAILPOINTS", "apply.after_lock=panic");
    Ran::of(panics).ends(1, &["this is a bug"]);
    assert_eq!(events(folder.path())[3..], ["failed failed"]);
    let environment = std::fs::read_to_string(folder.path().join("env")).unwrap();
    assert!(environment.contains("PATH=") && !environment.contains("AWS_"), "{environment}");
    assert_eq!(std::fs::read_to_string(folder.path().join("arguments")).unwrap(), "0 arguments\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantine_wakes_somebody_and_a_hook_that_fails_changes_no_exit_code() {
    let stream = Stream::new("ho_partly", APPS).await;
    let region = Server::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let config = with_hook(&stream.region_file(&region, granted::USER, &["@.*"]), folder.path(), "");
    let run = |arguments: &[&str]| Ran::of(command(&config, arguments));
    stream.sql("INSERT INTO @.apps VALUES (1, 'a')").await;
    stream.upload().await;
    run(&["apply"]).ends(0, &[]);
    region.sql("DELETE FROM ho_partly.apps").await;
    stream.sql("UPDATE @.apps SET name = 'b'").await;
    stream.upload().await;
    run(&["apply"]).ends(3, &[]);
    assert_eq!(told(folder.path()).len(), 1);
    assert_eq!(told(folder.path())[0]["exit_code"], 3);
    // It stands in a table of its own: no last error.
    assert_eq!(run(&["status", "--json"]).json()["failure"], Value::Null);
    // Once an hour, however often it runs, and not as ended in between.
    run(&["apply"]).ends(3, &[]);
    assert_eq!(events(folder.path()), ["failed partly"]);
    write_script(&folder.path().join("hook"), "echo 'the pager is off' >&2\nexit 7");
    std::fs::remove_file(stream.bucket().join("index.json")).unwrap();
    run(&["apply"]).ends(1, &["hooks.on_failure", "the pager is off"]);
    std::fs::set_permissions(folder.path().join("hook"), std::fs::Permissions::from_mode(0o600)).unwrap();
    run(&["config", "check"]).ends(0, &["may not run it"]);
    run(&["apply"]).ends(1, &["could not be started"]);
}

/// Its first look at the head goes well each time: that is no recovery.
#[tokio::test(flavor = "multi_thread")]
async fn a_following_upload_whose_segments_go_nowhere_wakes_somebody_once_and_is_over_when_one_is_shipped() {
    let stream = Stream::new("ho_follow", APPS).await;
    let (s3, folder) = (S3Server::start(), tempfile::tempdir().unwrap());
    let text = std::fs::read_to_string(stream.source_file()).unwrap();
    let there = format!("file://{}", stream.bucket().display());
    let source = folder.path().join("source.toml");
    std::fs::write(&source, text.replace(&there, &format!("s3://{BUCKET}/apps"))).unwrap();
    let more = format!(
        "[s3]\nregion = \"us-east-1\"\nendpoint = \"{}\"\npath_style = true\n[upload]\ninterval = \"100ms\"\n",
        s3.endpoint()
    );
    let config = with_hook(&source, folder.path(), &more);
    let command = |arguments: &[&str]| {
        let mut command = command(&config, arguments);
        command.envs(s3.env());
        command
    };
    Ran::of(command(&["stream", "init", "--table", &format!("{}.*", stream.schema)])).ends(0, &[]);
    let follower = Follower::start(command(&["upload", "--follow"]));
    let shipped = || s3.keys().iter().filter(|key| key.contains("segments/")).count();
    stream.sql("INSERT INTO @.apps VALUES (1, 'a')").await;
    until("the first is shipped", || async { shipped() == 1 }).await;
    s3.break_down("PutObject", "segments/");
    stream.sql("INSERT INTO @.apps VALUES (2, 'b')").await;
    until("somebody is told", || async { !told(folder.path()).is_empty() }).await;
    assert_eq!(events(folder.path()), ["failed store"]);
    s3.mend();
    until("it is told that it works", || async { told(folder.path()).len() > 1 }).await;
    assert_eq!(
        (events(folder.path()), shipped()),
        (vec!["failed store".into(), "recovered store".into()], 2)
    );
    assert_eq!(follower.end().await, 143);
}

/// What the service manager starts again and again.
#[tokio::test(flavor = "multi_thread")]
async fn a_following_upload_that_fails_behind_its_start_wakes_nobody_at_each_of_its_starts() {
    let stream = Stream::new("ho_starts", APPS).await;
    let folder = tempfile::tempdir().unwrap();
    let config = with_hook(&stream.source_file(), folder.path(), "");
    stream.sql("INSERT INTO @.apps VALUES (1, 'a')").await;
    let segments = stream.bucket().join("segments");
    std::fs::write(&segments, "in the way").unwrap();
    for _ in 0..3 {
        Ran::of(command(&config, &["upload", "--follow"])).ends(12, &[]);
        assert_eq!(events(folder.path()), ["failed denied"]);
    }
    std::fs::remove_file(&segments).unwrap();
    let follower = Follower::start(command(&config, &["upload", "--follow"]));
    until("it is told that it works", || async { told(folder.path()).len() > 1 }).await;
    assert_eq!(events(folder.path())[1..], ["recovered denied"]);
    assert_eq!(follower.end().await, 143);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantine_that_a_following_apply_meets_wakes_somebody_until_it_has_ended() {
    let stream = Stream::new("ho_stands", APPS).await;
    let region = Server::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let config = with_hook(&stream.region_file(&region, granted::USER, &["@.*"]), folder.path(), "");
    let run = |arguments: &[&str]| Ran::of(command(&config, arguments));
    stream.sql("INSERT INTO @.apps VALUES (1, 'a')").await;
    stream.upload().await;
    run(&["apply"]).ends(0, &[]);
    region.sql("DELETE FROM ho_stands.apps").await;
    stream.sql("UPDATE @.apps SET name = 'b'").await;
    stream.upload().await;
    for _ in 0..2 {
        let follower = Follower::start(command(&config, &["apply", "--follow"]));
        until("somebody is told", || async { !told(folder.path()).is_empty() }).await;
        follower.end().await;
        run(&["apply"]).ends(3, &[]);
        assert_eq!(events(folder.path()), ["failed partly"]);
    }
    run(&["quarantine", "release", "ho_stands.apps", "--force"]).ends(0, &[]);
    let follower = Follower::start(command(&config, &["apply", "--follow"]));
    until("it is told that it has ended", || async { told(folder.path()).len() > 1 }).await;
    assert_eq!(events(folder.path())[1..], ["recovered partly"]);
    assert_eq!(follower.end().await, 143);
}
