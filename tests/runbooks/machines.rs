//! Machines at which somebody follows a page: each line is typed at a shell as it stands there. Nothing but the names that
//! only its readers know are put in, where a test says so.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::alert::{Figures, assert_alert};
use super::kit::Runbook;
use crate::ops::kit::{Follower, Ran, command, write_script};
use crate::support::free_port;
use crate::support::granted::{self, USER};
use crate::support::mysql::Server;

/// The machines of one stream, each with a config file, and a bucket.
pub struct Machines {
    pub page: Runbook,
    folder: tempfile::TempDir,
    figures: RefCell<BTreeMap<String, Figures>>,
}

impl Machines {
    pub fn of(page: &str) -> Machines {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("bucket")).unwrap();
        let machines = Machines { page: Runbook::open(page), folder, figures: RefCell::default() };
        // What is on everybody's PATH.
        let programs = machines.path("bin");
        std::fs::create_dir(&programs).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_tablecast"), programs.join("tablecast")).unwrap();
        let tool = concat!("exec '", env!("CARGO_MANIFEST_DIR"), "/scripts/mysql' tool");
        let client = "--no-defaults --host=127.0.0.1 --port=\"$SERVER\" --user=root \"$@\"";
        write_script(&programs.join("mysql"), &format!("{tool} mysql {client}"));
        write_script(&programs.join("mysqlbinlog"), &format!("{tool} mysqlbinlog --no-defaults \"$@\""));
        write_script(&programs.join("less"), "exec cat \"$@\"");
        machines
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the config file of a machine: where the stream is, and `more`.
    pub fn config(&self, machine: &str, more: &str) {
        let folder = self.folder.path().display();
        let role = if more.contains("[region]") { "region" } else { "source" };
        let text = format!(
            "role = \"{role}\"\nstream = \"apps\"\nstore = \"file://{folder}/bucket\"\n{more}\n[metrics]\n\
             textfile = \"{folder}/{machine}.prom\"\n"
        );
        let files = format!(
            "[files]\ncache_dir = \"{folder}/{machine}/cache\"\nspool_dir = \"{folder}/{machine}/spool\"\n"
        );
        let files = if more.contains("[files]") { String::new() } else { files };
        granted::write(&self.file(machine), &(text + &files), &["g.*"]);
    }

    /// Changes it.
    #[track_caller]
    pub fn reconfigure(&self, machine: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.file(machine)).unwrap();
        assert!(text.contains(from), "{text}");
        granted::write(&self.file(machine), &text.replace(from, to), &["g.*"]);
    }

    fn file(&self, machine: &str) -> PathBuf {
        self.path(&format!("{machine}.toml"))
    }

    /// A run from cron, or what else somebody did before the page: its words need not be there.
    pub fn runs(&self, machine: &str, words: &[&str]) -> Ran {
        self.remembering(machine, || Ran::of(command(&self.file(machine), words)))
    }

    fn remembering(&self, machine: &str, run: impl FnOnce() -> Ran) -> Ran {
        let ran = run();
        if let Ok(text) = std::fs::read_to_string(self.path(&format!("{machine}.prom"))) {
            self.figures.borrow_mut().entry(machine.to_owned()).or_default().tell(&text);
        }
        ran
    }

    /// Types a line of the page at a machine.
    #[track_caller]
    pub fn types(&self, machine: &str, line: &str) -> Ran {
        self.types_with(machine, line, &[])
    }

    /// The same with names in the places of those on the page.
    #[track_caller]
    pub fn types_with(&self, machine: &str, line: &str, names: &[(&str, &str)]) -> Ran {
        self.page.has(line);
        let line = with(line, names);
        self.remembering(machine, || Ran::of(self.shell(machine, 0, &line)))
    }

    /// A shell at a machine, which runs these lines; `mysql` connects to a server's port.
    pub fn shell(&self, machine: &str, server: u16, lines: &str) -> Command {
        let mut bash = command(&self.file(machine), &[]);
        // Its environment, not its program.
        let environment: Vec<_> =
            bash.get_envs().map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned))).collect();
        bash = Command::new("bash");
        for (name, value) in environment {
            match value {
                Some(value) => bash.env(name, value),
                None => bash.env_remove(name),
            };
        }
        let path = std::env::var("PATH").unwrap_or_default();
        bash.args(["-c", lines])
            .current_dir(self.folder.path())
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .env("TABLECAST_CONFIG", self.file(machine))
            .env("SERVER", server.to_string())
            .stdin(Stdio::null());
        bash
    }

    /// Runs a statement of the page at a server, with names as for `types_with`; what it answers.
    #[track_caller]
    pub fn sql_with(&self, server: &Server, statements: &str, names: &[(&str, &str)]) -> String {
        self.page.has(statements);
        administrator(server, &with(statements, names))
    }

    #[track_caller]
    pub fn sql(&self, server: &Server, statements: &str) -> String {
        self.sql_with(server, statements, &[])
    }

    /// Whether the page's alert fires when figures like those of now have come to stay.
    #[track_caller]
    pub fn alert(&self, name: &str, fires: bool) {
        self.page.has(name);
        let figures = self.figures.borrow();
        assert_alert(name, fires, &figures.values().collect::<Vec<_>>(), self.folder.path());
    }

    /// Uploads what is written each time, until the time to which the stream is complete has moved from one run to the next:
    /// it may stand still for a second.
    pub async fn goes_on(&self, mut writes: impl AsyncFnMut(u32)) {
        for n in 1..1000 {
            writes(n).await;
            self.runs("source", &["upload"]).ends(0, &[]);
            let moved = |figures: &Figures| figures.has_moved("tablecast_stream_as_of_timestamp_seconds");
            if self.figures.borrow().get("source").is_some_and(moved) {
                return;
            }
        }
        panic!("it stands still");
    }

    /// The sections and lines of a service at `source`, and of eu1's section [region], which reports to it with the token in
    /// the file `eu1.token`.
    pub fn service(&self) -> [String; 2] {
        let address = format!("127.0.0.1:{}", free_port());
        let tokens = self.path("tokens.toml").display().to_string();
        let token = self.path("eu1.token").display().to_string();
        [
            format!("[serve]\nlisten = \"{address}\"\ntokens_file = \"{tokens}\"\n"),
            format!("source_url = \"http://{address}\"\ntoken_file = \"{token}\"\n"),
        ]
    }

    pub async fn serve(&self) -> Follower {
        let service = Follower::start(command(&self.file("source"), &["serve"]));
        service.logs("serving http").await;
        service
    }

    /// Writes a file that nobody else may read.
    pub fn secret(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
        std::fs::set_permissions(self.path(name), PermissionsExt::from_mode(0o600)).unwrap();
    }

    pub fn bucket(&self) -> PathBuf {
        self.path("bucket")
    }
}

/// Statements as an administrator's client runs them.
#[track_caller]
pub fn administrator(server: &Server, statements: &str) -> String {
    let ran = server.client(&["--table"], statements.as_bytes());
    let ran = ran.unwrap_or_else(|error| panic!("{statements}: {error}"));
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

fn with(line: &str, names: &[(&str, &str)]) -> String {
    names.iter().fold(line.to_owned(), |line, (from, to)| {
        assert!(line.contains(from), "no {from:?} in {line:?}");
        line.replace(from, to)
    })
}

/// A section of a config file that names a server.
pub fn server(section: &str, server: &Server) -> String {
    server_as(section, server, USER, "")
}

pub fn server_as(section: &str, server: &Server, user: &str, more: &str) -> String {
    format!(
        "[{section}]\nhost = \"127.0.0.1\"\nport = {}\nuser = \"{user}\"\n{more}tls = {{ mode = \"off\" }}\n",
        server.port
    )
}

/// The sections of a region eu1 that lets in `tables`.
pub fn eu1(here: &Server, tables: &str) -> String {
    format!("{}[region]\nname = \"eu1\"\ntables = [{tables}]\n", server("mysql", here))
}

/// Asserts that tables are the same at two servers.
pub async fn assert_same(tables: &[&str], here: &Server, there: &Server) {
    for table in tables {
        let checksum = here.checksum(table).await;
        assert!(checksum.is_some(), "{table}");
        assert_eq!(checksum, there.checksum(table).await, "{table}");
    }
}

/// The line of a command's facts that begins so, without that.
#[track_caller]
pub fn fact(ran: &Ran, name: &str) -> String {
    let line = ran.stdout.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("  "));
    line.unwrap_or_else(|| panic!("no {name:?}: {ran:?}")).trim().to_owned()
}

pub fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What `tablecast token` has printed: the token, and the entry that admits it.
#[track_caller]
pub fn token(ran: &Ran) -> (String, String) {
    let (token, entry) = ran.stdout.split_once("\n\n").unwrap_or_else(|| panic!("{ran:?}"));
    (token.lines().last().unwrap().to_owned(), format!("{entry}\n"))
}
