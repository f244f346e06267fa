//! `regions/<name>.json`: what a region last told of itself. Prune deletes nothing that a region named here
//! has yet to read.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::chain::Chain;
use super::document::{self, FORMAT, Format};
use super::dump::{DumpId, check_tables};
use super::entry::Mark;
use super::ids::{MAX, Seq, StreamTx};
use super::keys::Key;
use super::paused::Paused;
use super::request::MAX_TEXT;
use crate::binlog::name::TableName;
use crate::error::{Error, Kind, Result};

/// A region's last report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegionReport {
    /// The format it was written in.
    pub format: Format,
    /// The region's name.
    pub region: String,
    /// The stream that it follows.
    pub stream: Uuid,
    /// The last entry that is applied as a whole, and its chain value.
    pub seq: Seq,
    pub chain: Chain,
    /// The last stream transaction of that entry.
    pub last_tx: StreamTx,
    /// The state up to here came with a dump; 0: all of it was replayed.
    pub base_tx: StreamTx,
    /// The region shows the source as it was then; absent before the first apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<DateTime<Utc>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_seconds: Option<u64>,
    /// Tables whose changes are passed over, sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quarantined: Vec<ReportedQuarantine>,
    /// Restores under way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restoring: Vec<ReportedRestore>,
    /// Ghost tables of online migrations that are there, sorted by name; absent if the program there does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ghosts: Option<Vec<TableName>>,
    /// Tables of the stream that the region's list does not let in, sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<TableName>,
    /// Tables whose rows differed from the source's when they were compared last, sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drifted: Vec<ReportedDrift>,
    /// When rows were compared last; absent if they never were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked_at: Option<DateTime<Utc>>,
    /// Why the last run stopped; absent after a good one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// What that error means; absent if the program there does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<ReportedFailure>,
    /// Somebody wants nothing applied there for a while; absent if nobody does. It may be over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// The program there, with its version.
    pub version: String,
    /// The region's clock.
    pub reported_at: DateTime<Utc>,
    /// Members of a later minor version.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl RegionReport {
    /// Of a region of which nothing but this is known.
    pub fn bare(region: &str, stream: Uuid, at: Mark, reported_at: DateTime<Utc>) -> Self {
        Self {
            format: FORMAT,
            region: region.to_owned(),
            stream,
            seq: at.seq,
            chain: at.chain,
            last_tx: at.tx,
            base_tx: StreamTx::ZERO,
            as_of: None,
            lag_seconds: None,
            quarantined: Vec::new(),
            restoring: Vec::new(),
            ghosts: None,
            left_out: Vec::new(),
            drifted: Vec::new(),
            checked_at: None,
            last_error: None,
            failure: None,
            paused: None,
            version: String::new(),
            reported_at,
            extra: Map::new(),
        }
    }
}

/// A quarantined table in a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedQuarantine {
    pub table: TableName,
    /// The first stream transaction that was passed over.
    pub since_tx: StreamTx,
    pub since: DateTime<Utc>,
    pub error: String,
}

/// A table in a report whose rows are not those of the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedDrift {
    pub table: TableName,
    /// The stream transaction at which they were compared, and when that was found.
    pub at_tx: StreamTx,
    pub found_at: DateTime<Utc>,
    /// Which rows, in words.
    pub what: String,
}

/// What kind of error stopped a run, and what is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedFailure {
    /// When: the region's clock.
    pub at: DateTime<Utc>,
    /// The command that ended with it.
    pub job: String,
    /// As in `--json`.
    pub kind: String,
    pub exit_code: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The page that says what to do.
    pub runbook: String,
}

/// A restore in a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedRestore {
    pub tables: Vec<TableName>,
    pub dump: DumpId,
    /// The engine's word for how far it is: `loading`, `loaded`, `swapping`.
    pub state: String,
    pub rows: u64,
    pub rows_total: u64,
}

impl RegionReport {
    /// The report that is stored under `region`'s name.
    pub fn parse(region: &str, bytes: &[u8]) -> Result<Self> {
        let what = Key::region(region)?.to_string();
        let report: Self = document::unseal(&what, bytes)?;
        // First: a name that no region can have is no fault of whoever reads this.
        if report.region != region {
            return Err(Error::new(
                Kind::Corrupt,
                format!("read {what}: it is of region {:?}", report.region),
            ));
        }
        report.validate()?;
        document::check_seal(&what, bytes)?;
        Ok(report)
    }

    /// The report as it is to be stored.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        self.validate()?;
        Ok(document::seal(self, &[]))
    }

    /// What must hold in every report, read or to be written.
    pub fn validate(&self) -> Result<()> {
        let key = Key::region(&self.region)?;
        let bad = |why: String| Err(Error::new(Kind::Corrupt, format!("check {key}: {why}")));
        if self.format.major != FORMAT.major {
            return bad(format!("format {} is not {}", self.format.major, FORMAT.major));
        }
        if self.seq.0 > MAX || self.last_tx.0 > MAX || self.base_tx.0 > MAX {
            return bad("a number above 2^63-1".into());
        }
        // Before the first entry there is one chain value only.
        if self.seq == Seq::ZERO && self.chain != Chain::genesis(self.stream) {
            return bad(format!("at entry 0 with chain {}, which is not this stream's", self.chain));
        }
        if !self.quarantined.is_sorted_by(|a, b| a.table < b.table) {
            return bad("quarantined tables are not sorted, or one is named twice".into());
        }
        if !self.ghosts.iter().flatten().is_sorted_by(|a, b| a < b) {
            return bad("ghost tables are not sorted, or one is named twice".into());
        }
        if !self.left_out.is_sorted_by(|a, b| a < b) {
            return bad("tables that are left out are not sorted, or one is named twice".into());
        }
        if !self.drifted.is_sorted_by(|a, b| a.table < b.table) {
            return bad("tables that differ are not sorted, or one is named twice".into());
        }
        for restore in &self.restoring {
            if let Err(why) = check_tables(&restore.tables) {
                return bad(format!("a restore: {why}"));
            }
        }
        if let Err(why) = self.paused.iter().try_for_each(Paused::validate) {
            return bad(why);
        }
        let errors = self.quarantined.iter().map(|table| &table.error);
        let errors = errors.chain(self.drifted.iter().map(|table| &table.what));
        let failure = self.failure.iter().flat_map(|failure| {
            [&failure.job, &failure.kind, &failure.runbook].into_iter().chain(&failure.hint)
        });
        let states = self.restoring.iter().map(|restore| &restore.state);
        for text in errors.chain(states).chain(&self.last_error).chain(failure).chain([&self.version]) {
            if text.chars().count() > MAX_TEXT {
                return bad(format!("a text of more than {MAX_TEXT} characters"));
            }
        }
        Ok(())
    }
}
