//! A stream with all that belongs to it, at a time that passes when the test says so: the source with its service, a bucket
//! in S3, the region `ap1`. What a page says is typed at a shell there, as it stands.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::alert::{Figures, assert_alerts};
use super::kit::Runbook;
use crate::http::kit::{admin, client, region_token};
use crate::ops::kit::{Follower, Ran, until};
use crate::support::clock::Clock;
use crate::support::free_port;
use crate::support::granted::{self, USER};
use crate::support::mysql::Server;
use crate::support::s3::{BUCKET, S3Server};

/// A minute on every clock.
const MINUTE: Duration = Duration::from_secs(60);
/// So short that all commands of a test together take no minute. Figures know milliseconds.
const MOMENT: Duration = Duration::from_millis(5);
const TABLES: &str = "CREATE DATABASE g; \
    CREATE TABLE g.apps (id INT PRIMARY KEY, name VARCHAR(80)); INSERT INTO g.apps VALUES (1, 'one'); \
    CREATE TABLE g.partners (id INT PRIMARY KEY, app INT); INSERT INTO g.partners VALUES (1, 1)";

pub struct World {
    pub page: Runbook,
    pub source: Server,
    pub region: Server,
    pub s3: S3Server,
    service: Option<Follower>,
    folder: tempfile::TempDir,
    port: u16,
    clock: Clock,
    passed: Mutex<Duration>,
    /// Of ap1's machine, but for its MySQL.
    of_region: Clock,
    region_is_ahead: Mutex<Duration>,
    /// Of the source's MySQL.
    of_source: Clock,
    source_is_ahead: Mutex<Duration>,
    /// What Prometheus has seen, by place.
    seen: Mutex<BTreeMap<String, Figures>>,
}

impl World {
    /// Everything is well, and a minute ago was as well.
    pub async fn of(page: &str) -> World {
        let clock = Clock::new();
        let (of_source, of_region) = (clock.another(), clock.another());
        let (source, region) = std::thread::scope(|scope| {
            let [source, region] =
                [&of_source, &clock].map(|clock| scope.spawn(|| Server::start_by(clock, &[])));
            (source.join().unwrap(), region.join().unwrap())
        });
        source.sql(TABLES).await;
        let folder = tempfile::tempdir().unwrap();
        let (port, s3) = (free_port(), S3Server::start());
        s3.go_by(clock.hands());
        let mut world = World {
            page: Runbook::open(page),
            source,
            region,
            s3,
            service: None,
            folder,
            port,
            clock,
            passed: Mutex::default(),
            of_region,
            region_is_ahead: Mutex::default(),
            of_source,
            source_is_ahead: Mutex::default(),
            seen: Mutex::default(),
        };
        std::fs::create_dir(world.path("bin")).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_tablecast"), world.path("bin/tablecast")).unwrap();
        world.write("token", &region_token("ap1").text);
        world.write("tokens.toml", &[region_token("ap1"), admin()].map(|token| token.entry).join("\n"));
        let serve = format!(
            "[serve]\nlisten = \"127.0.0.1:{port}\"\ntokens_file = \"tokens.toml\"\n[upload]\ninterval = \"200ms\"\n"
        );
        world.config("source", &format!("{}{serve}", mysql(&world.source)));
        world.config("ap1", &world.ap1(&world.region));
        world.did("source", "tablecast stream init --table g.apps --table g.partners");
        world.did("source", "tablecast dump take --all-tables");
        world.serve().await;
        world.did("ap1", "tablecast bootstrap");
        world.minute().await;
        world.minute().await;
        world
    }

    /// The sections of ap1's config file with this server.
    pub fn ap1(&self, server: &Server) -> String {
        format!(
            "{}[region]\nname = \"ap1\"\ntables = [\"g.apps\", \"g.partners\"]\nsource_url = \"http://127.0.0.1:{}\"\n\
             token_file = \"token\"\n[apply]\nguard = \"off\"\n",
            mysql(server),
            self.port
        )
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(self.path(name), text).unwrap();
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub fn config(&self, machine: &str, sections: &str) {
        let role = if machine == "source" { "source" } else { "region" };
        let text = format!(
            "role = \"{role}\"\nstream = \"apps\"\nstore = \"s3://{BUCKET}/apps\"\n[s3]\nregion = \"us-east-1\"\nendpoint = \"{}\"\n\
             path_style = true\n[files]\ncache_dir = \"{machine}/cache\"\nspool_dir = \"{machine}/spool\"\n[metrics]\n\
             textfile = \"{machine}.prom\"\n{sections}",
            self.s3.endpoint()
        );
        self.write_config(machine, &text);
    }

    fn write_config(&self, machine: &str, text: &str) {
        let name = format!("{machine}.toml");
        self.write(&name, &granted::config(text, &self.path(&name), &["g.apps", "g.partners"]));
    }

    /// Changes a config file.
    #[track_caller]
    pub fn reconfigure(&self, machine: &str, from: &str, to: &str) {
        let name = format!("{machine}.toml");
        let text = std::fs::read_to_string(self.path(&name)).unwrap();
        assert!(text.contains(from), "{text}");
        self.write_config(machine, &text.replace(from, to));
    }

    /// The config file names an account that is not there.
    pub fn by_nobody(&self, machine: &str) {
        let name = format!("{machine}.toml");
        let text = std::fs::read_to_string(self.path(&name)).unwrap();
        self.write(&name, &granted::as_user(&text, "nobody_here"));
    }

    /// Lines at a machine's shell. Before them a moment passes, so that figures show that they are newer than others.
    fn shell(&self, machine: &str, lines: &str) -> Command {
        self.pass(MOMENT);
        let mut bash = Command::new("bash");
        let path = std::env::var("PATH").unwrap_or_default();
        for variable in ["TABLECAST_FAILPOINTS", "TABLECAST_LOG", "SUDO_USER"] {
            bash.env_remove(variable);
        }
        bash.args(["-c", &lines.replace("https://source:8443", &self.url(""))])
            .current_dir(self.folder.path())
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .env("TABLECAST_CONFIG", self.path(&format!("{machine}.toml")))
            .env("LOGNAME", "anna")
            .envs(self.s3.env())
            .envs(if machine == "source" { &self.clock } else { &self.of_region }.env())
            .stdin(Stdio::null());
        bash
    }

    /// Types a line of the page.
    #[track_caller]
    pub fn types(&self, machine: &str, line: &str) -> Ran {
        self.types_with(machine, line, &[])
    }

    /// The same with other names in the places of those on the page.
    #[track_caller]
    pub fn types_with(&self, machine: &str, line: &str, names: &[(&str, &str)]) -> Ran {
        self.page.has(line);
        let line = names.iter().fold(line.to_owned(), |line, (from, to)| line.replace(from, to));
        ran(self.shell(machine, &line))
    }

    /// What cron does, of which no page need speak.
    pub fn cron(&self, machine: &str, job: &str) -> Ran {
        ran(self.shell(machine, &format!("tablecast {job}")))
    }

    /// What somebody did before, and that went well.
    #[track_caller]
    pub fn did(&self, machine: &str, line: &str) -> Ran {
        ran(self.shell(machine, line)).ends(0, &[])
    }

    /// A run that follows, or what else goes on.
    pub fn follows(&self, machine: &str, line: &str) -> Follower {
        Follower::start(self.shell(machine, &format!("exec {line}")))
    }

    /// Runs statements of the page.
    #[track_caller]
    pub fn sql(&self, server: &Server, statement: &str) {
        self.page.has(statement);
        server.client(&[], statement.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    }

    pub async fn serve(&mut self) {
        let service = self.follows("source", "tablecast serve");
        service.logs("serving http").await;
        self.service = Some(service);
    }

    /// The service is no more.
    pub fn stop_service(&mut self) {
        self.service = None;
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Time passes, in which nothing runs. Without this none does, but for a [`MOMENT`] now and then.
    pub fn passes(&self, minutes: u32) {
        self.pass(MINUTE * minutes);
    }

    fn pass(&self, time: Duration) {
        *self.passed.lock().unwrap() += time;
        self.tell_clocks();
    }

    /// From now on the clock of ap1's machine is so far ahead of all others, that of its MySQL included.
    pub fn region_is_ahead(&self, by: Duration) {
        *self.region_is_ahead.lock().unwrap() = by;
        self.tell_clocks();
    }

    /// The same of the source's MySQL.
    pub fn source_is_ahead(&self, by: Duration) {
        *self.source_is_ahead.lock().unwrap() = by;
        self.tell_clocks();
    }

    /// A server more.
    pub fn server(&self) -> Server {
        Server::start_by(&self.clock, &[])
    }

    fn tell_clocks(&self) {
        let passed = *self.passed.lock().unwrap();
        self.clock.set_forward(passed);
        self.of_region.set_forward(passed + *self.region_is_ahead.lock().unwrap());
        self.of_source.set_forward(passed + *self.source_is_ahead.lock().unwrap());
    }

    /// What time it is here.
    pub fn now(&self) -> DateTime<Utc> {
        tablecast::clock::Clock::now(&*self.clock.hands())
    }

    /// Prometheus looks, a minute passes, and cron runs both jobs.
    pub async fn minute(&self) {
        self.look().await;
        self.passes(1);
        self.cron("source", "upload");
        self.cron("ap1", "apply");
    }

    /// Prometheus looks. What changes from now on until an alert is asked for goes on changing.
    pub async fn look(&self) {
        *self.seen.lock().unwrap() = self.figures().await;
    }

    /// What every place tells now, behind what it has told.
    async fn figures(&self) -> BTreeMap<String, Figures> {
        let mut told = BTreeMap::new();
        for file in std::fs::read_dir(self.folder.path()).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "prom") {
                let text = std::fs::read_to_string(&path).unwrap();
                told.insert(path.display().to_string(), text);
            }
        }
        // The service may answer from a head that is half a second old.
        tokio::time::sleep(Duration::from_millis(if self.service.is_some() { 600 } else { 0 })).await;
        if let Ok(answer) = client().get(self.url("/metrics")).bearer_auth(admin().text).send().await {
            told.insert("service".into(), answer.error_for_status().unwrap().text().await.unwrap());
        }
        let mut figures = self.seen.lock().unwrap().clone();
        for place in told.keys() {
            figures.entry(place.clone()).or_default();
        }
        for (place, figures) in &mut figures {
            figures.see(&told.remove(place).unwrap_or_default());
        }
        figures
    }

    /// Whether the page's alert fires when things have come to go on like this.
    pub async fn alert(&self, name: &str, fires: bool) {
        self.alerts(&[name], fires).await;
    }

    /// The same of each of these.
    pub async fn alerts(&self, names: &[&str], fire: bool) {
        names.iter().for_each(|name| self.page.has(name));
        let figures = self.figures().await;
        let alerts: Vec<(&str, bool)> = names.iter().map(|name| (*name, fire)).collect();
        assert_alerts(&alerts, &figures.values().collect::<Vec<_>>(), self.now(), self.folder.path());
        // Of what it has seen just now it remembers that it was there, and goes on from where it looked.
        for (place, figures) in figures {
            self.seen.lock().unwrap().entry(place).or_default().remember(&figures);
        }
    }

    /// Another region, eu1, reports that it is as the first is: as far as the source knows, there are two.
    pub async fn eu1_reports(&self) {
        let key = self.s3.keys().into_iter().find(|key| key.contains("/regions/")).unwrap();
        let mut report: serde_json::Value = serde_json::from_slice(&self.s3.object(&key).unwrap()).unwrap();
        report.as_object_mut().unwrap().remove("sha256");
        report["region"] = "eu1".into();
        let put = client().put(self.url("/v1/regions/eu1")).bearer_auth(admin().text).json(&report);
        assert_eq!(put.send().await.unwrap().status(), 204);
    }

    /// Waits until `status --all` says this.
    pub async fn until_all_says(&self, text: &str) {
        until(text, || async { self.cron("source", "status --all").stdout.contains(text) }).await;
    }

    pub async fn assert_equal(&self) {
        for table in ["g.apps", "g.partners"] {
            let there = self.source.checksum(table).await;
            assert!(there.is_some(), "{table}");
            assert_eq!(there, self.region.checksum(table).await, "{table}");
        }
    }
}

/// Runs it to its end. Columns are one space apart then, however wide they are.
fn ran(command: Command) -> Ran {
    let mut ran = Ran::of(command);
    while ran.stdout.contains("  ") {
        ran.stdout = ran.stdout.replace("  ", " ");
    }
    ran
}

fn mysql(server: &Server) -> String {
    format!(
        "[mysql]\nhost = \"127.0.0.1\"\nport = {}\nuser = \"{USER}\"\ntls = {{ mode = \"off\" }}\n",
        server.port
    )
}
