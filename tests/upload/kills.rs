//! I7: `kill -9` at any instant, then a rerun; and two uploads at once.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use mysql_async::prelude::Queryable;
use tablecast::binlog::segment::{Item, SegmentReader};
use tablecast::clock::SystemClock;
use tablecast::error::{Error, Kind, Result};
use tablecast::source::upload;
use tablecast::store::{Body, Download, Etag, Fetched, Listed, Stat, Store};

use tablecast::stream::{Key, Seq, StreamTx};

use super::kit::{Bucket, OURS, Stream, once, ours};
use crate::support::mysql::Server;

const SETUP: &str = "CREATE DATABASE g; CREATE TABLE g.apps (id INT AUTO_INCREMENT PRIMARY KEY, name TEXT); \
     CREATE DATABASE private; CREATE TABLE private.t (id INT AUTO_INCREMENT PRIMARY KEY)";

/// Some other server.
const ELSEWHERE: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

/// Small segments, so that a run writes several.
const SMALL: &str = "[upload]\nsegment_bytes = \"1KiB\"";

async fn work(server: &Server, transactions: u32) {
    let mut conn = server.connect().await;
    for number in 0..transactions {
        let (tag, insert) = match number % 3 {
            0 => ("AUTOMATIC", "INSERT INTO private.t VALUES ()"),
            _ => ("AUTOMATIC:ours", "INSERT INTO g.apps (name) VALUES (REPEAT('x', 100)), ('y')"),
        };
        conn.query_drop(format!("SET gtid_next = '{tag}'")).await.expect("a tag");
        conn.query_drop(insert).await.expect("insert");
    }
    conn.query_drop("SET gtid_next = 'AUTOMATIC:ours'").await.expect("a tag");
    conn.query_drop(format!("ALTER TABLE g.apps COMMENT = '{transactions}'")).await.expect("alter");
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_an_upload_killed_at_any_failpoint_loses_nothing_and_doubles_nothing() {
    let server = Server::start(&[]);
    server.sql(SETUP).await;
    let stream = Stream::make(&server, &["g.apps"], SMALL).await;
    for point in [
        "after_lock",
        "in_transaction",
        "before_segment_put",
        "after_segment_put",
        "before_head_swap",
        "after_head_swap",
    ] {
        for at in [1, 3] {
            work(&server, 12).await;
            let failpoint = format!("upload.{point}=kill@{}", if point == "after_lock" { 1 } else { at });
            let killed = stream.run(&["upload", "--lock-wait", "60s"], &failpoint);
            assert_eq!(killed.status.signal(), Some(9), "{failpoint}: {killed:?}");
            stream.shipped().await;
            let rerun = stream.run(&["upload", "--lock-wait", "60s"], "");
            assert!(rerun.status.success(), "after {failpoint}: {rerun:?}");
            let executed = server.gtid_executed().await;
            stream.holds_exactly(&ours(&executed), &executed).await;
        }
    }
    let left: Vec<_> = std::fs::read_dir(stream.spool_dir()).expect("the spool").flatten().collect();
    assert!(left.is_empty(), "nobody cleans up: {left:?}");
}

/// One that is compressed while it is read, and whose object goes in parts.
#[tokio::test(flavor = "multi_thread")]
async fn i7_a_large_transaction_survives_kills_while_it_is_read_and_while_its_parts_are_sent() {
    let server = Server::start(&[]);
    server.sql("CREATE DATABASE g; CREATE TABLE g.apps (id INT PRIMARY KEY, body BLOB)").await;
    let bucket = Bucket::make_with(&server, "g.apps", "[upload]\ncodec = \"zstd\"\n");
    let large =
        "INSERT INTO g.apps WITH RECURSIVE s AS (SELECT 2 n UNION ALL SELECT n + 1 FROM s WHERE n < 36000)
         SELECT n, RANDOM_BYTES(1024) FROM s";
    server
        .sql(&format!(
            "INSERT INTO g.apps VALUES (1, 'a'); SET SESSION cte_max_recursion_depth = 100000; {large};
             INSERT INTO g.apps VALUES (100001, 'z')"
        ))
        .await;
    for point in ["upload.in_large", "upload.in_large=kill@9", "s3.after_part=kill@2", "s3.before_complete"] {
        let failpoint = if point.contains('=') { point.to_owned() } else { format!("{point}=kill") };
        // The server may not have noticed yet that the last one is gone.
        let killed = bucket.run_armed(&["upload", "--lock-wait", "60s"], &failpoint);
        assert_eq!(killed.status.signal(), Some(9), "{failpoint}: {killed:?}");
    }
    assert_eq!(bucket.s3.unfinished().len(), 2, "of the two that were killed among their parts");
    bucket.succeeds(&["upload", "--lock-wait", "60s"]);
    bucket.succeeds(&["verify"]);
    let mut numbers = Vec::new();
    for key in bucket.s3.keys().into_iter().filter(|key| key.contains("/segments/")) {
        let packed = bucket.s3.object(&key).expect("it was listed");
        let input = zstd::Decoder::new(&packed[..]).expect("zstd");
        let mut reader = SegmentReader::new(input, None).expect("a segment");
        while let Some(item) = reader.next().expect("a sound segment") {
            if let Item::Begin(transaction) = item {
                numbers.push((transaction.n, transaction.length > 30 << 20));
            }
        }
    }
    assert_eq!(numbers, [(1, false), (2, true), (3, false)], "I3: each once");
    let spool: Vec<_> = std::fs::read_dir(bucket.folder.path().join("spool")).expect("a folder").collect();
    assert!(spool.is_empty(), "nobody cleans up: {spool:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_an_upload_killed_while_it_seals_a_page_goes_on() {
    let server = Server::start(&[]);
    server.sql(SETUP).await;
    let stream = Stream::make(&server, &["g.apps"], SMALL).await;
    // A long past that nobody has to look at, and one entry more than a head may hold.
    let mut conn = server.connect().await;
    for n in 1..=1000 {
        conn.query_drop(format!("SET gtid_next = '{ELSEWHERE}:{n}'; BEGIN; COMMIT")).await.expect("a GTID");
    }
    stream.pretend(ELSEWHERE, 1000).await;
    server.sql(&format!("{OURS} INSERT INTO g.apps (name) VALUES ('a')")).await;
    for point in ["before_page_put", "after_page_put"] {
        let killed = stream.run(&["upload", "--lock-wait", "60s"], &format!("upload.{point}=kill"));
        assert_eq!(killed.status.signal(), Some(9), "{point}: {killed:?}");
        assert_eq!(stream.head().await.entries.len(), 1000, "{point}");
    }
    assert!(stream.run(&["upload", "--lock-wait", "60s"], "").status.success());
    let head = stream.head().await;
    assert_eq!(head.page.as_ref().map(|page| (page.first, page.last)), Some((Seq(1), Seq(500))));
    let entries = stream.entries().await;
    assert_eq!((entries.len(), head.last_tx), (1001, StreamTx(1001)));
    assert!(server.gtid_executed().await.is_subset(&head.covered));
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_following_uploads_killed_at_random_moments_under_load() {
    let server = Server::start(&[]);
    server.sql(SETUP).await;
    let stream =
        Stream::make(&server, &["g.apps"], "[upload]\nsegment_bytes = \"4KiB\"\ninterval = \"50ms\"").await;
    let done = AtomicBool::new(false);
    let load = async {
        while !done.load(Ordering::Relaxed) {
            work(&server, 40).await;
        }
    };
    let kills = async {
        for round in 0..50u64 {
            let mut child =
                stream.program(&["upload", "--follow"]).stderr(Stdio::null()).spawn().expect("tablecast");
            tokio::time::sleep(Duration::from_millis(60 + round * 37 % 300)).await;
            child.kill().expect("kill");
            child.wait().expect("wait");
        }
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(load, kills);
    let last = stream.run(&["upload", "--lock-wait", "60s"], "");
    assert!(last.status.success(), "{last:?}");
    let executed = server.gtid_executed().await;
    stream.holds_exactly(&ours(&executed), &executed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_uploads_at_once_one_works_and_the_other_exits_11() {
    let server = Server::start(&[]);
    server.sql(SETUP).await;
    let stream = Stream::make(&server, &["g.apps"], "").await;
    server.sql(&format!("{OURS} INSERT INTO g.apps (name) VALUES ('a')")).await;
    let first = stream
        .program(&["upload"])
        .env("TABLECAST_FAILPOINTS", "upload.before_head_swap=sleep:3000")
        .spawn()
        .expect("tablecast");
    while stream.store.list("segments/").await.expect("a listing").is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let second = stream.run(&["upload"], "");
    assert_eq!(second.status.code(), Some(11), "{second:?}");
    assert!(first.wait_with_output().expect("wait").status.success());
    let executed = server.gtid_executed().await;
    stream.holds_exactly(&ours(&executed), &executed).await;
}

/// Without the lock (two different sources of one stream) the compare-and-swap decides, and the loser starts
/// again from the head that won.
#[tokio::test(flavor = "multi_thread")]
async fn i3_the_loser_of_a_swap_reads_again_and_doubles_nothing() {
    let [primary, replica] = Server::start_all([&[], &[]]);
    primary.sql(SETUP).await;
    replica.replicate_from(&primary, "").await;
    let mut stream = Stream::make(&primary, &["g.apps"], "").await;
    work(&primary, 10).await;
    replica.catch_up(&primary).await;
    let slow = stream
        .program(&["upload"])
        .env("TABLECAST_FAILPOINTS", "upload.before_head_swap=sleep:2000")
        .spawn()
        .expect("tablecast");
    while stream.store.list("segments/").await.expect("a listing").is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stream.read_from(&replica);
    stream.upload().await.expect("the fast one wins");
    assert!(slow.wait_with_output().expect("wait").status.success());
    let executed = primary.gtid_executed().await;
    stream.holds_exactly(&ours(&executed), &executed).await;
}

/// A store that carries out a swap and then says otherwise, once.
struct Forgetful {
    inner: Arc<dyn Store>,
    says: Mutex<Option<Kind>>,
}

#[async_trait]
impl Store for Forgetful {
    fn url(&self) -> String {
        self.inner.url()
    }
    async fn get(&self, key: &Key, unless: Option<&Etag>) -> Result<Fetched> {
        self.inner.get(key, unless).await
    }
    async fn download(&self, key: &Key, to: &Path, limit: u64) -> Result<Download> {
        self.inner.download(key, to, limit).await
    }
    async fn create(&self, key: &Key, body: Body<'_>) -> Result<Etag> {
        self.inner.create(key, body).await
    }
    async fn swap(&self, key: &Key, bytes: &[u8], expected: Option<&Etag>) -> Result<Etag> {
        let swapped = self.inner.swap(key, bytes, expected).await?;
        match self.says.lock().expect("no panic").take() {
            Some(kind) => Err(Error::new(kind, "the answer was lost")),
            None => Ok(swapped),
        }
    }
    async fn stat(&self, key: &Key) -> Result<Stat> {
        self.inner.stat(key).await
    }
    async fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        self.inner.list(prefix).await
    }
    async fn delete(&self, key: &Key) -> Result<()> {
        self.inner.delete(key).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_a_swap_whose_answer_is_lost_is_not_done_twice() {
    let server = Server::start(&[]);
    server.sql(SETUP).await;
    let stream = Stream::make(&server, &["g.apps"], "").await;
    let store = Arc::new(Forgetful { inner: stream.store.clone(), says: Mutex::new(None) });
    for (kind, succeeds) in [(Kind::Conflict, true), (Kind::Store, false)] {
        work(&server, 10).await;
        *store.says.lock().expect("no panic") = Some(kind);
        let outcome = upload::run(&stream.config, store.clone(), &SystemClock, &once()).await;
        assert_eq!(outcome.is_ok(), succeeds, "{kind:?}: {outcome:?}");
        stream.upload().await.expect("the next run");
        let executed = server.gtid_executed().await;
        stream.holds_exactly(&ours(&executed), &executed).await;
    }
}
