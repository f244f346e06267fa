//! A region's server that has no room for the rows of a dump: what is restored waits, everything else goes on, and once
//! there is room all is right without anybody's help.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;

use super::kit::{FULL, SOME, Stream, assert_clean, dump, restores};
use crate::support::mysql::Server;
use crate::support::not_tested;

const TABLES: &str = "CREATE TABLE @.a (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(1000), KEY (v(20))); \
                      CREATE TABLE @.b (id INT PRIMARY KEY, v LONGTEXT)";

/// About 10 MB of rows in `a`, in the region too, and its row 2 gone there.
async fn drifted(stream: &Stream, region: &Server) {
    stream
        .sql(
            "SET cte_max_recursion_depth = 100000; INSERT INTO @.a (v) WITH RECURSIVE s AS (SELECT 1 n UNION ALL SELECT n + 1 \
             FROM s WHERE n < 9000) SELECT REPEAT(SHA2(n, 256), 15) FROM s; INSERT INTO @.b VALUES (1, 'x')",
        )
        .await;
    stream.upload().await;
    stream.apply(region).await.unwrap();
    stream.assert_equal(region).await;
    region.sql(&format!("DELETE FROM {}.a WHERE id = 2", stream.schema)).await;
    stream.sql("UPDATE @.a SET v = 'changed' WHERE id = 2; INSERT INTO @.b VALUES (2, 'y')").await;
    stream.upload().await;
    dump(stream, &["a"], SOME).await;
}

/// I7, I8: two runs that meet a full disk, and one behind `make_room`.
async fn heals_once_there_is_room(stream: &Stream, region: &Server, make_room: impl FnOnce()) {
    for attempt in 1..=2 {
        let output = stream.run(region, "");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{text}");
        assert!(text.contains("is full") && text.contains("the server has no room"), "{text}");
        // The shadow may be what fills the disk: it does not stay.
        let left: Vec<String> = region
            .rows("SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_NAME LIKE '\\_tablecast\\_%'")
            .await;
        assert!(left.is_empty(), "{left:?}");
        let told: (u32, String, String) =
            region.rows("SELECT attempts, state, message FROM tablecast.restore").await.remove(0);
        assert_eq!((told.0, told.1.as_str()), (attempt, "wanted"));
        assert!(told.2.contains("next try at") && told.2.contains("the server has no room"), "{}", told.2);
        // Other tables go on, in the run that failed and in the next one.
        assert_eq!(stream.source.checksum(&b(stream)).await, region.checksum(&b(stream)).await);
        stream.sql(&format!("INSERT INTO @.b VALUES (1{attempt}, 'z')")).await;
        stream.upload().await;
    }
    make_room();
    let output = stream.run(region, "");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    stream.assert_equal(region).await;
    assert_clean(region).await;
    assert_eq!(restores(region).await, [("done".to_owned(), "quarantine".to_owned())]);
}

fn b(stream: &Stream) -> String {
    format!("{}.b", stream.schema)
}

#[tokio::test]
async fn a_tablespace_that_is_full_in_mid_restore_holds_up_nothing_else_and_is_tried_again() {
    let stream = Stream::new("rf_space", TABLES).await;
    let all = |most: u32| format!("--innodb-data-file-path=ibdata1:5M:autoextend:max:{most}M");
    let region = Server::start(&["--innodb-file-per-table=0", &all(30)]);
    drifted(&stream, &region).await;
    let make_room = || region.restart(&["--innodb-file-per-table=0", &all(200)]);
    heals_once_there_is_room(&stream, &region, make_room).await;
}

/// A region whose tables have a disk of 60 MiB, `ballast_mib` of it taken. `None` where this machine lets nobody mount
/// anything; the test above needs no such thing.
async fn on_small_disk(stream: &Stream, ballast_mib: u32) -> Option<Server> {
    let region = Server::start(&[]);
    region.sql(&format!("CREATE DATABASE {}", stream.schema)).await;
    if !region.restart_on_small_disk(stream.schema, 60, ballast_mib) {
        not_tested("restores on a full disk", "no file system can be mounted");
        return None;
    }
    Some(region)
}

#[tokio::test]
async fn a_disk_that_is_full_in_mid_restore_holds_up_nothing_else_and_is_tried_again() {
    let stream = Stream::new("rf_disk", TABLES).await;
    let Some(region) = on_small_disk(&stream, 40).await else { return };
    drifted(&stream, &region).await;
    let make_room = || std::fs::remove_file(region.ballast(stream.schema)).unwrap();
    heals_once_there_is_room(&stream, &region, make_room).await;
}

/// I7: what a killed load has left is dropped before anything else, so that the stream has the room.
#[tokio::test]
async fn shadows_of_a_killed_run_that_fill_the_disk_do_not_stop_the_stream() {
    let stream = Stream::new("rf_left", TABLES).await;
    let Some(region) = on_small_disk(&stream, 1).await else { return };
    drifted(&stream, &region).await;
    let output = stream.run(&region, "restore.rows_loaded=kill");
    assert_eq!(output.status.signal(), Some(9), "{:?}", output.status);
    let mut file = File::options().append(true).open(region.ballast(stream.schema)).unwrap();
    while file.write_all(&[0; 1 << 16]).is_ok() {}
    stream.sql("INSERT INTO @.b VALUES (30, REPEAT('x', 6000000))").await;
    stream.upload().await;
    let output = stream.run(&region, "");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    // There is no room to load again.
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert_eq!(stream.source.checksum(&b(&stream)).await, region.checksum(&b(&stream)).await);
    std::fs::remove_file(region.ballast(stream.schema)).unwrap();
    drop(file);
    let output = stream.run(&region, "");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    stream.assert_equal(&region).await;
    assert_clean(&region).await;
}

/// A new region that runs out of room is a new region still.
#[tokio::test]
async fn a_bootstrap_without_room_is_told_and_carried_on() {
    let stream = Stream::new("rf_boot", TABLES).await;
    stream
        .sql(
            "SET cte_max_recursion_depth = 100000; INSERT INTO @.a (v) WITH RECURSIVE s AS (SELECT 1 n UNION ALL SELECT n + 1 \
             FROM s WHERE n < 9000) SELECT REPEAT(SHA2(n, 256), 15) FROM s; INSERT INTO @.b VALUES (1, 'x')",
        )
        .await;
    dump(&stream, &["a", "b"], FULL).await;
    let all = |most: u32| format!("--innodb-data-file-path=ibdata1:5M:autoextend:max:{most}M");
    let region = Server::start(&["--innodb-file-per-table=0", &all(16)]);
    let output = stream.command_of(&region, &["bootstrap"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && text.contains("the server has no room"),
        "{:?} {text}",
        output.status
    );
    region.restart(&["--innodb-file-per-table=0", &all(200)]);
    let output = stream.command_of(&region, &["bootstrap"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    stream.assert_equal(&region).await;
    assert_clean(&region).await;
}
