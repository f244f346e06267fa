//! A stream from a source of its own, so that nobody else's transactions count, through S3 to a region; each program a
//! process of its own.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tablecast::binlog::gtid::Tsid;
use tablecast::store::{Body as Content, Store, head};
use tablecast::stream::{Body, Head};

use crate::http::kit::region_token;
use crate::support::granted::{self, USER};
use crate::support::mysql::Server;
use crate::support::s3::{Asked, BUCKET, S3Server};
use crate::support::segment_of;

/// However busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(90);

pub struct World {
    pub schema: &'static str,
    pub source: Server,
    pub region: Server,
    pub s3: S3Server,
    folder: tempfile::TempDir,
}

impl World {
    /// A stream of `<schema>.t (id INT PRIMARY KEY)`. Lines for `[upload]` and `[apply]`.
    pub async fn new(schema: &'static str, upload: &str, apply: &str) -> World {
        let ([source, region], s3) = (Server::start_all([&[], &[]]), S3Server::start());
        source.sql(&format!("CREATE DATABASE {schema}; CREATE TABLE {schema}.t (id INT PRIMARY KEY)")).await;
        let world = World { schema, source, region, s3, folder: tempfile::tempdir().unwrap() };
        world.write(
            "source.toml",
            &format!("role = \"source\"\n{}[upload]\n{upload}\n", world.common(world.source.port)),
        );
        world.write("region.toml", &world.region_text("", apply));
        world.done("source.toml", &["stream", "init", "--table", &format!("{schema}.*")]);
        world
    }

    fn common(&self, port: u16) -> String {
        format!(
            "stream = \"{}\"\nstore = \"s3://{BUCKET}/apps\"\n[s3]\nregion = \"us-east-1\"\nendpoint = \"{}\"\n\
             path_style = true\n[mysql]\nhost = \"127.0.0.1\"\nport = {port}\nuser = \"{USER}\"\ntls = {{ mode = \"off\" }}\n",
            self.schema,
            self.s3.endpoint()
        )
    }

    fn region_text(&self, region: &str, apply: &str) -> String {
        format!(
            "role = \"region\"\n{}[region]\nname = \"eu1\"\ntables = [\"{}.*\"]\n{region}[apply]\nguard = \"off\"\n{apply}\n",
            self.common(self.region.port),
            self.schema
        )
    }

    /// The region's file names a service at this port.
    pub fn with_service(&self, port: u16, apply: &str) {
        let token = region_token("eu1");
        std::fs::write(self.path("token"), &token.text).unwrap();
        self.write("tokens.toml", &token.entry);
        let region = format!("source_url = \"http://127.0.0.1:{port}\"\ntoken_file = \"token\"\n");
        self.write("region.toml", &self.region_text(&region, apply));
        self.write(
            "serve.toml",
            &format!(
                "role = \"source\"\n{}[serve]\nlisten = \"127.0.0.1:{port}\"\ntokens_file = \"tokens.toml\"\n",
                self.common(self.source.port)
            ),
        );
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        granted::write(&self.path(name), text, &[format!("{}.*", self.schema)]);
    }

    pub fn command(&self, config: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tablecast"));
        command.args(args).env("TABLECAST_CONFIG", self.path(config)).envs(self.s3.env());
        command.env("TABLECAST_CACHE_DIR", self.path(&format!("cache-{config}"))).env_remove("TABLECAST_LOG");
        command.stdin(Stdio::null());
        command
    }

    pub fn run(&self, config: &str, args: &[&str]) -> Output {
        self.command(config, args).output().unwrap()
    }

    pub fn done(&self, config: &str, args: &[&str]) {
        let output = self.run(config, args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Starts one that runs until it is dropped; its log goes to a file.
    pub fn start(&self, config: &str, args: &[&str]) -> Running {
        let log = self.path(&format!("{}-{config}.log", args[0]));
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let child = self.command(config, args).stdout(Stdio::null()).stderr(file).spawn().unwrap();
        Running { child, log }
    }

    pub async fn insert(&self, id: u32) {
        self.source.sql(&format!("INSERT INTO {}.t VALUES ({id})", self.schema)).await;
    }

    pub async fn is_shown(&self, id: u32) -> bool {
        let mut conn = self.region.connect().await;
        let query = format!("SELECT COUNT(*) FROM {}.t WHERE id = {id}", self.schema);
        let found: mysql_async::Result<Option<u64>> =
            mysql_async::prelude::Queryable::query_first(&mut conn, query).await;
        matches!(found, Ok(Some(1)))
    }

    /// Waits until the region shows the row.
    pub async fn shows(&self, id: u32) {
        let begin = Instant::now();
        while !self.is_shown(id).await {
            assert!(begin.elapsed() < PATIENCE, "row {id} is not shown; the logs:\n{}", self.logs());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Inserts, and waits.
    pub async fn arrives(&self, id: u32) {
        self.insert(id).await;
        self.shows(id).await;
    }

    fn logs(&self) -> String {
        let files = std::fs::read_dir(self.folder.path()).unwrap().flatten().map(|file| file.path());
        let logs = files.filter(|path| path.extension().is_some_and(|end| end == "log"));
        logs.map(|path| std::fs::read_to_string(path).unwrap()).collect()
    }
}

/// A process; killed when dropped.
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until the log says this so many times.
    pub async fn says(&self, text: &str, times: usize) {
        let begin = Instant::now();
        while self.log().matches(text).count() < times {
            assert!(begin.elapsed() < PATIENCE, "the log does not say {text:?}:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many of these are of this kind and for a key that holds this text.
pub fn count(asked: &[Asked], kind: &str, key: &str) -> usize {
    asked.iter().filter(|asked| asked.kind == kind && asked.key.contains(key)).count()
}

/// One more entry of the stream, without a source.
pub async fn append(store: &dyn Store) -> Head {
    let Ok(head::Read::Head { mut head, etag }) = head::read(store, None).await else { panic!("no head") };
    let tx = head.last_tx.next();
    let mut covered_after = head.covered.clone();
    covered_after.insert_range(&Tsid::untagged(uuid::Uuid::from_u128(7)), tx.0, tx.0);
    let segment = segment_of(&head, tx, covered_after, b"x");
    store.create(&segment.key, Content::Bytes(b"x")).await.unwrap();
    let now = head.created_at;
    head.append(Body::Segment(segment), now).unwrap();
    head::write(store, &mut head, Some(&etag)).await.unwrap();
    *head
}
