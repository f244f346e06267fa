//! scripts/mysql: what the demo and every other test rely on.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tablecast::Kind;
use tablecast::mysql::wire::Wire;

use crate::support::mysql::{Server, script};
use crate::support::signal;

fn is_listed(name: &str) -> bool {
    let output = script(&["list"], b"").unwrap();
    String::from_utf8(output.stdout).unwrap().lines().any(|line| line.starts_with(&format!("{name} ")))
}

fn pid(server: &Server) -> String {
    let line = String::from_utf8(script(&["show", &server.name], b"").unwrap().stdout).unwrap();
    line.trim().rsplit_once("pid=").unwrap().1.to_owned()
}

#[tokio::test]
async fn a_killed_server_comes_back_with_its_port_its_options_and_what_was_committed() {
    let server = Server::start(&["--div-precision-increment=7"]);
    server.sql("CREATE DATABASE g; CREATE TABLE g.t (a INT PRIMARY KEY); INSERT INTO g.t VALUES (1)").await;
    let before = server.gtid_executed().await;
    server.kill9();
    assert!(server.client(&["-e", "SELECT 1"], b"").is_err());
    server.restart(&[]);
    assert_eq!(server.gtid_executed().await, before);
    assert_eq!(server.value::<u32>("SELECT COUNT(*) FROM g.t").await, 1);
    assert_eq!(server.value::<u32>("SELECT @@div_precision_increment").await, 7);
    server.stop();
    server.restart(&["--div-precision-increment=5"]);
    assert_eq!(server.value::<u32>("SELECT @@div_precision_increment").await, 5);
}

#[tokio::test]
async fn servers_started_at_once_are_apart_in_everything() {
    let servers = Server::start_all([&[], &[], &[]]);
    let mut facts = Vec::new();
    for server in &servers {
        let row: Vec<(u32, String, u16)> = server.rows("SELECT @@server_id, @@server_uuid, @@port").await;
        facts.extend(row);
    }
    for (at, one) in facts.iter().enumerate() {
        for two in &facts[at + 1..] {
            assert!(one.0 != two.0 && one.1 != two.1 && one.2 != two.2, "{one:?} {two:?}");
        }
    }
}

#[tokio::test]
async fn a_server_listens_on_loopback_only() {
    let address: String = Server::shared().value("SELECT @@bind_address").await;
    assert_eq!(address, "127.0.0.1");
}

#[test]
fn a_server_whose_owner_was_killed_is_removed() {
    let mut owner = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
    let name = format!("owned-{}", std::process::id());
    script(&["start", &name, "--owner", &owner.id().to_string()], b"").unwrap();
    assert!(is_listed(&name));
    owner.kill().unwrap();
    owner.wait().unwrap();
    let begin = Instant::now();
    while is_listed(&name) {
        assert!(begin.elapsed() < Duration::from_secs(60), "{name} outlives its owner");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let name = format!("wrong-{}", std::process::id());
    let said = script(&["start", &name, "--", "--no-such-option"], b"").unwrap_err();
    assert!(said.contains("unknown option '--no-such-option'"), "{said}");
    script(&["rm", &name], b"").unwrap();
    assert!(!is_listed(&name));
    let said = script(&["stop", "nobody-made-this"], b"").unwrap_err();
    assert!(said.contains("no server named nobody-made-this"), "{said}");
}

/// A signal is only on its way when kill returns: until then the server may still answer.
fn wait_until_stopped(pid: &str) {
    let begin = Instant::now();
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        // proc_pid_stat(5): the state is the field behind the command's name in brackets.
        if stat.rsplit_once(") ").unwrap().1.starts_with('T') {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{pid} does not stop: {stat}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_an_error_and_not_a_wait_for_ever() {
    let server = Server::start(&[]);
    let mut wire = Wire::connect(&server.config()).await.unwrap();
    wire.query(b"SELECT 1", "ask").await.unwrap();
    let pid = pid(&server);
    signal(&pid, Signal::STOP);
    wait_until_stopped(&pid);
    wire.set_patience(Some(Duration::from_millis(500)));
    let error = wire.query(b"SELECT 1", "ask").await.unwrap_err();
    signal(&pid, Signal::CONT);
    assert_eq!(error.kind(), Kind::Mysql);
    assert!(error.to_string().contains("no word"), "{error}");
}
