//! The figures of one run, counted where things happen and read by whoever tells them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};

use super::catalogue::{ERRORS, LAST_PROGRESS, Metric, RETRIES, Type};
use super::text::{Samples, Series};
use super::timestamp;
use crate::config::{Config, Role};
use crate::error::Kind;

/// Whose figures they are: the labels that all series of a config file have, as far as a metric has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Base {
    pub stream: String,
    pub role: String,
    /// Empty at the source.
    pub region: String,
    /// The command that runs.
    pub command: String,
}

/// The labels whose values a [`Base`] has.
const BASE: [&str; 4] = ["stream", "role", "region", "command"];

impl Base {
    pub fn of(config: &Config, command: &str) -> Base {
        let region = match (config.role, &config.region) {
            (Role::Region, Some(region)) => region.name.clone(),
            _ => String::new(),
        };
        Base { stream: config.stream.clone(), role: config.role.to_string(), region, command: command.into() }
    }

    /// A series, from the values of its other labels in their order.
    pub fn series(&self, metric: &'static Metric, own: &[&str]) -> Series {
        let mut own = own.iter();
        let values = metric.labels.iter().map(|label| match *label {
            "stream" => self.stream.clone(),
            "role" => self.role.clone(),
            "region" => self.region.clone(),
            "command" => self.command.clone(),
            _ => own.next().map_or_else(String::new, |value| (*value).to_owned()),
        });
        Series { metric: metric.name, values: values.collect() }
    }

    /// Whether a series is of this base.
    pub fn holds(&self, metric: &Metric, values: &[String]) -> bool {
        metric.labels.iter().zip(values).all(|(label, value)| match *label {
            "stream" => *value == self.stream,
            "role" => *value == self.role,
            "region" => *value == self.region,
            "command" => *value == self.command,
            _ => true,
        })
    }
}

/// The figures. Cheap to clone: all clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Meters(Arc<Mutex<Figures>>);

/// A metric and the values of the labels that are its own.
type Key = (&'static str, Vec<String>);

#[derive(Clone, Debug, Default)]
struct Figures {
    counters: BTreeMap<Key, (&'static Metric, f64)>,
    /// `None`: it is known that this is not known.
    gauges: BTreeMap<Key, (&'static Metric, Option<f64>)>,
    worked: Option<DateTime<Utc>>,
    /// Whether it waits for the end of a pause; `None`: nothing has told yet.
    is_paused: Option<bool>,
    /// It has failed since it worked last, and goes on.
    is_failing: bool,
}

/// The figures at one moment.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    pub counters: Vec<(&'static Metric, Vec<String>, f64)>,
    pub gauges: Vec<(&'static Metric, Vec<String>, Option<f64>)>,
}

impl Meters {
    fn figures(&self) -> MutexGuard<'_, Figures> {
        // Whoever panicked while holding it left whole figures.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts; `own`: the values of the labels beside those of [`Base`].
    pub fn add(&self, metric: &'static Metric, own: &[&str], amount: f64) {
        debug_assert_eq!(metric.kind, Type::Counter, "{}", metric.name);
        let mut figures = self.figures();
        figures.counters.entry(key(metric, own)).or_insert((metric, 0.0)).1 += amount;
    }

    /// Says how something is; `None` takes back what was said.
    pub fn set(&self, metric: &'static Metric, own: &[&str], value: impl Into<Option<f64>>) {
        debug_assert_eq!(metric.kind, Type::Gauge, "{}", metric.name);
        self.figures().gauges.insert(key(metric, own), (metric, value.into()));
    }

    /// Counts a failure, and that the run goes on all the same.
    pub fn tried_again(&self, kind: Kind) {
        self.add(&ERRORS, &[kind.name()], 1.0);
        self.add(&RETRIES, &[], 1.0);
        let mut figures = self.figures();
        // What fails is at work: nobody takes it for paused.
        (figures.is_failing, figures.is_paused) = (true, Some(false));
    }

    /// A run that follows has looked, and done what there was to do.
    pub fn worked(&self, now: DateTime<Utc>) {
        self.got_on(now);
        let mut figures = self.figures();
        (figures.worked, figures.is_failing, figures.is_paused) = (Some(now), false, Some(false));
    }

    /// Something of what there is to do is done.
    pub fn got_on(&self, now: DateTime<Utc>) {
        self.set(&LAST_PROGRESS, &[], timestamp(now));
    }

    /// A run that follows waits for the end of a pause.
    pub fn waits_for_resume(&self) {
        self.figures().is_paused = Some(true);
    }

    /// The pause is over; whether it works is yet to be seen.
    pub fn goes_on(&self) {
        if let Some(is_paused) = &mut self.figures().is_paused {
            *is_paused = false;
        }
    }

    /// Whether a run that follows waits for the end of a pause; `None`: it has told neither yet.
    pub fn is_paused(&self) -> Option<bool> {
        self.figures().is_paused
    }

    /// A run that follows has failed since it worked last.
    pub fn is_failing(&self) -> bool {
        self.figures().is_failing
    }

    pub fn last_worked(&self) -> Option<DateTime<Utc>> {
        self.figures().worked
    }

    pub fn read(&self) -> Reading {
        let figures = self.figures();
        let counters =
            figures.counters.iter().map(|((_, own), (metric, value))| (*metric, own.clone(), *value));
        let gauges = figures.gauges.iter().map(|((_, own), (metric, value))| (*metric, own.clone(), *value));
        Reading { counters: counters.collect(), gauges: gauges.collect() }
    }

    /// All that is known, as samples.
    pub fn samples(&self, base: &Base) -> Samples {
        let mut samples = Samples::default();
        let Reading { counters, gauges } = self.read();
        for (metric, own, value) in counters {
            samples.put(base.series(metric, &texts(&own)), value);
        }
        for (metric, own, value) in gauges {
            if let Some(value) = value {
                samples.put(base.series(metric, &texts(&own)), value);
            }
        }
        samples
    }
}

pub(super) fn texts(values: &[String]) -> Vec<&str> {
    values.iter().map(String::as_str).collect()
}

fn key(metric: &'static Metric, own: &[&str]) -> Key {
    debug_assert_eq!(
        own.len(),
        metric.labels.iter().filter(|label| !BASE.contains(label)).count(),
        "{}",
        metric.name
    );
    (metric.name, own.iter().map(|value| (*value).to_owned()).collect())
}
