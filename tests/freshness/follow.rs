//! `upload --follow` and `apply --follow`, with and without a service that tells: what they ask the store for, and that
//! nothing of the service is needed.

use std::process::Stdio;
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use tablecast::store::{self, head::Read};

use super::kit::{PATIENCE, World, count};
use crate::http::kit::in_s3;
use crate::support::free_port;
use crate::support::s3::Asked;

const LOOK: &str = "apps/index.json";

fn head(asked: &Asked) -> bool {
    asked.kind == "GetObject" && asked.key == LOOK
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_costs_two_puts_and_in_a_region_two_gets() {
    let world = World::new("fr_cost", "interval = \"50ms\"", "").await;
    world.done("source.toml", &["upload"]);
    world.insert(1).await;
    world.done("source.toml", &["upload"]);
    world.done("region.toml", &["apply"]);
    let upload = world.start("source.toml", &["upload", "--follow"]);
    upload.says("shipped", 0).await;
    world.insert(2).await;
    upload.says("shipped", 1).await;
    world.s3.asked();
    for id in 3..8 {
        world.insert(id).await;
        upload.says("shipped", id as usize - 1).await;
    }
    let asked = world.s3.asked();
    assert_eq!(count(&asked, "PutObject", "segments/"), 5, "{asked:?}");
    assert_eq!(count(&asked, "PutObject", LOOK), 5, "{asked:?}");
    // Requests for dumps are looked for, and nothing else is read.
    assert_eq!(
        count(&asked, "GetObject", "apps/segments") + count(&asked, "GetObject", LOOK),
        0,
        "{asked:?}"
    );
    drop(upload);
    // The region takes what is there in one pass, then each as it comes.
    world.s3.asked();
    let port = free_port();
    world.with_service(port, "");
    let service = world.start("serve.toml", &["serve"]);
    service.says("serving", 1).await;
    let _apply = world.start("region.toml", &["apply", "--follow"]);
    world.shows(7).await;
    let asked = world.s3.asked();
    assert_eq!(count(&asked, "GetObject", "segments/"), 6, "each segment once: {asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn following_an_idle_stream_asks_next_to_nothing() {
    let world = World::new("fr_idle", "", "").await;
    world.insert(1).await;
    world.done("source.toml", &["upload"]);
    world.done("region.toml", &["apply"]);
    let upload = world.start("source.toml", &["upload", "--follow"]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.s3.asked();
    tokio::time::sleep(Duration::from_secs(8)).await;
    let asked = world.s3.asked();
    assert_eq!(count(&asked, "PutObject", ""), 0, "{asked:?}");
    // A look at the requests every ten seconds.
    assert!(asked.len() <= 3, "{asked:?}");
    drop(upload);
    // Twenty looks in the first four seconds, and then ever fewer.
    let apply = world.start("region.toml", &["apply", "--follow"]);
    tokio::time::sleep(Duration::from_secs(8)).await;
    let asked = world.s3.asked();
    assert!(asked.iter().all(|asked| head(asked) && asked.conditional), "{asked:?}");
    assert!((2..=40).contains(&asked.len()), "{}", asked.len());
    drop(apply);
    // With the service the bucket is the service's to look at, every 100 ms for two seconds and then less often: some 48
    // times, where it would be 80. The region does so when it begins, and each 25 s.
    let port = free_port();
    world.with_service(port, "poll = \"1h\"");
    let service = world.start("serve.toml", &["serve"]);
    service.says("serving", 1).await;
    let (began, _) = (Instant::now(), world.s3.asked());
    let _apply = world.start("region.toml", &["apply", "--follow"]);
    tokio::time::sleep(Duration::from_secs(8)).await;
    let (asked, took) = (world.s3.asked(), began.elapsed());
    let looks = asked.iter().filter(|asked| head(asked)).count() as u128;
    assert!((2..=65).contains(&looks) || took > Duration::from_secs(15), "{looks} in {took:?}");
    let whole = asked.iter().filter(|asked| head(asked) && !asked.conditional).count();
    assert!(whole <= 1, "the service's first look: {asked:?}");
    assert_eq!(count(&asked, "GetObject", "segments/") + count(&asked, "PutObject", LOOK), 0, "{asked:?}");
}

/// Prepared statements are the server's, not the connection's: who leaves them behind takes them from the applications.
#[tokio::test(flavor = "multi_thread")]
async fn following_leaves_no_prepared_statements_behind() {
    const MOST: u64 = 24;
    let world = World::new("fr_prepared", "interval = \"50ms\"", "poll = \"50ms\"").await;
    world.done("source.toml", &["upload"]);
    for server in [&world.source, &world.region] {
        server.sql(&format!("SET GLOBAL max_prepared_stmt_count = {MOST}")).await;
    }
    let port = free_port();
    world.with_service(port, "poll = \"50ms\"");
    let service = world.start("serve.toml", &["serve"]);
    service.says("serving", 1).await;
    let upload = world.start("source.toml", &["upload", "--follow"]);
    let apply = world.start("region.toml", &["apply", "--follow"]);
    for id in 1..=40 {
        world.arrives(id).await;
    }
    for (server, running) in [(&world.source, &upload), (&world.region, &apply)] {
        assert!(!running.log().contains("max_prepared_stmt_count"), "{}", running.log());
        let status = "SELECT VARIABLE_VALUE FROM performance_schema.global_status WHERE VARIABLE_NAME = 'Prepared_stmt_count'";
        let prepared: String = server.value(status).await;
        assert!(prepared.parse::<u64>().unwrap() < MOST / 2, "{prepared}");
    }
}

/// An idle stream's head is written once a minute, to tell that the source is alive.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_without_entries_is_taken_up_and_is_no_reason_to_doubt_the_service() {
    let world = World::new("fr_as_of", "", "poll = \"1h\"").await;
    world.insert(1).await;
    world.done("source.toml", &["upload"]);
    let port = free_port();
    world.with_service(port, "poll = \"1h\"");
    let service = world.start("serve.toml", &["serve"]);
    service.says("serving", 1).await;
    let apply = world.start("region.toml", &["apply", "--follow"]);
    world.shows(1).await;
    let store = in_s3(&world.s3).await;
    for _ in 0..6 {
        let Ok(Read::Head { mut head, etag }) = store::head::read(&*store, None).await else { panic!() };
        head.as_of += chrono::TimeDelta::seconds(61);
        store::head::write(&*store, &mut head, Some(&etag)).await.unwrap();
        let (begin, wanted) = (Instant::now(), head.as_of.format("%Y-%m-%d %H:%M:%S%.6f").to_string());
        let taken_up = format!("SELECT COUNT(*) FROM tablecast.position WHERE as_of = '{wanted}'");
        while world.region.value::<u64>(&taken_up).await == 0 {
            assert!(begin.elapsed() < PATIENCE, "{wanted}: {}", apply.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    assert!(!apply.log().contains("does not tell"), "{}", apply.log());
}

/// Where commits are synced a run has more workers than are configured; at rest it has not.
#[tokio::test(flavor = "multi_thread")]
async fn a_region_gives_back_the_connections_that_it_has_no_work_for() {
    let world = World::new("fr_rest", "", "").await;
    world.region.sql("SET GLOBAL sync_binlog = 1").await;
    world.insert(1).await;
    world.done("source.toml", &["upload"]);
    let apply = world.start("region.toml", &["apply", "--follow"]);
    world.shows(1).await;
    let become_so = async |what: &str, is_so: fn(u64) -> bool| {
        let begin = Instant::now();
        loop {
            let others = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE id <> CONNECTION_ID() AND user LIKE 'tc\\_%'";
            let there: u64 = world.region.value(others).await;
            if is_so(there) {
                break;
            }
            assert!(begin.elapsed() < PATIENCE, "{there} connections, {what}: {}", apply.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    // As long as nobody may write, each worker is stuck in what it got first, and the next one gets the next.
    let mut reader = world.region.connect().await;
    reader.query_drop("LOCK TABLES fr_rest.t READ").await.unwrap();
    let inserts: String = (2..400).map(|id| format!("INSERT INTO fr_rest.t VALUES ({id});")).collect();
    world.source.sql(&inserts).await;
    world.done("source.toml", &["upload"]);
    become_so("while there is work for more workers", |there| there > 16).await;
    reader.query_drop("UNLOCK TABLES").await.unwrap();
    reader.disconnect().await.unwrap();
    world.shows(399).await;
    // Lock and control, and the four workers that are configured.
    become_so("with nothing to do", |there| there <= 6).await;
    world.insert(400).await;
    world.done("source.toml", &["upload"]);
    world.shows(400).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_is_told_does_not_look_by_itself() {
    // Without being told it would look every hour.
    let world = World::new("fr_told", "interval = \"50ms\"", "poll = \"1h\"").await;
    let port = free_port();
    world.with_service(port, "poll = \"1h\"");
    let service = world.start("serve.toml", &["serve"]);
    service.says("serving", 1).await;
    let _upload = world.start("source.toml", &["upload", "--follow"]);
    let apply = world.start("region.toml", &["apply", "--follow"]);
    for id in 1..=5 {
        world.arrives(id).await;
    }
    assert!(!apply.log().contains("does not tell"), "{}", apply.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_killed_costs_a_region_nothing_but_the_telling() {
    let world = World::new("fr_killed", "interval = \"50ms\"", "").await;
    let port = free_port();
    world.with_service(port, "");
    let service = world.start("serve.toml", &["serve"]);
    service.says("serving", 1).await;
    let _upload = world.start("source.toml", &["upload", "--follow"]);
    let apply = world.start("region.toml", &["apply", "--follow"]);
    world.arrives(1).await;
    service.kill();
    world.arrives(2).await;
    apply.says("does not tell when there is something new", 1).await;
    world.arrives(3).await;
    let service = world.start("serve.toml", &["serve"]);
    apply.says("answers again", 1).await;
    world.arrives(4).await;
    assert_eq!(apply.log().matches("does not tell").count(), 1, "once: {}", apply.log());
    drop(service);
    world.arrives(5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_is_told_once_and_the_region_goes_on() {
    let world = World::new("fr_denied", "interval = \"50ms\"", "").await;
    let port = free_port();
    world.with_service(port, "");
    std::fs::write(world.path("token"), "tablecast_wrong").unwrap();
    let service = world.start("serve.toml", &["serve"]);
    service.says("serving", 1).await;
    let _upload = world.start("source.toml", &["upload", "--follow"]);
    let apply = world.start("region.toml", &["apply", "--follow"]);
    world.arrives(1).await;
    apply.says("does not tell when there is something new", 1).await;
    world.arrives(2).await;
    assert_eq!(apply.log().matches("does not tell").count(), 1, "{}", apply.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_tells_that_it_lives_in_the_midst_of_a_pass_that_takes_long() {
    let world = World::new("fr_lives", "", "").await;
    world.insert(1).await;
    world.done("source.toml", &["upload"]);
    let port = free_port();
    world.with_service(port, "");
    let service = world.start("serve.toml", &["serve"]);
    service.says("serving", 1).await;
    world.done("region.toml", &["apply"]);
    let report = world.s3.keys().into_iter().find(|key| key.contains("regions/eu1")).expect("its report");
    // A session of the region holds up what comes next.
    let mut holder = world.region.connect().await;
    holder.query_drop("LOCK TABLES fr_lives.t READ").await.expect("lock it");
    world.insert(2).await;
    world.done("source.toml", &["upload"]);
    world.s3.remove(&report);
    // Not after a minute: at once.
    let mut apply = world.command("region.toml", &["apply"]);
    apply.env("TABLECAST_FAILPOINTS", "apply.report_is_due=fail").stdout(Stdio::null()).stderr(Stdio::null());
    let mut apply = apply.spawn().expect("run it");
    let began = Instant::now();
    while world.s3.object(&report).is_none() {
        assert!(apply.try_wait().expect("its state").is_none(), "it is held up");
        assert!(began.elapsed() < PATIENCE, "no report has come");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!world.is_shown(2).await && apply.try_wait().expect("its state").is_none(), "it is at work");
    holder.query_drop("UNLOCK TABLES").await.expect("unlock it");
    assert!(apply.wait().expect("its end").success());
    assert!(world.is_shown(2).await);
}
