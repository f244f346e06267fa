//! Restores that wait: for one another, for a reader, and longer each time for whatever makes them fail.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use tablecast::binlog::name::TableName;
use tablecast::store;
use tablecast::stream::{Body, DumpEntry, DumpId, Key, Md5};

use super::kit::{FULL, SOME, Stream, assert_clean, dump, restores};
use crate::support::granted;
use crate::support::mysql::Server;

const TABLES: &str =
    "CREATE TABLE @.a (id INT PRIMARY KEY, v LONGTEXT); CREATE TABLE @.b (id INT PRIMARY KEY, v LONGTEXT)";

async fn applied(schema: &'static str) -> (Stream, Server) {
    let stream = Stream::new(schema, TABLES).await;
    let region = Server::start(&[]);
    for table in ["a", "b"] {
        stream
            .sql(&format!("INSERT INTO @.{table} VALUES (1, 'x'), (2, 'y'), (3, REPEAT('z', 2000000))"))
            .await;
    }
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    dump(&stream, &["a", "b"], FULL).await;
    (stream, region)
}

/// Waits until the region's restores are in these states.
async fn wait_for(region: &Server, states: &[&str]) {
    let begin = Instant::now();
    loop {
        let found: Vec<String> = region.rows("SELECT state FROM tablecast.restore ORDER BY id").await;
        if found == states {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(90), "not {states:?} but {found:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    let ended = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.signal(), Some(9), "it had ended by itself: {:?} {text}", ended.status);
}

/// I5, I7: shadows are named by their table, so the second restore must not begin before the first is at its end,
/// whoever is killed meanwhile.
#[tokio::test]
async fn a_second_restore_of_a_table_that_a_reader_blocks_waits_for_the_first_through_kills() {
    let (stream, region) = applied("rw_second").await;
    let spawn = |arguments: &[&str]| {
        let mut command = stream.command_of(&region, arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut reader = region.connect().await;
    reader.query_drop("BEGIN").await.unwrap();
    reader.query_drop("SELECT COUNT(*) FROM rw_second.a").await.unwrap();
    // What a restore of `a` by itself brings, and what the dump of both brings, differs from what is there.
    region.sql("UPDATE rw_second.b SET v = 'drifted' WHERE id = 1").await;
    let first = spawn(&["restore", "rw_second.a"]);
    wait_for(&region, &["loaded"]).await;
    let second = spawn(&["restore", "--all"]);
    wait_for(&region, &["loaded", "wanted"]).await;
    stream.sql("UPDATE @.a SET v = 'later' WHERE id = 1; UPDATE @.b SET v = 'later' WHERE id = 2").await;
    stream.upload().await;
    // The second takes over the lock, and with it the first's work.
    kill(first);
    let later = "SELECT COUNT(*) FROM rw_second.b WHERE v = 'later'";
    let begin = Instant::now();
    while region.value::<u64>(later).await != 1 {
        assert!(begin.elapsed() < Duration::from_secs(90), "the stream goes on meanwhile");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    wait_for(&region, &["loaded", "wanted"]).await;
    kill(second);
    let shadow: Vec<String> = region
        .rows("SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_NAME LIKE '\\_tablecast\\_%'")
        .await;
    assert_eq!(shadow.len(), 1, "only the first has begun: {shadow:?}");
    // A run from cron does not stay for the reader, and touches neither.
    let output = stream.run(&region, "");
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    wait_for(&region, &["loaded", "wanted"]).await;
    reader.query_drop("COMMIT").await.unwrap();
    let output = stream.run(&region, "");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    stream.assert_equal(&region).await;
    assert_clean(&region).await;
    let done = ("done".to_owned(), "asked".to_owned());
    assert_eq!(restores(&region).await, [done.clone(), done]);
}

/// Attempts, and when the next one is, as the journal tells.
async fn told(region: &Server) -> (u32, String, String) {
    region
        .rows("SELECT attempts, IFNULL(message, ''), CAST(started_at AS CHAR) FROM tablecast.restore")
        .await
        .remove(0)
}

/// Runs from cron, too, leave a restore alone for a while that fails again and again, and say for how long.
#[tokio::test]
async fn a_restore_that_keeps_failing_is_tried_less_and_less_often_and_says_when_next() {
    let (stream, region) = applied("rw_again").await;
    region.sql("DELETE FROM rw_again.a WHERE id = 2; SET GLOBAL max_allowed_packet = 1048576").await;
    stream.sql("UPDATE @.a SET v = 'q' WHERE id = 2").await;
    stream.upload().await;
    for attempt in 1..=4 {
        let output = stream.run(&region, "");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{text}");
        let (attempts, message, _) = told(&region).await;
        assert_eq!(attempts, attempt, "{message}");
        let times = if attempt == 1 { "failed once".to_owned() } else { format!("failed {attempt} times") };
        assert!(message.contains(&times) && message.contains("next try at 20"), "{message}");
        assert!(message.contains("SET PERSIST max_allowed_packet"), "{message}");
    }
    // The fifth run comes too early: it loads nothing, and the stream goes on.
    let (_, _, started) = told(&region).await;
    stream.sql("INSERT INTO @.b VALUES (4, 'more')").await;
    stream.upload().await;
    let output = stream.run(&region, "");
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    let (attempts, _, again) = told(&region).await;
    assert_eq!((attempts, again), (4, started));
    assert_eq!(region.value::<u64>("SELECT COUNT(*) FROM rw_again.b").await, 4);
    // The same minutes later, with the cause gone.
    region
        .sql(
            "SET GLOBAL max_allowed_packet = 67108864; UPDATE tablecast.restore SET started_at = started_at - INTERVAL 10 MINUTE",
        )
        .await;
    let output = stream.run(&region, "");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    stream.assert_equal(&region).await;
    assert_clean(&region).await;
}

/// I5: of a restore whose swap a reader blocks, the table that people see is never set back meanwhile.
#[tokio::test]
async fn a_table_that_waits_for_its_swap_goes_on_with_the_stream() {
    let (stream, region) = applied("rw_goes_on").await;
    let mut reader = region.connect().await;
    reader.query_drop("BEGIN").await.unwrap();
    reader.query_drop("SELECT COUNT(*) FROM rw_goes_on.a").await.unwrap();
    let mut command = stream.command_of(&region, &["restore", "rw_goes_on.a"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for(&region, &["loaded"]).await;
    for n in 1..=3 {
        stream.sql(&format!("UPDATE @.a SET v = '{n}' WHERE id = 1")).await;
        stream.upload().await;
        let begin = Instant::now();
        let seen = format!("SELECT COUNT(*) FROM rw_goes_on.a WHERE id = 1 AND v = '{n}'");
        while region.value::<u64>(&seen).await != 1 {
            assert!(begin.elapsed() < Duration::from_secs(90), "{n} does not arrive");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    reader.query_drop("COMMIT").await.unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    stream.assert_equal(&region).await;
    assert_clean(&region).await;
}

/// A CHECK with a name of its own has to go before its table can be loaded again: not for a dump that is known not to
/// load.
#[tokio::test]
async fn a_table_keeps_its_check_and_goes_on_while_the_only_dump_is_damaged() {
    let stream =
        Stream::new("rw_check", "CREATE TABLE @.a (id INT PRIMARY KEY, CONSTRAINT own CHECK (id > 0))").await;
    let region = Server::start(&[]);
    stream.sql("INSERT INTO @.a VALUES (1), (2)").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    let id = dump(&stream, &["a"], FULL).await;
    let chunk = stream.bucket().join("dumps").join(id.to_string()).join("000000-00000000.sql.gz");
    let rows = std::fs::read(&chunk).unwrap();
    std::fs::remove_file(&chunk).unwrap();
    let restore =
        || stream.command_of(&region, &["restore", "rw_check.a", "--timeout", "1s"]).output().unwrap();
    let output = restore();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("there is no such object"), "{:?} {text}", output.status);
    stream.sql("INSERT INTO @.a VALUES (3)").await;
    stream.upload().await;
    assert!(stream.apply(&region).await.unwrap().quarantined.is_empty());
    stream.assert_equal(&region).await;
    // It is not tried again with that dump; whoever asks anew gets what is whole by then.
    std::fs::write(&chunk, &rows).unwrap();
    region.sql("UPDATE tablecast.restore SET state = 'superseded'").await;
    let output = restore();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    stream.assert_equal(&region).await;
    assert_clean(&region).await;
}

/// Adds so many entries that bring a region nothing: dumps of a table that no region has lost. The number of the last.
async fn lengthen(stream: &Stream, entries: u32) -> u64 {
    let store = store::open(&stream.source_config()).await.unwrap();
    let Ok(store::head::Read::Head { mut head, etag }) = store::head::read(&*store, None).await else {
        panic!("no head")
    };
    let now = head.created_at;
    for n in 0..entries {
        let id = DumpId::new(now, n);
        let dump = DumpEntry {
            manifest: Key::manifest(&id),
            id,
            size: 1,
            md5: Md5::of(b""),
            at: head.last_tx,
            snapshot: head.covered.clone(),
            lacks: None,
            brought: None,
            tables: vec![TableName::new(stream.schema, "b")],
            full: false,
            mandatory: false,
            resync: false,
            rows: 0,
            bytes: 0,
            taken_at: now,
            requests: Vec::new(),
        };
        head.append(Body::Dump(dump), now).unwrap();
    }
    store::head::write(&*store, &mut head, Some(&etag)).await.unwrap();
    head.last_seq.0
}

/// What a dump holds that the region has yet to come to is seen when the region is there, and runs once. The index is so
/// long that the region reads it in three pieces; the dump is loaded while it is at the second.
#[tokio::test(flavor = "multi_thread")]
async fn i5_a_dump_from_ahead_waits_until_the_region_is_there() {
    let (stream, region) = applied("rw_ahead").await;
    let last = lengthen(&stream, 1_600).await;
    stream.sql("INSERT INTO @.a VALUES (4, 'ahead')").await;
    dump(&stream, &["a"], SOME).await;
    let folder = tempfile::tempdir().unwrap();
    let [is_loaded, is_seen] = ["loaded", "seen"].map(|name| folder.path().join(name));
    // Of several connections that load, all but one would wait for the pass that stands still.
    let config = std::fs::read_to_string(stream.region_file(&region, granted::USER, &["@.*"])).unwrap();
    let path = folder.path().join("region.toml");
    std::fs::write(&path, config.replace("[apply]\n", "[apply]\nworkers = 1\n")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tablecast"));
    command.arg("--config").arg(&path).args(["restore", "rw_ahead.a"]);
    let failpoints = format!(
        "apply.before_position=until:{}@700,apply.before_transaction=until:{}",
        is_loaded.display(),
        is_seen.display()
    );
    command.env("TABLECAST_FAILPOINTS", failpoints).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    wait_for(&region, &["loaded"]).await;
    std::fs::write(&is_loaded, "").unwrap();
    // It is looked at behind the second piece; the last thing in the third is the transaction that it is ahead by.
    let begin = Instant::now();
    let mut at = 0;
    while at != last {
        at = region.value("SELECT seq FROM tablecast.position").await;
        let ahead: u64 = region.value("SELECT COUNT(*) FROM rw_ahead.a WHERE id = 4").await;
        assert_eq!(ahead, 0, "a row of the future at entry {at}");
        assert!(begin.elapsed() < Duration::from_secs(300), "it comes no further than entry {at}");
    }
    std::fs::write(&is_seen, "").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    stream.assert_equal(&region).await;
    assert_clean(&region).await;
    assert_eq!(restores(&region).await, [("done".to_owned(), "asked".to_owned())]);
}
