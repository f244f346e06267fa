//! Whether an alert fires by the figures that real runs have left.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{DateTime, Utc};
use tablecast::clock::{Clock, SystemClock};

use crate::metrics::promtool;

/// How long after the figures it is asked. Longer than any rule but those on pauses wants to wait.
const MINUTES: u32 = 100;

/// Figures of one place as they came to be told. A point in time or a counter that the newest telling has moved goes on moving,
/// as it does while runs from cron leave figures like these each minute; what has been told at any time and is not any more has
/// ended; everything else stays as it is.
#[derive(Clone, Default)]
pub struct Figures {
    newest: Samples,
    /// Of the telling before that.
    before: Samples,
    /// Of all earlier ones, as they were last told.
    past: Samples,
}

/// Values by the names and labels that they stand under.
type Samples = BTreeMap<String, f64>;

impl Figures {
    /// A run has told these, or nothing anew.
    pub fn tell(&mut self, text: &str) {
        let told = samples(text);
        if told != self.newest {
            self.see_samples(told);
        }
    }

    /// Somebody looks, and sees these, whether anything is new or not.
    pub fn see(&mut self, text: &str) {
        self.see_samples(samples(text));
    }

    fn see_samples(&mut self, told: Samples) {
        self.past.append(&mut self.before);
        self.before = std::mem::replace(&mut self.newest, told);
    }

    /// That these have been seen as well.
    pub fn remember(&mut self, others: &Figures) {
        self.past.extend(others.newest.clone());
    }

    /// Whether the newest telling has moved this point in time.
    pub fn has_moved(&self, metric: &str) -> bool {
        let mut samples = self.newest.iter().filter(|(sample, _)| sample.starts_with(metric));
        samples.any(|(sample, value)| self.before.get(sample).is_some_and(|before| before != value))
    }

    /// `place`: as Prometheus tells places apart, where two tell the same.
    fn series(&self, place: usize, now: f64) -> String {
        let mut ended = self.past.clone();
        ended.extend(self.before.clone());
        ended.retain(|sample, _| !self.newest.contains_key(sample));
        let stay = self.newest.iter().map(|sample| (sample, true));
        let mut series = String::new();
        for ((sample, value), is_there) in stay.chain(ended.iter().map(|sample| (sample, false))) {
            let is_time = sample.contains("_timestamp_seconds");
            let step = match self.before.get(sample).map_or(0.0, |before| value - before) {
                moved if moved != 0.0 && is_time => 60.0,
                moved if moved > 0.0 && sample.contains("_total{") => moved,
                _ => 0.0,
            };
            // promtool's clock begins at 0.
            let value = if is_time { value - now } else { *value };
            let count = MINUTES + 10;
            let values =
                if is_there { format!("{value}+{step}x{count}") } else { format!("{value} _x{count}") };
            let sample = sample.strip_suffix('}').unwrap_or_else(|| panic!("no labels: {sample}"));
            series +=
                &format!("      - series: '{sample},instance=\"{place}\"}}'\n        values: '{values}'\n");
        }
        series
    }
}

fn samples(text: &str) -> Samples {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (sample, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line:?}"));
        (sample.to_owned(), value.parse().unwrap_or_else(|error| panic!("{error}: {line:?}")))
    };
    lines.map(sample).collect()
}

/// Asserts that the alert of that name fires, or that it does not, 100 minutes after everybody's figures. `folder`: for a file of
/// promtool's.
#[track_caller]
pub fn assert_alert(name: &str, fires: bool, everybodys: &[&Figures], folder: &Path) {
    assert_alerts(&[(name, fires)], everybodys, SystemClock.now(), folder);
}

/// The same of several, by figures of a time that is called `now`.
#[track_caller]
pub fn assert_alerts(alerts: &[(&str, bool)], everybodys: &[&Figures], now: DateTime<Utc>, folder: &Path) {
    let now = now.timestamp() as f64;
    let places = everybodys.iter().enumerate();
    let series: String = places.map(|(place, figures)| figures.series(place, now)).collect();
    assert!(!series.is_empty(), "no run has left figures");
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/package/prometheus/tablecast.rules.yml");
    let text = std::fs::read_to_string(&rules).unwrap();
    let mut wanted = String::new();
    for (name, fires) in alerts {
        assert!(text.contains(&format!("- alert: {name}\n")), "there is no alert {name}");
        let samples = if *fires { "\n          - labels: '{}'\n            value: 1" } else { " []" };
        wanted += &format!(
            "      - expr: count(count by (alertname) (ALERTS{{alertname=\"{name}\",alertstate=\"firing\"}}))\n        \
             eval_time: {MINUTES}m\n        exp_samples:{samples}\n"
        );
    }
    let test = format!(
        "rule_files: ['{}']\nevaluation_interval: 1m\ntests:\n  - interval: 1m\n    input_series:\n{series}    \
         promql_expr_test:\n{wanted}",
        rules.display()
    );
    let path = folder.join("alert.yml");
    std::fs::write(&path, &test).unwrap();
    promtool(&["test", "rules", path.to_str().unwrap()], &test);
}
