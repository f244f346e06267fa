//! What an upload would do, decided from one look at the source and one at the head.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use crate::binlog::gtid::GtidSet;
use crate::config::Config;
use crate::source::moment::Moment;
use crate::source::pass::AS_OF_STEP;
use crate::source::upload::{beyond, show_time};
use crate::stream::{Head, StreamTx};

/// What `--dry-run` prints and the run carries out.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    pub stream: String,
    pub uuid: Uuid,
    pub store: String,
    pub source: String,
    pub action: Action,
    /// Source transactions to be read: executed there, and neither in the stream nor passed over.
    pub missing: GtidSet,
    #[serde(serialize_with = "super::as_text")]
    pub missing_count: u64,
    /// The number that the next kept transaction gets.
    #[serde(serialize_with = "super::tx_as_text")]
    pub next_tx: StreamTx,
    /// Until when the stream will be complete once everything is read; absent: that cannot be known now.
    pub as_of: Option<DateTime<Utc>>,
    /// Covered by the stream, and not (yet) at this source.
    pub beyond: GtidSet,
    /// Whether a check of rows is due.
    pub check: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Nothing,
    /// Only tell readers that the stream is still complete.
    RefreshAsOf,
    /// Connect to the binlog and ship what belongs to the set.
    Read,
}

impl Plan {
    pub(crate) fn new(config: &Config, head: &Head, moment: &Moment) -> Self {
        let missing = moment.executed.difference(&head.covered);
        let refresh = moment.complete_until.is_some_and(|until| until - head.as_of >= AS_OF_STEP);
        let action = match (missing.is_empty(), refresh) {
            (false, _) => Action::Read,
            (true, true) => Action::RefreshAsOf,
            (true, false) => Action::Nothing,
        };
        Self {
            stream: config.stream.clone(),
            uuid: head.stream,
            store: config.store.to_string(),
            source: config.mysql.to_string(),
            action,
            missing_count: missing.count(),
            missing,
            next_tx: head.last_tx.next(),
            as_of: moment.complete_until,
            beyond: beyond(head, moment),
            check: false,
        }
    }

    /// The same with a check of rows behind it, if one is due.
    pub(crate) fn with_check(self, check: bool) -> Self {
        Self { check, ..self }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let until = || self.as_of.map_or("unknown".to_owned(), show_time);
        match self.action {
            Action::Nothing if self.check => write!(f, "{}: nothing to ship", self.stream),
            Action::Nothing => write!(f, "{}: nothing to do", self.stream),
            Action::RefreshAsOf => write!(f, "{}: nothing to ship; set as_of to {}", self.stream, until()),
            Action::Read => write!(
                f,
                "{}: read {} transactions of {} ({}) and ship those of the set to {}, from stream transaction {}; whether \
                 all of those can travel shows when they are read",
                self.stream, self.missing_count, self.source, self.missing, self.store, self.next_tx.0
            ),
        }?;
        if self.check {
            write!(f, "; then check rows")?;
        }
        Ok(())
    }
}
