//! What a restore keeps, refuses, waits for, and brings to every region.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mysql_async::prelude::Queryable;

use super::kit::{
    FULL, Kind, MANDATORY, SOME, Stream, assert_clean, base_tables, dump, publish, restores, take,
};
use crate::support::mysql::{HOSTILE, Server};

const TABLES: &str = "CREATE TABLE @.a (id INT PRIMARY KEY, v VARCHAR(40), n INT, KEY (v)); \
                      CREATE TABLE @.b (id INT PRIMARY KEY, v VARCHAR(40), n INT)";

async fn applied(schema: &'static str) -> (Stream, Server) {
    let stream = Stream::new(schema, TABLES).await;
    let region = Server::start(&[]);
    for table in ["a", "b"] {
        stream.sql(&format!("INSERT INTO @.{table} VALUES (1, 'x', 0), (2, 'y', 0), (3, 'z', 0)")).await;
    }
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    (stream, region)
}

/// I5, I8: every answer is a state that the source had, of both tables at once, and never an older one than before.
#[tokio::test]
async fn readers_see_whole_states_that_never_go_back_while_a_mandatory_dump_is_restored() {
    let (stream, region) = applied("rw_readers").await;
    let taken = take(&stream, &["a", "b"]).await;
    for n in 1..=20 {
        stream.sql(&format!("BEGIN; UPDATE @.a SET n = {n}; UPDATE @.b SET n = {n}; COMMIT")).await;
    }
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    publish(&stream, &taken, MANDATORY).await;
    for n in 21..=25 {
        stream.sql(&format!("BEGIN; UPDATE @.a SET n = {n}; UPDATE @.b SET n = {n}; COMMIT")).await;
    }
    stream.upload().await;
    let over = Arc::new(AtomicBool::new(false));
    let mut conn = region.connect().await;
    let reader = tokio::spawn({
        let over = over.clone();
        async move {
            let (mut last, mut seen) = (20, 0u32);
            while !over.load(Ordering::Relaxed) {
                let rows: Vec<(u64, i32, i32, u64, i32, i32)> = conn
                    .query(
                        "SELECT ca, la, ha, cb, lb, hb FROM (SELECT COUNT(*) ca, MIN(n) la, MAX(n) ha FROM rw_readers.a) x, \
                         (SELECT COUNT(*) cb, MIN(n) lb, MAX(n) hb FROM rw_readers.b) y",
                    )
                    .await
                    .unwrap();
                let (ca, la, ha, cb, lb, hb) = rows[0];
                assert_eq!((ca, cb), (3, 3), "a half of a table");
                assert!(la == ha && lb == hb && la == lb, "{rows:?}");
                assert!(la >= last, "back from {last} to {la}");
                (last, seen) = (la, seen + 1);
            }
            (last, seen)
        }
    });
    let report = stream.apply(&region).await.unwrap();
    over.store(true, Ordering::Relaxed);
    let (_, seen) = reader.await.unwrap();
    assert!(seen > 20, "only {seen} answers");
    assert!(report.waiting.is_empty(), "{:?}", report.waiting);
    stream.assert_equal(&region).await;
    assert_clean(&region).await;
    assert_eq!(restores(&region).await, [("done".to_owned(), "mandatory".to_owned())]);
    // Once is enough.
    stream.apply(&region).await.unwrap();
    assert_eq!(restores(&region).await.len(), 1);
}

/// What the stream has last for others counts, too: a restore that is not there yet would read it again and again.
#[tokio::test]
async fn a_restore_notes_that_it_has_come_to_the_end_where_the_last_of_it_is_of_another_table() {
    let (stream, region) = applied("rw_other").await;
    dump(&stream, &["a"], SOME).await;
    stream.sql("UPDATE @.a SET n = 1; UPDATE @.b SET n = 2").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    let output = stream.command_of(&region, &["restore", "rw_other.a"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let until: u64 = region.value("SELECT until_tx FROM tablecast.restore").await;
    assert_eq!(until, region.value::<u64>("SELECT last_tx FROM tablecast.position").await);
    stream.assert_equal(&region).await;
}

/// What the source has lost is only in the dump, and nothing behind it runs before it is there.
#[tokio::test]
async fn a_resync_holds_the_stream_until_it_is_restored() {
    let (stream, region) = applied("rw_resync").await;
    stream.sql("SET sql_log_bin = 0; INSERT INTO @.a VALUES (9, 'lost', 0); UPDATE @.b SET v = 'lost'").await;
    let resync = Kind { full: true, mandatory: true, resync: true };
    dump(&stream, &["a", "b"], resync).await;
    stream.sql("UPDATE @.a SET n = 1 WHERE id = 9; UPDATE @.b SET n = 2").await;
    stream.upload().await;
    let report = stream.apply(&region).await.unwrap();
    assert!(report.quarantined.is_empty() && report.waiting.is_empty(), "{:?}", report.waiting);
    stream.assert_equal(&region).await;
    assert_clean(&region).await;
    assert_eq!(restores(&region).await, [("done".to_owned(), "resync".to_owned())]);
    // A region that comes later begins with it.
    let late = Server::start(&[]);
    let output = stream.command_of(&late, &["bootstrap"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    stream.assert_equal(&late).await;
    // Lost once more, with nothing in the stream between: the transaction it stands at is one that `late` began with.
    dump(&stream, &["a", "b"], FULL).await;
    let newest = Server::start(&[]);
    let output = stream.command_of(&newest, &["bootstrap"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    stream.sql("SET sql_log_bin = 0; UPDATE @.a SET v = 'lost again'").await;
    dump(&stream, &["a", "b"], resync).await;
    for region in [&region, &late, &newest] {
        stream.apply(region).await.unwrap();
        stream.assert_equal(region).await;
        assert_clean(region).await;
    }
}

#[tokio::test]
async fn a_dump_from_before_a_change_of_the_definition_is_not_used() {
    let (stream, region) = applied("rw_ddl").await;
    let old = take(&stream, &["a", "b"]).await;
    stream.sql("ALTER TABLE @.a ADD COLUMN later INT DEFAULT 7").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    publish(&stream, &old, FULL).await;
    region.sql("DELETE FROM rw_ddl.a WHERE id = 1").await;
    stream.sql("UPDATE @.a SET n = 4").await;
    stream.upload().await;
    let report = stream.apply(&region).await.unwrap();
    assert_eq!((report.quarantined.len(), report.waiting.len()), (1, 1));
    dump(&stream, &["a"], SOME).await;
    stream.apply(&region).await.unwrap();
    stream.assert_equal(&region).await;
    assert_clean(&region).await;
}

/// I8: the guard is there in the same moment as the table; what somebody else has made is never lost in silence.
#[tokio::test]
async fn the_guards_triggers_survive_and_others_are_refused_by_name() {
    let (stream, region) = applied("rw_triggers").await;
    let stream = stream.guarded();
    region.sql("CREATE TRIGGER rw_triggers.mine AFTER DELETE ON rw_triggers.a FOR EACH ROW SET @x = 1").await;
    dump(&stream, &["a"], SOME).await;
    let output = stream.command_of(&region, &["restore", "rw_triggers.a"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("the trigger `mine` on rw_triggers.a"), "{text}");
    region.sql("DROP TRIGGER rw_triggers.mine").await;
    for _ in 0..2 {
        let output = stream.command_of(&region, &["restore", "rw_triggers.a"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let error = region.try_sql("INSERT INTO rw_triggers.a VALUES (77, '', 0)").await.unwrap_err();
        assert!(error.to_string().contains("rw_triggers.a is written at the source"), "{error}");
    }
    stream.sql("INSERT INTO @.a VALUES (77, '', 0)").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    stream.assert_equal(&region).await;
    assert_clean(&region).await;
}

#[tokio::test]
async fn a_table_outside_the_list_that_refers_to_it_is_a_reason_to_refuse() {
    let (stream, region) = applied("rw_child").await;
    region
        .sql("CREATE DATABASE local; CREATE TABLE local.mine (id INT PRIMARY KEY, FOREIGN KEY (id) REFERENCES rw_child.a (id))")
        .await;
    dump(&stream, &["a"], SOME).await;
    let output = stream.command_of(&region, &["restore", "rw_child.a"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("a foreign key of local.mine"), "{text}");
}

#[tokio::test]
async fn a_reader_that_holds_the_table_is_waited_for_and_told() {
    let (stream, region) = applied("rw_blocked").await;
    dump(&stream, &["a"], SOME).await;
    let mut conn = region.connect().await;
    conn.query_drop("BEGIN").await.unwrap();
    conn.query_drop("SELECT * FROM rw_blocked.a").await.unwrap();
    let child = {
        let mut command = stream.command_of(&region, &["restore", "rw_blocked.a"]);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        command.spawn().unwrap()
    };
    tokio::time::sleep(Duration::from_secs(5)).await;
    conn.query_drop("COMMIT").await.unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("cannot be swapped yet") && text.contains("root@"), "{text}");
    assert_clean(&region).await;
}

#[tokio::test]
async fn restore_says_how_where_no_dump_fits_and_works_beside_a_running_apply() {
    let (stream, region) = applied("rw_wish").await;
    let output = stream.command_of(&region, &["restore", "rw_wish.a"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("tablecast dump take 'rw_wish.a'"), "{text}");
    dump(&stream, &["a", "b"], FULL).await;
    let mut follow = stream.command_of(&region, &["apply", "--follow"]).spawn().unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    region.sql("UPDATE rw_wish.a SET v = 'not the source''s'; TRUNCATE rw_wish.b").await;
    let output = stream.command_of(&region, &["restore", "--all", "--timeout", "60s"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    follow.kill().unwrap();
    follow.wait().unwrap();
    stream.assert_equal(&region).await;
    assert_clean(&region).await;
}

/// A dump that is not what the index and its manifest say is never used.
#[tokio::test]
async fn a_dump_whose_objects_are_damaged_is_told_and_a_newer_one_heals() {
    let (stream, region) = applied("rw_damaged").await;
    dump(&stream, &["a"], SOME).await;
    for entry in walk(&stream.bucket().join("dumps")) {
        if entry.to_string_lossy().ends_with(".gz") {
            std::fs::remove_file(&entry).unwrap();
        }
    }
    region.sql("DELETE FROM rw_damaged.a WHERE id = 1").await;
    stream.sql("UPDATE @.a SET n = 4; UPDATE @.b SET n = 5").await;
    stream.upload().await;
    let report = stream.apply(&region).await.unwrap();
    assert_eq!((report.quarantined.len(), report.waiting.len()), (1, 1));
    assert_eq!(region.value::<u64>("SELECT COUNT(*) FROM rw_damaged.b WHERE n = 5").await, 3);
    dump(&stream, &["a"], SOME).await;
    stream.apply(&region).await.unwrap();
    stream.assert_equal(&region).await;
    assert_clean(&region).await;
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(walk(&path)),
            false => found.push(path),
        }
    }
    found
}

/// Every type, names that need quotes, tables without a key, on a server that has everything otherwise; and its own
/// replica, which gets all of it from its binlog.
#[tokio::test]
async fn a_hostile_region_and_its_replica_are_bootstrapped_to_the_last_bit() {
    let stream = Stream::new("rw_types", "").await;
    let types =
        include_str!("../mysql/table/types.sql").replace("CREATE DATABASE g;\nUSE g;", "USE rw_types;");
    stream.source.client(&["--binary-mode"], types.as_bytes()).unwrap();
    stream.sql("CREATE TABLE @.twice (a INT, b VARCHAR(9)); INSERT INTO @.twice VALUES (1, 'x'), (1, 'x'), (NULL, NULL), (NULL, NULL)").await;
    let tables = base_tables(&stream).await;
    let names: Vec<&str> = tables.iter().map(String::as_str).collect();
    dump(&stream, &names, FULL).await;
    stream.sql("DELETE FROM @.twice LIMIT 1; INSERT INTO @.no_key VALUES (5, 'behind')").await;
    stream.upload().await;
    let [region, replica] = Server::start_all([HOSTILE, &["--server-id=77"]]);
    replica.replicate_from(&region, "").await;
    let output = stream.command_of(&region, &["bootstrap"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    stream.assert_equal(&region).await;
    assert_clean(&region).await;
    // And every one again, in one RENAME, beside the stream.
    stream.sql("INSERT INTO @.no_key VALUES (6, 'behind')").await;
    let output = stream.command_of(&region, &["restore", "--all"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    stream.assert_equal(&region).await;
    replica.catch_up(&region).await;
    stream.assert_equal(&replica).await;
}

#[tokio::test]
async fn a_bootstrap_touches_no_table_that_holds_rows_and_no_region_that_has_a_position() {
    let (stream, region) = applied("rw_refused").await;
    dump(&stream, &["a", "b"], FULL).await;
    let output = stream.command_of(&region, &["bootstrap"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("has a position already") && text.contains("restore --all"), "{text}");
    let other = Server::start(&[]);
    other.sql("CREATE DATABASE rw_refused; CREATE TABLE rw_refused.a (x INT); INSERT INTO rw_refused.a VALUES (1)").await;
    let output = stream.command_of(&other, &["bootstrap"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("holds rows in rw_refused.a"), "{text}");
    assert_eq!(other.value::<u64>("SELECT COUNT(*) FROM rw_refused.a").await, 1);
}

/// The account that `grants` describes can do all of it.
#[tokio::test]
async fn the_least_privileges_suffice_for_a_bootstrap_and_a_restore() {
    let (stream, _) = applied("rw_grants").await;
    dump(&stream, &["a", "b"], FULL).await;
    let region = Server::start(&[]);
    region.sql("CREATE USER tc@'%' IDENTIFIED BY ''").await;
    let config = stream.region_file(&region, "tc", &["@.*"]);
    let grants = std::process::Command::new(env!("CARGO_BIN_EXE_tablecast"))
        .arg("--config")
        .arg(&config)
        .arg("grants")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&grants.stdout).into_owned();
    assert!(grants.status.success(), "{}", String::from_utf8_lossy(&grants.stderr));
    region.client(&[], text.as_bytes()).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tablecast"));
        let output = command.arg("--config").arg(&config).args(arguments).output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(0),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    run(&["bootstrap"]);
    run(&["restore", "--all"]);
    stream.assert_equal(&region).await;
    assert_clean(&region).await;
}

/// A table that the source has no longer goes, in the same step in which another comes.
#[tokio::test]
async fn a_table_that_is_gone_at_the_source_goes_with_its_restore() {
    let (stream, region) = applied("rw_gone").await;
    region.sql("CREATE TABLE rw_gone.mine (id INT PRIMARY KEY); INSERT INTO rw_gone.mine VALUES (1)").await;
    dump(&stream, &["a", "mine"], SOME).await;
    let output = stream.command_of(&region, &["restore", "rw_gone.mine", "rw_gone.a"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    stream.assert_equal(&region).await;
    assert_clean(&region).await;
}
