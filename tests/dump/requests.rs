use std::time::{Duration, Instant};

use tablecast::clock::SystemClock;
use tablecast::source::dump::queue::{self, Queued};
use tablecast::stream::RequestState;

use super::kit::{Following, ask, dumps, equals, folders, names, request, try_ask, wait_for};
use crate::support::mysql::Server;
use crate::upload::kit::Stream;

const SETUP: &str = "CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY, name TEXT);
    CREATE TABLE g.plans (id INT PRIMARY KEY); INSERT INTO g.apps VALUES (1, 'a'); INSERT INTO g.plans VALUES (1)";

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_due_become_one_dump() {
    let [source, copy] = Server::start_all([&[], &[]]);
    source.sql(SETUP).await;
    let stream = Stream::make(&source, &["g.*"], "").await;
    let apps = ask(&stream, &["g.apps"]).await;
    let plans = ask(&stream, &["g.plans"]).await;
    let same = try_ask(&stream, &["g.apps"], "eu1").await;
    assert!(matches!(&same, Queued::Joined(there) if there.id == apps.id), "{same:?}");
    stream.upload().await.expect("upload");
    let dumps = dumps(&stream).await;
    assert_eq!(dumps.len(), 1);
    assert_eq!(dumps[0].dump.tables, names(&["g.apps", "g.plans"]).into_iter().collect::<Vec<_>>());
    assert!(!dumps[0].dump.full, "nobody asked for all tables");
    for id in [&apps.id, &plans.id] {
        let done = request(&stream, id).await;
        assert_eq!((done.state, done.dump.as_ref()), (RequestState::Uploaded, Some(&dumps[0].dump.id)));
        assert!(dumps[0].dump.requests.contains(id));
    }
    equals(&stream, &dumps[0], &source, &copy).await;
    // Answered is answered.
    let report = stream.upload().await.expect("upload");
    assert!(report.dumps.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_a_running_dump_joins_it_and_one_for_more_is_taken_next() {
    let source = Server::start(&[]);
    source.sql(SETUP).await;
    let stream = Stream::make(&source, &["g.*"], "[upload]\ninterval = \"100ms\"").await;
    let first = ask(&stream, &["g.apps"]).await;
    let following = Following::start(&stream, "dump.before_manifest_put=sleep:4000");
    wait_for(&stream, &first.id, RequestState::Running).await;
    let same = try_ask(&stream, &["g.apps"], "eu1").await;
    assert!(matches!(&same, Queued::Joined(there) if there.id == first.id), "{same:?}");
    let more = ask(&stream, &["g.apps", "g.plans"]).await;
    assert_ne!(more.id, first.id);
    let first = wait_for(&stream, &first.id, RequestState::Uploaded).await;
    assert_eq!(first.regions, ["eu1", "source"], "told progress does not undo a join");
    wait_for(&stream, &more.id, RequestState::Uploaded).await;
    following.stop();
    assert_eq!(dumps(&stream).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_dump_leaves_the_queue_and_never_reaches_the_index() {
    let source = Server::start(&[]);
    source.sql(SETUP).await;
    let stream = Stream::make(&source, &["g.*"], "[upload]\ninterval = \"100ms\"").await;
    let queued = ask(&stream, &["g.plans"]).await;
    queue::cancel(&*stream.store, &SystemClock, &queued.id, None).await.expect("cancelled");
    let running = ask(&stream, &["g.apps"]).await;
    let following = Following::start(&stream, "dump.before_chunk_put=sleep:8000");
    wait_for(&stream, &running.id, RequestState::Running).await;
    queue::cancel(&*stream.store, &SystemClock, &running.id, None).await.expect("cancelled");
    // It is given up, and the next request finds an upload that works.
    let next = ask(&stream, &["g.plans"]).await;
    wait_for(&stream, &next.id, RequestState::Uploaded).await;
    following.stop();
    for id in [&queued.id, &running.id] {
        assert_eq!(request(&stream, id).await.state, RequestState::Cancelled);
    }
    let dumps = dumps(&stream).await;
    assert_eq!(dumps.len(), 1);
    assert_eq!(dumps[0].dump.requests, [next.id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_that_is_stopped_is_taken_up_by_the_next_run() {
    let source = Server::start(&[]);
    source.sql(SETUP).await;
    let stream = Stream::make(&source, &["g.*"], "[upload]\ninterval = \"100ms\"").await;
    let asked = ask(&stream, &["g.apps"]).await;
    let following = Following::start(&stream, "dump.after_chunk_put=sleep:2000");
    wait_for(&stream, &asked.id, RequestState::Running).await;
    let begin = Instant::now();
    while folders(&stream).await.is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(30), "no chunk comes");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let begin = Instant::now();
    following.stop();
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    let back = request(&stream, &asked.id).await;
    assert_eq!((back.state, back.attempts, &back.dump), (RequestState::Queued, 0, &None));
    stream.upload().await.expect("upload");
    assert_eq!(request(&stream, &asked.id).await.state, RequestState::Uploaded);
    assert_eq!(dumps(&stream).await.len(), 1);
    assert_eq!(folders(&stream).await.len(), 2, "what was begun is left, and `stream prune` removes it");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_are_not_there_any_more_are_said_to_be_gone_and_a_foreign_engine_is_refused() {
    let source = Server::start(&[]);
    source.sql(SETUP).await;
    let stream = Stream::make(&source, &["g.*"], "").await;
    source.sql("SET sql_log_bin = 0; CREATE TABLE g.old (id INT PRIMARY KEY) ENGINE=MyISAM").await;
    let asked = ask(&stream, &["g.apps", "g.old"]).await;
    stream.upload().await.expect("the stream goes on");
    let failed = request(&stream, &asked.id).await;
    assert_eq!(failed.state, RequestState::Failed);
    let error = failed.error.expect("a reason");
    assert!(error.contains("g.old") && error.contains("MyISAM"), "{error}");
    source.sql("SET sql_log_bin = 0; DROP TABLE g.old").await;
    ask(&stream, &["g.apps", "g.old"]).await;
    let report = stream.upload().await.expect("upload");
    let dump = &report.dumps[0].dump;
    assert_eq!(dump.tables, names(&["g.apps", "g.old"]).into_iter().collect::<Vec<_>>());
    let manifest = super::kit::manifest(&stream, &report.dumps[0]).await;
    assert_eq!(manifest.tables.len(), 1);
}

/// A region drops a table that a dump says is gone: that must never be a table which the account cannot see.
#[tokio::test(flavor = "multi_thread")]
async fn i5_a_table_that_the_account_may_not_see_is_never_said_to_be_gone() {
    let source = Server::start(&[]);
    source.sql(SETUP).await;
    let mut stream = Stream::make(&source, &["g.*"], "").await;
    source
        .sql(
            "CREATE USER t; GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO t; GRANT LOCK TABLES ON g.* TO t;
             GRANT SELECT ON performance_schema.* TO t; GRANT SELECT ON g.apps TO t",
        )
        .await;
    stream.config.mysql = source.config_as("t", "");
    let apps = ask(&stream, &["g.apps"]).await;
    let plans = ask(&stream, &["g.plans"]).await;
    stream.upload().await.expect("upload");
    let failed = request(&stream, &plans.id).await;
    assert_eq!(failed.state, RequestState::Failed, "{failed:?}");
    let error = failed.error.expect("a reason");
    assert!(error.contains("g.plans") || error.contains("`g`.`plans`"), "{error}");
    assert_eq!(request(&stream, &apps.id).await.state, RequestState::Uploaded, "the other one is answered");
    let all = ask(&stream, &[]).await;
    stream.upload().await.expect("upload");
    let failed = request(&stream, &all.id).await;
    assert_eq!(failed.state, RequestState::Failed, "{failed:?}");
    assert!(failed.error.expect("a reason").contains("GRANT SELECT, LOCK TABLES, REFERENCES ON `g`.*"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_dump_is_taken_where_nobody_could_see_a_ddl_wait() {
    let source = Server::start(&["--performance-schema-instrument=wait/lock/metadata/sql/mdl=OFF"]);
    source.sql(SETUP).await;
    let stream = Stream::make(&source, &["g.*"], "").await;
    let asked = ask(&stream, &["g.apps"]).await;
    stream.upload().await.expect("upload");
    let failed = request(&stream, &asked.id).await;
    assert_eq!(failed.state, RequestState::Failed, "{failed:?}");
    assert!(failed.error.expect("a reason").contains("setup_instruments"));
}
