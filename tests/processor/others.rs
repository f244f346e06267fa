//! What a processor holds, and what becomes of it when its filters, the primary's binary logs or a connection are not
//! as they should be.

use std::io::Read;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::kit::{
    PROCESSOR, SETUP, Supervisor, World, both, primary_section, purge, with_printed_my_cnf, work,
};
use crate::support::mysql::Server;
use crate::upload::kit::Stream;

const PATIENCE: Duration = Duration::from_secs(120);

/// Every base table that is not the server's own.
async fn tables(server: &Server) -> Vec<String> {
    server
        .rows(
            "SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME) FROM information_schema.TABLES \
             WHERE TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA NOT IN \
             ('mysql', 'sys', 'information_schema', 'performance_schema') ORDER BY 1",
        )
        .await
}

/// I3: rows that the filter has passed over are never taken for current ones.
#[tokio::test(flavor = "multi_thread")]
async fn i3_a_new_processor_holds_what_its_filters_let_in_and_a_wider_filter_stops_it() {
    let primary = Server::start(&[]);
    primary.sql(SETUP).await;
    primary
        .sql(
            "CREATE TABLE g.other (id INT PRIMARY KEY); INSERT INTO g.other VALUES (1); \
             CREATE TABLE g._other_gho LIKE g.other; \
             CREATE TABLE private.parent (id INT PRIMARY KEY); INSERT INTO private.parent VALUES (1); \
             ALTER TABLE g.plans ADD parent INT, ADD FOREIGN KEY (parent) REFERENCES private.parent (id); \
             CREATE TABLE private.child (app INT, FOREIGN KEY (app) REFERENCES g.apps (id)); \
             CREATE TABLE private.m (id INT) ENGINE=MyISAM; \
             CREATE DATABASE `odd``schema`; CREATE TABLE `odd``schema`.`t #1` (id INT PRIMARY KEY) \
             PARTITION BY HASH (id) PARTITIONS 3; CREATE DATABASE h; CREATE TABLE h.t (id INT PRIMARY KEY); \
             CREATE VIEW g.v AS SELECT * FROM g.other; CREATE VIEW private.v AS SELECT * FROM private.t; \
             CREATE VIEW h.v AS SELECT * FROM h.t; CREATE PROCEDURE private.p() SELECT 1; \
             CREATE EVENT private.e ON SCHEDULE EVERY 1 SECOND DO INSERT INTO g.other VALUES (NULL); \
             ALTER EVENT private.e DISABLE; CREATE TRIGGER private.tr BEFORE INSERT ON private.t FOR EACH ROW SET @a = 1",
        )
        .await;
    let set = ["g.apps", "g.plans", "h.*"];
    let mut stream = Stream::make_by(PROCESSOR, &primary, &set, &primary_section(&primary)).await;
    primary
        .sql("CREATE TABLE tablecast.guard (id INT PRIMARY KEY); CREATE TABLE g._apps_gho LIKE g.apps")
        .await;
    let folder = tempfile::tempdir().expect("a folder");
    let processor = with_printed_my_cnf(&stream, folder.path(), &[]);
    stream.reconfigure(&super::kit::mysql_section(&primary), &super::kit::mysql_section(&processor));
    stream.read_from(&processor);
    let runs = |args: &[&str], code: i32| {
        let output = stream.run(args, "");
        let text = both(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        text
    };
    let says = runs(&["processor", "create", "--dry-run"], 0);
    assert!(says.contains("drop every table of the copy"), "{says}");
    assert!(says.contains("stays as old as the copy"), "the parent is told of: {says}");
    {
        let _systemd = Supervisor::of(&processor);
        runs(&["processor", "create"], 0);
    }
    let wanted = ["g._apps_gho", "g.apps", "g.plans", "h.t", "private.parent", "tablecast.table_set"];
    assert_eq!(tables(&processor).await, wanted);
    assert_eq!(processor.value::<u8>("SELECT @@GLOBAL.super_read_only").await, 1);
    // Whatever comes through table filters finds what it names.
    primary
        .sql(
            "DROP PROCEDURE private.p; ALTER EVENT private.e DISABLE; DROP EVENT private.e; DROP TRIGGER private.tr; \
             DROP VIEW private.v; DROP VIEW h.v; DROP VIEW g.v; DROP DATABASE `odd``schema`; DROP TABLE private.child; \
             INSERT INTO g.plans (price, parent) VALUES (1, 1); ALTER DATABASE private DEFAULT CHARACTER SET latin1",
        )
        .await;
    work(&primary).await;
    processor.catch_up(&primary).await;
    runs(&["upload"], 0);
    assert_eq!(processor.gtid_executed().await.difference(&primary.gtid_executed().await).to_string(), "");

    // By hand, and without the rows.
    primary.sql("INSERT INTO g.other VALUES (2)").await;
    processor.catch_up(&primary).await;
    processor
        .sql("STOP REPLICA; CHANGE REPLICATION FILTER REPLICATE_DO_TABLE = (g.apps, g.plans, g.other, tablecast.table_set); START REPLICA")
        .await;
    primary.sql("INSERT INTO g.other VALUES (3)").await;
    let begin = Instant::now();
    loop {
        let errors: Vec<u32> = processor
            .rows("SELECT LAST_ERROR_NUMBER FROM performance_schema.replication_applier_status_by_worker")
            .await;
        if errors.contains(&1146) {
            break;
        }
        assert!(begin.elapsed() < PATIENCE, "{errors:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let says = runs(&["doctor"], 4);
    assert!(says.contains("error 1146") && says.contains("rebuild-the-processor"), "{says}");

    // A slip of the pen makes no processor.
    for (table, why) in [("g.othr", "no such table"), ("nix.*", "no such schema")] {
        let says = runs(&["processor", "rebuild", "--dry-run", "--table", table], 2);
        assert!(says.contains(why), "{says}");
    }

    // The way that is meant: my.cnf first. What is there, the server shows only behind its restart.
    let rebuild = ["processor", "rebuild", "--table", "g.other"];
    let systemd = Supervisor::of(&processor);
    let says = runs(&rebuild, 2);
    assert!(says.contains("\n  replicate-do-table = g.other\n"), "{says}");
    assert!(says.contains("replication has not begun") && !says.contains("= g.apps\n"), "{says}");
    drop(systemd);
    let before = (processor.gtid_executed().await, tables(&processor).await);
    for verb in [&[&rebuild[..], &["--replace"]].concat()[..], &["processor", "create", "--table", "g.other"]]
    {
        let says = runs(verb, 2);
        assert!(says.contains("\n  replicate-do-table = g.other\n"), "{says}");
        assert!(says.contains("nothing has been changed"), "{says}");
    }
    assert_eq!((processor.gtid_executed().await, tables(&processor).await), before);
    let printed = stream.run(&["processor", "config", "--table", "g.other"], "");
    std::fs::write(folder.path().join("my.cnf"), &printed.stdout).expect("write it");
    processor.restart(&[]);
    // As a run for the smaller set would have left it.
    processor
        .sql("SET GLOBAL super_read_only = OFF; SET sql_log_bin = 0; RENAME TABLE g.other TO g._apps_del")
        .await;
    let says = runs(&[&rebuild[..], &["--dry-run"]].concat(), 0);
    assert!(says.contains("CLONE "), "{says}");
    processor.sql("SET sql_log_bin = 0; RENAME TABLE g._apps_del TO g.other").await;
    let says = runs(&rebuild, 0);
    assert!(says.contains("(my.cnf)") && !says.contains("CLONE"), "it carries on behind the copy: {says}");
    let wanted = [
        "g._apps_gho",
        "g._other_gho",
        "g.apps",
        "g.other",
        "g.plans",
        "h.t",
        "private.parent",
        "tablecast.table_set",
    ];
    assert_eq!(tables(&processor).await, wanted);
    primary.sql("DROP TABLE g._other_gho").await;
    processor.catch_up(&primary).await;
    runs(&["tables", "add", "g.other"], 0);
    processor.catch_up(&primary).await;
    runs(&["upload"], 0);
}

/// `processor rebuild` at the moment when it is about to send CLONE.
fn held(world: &World, folder: &std::path::Path) -> Child {
    let log = folder.join("log");
    let file = std::fs::File::create(&log).expect("a log");
    let child = world
        .stream
        .program(&["-v", "processor", "rebuild"])
        .env("TABLECAST_FAILPOINTS", "processor.before_clone=sleep:4000")
        .stdout(Stdio::piped())
        .stderr(file)
        .spawn()
        .expect("run tablecast");
    let begin = Instant::now();
    while !std::fs::read_to_string(&log).is_ok_and(|text| text.contains("CLONE INSTANCE FROM")) {
        assert!(begin.elapsed() < PATIENCE, "{:?}", std::fs::read_to_string(&log));
        std::thread::sleep(Duration::from_millis(50));
    }
    child
}

fn ended(mut child: Child, folder: &std::path::Path) -> (Option<i32>, String) {
    let mut says = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut says).expect("read it");
    let code = child.wait().expect("wait").code();
    (code, says + &std::fs::read_to_string(folder.join("log")).expect("a log"))
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_a_clone_that_never_began_is_not_taken_for_done_and_history_that_goes_meanwhile_is_told() {
    let primary = Server::start(&["--binlog-expire-logs-seconds=1800"]);
    primary.sql(SETUP).await;
    let folder = tempfile::tempdir().expect("a folder");
    let planned = Stream::plan(&primary, &["g.*"], "").await;
    let processor = with_printed_my_cnf(&planned, folder.path(), &super::kit::TABLES);
    let mut world = World::to_copy(&primary, &primary).await;
    work(&primary).await;
    world.runs(&["upload"], 0);
    world.read_from(&primary, &processor);
    let _systemd = Supervisor::of(&processor);
    world.runs(&["processor", "create"], 0);
    processor.catch_up(&primary).await;
    world.runs(&["upload"], 0);
    let says = world.runs(&["processor", "rebuild", "--dry-run"], 0);
    assert!(
        says.contains("it keeps them for 30 minutes") && says.contains("binlog_expire_logs_seconds"),
        "{says}"
    );

    // The network is cut. What the server remembers is the copy of the first time.
    let running = held(&world, folder.path());
    let sessions = "SELECT ID FROM information_schema.PROCESSLIST WHERE COMMAND = 'Sleep'";
    for id in processor.rows::<u64>(sessions).await {
        // Some end by themselves.
        let _ = processor.try_sql(&format!("KILL {id}")).await;
    }
    let (code, says) = ended(running, folder.path());
    assert_eq!(code, Some(1), "{says}");
    assert!(says.contains("knows of no new copy"), "{says}");
    // Nobody may write there, and it goes on replicating, as before.
    let read_only = "SELECT @@GLOBAL.super_read_only, @@GLOBAL.read_only";
    assert_eq!(processor.rows::<(u64, u64)>(read_only).await, [(1, 1)]);
    work(&primary).await;
    processor.catch_up(&primary).await;

    // The primary purges what nobody has read yet, behind the last look.
    let running = held(&world, folder.path());
    processor.sql("STOP REPLICA").await;
    work(&primary).await;
    purge(&primary).await;
    let (code, says) = ended(running, folder.path());
    assert_eq!(code, Some(10), "{says}");
    assert!(says.contains("has purged") && says.contains("upload --resync"), "{says}");
    // The processor itself is whole.
    world.runs(&["upload", "--resync"], 0);
    work(&primary).await;
    processor.catch_up(&primary).await;
    world.runs(&["upload"], 0);
    world.regions_are_equal_to(&primary, &super::kit::TABLES).await;
}
