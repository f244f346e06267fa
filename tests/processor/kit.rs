//! A primary that is written to, a processor, a stream that is read from it, and two regions.

use std::path::PathBuf;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mysql_async::prelude::Queryable;
use tablecast::clock::SystemClock;
use tablecast::config;
use tablecast::region::apply;
use tablecast::store;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::granted::{self, Access, USER};
use crate::support::mysql::{Server, script, tool};
use crate::upload::kit::{OURS, Stream, ours};

pub const SETUP: &str = "CREATE DATABASE g; CREATE DATABASE private; \
     CREATE TABLE g.apps (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(40), v INT NOT NULL DEFAULT 0); \
     CREATE TABLE g.plans (id INT AUTO_INCREMENT PRIMARY KEY, price DECIMAL(10,2)); \
     CREATE TABLE private.t (id INT AUTO_INCREMENT PRIMARY KEY)";
pub const TABLES: [&str; 2] = ["g.apps", "g.plans"];
/// The filters that a processor of `TABLES` needs at least.
pub const FILTERS: &str = "REPLICATE_DO_TABLE = (g.apps, g.plans, tablecast.table_set)";

/// A processor that is copied from the primary has the primary's accounts.
pub const PROCESSOR: Access = Access::Root("processor create");

pub struct World {
    pub stream: Stream,
    pub regions: [Server; 2],
    tables: Vec<String>,
    folder: tempfile::TempDir,
}

impl World {
    /// A stream of `TABLES` at `source`, which has been made; `primary` is what stands in [primary].
    pub async fn new(source: &Server, primary: &Server) -> World {
        Self::of(source, &primary_section(primary), &TABLES).await
    }

    pub async fn of(source: &Server, more: &str, tables: &[&str]) -> World {
        Self::by(Access::of(tables), source, more, tables).await
    }

    /// The same for `processor create` and `rebuild`.
    pub async fn to_copy(source: &Server, primary: &Server) -> World {
        Self::by(PROCESSOR, source, &primary_section(primary), &TABLES).await
    }

    pub async fn by(access: Access, source: &Server, more: &str, tables: &[&str]) -> World {
        let regions = Server::start_all([&[], &[]]);
        let stream = Stream::make_by(access, source, tables, more).await;
        let tables = tables.iter().map(|table| (*table).to_owned()).collect();
        World { stream, regions, tables, folder: tempfile::tempdir().expect("a folder") }
    }

    /// The config file reads another server from now on.
    pub fn read_from(&mut self, old: &Server, new: &Server) {
        self.stream.reconfigure(&mysql_section(old), &mysql_section(new));
        self.stream.read_from(new);
    }

    /// The config file names another primary from now on.
    pub fn primary_is(&mut self, old: &Server, new: &Server) {
        self.stream.reconfigure(&primary_section(old), &primary_section(new));
        self.stream.config.primary = config::load(&self.stream.file()).expect("a config").primary;
    }

    /// Runs the program at the source and wants this exit code; what it prints, errors behind results.
    #[track_caller]
    pub fn runs(&self, args: &[&str], code: i32) -> String {
        let output = self.stream.run(args, "");
        let text = both(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        text
    }

    fn region_file(&self, region: &Server) -> PathBuf {
        let path = self.folder.path().join(format!("r{}.toml", region.port));
        let folder = self.folder.path().join(format!("r{}", region.port));
        let text = format!(
            "role = \"region\"\nstream = \"{}\"\nstore = \"{}\"\n[mysql]\nhost = \"127.0.0.1\"\nport = {}\n\
             user = \"{USER}\"\ntls = {{ mode = \"off\" }}\n[region]\nname = \"r{}\"\ntables = [{}]\n\
             [apply]\nguard = \"off\"\n[files]\ncache_dir = \"{5}/cache\"\nspool_dir = \"{5}/spool\"\n",
            self.stream.config.stream,
            self.stream.config.store,
            region.port,
            region.port,
            self.tables.iter().map(|table| format!("\"{table}\"")).collect::<Vec<_>>().join(", "),
            folder.display(),
        );
        granted::write(&path, &text, &self.tables);
        path
    }

    /// Begins both regions with the newest full dump.
    pub fn bootstrap(&self) {
        for region in &self.regions {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tablecast"));
            command.arg("-c").arg(self.region_file(region)).arg("bootstrap");
            let output = command.output().expect("run tablecast");
            assert!(output.status.success(), "{}", both(&output));
        }
    }

    /// Applies everything in both regions, whose tables must be the primary's then.
    pub async fn regions_are_equal_to(&self, primary: &Server, tables: &[&str]) {
        for region in &self.regions {
            let config = config::load(&self.region_file(region)).expect("a config");
            let store = store::open(&config).await.expect("a store");
            let options = apply::Options {
                follow: false,
                until: None,
                dry_run: false,
                lock_wait: Duration::from_secs(10),
                stop: CancellationToken::new(),
                meters: Default::default(),
                notice: Default::default(),
            };
            apply::run(&config, store, &SystemClock, None, &options).await.expect("apply");
            for table in tables {
                let there = primary.checksum(table).await;
                assert!(there.is_some(), "{table}");
                assert_eq!(region.checksum(table).await, there, "{table} in a region");
            }
        }
    }

    /// I3: every transaction of the set that the primary committed is in the stream, once; nothing else is.
    pub async fn stream_is_whole(&self, primary: &Server) {
        let executed = primary.gtid_executed().await;
        self.stream.holds_exactly(&ours(&executed), &executed).await;
    }
}

pub fn both(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

pub fn mysql_section(server: &Server) -> String {
    format!("[mysql]\nhost = \"127.0.0.1\"\nport = {}\n", server.port)
}

pub fn primary_section(server: &Server) -> String {
    format!(
        "[primary]\nhost = \"127.0.0.1\"\nport = {}\nuser = \"{USER}\"\ntls = {{ mode = \"off\" }}\n",
        server.port
    )
}

/// Writes at the primary without a pause: two transactions of the set, one of others.
pub struct Writer {
    over: Arc<AtomicBool>,
    task: JoinHandle<u64>,
}

impl Writer {
    pub fn begin(primary: &Server) -> Writer {
        let over = Arc::new(AtomicBool::new(false));
        let (theirs, options) = (over.clone(), primary.config());
        let task = tokio::spawn(async move {
            let mut conn = tablecast::mysql::connect(&options).await.expect("connect");
            let mut n = 0;
            while !theirs.load(Ordering::Relaxed) {
                n += 1;
                for (tag, statement) in [
                    ("AUTOMATIC:ours", format!("INSERT INTO g.apps (name) VALUES ('app {n}')")),
                    ("AUTOMATIC", "INSERT INTO private.t VALUES ()".to_owned()),
                    ("AUTOMATIC:ours", format!("UPDATE g.apps SET v = v + 1 WHERE id > {n} - 20")),
                ] {
                    conn.query_drop(format!("SET gtid_next = '{tag}'")).await.expect("a tag");
                    conn.query_drop(&statement).await.unwrap_or_else(|e| panic!("{statement}: {e}"));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            n
        });
        Writer { over, task }
    }

    pub async fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        assert!(self.task.await.expect("the writer does not panic") > 0);
    }
}

/// Some transactions of the set and of others, DDL among them.
pub async fn work(primary: &Server) {
    primary
        .sql(&format!(
            "{OURS} INSERT INTO g.apps (name) VALUES ('a'), ('b'); INSERT INTO g.plans (price) VALUES (1.5); \
             UPDATE g.apps SET v = v + 1; SET gtid_next = 'AUTOMATIC'; INSERT INTO private.t VALUES (), (); \
             CREATE TABLE IF NOT EXISTS private.u (id INT PRIMARY KEY); DROP TABLE private.u"
        ))
        .await;
}

/// Puts the tables into an empty server as a rebuilt processor has them: with all of the primary's history purged.
pub fn copy_by_dump(primary: &Server, to: &Server, databases: &[&str]) {
    let port = format!("--port={}", primary.port);
    let args = [
        &["--no-defaults", "--host=127.0.0.1", &port, "--user=root", "--single-transaction"][..],
        &["--set-gtid-purged=ON", "--databases"],
        databases,
    ]
    .concat();
    let dump = tool("mysqldump", &args, b"").expect("mysqldump").stdout;
    to.client(&[], &dump).expect("load it");
}

/// A server with the my.cnf that `processor config` prints for these tables.
pub fn with_printed_my_cnf(stream: &Stream, folder: &std::path::Path, tables: &[&str]) -> Server {
    let tables: Vec<&str> = tables.iter().flat_map(|table| ["--table", table]).collect();
    let printed = stream.run(&[&["processor", "config"], &tables[..]].concat(), "");
    assert!(printed.status.success(), "{}", both(&printed));
    let file = folder.join("my.cnf");
    std::fs::write(&file, &printed.stdout).expect("write it");
    Server::start(&[&format!("--defaults-file={}", file.display())])
}

/// Drops every binary log of a server but the newest, now empty one.
pub async fn purge(server: &Server) {
    server.sql("FLUSH BINARY LOGS").await;
    let logs: Vec<mysql_async::Row> = server.rows("SHOW BINARY LOGS").await;
    let newest: String = logs.last().expect("a log").get(0).expect("a name");
    server.sql(&format!("PURGE BINARY LOGS TO '{newest}'")).await;
}

/// What systemd does: starts the server again whenever it has stopped.
pub struct Supervisor {
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Supervisor {
    pub fn of(server: &Server) -> Supervisor {
        let over = Arc::new(AtomicBool::new(false));
        let (theirs, name) = (over.clone(), server.name.clone());
        let thread = std::thread::spawn(move || {
            while !theirs.load(Ordering::Relaxed) {
                let shown = script(&["show", &name], b"").expect("show it").stdout;
                if String::from_utf8_lossy(&shown).trim_end().ends_with("pid=") {
                    script(&["start", &name], b"").unwrap_or_else(|e| panic!("{e}"));
                }
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        Supervisor { over, thread: Some(thread) }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The folder of a server's data.
pub fn data_dir(server: &Server) -> PathBuf {
    let shown = script(&["show", &server.name], b"").expect("show it").stdout;
    let shown = String::from_utf8_lossy(&shown).into_owned();
    let word = shown.split_whitespace().find_map(|word| word.strip_prefix("datadir="));
    word.expect("a datadir").into()
}
