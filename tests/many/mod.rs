//! Many streams in one process: what each costs, and that none of them is another one's business.

pub mod kit;

use std::net::TcpListener;
use std::process::Stdio;

use rustix::process::Signal;
use tablecast::stream::StreamTx;
use tokio::io::{AsyncBufReadExt, AsyncReadExt};

use self::kit::{Fleet, PATIENCE, said};
use crate::http::kit::{client, region_token};
use crate::support::signal;

/// What runs with nothing to do cost, counted request by request.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_pass_asks_the_store_once_for_each_stream_and_says_so_in_one_line() {
    let fleet = Fleet::make(&["s1", "s2", "s3", "s4", "s5"]).await;
    fleet.insert(&["s1", "s2", "s3", "s4", "s5"], 1).await;
    for (folder, command, word) in [("source", "upload", "shipped"), ("region", "apply", "applied")] {
        let worked = fleet.succeeds(folder, &[command]);
        assert!(worked.ends_with(&format!("5 streams: 5 {word}\n")), "{worked}");
        assert_eq!(worked.lines().count(), 6, "{worked}");
        // Once a minute a source's head is written, so that regions know how fresh they are.
        let is_once_each = || {
            fleet.s3.asked();
            let idle = fleet.succeeds(folder, &[command]);
            let mut asked = fleet.s3.asked();
            asked.sort_by(|a, b| a.key.cmp(&b.key));
            let keys: Vec<&String> = asked.iter().map(|asked| &asked.key).collect();
            let is_so = keys == fleet.heads().iter().collect::<Vec<_>>()
                && asked.iter().all(|asked| asked.kind == "GetObject" && asked.conditional);
            assert!(!is_so || idle == "5 streams: 5 idle\n", "{idle}");
            is_so
        };
        assert!((0..10).any(|_| is_once_each()), "{command} costs more than one conditional GET a stream");
        assert_eq!(fleet.succeeds(folder, &["-q", command]), "");
        let ran = fleet.run(&["--config", folder, "--jobs", "1", "-v", command]);
        let (results, logs) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success() && results.contains("s3: nothing to "), "{results}{logs}");
        assert_eq!(logs.lines().filter(|line| line.contains(" has ended: ")).count(), 5, "{logs}");
    }
    let (code, document) = fleet.json("region", &["apply"]);
    assert_eq!((code, &document["code"], &document["schema_version"]), (Some(0), &0.into(), &1.into()));
    let summary = serde_json::json!({
        "streams": "5", "idle": "5", "shipped": "0", "applied": "0", "done": "0", "stopped": "0", "paused": "0",
        "failed": "0"
    });
    assert_eq!(document["summary"], summary);
    assert_eq!(document["runs"][2]["outcome"], "idle");
    assert_eq!(document["runs"][2]["config"], "region/s3.toml");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_hangs_a_broken_config_and_a_refused_login_keep_nobody_from_working() {
    let fleet = Fleet::make(&["s1", "s2", "s3"]).await;
    fleet.insert(&["s1", "s2", "s3"], 1).await;
    // It accepts, and never answers.
    let hangs = TcpListener::bind("127.0.0.1:0").expect("a port");
    fleet.config("a-hangs", hangs.local_addr().expect("an address").port(), "nobody");
    fleet.write("source/b-broken.toml", "role = \"source\"\nstreem = \"b\"\n");
    fleet.config("c-refused", fleet.source.port, "nobody");
    // One slot, which the first of them takes and does not need.
    let mut command = fleet.command(&["--config", "source", "--jobs", "1", "upload"]);
    let running = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("run tablecast");
    for name in ["s1", "s2", "s3"] {
        fleet.wait_for(name, 1).await;
    }
    drop(hangs);
    let ran = running.wait_with_output().expect("wait for it");
    assert_eq!(ran.status.code(), Some(3), "{}", said(&ran));
    let (out, errors) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    let summary = "6 streams: 3 shipped, 3 failed: source/a-hangs.toml (mysql), source/b-broken.toml (usage), \
                   source/c-refused.toml (denied)\n";
    assert!(out.ends_with(summary), "{out}");
    for failure in
        ["source/a-hangs.toml: error: ", "source/b-broken.toml: error: ", "source/c-refused.toml: error: "]
    {
        assert!(errors.contains(failure), "{errors}");
    }
    let (code, document) = fleet.json("source", &["upload"]);
    assert_eq!((code, &document["code"]), (Some(3), &3.into()));
    assert_eq!((&document["summary"]["idle"], &document["summary"]["failed"]), (&"3".into(), &"3".into()));
    let of = |field: &str| -> Vec<_> {
        document["runs"].as_array().expect("runs").iter().map(|run| run[field].clone()).collect()
    };
    assert_eq!(of("outcome"), ["failed", "failed", "failed", "idle", "idle", "idle"]);
    assert_eq!(of("code"), [1, 2, 12, 0, 0, 0]);
}

/// Five seconds pass before a run that failed is begun again.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_several_that_follow_fails_alone_and_comes_back_by_itself() {
    let fleet = Fleet::make(&["s1", "s2", "s3"]).await;
    fleet.config("s2", fleet.source.port, "late");
    let mut command =
        tokio::process::Command::from(fleet.command(&["--config", "source", "upload", "--follow"]));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut running = command.spawn().expect("run tablecast");
    let mut stderr = running.stderr.take().expect("stderr is piped");
    let mut log = String::new();
    let told = async {
        let mut bytes = [0; 4096];
        while !log.contains("the run is begun again") {
            let read = stderr.read(&mut bytes).await.expect("the log");
            assert_ne!(read, 0, "{log}");
            log.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("to be told of the failure");
    assert!(log.contains("config=source/s2.toml") && log.contains("late@127.0.0.1"), "{log}");
    fleet.insert(&["s1", "s2", "s3"], 1).await;
    fleet.wait_for("s1", 1).await;
    fleet.wait_for("s3", 1).await;
    assert_eq!(fleet.last_tx("s2"), StreamTx::ZERO);
    fleet.source.sql("CREATE USER late; GRANT ALL ON *.* TO late").await;
    fleet.wait_for("s2", 1).await;
    signal(&running.id().expect("it runs").to_string(), Signal::TERM);
    let rest = tokio::spawn(async move {
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).await.map(|_| rest)
    });
    let ran = running.wait_with_output().await.expect("wait for it");
    let rest = rest.await.expect("no panic").expect("the log");
    assert_eq!(ran.status.code(), Some(143), "{}{rest}", said(&ran));
    assert!(String::from_utf8_lossy(&ran.stdout).ends_with("3 streams: 3 stopped\n"), "{}", said(&ran));
    assert_eq!(rest.matches("ended by SIGTERM").count(), 1, "{rest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_none_of_whose_streams_can_begin_ends() {
    let fleet = Fleet::make(&["s1", "s2"]).await;
    for name in ["s1", "s2"] {
        fleet.config(name, fleet.source.port, "nobody");
    }
    let ran = fleet.run(&["--config", "source", "upload", "--follow"]);
    assert_eq!(ran.status.code(), Some(12), "{}", said(&ran));
    assert!(said(&ran).contains("2 streams: 2 failed: "), "{}", said(&ran));
}

/// A region asks the service on this machine; the next run from cron takes the dump, though the note of an idle run says
/// that nothing was asked for a moment ago.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_the_service_has_taken_is_seen_by_the_very_next_run() {
    let fleet = Fleet::make(&["s1", "s2"]).await;
    let token = region_token("eu1");
    fleet.write("tokens.toml", &token.entry);
    let config = std::fs::read_to_string(fleet.path("source/s2.toml")).expect("a config");
    let section = "[serve]\nlisten = \"127.0.0.1:0\"\ntokens_file = \"../tokens.toml\"\n";
    fleet.write("service/s2.toml", &format!("{config}{section}"));
    let mut command = tokio::process::Command::from(fleet.command(&["--config", "service/s2.toml", "serve"]));
    let mut service = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().expect("run tablecast");
    let mut log = tokio::io::BufReader::new(service.stderr.take().expect("stderr is piped")).lines();
    let serves = async {
        loop {
            let line = log.next_line().await.expect("the log").expect("that it serves");
            if let Some((_, url)) = line.split_once("serving ") {
                return url.split([' ', ',']).next().expect("an address").to_owned();
            }
        }
    };
    let url = tokio::time::timeout(PATIENCE, serves).await.expect("to be told where it listens");
    // Two runs: the second finds the note of the first.
    for _ in 0..2 {
        fleet.succeeds("source", &["upload"]);
    }
    let body = serde_json::json!({"region": "eu1", "tables": ["s2.t"], "reason": "drifted"});
    let asked = client().post(format!("{url}/v1/dumps")).bearer_auth(&token.text).json(&body).send().await;
    let asked = asked.expect("an answer");
    assert!(asked.status().is_success(), "{asked:?}");
    let manifests = || {
        let keys = fleet.s3.keys();
        keys.into_iter().filter(|key| key.contains("/dumps/") && key.ends_with(".json")).collect::<Vec<_>>()
    };
    assert_eq!(manifests(), [""; 0]);
    fleet.succeeds("source", &["upload"]);
    let taken = manifests();
    assert!(taken.len() == 1 && taken[0].starts_with("s2/"), "{taken:?}");
}

/// A dump that is asked for on this machine does not wait until the note of an idle run has run out.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_a_dump_is_seen_at_once_however_idle_the_streams_were() {
    let fleet = Fleet::make(&["s1", "s2"]).await;
    for _ in 0..2 {
        fleet.succeeds("source", &["upload"]);
    }
    fleet.succeeds("source/s2.toml", &["-q", "dump", "take", "--all-tables"]);
    fleet.s3.asked();
    fleet.succeeds("source", &["upload"]);
    let looks = fleet.s3.asked().into_iter().filter(|asked| asked.kind == "ListObjectsV2").count();
    assert_eq!(looks, 0, "the dump has been taken, and the queue is quiet again");
}
