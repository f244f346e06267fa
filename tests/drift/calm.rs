//! No false alarm: whatever goes on at the source and in the stream, a region whose rows are the source's finds them so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::kit::{OFTEN, bucket, checks, compare, differences, head, known, round, slice};
use crate::apply::kit::Stream;
use crate::ops::kit::PATIENCE;
use crate::support::mysql::Server;

const TABLES: &str = "CREATE TABLE @.a (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(60), at TIMESTAMP(3) NULL, f DOUBLE, \
     twice INT GENERATED ALWAYS AS (LENGTH(name) * 2) VIRTUAL); \
     CREATE TABLE @.b (name VARCHAR(60) COLLATE utf8mb4_0900_ai_ci PRIMARY KEY, n INT); \
     CREATE TABLE @.c (id INT PRIMARY KEY, doc JSON, bits VARBINARY(200))";

/// Writers at the source until it is dropped.
struct Busy(Arc<AtomicBool>, Vec<tokio::task::JoinHandle<u64>>);

impl Busy {
    fn at(stream: &Stream, writers: u64) -> Busy {
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = (0..writers).map(|writer| {
            let (stop, source, schema) = (stop.clone(), stream.source, stream.schema);
            tokio::spawn(async move {
                let mut n = writer;
                while !stop.load(Ordering::Relaxed) {
                    let (row, of) = (n * 7 % 400, n % 50);
                    let statement = match n % 8 {
                        0 => format!("INSERT INTO @.a (name, at, f) VALUES ('n{n}', NOW(3), RAND() / 3)"),
                        1 => format!(
                            "UPDATE @.a SET name = REPEAT('é', {of}), f = f * 1.1 WHERE id % 50 = {of}"
                        ),
                        2 => "DELETE FROM @.a ORDER BY id LIMIT 3".to_owned(),
                        3 => {
                            format!("INSERT INTO @.b VALUES ('k{row}', 1) ON DUPLICATE KEY UPDATE n = n + 1")
                        }
                        4 => {
                            "BEGIN; UPDATE @.b SET n = n + 1; DELETE FROM @.b WHERE n > 20; COMMIT".to_owned()
                        }
                        5 => format!(
                            "REPLACE INTO @.c VALUES ({row}, '[{n}, 1.50]', RANDOM_BYTES({}))",
                            of + 1
                        ),
                        6 => format!(
                            "UPDATE @.c SET doc = JSON_ARRAY_APPEND(doc, '$', {n}) WHERE id % 5 = {}",
                            of % 5
                        ),
                        _ => match n % 200 {
                            7 => format!("ALTER TABLE @.c ADD COLUMN x{n} INT DEFAULT {n}"),
                            _ => "INSERT INTO @.a (name) SELECT name FROM @.a LIMIT 2".to_owned(),
                        },
                    };
                    // Two that are in each other's way: the next one.
                    let _ = source.try_sql(&statement.replace('@', schema)).await;
                    n += writers;
                }
                n
            })
        });
        let tasks = tasks.collect();
        Busy(stop, tasks)
    }

    async fn end(self) {
        self.0.store(true, Ordering::Relaxed);
        for task in self.1 {
            assert!(task.await.unwrap() > 50, "the writer wrote");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_and_ddl_at_the_source_while_both_sides_follow_are_no_difference() {
    let stream = Stream::new("drift_busy", TABLES).await;
    let region = Server::start(&["--default-time-zone=-07:00"]);
    let file = stream.source_file();
    let config = file.with_file_name("checking.toml");
    std::fs::write(&config, std::fs::read_to_string(&file).unwrap() + OFTEN).unwrap();
    let log = file.with_file_name("both.log");
    let start = |mut command: std::process::Command| {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        command.stderr(log).stdout(std::process::Stdio::null()).spawn().unwrap()
    };
    let mut upload = start(crate::ops::kit::command(&config, &["upload", "--follow"]));
    let mut apply = start(stream.command_of(&region, &["apply", "--follow"]));
    let busy = Busy::at(&stream, 4);
    let begin = Instant::now();
    let compared = async || {
        let known = known(&stream, &region).await;
        let whole =
            known.iter().filter(|table| table.same.as_ref().is_some_and(|same| same.tx > 200)).count();
        (known, whole)
    };
    loop {
        let (known, whole) = compared().await;
        let drifted: Vec<_> = known.iter().filter(|table| table.drift.is_some()).collect();
        assert!(drifted.is_empty(), "{drifted:?}\n{}", std::fs::read_to_string(&log).unwrap());
        if whole == 3 && checks(&stream).await.len() > 5 {
            break;
        }
        let text = || std::fs::read_to_string(&log).unwrap();
        assert!(begin.elapsed() < PATIENCE, "{known:?}\n{}", text());
        assert!(upload.try_wait().unwrap().is_none() && apply.try_wait().unwrap().is_none(), "{}", text());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    busy.end().await;
    for child in [&mut upload, &mut apply] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // And one that begins now, from the first entry on, compares with what was then.
    let late = Server::start(&[]);
    let all = compare(&stream, &late).await;
    assert_eq!(differences(&all), [""; 0]);
    assert_eq!(stream.tables(stream.source).await, stream.tables(&late).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_is_far_behind_compares_at_exactly_the_transaction_of_the_check() {
    let stream = Stream::new("drift_behind", TABLES).await;
    let region = Server::start(&[]);
    stream.sql("INSERT INTO @.a (name) VALUES ('one'), ('two'); INSERT INTO @.b VALUES ('k', 1)").await;
    round(&stream, Duration::from_secs(5)).await;
    for n in 0..3 {
        stream
            .sql(&format!("UPDATE @.a SET name = '{n}'; DELETE FROM @.b; ALTER TABLE @.b ADD x{n} INT"))
            .await;
        assert!(round(&stream, Duration::from_secs(5)).await > 0);
        stream.sql("INSERT INTO @.b (name, n) VALUES ('k', 2)").await;
    }
    stream.upload().await;
    let checks = checks(&stream).await;
    // A round that a busy machine cuts into several is behind one transaction all the same.
    assert!(checks.len() >= 4);
    stream.apply(&region).await.unwrap();
    let known = known(&stream, &region).await;
    assert_eq!(differences(&known), [""; 0]);
    let last = &checks.last().unwrap().1;
    assert!(known.iter().all(|table| table.tx == last.at.0), "{known:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_quarantine_or_defined_otherwise_is_passed_over() {
    let stream = Stream::new("drift_passed", TABLES).await;
    let region = Server::start(&[]);
    stream.sql("INSERT INTO @.a (name) VALUES ('one'); INSERT INTO @.b VALUES ('k', 1)").await;
    compare(&stream, &region).await;
    region.sql("DELETE FROM drift_passed.a; DELETE FROM drift_passed.b").await;
    stream.sql("UPDATE @.a SET name = 'two'").await;
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    region.sql("ALTER TABLE drift_passed.c ADD COLUMN own INT").await;
    round(&stream, Duration::from_secs(5)).await;
    stream.apply(&region).await.unwrap();
    let found = known(&stream, &region).await;
    let drifted: Vec<_> =
        found.iter().filter(|table| table.drift.is_some()).map(|table| &*table.table.table).collect();
    assert_eq!(drifted, ["b"], "{found:?}");
}

/// The older region would stop at such an entry.
#[tokio::test(flavor = "multi_thread")]
async fn no_check_is_taken_while_a_region_reports_that_does_not_know_them() {
    let stream = Stream::new("drift_older", TABLES).await;
    let head = head(&stream).await;
    let format = tablecast::stream::Format { major: 1, minor: 3 };
    let report = tablecast::stream::RegionReport { format, ..crate::support::report_of("eu1", head.stream) };
    let key = tablecast::stream::Key::region("eu1").unwrap();
    let store = bucket(&stream).await;
    let etag = store.swap(&key, &report.to_json().unwrap(), None).await.unwrap();
    slice(&stream, Duration::from_secs(5)).await;
    assert_eq!(checks(&stream).await.len(), 0);
    let report = crate::support::report_of("eu1", head.stream);
    store.swap(&key, &report.to_json().unwrap(), Some(&etag)).await.unwrap();
    slice(&stream, Duration::from_secs(5)).await;
    assert_eq!(checks(&stream).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mini_replica_as_source_is_checked_while_it_replicates() {
    use crate::processor::kit::{FILTERS, SETUP, TABLES, World, primary_section};
    let [primary, mini] = Server::start_all([&[], &[]]);
    primary.sql(SETUP).await;
    mini.replicate_from(&primary, FILTERS).await;
    mini.catch_up(&primary).await;
    let world = World::of(&mini, &format!("{}{OFTEN}", primary_section(&primary)), &TABLES).await;
    primary.sql("INSERT INTO g.apps (name) VALUES ('one'), ('two'); INSERT INTO private.t VALUES (1)").await;
    for n in 0..20 {
        primary.sql(&format!("UPDATE g.apps SET v = {n}; INSERT INTO g.plans (price) VALUES ({n})")).await;
        world.runs(&["upload"], 0);
    }
    mini.catch_up(&primary).await;
    world.runs(&["verify", "--rows"], 0);
    world.regions_are_equal_to(&primary, &TABLES).await;
    for region in &world.regions {
        let name = &world.stream.config.stream;
        let all = tablecast::region::checked::list(&mut region.connect().await, name).await.unwrap();
        assert_eq!((differences(&all), all.len()), (vec![], 2));
    }
}
