//! The whole life of a table, from the primary through a mini-replica and the bucket to two regions, while others
//! write: added empty, added with 200,000 rows, removed, added again.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use serde_json::Value;

use crate::support::granted::{self, USER};
use crate::support::mysql::Server;

/// The longest that anything here may take, on a machine that does a lot beside.
const PATIENCE: Duration = Duration::from_secs(300);
const ROWS: u64 = 200_000;

const FILTER: &str = "REPLICATE_DO_TABLE = (g.apps, g.later, g.empty, g.big, tablecast.table_set)";

struct Whole {
    folder: tempfile::TempDir,
    primary: Server,
    source: Server,
    regions: [Server; 2],
    running: Vec<Child>,
}

impl Whole {
    async fn new() -> Whole {
        let [primary, source, eu, ap] = Server::start_all([&[], &[], &[], &[]]);
        source.replicate_from(&primary, FILTER).await;
        primary
            .sql(
                "CREATE DATABASE g; CREATE TABLE g.apps (id INT AUTO_INCREMENT PRIMARY KEY, v INT NOT NULL); \
                 CREATE TABLE g.empty (id INT AUTO_INCREMENT PRIMARY KEY, v INT NOT NULL); \
                 CREATE TABLE g.big (id INT AUTO_INCREMENT PRIMARY KEY, v INT NOT NULL, name VARCHAR(100), KEY (v)); \
                 USE g; SET cte_max_recursion_depth = 1000000; \
                 INSERT INTO g.big (v, name) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n \
                 WHERE i < 200000) SELECT i % 1000, SHA2(i, 256) FROM n",
            )
            .await;
        source.catch_up(&primary).await;
        let folder = tempfile::tempdir().expect("a folder");
        let whole = Whole { folder, primary, source, regions: [eu, ap], running: Vec::new() };
        whole.configure();
        whole.run("source", &["stream", "init", "--table", "g.apps"]);
        whole
    }

    fn configure(&self) {
        let bucket = self.folder.path().join("bucket");
        std::fs::create_dir(&bucket).expect("a bucket");
        let server = |section: &str, server: &Server| {
            format!(
                "[{section}]\nhost = \"127.0.0.1\"\nport = {}\nuser = \"{USER}\"\ntls = {{ mode = \"off\" }}\n",
                server.port
            )
        };
        let head = |role: &str| {
            format!("role = \"{role}\"\nstream = \"apps\"\nstore = \"file://{}\"\n", bucket.display())
        };
        let source = format!(
            "{}{}{}[upload]\ninterval = \"200ms\"\n",
            head("source"),
            server("mysql", &self.source),
            server("primary", &self.primary)
        );
        granted::write(&self.path("source.toml"), &source, &["g.*"]);
        for (name, region) in [("eu", &self.regions[0]), ("ap", &self.regions[1])] {
            let own = format!("[region]\nname = \"{name}\"\ntables = [\"g.*\"]\n[apply]\nguard = \"off\"\n");
            let text = format!("{}{}{own}", head("region"), server("mysql", region));
            granted::write(&self.path(&format!("{name}.toml")), &text, &["g.*"]);
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, config: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tablecast"));
        command
            .args(["-c", &format!("{config}.toml")])
            .args(args)
            .current_dir(self.folder.path())
            .env("TABLECAST_CACHE_DIR", self.path(&format!("cache-{config}")));
        command
    }

    fn run(&self, config: &str, args: &[&str]) -> Value {
        let output = self.command(config, args).arg("--json").output().expect("run tablecast");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{config} {args:?}: {text}{errors}");
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{config} {args:?}: {error}: {text}{errors}"))
    }

    fn start(&mut self, config: &str, args: &[&str]) {
        let log = File::create(self.path(&format!("{config}.log"))).expect("a log");
        let child =
            self.command(config, args).stdout(Stdio::null()).stderr(log).spawn().expect("start tablecast");
        self.running.push(child);
    }

    fn log(&self) -> String {
        ["source", "eu", "ap"]
            .map(|name| {
                let text = std::fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default();
                let lines: Vec<&str> = text.lines().rev().take(15).collect();
                format!("== {name}\n{}", lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
            })
            .join("\n")
    }

    async fn wait_until(&mut self, what: &str, mut holds: impl AsyncFnMut(&Whole) -> bool) {
        let begin = Instant::now();
        while !holds(self).await {
            for child in &mut self.running {
                let ended = child.try_wait().expect("look at a process");
                assert!(ended.is_none(), "{what}: a process has ended: {ended:?}\n{}", self.log());
            }
            assert!(begin.elapsed() < PATIENCE, "{what}: not in time\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Waits until both regions hold what the primary holds; nobody writes meanwhile.
    async fn are_equal(&mut self, tables: &[&str]) {
        self.wait_until(&format!("{tables:?} equal everywhere"), async |whole| {
            for table in tables {
                let there = whole.primary.checksum(table).await;
                for region in &whole.regions {
                    if there.is_none() || region.checksum(table).await != there {
                        return false;
                    }
                }
            }
            true
        })
        .await;
    }

    async fn rows(&self, region: usize, table: &str) -> u64 {
        self.regions[region].value(&format!("SELECT COUNT(*) FROM {table}")).await
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        for child in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Writes to all tables for as long as it is told to.
struct Writer {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Writer {
    async fn start(primary: &Server, tables: &'static [&'static str]) -> Writer {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut conn = primary.connect().await;
        let task = tokio::spawn({
            let (stop, written) = (stop.clone(), written.clone());
            async move {
                for n in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    for table in tables {
                        let row = (n * 7919) % ROWS;
                        conn.query_drop(format!("INSERT INTO {table} (v) VALUES ({n})"))
                            .await
                            .expect("insert");
                        conn.query_drop(format!("UPDATE {table} SET v = v + 1 WHERE id = {row}"))
                            .await
                            .expect("update");
                        conn.query_drop(format!("DELETE FROM {table} WHERE id = {}", row + 1))
                            .await
                            .expect("delete");
                    }
                    written.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        });
        Writer { stop, written, task }
    }

    /// Lets it write a little more.
    async fn goes_on(&self) {
        let before = self.written.load(Ordering::Relaxed);
        while self.written.load(Ordering::Relaxed) < before + 10 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the writer");
    }
}

/// I3, I5, I8.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_added_empty_and_with_200_000_rows_removed_and_added_again_while_others_write() {
    let mut whole = Whole::new().await;
    whole.start("source", &["upload", "--follow"]);
    whole.start("eu", &["apply", "--follow"]);
    whole.start("ap", &["apply", "--follow"]);

    // New, and there and empty.
    let writer = Writer::start(&whole.primary, &["g.apps", "g.big"]).await;
    writer.goes_on().await;
    let added = whole.run("source", &["tables", "add", "g.later", "g.empty"]);
    assert_eq!((&added["needs_dump"], &added["to_come"][0]), (&false.into(), &"g.later".into()));
    whole.primary.sql("CREATE TABLE g.later (id INT AUTO_INCREMENT PRIMARY KEY, v INT NOT NULL)").await;
    let more = Writer::start(&whole.primary, &["g.later", "g.empty"]).await;
    more.goes_on().await;

    // With its rows, and everything is being written to.
    let added = whole.run("source", &["tables", "add", "g.big"]);
    assert_eq!(added["needs_dump"], true);
    more.goes_on().await;
    writer.goes_on().await;
    whole
        .wait_until("the dump is there", async |whole| {
            whole.run("source", &["tables", "list"])["waits_for_dump"] == false
        })
        .await;
    more.goes_on().await;
    writer.end().await;
    more.end().await;
    whole.are_equal(&["g.apps", "g.later", "g.empty", "g.big"]).await;
    assert!(whole.rows(0, "g.big").await >= ROWS - 1000);

    // Removed: the regions keep what it held at that transaction.
    let writer = Writer::start(&whole.primary, &["g.apps", "g.big"]).await;
    let kept: u64 = whole.primary.value("SELECT COUNT(*) FROM g.empty").await;
    whole.run("source", &["tables", "remove", "g.empty"]);
    whole.primary.sql("INSERT INTO g.empty (v) VALUES (-1), (-2)").await;
    writer.goes_on().await;
    writer.end().await;
    whole.are_equal(&["g.apps", "g.later", "g.big"]).await;
    for region in 0..2 {
        assert_eq!(whole.rows(region, "g.empty").await, kept, "its changes stop there");
    }

    // And again, with what it holds by now.
    let writer = Writer::start(&whole.primary, &["g.apps", "g.empty"]).await;
    let added = whole.run("source", &["tables", "add", "g.empty"]);
    assert_eq!((&added["version"], &added["needs_dump"]), (&"5".into(), &true.into()));
    writer.goes_on().await;
    writer.end().await;
    whole.are_equal(&["g.apps", "g.later", "g.empty", "g.big"]).await;
    for region in ["eu", "ap"] {
        let listed = whole.run(region, &["quarantine", "list"]);
        assert_eq!(listed["quarantined"].as_array().map(Vec::len), Some(0), "{region}: {listed}");
    }
    let verified = whole.run("source", &["verify"]);
    assert_eq!(verified["problems"].as_array().map(Vec::len), Some(0), "{verified}");
}
