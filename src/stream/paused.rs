//! Somebody has said that nothing is to go on for a while: at the source in the head, in a region in its own
//! schema and in its report.
//!
//! A pause says who, why, since when and, where it ends by itself, until when. One that is over may still stand where it was
//! written: everybody who reads it asks [`Paused::is_over`] first, and whoever writes there next takes it out.

use std::fmt;

use chrono::{DateTime, Utc};
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
    pub(super) fn validate(&self) -> Result<(), String> {
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
    /// To what is wanted, from what holds. What is paused already stays so since then.
    pub fn of(was: Option<&Paused>, wanted: Option<&Wanted>, now: DateTime<Utc>) -> Self {
        let was = was.cloned();
        let paused = wanted.map(|wanted| Paused {
            reason: wanted.reason.clone(),
            by: wanted.by.clone(),
            since: was.as_ref().map_or(now, |was| was.since),
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
