//! Where CLONE cannot be used: the printed commands, run as they are printed.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::kit::{PROCESSOR, SETUP, TABLES, World, work};
use crate::support::mysql::Server;
use crate::upload::kit::OURS;

/// Programs under the names that the commands have.
fn programs(folder: &Path) {
    for name in ["mysql", "mysqldump"] {
        let file = folder.join(name);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/mysql");
        std::fs::write(&file, format!("#!/bin/sh\nexec '{script}' tool {name} \"$@\"\n")).expect("write it");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).expect("make it a program");
    }
}

/// Runs a line as somebody does who sits at a terminal: `-p` asks there, and root has no password.
fn type_in(line: &str, folder: &Path) {
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    let mut child = Command::new("script")
        .args(["-qec", line, "/dev/null"])
        .current_dir(folder)
        .env("PATH", path)
        .env("SHELL", "/bin/bash")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("script(1) of bsdutils");
    let mut keys = child.stdin.take().expect("stdin is piped");
    let typing = std::thread::spawn(move || {
        while keys.write_all(b"\n").and_then(|()| keys.flush()).is_ok() {
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    let output = child.wait_with_output().expect("wait for it");
    typing.join().expect("it types");
    let file = std::fs::read_to_string(folder.join("processor.sql")).unwrap_or_default();
    assert!(output.status.success(), "{line}: {}\n{file}", super::kit::both(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_where_clone_cannot_be_used_the_printed_commands_make_a_processor_as_they_are_printed() {
    let [primary, processor] = Server::start_all([&[], &[]]);
    primary.sql(SETUP).await;
    primary
        .sql(&format!(
            "CREATE TABLE g.other (id INT PRIMARY KEY); CREATE DATABASE h; CREATE TABLE h.t (id INT PRIMARY KEY); \
             CREATE VIEW h.v AS SELECT * FROM private.t; CREATE VIEW g.v AS SELECT * FROM g.other; \
             CREATE VIEW private.v AS SELECT 1; \
             CREATE FUNCTION g.f() RETURNS INT DETERMINISTIC RETURN 1; \
             CREATE TRIGGER g.tr BEFORE INSERT ON g.apps FOR EACH ROW SET NEW.v = 7; \
             CREATE USER weak@'%' IDENTIFIED BY 'x'; \
             GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO weak@'%'; {OURS} DO 1"
        ))
        .await;
    // By itself: the server would keep the semicolon behind it as a part of its body, and mysqldump trips over that.
    primary.sql("CREATE PROCEDURE private.p() SELECT 1").await;
    primary.sql("CREATE EVENT private.e ON SCHEDULE EVERY 1 DAY DO DELETE FROM private.t").await;
    // It was something else before.
    processor.sql("CREATE DATABASE g; CREATE TABLE g.apps (other INT PRIMARY KEY)").await;
    let set = [&TABLES[..], &["h.*"]].concat();
    let mut world = World::by(PROCESSOR, &primary, &super::kit::primary_section(&primary), &set).await;
    work(&primary).await;
    world.read_from(&primary, &processor);
    world.stream.reconfigure(
        &format!("[primary]\nhost = \"127.0.0.1\"\nport = {}\nuser = \"granted\"", primary.port),
        &format!(
            "[primary]\nhost = \"127.0.0.1\"\nport = {}\nuser = \"weak\"\npassword = \"x\"",
            primary.port
        ),
    );
    let refused = world.stream.run(&["processor", "create", "--replace"], "");
    let says = super::kit::both(&refused);
    assert_eq!(refused.status.code(), Some(12), "{says}");
    assert!(says.contains("lacks BACKUP_ADMIN") && says.contains("`g`.`_apps_gho`"), "{says}");

    let folder = tempfile::tempdir().expect("a folder");
    programs(folder.path());
    let printed = String::from_utf8(refused.stdout).expect("a text");
    let mut ran = 0;
    for line in printed.lines() {
        match line.strip_prefix("mysql> ") {
            // An administrator's session there.
            Some(statement) => drop(processor.client(&[], statement.as_bytes()).expect(statement)),
            None if line.starts_with('#') => continue,
            None if line.starts_with("mysql") => {
                // As long as nobody replicates.
                type_in(line, folder.path());
                work(&primary).await;
            }
            None => {
                assert_eq!(line, "tablecast processor create --loaded");
                world.runs(&["processor", "create", "--loaded"], 0);
            }
        }
        ran += 1;
    }
    assert!(ran >= 10, "{printed}");
    processor.catch_up(&primary).await;
    world.runs(&["upload"], 0);
    // What comes through table filters must find what it names.
    primary
        .sql(
            "DROP PROCEDURE private.p; DROP FUNCTION g.f; DROP EVENT private.e; DROP VIEW h.v; DROP VIEW g.v; \
             DROP VIEW private.v; DROP TRIGGER g.tr; CREATE PROCEDURE private.q() SELECT 1; DROP TABLE g.other; \
             INSERT INTO h.t VALUES (1)",
        )
        .await;
    work(&primary).await;
    processor.catch_up(&primary).await;
    world.runs(&["upload"], 0);
    world.regions_are_equal_to(&primary, &["g.apps", "g.plans", "h.t"]).await;
    assert_eq!(processor.checksum("private.t").await, None);
    let own: u64 = processor
        .value("SELECT COUNT(*) FROM (SELECT @@global.gtid_executed LIKE CONCAT('%', @@server_uuid, '%') AS has) AS s WHERE has")
        .await;
    assert_eq!(own, 0, "nothing that was loaded is logged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_was_loaded_with_more_than_the_set_is_refused_until_somebody_says_that_it_may_go() {
    let [primary, processor] = Server::start_all([&[], &[]]);
    primary.sql(SETUP).await;
    let mut world = World::to_copy(&primary, &primary).await;
    work(&primary).await;
    world.runs(&["upload"], 0);
    world.read_from(&primary, &processor);
    let says = world.runs(&["processor", "create", "--loaded"], 2);
    assert!(says.contains("gtid_executed is empty"), "{says}");
    // As a physical backup is: everything.
    super::kit::copy_by_dump(&primary, &processor, &["g", "private", "tablecast"]);
    let says = world.runs(&["processor", "create", "--loaded"], 2);
    assert!(says.contains("it holds 1 tables") && says.contains("private.t"), "{says}");
    assert!(processor.checksum("private.t").await.is_some(), "nothing is changed");
    let says = world.runs(&["processor", "create", "--loaded", "--replace", "--dry-run"], 0);
    assert!(says.contains("drop the 1 tables") && !says.contains("CLONE"), "{says}");
    assert!(processor.checksum("private.t").await.is_some(), "a dry run changes nothing");
    let says = world.runs(&["processor", "create", "--loaded", "--replace"], 0);
    // No filters in its my.cnf.
    assert!(says.contains("hold until it restarts") && says.contains("1146"), "{says}");
    assert_eq!(processor.checksum("private.t").await, None);
    work(&primary).await;
    processor.catch_up(&primary).await;
    world.runs(&["upload"], 0);
    world.stream_is_whole(&primary).await;
    world.regions_are_equal_to(&primary, &TABLES).await;
}
