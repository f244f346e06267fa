//! Whether an alert fires by the figures that real runs have left.

use std::path::Path;

use chrono::{DateTime, Utc};
use tablecast::clock::{Clock, SystemClock};

use crate::metrics::promtool;

/// How long after the figures it is asked. Longer than any rule but those on pauses wants to wait.
const MINUTES: u32 = 100;

/// Figures of one place as they came to be told, the newest last. A point in time or a counter that the newest telling has moved
/// goes on moving, as it does while runs from cron leave figures like these each minute; what it does not tell any more is gone;
/// everything else stays as it is.
#[derive(Default)]
pub struct Figures(Vec<String>);

impl Figures {
    pub fn tell(&mut self, text: String) {
        if self.0.last() != Some(&text) {
            self.0.push(text);
        }
    }

    /// Whether the newest telling has moved this point in time.
    pub fn has_moved(&self, metric: &str) -> bool {
        let Some((newest, earlier)) = self.0.split_last() else { return false };
        let mut samples = newest.lines().filter(|line| line.starts_with(metric));
        samples.any(|line| {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            earlier.last().and_then(|text| of(text, sample)).is_some_and(|before| Ok(before) != value.parse())
        })
    }

    /// `place`: as Prometheus tells places apart, where two tell the same.
    fn series(&self, place: usize, now: f64) -> String {
        let Some((newest, earlier)) = self.0.split_last() else { return String::new() };
        let before = earlier.last().map_or("", String::as_str);
        let samples = |text| str::lines(text).filter(|line| !line.starts_with('#'));
        let stay = samples(newest).map(|line| (line, true));
        let are_gone = |line: &&str| of(newest, line.rsplit_once(' ').unwrap().0).is_none();
        let gone = samples(before).filter(are_gone).map(|line| (line, false));
        let mut series = String::new();
        for (line, is_there) in stay.chain(gone) {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let value: f64 = value.parse().unwrap();
            let is_time = sample.contains("_timestamp_seconds");
            let step = match of(before, sample).map_or(0.0, |before| value - before) {
                moved if moved != 0.0 && is_time => 60.0,
                moved if moved > 0.0 && sample.contains("_total{") => moved,
                _ => 0.0,
            };
            // promtool's clock begins at 0.
            let value = if is_time { value - now } else { value };
            let count = MINUTES + 10;
            let values =
                if is_there { format!("{value}+{step}x{count}") } else { format!("{value} _x{count}") };
            let sample = sample.strip_suffix('}').unwrap_or_else(|| panic!("no labels: {line}"));
            series +=
                &format!("      - series: '{sample},instance=\"{place}\"}}'\n        values: '{values}'\n");
        }
        series
    }
}

fn of(text: &str, sample: &str) -> Option<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '))?;
    value.parse().ok()
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
