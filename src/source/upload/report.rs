//! What an upload did.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};

use crate::binlog::name::{TableName, TablePattern, TableSet};
use crate::config::{Config, show_size};
use crate::metrics::catalogue::{
    SOURCE_BACKLOG, UPLOAD_BYTES, UPLOAD_CHECK_SECONDS, UPLOAD_CHECKED_ROWS, UPLOAD_CHECKS, UPLOAD_DUMPS,
    UPLOAD_FOREIGN, UPLOAD_RAW_BYTES, UPLOAD_SEGMENTS, UPLOAD_TRANSACTIONS,
};
use crate::metrics::{Meters, figure};
use crate::source::bridge::Bridge;
use crate::source::figures;
use crate::source::resync::would_drop;
use crate::source::upload::{Plan, show_time};
use crate::stream::{DumpEntry, DumpRef, Head, Key, Refused, Seq, StreamTx, TablesEntry};

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub stream: String,
    pub dry_run: bool,
    /// Ended by a signal, at a transaction boundary.
    pub stopped: bool,
    /// The first pass's; a following run makes one at each start.
    pub plan: Option<Plan>,
    /// What was, or would be, read from the primary first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge: Option<Bridge>,
    /// The newest of them; a run that follows for long does not keep them all.
    pub segments: Vec<Shipped>,
    #[serde(serialize_with = "as_text")]
    pub segment_count: u64,
    /// Transactions shipped.
    #[serde(serialize_with = "as_text")]
    pub kept: u64,
    /// Transactions read that do not travel.
    #[serde(serialize_with = "as_text")]
    pub foreign: u64,
    #[serde(serialize_with = "as_text")]
    pub compressed_bytes: u64,
    #[serde(serialize_with = "tx_as_text")]
    pub last_tx: StreamTx,
    #[serde(serialize_with = "seq_as_text")]
    pub last_seq: Seq,
    pub as_of: Option<DateTime<Utc>>,
    /// With `--dry-run --resync`: what would be dumped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resync: Option<crate::source::dump::Plan>,
    /// With it: tables of the set that are not at the source, which every region would drop.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<TableName>,
    /// With it: what upload cannot come past.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
    /// Dumps that were appended to the index; the newest of them, as above.
    pub dumps: Vec<DumpRef>,
    /// Changes of the table set that were recorded; the newest of them.
    pub set_changes: Vec<SetChange>,
    /// Checks of rows that were appended to the index, and the rows in them.
    #[serde(serialize_with = "as_text")]
    pub checks: u64,
    #[serde(serialize_with = "as_text")]
    pub checked_rows: u64,
    /// Whether regions wait for a dump, because tables came in that hold rows.
    pub owes_dump: bool,
    /// How often the head was written.
    pub puts: u64,
    pub warnings: Vec<String>,
    /// Where the run's figures are kept for whoever watches it.
    #[serde(skip)]
    meters: Meters,
    /// Of `foreign`, what is in them.
    #[serde(skip)]
    counted: u64,
}

/// One segment and its entry.
#[derive(Clone, Debug, Serialize)]
pub struct Shipped {
    #[serde(serialize_with = "seq_as_text")]
    pub seq: Seq,
    pub key: Key,
    #[serde(serialize_with = "tx_as_text")]
    pub first_tx: StreamTx,
    #[serde(serialize_with = "tx_as_text")]
    pub last_tx: StreamTx,
    #[serde(serialize_with = "as_text")]
    pub count: u64,
    #[serde(serialize_with = "as_text")]
    pub size: u64,
    #[serde(serialize_with = "as_text")]
    pub raw_size: u64,
}

/// A change of the table set and its entry.
#[derive(Clone, Debug, Serialize)]
pub struct SetChange {
    #[serde(serialize_with = "seq_as_text")]
    pub seq: Seq,
    #[serde(serialize_with = "as_text")]
    pub version: u64,
    pub tables: TableSet,
    /// Tables that came in and were there already, and whether they may hold rows.
    pub added: BTreeMap<String, bool>,
    pub removed: Vec<TablePattern>,
}

const SEGMENTS_KEPT: usize = 1000;

impl Report {
    pub(crate) fn new(config: &Config, dry_run: bool, meters: Meters) -> Self {
        // From the first run on: a series that begins with its first count has no increase then.
        for metric in
            [&UPLOAD_SEGMENTS, &UPLOAD_TRANSACTIONS, &UPLOAD_BYTES, &UPLOAD_RAW_BYTES, &UPLOAD_DUMPS]
        {
            meters.add(metric, &[], 0.0);
        }
        Self {
            stream: config.stream.clone(),
            dry_run,
            stopped: false,
            plan: None,
            bridge: None,
            segments: Vec::new(),
            segment_count: 0,
            kept: 0,
            foreign: 0,
            compressed_bytes: 0,
            last_tx: StreamTx::ZERO,
            last_seq: Seq::ZERO,
            as_of: None,
            resync: None,
            dropped: Vec::new(),
            refused: None,
            dumps: Vec::new(),
            set_changes: Vec::new(),
            checks: 0,
            checked_rows: 0,
            owes_dump: false,
            puts: 0,
            warnings: Vec::new(),
            meters,
            counted: 0,
        }
    }

    /// Whether the stream has more in it than before.
    pub fn has_shipped(&self) -> bool {
        self.segment_count > 0 || !self.dumps.is_empty() || !self.set_changes.is_empty()
    }

    pub(crate) fn begin(&mut self, plan: Plan, head: &Head) {
        if !plan.beyond.is_empty() {
            self.warn(format!(
                "{} does not have {}, which the stream covers: it is behind another source of this stream, or was \
                 restored from an old copy",
                plan.source, plan.beyond
            ));
        }
        self.know(head);
        self.backlog(plan.missing_count);
        self.plan.get_or_insert(plan);
    }

    /// So many transactions of the source had yet to be read when it was looked at.
    pub(crate) fn backlog(&mut self, transactions: u64) {
        self.meters.set(&SOURCE_BACKLOG, &[], figure(transactions));
    }

    /// A run that follows has looked, and failed in nothing.
    pub(crate) fn worked(&self, now: DateTime<Utc>) {
        self.meters.worked(now);
    }

    pub(crate) fn bridged(&mut self, bridge: &Bridge) {
        self.bridge.get_or_insert_with(|| bridge.clone());
    }

    pub(crate) fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            tracing::warn!("{warning}");
            self.warnings.push(warning);
        }
    }

    /// A check of so many rows is in the stream; the stream stood still for so long.
    pub(crate) fn checked(&mut self, rows: u64, took: std::time::Duration) {
        self.checks += 1;
        self.checked_rows += rows;
        self.meters.add(&UPLOAD_CHECKS, &[], 1.0);
        self.meters.add(&UPLOAD_CHECKED_ROWS, &[], figure(rows));
        self.meters.add(&UPLOAD_CHECK_SECONDS, &[], took.as_secs_f64());
    }

    pub(crate) fn shipped(&mut self, shipped: Shipped, now: DateTime<Utc>) {
        self.meters.got_on(now);
        self.segment_count += 1;
        self.compressed_bytes += shipped.size;
        self.kept += shipped.count;
        let counts = [
            (&UPLOAD_SEGMENTS, 1),
            (&UPLOAD_TRANSACTIONS, shipped.count),
            (&UPLOAD_BYTES, shipped.size),
            (&UPLOAD_RAW_BYTES, shipped.raw_size),
        ];
        counts.into_iter().for_each(|(metric, count)| self.meters.add(metric, &[], figure(count)));
        if self.segments.len() == SEGMENTS_KEPT {
            self.segments.remove(0);
        }
        self.segments.push(shipped);
    }

    pub(crate) fn dumped(&mut self, seq: Seq, dump: DumpEntry) {
        if self.dumps.len() == SEGMENTS_KEPT {
            self.dumps.remove(0);
        }
        self.dumps.push(DumpRef { seq, dump, extra: Default::default() });
        self.meters.add(&UPLOAD_DUMPS, &[], 1.0);
    }

    pub(crate) fn set_changed(&mut self, seq: Seq, entry: &TablesEntry) {
        if self.set_changes.len() == SEGMENTS_KEPT {
            self.set_changes.remove(0);
        }
        let added = entry.added.iter().map(|added| (added.table.to_string(), added.has_rows)).collect();
        let (version, tables, removed) = (entry.version, entry.tables.clone(), entry.removed.clone());
        let change = SetChange { seq, version, tables, added, removed };
        tracing::info!("entry {}: {change}", seq.0);
        self.set_changes.push(change);
    }

    pub(crate) fn head_written(&mut self, head: &Head) {
        self.puts += 1;
        self.know(head);
    }

    /// Takes over what the head says.
    pub(crate) fn know(&mut self, head: &Head) {
        (self.last_tx, self.last_seq, self.as_of) = (head.last_tx, head.last_seq, Some(head.as_of));
        self.owes_dump = crate::source::owed::owes(head);
        for (metric, value) in figures::of_head(head) {
            self.meters.set(metric, &[], value);
        }
        self.meters.add(&UPLOAD_FOREIGN, &[], figure(self.foreign - self.counted));
        self.counted = self.foreign;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(resync) = &self.resync {
            let rows: u64 = resync.tables.iter().map(|table| table.rows).sum();
            let (stream, tables) = (&self.stream, resync.tables.len());
            write!(
                f,
                "{stream}: would dump all {tables} tables (about {rows} rows) for every region to restore, and go on behind \
                 that"
            )?;
            for table in &self.dropped {
                write!(f, "\nwarning: {}", would_drop(table))?;
            }
            return match (&self.refused, &self.plan) {
                (Some(refused), _) => {
                    write!(f, "\n{stream}: without --resync it does not go on: {}", refused.why)
                }
                (None, Some(_)) => write!(
                    f,
                    "\n{stream}: nothing is lost, as far as upload has read: without --resync it goes on as well, unless a \
                     transaction that it has not read yet is refused"
                ),
                (None, None) => Ok(()),
            };
        }
        if let (true, Some(plan)) = (self.dry_run, &self.plan) {
            if let Some(Bridge { from, missing, missing_count }) = &self.bridge {
                writeln!(
                    f,
                    "would do: {}: read {missing_count} transactions that {} no longer holds from {from} ({missing})",
                    self.stream, plan.source
                )?;
            }
            return write!(f, "would do: {plan}");
        }
        for change in &self.set_changes {
            writeln!(f, "{}: {change}", self.stream)?;
        }
        let until = self.as_of.map_or("unknown".to_owned(), show_time);
        if self.segment_count == 0 {
            return write!(f, "{}: nothing to ship; complete until {until}", self.stream);
        }
        let segments = if self.segment_count == 1 { "segment" } else { "segments" };
        write!(
            f,
            "{}: shipped {} transactions in {} {segments} ({} bytes), up to stream transaction {}; complete until \
             {until}",
            self.stream, self.kept, self.segment_count, self.compressed_bytes, self.last_tx.0
        )
    }
}

impl fmt::Display for SetChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {} of the table set holds from here on: {}", self.version, self.tables)?;
        let with_rows: Vec<&str> =
            self.added.iter().filter(|(_, has_rows)| **has_rows).map(|(table, _)| table.as_str()).collect();
        if !with_rows.is_empty() {
            write!(f, "; regions wait for a dump that has {}", with_rows.join(", "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Shipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "entry {}: transactions {} to {}, {} ({} before compression)",
            self.seq.0,
            self.first_tx.0,
            self.last_tx.0,
            show_size(self.size),
            show_size(self.raw_size)
        )
    }
}

/// Big numbers are text in JSON: not every reader has 64-bit integers.
pub(crate) fn as_text<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

pub(crate) fn tx_as_text<S: Serializer>(tx: &StreamTx, serializer: S) -> Result<S::Ok, S::Error> {
    as_text(&tx.0, serializer)
}

pub(crate) fn seq_as_text<S: Serializer>(seq: &Seq, serializer: S) -> Result<S::Ok, S::Error> {
    as_text(&seq.0, serializer)
}
