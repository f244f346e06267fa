//! One stream of a schema of its own, from the source that tests share to regions of their own.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use tablecast::binlog::gtid::GtidSet;
use tablecast::binlog::name::TableSet;
use tablecast::clock::SystemClock;
use tablecast::config::{self, Config};
use tablecast::region::apply;
use tablecast::source::{init, upload};
use tablecast::store;
use tablecast::{Error, Kind};
use tokio_util::sync::CancellationToken;

use crate::support::granted::{self, USER};
use crate::support::mysql::Server;

/// A stream: its schema at the shared source, its bucket, its config files.
pub struct Stream {
    pub schema: &'static str,
    pub source: &'static Server,
    /// Of its regions' config files.
    pub on_conflict: &'static str,
    /// Of its regions' config files: most tests write to a region's tables by hand.
    pub guard: &'static str,
    /// What the source's account is granted.
    set: Mutex<Vec<String>>,
    /// Of `granted::BY_ROOT`.
    root: Option<&'static str>,
    dir: tempfile::TempDir,
}

/// What must not change when something is refused.
#[derive(Debug, PartialEq)]
pub struct State {
    gtids: GtidSet,
    schemas: Vec<String>,
    tables: Vec<(String, Option<u64>)>,
}

impl Stream {
    /// Makes the schema with `tables` (`CREATE TABLE` statements, `@` for the schema) and the stream of
    /// everything in it.
    pub async fn new(schema: &'static str, tables: &str) -> Stream {
        Self::of_set(schema, tables, &["@.*"]).await
    }

    pub async fn of_set(schema: &'static str, tables: &str, set: &[&str]) -> Stream {
        Self::of_source(Server::shared(), schema, tables, set).await
    }

    pub async fn of_source(
        source: &'static Server,
        schema: &'static str,
        tables: &str,
        set: &[&str],
    ) -> Stream {
        let mut stream = Self::not_begun(source, schema, tables).await;
        let set: Vec<String> = set.iter().map(|table| table.replace('@', schema)).collect();
        *stream.set.get_mut().unwrap() = set.clone();
        let options = init::Options {
            tables: TableSet::parse(&set).unwrap(),
            covered: None,
            dry_run: false,
            lock_wait: Duration::from_secs(10),
        };
        let config = stream.source_config();
        init::run(&config, &*store::open(&config).await.unwrap(), &SystemClock, &options).await.unwrap();
        stream
    }

    /// Its schema, bucket and config files: the stream itself is not begun.
    pub async fn not_begun(source: &'static Server, schema: &'static str, tables: &str) -> Stream {
        let stream = Stream {
            schema,
            source,
            on_conflict: "quarantine",
            guard: "off",
            set: Mutex::new(vec![format!("{schema}.*")]),
            root: None,
            dir: tempfile::tempdir().unwrap(),
        };
        std::fs::create_dir(stream.bucket()).unwrap();
        stream.sql(&format!("CREATE DATABASE {schema}")).await;
        if !tables.is_empty() {
            stream.sql(tables).await;
        }
        stream
    }

    /// Its regions stop where a table does not fit.
    pub fn stopping(mut self) -> Stream {
        self.on_conflict = "stop";
        self
    }

    /// The program is root from now on.
    pub fn by_root(mut self, who: &'static str) -> Stream {
        self.root = Some(who);
        self
    }

    /// Its regions refuse local writes.
    pub fn guarded(mut self) -> Stream {
        self.guard = "triggers";
        self
    }

    /// What is granted at the source from now on, as for a stream of these tables; `@` stands for the schema.
    pub fn grant(&self, set: &[&str]) {
        *self.set.lock().unwrap() = set.iter().map(|table| table.replace('@', self.schema)).collect();
    }

    pub fn bucket(&self) -> PathBuf {
        self.dir.path().join("bucket")
    }

    /// What this machine remembers of the stream.
    pub fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    /// Runs statements at the source; `@` stands for the schema.
    pub async fn sql(&self, statements: &str) {
        self.source.sql(&statements.replace('@', self.schema)).await;
    }

    fn config(&self, file: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(file);
        let common = format!(
            "stream = \"{}\"\nstore = \"file://{}\"\n[files]\ncache_dir = \"{2}/cache\"\nspool_dir = \"{2}/spool\"\n",
            self.schema,
            self.bucket().display(),
            self.dir.path().display()
        );
        let text = format!("{}\n{common}{}", text.lines().next().unwrap(), rest(text));
        let text = match self.root {
            None => granted::config(&text, &path, &self.set.lock().unwrap()),
            Some(who) => granted::by_root(&text, who),
        };
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn source_file(&self) -> PathBuf {
        let text = format!("role = \"source\"\n{}", mysql(self.source.port, USER));
        self.config("source.toml", &text)
    }

    /// The config of a source that is another server.
    pub fn source_config_at(&self, server: &Server) -> Config {
        let text = format!("role = \"source\"\n{}", mysql(server.port, USER));
        config::load(&self.config(&format!("source-{}.toml", server.port), &text)).unwrap()
    }

    pub fn source_config(&self) -> Config {
        config::load(&self.source_file()).unwrap()
    }

    /// The config file of a region that lets in `tables`.
    pub fn region_file(&self, region: &Server, user: &str, tables: &[&str]) -> PathBuf {
        let tables: Vec<String> =
            tables.iter().map(|table| format!("{table:?}").replace('@', self.schema)).collect();
        let text = format!(
            "role = \"region\"\n[region]\nname = \"r{}\"\ntables = [{}]\n[apply]\non_conflict = \"{}\"\nguard = \"{}\"\n{}",
            region.port,
            tables.join(", "),
            self.on_conflict,
            self.guard,
            mysql(region.port, user)
        );
        self.config(&format!("region-{}-{user}.toml", region.port), &text)
    }

    pub fn region_config(&self, region: &Server) -> Config {
        config::load(&self.region_file(region, USER, &["@.*"])).unwrap()
    }

    /// Ships what is new.
    pub async fn upload(&self) -> upload::Report {
        self.try_upload().await.unwrap()
    }

    pub async fn try_upload(&self) -> Result<upload::Report, Error> {
        let options = crate::upload::kit::waiting(Duration::from_secs(60));
        let config = self.source_config();
        upload::run(&config, store::open(&config).await.unwrap(), &SystemClock, &options).await
    }

    /// Applies what is new.
    pub async fn apply(&self, region: &Server) -> Result<apply::Report, Error> {
        self.apply_with(&self.region_config(region), options()).await
    }

    pub async fn apply_with(&self, config: &Config, options: apply::Options) -> Result<apply::Report, Error> {
        apply::run(config, store::open(config).await?, &SystemClock, None, &options).await
    }

    /// `tablecast apply` as a process.
    pub fn command(&self, region: &Server) -> Command {
        self.command_of(region, &["apply"])
    }

    /// `tablecast` with these arguments in the region.
    pub fn command_of(&self, region: &Server, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tablecast"));
        command.arg("--config").arg(self.region_file(region, USER, &["@.*"])).args(arguments);
        command.env_remove("TABLECAST_FAILPOINTS").stdin(Stdio::null());
        command
    }

    pub fn spawn(&self, region: &Server, failpoints: &str) -> Child {
        let mut command = self.command(region);
        command.env("TABLECAST_FAILPOINTS", failpoints).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    pub fn run(&self, region: &Server, failpoints: &str) -> Output {
        self.spawn(region, failpoints).wait_with_output().unwrap()
    }

    fn quoted(&self, table: &str) -> String {
        tablecast::binlog::name::TableName::new(self.schema, table).quoted()
    }

    /// Tables of the stream's schema at a server, with their checksums.
    pub async fn tables(&self, server: &Server) -> Vec<(String, Option<u64>)> {
        let names: Vec<String> = server
            .rows(&format!(
                "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{}' ORDER BY 1",
                self.schema
            ))
            .await;
        let mut tables = Vec::new();
        for name in names {
            let checksum = server.checksum(&self.quoted(&name)).await;
            tables.push((name, checksum));
        }
        tables
    }

    /// Asserts that the region has what the source has: tables, rows, definitions.
    pub async fn assert_equal(&self, region: &Server) {
        let tables = self.tables(self.source).await;
        assert_eq!(tables, self.tables(region).await, "tables and checksums of {}", self.schema);
        for (table, _) in tables {
            let name = self.quoted(&table);
            assert_eq!(definition(self.source, &name).await, definition(region, &name).await);
        }
    }

    /// The same without the region's tables of names that begin so.
    pub async fn assert_equal_but(&self, region: &Server, prefix: &str) {
        let mut here = self.tables(region).await;
        here.retain(|(table, _)| !table.starts_with(prefix));
        assert_eq!(self.tables(self.source).await, here, "tables and checksums of {}", self.schema);
    }

    pub async fn state(&self, region: &Server) -> State {
        State {
            gtids: region.gtid_executed().await,
            schemas: region.rows("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA ORDER BY 1").await,
            tables: self.tables(region).await,
        }
    }

    /// The stream's own part of it: the program leaves a note of its failure in the region, the library does not.
    pub async fn state_of_stream(&self, region: &Server) -> State {
        let own: String = region.value("SELECT @@server_uuid").await;
        let state = self.state(region).await;
        let own: GtidSet = format!("{own}:1-1000000").parse().unwrap();
        State { gtids: state.gtids.difference(&own), ..state }
    }

    /// Applies, and asserts that it is refused in this way with nothing changed.
    pub async fn assert_refused(&self, region: &Server, kind: Kind, says: &str, hints: &str) {
        let before = self.state(region).await;
        let error = self.apply(region).await.expect_err("it must be refused");
        assert_error(&error, kind, says, hints);
        assert_eq!(before, self.state(region).await, "nothing may change");
    }

    /// How many of the stream's transactions the region has.
    pub async fn executed(&self, region: &Server) -> String {
        let set = region.gtid_executed().await.to_string();
        let uuid: String = region.value("SELECT @@server_uuid").await;
        let own = |part: &&str| !part.trim().starts_with(&uuid);
        set.split(',')
            .filter(own)
            .filter_map(|part| part.split_once(':'))
            .map(|(_, n)| n.to_owned())
            .collect()
    }
}

pub fn options() -> apply::Options {
    apply::Options {
        follow: false,
        until: None,
        dry_run: false,
        lock_wait: Duration::ZERO,
        stop: CancellationToken::new(),
        meters: Default::default(),
        notice: Default::default(),
    }
}

pub fn assert_error(error: &Error, kind: Kind, says: &str, hints: &str) {
    let text = format!("{error:?}");
    assert_eq!(error.kind(), kind, "{text}");
    assert!(text.contains(says), "{text} does not say {says:?}");
    let hint = error.hint_text().unwrap_or_default();
    assert!(hint.contains(hints), "{text}: the hint {hint:?} does not say {hints:?}");
}

fn mysql(port: u16, user: &str) -> String {
    format!("[mysql]\nhost = \"127.0.0.1\"\nport = {port}\nuser = \"{user}\"\ntls = {{ mode = \"off\" }}\n")
}

fn rest(text: &str) -> String {
    text.lines().skip(1).map(|line| format!("{line}\n")).collect()
}

/// `SHOW CREATE TABLE` in a session that is the same everywhere, without its counter.
async fn definition(server: &Server, table: &str) -> String {
    let mut conn = server.connect().await;
    conn.query_drop("SET time_zone='+00:00', sql_mode=''").await.unwrap();
    let row: (String, String) =
        conn.query_first(format!("SHOW CREATE TABLE {table}")).await.unwrap().unwrap();
    without_counter(&row.1)
}

fn without_counter(definition: &str) -> String {
    match definition.split_once(" AUTO_INCREMENT=") {
        Some((before, rest)) => {
            format!("{before}{}", rest.trim_start_matches(|c: char| c.is_ascii_digit()))
        }
        None => definition.to_owned(),
    }
}
