//! A dump as the index tells of it: the entry's body, its name, and what proves that rows arrived.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};
use std::str::FromStr;

use chrono::{DateTime, NaiveDateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::digest::Md5;
use super::ids::{Seq, StreamTx};
use super::keys::{Key, TIME};
use super::request::RequestId;
use crate::binlog::gtid::GtidSet;
use crate::binlog::name::{TableName, is_system_schema};
use crate::error::{Error, Kind, Result};

/// A dump's name and its folder under `dumps/`: `<utc>-<8 hex digits>`, so that a listing is in order of time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DumpId(String);

impl DumpId {
    /// The dump begun at `made`; `random` tells it from another one of the same millisecond.
    pub fn new(made: DateTime<Utc>, random: u32) -> Self {
        Self(format!("{}-{random:08x}", made.format(TIME)))
    }

    /// When it was begun: the clock of the machine that took it.
    pub fn made(&self) -> DateTime<Utc> {
        let (made, _) = self.0.split_at(self.0.len() - 9);
        NaiveDateTime::parse_from_str(made, TIME).map(|made| made.and_utc()).unwrap_or_default()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DumpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for DumpId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let read = || {
            let (made, random) = text.split_once('-')?;
            let made = NaiveDateTime::parse_from_str(made, TIME).ok()?.and_utc();
            let random = u32::from_str_radix(random, 16).ok()?;
            // One dump has one name.
            Some(Self::new(made, random)).filter(|id| id.0 == text)
        };
        read().ok_or_else(|| {
            Error::new(
                Kind::Corrupt,
                format!("read dump id {text:?}: it is not like 20240229T010203456Z-0a1b2c3d"),
            )
        })
    }
}

impl Serialize for DumpId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for DumpId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The rows of some tables as they were after one transaction of the stream: `"kind": "dump"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DumpEntry {
    /// The dump's name, which is its folder under `dumps/`.
    pub id: DumpId,
    /// The manifest's key.
    pub manifest: Key,
    /// The manifest's size in bytes.
    pub size: u64,
    /// The manifest's MD5, hex.
    pub md5: Md5,
    /// The stream transaction whose state it holds; 0: that before the first.
    pub at: StreamTx,
    /// The source's `gtid_executed` in the snapshot, MySQL's text form.
    pub snapshot: GtidSet,
    /// The tables that it speaks about, `"schema.table"`, sorted: also those that were no base tables in the snapshot.
    pub tables: Vec<TableName>,
    /// Of a resync (since format 1.4): what of `snapshot` its source did not have, because the stream had it and the
    /// source has lost it. `None` otherwise, and in a resync of an older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacks: Option<GtidSet>,
    /// Of a resync (since format 1.4): what of `snapshot` only this dump has brought: what its source had executed and
    /// the stream had not covered, without what a replica had made itself. `None` as above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brought: Option<GtidSet>,
    /// Whether these are all base tables of the set.
    pub full: bool,
    /// Whether every region restores it, also one that waits for nothing.
    pub mandatory: bool,
    /// Whether it stands for transactions that the source lost: nothing behind it runs before it is restored.
    pub resync: bool,
    /// How many rows it holds.
    pub rows: u64,
    /// The sum of its chunks' sizes, compressed as they are.
    pub bytes: u64,
    /// When the snapshot was taken: the source's clock, RFC 3339, UTC.
    pub taken_at: DateTime<Utc>,
    /// The requests that it answers; absent if none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<RequestId>,
}

impl DumpEntry {
    /// What must hold in it by itself; says what does not.
    pub(super) fn validate(&self) -> Result<(), String> {
        // The name, the folder and the manifest's key are one.
        if self.manifest != Key::manifest(&self.id) {
            return Err(format!("key {} is not that of the manifest of dump {}", self.manifest, self.id));
        }
        if self.size == 0 {
            return Err(format!("manifest {} is said to be empty", self.manifest));
        }
        if self.at.0 > super::ids::MAX {
            return Err(format!("there is no transaction {}", self.at.0));
        }
        // A full dump of a set that has no tables yet is one, too.
        if !self.full || !self.tables.is_empty() {
            check_tables(&self.tables)?;
        }
        // What stands for lost history stands for all of it, in every region.
        if self.resync && !(self.full && self.mandatory) {
            return Err("a resync that is not full and mandatory leaves a hole".into());
        }
        let is_odd = |part: &GtidSet| !self.resync || !part.is_subset(&self.snapshot);
        if [&self.lacks, &self.brought].into_iter().flatten().any(is_odd) {
            return Err("only a resync brings and lacks transactions, and covers them".into());
        }
        Ok(())
    }

    /// Whether every one of these tables is in it.
    pub fn holds<'a>(&self, tables: impl IntoIterator<Item = &'a TableName>) -> bool {
        tables.into_iter().all(|table| self.tables.binary_search(table).is_ok())
    }
}

/// At least one table, each once, sorted, none in a schema that is the server's own or ours.
pub(super) fn check_tables(tables: &[TableName]) -> Result<(), String> {
    if tables.is_empty() {
        return Err("it names no table".into());
    }
    if !tables.is_sorted_by(|a, b| a < b) {
        return Err("tables are not sorted, or one is named twice".into());
    }
    match tables.iter().find(|table| is_system_schema(&table.schema)) {
        Some(table) => Err(format!("{table} is in a schema of the server's or of tablecast's own")),
        None => Ok(()),
    }
}

/// A dump in the head, with the number of its entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DumpRef {
    /// The dump's entry.
    pub seq: Seq,
    #[serde(flatten)]
    pub dump: DumpEntry,
    /// Members of a later minor version.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A checksum of rows whose order does not matter: the sum, modulo 2^128, of XXH3-128 over each row's tuple
/// text, `(…)` as it stands in a chunk. Text form: 32 lower-case hex digits.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct RowsChecksum(pub u128);

impl RowsChecksum {
    /// That of one row.
    pub fn of_row(tuple: &[u8]) -> Self {
        Self(xxhash_rust::xxh3::xxh3_128(tuple))
    }
}

impl Add for RowsChecksum {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }
}

impl AddAssign for RowsChecksum {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for RowsChecksum {
    fn sum<I: Iterator<Item = Self>>(sums: I) -> Self {
        sums.fold(Self::default(), Self::add)
    }
}

impl fmt::Display for RowsChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for RowsChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RowsChecksum({self})")
    }
}

impl FromStr for RowsChecksum {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        crate::hex::from_hex(text).map(|bytes| Self(u128::from_be_bytes(bytes))).ok_or_else(|| {
            Error::new(Kind::Corrupt, format!("read checksum {text:?}: not 32 lower-case hex digits"))
        })
    }
}

impl Serialize for RowsChecksum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RowsChecksum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
