//! `requests/<id>.json`: somebody waits for a dump. Written by whoever asks and by the upload that answers,
//! always by compare-and-swap.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::document::{self, FORMAT, Format};
use super::dump::{DumpId, check_tables};
use super::ids::{Seq, StreamTx};
use super::keys::Key;
use crate::binlog::name::TableName;
use crate::error::{Error, Kind, Result};
use crate::hex::{from_hex, hex};

/// A request's name: 32 lower-case hex digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(String);

impl RequestId {
    /// A request that nobody will repeat; `random` tells it from all others.
    pub fn new(random: u128) -> Self {
        Self(format!("{random:032x}"))
    }

    /// The request that `region` makes under an Idempotency-Key: the same again has the same name.
    pub fn of_key(stream: Uuid, region: &str, key: &str) -> Self {
        let digest = Sha256::digest(format!("{stream}\0{region}\0{key}"));
        Self(hex(&digest[..16]))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RequestId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match from_hex::<16>(text) {
            Some(_) => Ok(Self(text.to_owned())),
            None => Err(Error::new(
                Kind::Corrupt,
                format!("read request id {text:?}: not 32 lower-case hex digits"),
            )),
        }
    }
}

impl Serialize for RequestId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RequestId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// How far a request has come. All are durable: they stand in the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestState {
    /// Set by whoever asks, and by an upload that gives up a dump to try again later.
    Queued,
    /// Set by the upload that takes the dump. Left behind by a killed one; the next puts it back to queued.
    Running,
    /// Set by upload once the dump is in the index.
    Uploaded,
    /// Set by upload, with the error, when it will not try again.
    Failed,
    /// Set by whoever asked, or an operator.
    Cancelled,
}

impl RequestState {
    pub const ALL: [Self; 5] = [Self::Queued, Self::Running, Self::Uploaded, Self::Failed, Self::Cancelled];

    /// Whether nothing will happen to it any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Uploaded | Self::Failed | Self::Cancelled)
    }

    /// Whether `next` may follow. The same state may: that is progress told.
    pub fn may_become(self, next: Self) -> bool {
        use RequestState::{Cancelled, Failed, Queued, Running, Uploaded};
        match self {
            Queued => matches!(next, Queued | Running | Failed | Cancelled),
            Running => matches!(next, Queued | Running | Uploaded | Failed | Cancelled),
            Uploaded | Failed | Cancelled => false,
        }
    }
}

impl fmt::Display for RequestState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Uploaded => "uploaded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        })
    }
}

/// Most tables that one request may name.
pub const MAX_TABLES: usize = 1_000;
/// Most regions that may wait for one request.
pub const MAX_REGIONS: usize = 1_000;
/// Most Idempotency-Keys of others that one request remembers.
pub const MAX_JOINED: usize = 1_000;
/// Most characters of a reason or an error.
pub const MAX_TEXT: usize = 4_096;

/// A request for a dump.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The format it was written in.
    pub format: Format,
    pub id: RequestId,
    /// The stream that it is about.
    pub stream: Uuid,
    /// Who waits for it: regions by name, or `source` for `dump take`. Sorted.
    pub regions: Vec<String>,
    /// What is wanted; empty if that is all tables of the set. Sorted.
    pub tables: Vec<TableName>,
    pub all_tables: bool,
    pub mandatory: bool,
    /// In the words of whoever asks.
    pub reason: String,
    /// SHA-256, hex, of what was asked: the same Idempotency-Key with something else is told from a repetition.
    pub body_sha256: String,
    /// What others asked for under an Idempotency-Key and were given this one for: the name that their request
    /// would have had, and their `body_sha256`. So asking again gives the same answer, also once this is over.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub joined: BTreeMap<RequestId, String>,
    pub state: RequestState,
    /// How often it has been begun.
    pub attempts: u32,
    /// Not to be begun before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    /// The dump that answers it, from the moment it is begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dump: Option<DumpId>,
    /// That dump's entry, once it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<Seq>,
    /// The stream transaction whose state it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<StreamTx>,
    /// Rows written so far.
    pub rows: u64,
    /// About how many there are.
    pub rows_total: u64,
    /// Bytes uploaded so far, compressed.
    pub bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<u64>,
    /// Why the last attempt ended, if it did not end well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Members of a later minor version.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Request {
    /// The request `id` as stored.
    pub fn parse(id: &RequestId, bytes: &[u8]) -> Result<Self> {
        let what = Key::request(id).to_string();
        let request: Self = document::unseal(&what, bytes)?;
        request.validate()?;
        if request.id != *id {
            return Err(Error::new(Kind::Corrupt, format!("read {what}: it is request {}", request.id)));
        }
        document::check_seal(&what, bytes)?;
        Ok(request)
    }

    /// The request that was queued last: `requests/newest.json`.
    pub fn parse_newest(bytes: &[u8]) -> Result<Self> {
        let what = Key::newest_request().to_string();
        let request: Self = document::unseal(&what, bytes)?;
        request.validate()?;
        document::check_seal(&what, bytes)?;
        Ok(request)
    }

    /// The request as it is to be stored.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        self.validate()?;
        Ok(document::seal(self, &[]))
    }

    /// Goes to `state`, if that may follow the one it is in.
    pub fn advance(&mut self, state: RequestState, now: DateTime<Utc>) -> Result<()> {
        if !self.state.may_become(state) {
            return Err(Error::new(
                Kind::Conflict,
                format!("set request {} to {state}: it is {}", self.id, self.state),
            )
            .hint("what is over stays as it is: `tablecast dump list`"));
        }
        if state == RequestState::Running && self.state == RequestState::Queued {
            self.attempts = self.attempts.saturating_add(1);
        }
        if state.is_final() || state == RequestState::Queued {
            self.eta_seconds = None;
        }
        self.state = state;
        self.updated_at = now.max(self.updated_at);
        Ok(())
    }

    /// What must hold in every request, read or to be written.
    pub fn validate(&self) -> Result<()> {
        let bad =
            |why: String| Err(Error::new(Kind::Corrupt, format!("check {}: {why}", Key::request(&self.id))));
        if self.format.major != FORMAT.major {
            return bad(format!("format {} is not {}", self.format.major, FORMAT.major));
        }
        // Either all tables, or a list.
        if self.all_tables != self.tables.is_empty() {
            return bad("it wants all tables and lists some, or lists none".into());
        }
        if !self.all_tables
            && let Err(why) = check_tables(&self.tables)
        {
            return bad(why);
        }
        if self.tables.len() > MAX_TABLES {
            return bad(format!("{} tables, more than {MAX_TABLES}", self.tables.len()));
        }
        // Somebody waits, and each once.
        if self.regions.is_empty() || self.regions.len() > MAX_REGIONS {
            return bad(format!("{} regions wait for it, not 1 to {MAX_REGIONS}", self.regions.len()));
        }
        if !self.regions.is_sorted_by(|a, b| a < b) || self.regions.iter().any(String::is_empty) {
            return bad("regions are not sorted, or one is named twice, or has no name".into());
        }
        for text in [Some(&self.reason), self.error.as_ref()].into_iter().flatten() {
            if text.chars().count() > MAX_TEXT {
                return bad(format!("a text of more than {MAX_TEXT} characters"));
            }
        }
        for digest in self.joined.values().chain([&self.body_sha256]) {
            if from_hex::<32>(digest).is_none() {
                return bad(format!("body_sha256 {digest:?} is not 64 lower-case hex digits"));
            }
        }
        if self.joined.len() > MAX_JOINED {
            return bad(format!("{} have joined it, more than {MAX_JOINED}", self.joined.len()));
        }
        if self.updated_at < self.created_at {
            return bad("it was changed before it was made".into());
        }
        // What is done says where the dump is; what failed says why.
        if self.state == RequestState::Uploaded
            && (self.dump.is_none() || self.seq.is_none_or(|seq| seq == Seq::ZERO) || self.at.is_none())
        {
            return bad("it is uploaded and names no dump, no entry or no transaction".into());
        }
        if self.state == RequestState::Failed && self.error.as_ref().is_none_or(String::is_empty) {
            return bad("it failed and does not say why".into());
        }
        Ok(())
    }
}
