//! `[hooks] on_failure`: who is told of what, how often, and with what.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::kit::{Ran, command};
use crate::apply::kit::Stream;
use crate::support::mysql::Server;

const APPS: &str = "CREATE TABLE @.apps (id INT PRIMARY KEY, name VARCHAR(80)) COLLATE utf8mb4_0900_ai_ci";

/// A hook that writes down what it is told, and the config file that names it.
fn with_hook(config: &Path, folder: &Path) -> PathBuf {
    let hook = folder.join("hook");
    let lines = format!(
        "#!/bin/sh\ncat >> {0}/told\nenv > {0}/env\necho \"$# arguments\" > {0}/arguments\n",
        folder.display()
    );
    std::fs::write(&hook, lines).unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o700)).unwrap();
    let path = folder.join("config.toml");
    let text = std::fs::read_to_string(config).unwrap();
    std::fs::write(&path, format!("{text}\n[hooks]\non_failure = \"hook\"\n")).unwrap();
    path
}

fn told(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("told")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hook_is_told_of_the_first_failure_of_a_kind_and_of_its_end() {
    let stream = Stream::new("ho_region", APPS).await;
    let region = Server::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let config = with_hook(&stream.region_file(&region, "root", &["@.*"]), folder.path());
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
    let events: Vec<(Value, Value)> =
        told(folder.path()).iter().map(|told| (told["event"].clone(), told["kind"].clone())).collect();
    let expected = [("failed", "not_found"), ("failed", "format_too_new"), ("recovered", "format_too_new")];
    assert_eq!(events, expected.map(|(event, kind)| (json!(event), json!(kind))));
    let environment = std::fs::read_to_string(folder.path().join("env")).unwrap();
    assert!(environment.contains("PATH=") && !environment.contains("AWS_"), "{environment}");
    assert_eq!(std::fs::read_to_string(folder.path().join("arguments")).unwrap(), "0 arguments\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantine_wakes_somebody_and_a_hook_that_fails_changes_no_exit_code() {
    let stream = Stream::new("ho_partly", APPS).await;
    let region = Server::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let config = with_hook(&stream.region_file(&region, "root", &["@.*"]), folder.path());
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
    std::fs::write(folder.path().join("hook"), "#!/bin/sh\necho 'the pager is off' >&2\nexit 7\n").unwrap();
    std::fs::remove_file(stream.bucket().join("index.json")).unwrap();
    run(&["apply"]).ends(1, &["hooks.on_failure", "the pager is off"]);
    std::fs::set_permissions(folder.path().join("hook"), std::fs::Permissions::from_mode(0o600)).unwrap();
    run(&["config", "check"]).ends(0, &["may not run it"]);
    run(&["apply"]).ends(1, &["could not be started"]);
}
