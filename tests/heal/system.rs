//! Servers, processes, a writer and readers.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;

use crate::support::free_port;
use crate::support::granted::{self, USER};
use crate::support::mysql::Server;
use crate::support::s3::{BUCKET, S3Server};

/// The longest that a region may take to be right again.
const PATIENCE: Duration = Duration::from_secs(120);
const TOKEN: &str = "a-token-that-only-a-test-would-use";
pub const TABLES: [&str; 3] = ["g.apps", "g.plans", "g.flags"];

/// Every table has `v` in each of its rows: the writer's transaction that last changed it. One transaction sets it in
/// every row of all of them, so any reader of a table must see one value, and never a smaller one than before.
pub const SETUP: &str = "CREATE DATABASE g; \
    CREATE TABLE g.apps (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(40) NOT NULL, v INT NOT NULL, KEY (name)); \
    CREATE TABLE g.plans (id INT AUTO_INCREMENT PRIMARY KEY, price DECIMAL(10,2), v INT NOT NULL); \
    CREATE TABLE g.flags (id INT AUTO_INCREMENT PRIMARY KEY, body JSON, v INT); \
    INSERT INTO g.apps (name, v) VALUES ('a', 0), ('b', 0), ('c', 0); \
    INSERT INTO g.plans (price, v) VALUES (1.5, 0), (2.5, 0); \
    INSERT INTO g.flags (body, v) VALUES ('{\"on\": true}', 0)";

pub struct System {
    folder: tempfile::TempDir,
    pub primary: Server,
    pub source: Server,
    pub regions: [Server; 2],
    pub s3: S3Server,
    /// `None` while it is meant to be down.
    running: Vec<(&'static str, Child)>,
    port: u16,
}

impl System {
    pub async fn new() -> System {
        Self::of(SETUP).await
    }

    /// With other tables of the same names, which `setup` makes.
    pub async fn of(setup: &str) -> System {
        let [primary, source, eu, ap] = Server::start_all([&[], &[], &[], &[]]);
        source.replicate_from(&primary, "").await;
        primary.sql(setup).await;
        source.catch_up(&primary).await;
        let folder = tempfile::tempdir().expect("a folder");
        let s3 = S3Server::start();
        let port = free_port();
        let system = System { folder, primary, source, regions: [eu, ap], s3, running: Vec::new(), port };
        system.configure();
        system.run(
            "source",
            &["stream", "init", "--table", "g.apps", "--table", "g.plans", "--table", "g.flags"],
            0,
        );
        system.run("source", &["dump", "take", "--all-tables"], 0);
        for region in ["eu", "ap"] {
            system.run(region, &["bootstrap"], 0);
        }
        system
    }

    fn configure(&self) {
        let s3 = self.s3.config();
        let store = format!(
            "stream = \"apps\"\nstore = \"s3://{}/global\"\n\n[s3]\nregion = \"us-east-1\"\nendpoint = \"{}\"\npath_style = true\n",
            BUCKET,
            s3.endpoint.unwrap_or_default()
        );
        let server = |server: &Server| {
            format!("[mysql]\nhost = \"127.0.0.1\"\nport = {}\nuser = \"{USER}\"\n", server.port)
        };
        let serve = format!(
            "[serve]\nlisten = \"127.0.0.1:{}\"\ntokens_file = \"{}\"\n[upload]\ninterval = \"200ms\"\n",
            self.port,
            self.path("tokens.toml").display()
        );
        let text = format!("role = \"source\"\n{store}{}{serve}", server(&self.source));
        granted::write(&self.path("source.toml"), &text, &["g.apps", "g.plans", "g.flags"]);
        let mut tokens = String::new();
        for (name, region) in [("eu", &self.regions[0]), ("ap", &self.regions[1])] {
            let token = format!("{TOKEN}-{name}");
            let hash = tablecast::hex::hex(&Sha256::digest(&token));
            tokens += &format!(
                "[[token]]\nname = \"{name}\"\nregion = \"{name}\"\nsha256 = \"{hash}\"\nscopes = [\"read\", \"dump\", \"report\"]\n"
            );
            self.write(&format!("{name}.token"), &token);
            let own = format!(
                "[region]\nname = \"{name}\"\ntables = [\"g.apps\", \"g.plans\", \"g.flags\"]\n\
                 source_url = \"http://127.0.0.1:{}\"\ntoken_file = \"{}\"\n[apply]\nguard = \"off\"\n",
                self.port,
                self.path(&format!("{name}.token")).display()
            );
            let text = format!("role = \"region\"\n{store}{}{own}", server(region));
            granted::write(&self.path(&format!("{name}.toml")), &text, &["g.*"]);
        }
        self.write("tokens.toml", &tokens);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(self.path(name), text).expect("write a file");
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(self.path(name), private).expect("its mode");
    }

    /// Where `serve` listens.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// A region's token.
    pub fn token(&self, region: &str) -> String {
        format!("{TOKEN}-{region}")
    }

    pub fn command(&self, config: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tablecast"));
        command
            .args(["-c", &format!("{config}.toml")])
            .args(args)
            .current_dir(self.folder.path())
            .env("TABLECAST_CACHE_DIR", self.path(&format!("cache-{config}")))
            .envs(self.s3.env());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, config: &str, args: &[&str], code: i32) -> Value {
        let output = self.command(config, args).arg("--json").output().expect("run tablecast");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{config} {args:?}: {text}{errors}");
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{config} {args:?}: {error}: {text}{errors}"))
    }

    /// Starts a process that goes on; its log is kept in the folder and printed when a test fails.
    pub fn start(&mut self, name: &'static str, config: &str, args: &[&str]) {
        let log =
            File::options().create(true).append(true).open(self.path(&format!("{name}.log"))).expect("a log");
        let child =
            self.command(config, args).stdout(Stdio::null()).stderr(log).spawn().expect("start tablecast");
        self.running.push((name, child));
    }

    pub fn start_all(&mut self) {
        self.start("serve", "source", &["serve"]);
        self.start("upload", "source", &["upload", "--follow"]);
        self.start("eu", "eu", &["apply", "--follow"]);
        self.start("ap", "ap", &["apply", "--follow"]);
    }

    /// `kill -9`.
    pub fn kill(&mut self, name: &str) {
        self.running.retain_mut(|(running, child)| {
            if running == &name {
                child.kill().expect("kill");
                child.wait().expect("wait");
            }
            running != &name
        });
    }

    /// Waits until it holds, and that every process still runs.
    pub async fn wait_until(&mut self, what: &str, mut holds: impl AsyncFnMut(&System) -> bool) {
        let begin = Instant::now();
        while !holds(self).await {
            for (name, child) in &mut self.running {
                let ended = child.try_wait().expect("look at a process");
                assert!(ended.is_none(), "{name} has ended: {ended:?}");
            }
            assert!(begin.elapsed() < PATIENCE, "{what}: not within {} s", PATIENCE.as_secs());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Whether a region's tables are those of the primary, which nobody writes to at this time.
    pub async fn is_equal(&self, region: usize) -> bool {
        for table in TABLES {
            let there = self.primary.checksum(table).await;
            if there.is_none() || there != self.regions[region].checksum(table).await {
                return false;
            }
        }
        true
    }

    /// What a region says of its quarantine.
    pub fn quarantined(&self, config: &str) -> Vec<String> {
        let document = self.run(config, &["quarantine", "list"], 0);
        let tables = document["quarantined"].as_array().cloned().unwrap_or_default();
        tables.iter().filter_map(|row| row["table"].as_str().map(str::to_owned)).collect()
    }
}

impl Drop for System {
    fn drop(&mut self) {
        for (_, child) in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            for name in ["serve", "upload", "eu", "ap"] {
                let log = std::fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default();
                let from = log.len().saturating_sub(4000);
                eprintln!("--- {name}\n{}", log.get(from..).unwrap_or(&log));
            }
        }
    }
}

/// Something that goes on beside the test until it is told to end.
pub struct Beside {
    over: Arc<AtomicBool>,
    task: JoinHandle<u64>,
}

impl Beside {
    pub fn new<F: Future<Output = u64> + Send + 'static>(work: impl FnOnce(Arc<AtomicBool>) -> F) -> Beside {
        let over = Arc::new(AtomicBool::new(false));
        Beside { over: over.clone(), task: tokio::spawn(work(over)) }
    }

    /// Ends it; how often it has done what it does.
    pub async fn end(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        self.task.await.expect("it does not panic")
    }
}

/// Writes at the primary without a pause, and never the same `v` twice.
pub fn writer(primary: &Server) -> Beside {
    let conn = primary.config();
    Beside::new(move |over| async move {
        let mut conn = connect(conn.port).await;
        let mut v = 0;
        while !over.load(Ordering::Relaxed) {
            v += 1;
            let statements = [
                "BEGIN".to_owned(),
                format!("INSERT INTO g.apps (name, v) VALUES ('app {v}', {v})"),
                format!("INSERT INTO g.flags (body, v) VALUES ('{{\"n\": {v}}}', {v})"),
                // Few rows, many transactions.
                format!("DELETE FROM g.flags WHERE id BETWEEN 4 AND {v} - 6"),
                format!("DELETE FROM g.apps WHERE id BETWEEN 7 AND {v} - 6"),
                format!("UPDATE g.apps SET v = {v}"),
                format!("UPDATE g.plans SET v = {v}, price = price + 0.01"),
                format!("UPDATE g.flags SET v = {v}"),
                "COMMIT".to_owned(),
            ];
            for statement in statements {
                conn.query_drop(&statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        v
    })
}

/// Reads a table of a region without a pause. I8: each reading is a complete state; I5: none is older than the one
/// before. `may_be_missing`: the test itself drops the table.
pub fn reader(region: &Server, table: &'static str, may_be_missing: bool) -> Beside {
    let port = region.port;
    Beside::new(move |over| async move {
        let mut conn = connect(port).await;
        let (mut last, mut readings) = (0, 0);
        while !over.load(Ordering::Relaxed) {
            let query = format!("SELECT MIN(v), MAX(v), COUNT(*) FROM {table}");
            match conn.query_first::<(Option<i64>, Option<i64>, u64), _>(query).await {
                Ok(Some((Some(least), Some(most), _))) => {
                    assert_eq!(least, most, "I8: {table} shows two states at once");
                    assert!(most >= last, "I5: {table} went back from {last} to {most}");
                    last = most;
                    readings += 1;
                }
                Ok(row) => panic!("I8: {table} is empty: {row:?}"),
                Err(mysql_async::Error::Server(error)) if may_be_missing && error.code == 1146 => {}
                Err(error) => panic!("read {table}: {error}"),
            }
        }
        readings
    })
}

pub async fn connect(port: u16) -> Conn {
    let options = mysql_async::OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(port)
        .user(Some("root"))
        .prefer_socket(false);
    Conn::new(options).await.expect("connect")
}
