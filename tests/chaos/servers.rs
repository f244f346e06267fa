//! The MySQL servers of a run: started, killed and started again by scripts/mysql, each on its own machine of the network.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use mysql_async::prelude::{FromRow, FromValue, Queryable};
use mysql_async::{Conn, OptsBuilder, Row};
use tablecast::binlog::gtid::GtidSet;

use super::net::Net;
use crate::support::free_port;

/// No statement of ours takes longer where the server is well.
const LONGEST: Duration = Duration::from_secs(30);

pub struct Server {
    /// As in the log: `primary-a`, `processor`, `eu`.
    pub name: String,
    /// Whose folder scripts/mysql keeps.
    id: String,
    net: Arc<Net>,
    ip: IpAddr,
    pub port: u16,
    options: Vec<String>,
    /// It is down on purpose.
    pub is_down: AtomicBool,
}

impl Server {
    /// A machine with room for a server, which is not started yet.
    pub fn new(net: &Arc<Net>, name: &str, options: &[String]) -> Server {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let ip = net.node(name);
        // Each machine of its own has that port free.
        let port = if net.has_namespaces() { 3306 } else { free_port() };
        // Few: a machine has enough of the kernel's requests for some twenty servers otherwise.
        let mut all = vec!["--innodb-read-io-threads=1".to_owned(), "--innodb-write-io-threads=1".to_owned()];
        all.extend(options.iter().cloned());
        all.extend([
            format!("--bind-address={ip}"),
            format!("--server-id={}", 100 + count),
            "--replica-net-timeout=4".to_owned(),
            "--relay-log-recovery=ON".to_owned(),
        ]);
        Server {
            name: name.to_owned(),
            id: format!("chaos-{}-{count}", std::process::id()),
            net: net.clone(),
            ip,
            port,
            options: all,
            is_down: AtomicBool::new(true),
        }
    }

    pub fn address(&self) -> SocketAddr {
        (self.ip, self.port).into()
    }

    fn script(&self, args: &[&str]) -> Result<Output, String> {
        let script = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/mysql"));
        let mut command = self.net.command(&self.name, script);
        command.args(args).env("TZ", "UTC").stdin(Stdio::null());
        let output = command.output().map_err(|e| format!("scripts/mysql: {e}"))?;
        match output.status.success() {
            true => Ok(output),
            false => Err(format!("scripts/mysql {args:?}: {}", String::from_utf8_lossy(&output.stderr))),
        }
    }

    pub fn start(&self) -> Result<(), String> {
        let (port, owner) = (self.port.to_string(), std::process::id().to_string());
        let mut args = vec!["start", &self.id, "--port", &port, "--owner", &owner, "--"];
        args.extend(self.options.iter().map(String::as_str));
        self.script(&args)?;
        self.is_down.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Runs statements with the client of the machine, over the server's socket.
    pub fn as_root(&self, statements: &[&str]) -> Result<(), String> {
        if statements.is_empty() {
            return Ok(());
        }
        self.script(&["client", &self.id, "-e", &statements.join("; ")]).map(drop)
    }

    /// What systemd does: starts it again if it is gone.
    pub fn revive(&self) -> Result<bool, String> {
        match self.pid() {
            Some(_) => Ok(false),
            None => self.start().map(|()| true),
        }
    }

    /// `kill -9`, and waits until the process is gone.
    pub fn kill9(&self) {
        self.is_down.store(true, Ordering::Relaxed);
        self.script(&["kill", &self.id]).unwrap_or_else(|e| panic!("{e}"));
    }

    // Scripts run for seconds: beside the runtime's own work.

    pub async fn kill9_aside(&self) {
        tokio::task::block_in_place(|| self.kill9());
    }

    pub async fn start_aside(&self) -> Result<(), String> {
        tokio::task::block_in_place(|| self.start())
    }

    pub async fn revive_aside(&self) -> Result<bool, String> {
        tokio::task::block_in_place(|| self.revive())
    }

    fn shown(&self, key: &str) -> Option<String> {
        let output = self.script(&["show", &self.id]).ok()?;
        let line = String::from_utf8_lossy(&output.stdout).into_owned();
        let found = line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))?;
        (!found.is_empty()).then(|| found.to_owned())
    }

    pub fn pid(&self) -> Option<u32> {
        self.shown("pid")?.parse().ok()
    }

    pub fn error_log(&self) -> Option<PathBuf> {
        Some(Path::new(&self.shown("datadir")?).parent()?.join("error.log"))
    }

    pub async fn connect(&self) -> mysql_async::Result<Conn> {
        let options = OptsBuilder::default()
            .ip_or_hostname(self.ip.to_string())
            .tcp_port(self.port)
            .user(Some("root"))
            .prefer_socket(false)
            .tcp_nodelay(true)
            .max_allowed_packet(Some(1 << 30));
        within(Conn::new(options)).await
    }

    /// Statements on a connection of their own, one after the other.
    pub async fn sql(&self, statements: &[&str]) -> mysql_async::Result<()> {
        let mut conn = self.connect().await?;
        for statement in statements {
            within(conn.query_drop(*statement)).await?;
        }
        within(conn.disconnect()).await
    }

    pub async fn rows<T: FromRow + Send + 'static>(&self, query: &str) -> mysql_async::Result<Vec<T>> {
        let mut conn = self.connect().await?;
        let rows = within(conn.query(query)).await?;
        let _ = within(conn.disconnect()).await;
        Ok(rows)
    }

    /// The first column of the first row.
    pub async fn value<T: FromValue + Send + 'static>(&self, query: &str) -> mysql_async::Result<Option<T>> {
        let rows = self.rows::<Row>(query).await?;
        Ok(rows.into_iter().next().and_then(|mut row| row.take_opt(0)).and_then(Result::ok))
    }

    pub async fn executed(&self) -> mysql_async::Result<GtidSet> {
        let text: Option<String> = self.value("SELECT @@GLOBAL.gtid_executed").await?;
        Ok(text.unwrap_or_default().parse().expect("a GTID set"))
    }

    /// Makes it replicate from what is at this address.
    pub async fn replicate_from(&self, address: SocketAddr) -> mysql_async::Result<()> {
        let change = format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST='{}', SOURCE_PORT={}, SOURCE_USER='root', \
             SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1, SOURCE_CONNECT_RETRY=1, SOURCE_RETRY_COUNT=100000, \
             SOURCE_HEARTBEAT_PERIOD=1",
            address.ip(),
            address.port()
        );
        self.sql(&["STOP REPLICA", &change, "START REPLICA"]).await
    }

    /// What has stopped its replication, in the server's words.
    pub async fn replication_errors(&self) -> Vec<String> {
        let query = "SELECT LAST_ERROR_MESSAGE FROM performance_schema.replication_applier_status_by_worker \
                     WHERE LAST_ERROR_NUMBER <> 0";
        self.rows(query).await.unwrap_or_default()
    }

    /// The end of its error log.
    pub fn last_words(&self) -> String {
        let log = self.error_log().and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.script(&["rm", &self.id]);
    }
}

/// A server that does not answer fails like one that is away.
pub async fn within<T>(work: impl Future<Output = mysql_async::Result<T>>) -> mysql_async::Result<T> {
    let late = || mysql_async::Error::Io(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
    tokio::time::timeout(LONGEST, work).await.unwrap_or_else(|_| Err(late()))
}

/// MySQL's number of an error, if it is one of the server's.
pub fn code(error: &mysql_async::Error) -> Option<u16> {
    match error {
        mysql_async::Error::Server(error) => Some(error.code),
        _ => None,
    }
}
