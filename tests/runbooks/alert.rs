//! Whether an alert fires by the figures that real runs have left.

use std::path::Path;

use tablecast::clock::{Clock, SystemClock};

use crate::metrics::promtool;

/// How long after the figures it is asked. Longer than any rule but those on pauses wants to wait.
const MINUTES: u32 = 100;

/// Figures as they came to be told, the newest last. A point in time that the newest telling has moved goes on moving, as it
/// does while runs from cron leave figures like these; everything else stays as it is.
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

    fn series(&self, now: f64) -> String {
        let Some((newest, earlier)) = self.0.split_last() else { return String::new() };
        let mut series = String::new();
        for line in newest.lines().filter(|line| !line.starts_with('#')) {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let mut value: f64 = value.parse().unwrap();
            let mut step = 0;
            // promtool's clock begins at 0.
            if sample.contains("_timestamp_seconds") {
                let before = earlier.last().and_then(|text| of(text, sample));
                step = if before.is_some_and(|before| before != value) { 60 } else { 0 };
                value -= now;
            }
            series +=
                &format!("      - series: '{sample}'\n        values: '{value}+{step}x{}'\n", MINUTES + 10);
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
    let now = SystemClock.now().timestamp() as f64;
    let series: String = everybodys.iter().map(|figures| figures.series(now)).collect();
    assert!(!series.is_empty(), "no run has left figures");
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/package/prometheus/tablecast.rules.yml");
    let text = std::fs::read_to_string(&rules).unwrap();
    assert!(text.contains(&format!("- alert: {name}\n")), "there is no alert {name}");
    let wanted = if fires { "\n          - labels: '{}'\n            value: 1" } else { " []" };
    let test = format!(
        "rule_files: ['{}']\nevaluation_interval: 1m\ntests:\n  - interval: 1m\n    input_series:\n{series}    \
         promql_expr_test:\n      - expr: count(count by (alertname) (ALERTS{{alertname=\"{name}\",alertstate=\"firing\"}}))\n        \
         eval_time: {MINUTES}m\n        exp_samples:{wanted}\n",
        rules.display()
    );
    let path = folder.join("alert.yml");
    std::fs::write(&path, test).unwrap();
    promtool(&["test", "rules", path.to_str().unwrap()], "");
}
