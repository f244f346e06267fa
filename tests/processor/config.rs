//! The printed my.cnf, on a server that is started from exactly this file.

use super::kit::{SETUP, World, primary_section, work};
use crate::support::granted;
use crate::support::mysql::Server;
use crate::upload::kit::Stream;

#[tokio::test(flavor = "multi_thread")]
async fn i3_a_server_with_the_printed_my_cnf_is_a_processor_that_doctor_finds_nothing_to_say_of() {
    let primary = Server::start(&[]);
    primary.sql(SETUP).await;
    primary.sql("CREATE DATABASE `odd schema`; CREATE TABLE `odd schema`.`t#1` (id INT PRIMARY KEY); CREATE DATABASE my_all").await;
    let set = ["g.apps", "g.plans", "`odd schema`.`t#1`", "my_all.*"];
    let planned = Stream::plan(&primary, &["g.*"], "").await;
    let tables: Vec<&str> = set.iter().flat_map(|table| ["--table", table]).collect();
    let printed = planned.run(&[&["processor", "config"], &tables[..]].concat(), "");
    assert!(printed.status.success(), "{printed:?}");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("my.cnf");
    std::fs::write(&file, &printed.stdout).expect("write it");

    let processor = Server::start(&[&format!("--defaults-file={}", file.display())]);
    for (variable, value) in [
        ("super_read_only", "1"),
        ("skip_replica_start", "0"),
        ("relay_log_recovery", "1"),
        ("event_scheduler", "OFF"),
        ("log_replica_updates", "1"),
        ("gtid_mode", "ON"),
        ("binlog_format", "ROW"),
        ("binlog_expire_logs_seconds", "604800"),
        ("time_zone", "+00:00"),
    ] {
        let is: String = processor.value(&format!("SELECT CAST(@@GLOBAL.{variable} AS CHAR)")).await;
        assert_eq!(is, value, "{variable}");
    }
    let clone: String = processor
        .value("SELECT PLUGIN_STATUS FROM information_schema.PLUGINS WHERE PLUGIN_NAME = 'clone'")
        .await;
    assert_eq!(clone, "ACTIVE");

    processor.replicate_from(&primary, "").await;
    processor.catch_up(&primary).await;
    let world = World::of(&processor, &primary_section(&primary), &set).await;
    granted::processor(&world.stream.file());
    let found = world.runs(&["--json", "doctor"], 0);
    let found: serde_json::Value = serde_json::from_str(found.lines().next().expect("a line")).expect("JSON");
    assert_eq!(found["warnings"], "0", "{found:#}");
    assert_eq!(found["failed"], "0", "{found:#}");

    // What must pass by and what must come through, also in schemas that are made later.
    work(&primary).await;
    primary
        .sql(
            "CREATE TABLE g._apps_gho LIKE g.apps; CREATE TABLE g._apps_ghc (id INT PRIMARY KEY); \
             RENAME TABLE g.apps TO g._apps_20251121081530_del, g._apps_gho TO g.apps; DROP TABLE g._apps_ghc; \
             CREATE DATABASE later; CREATE PROCEDURE later.p() SELECT 1; CREATE TABLE later.t (id INT PRIMARY KEY); \
             INSERT INTO later.t VALUES (1); CREATE TABLE my_all.x (id INT PRIMARY KEY); INSERT INTO my_all.x VALUES (1); \
             INSERT INTO `odd schema`.`t#1` VALUES (1); ALTER DATABASE g DEFAULT CHARACTER SET latin1; \
             CREATE TABLE g.__plans_new LIKE g.plans; RENAME TABLE g.plans TO g.__plans_old, g.__plans_new TO g.plans; \
             DROP TABLE g.__plans_old; CREATE VIEW later.v AS SELECT * FROM later.t; DROP DATABASE private",
        )
        .await;
    processor.catch_up(&primary).await;
    let charset: String = processor
        .value("SELECT DEFAULT_CHARACTER_SET_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'g'")
        .await;
    assert_eq!(charset, "latin1");
    assert_eq!(processor.checksum("later.t").await, None, "not of the set");
    world.runs(&["upload"], 0);
    let tables = ["g.apps", "g.plans", "`odd schema`.`t#1`", "my_all.x", "g._apps_20251121081530_del"];
    world.regions_are_equal_to(&primary, &tables).await;
}
