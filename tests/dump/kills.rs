use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use tablecast::stream::RequestState;

use super::kit::{ask, dumps, equals, request};
use crate::support::mysql::Server;
use crate::upload::kit::Stream;

/// Every step of a dump, in its order.
const STEPS: [&str; 15] = [
    "dump.requests_running",
    "dump.before_lock",
    "dump.locked",
    "dump.unlocked",
    "dump.snapshot",
    "dump.before_chunk_put",
    "dump.after_chunk_put",
    "dump.before_chunk_put=kill@2",
    "dump.before_manifest_put",
    "dump.after_manifest_put",
    "dump.before_append",
    "upload.before_head_swap",
    "upload.after_head_swap",
    "dump.after_append",
    "dump.before_requests_uploaded",
];

#[tokio::test(flavor = "multi_thread")]
async fn i7_a_dump_killed_at_any_step_is_taken_again_and_leaves_no_lock_behind() {
    let [source, copy] = Server::start_all([&[], &[]]);
    source
        .sql(
            "CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY, name TEXT); CREATE TABLE g.plans (id INT);
             INSERT INTO g.apps VALUES (1, 'a'); INSERT INTO g.plans VALUES (1), (2)",
        )
        .await;
    let stream = Stream::make(&source, &["g.*"], "").await;
    for (n, step) in STEPS.into_iter().enumerate() {
        // Only the swap of the dump's own entry, and not that of a segment before it.
        stream.upload().await.expect("up to date");
        let asked = ask(&stream, &["g.apps", "g.plans"]).await;
        let failpoint = if step.contains('=') { step.to_owned() } else { format!("{step}=kill") };
        let killed = stream.run(&["upload"], &failpoint);
        assert_eq!(killed.status.signal(), Some(9), "{step}: {}", String::from_utf8_lossy(&killed.stderr));

        // Writers and DDL go on at once: nothing has to be waited out, nobody has to clean up.
        let begin = Instant::now();
        source.sql(&format!("INSERT INTO g.apps VALUES ({}, '{step}')", n + 10)).await;
        source.sql(&format!("ALTER TABLE g.plans ADD COLUMN c{n} INT")).await;
        assert!(begin.elapsed() < Duration::from_secs(8), "{step}: {:?}", begin.elapsed());

        let report = stream.upload().await.expect("the next run");
        let done = request(&stream, &asked.id).await;
        assert_eq!(done.state, RequestState::Uploaded, "{step}: {done:?}");
        let taken = dumps(&stream).await;
        let of_request: Vec<_> = taken.iter().filter(|dump| dump.dump.requests.contains(&asked.id)).collect();
        assert_eq!(of_request.len(), 1, "{step}: one request, one dump");
        assert_eq!(Some(of_request[0].seq), done.seq, "{step}");
        // One that had reached the index before the kill is of the moment before.
        if !report.dumps.is_empty() {
            equals(&stream, of_request[0], &source, &copy).await;
            copy.sql("DROP DATABASE g").await;
        }
    }
    let verified = stream.run(&["verify"], "");
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_dump_is_killed_again_and_again_fails_and_lets_others_live() {
    let source = Server::start(&[]);
    source
        .sql("CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY); INSERT INTO g.apps VALUES (1)")
        .await;
    let stream = Stream::make(&source, &["g.apps"], "").await;
    let asked = ask(&stream, &["g.apps"]).await;
    for _ in 0..3 {
        let killed = stream.run(&["upload"], "dump.before_chunk_put=kill");
        assert_eq!(killed.status.signal(), Some(9));
    }
    stream.upload().await.expect("the stream goes on");
    let failed = request(&stream, &asked.id).await;
    assert_eq!(failed.state, RequestState::Failed);
    assert!(failed.error.expect("a reason").contains("killed"));
    ask(&stream, &["g.apps"]).await;
    assert_eq!(stream.upload().await.expect("upload").dumps.len(), 1);
}
