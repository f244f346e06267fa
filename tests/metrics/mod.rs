//! What Prometheus is told: the text files of real runs, `/metrics` of the real service, alert rules and dashboard, each
//! held against promtool and against the catalogue of the code.

mod alerts;
mod docs;
mod files;
mod scraped;
mod service;

use std::collections::BTreeMap;
use std::path::Path;

use crate::support::mysql::script;

/// Runs promtool, which scripts/mysql gets like the other tools.
#[track_caller]
pub fn promtool(args: &[&str], stdin: &str) {
    let args = [&["extra", "prometheus", "promtool"], args].concat();
    script(&args, stdin.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{stdin}"));
}

/// Samples by their text: `name{label="value"}`. promtool has nothing to say against them.
struct Scraped(BTreeMap<String, f64>);

impl Scraped {
    #[track_caller]
    fn of(text: &str) -> Scraped {
        promtool(&["check", "metrics"], text);
        let samples = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("a sample");
            (series.to_owned(), value.parse().expect("a number"))
        });
        Scraped(samples.collect())
    }

    #[track_caller]
    fn file(path: &Path) -> Scraped {
        Scraped::of(
            &std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())),
        )
    }

    /// The value of the one series of this metric that has these labels among its own; `None` if there is none.
    #[track_caller]
    fn get(&self, metric: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut found = self.all(metric, labels);
        let first = found.next();
        assert!(found.next().is_none(), "{metric}{labels:?} is not one series: {:?}", self.0);
        first.map(|(_, value)| value)
    }

    /// The sum of those.
    fn sum(&self, metric: &str, labels: &[(&str, &str)]) -> f64 {
        self.all(metric, labels).map(|(_, value)| value).sum()
    }

    fn all<'a>(
        &'a self,
        metric: &'a str,
        labels: &'a [(&str, &str)],
    ) -> impl Iterator<Item = (&'a str, f64)> {
        let has = |series: &str, (label, value): &(&str, &str)| {
            series.contains(&format!("{{{label}=\"{value}\""))
                || series.contains(&format!(",{label}=\"{value}\""))
        };
        self.0
            .iter()
            .filter(move |(series, _)| series.split('{').next() == Some(metric))
            .filter(move |(series, _)| labels.iter().all(|label| has(series, label)))
            .map(|(series, value)| (series.as_str(), *value))
    }
}
