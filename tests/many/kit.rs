//! Several streams of one source server and one region server, with a folder of config files for each role.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;
use tablecast::stream::{Head, StreamTx};
use tempfile::TempDir;

use crate::support::granted::{self, USER};
use crate::support::mysql::Server;
use crate::support::s3::{BUCKET, S3Server};

/// The longest that anything here may take.
pub const PATIENCE: Duration = Duration::from_secs(90);

pub struct Fleet {
    folder: TempDir,
    pub s3: S3Server,
    pub source: Server,
    pub region: Server,
    names: Vec<&'static str>,
}

impl Fleet {
    /// A stream of each name, of the table `NAME.t`, made and empty.
    pub async fn make(names: &[&'static str]) -> Fleet {
        let [source, region] = Server::start_all([&[], &[]]);
        let folder = tempfile::tempdir().expect("a folder");
        let fleet = Fleet { folder, s3: S3Server::start(), source, region, names: names.to_vec() };
        for name in names {
            fleet
                .source
                .sql(&format!("CREATE DATABASE {name}; CREATE TABLE {name}.t (id INT PRIMARY KEY)"))
                .await;
            fleet.config(name, fleet.source.port, USER);
            let made = fleet.run(&[
                "-c",
                &format!("source/{name}.toml"),
                "stream",
                "init",
                "--table",
                &format!("{name}.t"),
            ]);
            assert!(made.status.success(), "{}", said(&made));
            let region = fleet.text("region", name, fleet.region.port, USER);
            let text = format!("{region}[region]\nname = \"eu1\"\ntables = [\"{name}.*\"]\n");
            fleet.write_config(&format!("region/{name}.toml"), &text, "");
        }
        fleet
    }

    /// The source's config of a stream, at this port of 127.0.0.1 and as this user.
    pub fn config(&self, name: &str, port: u16, user: &str) {
        let text = self.text("source", name, port, user);
        self.write_config(&format!("source/{name}.toml"), &text, &format!("{name}.t"));
    }

    fn text(&self, role: &str, name: &str, port: u16, user: &str) -> String {
        format!(
            "role = \"{role}\"\nstream = \"{name}\"\nstore = \"s3://{BUCKET}/{name}\"\n\
             [mysql]\nhost = \"127.0.0.1\"\nport = {port}\nuser = \"{user}\"\ntls = {{ mode = \"off\" }}\n\
             [s3]\nregion = \"us-east-1\"\nendpoint = \"{}\"\npath_style = true\n\
             [files]\ncache_dir = \"{}/cache\"\n",
            self.s3.endpoint(),
            self.folder.path().display()
        )
    }

    fn write_config(&self, name: &str, text: &str, table: &str) {
        // Not in its folder: every file there is a config file.
        let beside = self.path(&name.replace('/', "-"));
        self.write(name, &granted::config(text, &beside, &[table]));
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("make the folder");
        std::fs::write(path, text).expect("write a config");
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tablecast"));
        command.args(args).current_dir(self.folder.path()).envs(self.s3.env()).env_remove("TABLECAST_LOG");
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("run tablecast")
    }

    /// Runs a command for every file of the folder; what it printed.
    #[track_caller]
    pub fn succeeds(&self, folder: &str, args: &[&str]) -> String {
        let ran = self.run(&[&["--config", folder], args].concat());
        assert!(ran.status.success(), "{args:?}: {}", said(&ran));
        assert_eq!(String::from_utf8_lossy(&ran.stderr), "", "{args:?}");
        String::from_utf8_lossy(&ran.stdout).into_owned()
    }

    /// Runs with `--json`; the exit code and the one document that it printed.
    pub fn json(&self, folder: &str, args: &[&str]) -> (Option<i32>, Value) {
        let ran = self.run(&[&["--config", folder, "--json"], args].concat());
        let document = serde_json::from_slice(&ran.stdout);
        (ran.status.code(), document.unwrap_or_else(|error| panic!("{error}: {}", said(&ran))))
    }

    /// A row for each of these streams.
    pub async fn insert(&self, names: &[&str], id: u64) {
        for name in names {
            self.source.sql(&format!("INSERT INTO {name}.t VALUES ({id})")).await;
        }
    }

    pub fn last_tx(&self, name: &str) -> StreamTx {
        let head = self.s3.object(&format!("{name}/index.json")).expect("a head");
        Head::parse(&head).expect("a sound head").last_tx
    }

    /// Waits until the stream has this transaction.
    pub async fn wait_for(&self, name: &str, tx: u64) {
        let began = Instant::now();
        while self.last_tx(name) < StreamTx(tx) {
            assert!(began.elapsed() < PATIENCE, "{name} has come to {:?}", self.last_tx(name));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The heads of all streams, as keys of the bucket.
    pub fn heads(&self) -> Vec<String> {
        self.names.iter().map(|name| format!("{name}/index.json")).collect()
    }
}

pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}
