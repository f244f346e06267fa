//! A page, a stream in trouble, and the alert.

use std::path::{Path, PathBuf};

use super::alert::{Figures, assert_alert};
use crate::apply::kit::Stream;
use crate::ops::kit::{Ran, command};
use crate::support::granted;
use crate::support::mysql::Server;

/// A page under docs/runbooks; what a test does is on it.
pub struct Runbook(String);

impl Runbook {
    pub fn open(name: &str) -> Runbook {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbooks").join(name).with_extension("md");
        Runbook(std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    /// That it has this command, in a line of its own (of SQL: behind `mysql>`, maybe) or among its text.
    #[track_caller]
    pub fn has(&self, command: &str) {
        let in_line = self.0.lines().any(|line| {
            let line = line.trim_start();
            let rest = line.strip_prefix("mysql> ").unwrap_or(line).strip_prefix(command);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', ';']))
        });
        let text = self.0.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(in_line || text.contains(&format!("`{command}`")), "the page does not say {command:?}");
    }

    /// The block of commands that begins with this line, as it stands there.
    #[track_caller]
    pub fn block(&self, first: &str) -> String {
        let mut lines = self.0.lines().skip_while(|line| line.strip_prefix("    ") != Some(first)).peekable();
        assert!(lines.peek().is_some(), "no block of the page begins with {first:?}");
        lines.map_while(|line| line.strip_prefix("    ")).map(|line| format!("{line}\n")).collect()
    }
}

/// A stream with a source and one region, whose runs leave figures.
pub struct Scene {
    pub page: Runbook,
    pub stream: Stream,
    pub region: Server,
    folder: tempfile::TempDir,
}

impl Scene {
    /// `tables`: as for [`Stream::new`].
    pub async fn of(page: &str, schema: &'static str, tables: &str) -> Scene {
        let page = Runbook::open(page);
        let stream = Stream::new(schema, tables).await;
        Scene { page, stream, region: Server::start(&[]), folder: tempfile::tempdir().unwrap() }
    }

    fn figures(&self, role: &str) -> PathBuf {
        self.folder.path().join(format!("{role}.prom"))
    }

    /// The config file of a role, with a file for its figures.
    pub fn config(&self, role: &str) -> PathBuf {
        let of_stream = match role {
            "source" => self.stream.source_file(),
            _ => self.stream.region_file(&self.region, granted::USER, &["@.*"]),
        };
        let text = std::fs::read_to_string(of_stream).unwrap();
        let path = self.folder.path().join(format!("{role}.toml"));
        let figures = format!("\n[metrics]\ntextfile = {:?}\n", self.figures(role).display().to_string());
        std::fs::write(&path, text + &figures).unwrap();
        path
    }

    #[track_caller]
    fn run(&self, role: &str, line: &str) -> Ran {
        self.page.has(line);
        let line = line.replace("g.apps", &format!("{}.apps", self.stream.schema));
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[0], "tablecast", "{line}");
        Ran::of(command(&self.config(role), &words[1..]))
    }

    /// Runs a command that the page has, at the source.
    #[track_caller]
    pub fn at_source(&self, line: &str) -> Ran {
        self.run("source", line)
    }

    /// The same in the region.
    #[track_caller]
    pub fn in_region(&self, line: &str) -> Ran {
        self.run("region", line)
    }

    /// A run from cron, of which no page need speak.
    pub fn cron(&self, role: &str, job: &str) -> Ran {
        Ran::of(command(&self.config(role), &[job]))
    }

    /// Whether the page's alert fires when figures like these have come to stay.
    #[track_caller]
    pub fn alert(&self, name: &str, fires: bool) {
        self.page.has(name);
        let everybodys = ["source", "region"].map(|role| {
            let mut figures = Figures::default();
            figures.tell(&std::fs::read_to_string(self.figures(role)).unwrap_or_default());
            figures
        });
        assert_alert(name, fires, &everybodys.each_ref(), self.folder.path());
    }
}
