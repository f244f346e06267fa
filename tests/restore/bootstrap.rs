//! New regions: every table from the newest full dump, and then the stream.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::process::Output;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tablecast::binlog::name::TableName;
use tablecast::clock::SystemClock;
use tablecast::source::dump::queue::{self, Known, NewRequest, SOURCE};
use tablecast::store::head::Read;
use tablecast::store::{self, Store};
use tablecast::stream::{DumpRef, Head, RequestId};

use crate::apply::kit::Stream;
use crate::support::granted;
use crate::support::mysql::{HOSTILE, Server};

/// Three tables tied by foreign keys, one without a key, one with much that is particular, and an empty one.
const TABLES: &str = "CREATE TABLE @.plans (id INT PRIMARY KEY, name VARCHAR(40), at TIMESTAMP NULL) COLLATE utf8mb4_0900_ai_ci; \
     CREATE TABLE @.apps (id INT PRIMARY KEY AUTO_INCREMENT, plan INT, v INT NOT NULL DEFAULT 0, KEY (v), CONSTRAINT of_plan \
     FOREIGN KEY (plan) REFERENCES @.plans (id) ON DELETE CASCADE) COLLATE utf8mb4_bin; \
     CREATE TABLE @.hits (app INT, n BIGINT UNSIGNED, f DOUBLE, FOREIGN KEY (app) REFERENCES @.apps (id) ON DELETE SET NULL); \
     CREATE TABLE @.loose (v VARCHAR(20)) CHARACTER SET latin1; \
     CREATE TABLE @.odd (id BINARY(4) PRIMARY KEY, doc JSON, twice INT AS (JSON_LENGTH(doc) * 2) STORED, b BIT(5), \
     CHECK (b > 0), CONSTRAINT odd_bits CHECK (b < 32)); \
     CREATE TABLE @.none (id INT PRIMARY KEY)";

/// 1,200 rows in these.
async fn filled(schema: &'static str) -> Stream {
    let stream = Stream::new(schema, TABLES).await;
    stream
        .sql(
            "INSERT INTO @.plans WITH RECURSIVE s AS (SELECT 1 n UNION ALL SELECT n + 1 FROM s WHERE n < 100) SELECT n, \
             CONCAT('plän ', n), '2024-02-29 12:00:00' FROM s; \
             INSERT INTO @.apps (plan) SELECT 1 + a.id % 90 FROM @.plans a JOIN @.plans b ON b.id <= 5; \
             INSERT INTO @.hits SELECT id, id * 36893488147, id / 7 FROM @.apps WHERE id <= 400; \
             INSERT INTO @.loose SELECT name FROM @.plans; INSERT INTO @.loose SELECT name FROM @.plans WHERE id <= 98; \
             INSERT INTO @.odd (id, doc, b) VALUES (x'00ff2700', '[1, {\"a\": null}]', b'10101'), (x'5c0a0d1a', NULL, NULL)",
        )
        .await;
    let mut rows = 0;
    for table in ["plans", "apps", "hits", "loose", "odd", "none"] {
        rows += stream.source.value::<u64>(&format!("SELECT COUNT(*) FROM {schema}.{table}")).await;
    }
    assert_eq!(rows, 1200);
    stream
}

/// Small changes to everything, some of them cascading.
async fn change(stream: &Stream, n: u64) {
    stream
        .sql(&format!(
            "UPDATE @.apps SET v = v + 1 WHERE id % 50 = {n} % 50; INSERT INTO @.plans VALUES (1000 + {n}, 'new', NOW()); \
             INSERT INTO @.apps (plan) VALUES (1000 + {n}); INSERT INTO @.hits VALUES (LAST_INSERT_ID(), {n}, 0.1); \
             DELETE FROM @.plans WHERE id = {n} % 100; INSERT INTO @.loose VALUES ('x'); DELETE FROM @.loose LIMIT 1; \
             UPDATE @.odd SET doc = JSON_ARRAY({n}), b = 1 + {n} % 30"
        ))
        .await;
}

async fn open(stream: &Stream) -> std::sync::Arc<dyn Store> {
    store::open(&stream.source_config()).await.unwrap()
}

async fn head(stream: &Stream) -> Head {
    match store::head::read(&*open(stream).await, None).await.unwrap() {
        Read::Head { head, .. } => *head,
        Read::Unchanged => unreachable!("nothing was known"),
    }
}

/// Ships what is new, and takes a dump: of all tables if none is named.
async fn dump(stream: &Stream, tables: &[&str]) -> DumpRef {
    let new = NewRequest {
        id: RequestId::new(uuid::Uuid::new_v4().as_u128()),
        has_key: false,
        region: SOURCE.to_owned(),
        tables: tables.iter().map(|table| TableName::new(stream.schema, *table)).collect::<BTreeSet<_>>(),
        all_tables: tables.is_empty(),
        mandatory: false,
        reason: "a new region".to_owned(),
    };
    let store = open(stream).await;
    let known = Known::load(&*store, &stream.source_config().files.cache_dir);
    queue::queue(&*store, &head(stream).await, &SystemClock, &new, &known).await.unwrap();
    stream.upload().await;
    head(stream).await.dumps.last().cloned().expect("a dump")
}

fn run(stream: &Stream, region: &Server, args: &[&str], failpoints: &str) -> Output {
    stream.command_of(region, args).env("TABLECAST_FAILPOINTS", failpoints).output().unwrap()
}

fn bootstrap(stream: &Stream, region: &Server) -> Output {
    run(stream, region, &["bootstrap"], "")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}

fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", said(output));
}

/// Refused with this message and hint, and nothing has changed.
async fn assert_refused(stream: &Stream, region: &Server, code: i32, says: &[&str]) {
    for args in [&["bootstrap", "--dry-run"][..], &["bootstrap"]] {
        let before = stream.state_of_stream(region).await;
        let output = run(stream, region, args, "");
        assert_code(&output, code);
        for part in says {
            assert!(said(&output).contains(part), "{args:?}: {part:?} is not in {}", said(&output));
        }
        assert_eq!(stream.state_of_stream(region).await, before, "{args:?}");
    }
}

/// What the server has of the stream: nothing before the dump, everything behind it (I4).
async fn assert_executed(stream: &Stream, region: &Server, at: u64) {
    let last = head(stream).await.last_tx.0;
    let expected = match last - at {
        0 => String::new(),
        1 => format!("{last}"),
        _ => format!("{}-{last}", at + 1),
    };
    assert_eq!(stream.executed(region).await, expected);
    let rows: Vec<(u64, u64, u64)> =
        region.rows("SELECT seq, last_tx, base_tx FROM tablecast.position").await;
    assert_eq!(rows, [(head(stream).await.last_seq.0, last, at)]);
    let left: Vec<String> = region
        .rows("SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_NAME LIKE '\\_tablecast\\_%'")
        .await;
    assert!(left.is_empty(), "{left:?}");
}

/// Whether a segment ends with the dump's transaction.
fn ends_a_segment(head: &Head, dump: &DumpRef) -> bool {
    head.entries.iter().any(|entry| entry.segment().is_some_and(|segment| segment.last_tx == dump.dump.at))
}

#[tokio::test]
async fn an_empty_region_and_its_replica_become_the_source_while_that_is_written_to() {
    let stream = filled("bs_new").await;
    stream.upload().await;
    let [region, replica] = Server::start_all([HOSTILE, &[]]);
    replica.replicate_from(&region, "").await;
    let (stop, n) = (AtomicBool::new(false), AtomicU64::new(0));
    let write = async {
        while !stop.load(Ordering::Relaxed) {
            change(&stream, n.fetch_add(1, Ordering::Relaxed)).await;
        }
    };
    let work = async {
        let dump = loop {
            let dump = dump(&stream, &[]).await;
            let head = head(&stream).await;
            // Only some of these lie in the middle of a segment, and that is what is wanted here.
            if !ends_a_segment(&head, &dump) || head.dumps.len() > 20 {
                assert!(!ends_a_segment(&head, &dump), "20 dumps, and none in the middle of a segment");
                break dump;
            }
        };
        stream.upload().await;
        let dry = run(&stream, &region, &["bootstrap", "--dry-run"], "");
        assert_code(&dry, 0);
        assert!(said(&dry).contains(&format!("from dump {}", dump.dump.id)), "{}", said(&dry));
        let schemas: Vec<String> = region.rows("SHOW DATABASES").await;
        assert!(!schemas.iter().any(|schema| schema == "bs_new" || schema == "tablecast"), "{schemas:?}");
        let config = (stream.schema, region.port);
        let output = {
            let mut command = stream.command_of(&region, &["bootstrap"]);
            tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
        };
        assert_code(&output, 0);
        assert!(said(&output).contains("rows from dump"), "{config:?}: {}", said(&output));
        stop.store(true, Ordering::Relaxed);
        dump
    };
    let (dump, ()) = tokio::join!(work, write);
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    stream.assert_equal(&region).await;
    assert_executed(&stream, &region, dump.dump.at.0).await;
    replica.catch_up(&region).await;
    stream.assert_equal(&replica).await;
    let rows: Vec<(u64, u64)> = replica.rows("SELECT last_tx, base_tx FROM tablecast.position").await;
    assert_eq!(rows, [(head(&stream).await.last_tx.0, dump.dump.at.0)]);
}

#[tokio::test]
async fn behind_a_bootstrap_the_region_is_one_like_any_other() {
    let stream = filled("bs_then").await;
    change(&stream, 1).await;
    let at = dump(&stream, &[]).await.dump.at.0;
    let region = Server::start(&[]);
    assert_code(&bootstrap(&stream, &region), 0);
    stream.assert_equal(&region).await;
    assert_executed(&stream, &region, at).await;
    // A second one is refused, and says what to run instead.
    assert_refused(&stream, &region, 1, &["has a position already", "tablecast apply"]).await;
    for n in 2..5 {
        change(&stream, n).await;
        stream
            .sql(&format!("ALTER TABLE @.apps ADD COLUMN c{n} INT; CREATE TABLE @.t{n} (id INT PRIMARY KEY)"))
            .await;
        stream.upload().await;
        let report = stream.apply(&region).await.unwrap();
        assert!(report.quarantined.is_empty(), "{:?}", report.quarantined);
        stream.assert_equal(&region).await;
    }
    assert_executed(&stream, &region, at).await;
    let report = stream.apply(&region).await.unwrap();
    assert_eq!((report.transactions, report.entries), (0, 0));
    let status = run(&stream, &region, &["status"], "");
    assert_code(&status, 0);
}

#[tokio::test]
async fn a_region_that_is_not_empty_is_refused_with_the_list() {
    let stream = filled("bs_full").await;
    stream.upload().await;
    let region = Server::start(&[]);
    // A copy as mysqldump makes it.
    let copy = crate::support::mysql::script(
        &[
            "tool",
            "mysqldump",
            "--host=127.0.0.1",
            &format!("--port={}", stream.source.port),
            "--user=root",
            "--set-gtid-purged=OFF",
            "--single-transaction",
            "bs_full",
            "apps",
            "plans",
            "none",
        ],
        b"",
    )
    .unwrap();
    region.sql("CREATE DATABASE bs_full").await;
    region.client(&["bs_full"], &copy.stdout).unwrap();
    assert_refused(&stream, &region, 1, &["no full dump", "tablecast dump take --all-tables"]).await;
    dump(&stream, &["apps", "plans", "hits"]).await;
    assert_refused(&stream, &region, 1, &["no full dump"]).await;
    dump(&stream, &[]).await;
    assert_refused(&stream, &region, 1, &["bs_full.apps, bs_full.plans", "DROP"]).await;
    // Also one that the dump does not hold, but this region's list does.
    region.sql("DROP DATABASE bs_full; CREATE DATABASE bs_full; CREATE TABLE bs_full.mine SELECT 1 a").await;
    assert_refused(&stream, &region, 1, &["bs_full.mine"]).await;
    // What is empty is nobody's.
    region.sql("DROP TABLE bs_full.mine; CREATE TABLE bs_full.apps (other INT)").await;
    assert_code(&bootstrap(&stream, &region), 0);
    stream.assert_equal(&region).await;
    // One that has been applied to is no new region.
    let region = Server::start(&[]);
    let stream = Stream::new("bs_applied", "CREATE TABLE @.t (id INT PRIMARY KEY)").await;
    stream.sql("INSERT INTO @.t VALUES (1)").await;
    dump(&stream, &[]).await;
    stream.apply(&region).await.unwrap();
    assert_refused(&stream, &region, 1, &["has a position already", "tablecast restore --all"]).await;
}

/// As docs/runbooks/rebuild-a-region.md has it. What the server has run once it does not run again (I4), so the dump must
/// hold all of that (I5).
#[tokio::test]
async fn a_region_is_made_again_on_its_own_server_from_a_dump_that_holds_all_it_has_run() {
    let stream = filled("bs_again").await;
    dump(&stream, &[]).await;
    change(&stream, 1).await;
    stream.upload().await;
    let region = Server::start(&[]);
    stream.apply(&region).await.unwrap();
    region
        .sql(
            "SET foreign_key_checks=0; DROP DATABASE bs_again; DELETE FROM tablecast.position WHERE name = 'bs_again'; DELETE \
             FROM tablecast.quarantine WHERE name = 'bs_again'; DELETE FROM tablecast.restore WHERE name = 'bs_again'",
        )
        .await;
    assert_refused(
        &stream,
        &region,
        10,
        &["those between would be missing", "tablecast dump take --all-tables"],
    )
    .await;
    change(&stream, 2).await;
    let at = dump(&stream, &[]).await.dump.at.0;
    change(&stream, 3).await;
    stream.upload().await;
    assert_code(&bootstrap(&stream, &region), 0);
    stream.assert_equal(&region).await;
    let rows: Vec<(u64, u64)> = region.rows("SELECT last_tx, base_tx FROM tablecast.position").await;
    assert_eq!(rows, [(head(&stream).await.last_tx.0, at)]);
}

#[tokio::test]
async fn the_source_or_a_copy_of_it_is_no_new_region() {
    let stream = Stream::new("bs_self", "CREATE TABLE @.t (id INT PRIMARY KEY)").await;
    stream.sql("INSERT INTO @.t VALUES (1); DELETE FROM @.t").await;
    dump(&stream, &[]).await;
    let before = stream.tables(stream.source).await;
    for args in [&["bootstrap", "--dry-run"][..], &["bootstrap"]] {
        let output = run(&stream, stream.source, args, "");
        assert_code(&output, 10);
        assert!(said(&output).contains("the stream's source"), "{}", said(&output));
    }
    assert_eq!(stream.tables(stream.source).await, before);
}

#[tokio::test]
async fn a_list_that_has_no_table_of_the_dump_is_told_before_anything_is_made() {
    let stream = filled("bs_list").await;
    dump(&stream, &[]).await;
    let region = Server::start(&[]);
    let file = stream.region_file(&region, granted::USER, &["@.another"]);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tablecast"));
    let output = command.arg("--config").arg(file).arg("bootstrap").output().unwrap();
    assert_code(&output, 15);
    assert!(said(&output).contains("this region's list has none of its tables"), "{}", said(&output));
    assert!(said(&output).contains("add those that this region is to have to `tables`"), "{}", said(&output));
    let schemas: Vec<String> = region.rows("SHOW DATABASES LIKE 'bs\\_list'").await;
    assert!(schemas.is_empty());
}

#[tokio::test]
async fn history_before_the_dump_is_not_needed() {
    let stream = filled("bs_pruned").await;
    for n in 0..4 {
        change(&stream, n).await;
        stream.upload().await;
    }
    let at = dump(&stream, &[]).await.dump.at.0;
    change(&stream, 9).await;
    stream.upload().await;
    let mut prune = std::process::Command::new(env!("CARGO_BIN_EXE_tablecast"));
    let args = ["stream", "prune", "--keep", "0s", "--keep-entries", "1", "--no-reports"];
    let output = prune.arg("--config").arg(stream.source_file()).args(args).output().unwrap();
    assert_code(&output, 0);
    let floor = head(&stream).await.floor.expect("something was pruned");
    assert_eq!(floor.tx.0, at);
    let region = Server::start(&[]);
    assert_code(&bootstrap(&stream, &region), 0);
    stream.assert_equal(&region).await;
    assert_executed(&stream, &region, at).await;
    change(&stream, 10).await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    stream.assert_equal(&region).await;
}

#[tokio::test]
async fn a_stream_that_begins_with_a_dump_and_tables_that_have_gone_since() {
    // The dump is the stream's first entry.
    let stream = filled("bs_first").await;
    let first = Stream::of_set(
        "bs_begin",
        "CREATE TABLE @.t (id INT PRIMARY KEY); CREATE TABLE @.u (id INT PRIMARY KEY); INSERT INTO @.t VALUES (7)",
        &["@.t", "@.u"],
    )
    .await;
    first.sql("INSERT INTO @.t VALUES (1)").await;
    dump(&first, &[]).await;
    first.sql("DROP TABLE @.u").await;
    let at = dump(&first, &[]).await.dump.at.0;
    let region = Server::start(HOSTILE);
    // The pages have doctor come before bootstrap: that the tables are not there yet is no failure then.
    let doctor = said(&run(&first, &region, &["doctor"], ""));
    assert!(doctor.contains("warn  definitions"), "{doctor}");
    assert!(doctor.contains("`tablecast bootstrap` fills it"), "{doctor}");
    assert_code(&bootstrap(&first, &region), 0);
    first.assert_equal(&region).await;
    assert_executed(&first, &region, at).await;
    // Two streams share the region.
    let at = dump(&stream, &[]).await.dump.at.0;
    assert_code(&bootstrap(&stream, &region), 0);
    stream.assert_equal(&region).await;
    let base: u64 = region.value("SELECT base_tx FROM tablecast.position WHERE name = 'bs_first'").await;
    assert_eq!(base, at);
}

/// Kills a bootstrap at each of these points, each in a region of its own, and runs it again (I7).
async fn kill_at(schema: &'static str, failpoints: &[&str]) {
    let stream = filled(schema).await;
    let at = dump(&stream, &[]).await.dump.at.0;
    for n in 1..4 {
        change(&stream, n).await;
        stream.upload().await;
    }
    for failpoint in failpoints {
        let region = Server::start(&[]);
        let output = run(&stream, &region, &["bootstrap"], &format!("{failpoint}=kill"));
        assert_eq!(output.status.signal(), Some(9), "{failpoint}: {}", said(&output));
        let output = bootstrap(&stream, &region);
        assert_code(&output, 0);
        stream.assert_equal(&region).await;
        assert_executed(&stream, &region, at).await;
        let states: Vec<String> = region.rows("SELECT state FROM tablecast.restore").await;
        assert_eq!(states, ["done"], "{failpoint}");
    }
}

#[tokio::test]
async fn a_bootstrap_killed_before_its_rows_are_there_is_carried_on() {
    kill_at(
        "bs_kill_load",
        &[
            "bootstrap.position_made",
            "bootstrap.wanted",
            "restore.begun",
            "restore.shadows_made",
            "restore.before_chunk_commit",
            "restore.chunk_loaded",
            "restore.rows_loaded",
            "restore.rows_checked",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_bootstrap_killed_around_its_swap_is_carried_on() {
    kill_at(
        "bs_kill_swap",
        &[
            "restore.keys_built",
            "restore.loaded",
            "restore.triggers_carried",
            "restore.before_rename",
            "restore.after_rename",
            "restore.old_dropped",
            "restore.keys_named",
            "restore.before_done",
            "restore.done",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_bootstrap_killed_in_the_stream_is_carried_on() {
    kill_at(
        "bs_kill_stream",
        &[
            "apply.after_download",
            "apply.before_transaction",
            "apply.after_commit",
            "apply.before_position",
            "apply.after_position",
        ],
    )
    .await;
}
