//! What is refused: each with its kind (and so its exit code), its hint, and nothing changed in the region.

use std::path::PathBuf;
use std::time::Duration;

use tablecast::region::apply;
use tablecast::stream::Head;
use tablecast::{Kind, config};

use super::kit::{Stream, assert_error, options};
use crate::freshness::kit::PATIENCE;
use crate::support::mysql::Server;

const APPS: &str =
    "CREATE TABLE @.apps (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(80)) COLLATE utf8mb4_0900_ai_ci";

/// A stream with three entries.
async fn three_entries(schema: &'static str) -> Stream {
    let stream = Stream::new(schema, APPS).await;
    for name in ["a", "b", "c"] {
        stream.sql(&format!("INSERT INTO @.apps (name) VALUES ('{name}')")).await;
        stream.upload().await;
    }
    stream
}

fn index(stream: &Stream) -> PathBuf {
    stream.bucket().join("index.json")
}

fn head(stream: &Stream) -> Head {
    Head::parse(&std::fs::read(index(stream)).unwrap()).unwrap()
}

/// The segments' files, oldest first.
fn segments(stream: &Stream) -> Vec<PathBuf> {
    let files = std::fs::read_dir(stream.bucket().join("segments")).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

#[tokio::test]
async fn an_index_that_went_back_is_refused() {
    let stream = Stream::new("re_back", APPS).await;
    let region = Server::start(&[]);
    stream.sql("INSERT INTO @.apps (name) VALUES ('a')").await;
    stream.upload().await;
    let old = std::fs::read(index(&stream)).unwrap();
    stream.sql("INSERT INTO @.apps (name) VALUES ('b')").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    let newest = std::fs::read(index(&stream)).unwrap();
    std::fs::write(index(&stream), &old).unwrap();
    stream.assert_refused(&region, Kind::History, "the index went back", "restore the newest version").await;
    // For a moment only, as a store of several machines may answer: it is read again.
    let apply = stream.spawn(&region, "");
    tokio::time::sleep(Duration::from_secs(2)).await;
    std::fs::write(index(&stream), newest).unwrap();
    let output = apply.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    std::fs::write(index(&stream), old).unwrap();
    // Also by a region whose position is as old as the index, but whose transactions are not.
    region
        .sql(&format!(
            "UPDATE tablecast.position SET seq=1, last_tx=1, head_etag=NULL, chain='{}' WHERE name='re_back'",
            head(&stream).tip
        ))
        .await;
    stream.assert_refused(&region, Kind::History, "this server has run", "restore the newest version").await;
}

#[tokio::test]
async fn a_forked_index_is_refused() {
    let stream = Stream::new("re_fork", APPS).await;
    let region = Server::start(&[]);
    stream.sql("INSERT INTO @.apps (name) VALUES ('a')").await;
    stream.upload().await;
    let old = std::fs::read(index(&stream)).unwrap();
    stream.sql("INSERT INTO @.apps (name) VALUES ('b')").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    // The stream is continued from the older index, with other entries in the same places: by a machine that has not seen it
    // before.
    std::fs::write(index(&stream), old).unwrap();
    stream.sql("INSERT INTO @.apps (name) VALUES ('c')").await;
    std::fs::remove_dir_all(&stream.source_config().files.cache_dir).unwrap();
    stream.upload().await;
    stream.assert_refused(&region, Kind::History, "forked at or before entry 2", "older index.json").await;
}

#[tokio::test]
async fn an_index_with_an_entry_removed_is_refused() {
    let stream = three_entries("re_removed").await;
    let region = Server::start(&[]);
    let text = std::fs::read_to_string(index(&stream)).unwrap();
    let without: Vec<&str> = text.lines().filter(|line| !line.contains("\"seq\":2")).collect();
    assert!(without.len() < text.lines().count());
    std::fs::write(index(&stream), without.join("\n") + "\n").unwrap();
    stream
        .assert_refused(&region, Kind::History, "entry 1 is followed by entry 3", "restore index.json")
        .await;
}

#[tokio::test]
async fn a_missing_segment_is_refused() {
    let stream = three_entries("re_missing").await;
    let region = Server::start(&[]);
    std::fs::remove_file(&segments(&stream)[0]).unwrap();
    stream.assert_refused(&region, Kind::NotFound, "(entry 1)", "restore the object").await;
}

#[tokio::test]
async fn a_damaged_segment_is_refused_and_those_before_it_are_applied() {
    let stream = three_entries("re_damage").await;
    let region = Server::start(&[]);
    let file = &segments(&stream)[0];
    let good = std::fs::read(file).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 4;
    for (bad, says) in [
        (&good[..good.len() - 1], "(entry 1)"),
        (&good[..0], "(entry 1)"),
        (&flipped[..], "md5 is"),
        (&[&good[..], b"x"].concat()[..], "(entry 1)"),
    ] {
        std::fs::write(file, bad).unwrap();
        stream.assert_refused(&region, Kind::Corrupt, says, "restore the object").await;
    }
    std::fs::write(file, good).unwrap();
    let third = &segments(&stream)[2];
    let good = std::fs::read(third).unwrap();
    std::fs::write(third, &good[1..]).unwrap();
    let error = stream.apply(&region).await.unwrap_err();
    assert_error(&error, Kind::Corrupt, "(entry 3)", "restore the object");
    assert_eq!(stream.executed(&region).await, "1-2");
    std::fs::write(third, good).unwrap();
    stream.apply(&region).await.unwrap();
    stream.assert_equal(&region).await;
}

#[tokio::test]
async fn two_segments_that_were_swapped_are_refused() {
    let stream = three_entries("re_swapped").await;
    let region = Server::start(&[]);
    let files = segments(&stream);
    let (one, two) = (std::fs::read(&files[0]).unwrap(), std::fs::read(&files[1]).unwrap());
    std::fs::write(&files[0], two).unwrap();
    std::fs::write(&files[1], one).unwrap();
    stream.assert_refused(&region, Kind::Corrupt, "(entry 1)", "restore the object").await;
}

#[tokio::test]
async fn a_newer_format_is_refused_by_name() {
    let stream = three_entries("re_newer").await;
    let region = Server::start(&[]);
    let text = std::fs::read_to_string(index(&stream)).unwrap();
    let newer = text.replacen("\"major\":1", "\"major\":2", 1);
    assert_ne!(newer, text);
    std::fs::write(index(&stream), newer).unwrap();
    stream.assert_refused(&region, Kind::TooNew, "format 2", "install a tablecast").await;
}

#[tokio::test]
async fn another_bucket_under_the_same_name_is_refused() {
    let (stream, other) = (three_entries("re_bucket").await, three_entries("re_bucket2").await);
    let region = Server::start(&[]);
    stream.apply(&region).await.unwrap();
    let mut foreign = head(&other);
    foreign.name = "re_bucket".to_owned();
    std::fs::write(index(&stream), foreign.to_json().unwrap()).unwrap();
    stream.assert_refused(&region, Kind::History, "has applied stream", "must name the bucket").await;
}

#[tokio::test]
async fn a_lost_position_is_not_taken_for_a_new_region() {
    let stream = three_entries("re_lost").await;
    let region = Server::start(&[]);
    stream.apply(&region).await.unwrap();
    region.sql("DELETE FROM tablecast.position").await;
    stream.assert_refused(&region, Kind::History, "has no row for it", "put it back from a backup").await;
}

/// I4, I7: that the server has answered is not enough.
#[tokio::test]
async fn i4_the_position_does_not_come_past_what_gtid_executed_lacks() {
    let stream = three_entries("re_lacks").await;
    let region = Server::start(&[]);
    let go_on = stream.bucket().with_file_name("go_on");
    let child = stream.spawn(&region, &format!("apply.after_commit=until:{}", go_on.display()));
    let begin = std::time::Instant::now();
    while stream.executed(&region).await.is_empty() {
        assert!(begin.elapsed() < PATIENCE, "nothing is applied");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The name until 8.3, and the one since 8.2.
    let reset = ["RESET MASTER", "RESET BINARY LOGS AND GTIDS"];
    let mut done = false;
    for statement in reset {
        done |= region.try_sql(statement).await.is_ok();
    }
    assert!(done, "the server resets its GTIDs");
    std::fs::write(&go_on, "").unwrap();
    let output = child.wait_with_output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(10), "{log}");
    assert!(log.contains("gtid_executed lacks transaction 1") && log.contains("rebuild-a-region"), "{log}");
    assert_eq!(region.value::<u64>("SELECT seq FROM tablecast.position").await, 0);
}

#[tokio::test]
async fn a_server_that_keeps_the_tables_out_of_its_binlog_is_refused() {
    let stream = three_entries("re_hidden").await;
    let filters: [&[&str]; 3] =
        [&["--binlog-ignore-db=re_hidden"], &["--binlog-do-db=re_hidden"], &["--binlog-ignore-db=other"]];
    let [ignored, only, fine] = Server::start_all(filters);
    // Who logs the tables only would leave its replicas without the position.
    for (region, schema) in [(&ignored, "re_hidden"), (&only, "tablecast")] {
        let says = format!("keeps schema {schema} out of its binlog");
        stream.assert_refused(region, Kind::Failed, &says, "without --binlog-do-db").await;
        let doctor = stream.command_of(region, &["doctor"]).output().unwrap();
        let found = String::from_utf8_lossy(&doctor.stdout);
        assert!(found.contains("FAIL  binlog filters"), "{found}");
    }
    stream.apply(&fine).await.unwrap();
    stream.assert_equal(&fine).await;
    let doctor = stream.command_of(&fine, &["doctor"]).output().unwrap();
    let found = String::from_utf8_lossy(&doctor.stdout);
    assert!(found.contains("let in all that this region has now"), "{found}");
    // Who may not look applies as before, and the doctor says what is not known.
    fine.sql("CREATE USER weak; GRANT ALL ON *.* TO weak; REVOKE REPLICATION CLIENT, SUPER ON *.* FROM weak")
        .await;
    stream.sql("INSERT INTO @.apps (name) VALUES ('d')").await;
    stream.upload().await;
    let file = stream.region_file(&fine, "weak", &["@.*"]);
    stream.apply_with(&config::load(&file).unwrap(), options()).await.unwrap();
    let mut doctor = std::process::Command::new(env!("CARGO_BIN_EXE_tablecast"));
    let doctor = doctor.arg("--config").arg(&file).arg("doctor").output().unwrap();
    let found = String::from_utf8_lossy(&doctor.stdout);
    assert!(found.contains("may not see whether --binlog-do-db"), "{found}");
}

#[tokio::test]
async fn a_position_ahead_of_gtid_executed_is_refused() {
    let stream = three_entries("re_ahead").await;
    let region = Server::start(&[]);
    stream.apply(&region).await.unwrap();
    region.sql("/*!80400 RESET BINARY LOGS AND GTIDS */").await;
    stream.assert_refused(&region, Kind::History, "gtid_executed lacks", "was reset").await;
}

#[tokio::test]
async fn wrong_credentials_are_refused() {
    let stream = three_entries("re_login").await;
    let region = Server::start(&[]);
    region.sql("CREATE USER somebody IDENTIFIED BY 'secret'").await;
    let config = config::load(&stream.region_file(&region, "somebody", &["@.*"])).unwrap();
    let error = stream.apply_with(&config, options()).await.unwrap_err();
    assert_error(&error, Kind::Denied, "connect to MySQL somebody@", "check user and password");
}

#[tokio::test]
async fn each_missing_privilege_is_found_before_the_first_change() {
    let stream = three_entries("re_rights").await;
    let region = Server::start(&[]);
    region.sql("CREATE USER poor").await;
    let config = config::load(&stream.region_file(&region, "poor", &["@.*"])).unwrap();
    let grants = tablecast::region::privileges::grants(
        "poor",
        &config.region.as_ref().unwrap().tables,
        tablecast::config::Guard::Triggers,
    );
    let mut all = region.connect().await;
    use mysql_async::prelude::Queryable;
    let before = stream.state(&region).await;
    let error = stream.apply_with(&config, options()).await.unwrap_err();
    assert_error(&error, Kind::Denied, "", "tablecast grants");
    assert_eq!(before, stream.state(&region).await);
    for grant in grants {
        all.query_drop(grant).await.unwrap();
    }
    // What `tablecast grants` prints is enough, also on a server that is read-only for others.
    region.sql("SET GLOBAL read_only=1").await;
    stream.apply_with(&config, options()).await.unwrap();
    stream
        .sql(
            "ALTER TABLE @.apps ADD COLUMN b INT; UPDATE @.apps SET b=1; CREATE TABLE @.c LIKE @.apps; \
                RENAME TABLE @.c TO @.d; TRUNCATE TABLE @.d; DROP TABLE @.d",
        )
        .await;
    stream.upload().await;
    stream.apply_with(&config, options()).await.unwrap();
    stream.assert_equal(&region).await;
}

#[tokio::test]
async fn a_read_only_server_is_refused() {
    let stream = three_entries("re_readonly").await;
    let region = Server::start(&["--super-read-only=ON"]);
    stream
        .assert_refused(&region, Kind::Denied, "super_read_only is ON", "SET GLOBAL super_read_only=0")
        .await;
}

#[tokio::test]
async fn a_server_without_gtids_is_refused() {
    let stream = three_entries("re_nogtid").await;
    let region = Server::start(&["--gtid-mode=OFF_PERMISSIVE"]);
    stream
        .assert_refused(&region, Kind::Failed, "gtid_mode is OFF_PERMISSIVE", "SET PERSIST gtid_mode")
        .await;
}

#[tokio::test]
async fn another_definition_is_refused_before_rows_land_in_the_wrong_columns() {
    let stream = three_entries("re_define").await.stopping();
    let region = Server::start(&[]);
    // Before the first transaction, by the whole definition.
    region
        .sql("CREATE DATABASE re_define; CREATE TABLE re_define.apps (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(81))")
        .await;
    stream.assert_refused(&region, Kind::Definition, "varchar(81)", "ALTER it to be").await;
    region.sql("DROP DATABASE re_define").await;
    stream.apply(&region).await.unwrap();
    // Later too.
    region.sql("ALTER TABLE re_define.apps ADD COLUMN mine INT").await;
    stream.sql("INSERT INTO @.apps (name) VALUES ('d')").await;
    stream.upload().await;
    stream.assert_refused(&region, Kind::Definition, "`mine` int", "ALTER it to be").await;
    // And a table that went missing.
    region.sql("DROP TABLE re_define.apps").await;
    stream
        .assert_refused(&region, Kind::Definition, "does not have it", "tablecast restore re_define.apps")
        .await;
}

#[tokio::test]
async fn columns_are_compared_where_no_definition_is_known() {
    let stream = three_entries("re_columns").await.stopping();
    let region = Server::start(&[]);
    stream.apply(&region).await.unwrap();
    stream.sql("INSERT INTO @.apps (name) VALUES ('d')").await;
    stream.upload().await;
    let mut blind = head(&stream);
    blind.definitions.clear();
    std::fs::write(index(&stream), blind.to_json().unwrap()).unwrap();
    region.sql("ALTER TABLE re_columns.apps MODIFY name VARCHAR(80) FIRST").await;
    stream
        .assert_refused(&region, Kind::Definition, "column 1 (name) is varchar here", "make re_columns.apps")
        .await;
    region.sql("ALTER TABLE re_columns.apps MODIFY id INT AUTO_INCREMENT FIRST, ADD COLUMN x INT").await;
    stream
        .assert_refused(&region, Kind::Definition, "3 columns here, and 2 at the source", "make re_columns")
        .await;
    region.sql("ALTER TABLE re_columns.apps DROP COLUMN x").await;
    stream.apply(&region).await.unwrap();
    stream.assert_equal(&region).await;
}

#[tokio::test]
async fn a_table_that_held_rows_at_the_beginning_must_have_been_copied() {
    let stream = Stream::new("re_rows", &format!("{APPS}; INSERT INTO @.apps (name) VALUES ('old')")).await;
    let region = Server::start(&[]);
    stream.sql("INSERT INTO @.apps (name) VALUES ('new')").await;
    stream.upload().await;
    stream.assert_refused(&region, Kind::Definition, "it held rows when the stream began", "mysqldump").await;
    let create = stream.source.show_create("re_rows.apps").await;
    region.sql(&format!("CREATE DATABASE re_rows; USE re_rows; {create}")).await;
    stream.assert_refused(&region, Kind::Drift, "it is empty here", "copy the rows").await;
    region.sql("INSERT INTO re_rows.apps VALUES (1, 'old')").await;
    stream.apply(&region).await.unwrap();
    stream.assert_equal(&region).await;
}

#[tokio::test]
async fn ddl_that_builds_on_another_schema_default_is_refused() {
    let stream = Stream::new("re_default", "").await;
    let region = Server::start(&[]);
    region.sql("CREATE DATABASE re_default COLLATE latin1_swedish_ci").await;
    stream.sql("CREATE TABLE @.t (a VARCHAR(10))").await;
    stream.upload().await;
    let hint = "ALTER DATABASE `re_default` COLLATE utf8mb4_0900_ai_ci";
    stream.assert_refused(&region, Kind::Definition, "latin1_swedish_ci here", hint).await;
    region.sql(hint).await;
    stream.apply(&region).await.unwrap();
    stream.assert_equal(&region).await;
}

#[tokio::test]
async fn of_two_applies_at_once_one_works_and_the_other_is_told_so() {
    let stream = three_entries("re_two").await;
    let region = Server::start(&[]);
    let config = stream.region_config(&region);
    let (one, two) =
        tokio::join!(stream.apply_with(&config, options()), stream.apply_with(&config, options()));
    let mut transactions = 0;
    for run in [one, two] {
        match run {
            // The slower one may have come when the faster was done already.
            Ok(report) => transactions += report.transactions,
            Err(error) => assert_error(&error, Kind::Locked, "another run holds it", "nothing to do"),
        }
    }
    assert_eq!(transactions, 3);
    let waiting = apply::Options { lock_wait: std::time::Duration::from_secs(30), ..options() };
    assert_eq!(stream.apply_with(&config, waiting).await.unwrap().transactions, 0);
    stream.assert_equal(&region).await;
}

#[tokio::test]
async fn the_source_itself_is_not_taken_for_a_region() {
    let stream = three_entries("re_self").await;
    let error = stream.apply(stream.source).await.unwrap_err();
    assert_error(&error, Kind::History, "under the source's GTIDs", "no region");
    assert_eq!(stream.source.value::<u64>("SELECT COUNT(*) FROM re_self.apps").await, 3);
}

#[tokio::test]
async fn a_gtid_that_a_dead_run_still_holds_is_waited_for_and_the_token_is_heard() {
    let stream = three_entries("re_owned").await;
    let region = Server::start(&[]);
    let uuid = head(&stream).stream;
    let mut owner = region.connect().await;
    use mysql_async::prelude::Queryable;
    owner.query_drop(format!("SET gtid_next='{uuid}:1'; BEGIN")).await.unwrap();
    let options = options();
    let stop = options.stop.clone();
    let config = stream.region_config(&region);
    let (report, ()) = tokio::join!(stream.apply_with(&config, options), async {
        tokio::time::sleep(std::time::Duration::from_millis(6500)).await;
        stop.cancel();
    });
    assert!(report.unwrap().stopped);
    owner.query_drop("ROLLBACK").await.unwrap();
    stream.apply(&region).await.unwrap();
    stream.assert_equal(&region).await;
}
