//! One pass over the source's binlog: events in, segments and heads out.
//!
//! Holds what has been read since the last head was written: the segment under way, the covered set, what has
//! become known about schemas and definitions. All of it is lost when the process ends, and nothing else is:
//! the next pass begins with the head. Order of writes: a segment's object first, then the head that lists it,
//! by compare-and-swap under the stream's lock.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::binlog::clock::Clock as LogicalClock;
use crate::binlog::ddl::{TableDdl, TableVerb};
use crate::binlog::event::{Checksum, Event, FormatDescription, Header};
use crate::binlog::filter::{Filter, Step, SystemZone};
use crate::binlog::gtid::{Gtid, GtidSet};
use crate::binlog::name::{TableName, quote};
use crate::binlog::segment::LARGE;
use crate::binlog::spool::TAKEN_AWAY;
use crate::binlog::transaction::Transaction;
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::error::{Error, Kind, Result};
use crate::failpoint;
use crate::mysql::{Held, Incoming};
use crate::source::check::Around;
use crate::source::definitions::{Settled, Tracker, Views};
use crate::source::dump::{self, Desk};
use crate::source::owed;
use crate::source::packer::{Large, Packed, Packer};
use crate::source::schemas::Schemas;
use crate::source::tip::Tip;
use crate::source::upload::{Report, Shipped};
use crate::source::writers::Writers;
use crate::store::{self, Store};
use crate::stream::{Codec, Definition, FORMAT, Head, Key, Refused, SegmentEntry, StreamTx, entry};

/// How much newer `as_of` must be for the head to be written for its sake alone.
pub(crate) const AS_OF_STEP: TimeDelta = TimeDelta::seconds(60);
/// After so many transactions that do not travel, the covered set is written down, so that a killed run does
/// not read them all again.
const FOREIGN_STEP: u64 = 250_000;

/// What a pass works with.
#[derive(Clone, Copy)]
pub(crate) struct Tools<'a> {
    pub config: &'a Config,
    pub store: &'a dyn Store,
    pub clock: &'a dyn Clock,
}

pub(crate) struct Pass<'a> {
    pub(super) tools: Tools<'a>,
    pub tip: &'a mut Tip,
    pub(super) lock: &'a mut dyn Held,
    pub(super) report: &'a mut Report,
    pub(super) filter: Filter,
    logical: LogicalClock,
    format: Option<FormatDescription>,
    open: Option<OpenSegment>,
    /// The transaction that is being read, if it is too large to wait for its end; `open` is None then.
    large: Option<Large>,
    /// Everything that has been read or was covered before.
    pub covered: GtidSet,
    /// Transactions read since the head was last written that leave nothing but their GTID.
    foreign: u64,
    /// What this pass cannot come past.
    refused: Option<Refused>,
    pub(super) schemas: Schemas,
    pub tracker: Tracker,
    /// Whether the commit time of the last transaction read says that everything earlier has been read.
    pub(super) ordered: bool,
    /// The stream is complete up to here.
    pub(super) complete_until: DateTime<Utc>,
    /// A check that reads on to its place.
    pub(super) around: Option<Around>,
    /// Who made what was shipped; none where the primary itself is read.
    writers: Option<Writers>,
}

struct OpenSegment {
    packer: Packer,
    first: StreamTx,
    last: StreamTx,
    tables: BTreeSet<TableName>,
    /// The source's GTIDs, and who has made the last of them.
    kept: GtidSet,
    last_writer: Uuid,
    first_commit: DateTime<Utc>,
    last_commit: DateTime<Utc>,
}

impl<'a> Pass<'a> {
    pub(crate) fn new(
        tools: Tools<'a>,
        tip: &'a mut Tip,
        lock: &'a mut dyn Held,
        report: &'a mut Report,
        schemas: Schemas,
        tracker: Tracker,
        ordered: bool,
    ) -> Self {
        let head = &tip.head;
        Self {
            filter: Filter::new(head.table_set.tables.clone(), &tools.config.files.spool_dir)
                .watching(head.stream),
            logical: LogicalClock::new(head.last_tx.0),
            format: None,
            open: None,
            large: None,
            covered: head.covered.clone(),
            foreign: 0,
            refused: None,
            schemas,
            tracker,
            ordered,
            complete_until: head.as_of,
            around: None,
            writers: None,
            tools,
            tip,
            lock,
            report,
        }
    }

    pub(crate) fn with_system_zone(mut self, zone: SystemZone) -> Self {
        self.filter = self.filter.with_system_zone(zone);
        self
    }

    /// Of a source that may be a replica.
    pub(crate) fn behind(mut self, writers: Writers) -> Self {
        self.writers = Some(writers);
        self
    }

    /// Everything up to this time is in `covered`.
    pub(crate) fn complete_until(&mut self, time: Option<DateTime<Utc>>) {
        if let Some(time) = time {
            self.complete_until = self.complete_until.max(time);
        }
    }

    /// Whether transactions wait to be shipped.
    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Takes the next event of the binlog; returns the transaction that it ended, if it did.
    pub(crate) async fn take(&mut self, views: &mut dyn Views, incoming: Incoming) -> Result<Option<Gtid>> {
        let step = match incoming {
            Incoming::Event { bytes, crc } => {
                let checksum = if crc { Checksum::Crc32 } else { Checksum::None };
                self.filter.push(Event::from_bytes(bytes, checksum)?)?
            }
            Incoming::Large { header, body } => {
                self.filter.push_payload(Header::parse(&header)?, body, Checksum::None)?
            }
        };
        if !self.filter.is_between_transactions() {
            failpoint::hit("upload.in_transaction");
        }
        if !matches!(step, Step::More | Step::Kept(_)) {
            self.large = None;
        }
        match step {
            Step::More => {
                let enough = if self.large.is_some() { TAKEN_AWAY } else { LARGE };
                if self.filter.under_way(enough).is_some() {
                    self.pack_ahead().await?;
                }
                Ok(None)
            }
            Step::Format(format) => {
                self.ship().await?;
                self.format = Some(format);
                Ok(None)
            }
            Step::Foreign(foreign) => {
                self.cover(&foreign.gtid, foreign.commit_us)?;
                self.foreign += 1;
                self.report.foreign += 1;
                if let Some(ddl) = &foreign.schema {
                    self.schemas.changed(ddl, foreign.server_collation);
                }
                if foreign.set_meddled {
                    tracing::warn!(
                        "source transaction {} changes or deletes rows of this stream in tablecast.table_set, which \
                         has no effect: `tablecast tables` changes the set",
                        foreign.gtid
                    );
                }
                if self.foreign >= FOREIGN_STEP {
                    self.finish().await?;
                }
                Ok(Some(foreign.gtid))
            }
            Step::TableSet(change) => {
                let gtid = change.gtid.clone();
                self.change_set(*change).await?;
                Ok(Some(gtid))
            }
            Step::Kept(transaction) if self.renames_views(views, &transaction).await? => {
                let gtid = transaction.source_gtid.clone();
                tracing::info!("{gtid} renames a view: it does not travel");
                self.cover(&gtid, committed_us(&transaction))?;
                self.foreign += 1;
                self.report.foreign += 1;
                Ok(Some(gtid))
            }
            Step::Kept(mut transaction) => {
                self.keep(&mut transaction)?;
                if self
                    .open
                    .as_ref()
                    .is_some_and(|open| open.packer.bytes() >= self.tools.config.upload.segment_bytes)
                {
                    self.ship().await?;
                }
                Ok(Some(transaction.source_gtid))
            }
        }
    }

    pub(super) fn cover(&mut self, gtid: &Gtid, commit_us: u64) -> Result<()> {
        if gtid.tsid.uuid == self.tip.head.stream {
            return Err(Error::new(
                Kind::History,
                format!("read {}: {gtid} is a transaction of this very stream", self.tools.config.mysql),
            )
            .hint(
                "an apply runs against the source, or a region's server feeds it: what went out would go out again; \
                 undo that, then make a new stream",
            ));
        }
        if self.covered.contains(gtid) {
            // I3: whatever sent it, a second copy must not get in.
            return Err(Error::new(
                Kind::History,
                format!("read {}: the source sent {gtid} again", self.tools.config.mysql),
            )
            .hint("two different transactions under one GTID: was the source's binlog reset? (RESET BINARY LOGS AND GTIDS)"));
        }
        self.covered.insert(gtid);
        if self.ordered {
            self.complete_until(time(commit_us));
        }
        Ok(())
    }

    /// Whether a RENAME is about views of a schema of which the set has every table: the binlog does not tell it from
    /// one of tables. It is if the stream knows no table of its old names and each of the new ones is a view now. One that
    /// has been renamed again or dropped since is not recognised, and travels; regions, which have no such table, heal
    /// from that by a dump that says so. To keep a table's RENAME from the stream would be worse.
    async fn renames_views(&self, views: &mut dyn Views, transaction: &Transaction) -> Result<bool> {
        let Some(ddl) = transaction.ddl.as_ref().filter(|ddl| ddl.verb == TableVerb::Rename) else {
            return Ok(false);
        };
        let is_table = |table: &TableName| {
            self.tip.head.definition(table).is_some() || self.tracker.unknown().any(|open| open == table)
        };
        // From, to, from, to.
        if ddl.targets.iter().step_by(2).any(is_table) {
            return Ok(false);
        }
        for table in ddl.targets.iter().skip(1).step_by(2) {
            if !views.is_view(table).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Compresses what has been read of a large transaction while the rest of it is on its way.
    async fn pack_ahead(&mut self) -> Result<()> {
        if self.large.is_none() {
            // It becomes the first of a segment: so its place is known, whatever is shipped in the meantime.
            self.ship().await?;
        }
        let (tools, head) = (&self.tools, &self.tip.head);
        let Some(transaction) = self.filter.under_way(1) else { return Ok(()) };
        let large = match &mut self.large {
            Some(large) => large,
            none => none.insert(packer(tools, head, self.format.as_ref())?.large(&transaction)?),
        };
        large.push(transaction.events)?;
        failpoint::hit("upload.in_large");
        Ok(())
    }

    fn keep(&mut self, transaction: &mut Transaction) -> Result<()> {
        let committed = committed_us(transaction);
        self.cover(&transaction.source_gtid, committed)?;
        if let Some(ddl) = transaction.ddl.as_ref().filter(|ddl| ddl.depends_on_schema_default) {
            let schemas: BTreeSet<&str> = ddl.targets.iter().map(|table| table.schema.as_str()).collect();
            let collation =
                |schema: &str| Some((schema.to_owned(), self.schemas.collation(schema)?.to_owned()));
            transaction.schema_collations = schemas.into_iter().filter_map(collation).collect();
        }
        let committed = time(committed).unwrap_or(self.complete_until);
        let depends_on = self.logical.next(&transaction.clock);
        let first = self.tip.head.last_tx.next();
        let open = match (self.large.take(), &mut self.open) {
            (Some(large), none) => {
                if large.gtid != transaction.source_gtid || none.is_some() {
                    let what =
                        format!("{} ends where {} was being read", transaction.source_gtid, large.gtid);
                    return Err(Error::new(Kind::Failed, what));
                }
                let (packer, n) = large.finish(transaction, depends_on)?;
                none.insert(OpenSegment { last: n, ..OpenSegment::begin(packer, first, committed) })
            }
            (None, Some(open)) => {
                open.last = open.packer.push(transaction, depends_on)?;
                open
            }
            (None, none) => {
                let packer = packer(&self.tools, &self.tip.head, self.format.as_ref())?;
                let mut open = OpenSegment::begin(packer, first, committed);
                open.last = open.packer.push(transaction, depends_on)?;
                none.insert(open)
            }
        };
        open.last_commit = committed;
        open.kept.insert(&transaction.source_gtid);
        open.last_writer = transaction.source_gtid.tsid.uuid;
        if let Some(around) = &mut self.around {
            around.kept(&transaction.source_gtid, &transaction.tables);
        }
        open.tables.extend(transaction.tables.iter().cloned());
        let tx = open.last;
        if let Some(ddl) = &transaction.ddl {
            self.redefined(ddl, tx, &transaction.source_gtid);
        } else if let Some(dropped) = &transaction.schema {
            // DROP DATABASE, carried as drops of the set's tables.
            self.schemas.changed(dropped, None);
            for table in &transaction.tables {
                self.tracker.changed(table, tx, &transaction.source_gtid);
            }
        }
        Ok(())
    }

    /// Every definition that this statement may have changed is to be read again: its targets', and those
    /// that name a target in a foreign key, whose text follows a RENAME.
    fn redefined(&mut self, ddl: &TableDdl, tx: StreamTx, source: &Gtid) {
        let set = &self.tip.head.table_set.tables;
        for table in ddl.targets.iter().filter(|table| set.names(table)) {
            self.tracker.changed(table, tx, source);
        }
        let names: Vec<String> = ddl.targets.iter().map(|table| quote(&table.table)).collect();
        let refers = |definition: &&Definition| {
            definition.create_table.contains("REFERENCES")
                && names.iter().any(|name| definition.create_table.contains(name))
        };
        for child in self.tip.head.definitions.iter().filter(refers) {
            self.tracker.changed(&child.table, tx, source);
        }
    }

    /// Ships what is there: the segment under way, or, if it is worth it, only what the head has to say.
    pub(crate) async fn finish(&mut self) -> Result<()> {
        if self.open.is_some() {
            self.ship().await
        } else if self.foreign >= FOREIGN_STEP
            || self.complete_until - self.tip.head.as_of >= AS_OF_STEP
            || (self.tip.head.refused.is_some() && self.covered != self.tip.head.covered)
        {
            self.write_down().await
        } else {
            self.publish_definitions().await
        }
    }

    /// A transaction cannot travel. What came whole before it is owed to the regions, and the head tells of it, in one
    /// write; in none, if it does already.
    pub(crate) async fn refuse(&mut self, error: &Error) -> Result<()> {
        let refused = Refused::new(error, self.tools.clock.now());
        let known = self.tip.head.refused.as_ref().filter(|known| known.why == refused.why);
        if known.is_some() && self.covered == self.tip.head.covered {
            return Ok(());
        }
        self.refused = Some(known.cloned().unwrap_or(refused));
        if self.open.is_some() { self.ship().await } else { self.write_down().await }
    }

    /// Does what a dump under way needs of the index: that the head covers it, and its entry.
    pub(crate) async fn attend(&mut self, desk: &Desk) -> Result<()> {
        if let Some(awaited) = desk.awaited()
            && awaited.is_subset(&self.covered)
            && !awaited.is_subset(&self.tip.head.covered)
        {
            self.cover_in_head(&awaited).await?;
        }
        owed::ask(self.tools, desk, &self.tip.head).await;
        dump::attend(self.tools, desk, self.lock, self.tip, self.report).await
    }

    /// Ships, so that the head covers what this pass has.
    pub(crate) async fn cover_in_head(&mut self, wanted: &GtidSet) -> Result<()> {
        self.ship().await?;
        // What lacked did not travel: nothing but the covered set has it.
        if !wanted.is_subset(&self.tip.head.covered) {
            self.write_down().await?;
        }
        Ok(())
    }

    /// Writes down how far the stream has come, without a segment.
    async fn write_down(&mut self) -> Result<()> {
        let mut head = self.tip.head.clone();
        let settled = self.tracker.settle(&self.covered);
        head.covered = self.covered.clone();
        self.amend(&mut head, &settled);
        self.swap(head).await
    }

    /// Publishes definitions that have become known, if any have.
    async fn publish_definitions(&mut self) -> Result<()> {
        let settled = self.tracker.settle(&self.covered);
        let mut head = self.tip.head.clone();
        self.amend(&mut head, &settled);
        if head.definitions == self.tip.head.definitions
            && self.tip.head.source_region == self.tools.config.source_region
            && self.tip.head.format >= FORMAT
        {
            return Ok(());
        }
        head.covered = self.covered.clone();
        self.swap(head).await
    }

    /// Ships the segment under way, if there is one.
    pub(super) async fn ship(&mut self) -> Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let is_vouched = match &self.writers {
            Some(writers) => writers.vouch(self.tools, &self.tip.head, &open.kept).await?,
            None => true,
        };
        let Packed { file, size, md5, written } = open.packer.finish().await?;
        let codec = codec(self.tools.config.upload.codec);
        let made = self.tools.clock.now();
        let key = Key::segment(open.first, open.last, made, codec);
        failpoint::hit("upload.before_segment_put");
        self.tools.store.create(&key, store::Body::Packed { path: &file, md5, size }).await?;
        failpoint::hit("upload.after_segment_put");

        let settled = self.tracker.settle(&self.covered);
        let mut head = self.tip.head.clone();
        let mut definitions: Vec<Definition> = Vec::new();
        if head.last_tx == StreamTx::ZERO {
            // A region that begins at the beginning makes its tables from these; the head may have newer ones
            // by then.
            let at_init = |definition: &&Definition| definition.rows_at_init.is_some();
            definitions.extend(head.definitions.iter().filter(at_init).cloned());
        }
        definitions.extend(settled.iter().filter_map(|settled| settled.definition.clone()));
        let segment = SegmentEntry {
            key: key.clone(),
            size,
            md5,
            raw_size: written.bytes,
            codec,
            first_tx: open.first,
            last_tx: open.last,
            count: written.count,
            tables: open.tables.into_iter().collect(),
            covered_before: head.covered.clone(),
            covered_after: self.covered.clone(),
            first_commit: open.first_commit,
            last_commit: open.last_commit,
            definitions,
        };
        let seq = head.append(entry::Body::Segment(segment), made)?.seq;
        self.amend(&mut head, &settled);
        self.swap(head).await?;
        if let Some(writers) = &mut self.writers {
            writers.shipped(seq, Some(open.last_writer).filter(|_| is_vouched), &self.tip.head);
        }
        let shipped = Shipped {
            seq,
            key,
            first_tx: open.first,
            last_tx: open.last,
            count: written.count,
            size,
            raw_size: written.bytes,
        };
        tracing::info!("shipped {shipped}");
        self.report.shipped(shipped, self.tools.clock.now());
        Ok(())
    }

    /// What every head says beside its entries.
    pub(super) fn amend(&self, head: &mut Head, settled: &[Settled]) {
        let set = head.table_set.tables.clone();
        head.schemas = self.schemas.known(&set);
        head.as_of = head.as_of.max(self.complete_until);
        head.definitions.retain(|definition| {
            let table = &definition.table;
            self.tracker.unknown().all(|unknown| unknown != table)
                && settled.iter().all(|settled| settled.table != *table)
        });
        let known = settled.iter().filter_map(|settled| settled.definition.clone());
        // A table that has left the set since it was read about.
        for definition in known.filter(|definition| set.names(&definition.table)) {
            head.define(definition);
        }
    }

    pub(super) async fn swap(&mut self, mut head: Head) -> Result<()> {
        head.source_region.clone_from(&self.tools.config.source_region);
        // A pass that covers more has come past what was refused before.
        if self.refused.is_some() || head.covered != self.tip.head.covered {
            head.refused.clone_from(&self.refused);
        }
        self.lock.verify().await?;
        self.tip.swap(self.tools.store, head).await?;
        self.foreign = 0;
        self.report.head_written(&self.tip.head);
        Ok(())
    }
}

impl OpenSegment {
    fn begin(packer: Packer, first: StreamTx, first_commit: DateTime<Utc>) -> Self {
        Self {
            packer,
            first,
            last: first,
            tables: BTreeSet::new(),
            kept: GtidSet::new(),
            last_writer: Uuid::nil(),
            first_commit,
            last_commit: first_commit,
        }
    }
}

fn packer(tools: &Tools<'_>, head: &Head, format: Option<&FormatDescription>) -> Result<Packer> {
    let format = format.ok_or_else(|| {
        Error::new(
            Kind::Corrupt,
            format!("read {}: a transaction came before any format description", tools.config.mysql),
        )
    })?;
    let (upload, folder) = (&tools.config.upload, &tools.config.files.spool_dir);
    Packer::new(folder, head.stream, format, head.last_tx.next(), upload)
}

fn codec(codec: config::Codec) -> Codec {
    match codec {
        config::Codec::Gzip => Codec::Gzip,
        config::Codec::Zstd => Codec::Zstd,
    }
}

/// When it committed where it was made.
fn committed_us(transaction: &Transaction) -> u64 {
    match transaction.original_commit_us() {
        0 => transaction.commit_us(),
        original => original,
    }
}

/// A commit time from a binlog: microseconds since 1970, 0 where the server wrote none.
pub(super) fn time(commit_us: u64) -> Option<DateTime<Utc>> {
    i64::try_from(commit_us).ok().filter(|us| *us > 0).and_then(DateTime::from_timestamp_micros)
}
