//! What Tablecast tells Prometheus: every metric with its name, type, help and labels (`catalogue`), the figures of a run
//! (`Meters`), and the two ways out: the text file of a run (`textfile`) and, through `http`, `/metrics`.
//!
//! What is not known has no sample; it is never 0. Times are told as timestamps, so that an age goes on growing when
//! nobody writes any more. The label `job` is not used: a scrape has one of its own, and would rename this one to
//! `exported_job` (<https://prometheus.io/docs/prometheus/latest/configuration/configuration/#scrape_config>, `honor_labels`).
//!
//! Nothing here fails a run: a file that cannot be written is a warning.

pub mod catalogue;
mod meters;
mod text;
pub mod textfile;

pub use catalogue::{ALL, Metric, Place, Type};
pub use meters::{Base, Meters};
pub use text::{MEDIA_TYPE, Samples, Series};

use chrono::{DateTime, Utc};

/// A point in time in seconds since the epoch. The epoch itself stands for a time that nobody has told yet.
pub fn timestamp(time: impl Into<Option<DateTime<Utc>>>) -> Option<f64> {
    let time = time.into().filter(|time| *time != DateTime::UNIX_EPOCH)?;
    Some(time.timestamp_millis() as f64 / 1e3)
}

/// A count. Above 2^53 the last digits are lost, as in Prometheus itself.
pub fn figure(number: u64) -> f64 {
    number as f64
}
