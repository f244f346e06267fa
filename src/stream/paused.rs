//! Somebody has said that nothing is to go on for a while: at the source in the head, in a region in its own
//! schema and in its report.
//!
//! A pause says who, why, since when and, where it ends by itself, until when. One that is over may still stand where it was
//! written: everybody who reads it asks [`Paused::is_over`] first, and whoever writes there next takes it out.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::document::Format;
use super::request::MAX_TEXT;
use crate::error::{Error, Kind};

/// The format that brought pauses into the head: who writes an older one goes on shipping.
pub const KNOWN_SINCE: Format = Format { major: 1, minor: 3 };

/// A pause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Why, in words for people.
    pub reason: String,
    /// Who said so: the user and the machine.
    pub by: String,
    /// Since when, by the clock of that machine: RFC 3339, UTC.
    pub since: DateTime<Utc>,
    /// When it ends by itself; absent if somebody has to end it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
}

impl Paused {
    /// Whether it has ended by itself.
    pub fn is_over(&self, now: DateTime<Utc>) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// What a run ends with that would do this. `command` is how it is said on the command line.
    pub fn refuse(&self, what: &str, command: &str) -> Error {
        Error::new(Kind::Paused, format!("{what}: paused {self}")).hint(format!(
            "when that is done with: `tablecast resume`{}, then `{command}` again",
            match self.until {
                Some(_) => ", or wait until it ends by itself",
                None => "",
            }
        ))
    }

    /// What must hold in it by itself; says what does not.
    pub fn validate(&self) -> Result<(), String> {
        if self.reason.trim().is_empty() || self.by.is_empty() {
            return Err("a pause, and nobody knows why, or who wanted it".into());
        }
        if self.reason.chars().count() > MAX_TEXT || self.by.chars().count() > MAX_TEXT {
            return Err(format!("a pause with a text of more than {MAX_TEXT} characters"));
        }
        if self.until.is_some_and(|until| until <= self.since) {
            return Err("a pause that ends before it begins".into());
        }
        Ok(())
    }
}

/// What somebody asks for.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub reason: String,
    pub by: String,
    pub until: Option<DateTime<Utc>>,
}

/// What becomes of a pause.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// The one that held before.
    pub was: Option<Paused>,
    /// The one that holds now.
    pub paused: Option<Paused>,
    pub warnings: Vec<String>,
}

impl Change {
    /// To what is wanted, from what holds. What is paused already stays so since then, by whatever clock: a pause that would
    /// begin later than now, or than it ends, is read by nobody.
    pub fn of(was: Option<&Paused>, wanted: Option<&Wanted>, now: DateTime<Utc>) -> Self {
        let was = was.cloned();
        let paused = wanted.map(|wanted| Paused {
            reason: wanted.reason.clone(),
            by: wanted.by.clone(),
            since: [
                was.as_ref().map(|was| was.since),
                wanted.until.map(|until| until - TimeDelta::seconds(1)),
            ]
            .into_iter()
            .flatten()
            .fold(now, DateTime::min),
            until: wanted.until,
        });
        Self { was, paused, warnings: Vec::new() }
    }

    /// Whether anything is other than before.
    pub fn is_one(&self) -> bool {
        self.was != self.paused
    }
}

impl fmt::Display for Paused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reason, by, since, until } = self;
        let show = |time: &DateTime<Utc>| time.format("%Y-%m-%d %H:%M:%S UTC").to_string();
        write!(f, "since {} by {by}", show(since))?;
        match until {
            Some(until) => write!(f, ", until {}: {reason}", show(until)),
            None => write!(f, ", until somebody resumes it: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_that_is_changed_by_another_clock_is_one_that_everybody_reads() {
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
        let after = |seconds| now + TimeDelta::seconds(seconds);
        let paused = |since, until| Paused { reason: "disks".into(), by: "anna".into(), since, until };
        for was in [None, Some(paused(after(-60), None)), Some(paused(after(3600), Some(after(7200))))] {
            for until in [None, Some(after(0)), Some(after(1)), Some(after(600))] {
                let wanted = Wanted { reason: "more disks".into(), by: "ben".into(), until };
                let change = Change::of(was.as_ref(), Some(&wanted), now);
                let paused = change.paused.expect("it is paused");
                assert_eq!(paused.validate(), Ok(()), "{was:?} {until:?}");
                assert!(paused.since <= now);
            }
        }
        let was = paused(after(-60), None);
        let wanted = Wanted { reason: "more".into(), by: "ben".into(), until: Some(after(600)) };
        let change = Change::of(Some(&was), Some(&wanted), now);
        assert_eq!(change.paused.map(|paused| paused.since), Some(after(-60)));
    }
}
