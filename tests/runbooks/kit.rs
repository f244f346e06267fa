//! A page, a stream in trouble, and the alert.

use std::path::{Path, PathBuf};

use crate::apply::kit::Stream;
use crate::metrics::promtool;
use crate::ops::kit::{Ran, command};
use crate::support::mysql::Server;

/// A page under docs/runbooks; what a test does is on it.
pub struct Runbook(String);

impl Runbook {
    pub fn open(name: &str) -> Runbook {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbooks").join(name).with_extension("md");
        Runbook(std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    /// That it has this command, in a line of its own or among its text.
    #[track_caller]
    pub fn has(&self, command: &str) {
        let in_line = self.0.lines().any(|line| {
            let rest = line.trim_start().strip_prefix(command);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', ';']))
        });
        let in_text = self.0.contains(&format!("`{command}`"));
        assert!(in_line || in_text, "the page does not say {command:?}");
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
            _ => self.stream.region_file(&self.region, "root", &["@.*"]),
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

    /// Whether the page's alert fires, half an hour after figures like these came to stay.
    #[track_caller]
    pub fn alert(&self, name: &str, fires: bool) {
        self.page.has(name);
        let now = tablecast::clock::Clock::now(&tablecast::clock::SystemClock).timestamp() as f64;
        let mut series = String::new();
        for role in ["source", "region"] {
            let figures = std::fs::read_to_string(self.figures(role)).unwrap_or_default();
            for line in figures.lines().filter(|line| !line.starts_with('#')) {
                let (sample, value) = line.rsplit_once(' ').unwrap();
                let mut value: f64 = value.parse().unwrap();
                // promtool's clock begins at 0.
                if sample.contains("_timestamp_seconds") {
                    value -= now;
                }
                series += &format!("      - series: '{sample}'\n        values: '{value}x40'\n");
            }
        }
        assert!(!series.is_empty(), "no run has left figures");
        let rules =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/package/prometheus/tablecast.rules.yml");
        let wanted = if fires { "\n          - labels: '{}'\n            value: 1" } else { " []" };
        let test = format!(
            "rule_files: ['{}']\nevaluation_interval: 1m\ntests:\n  - interval: 1m\n    input_series:\n{series}    \
             promql_expr_test:\n      - expr: count(count by (alertname) (ALERTS{{alertname=\"{name}\",alertstate=\"firing\"}}))\n        \
             eval_time: 30m\n        exp_samples:{wanted}\n",
            rules.display()
        );
        let path = self.folder.path().join("alert.yml");
        std::fs::write(&path, test).unwrap();
        promtool(&["test", "rules", path.to_str().unwrap()], "");
    }
}
