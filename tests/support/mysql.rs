//! Real MySQL servers for tests, got and run by scripts/mysql.
//!
//! A server is removed when its value is dropped, also by a panic. One whose test process dies without dropping
//! (`shared`, a kill) is removed by the watcher that scripts/mysql keeps for each owner.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mysql_async::prelude::{FromRow, FromValue, Queryable};
use mysql_async::{Conn, OptsBuilder, Row};
use tablecast::binlog::gtid::GtidSet;
use tablecast::config::{MysqlConfig, Password, Tls, TlsMode};

use super::clock::Clock;

/// The longest that anything a test waits for may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A region's server that has everything otherwise than the source: nothing of it may change what arrives.
pub const HOSTILE: &[&str] = &[
    "--sql-mode=",
    "--default-time-zone=+09:30",
    "--character-set-server=latin1",
    "--collation-server=latin1_bin",
    "--explicit-defaults-for-timestamp=0",
    "--sql-generate-invisible-primary-key=1",
    "--sql-require-primary-key=1",
    "--auto-increment-increment=5",
    "--auto-increment-offset=2",
    "--innodb-strict-mode=0",
    "--transaction-isolation=READ-COMMITTED",
    "--default-week-format=3",
    "--div-precision-increment=9",
    "--lc-time-names=de_DE",
    "--group-concat-max-len=8",
    "--binlog-row-image=MINIMAL",
    "--binlog-transaction-compression=ON",
    "--binlog-row-value-options=PARTIAL_JSON",
    "--autocommit=0",
    "--completion-type=CHAIN",
    "--event-scheduler=ON",
    "--default-storage-engine=MyISAM",
];

pub struct Server {
    pub name: String,
    pub port: u16,
    pub socket: PathBuf,
}

/// Runs scripts/mysql; its output, or what it printed as error.
pub fn script(args: &[&str], stdin: &[u8]) -> Result<Output, String> {
    script_in(&[], args, stdin)
}

/// The same, with more in its environment.
fn script_in(env: &[(&str, String)], args: &[&str], stdin: &[u8]) -> Result<Output, String> {
    let mut child = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/mysql"))
        .args(args)
        // A source with time_zone=SYSTEM on a host that has summer time is refused; tests run anywhere.
        .env("TZ", "UTC")
        .envs(env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run scripts/mysql");
    let mut input = child.stdin.take().expect("stdin is piped");
    let stdin = stdin.to_vec();
    // From a thread, lest both sides wait with full pipes. A program may end before it has read everything.
    let writer = std::thread::spawn(move || drop(input.write_all(&stdin)));
    let output = child.wait_with_output().expect("wait for scripts/mysql");
    writer.join().expect("the writer does not panic");
    match output.status.success() {
        true => Ok(output),
        false => Err(format!("scripts/mysql {args:?}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// Runs a program of the same MySQL, e.g. `tool("mysqlbinlog", &["--verify-binlog-checksum", "-"], &segment)`.
pub fn tool(program: &str, args: &[&str], stdin: &[u8]) -> Result<Output, String> {
    script(&[&["tool", program], args].concat(), stdin)
}

/// Each of InnoDB's I/O threads reserves 256 of the kernel's asynchronous requests (`fs.aio-max-nr`), of which a
/// machine has enough for some twenty servers otherwise: one more does not start.
const FEW_REQUESTS: &[&str] = &["--innodb-read-io-threads=1", "--innodb-write-io-threads=1"];

impl Server {
    /// Starts a new server with these mysqld options.
    pub fn start(options: &[&str]) -> Server {
        Self::start_in(&[], options)
    }

    /// Starts a new server on a machine whose system time zone is this, as in the variable TZ.
    pub fn start_in_zone(zone: &str, options: &[&str]) -> Server {
        Self::start_in(&[("TZ", zone.to_owned())], options)
    }

    /// Starts a new server on a machine whose clock is this, until it is started again.
    pub fn start_by(clock: &Clock, options: &[&str]) -> Server {
        Self::start_in(&clock.env(), options)
    }

    fn start_in(env: &[(&str, String)], options: &[&str]) -> Server {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let owner = std::process::id().to_string();
        let name = format!("test-{owner}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let args = [&["start", &name, "--owner", &owner, "--"], FEW_REQUESTS, options].concat();
        let output = script_in(env, &args, b"").unwrap_or_else(|e| panic!("{e}"));
        let line = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Server::from_line(name, &line)
    }

    /// Starts several at once, which takes as long as one.
    pub fn start_all<const N: usize>(options: [&[&str]; N]) -> [Server; N] {
        std::thread::scope(|scope| {
            options
                .map(|options| scope.spawn(move || Server::start(options)))
                .map(|server| server.join().expect("start a server"))
        })
    }

    /// A server that tests share which bring databases and accounts of their own, and change nothing global.
    pub fn shared() -> &'static Server {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| Server::start(&[]))
    }

    fn from_line(name: String, line: &str) -> Server {
        let value = |key: &str| {
            let found = line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
            found.unwrap_or_else(|| panic!("no {key} in {line:?}"))
        };
        Server { name, port: value("port").parse().expect("a port"), socket: value("socket").into() }
    }

    /// `kill -9`, and waits until the process is gone.
    pub fn kill9(&self) {
        run(&["kill", &self.name]).unwrap_or_else(|e| panic!("{e}"));
    }

    /// Stops it in good order.
    pub fn stop(&self) {
        run(&["stop", &self.name]).unwrap_or_else(|e| panic!("{e}"));
    }

    /// Starts it again, after stopping it if it runs: same port, same data; same options unless some are given.
    pub fn restart(&self, options: &[&str]) {
        let separator: &[&str] = if options.is_empty() { &[] } else { &["--"] };
        run(&[&["restart", &self.name], separator, options].concat()).unwrap_or_else(|e| panic!("{e}"));
    }

    /// Starts it again with a small disk of its own for the tables of this schema, which must have none yet, and part of
    /// it taken by a file named `ballast`. The disk is a tmpfs in a mount namespace that ends with the server. False
    /// where this machine does not let us: the server runs on as it was.
    pub fn restart_on_small_disk(&self, schema: &str, mib: u32, ballast_mib: u32) -> bool {
        let isolated = [&["--mount"][..], &["--mount", "--user", "--map-root-user"]];
        let may = |how: &&&[&str]| {
            let probe = ["mount", "-t", "tmpfs", "tmpfs", "/mnt"];
            let tried = Command::new("unshare").args(**how).args(probe).stderr(Stdio::null()).status();
            tried.is_ok_and(|status| status.success())
        };
        let Some(how) = isolated.iter().find(may) else { return false };
        let script = "set -e; mount -t tmpfs -o size=\"$1\"m tmpfs \"$2\"; head -c \"$3\"M /dev/zero >\"$2/ballast\"; \
                      exec \"$4\" restart \"$5\"";
        let folder = format!("{}/{schema}", self.show("datadir"));
        let status = Command::new("unshare")
            .args(*how)
            .args(["sh", "-c", script, "sh", &mib.to_string(), &folder, &ballast_mib.to_string()])
            .args([concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/mysql"), &self.name])
            .env("TZ", "UTC")
            .stdout(Stdio::null())
            .status();
        assert!(status.expect("run unshare").success(), "restart {} on a small disk", self.name);
        true
    }

    /// The file on the small disk that takes its room.
    pub fn ballast(&self, schema: &str) -> PathBuf {
        format!("/proc/{}/root{}/{schema}/ballast", self.show("pid"), self.show("datadir")).into()
    }

    fn show(&self, key: &str) -> String {
        let line = run(&["show", &self.name]).unwrap_or_else(|e| panic!("{e}"));
        let found = line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("no {key} in {line:?}")).to_owned()
    }

    /// As `tablecast` connects to it: root, by TCP, without TLS.
    pub fn config(&self) -> MysqlConfig {
        self.config_as("root", "")
    }

    pub fn config_as(&self, user: &str, password: &str) -> MysqlConfig {
        let password = match password {
            "" => Password::None,
            text => Password::Value(text.to_owned().into()),
        };
        let tls = Tls { mode: TlsMode::Off, ca: None };
        MysqlConfig {
            host: Some("127.0.0.1".into()),
            port: self.port,
            socket: None,
            user: user.into(),
            password,
            tls,
        }
    }

    /// A connection of root's with the server's own defaults.
    pub async fn connect(&self) -> Conn {
        self.connect_as("root").await
    }

    pub async fn connect_as(&self, user: &str) -> Conn {
        let options = OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(self.port)
            .user(Some(user))
            .prefer_socket(false)
            .max_allowed_packet(Some(1 << 30));
        Conn::new(options).await.unwrap_or_else(|e| panic!("connect to {}: {e}", self.name))
    }

    /// Runs statements, separated by semicolons, on a new connection.
    pub async fn sql(&self, statements: &str) {
        self.try_sql(statements).await.unwrap_or_else(|e| panic!("{}: {statements}: {e}", self.name));
    }

    pub async fn try_sql(&self, statements: &str) -> mysql_async::Result<()> {
        let mut conn = self.connect().await;
        // The text may end in a semicolon, behind which nothing may follow.
        let mut result = conn.query_iter(statements.trim().trim_end_matches(';')).await?;
        while !result.is_empty() {
            result.for_each(drop).await?;
        }
        drop(result);
        conn.disconnect().await
    }

    pub async fn rows<T: FromRow + Send + 'static>(&self, query: &str) -> Vec<T> {
        let mut conn = self.connect().await;
        conn.query(query).await.unwrap_or_else(|e| panic!("{}: {query}: {e}", self.name))
    }

    /// The first column of the only row.
    pub async fn value<T: FromValue + Send + 'static>(&self, query: &str) -> T {
        let mut rows = self.rows::<Row>(query).await;
        assert_eq!(rows.len(), 1, "{}: {query}: rows", self.name);
        rows.remove(0).take(0).unwrap_or_else(|| panic!("{}: {query}: no column", self.name))
    }

    pub async fn gtid_executed(&self) -> GtidSet {
        self.value::<String>("SELECT @@global.gtid_executed").await.parse().expect("a GTID set")
    }

    /// `CHECKSUM TABLE`; `None` if there is no such table.
    pub async fn checksum(&self, table: &str) -> Option<u64> {
        let rows: Vec<(String, Option<u64>)> = self.rows(&format!("CHECKSUM TABLE {table}")).await;
        rows.into_iter().next().and_then(|(_, checksum)| checksum)
    }

    pub async fn show_create(&self, table: &str) -> String {
        let rows: Vec<(String, String)> = self.rows(&format!("SHOW CREATE TABLE {table}")).await;
        rows.into_iter().next().map(|(_, text)| text).unwrap_or_default()
    }

    /// Makes this server a replica of the other. `filters`: what stands in CHANGE REPLICATION FILTER, e.g.
    /// `REPLICATE_DO_TABLE = (g.apps)`, or nothing for all of it.
    pub async fn replicate_from(&self, source: &Server, filters: &str) {
        if !filters.is_empty() {
            self.sql(&format!("CHANGE REPLICATION FILTER {filters}")).await;
        }
        self.sql(&format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={}, SOURCE_USER='root', \
             SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1, SOURCE_CONNECT_RETRY=1; START REPLICA",
            source.port
        ))
        .await;
    }

    /// Waits until this server has executed what the other has now.
    pub async fn catch_up(&self, source: &Server) {
        let wanted = source.gtid_executed().await;
        let begin = Instant::now();
        let late = format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{wanted}', 1)");
        while self.value::<u8>(&late).await != 0 {
            let errors: Vec<String> = self
                .rows(
                    "SELECT LAST_ERROR_MESSAGE FROM performance_schema.replication_applier_status_by_worker \
                     WHERE LAST_ERROR_NUMBER <> 0 UNION SELECT LAST_ERROR_MESSAGE FROM \
                     performance_schema.replication_connection_status WHERE LAST_ERROR_NUMBER <> 0",
                )
                .await;
            assert!(errors.is_empty(), "{} stopped replicating: {errors:?}", self.name);
            assert!(begin.elapsed() < PATIENCE, "{} does not catch up with {wanted}", self.name);
        }
    }

    /// Pipes a script through the mysql client.
    pub fn client(&self, args: &[&str], script_text: &[u8]) -> Result<Output, String> {
        script(&[&["client", &self.name], args].concat(), script_text)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = run(&["rm", &self.name]);
    }
}

fn run(args: &[&str]) -> Result<String, String> {
    script(args, b"").map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
}
