//! What the service takes and gives, as JSON. Nothing here is stored: jobs and reports are shown from the
//! documents of `stream`, without what is the bucket's own business.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::tokens::{Scope, Token};
use crate::stream::{self, DumpRef, Head, RegionReport, Request, RequestState};

mod migrations;

pub use migrations::{Migration, MigrationRegion, Migrations};

/// Asks for a dump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DumpRequest {
    /// The region that waits for it; the token must act for it.
    #[schema(example = "eu1")]
    pub region: String,
    /// Tables of the stream's set by name, at most 1,000.
    #[schema(example = json!(["g.apps"]), min_items = 1, max_items = 1000)]
    pub tables: Vec<String>,
    /// Why, in words for people; at most 500 characters.
    #[serde(default)]
    #[schema(example = "g.apps is quarantined: row 17 is not there", max_length = 500)]
    pub reason: String,
}

/// How far a job has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Waits for the upload at the source.
    Queued,
    /// The dump is being taken.
    Running,
    /// The dump is in the stream, as entry `seq`.
    Uploaded,
    /// It will not be tried again; `error` says why.
    Failed,
    /// Taken back.
    Cancelled,
}

impl JobState {
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Uploaded => "uploaded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl From<RequestState> for JobState {
    fn from(state: RequestState) -> Self {
        match state {
            RequestState::Queued => Self::Queued,
            RequestState::Running => Self::Running,
            RequestState::Uploaded => Self::Uploaded,
            RequestState::Failed => Self::Failed,
            RequestState::Cancelled => Self::Cancelled,
        }
    }
}

impl From<JobState> for RequestState {
    fn from(state: JobState) -> Self {
        match state {
            JobState::Queued => Self::Queued,
            JobState::Running => Self::Running,
            JobState::Uploaded => Self::Uploaded,
            JobState::Failed => Self::Failed,
            JobState::Cancelled => Self::Cancelled,
        }
    }
}

/// A job: a request for a dump, and what has become of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Job {
    #[schema(example = "0a1b2c3d4e5f60718293a4b5c6d7e8f9")]
    pub id: String,
    pub state: JobState,
    /// The regions that wait for it; `source`: an operator there.
    pub regions: Vec<String>,
    /// Empty with `all_tables`.
    pub tables: Vec<String>,
    /// All tables of the set.
    pub all_tables: bool,
    /// Every region restores it, also one that does not wait.
    pub mandatory: bool,
    pub reason: String,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    /// How often it has been begun.
    pub attempts: u32,
    /// Not to be begun before.
    pub not_before: Option<DateTime<Utc>>,
    /// The dump's name in the bucket.
    pub dump: Option<String>,
    /// The dump's entry in the stream.
    pub seq: Option<u64>,
    /// The stream transaction whose state the dump holds.
    pub at: Option<u64>,
    /// Rows written so far.
    pub rows: u64,
    /// About how many there are; 0: not known.
    pub rows_total: u64,
    /// Bytes uploaded so far, compressed.
    pub bytes: u64,
    /// About how long it will take.
    pub eta_seconds: Option<u64>,
    /// Why the last attempt ended, if it did not end well.
    pub error: Option<String>,
}

impl From<&Request> for Job {
    fn from(request: &Request) -> Self {
        Self {
            id: request.id.to_string(),
            state: request.state.into(),
            regions: request.regions.clone(),
            tables: request.tables.iter().map(ToString::to_string).collect(),
            all_tables: request.all_tables,
            mandatory: request.mandatory,
            reason: request.reason.clone(),
            created_at: request.created_at,
            updated_at: request.updated_at,
            attempts: request.attempts,
            not_before: request.not_before,
            dump: request.dump.as_ref().map(ToString::to_string),
            seq: request.seq.map(|seq| seq.0),
            at: request.at.map(|at| at.0),
            rows: request.rows,
            rows_total: request.rows_total,
            bytes: request.bytes,
            eta_seconds: request.eta_seconds,
            error: request.error.clone(),
        }
    }
}

/// Jobs, the newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Jobs {
    pub dumps: Vec<Job>,
    /// How many there are, of which `dumps` may be the newest only.
    pub total: usize,
}

/// A region's report about itself, as it sends it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Report {
    /// The document's format: `{"major": 1, "minor": 0}`.
    pub format: Format,
    pub region: String,
    /// The stream that it follows.
    pub stream: Uuid,
    /// The last entry that is applied as a whole.
    pub seq: u64,
    /// That entry's chain value.
    pub chain: String,
    /// The last stream transaction of that entry.
    pub last_tx: u64,
    /// The state up to this transaction came with a dump; 0: all of it was replayed.
    pub base_tx: u64,
    /// The region shows the source as it was then.
    #[serde(default)]
    pub as_of: Option<DateTime<Utc>>,
    #[serde(default)]
    pub lag_seconds: Option<u64>,
    /// Tables whose changes are passed over, sorted by name.
    #[serde(default)]
    pub quarantined: Vec<QuarantinedTable>,
    #[serde(default)]
    pub restoring: Vec<Restoring>,
    /// Ghost tables of online migrations that are there; absent if the program there does not tell.
    #[serde(default)]
    pub ghosts: Option<Vec<String>>,
    /// Tables of the stream that the region's list does not let in.
    #[serde(default)]
    pub left_out: Vec<String>,
    /// Tables whose rows differed from the source's when they were compared last.
    #[serde(default)]
    pub drifted: Vec<DriftedTable>,
    /// When rows were compared last; absent if they never were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked_at: Option<DateTime<Utc>>,
    /// Why the last run stopped.
    #[serde(default)]
    pub last_error: Option<String>,
    /// What that error means; absent if the program there does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Somebody wants nothing applied there for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// The program there.
    #[schema(example = "tablecast 0.1.0")]
    pub version: String,
    /// The region's clock.
    pub reported_at: DateTime<Utc>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Format {
    pub major: u32,
    pub minor: u32,
}

/// What kind of error stopped a run, and what is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    /// The region's clock.
    pub at: DateTime<Utc>,
    /// The command that ended with it.
    #[schema(example = "apply")]
    pub job: String,
    /// As in `--json`.
    #[schema(example = "history")]
    pub kind: String,
    #[schema(example = 10)]
    pub exit_code: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The page that says what to do.
    #[schema(example = "docs/exit-codes.md#history")]
    pub runbook: String,
}

impl From<stream::ReportedFailure> for Failure {
    fn from(failure: stream::ReportedFailure) -> Self {
        let stream::ReportedFailure { at, job, kind, exit_code, hint, runbook } = failure;
        Self { at, job, kind, exit_code, hint, runbook }
    }
}

/// Somebody wants nothing to go on for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Paused {
    pub reason: String,
    /// The user and the machine that it was said by.
    #[schema(example = "ada@db3")]
    pub by: String,
    pub since: DateTime<Utc>,
    /// When it ends by itself; absent if somebody has to end it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
}

impl From<stream::Paused> for Paused {
    fn from(paused: stream::Paused) -> Self {
        let stream::Paused { reason, by, since, until } = paused;
        Self { reason, by, since, until }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QuarantinedTable {
    pub table: String,
    /// The first stream transaction that was passed over.
    pub since_tx: u64,
    pub since: DateTime<Utc>,
    pub error: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DriftedTable {
    pub table: String,
    /// The stream transaction at which rows were compared.
    pub at_tx: u64,
    pub found_at: DateTime<Utc>,
    /// Which rows, in words.
    #[schema(example = "all rows: 3 rows at the source, 3 here; id 2 differs")]
    pub what: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Restoring {
    pub tables: Vec<String>,
    pub dump: String,
    /// `loading`, `loaded`, `swapping`.
    pub state: String,
    pub rows: u64,
    pub rows_total: u64,
}

impl From<RegionReport> for Report {
    fn from(report: RegionReport) -> Self {
        let quarantined = report.quarantined.into_iter().map(|there| QuarantinedTable {
            table: there.table.to_string(),
            since_tx: there.since_tx.0,
            since: there.since,
            error: there.error,
        });
        let restoring = report.restoring.into_iter().map(|there| Restoring {
            tables: there.tables.iter().map(ToString::to_string).collect(),
            dump: there.dump.to_string(),
            state: there.state,
            rows: there.rows,
            rows_total: there.rows_total,
        });
        let drifted = report.drifted.into_iter().map(|there| DriftedTable {
            table: there.table.to_string(),
            at_tx: there.at_tx.0,
            found_at: there.found_at,
            what: there.what,
        });
        Self {
            format: Format { major: report.format.major, minor: report.format.minor },
            region: report.region,
            stream: report.stream,
            seq: report.seq.0,
            chain: report.chain.to_string(),
            last_tx: report.last_tx.0,
            base_tx: report.base_tx.0,
            as_of: report.as_of,
            lag_seconds: report.lag_seconds,
            quarantined: quarantined.collect(),
            restoring: restoring.collect(),
            ghosts: report.ghosts.map(|ghosts| ghosts.iter().map(ToString::to_string).collect()),
            left_out: report.left_out.iter().map(ToString::to_string).collect(),
            drifted: drifted.collect(),
            checked_at: report.checked_at,
            last_error: report.last_error,
            failure: report.failure.map(Failure::from),
            paused: report.paused.map(Paused::from),
            version: report.version,
            reported_at: report.reported_at,
        }
    }
}

/// How a region is, in one word. Where several are true, the first of this list is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RegionState {
    /// It has not reported for more than 5 minutes: whatever else it said may be long over.
    Silent,
    /// Somebody wants nothing applied there for a while.
    Paused,
    /// Its last run stopped with an error.
    Failing,
    /// A table's changes are passed over.
    Quarantined,
    /// A dump is being restored.
    Restoring,
    /// It has entries to apply and is more than 5 minutes behind the source.
    Behind,
    Ok,
}

impl RegionState {
    pub const ALL: [RegionState; 7] = [
        Self::Silent,
        Self::Paused,
        Self::Failing,
        Self::Quarantined,
        Self::Restoring,
        Self::Behind,
        Self::Ok,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Paused => "paused",
            Self::Failing => "failing",
            Self::Quarantined => "quarantined",
            Self::Restoring => "restoring",
            Self::Behind => "behind",
            Self::Ok => "ok",
        }
    }
}

/// A region as the source knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Region {
    pub state: RegionState,
    /// When the report came: the store's clock.
    pub received_at: DateTime<Utc>,
    pub age_seconds: u64,
    /// Entries of the stream that it has not applied; absent if it follows another stream.
    pub behind_entries: Option<u64>,
    #[serde(flatten)]
    pub report: Report,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Regions {
    /// By name. A region that fell silent stays listed.
    pub regions: Vec<Region>,
    /// Regions whose last report cannot be read or fetched.
    pub unreadable: Vec<Unreadable>,
}

/// The stream, as its head tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Stream {
    pub stream: Uuid,
    pub name: String,
    pub created_at: DateTime<Utc>,
    /// The program that wrote the head.
    pub writer: String,
    pub table_set_version: u64,
    /// Names and patterns.
    pub tables: Vec<String>,
    pub last_seq: u64,
    pub last_tx: u64,
    /// The last entry's chain value.
    pub tip: String,
    /// Up to when the stream is complete: the source's clock; absent as long as nobody knows.
    pub as_of: Option<DateTime<Utc>>,
    /// The source's GTIDs that the stream has covered.
    pub covered: String,
    /// The newest full dump, and every one after it.
    pub dumps: Vec<Dump>,
    /// The last entry that was pruned; absent if none was.
    pub pruned_to_seq: Option<u64>,
    /// Somebody wants nothing shipped for a while: until then `as_of` stands still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// The transaction that upload cannot come past; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
    /// What the source's replication filter may have kept from the stream; absent if nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
    /// Regions wait for a dump of all tables, because some came in that hold rows.
    #[serde(default)]
    pub owes_dump: bool,
}

/// A transaction at the source that must not travel: upload has stopped in front of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Refused {
    pub why: String,
    pub hint: String,
    /// When upload met it first, by its machine's clock.
    pub found_at: DateTime<Utc>,
}

/// Tables that the source's replication filter left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Gap {
    pub tables: Vec<String>,
    pub found_at: DateTime<Utc>,
    /// Whether rows may be lost; else it is enough to mend the filter.
    pub lost: bool,
}

impl Stream {
    /// As it is now: a pause that has ended by itself may still stand in the head.
    pub fn of(head: &Head, now: DateTime<Utc>) -> Self {
        Self {
            stream: head.stream,
            name: head.name.clone(),
            created_at: head.created_at,
            writer: head.writer.clone(),
            table_set_version: head.table_set.version,
            tables: head.table_set.tables.patterns().map(ToString::to_string).collect(),
            last_seq: head.last_seq.0,
            last_tx: head.last_tx.0,
            tip: head.tip.to_string(),
            as_of: known_time(head.as_of),
            covered: head.covered.to_string(),
            dumps: head.dumps.iter().map(Dump::from).collect(),
            pruned_to_seq: head.floor.as_ref().map(|floor| floor.seq.0),
            paused: head.pause(now).cloned().map(Paused::from),
            refused: head.refused.as_ref().map(|refused| Refused {
                why: refused.why.clone(),
                hint: refused.hint.clone(),
                found_at: refused.found_at,
            }),
            gap: head.gap.as_ref().map(|gap| Gap {
                tables: gap.tables.iter().map(ToString::to_string).collect(),
                found_at: gap.found_at,
                lost: gap.lost,
            }),
            owes_dump: head.set_changed.as_ref().is_some_and(|changed| changed.owes_dump),
        }
    }
}

/// The epoch stands for a time that nobody has told yet.
pub fn known_time(time: DateTime<Utc>) -> Option<DateTime<Utc>> {
    (time != DateTime::UNIX_EPOCH).then_some(time)
}

/// A dump in the stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Dump {
    pub id: String,
    pub seq: u64,
    /// The stream transaction whose state it holds.
    pub at: u64,
    pub tables: Vec<String>,
    pub full: bool,
    pub mandatory: bool,
    pub rows: u64,
    pub bytes: u64,
    pub taken_at: DateTime<Utc>,
}

impl From<&DumpRef> for Dump {
    fn from(there: &DumpRef) -> Self {
        let dump = &there.dump;
        Self {
            id: dump.id.to_string(),
            seq: there.seq.0,
            at: dump.at.0,
            tables: dump.tables.iter().map(ToString::to_string).collect(),
            full: dump.full,
            mandatory: dump.mandatory,
            rows: dump.rows,
            bytes: dump.bytes,
            taken_at: dump.taken_at,
        }
    }
}

/// How everything is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    pub stream: Stream,
    /// How long ago the source was as the stream shows it; absent if nobody knows.
    pub lag_seconds: Option<u64>,
    pub regions: Vec<Region>,
    /// Regions whose last report cannot be read: nobody knows how they are.
    #[serde(default)]
    pub unreadable: Vec<Unreadable>,
    /// Jobs that are not over, the newest first.
    pub pending: Vec<Job>,
}

/// A region whose last report cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Unreadable {
    pub region: String,
    /// When that report came: the store's clock.
    pub received_at: DateTime<Utc>,
    pub error: String,
}

/// What the presented token is good for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenInfo {
    pub name: String,
    pub region: Option<String>,
    pub scopes: Vec<Scope>,
}

impl From<&Token> for TokenInfo {
    fn from(token: &Token) -> Self {
        let scopes = token.scopes.iter().copied().collect();
        Self { name: token.name.clone(), region: token.region.clone(), scopes }
    }
}
