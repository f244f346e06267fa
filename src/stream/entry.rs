//! One step of the stream: a segment, a dump, a change of the table set, or a check of rows.
//!
//! An entry keeps the JSON it was read from. Its chain value covers that, and a writer that passes the entry
//! on (the head is rewritten whole) passes on what a later version put there. That is why an [`Entry`] can be
//! looked at and not changed. Of a thousand in each of several heads the JSON is kept as text, and once.

use std::fmt::Write;
use std::ops::Deref;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::canonical::{canonical, canonical_without};
use super::chain::Chain;
use super::check::CheckEntry;
use super::definition::Definition;
use super::digest::Md5;
use super::document::json;
use super::dump::DumpEntry;
use super::ids::{Seq, StreamTx};
use super::keys::{Codec, Key, KeyKind};
use super::tables::TablesEntry;
use crate::binlog::gtid::GtidSet;
use crate::binlog::name::TableName;
use crate::error::{Error, Kind, Result};

/// An entry as it is stored: what it says ([`Step`], through `Deref`) and the JSON that its chain covers. A clone is the
/// same one.
#[derive(Clone, Debug)]
pub struct Entry(Arc<Stored>);

#[derive(Debug)]
struct Stored {
    step: Step,
    /// Its canonical JSON without the member `chain`, and where that stands.
    content: Box<str>,
    chain_at: usize,
}

/// What it says follows from its JSON.
impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || (self.chain == other.chain && self.0.content == other.0.content)
    }
}

/// What every entry says. In JSON the members of the body stand beside these, and `"kind"` names the body.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The entry's number: 1, 2, 3, … without gaps.
    pub seq: Seq,
    /// When the entry was appended: the clock of the machine that ran upload, RFC 3339, UTC.
    pub created_at: DateTime<Utc>,
    /// SHA-256, hex, over the previous entry's chain and this entry: see [`Chain`].
    pub chain: Chain,
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Transactions to be applied: `"kind": "segment"`.
    Segment(SegmentEntry),
    /// Rows as they were at one transaction: `"kind": "dump"`. Whoever has the transactions passes over it.
    Dump(DumpEntry),
    /// Other tables travel from here on: `"kind": "tables"`.
    Tables(TablesEntry),
    /// What some rows are at exactly this place: `"kind": "check"`. Regions compare their own with it.
    Check(CheckEntry),
}

/// One segment object and what is in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentEntry {
    /// The object's key, relative to the stream's prefix.
    pub key: Key,
    /// The object's size in bytes, compressed as it is.
    pub size: u64,
    /// The object's MD5, hex.
    pub md5: Md5,
    /// The binlog file's size in bytes, after decompression.
    pub raw_size: u64,
    /// How the object is compressed: `"gzip"` or `"zstd"`.
    pub codec: Codec,
    /// The first and the last stream transaction in it; every one between them is in it too.
    pub first_tx: StreamTx,
    pub last_tx: StreamTx,
    /// How many transactions it holds: `last_tx - first_tx + 1`.
    pub count: u64,
    /// The tables that these transactions change or define, `"schema.table"`, sorted.
    pub tables: Vec<TableName>,
    /// The source's GTIDs that the stream had covered before this entry, MySQL's text form.
    pub covered_before: GtidSet,
    /// The same after it: the source transactions in it, and those up to there that do not travel.
    pub covered_after: GtidSet,
    /// When the first and the last transaction in it committed: the source's clock, RFC 3339, UTC.
    pub first_commit: DateTime<Utc>,
    pub last_commit: DateTime<Utc>,
    /// Definitions that became known with this entry; absent if none did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub definitions: Vec<Definition>,
}

#[cfg(test)]
impl SegmentEntry {
    /// A segment of these transactions (the first, the last) on one table, between these two covered sets.
    pub(crate) fn for_tests(
        (first_tx, last_tx): (StreamTx, StreamTx),
        table: &str,
        (covered_before, covered_after): (GtidSet, GtidSet),
        made: DateTime<Utc>,
    ) -> Self {
        Self {
            key: Key::segment(first_tx, last_tx, made, Codec::Gzip),
            size: 1,
            md5: Md5::of(b""),
            raw_size: 1,
            codec: Codec::Gzip,
            first_tx,
            last_tx,
            count: last_tx.0 - first_tx.0 + 1,
            tables: vec![table.parse().expect("a name")],
            covered_before,
            covered_after,
            first_commit: made,
            last_commit: made,
            definitions: Vec::new(),
        }
    }
}

impl Body {
    /// The value of `"kind"`.
    pub fn kind(&self) -> &'static str {
        match self {
            Body::Segment(_) => "segment",
            Body::Dump(_) => "dump",
            Body::Tables(_) => "tables",
            Body::Check(_) => "check",
        }
    }
}

impl Deref for Entry {
    type Target = Step;

    fn deref(&self) -> &Step {
        &self.0.step
    }
}

impl Entry {
    /// The entry `seq` that follows the one with the chain value `previous`.
    pub fn new(previous: &Chain, seq: Seq, created_at: DateTime<Utc>, body: Body) -> Result<Self> {
        let mut raw = match &body {
            Body::Segment(segment) => json(segment),
            Body::Dump(dump) => json(dump),
            Body::Tables(change) => json(change),
            Body::Check(check) => json(check),
        };
        raw["seq"] = json(&seq);
        raw["kind"] = body.kind().into();
        raw["created_at"] = json(&created_at);
        let chain = previous.next(&canonical(&raw, Some("chain"))?);
        Self::of(&raw, Step { seq, created_at, chain, body })
    }

    fn of(raw: &Value, step: Step) -> Result<Self> {
        let Value::Object(members) = raw else {
            return Err(Error::new(Kind::Corrupt, format!("read entry {}: not a JSON object", step.seq.0)));
        };
        let (content, chain_at) = canonical_without(members, "chain")?;
        let entry = Self(Arc::new(Stored { step, content: content.into_boxed_str(), chain_at }));
        entry.validate()?;
        Ok(entry)
    }

    /// An entry from a head or a page. Whether it follows the one before it is [`run`]'s to say.
    pub(super) fn parse(raw: Value) -> Result<Self> {
        #[derive(Deserialize)]
        struct Frame {
            seq: Seq,
            kind: String,
            created_at: DateTime<Utc>,
            chain: Chain,
        }
        let corrupt = |seq: &Value, e: serde_json::Error| {
            // Whatever it is, however long.
            let seq: String = seq.to_string().chars().take(40).collect();
            Error::new(
                Kind::Corrupt,
                format!("read entry {seq}: a member is missing or cannot be understood"),
            )
            .caused_by(e)
        };
        let seq = raw.get("seq").cloned().unwrap_or_default();
        let frame = Frame::deserialize(&raw).map_err(|e| corrupt(&seq, e))?;
        let body = match frame.kind.as_str() {
            "segment" => Body::Segment(SegmentEntry::deserialize(&raw).map_err(|e| corrupt(&seq, e))?),
            "dump" => Body::Dump(DumpEntry::deserialize(&raw).map_err(|e| corrupt(&seq, e))?),
            "tables" => Body::Tables(TablesEntry::deserialize(&raw).map_err(|e| corrupt(&seq, e))?),
            "check" => Body::Check(CheckEntry::deserialize(&raw).map_err(|e| corrupt(&seq, e))?),
            kind => {
                return Err(Error::new(
                    Kind::TooNew,
                    format!("read entry {seq}: it is of kind {kind:?}, which this version does not know"),
                )
                .hint("install the tablecast version that runs at the source here too, then run again"));
            }
        };
        let Frame { seq, created_at, chain, .. } = frame;
        Self::of(&raw, Step { seq, created_at, chain, body })
    }

    /// What must hold in an entry by itself.
    fn validate(&self) -> Result<()> {
        let bad = |why: String| Err(Error::new(Kind::Corrupt, format!("check entry {}: {why}", self.seq.0)));
        if self.seq == Seq::ZERO || self.seq.0 > super::ids::MAX {
            return bad("entries are numbered from 1 to 2^63-1".into());
        }
        let s = match &self.body {
            Body::Segment(segment) => segment,
            Body::Dump(dump) => return dump.validate().or_else(bad),
            Body::Tables(change) => return change.validate().or_else(bad),
            Body::Check(check) => return check.validate(self.seq).or_else(bad),
        };
        // The segment's key says what is in it.
        match s.key.parse().map_err(|error| error.during(format!("check entry {}", self.seq.0)))? {
            KeyKind::Segment { first, last, codec, .. }
                if (first, last, codec) == (s.first_tx, s.last_tx, s.codec) => {}
            _ => {
                return bad(format!(
                    "key {} is not one of a {} segment with transactions {} to {}",
                    s.key, s.codec, s.first_tx.0, s.last_tx.0
                ));
            }
        }
        // Transactions are numbered from 1, the segment holds at least one, and all between first and last.
        if s.first_tx == StreamTx::ZERO
            || s.last_tx.0 > super::ids::MAX
            || s.last_tx.0.checked_sub(s.first_tx.0).map(|n| n + 1) != Some(s.count)
        {
            return bad(format!(
                "transactions {} to {} are not {} transactions",
                s.first_tx.0, s.last_tx.0, s.count
            ));
        }
        if s.size == 0 || s.raw_size == 0 {
            return bad(format!("segment {} is said to be empty", s.key));
        }
        // Each table once, sorted, so that the same segment has one description.
        if !s.tables.is_sorted_by(|a, b| a < b) {
            return bad("tables are not sorted, or one is named twice".into());
        }
        // What is covered never shrinks, and grows by every transaction in the segment.
        let new = s.covered_after.difference(&s.covered_before).count();
        if !s.covered_before.is_subset(&s.covered_after) || new < s.count {
            return bad(format!(
                "{} transactions cannot lead from covered {} to covered {}",
                s.count, s.covered_before, s.covered_after
            ));
        }
        for definition in &s.definitions {
            definition.validate(s.last_tx)?;
        }
        Ok(())
    }

    /// The entry as it is stored.
    pub fn raw(&self) -> Value {
        let mut text = String::new();
        self.write_to(&mut text);
        serde_json::from_str(&text).expect("the text of a JSON value that was read or made before")
    }

    /// Appends the text that it is stored as.
    pub(super) fn write_to(&self, out: &mut String) {
        let (before, after) = self.0.content.split_at(self.0.chain_at);
        let comma = |is_needed: bool| if is_needed { "," } else { "" };
        let (is_behind, is_first) = (before.len() > 1, before.len() == 1 && after.len() > 1);
        // A String takes everything.
        let _ =
            write!(out, "{before}{}\"chain\":\"{}\"{}{after}", comma(is_behind), self.chain, comma(is_first));
    }

    /// The stream transactions in it, first and last; `None` if it holds none.
    pub fn transactions(&self) -> Option<(StreamTx, StreamTx)> {
        self.segment().map(|segment| (segment.first_tx, segment.last_tx))
    }

    /// The last stream transaction that it brings, or knows of.
    pub fn up_to(&self) -> StreamTx {
        match &self.body {
            Body::Segment(segment) => segment.last_tx,
            Body::Dump(dump) => dump.at,
            Body::Tables(change) => change.at,
            Body::Check(check) => check.at,
        }
    }

    /// The segment, if that is what it is.
    pub fn segment(&self) -> Option<&SegmentEntry> {
        match &self.body {
            Body::Segment(segment) => Some(segment),
            Body::Dump(_) | Body::Tables(_) | Body::Check(_) => None,
        }
    }

    /// The dump, if that is what it is.
    pub fn dump(&self) -> Option<&DumpEntry> {
        match &self.body {
            Body::Dump(dump) => Some(dump),
            Body::Segment(_) | Body::Tables(_) | Body::Check(_) => None,
        }
    }

    /// The change of the table set, if that is what it is.
    pub fn tables(&self) -> Option<&TablesEntry> {
        match &self.body {
            Body::Tables(change) => Some(change),
            Body::Segment(_) | Body::Dump(_) | Body::Check(_) => None,
        }
    }

    /// The check, if that is what it is.
    pub fn check(&self) -> Option<&CheckEntry> {
        match &self.body {
            Body::Check(check) => Some(check),
            Body::Segment(_) | Body::Dump(_) | Body::Tables(_) => None,
        }
    }

    /// What the stream had covered of the source before it and after it; `None` if the entry does not say.
    pub fn covered(&self) -> Option<(&GtidSet, &GtidSet)> {
        match &self.body {
            Body::Segment(segment) => Some((&segment.covered_before, &segment.covered_after)),
            Body::Tables(change) => Some((&change.covered_before, &change.covered_after)),
            Body::Dump(_) | Body::Check(_) => None,
        }
    }

    fn is_chained_to(&self, previous: &Chain) -> bool {
        previous.next(&self.0.content) == self.chain
    }
}

/// Where a run of entries begins or ends: the last entry so far, its chain, the last transaction so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub seq: Seq,
    pub chain: Chain,
    pub tx: StreamTx,
}

/// Checks that `entries` follow `from` without a gap, in numbers, chain, transactions and coverage, and says
/// where they end.
pub(super) fn run(what: &str, from: Mark, entries: &[Entry]) -> Result<Mark> {
    let history = |why: String| Error::new(Kind::History, format!("check {what}: {why}"));
    let mut at = from;
    let mut covered: Option<&GtidSet> = None;
    let mut version: Option<u64> = None;
    for entry in entries {
        if entry.seq != at.seq.next() {
            return Err(history(format!("entry {} is followed by entry {}", at.seq.0, entry.seq.0))
                .hint("an entry was removed or put in: restore index.json and index/ from before that"));
        }
        if !entry.is_chained_to(&at.chain) {
            return Err(history(format!(
                "the chain breaks at entry {}: {} does not follow from entry {}'s {}",
                entry.seq.0, entry.chain, at.seq.0, at.chain
            ))
            .hint(
                "an entry was changed after it was written: restore index.json and index/ from before that",
            ));
        }
        let last = match &entry.body {
            Body::Segment(segment) if segment.first_tx == at.tx.next() => segment.last_tx,
            Body::Segment(segment) => {
                return Err(history(format!(
                    "entry {} begins with transaction {}, and the one before ended with {}",
                    entry.seq.0, segment.first_tx.0, at.tx.0
                )));
            }
            // It holds what the stream has brought, never what is still to come.
            Body::Dump(dump) if dump.at <= at.tx => at.tx,
            Body::Dump(dump) => {
                return Err(history(format!(
                    "entry {} is a dump at transaction {}, and the last one before it is {}",
                    entry.seq.0, dump.at.0, at.tx.0
                )));
            }
            Body::Tables(change) if change.at == at.tx => at.tx,
            Body::Tables(change) => {
                return Err(history(format!(
                    "entry {} changes the table set behind transaction {}, and the last one before it is {}",
                    entry.seq.0, change.at.0, at.tx.0
                )));
            }
            // At any other place its rows would be others.
            Body::Check(check) if check.at == at.tx => at.tx,
            Body::Check(check) => {
                return Err(history(format!(
                    "entry {} checks rows behind transaction {}, and the last one before it is {}",
                    entry.seq.0, check.at.0, at.tx.0
                )));
            }
        };
        if let Some((before, after)) = entry.covered() {
            if covered.is_some_and(|covered| !covered.is_subset(before)) {
                return Err(history(format!(
                    "entry {} begins with less of the source covered than the one before it ended with",
                    entry.seq.0
                )));
            }
            covered = Some(after);
        }
        // Sets are numbered without a gap.
        if let Some(change) = entry.tables() {
            if version.is_some_and(|version| version + 1 != change.version) {
                return Err(history(format!(
                    "entry {} makes version {} of the table set, and the one before it made version {}",
                    entry.seq.0,
                    change.version,
                    version.unwrap_or_default()
                )));
            }
            version = Some(change.version);
        }
        at = Mark { seq: entry.seq, chain: entry.chain, tx: last };
    }
    Ok(at)
}
