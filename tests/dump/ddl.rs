use std::time::{Duration, Instant};

use tablecast::stream::{RequestState, StreamTx};

use super::kit::{Following, ask, dumps, equals, wait_for};
use crate::support::mysql::Server;
use crate::upload::kit::Stream;

#[tokio::test(flavor = "multi_thread")]
async fn a_ddl_never_waits_for_a_dump_which_is_taken_again_later() {
    let [source, copy] = Server::start_all([&[], &[]]);
    source
        .sql(
            "CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY); INSERT INTO g.apps VALUES (1);
             CREATE TABLE g.plans (id INT PRIMARY KEY); INSERT INTO g.plans VALUES (1)",
        )
        .await;
    let stream = Stream::make(&source, &["g.*"], "[upload]\ninterval = \"100ms\"").await;
    let asked = ask(&stream, &[]).await;
    // Of two chunks the first hangs, as at a slow bucket, for longer than any DDL may wait.
    let following = Following::start(&stream, "dump.before_chunk_put=sleep:9000");
    wait_for(&stream, &asked.id, RequestState::Running).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begin = Instant::now();
    source
        .sql("ALTER TABLE g.apps ADD COLUMN name VARCHAR(10) DEFAULT 'x'; INSERT INTO g.apps VALUES (2, 'y')")
        .await;
    assert!(begin.elapsed() < Duration::from_secs(6), "the ALTER waited {:?}", begin.elapsed());
    let back = wait_for(&stream, &asked.id, RequestState::Queued).await;
    assert!(back.error.as_ref().is_some_and(|error| error.contains("g.apps")), "{back:?}");
    assert!(back.not_before.is_some());
    wait_for(&stream, &asked.id, RequestState::Uploaded).await;
    following.stop();
    let dumps = dumps(&stream).await;
    assert_eq!(dumps.len(), 1);
    assert_eq!(dumps[0].dump.at, StreamTx(2), "the ALTER and the INSERT are in it");
    equals(&stream, &dumps[0], &source, &copy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_is_never_waited_for_at_the_cost_of_others() {
    let source = Server::start(&[]);
    source
        .sql("CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY, n INT); INSERT INTO g.apps VALUES (1, 0), (2, 0)")
        .await;
    let stream = Stream::make(&source, &["g.apps"], "[upload]\ninterval = \"100ms\"").await;
    let mut open = source.connect().await;
    use mysql_async::prelude::Queryable;
    open.query_drop("BEGIN").await.expect("begin");
    open.query_drop("UPDATE g.apps SET n = 1 WHERE id = 1").await.expect("update");
    let asked = ask(&stream, &["g.apps"]).await;
    let following = Following::start(&stream, "");
    wait_for(&stream, &asked.id, RequestState::Running).await;
    // Attempts come and go; nobody waits longer than one of them.
    let mut other = source.connect().await;
    let mut updates = Vec::new();
    for _ in 0..100 {
        let begin = Instant::now();
        other.query_drop("UPDATE g.apps SET n = n + 1 WHERE id = 2").await.expect("update");
        updates.push(begin.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Not the longest one: other tests share this machine, and may keep it from anybody for a moment.
    updates.sort();
    assert!(updates[90] < Duration::from_millis(500), "{updates:?}");
    open.query_drop("COMMIT").await.expect("commit");
    wait_for(&stream, &asked.id, RequestState::Uploaded).await;
    following.stop();
}
