//! The last error: where a run that ended badly can be seen afterwards, and that it goes when one works.

use serde_json::{Value, json};

use super::kit::{Ran, at_source, command, in_region};
use crate::apply::kit::Stream;
use crate::support::granted;
use crate::support::mysql::Server;

const APPS: &str = "CREATE TABLE @.apps (id INT PRIMARY KEY, name VARCHAR(80)) COLLATE utf8mb4_0900_ai_ci";

/// Asserts that `status` tells of this failure.
#[track_caller]
fn tells(ran: Ran, job: &str, kind: &str, code: u8, message: &str) -> Value {
    let failure = ran.json()["failure"].clone();
    assert_eq!((&failure["job"], &failure["kind"]), (&json!(job), &json!(kind)), "{failure}");
    assert_eq!(
        (&failure["exit_code"], failure["at"].is_string()),
        (&json!(code.to_string()), true),
        "{failure}"
    );
    assert!(failure["message"].as_str().unwrap().contains(message), "{failure}");
    assert_eq!(failure["runbook"], format!("docs/exit-codes.md#{kind}"));
    failure
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_region_s_last_run_failed_with_stands_in_its_status_until_one_works() {
    let stream = Stream::new("fa_region", APPS).await;
    let region = Server::start(&[]);
    let apply = |arguments: &[&str]| in_region(&stream, &region, &[&["apply"], arguments].concat());
    let status = || in_region(&stream, &region, &["status", "--json"]);
    for id in 1..=2 {
        stream.sql(&format!("INSERT INTO @.apps VALUES ({id}, 'a')")).await;
        stream.upload().await;
        if id == 1 {
            apply(&[]).ends(0, &[]);
        }
    }
    // A segment is gone, and one has other bytes.
    let mut segments: Vec<_> = std::fs::read_dir(stream.bucket().join("segments"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    segments.sort();
    let second = segments.pop().unwrap();
    let bytes = std::fs::read(&second).unwrap();
    std::fs::remove_file(&second).unwrap();
    apply(&["--dry-run"]).ends(1, &["entry 2"]);
    assert_eq!(status().json()["failure"], Value::Null, "a dry run leaves nothing");
    apply(&[]).ends(1, &[]);
    tells(status(), "apply", "not_found", 1, "segments/");
    in_region(&stream, &region, &["status"]).ends(0, &["last error", "apply ended with 1 (not_found)"]);
    std::fs::write(&second, &bytes[..bytes.len() - 1]).unwrap();
    apply(&["--dry-run"]).ends(1, &["bytes, the index says"]);
    std::fs::write(&second, vec![b'x'; bytes.len()]).unwrap();
    apply(&[]).ends(1, &[]);
    tells(status(), "apply", "corrupt", 1, "md5");
    std::fs::write(&second, &bytes).unwrap();

    // A format that this version does not read.
    let index = stream.bucket().join("index.json");
    let head = std::fs::read(&index).unwrap();
    std::fs::write(&index, r#"{"format":{"major":2,"minor":0},"writer":"tablecast 9.9.9"}"#).unwrap();
    apply(&[]).ends(13, &[]);
    let failure = tells(status(), "apply", "format_too_new", 13, "tablecast 9.9.9");
    assert!(failure["hint"].as_str().unwrap().contains("install a tablecast"), "{failure}");
    std::fs::write(&index, &head).unwrap();

    // The row of the position goes by another name, and is lost.
    region.sql("UPDATE tablecast.position SET name = 'before'").await;
    apply(&[]).ends(10, &["\"before\"", "UPDATE tablecast.position SET name = 'fa_region'"]);
    tells(status(), "apply", "history", 10, "tablecast.position has no row");
    region
        .sql(
            "CREATE TABLE tablecast.kept AS SELECT * FROM tablecast.position; DELETE FROM tablecast.position",
        )
        .await;
    let lost = apply(&[]).ends(10, &["put it back from a backup", "rebuild-a-region"]);
    assert!(!lost.stderr.contains("UPDATE"), "{lost:?}");
    in_region(&stream, &region, &["doctor"])
        .ends(4, &["the last `tablecast apply` ended with 10", "ended with 10 (history)"]);
    region
        .sql(
            "INSERT INTO tablecast.position SELECT * FROM tablecast.kept; DROP TABLE tablecast.kept; UPDATE \
             tablecast.position SET name = 'fa_region'",
        )
        .await;

    apply(&[]).ends(0, &[]);
    let well = status().json();
    assert_eq!((&well["failure"], &well["last_error"]), (&Value::Null, &Value::Null), "{well}");
    stream.assert_equal(&region).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_upload_failed_with_stands_in_the_status_of_its_machine() {
    let stream = Stream::new("fa_source", APPS).await;
    let text = std::fs::read_to_string(stream.source_file()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("source.toml");
    std::fs::write(&other, granted::as_user(&text, "nobody_here")).unwrap();
    at_source(&stream, &["upload"]).ends(0, &[]);
    Ran::of(command(&other, &["upload"])).ends(12, &[]);
    tells(at_source(&stream, &["status", "--json"]), "upload", "denied", 12, "nobody_here");
    at_source(&stream, &["status"]).ends(0, &["last error", "upload ended with 12 (denied)"]);
    at_source(&stream, &["upload"]).ends(0, &[]);
    assert_eq!(at_source(&stream, &["status", "--json"]).json()["failure"], Value::Null);

    // Of a machine that has failed, and another has taken its place.
    let elsewhere = text.replace("/cache\"", "/elsewhere\"");
    assert_ne!(elsewhere, text);
    std::fs::write(&other, granted::as_user(&elsewhere, "nobody_here")).unwrap();
    Ran::of(command(&other, &["upload"])).ends(12, &[]);
    std::fs::write(&other, elsewhere).unwrap();
    Ran::of(command(&other, &["doctor"])).ends(0, &["warn  last run", "nobody_here"]);
    stream.sql("INSERT INTO @.apps VALUES (1, 'a')").await;
    at_source(&stream, &["upload"]).ends(0, &[]);
    assert_eq!(Ran::of(command(&other, &["status", "--json"])).json()["failure"], Value::Null);
}

/// The newest counts, though the server cannot be told of it.
#[tokio::test(flavor = "multi_thread")]
async fn what_fails_now_is_told_and_not_what_failed_before() {
    let stream = Stream::new("fa_newest", APPS).await;
    let region = Server::start(&[]);
    let apply = || in_region(&stream, &region, &["apply"]);
    stream.sql("INSERT INTO @.apps VALUES (1, 'a')").await;
    stream.upload().await;
    apply().ends(0, &[]);
    let index = stream.bucket().join("index.json");
    let head = std::fs::read(&index).unwrap();
    std::fs::remove_file(&index).unwrap();
    apply().ends(1, &[]);
    let status = || in_region(&stream, &region, &["status", "--json"]);
    tells(status(), "apply", "not_found", 1, "index.json");
    std::fs::write(&index, head).unwrap();
    stream.sql("INSERT INTO @.apps VALUES (2, 'b')").await;
    stream.upload().await;
    region.sql("SET GLOBAL super_read_only = ON").await;
    apply().ends(12, &["super_read_only"]);
    tells(status(), "apply", "denied", 12, "super_read_only");
    region.sql("SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = OFF").await;
    apply().ends(0, &[]);
    assert_eq!(status().json()["failure"], Value::Null);
}
