//! Prometheus' text format, version 0.0.4: written, and read back as far as we write it.
//! <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>

use std::collections::BTreeMap;
use std::fmt::Write;

use chrono::{DateTime, Utc};

use super::catalogue::{AGES, ALL, Metric};
use super::timestamp;

/// What the service's answer says it is.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A metric with its labels' values, in the order of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    pub metric: &'static str,
    pub values: Vec<String>,
}

/// Samples, at most one of each series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples(BTreeMap<Series, f64>);

impl Samples {
    /// One sample; nothing if the value is not known. `values`: of all labels of the metric.
    pub fn set(&mut self, metric: &'static Metric, values: &[&str], value: impl Into<Option<f64>>) {
        debug_assert_eq!(values.len(), metric.labels.len(), "{}", metric.name);
        if let Some(value) = value.into() {
            let values = values.iter().map(|value| (*value).to_owned()).collect();
            self.put(Series { metric: metric.name, values }, value);
        }
    }

    pub fn put(&mut self, series: Series, value: f64) {
        self.0.insert(series, value);
    }

    pub fn add(&mut self, series: Series, amount: f64) {
        *self.0.entry(series).or_insert(0.0) += amount;
    }

    pub fn remove(&mut self, series: &Series) {
        self.0.remove(series);
    }

    pub fn get(&self, series: &Series) -> Option<f64> {
        self.0.get(series).copied()
    }

    pub fn extend(&mut self, others: Samples) {
        self.0.extend(others.0);
    }

    /// Keeps those for which this holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&Metric, &[String]) -> bool) {
        self.0.retain(|series, _| find(series.metric).is_some_and(|metric| keep(metric, &series.values)));
    }

    /// Tells the age of each point in time that has one in the catalogue. A time that is yet to come has the age 0.
    pub fn tell_ages(&mut self, now: DateTime<Utc>) {
        let now = timestamp(now).unwrap_or_default();
        for (time, age) in AGES {
            self.0.retain(|series, _| series.metric != age.name);
            let ages: Vec<(Series, f64)> = self
                .of(time)
                .map(|(values, then)| {
                    (Series { metric: age.name, values: values.to_vec() }, (now - then).max(0.0))
                })
                .collect();
            self.0.extend(ages);
        }
    }

    fn of(&self, metric: &Metric) -> impl Iterator<Item = (&[String], f64)> {
        let name = metric.name;
        let first = Series { metric: name, values: Vec::new() };
        self.0
            .range(first..)
            .take_while(move |(series, _)| series.metric == name)
            .map(|(series, value)| (series.values.as_slice(), *value))
    }

    /// The text: each metric with its help and type in front of its samples.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for metric in ALL {
            let mut samples = self.of(metric).peekable();
            if samples.peek().is_none() {
                continue;
            }
            let name = metric.name;
            // No help holds what would have to be escaped: a test of the catalogue sees to that.
            let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {}", metric.help, metric.kind.name());
            for (values, value) in samples {
                text.push_str(name);
                let mut separator = '{';
                for (label, value) in metric.labels.iter().zip(values).filter(|(_, value)| !value.is_empty())
                {
                    let _ = write!(text, "{separator}{label}=\"{}\"", escape(value));
                    separator = ',';
                }
                if separator == ',' {
                    text.push('}');
                }
                let _ = writeln!(text, " {value}");
            }
        }
        text
    }

    /// Reads what [`Self::to_text`] has written. What is not understood, or not of this version, is left out.
    pub fn parse(text: &str) -> Samples {
        let mut samples = Samples::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some((series, value)) = parse_line(line) {
                samples.put(series, value);
            }
        }
        samples
    }
}

fn find(name: &str) -> Option<&'static Metric> {
    ALL.iter().find(|metric| metric.name == name).copied()
}

fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out
}

fn parse_line(line: &str) -> Option<(Series, f64)> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let metric = find(name)?;
    let mut values = vec![String::new(); metric.labels.len()];
    if let Some(labels) = rest.strip_prefix('{') {
        rest = labels;
        loop {
            let (label, value) = rest.split_once("=\"")?;
            let at = metric.labels.iter().position(|known| *known == label)?;
            let (value, after) = unescape(value)?;
            values[at] = value;
            rest = after;
            match rest.chars().next()? {
                ',' => rest = &rest[1..],
                '}' => break,
                _ => return None,
            }
        }
        rest = &rest[1..];
    }
    let value: f64 = rest.strip_prefix(' ')?.parse().ok()?;
    value.is_finite().then_some((Series { metric: metric.name, values }, value))
}

/// The text up to the quotation mark that ends it, and what is behind that.
fn unescape(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                c => c,
            }),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::catalogue as c;
    use super::*;

    #[test]
    fn a_metric_has_help_and_type_once_and_an_empty_label_is_none() {
        let mut samples = Samples::default();
        samples.set(&c::RUNS, &["apps", "source", "", "upload", "0"], 3.0);
        samples.set(&c::RUNS, &["apps", "source", "", "upload", "12"], 1.0);
        samples.set(&c::STREAM_AS_OF, &["apps"], 1_767_225_600.25);
        samples.set(&c::STREAM_TX, &["apps"], None);
        assert_eq!(
            samples.to_text(),
            "# HELP tablecast_runs_total Runs that ended, by exit code.\n\
             # TYPE tablecast_runs_total counter\n\
             tablecast_runs_total{stream=\"apps\",role=\"source\",command=\"upload\",code=\"0\"} 3\n\
             tablecast_runs_total{stream=\"apps\",role=\"source\",command=\"upload\",code=\"12\"} 1\n\
             # HELP tablecast_stream_as_of_timestamp_seconds The source's time up to which the stream is complete.\n\
             # TYPE tablecast_stream_as_of_timestamp_seconds gauge\n\
             tablecast_stream_as_of_timestamp_seconds{stream=\"apps\"} 1767225600.25\n"
        );
    }

    #[test]
    fn an_age_is_told_of_a_time_that_is_known_and_of_no_other() {
        let now = DateTime::from_timestamp(1_000_000_060, 0).unwrap();
        let mut samples = Samples::default();
        samples.set(&c::REGION_AS_OF, &["apps", "eu1"], 1_000_000_000.0);
        samples.set(&c::REGION_AS_OF, &["apps", "ap1"], 1_000_000_090.0);
        samples.set(&c::REGION_LAG, &["apps", "us1"], 7.0);
        samples.tell_ages(now);
        let lags: Vec<_> =
            samples.of(&c::REGION_LAG).map(|(values, lag)| (values[1].as_str(), lag)).collect();
        assert_eq!(lags, [("ap1", 0.0), ("eu1", 60.0)]);
    }

    #[test]
    fn what_is_broken_or_unknown_in_a_file_is_left_out() {
        let text = "tablecast_stream_last_tx{stream=\"a\"} 7\ntablecast_gone{stream=\"a\"} 7\n\
                    tablecast_stream_last_seq{stream=\"a\ntablecast_stream_last_seq{stream=\"a\"} many\n\
                    tablecast_stream_last_seq{other=\"a\"} 1\ntablecast_stream_entries{stream=\"a\"} NaN\nrubbish\n\n";
        let mut expected = Samples::default();
        expected.set(&c::STREAM_TX, &["a"], 7.0);
        assert_eq!(Samples::parse(text), expected);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            values in prop::collection::vec("[ -~\\n\\\\\"äß✓]{0,12}", 5), number in 0.0f64..1e15, whole in any::<u32>(),
        ) {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            let mut samples = Samples::default();
            samples.set(&c::RUNS, &values, f64::from(whole));
            samples.set(&c::REGION_STATE, &values[..3], number);
            prop_assert_eq!(Samples::parse(&samples.to_text()), samples);
        }
    }
}
