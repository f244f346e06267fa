//! Log lines: whose they are, one for each run, and never a secret in them.

use serde_json::Value;

use super::kit::{Ran, at_source, in_region};
use crate::apply::kit::Stream;
use crate::support::mysql::Server;

const APPS: &str = "CREATE TABLE @.apps (id INT PRIMARY KEY, name VARCHAR(80)) COLLATE utf8mb4_0900_ai_ci";

fn lines(ran: &Ran) -> Vec<Value> {
    let lines = ran.stderr.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_line_says_whose_it_is_and_each_run_has_one_that_says_how_it_ended() {
    let stream = Stream::new("lo_lines", APPS).await;
    let region = Server::start(&[]);
    stream.sql("INSERT INTO @.apps VALUES (1, 'a')").await;
    let name = format!("r{}", region.port);
    let json = ["--log-format", "json", "-v"];
    let runs = [
        (at_source(&stream, &[&["upload"], &json[..]].concat()), "upload", "source", None, "shipped"),
        (
            in_region(&stream, &region, &[&["apply"], &json[..]].concat()),
            "apply",
            "region",
            Some(&name),
            "applied",
        ),
        (
            in_region(&stream, &region, &[&["apply"], &json[..]].concat()),
            "apply",
            "region",
            Some(&name),
            "idle",
        ),
    ];
    let mut ids = Vec::new();
    for (ran, job, role, region, outcome) in &runs {
        let lines = lines(ran);
        assert!(!lines.is_empty(), "{ran:?}");
        for line in &lines {
            for (member, value) in [("job", *job), ("role", role), ("stream", "lo_lines")] {
                assert_eq!(line[member], value, "{line}");
            }
            assert_eq!(line.get("region").and_then(Value::as_str), region.map(String::as_str), "{line}");
            assert_eq!(line["run"], lines[0]["run"], "{line}");
            for member in ["timestamp", "level", "target", "message", "run"] {
                assert!(line[member].as_str().is_some_and(|text| !text.is_empty()), "{member} of {line}");
            }
        }
        let ended: Vec<&Value> = lines.iter().filter(|line| line["outcome"].is_string()).collect();
        assert_eq!(ended.len(), 1, "{ran:?}");
        assert_eq!((&ended[0]["outcome"], &ended[0]["exit_code"]), (&(*outcome).into(), &0.into()));
        ids.push(lines[0]["run"].clone());
    }
    ids.dedup();
    assert_eq!(ids.len(), 3, "each run has an id of its own");
    // As text, and for a run that fails.
    std::fs::remove_file(stream.bucket().join("index.json")).unwrap();
    let failed = in_region(&stream, &region, &["apply", "-v"]).ends(1, &[]);
    let ended: Vec<&str> = failed.stderr.lines().filter(|line| line.contains("apply has ended")).collect();
    assert_eq!(ended.len(), 1, "{failed:?}");
    for part in
        ["INFO", "run=", "stream=lo_lines", &format!("region={name}"), "exit_code=1", "there is no stream"]
    {
        assert!(ended[0].contains(part), "no {part:?} in {}", ended[0]);
    }
}
