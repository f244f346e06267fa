//! What a source has committed and cannot travel, where the stream stands because of it.
//!
//! Upload meets it again at every run, and ends with the same error; whoever looks from elsewhere (`status`, `doctor`, a dry
//! run) does not read the source's binlog. So the head tells of it until the stream has come past. A region need not
//! care: what is in the index is good.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, chain};

/// A transaction that upload refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The message, which names the transaction and its place at the source.
    pub why: String,
    /// What is to be done.
    pub hint: String,
    /// When upload met it first, by the clock of its machine: RFC 3339, UTC.
    pub found_at: DateTime<Utc>,
}

impl Refused {
    pub fn new(error: &Error, found_at: DateTime<Utc>) -> Self {
        Self { why: chain(error), hint: error.hint_text().unwrap_or_default().to_owned(), found_at }
    }

    /// As a run that met it again would end.
    pub fn error(&self) -> Error {
        Error::new(Kind::Gate, format!("upload has been refused since {}: {}", self.since(), self.why))
            .hint(self.hint.clone())
    }

    fn since(&self) -> String {
        self.found_at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
    }

    /// What must hold in it by itself; says what does not.
    pub(super) fn validate(&self) -> Result<(), String> {
        match self.why.is_empty() {
            true => Err("a transaction was refused, and nobody knows why".into()),
            false => Ok(()),
        }
    }
}
