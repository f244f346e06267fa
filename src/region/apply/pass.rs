//! One pass: head, checks, plan, and the plan carried out.
//!
//! Everything that can be found wrong before the first change is found before it: history, definitions,
//! privileges, every object of the first segment. From then on each entry is checked, run, and recorded by itself.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::{Next, Options, Report};
use crate::binlog::name::TableSet;
use crate::clock::Clock;
use crate::config::{Config, RegionConfig};
use crate::mysql::{self, Lock, Server};
use crate::region::definitions::{self, Missing};
use crate::region::plan::{Plan, PlannedSegment, Point};
use crate::region::position::{self, Executed, Position};
use crate::region::replay::{Context, Replay};
use crate::region::segments::{self, Fetched};
use crate::region::{drift, history, preflight};
use crate::store::head::Read;
use crate::store::{Etag, Store};
use crate::stream::{Definition, Entry, Head, Index, Seq, StreamTx};
use crate::{Error, Kind, Result, failpoint, store};

/// How often a segment is run again because it lost to locks of other sessions.
const ATTEMPTS: u32 = 3;

/// After how long a wait for a GTID that another session owns is told.
const OWNED: Duration = Duration::from_secs(5);

/// What a run holds in the region.
pub struct Region<'a> {
    config: &'a Config,
    region: &'a RegionConfig,
    store: Arc<dyn Store>,
    clock: &'a dyn Clock,
    options: &'a Options,
    /// `None` for a dry run, which changes nothing.
    lock: Option<Lock>,
    control: Conn,
    /// All of our own tables are known to be there.
    is_complete: bool,
    server: Option<Server>,
    replay: Option<Replay>,
}

/// What a pass starts from.
struct Start {
    position: Option<Position>,
    head: Head,
    etag: Etag,
    executed: Executed,
}

/// The region's part of the config.
pub fn region_of(config: &Config) -> Result<&RegionConfig> {
    config.region.as_ref().ok_or_else(|| {
        Error::new(
            Kind::Usage,
            format!("{}: no [region]: this is not a region's file", config.path.display()),
        )
        .hint("`tablecast init region` writes one")
    })
}

/// The name of the lock that a region's runs exclude each other by.
pub fn lock_name(config: &Config) -> String {
    mysql::lock_name(&format!("tablecast:apply:{}", config.stream))
}

impl<'a> Region<'a> {
    /// Takes the lock and connects.
    pub async fn open(
        config: &'a Config,
        store: Arc<dyn Store>,
        clock: &'a dyn Clock,
        options: &'a Options,
    ) -> Result<Region<'a>> {
        let region = region_of(config)?;
        let name = lock_name(config);
        let lock = async {
            match options.dry_run {
                true => Ok(None),
                false => Lock::acquire(&config.mysql, &name, options.lock_wait).await.map(Some),
            }
        };
        let (lock, control) = tokio::try_join!(lock, mysql::connect(&config.mysql))?;
        failpoint::hit("apply.after_lock");
        Ok(Region {
            config,
            region,
            store,
            clock,
            options,
            lock,
            control,
            is_complete: false,
            server: None,
            replay: None,
        })
    }

    /// Ends the workers and gives the lock back.
    pub async fn close(self) {
        if let Some(replay) = self.replay {
            replay.close().await;
        }
        if let Some(lock) = self.lock
            && let Err(error) = lock.release().await
        {
            tracing::debug!(%error, "the lock ends with its connection");
        }
    }

    /// Applies what is new, at most the entries of one object of the index.
    pub async fn pass(&mut self, report: &mut Report) -> Result<Next> {
        if let Some(lock) = &mut self.lock {
            lock.verify().await?;
        }
        let name = &self.config.stream;
        let position = position::read(&mut self.control, name).await?;
        if position.is_some() && !self.is_complete && !self.options.dry_run {
            position::complete(&mut self.control).await?;
            self.is_complete = true;
        }
        let gtids = position::gtid_executed(&mut self.control).await?;
        if let Some(position) = &position {
            history::check_position(
                name,
                position,
                &Executed::of(position.stream, &gtids).with_base(position.base_tx),
            )?;
            self.tell(report, position);
        }
        let url = self.store.url();
        let unless = position.as_ref().filter(|at| at.store == url).and_then(|at| at.head_etag.clone());
        let (head, etag) = match store::head::read(&*self.store, unless.as_ref()).await? {
            Read::Unchanged => return Ok(Next::Idle),
            Read::Head { head, etag } => (*head, etag),
        };
        history::check_name(name, &head, &url)?;
        let executed = Executed::of(head.stream, &gtids).with_base(base_tx(position.as_ref()));
        let mut index = Index::new(head);
        if let Some(position) = &position {
            index.check_position(position.stream, position.seq, &position.chain, &*self.store).await?;
        }
        history::check_index(name, position.as_ref(), &executed, index.head())?;
        let seq = position.as_ref().map_or(Seq::ZERO, |at| at.seq);
        let mut entries = index.entries_after(seq, &*self.store).await?;
        let until = self.options.until.unwrap_or(u64::MAX);
        // What follows a segment that begins behind `until` is behind it too.
        let behind = |entry: &Entry| entry.segment().is_some_and(|segment| segment.first_tx.0 > until);
        entries.truncate(entries.iter().position(behind).unwrap_or(entries.len()));
        history::check_server(name, &gtids, &entries)?;
        let start = Start { position, head: index.head().clone(), etag, executed };
        self.carry_out(start, entries, report).await
    }

    async fn carry_out(
        &mut self,
        mut start: Start,
        entries: Vec<Entry>,
        report: &mut Report,
    ) -> Result<Next> {
        if entries.is_empty() && start.position.is_some() {
            return self.refresh(start, report).await;
        }
        self.check_tables(&entries)?;
        let server = match &self.server {
            Some(server) => server.clone(),
            None => {
                let server = mysql::server(&mut self.control).await?;
                preflight::insist(&mut self.control, &server, &self.region.tables).await?;
                self.server.insert(server).clone()
            }
        };
        let stream = start.head.stream;
        if !self.options.dry_run {
            let Some(executed) = self.prove(&server, &start).await? else {
                report.stopped = true;
                return Ok(Next::Over);
            };
            start.executed = executed;
        }
        let mut missing = self.missing(&start, &entries).await?;
        let plan = self.plan(&start, &entries, &missing);
        let (end, last_seq) = (plan.to.seq, start.head.last_seq.0);
        if report.plan.is_none() {
            report.plan = Some(plan);
        }
        if self.options.dry_run {
            return Ok(Next::Over);
        }
        let spool = &self.config.files.spool_dir;
        std::fs::create_dir_all(spool).map_err(|error| {
            Error::new(Kind::Failed, format!("make the folder {}", spool.display())).caused_by(error)
        })?;
        segments::sweep(spool, self.clock.now());
        let applied = !entries.is_empty();
        let mut fetched =
            segments::prefetch(self.store.clone(), stream, self.tables().clone(), spool, entries.clone());
        let mut at = start.position.clone();
        for entry in &entries {
            if entry.segment().is_none() {
                let before = match at {
                    Some(at) => at,
                    None => self.set_up(&start, None, &Missing::default()).await?,
                };
                at = Some(self.pass_over(&start, &before, entry, report).await?);
                continue;
            }
            let Some(next) = fetched.recv().await.transpose()? else { break };
            if self.options.stop.is_cancelled() {
                report.stopped = true;
                return Ok(Next::Over);
            }
            let before = match at {
                Some(at) if missing.is_empty() => {
                    self.check(&start, &next, &missing).await?;
                    at
                }
                at => {
                    for new in &mut missing.schemas {
                        // The head's default is the newest; these transactions may be older.
                        if let Some(collation) = next.scan.first_default(&new.schema) {
                            new.collation = Some(collation.to_owned());
                        }
                    }
                    self.check(&start, &next, &missing).await?;
                    let before = self.set_up(&start, at, &missing).await?;
                    missing = Missing::default();
                    before
                }
            };
            match self.apply(&start, &before, &next, report).await? {
                Some(after) => at = Some(after),
                None => return Ok(Next::Over),
            }
        }
        let is_new = at.is_none();
        if is_new || !missing.is_empty() {
            let before = self.set_up(&start, at, &missing).await?;
            if is_new {
                self.refresh(Start { position: Some(before), ..start }, report).await?;
            }
        }
        match end < last_seq {
            true if self.options.until.is_none() => Ok(Next::More),
            true => Ok(Next::Over),
            false if applied => Ok(Next::Applied),
            false => Ok(Next::Idle),
        }
    }

    /// Shows that the account may replay, and waits until no connection of a killed run goes on: it would hold the
    /// GTID that comes next. Says what the server has executed then; `None` if the token came first.
    async fn prove(&mut self, server: &Server, start: &Start) -> Result<Option<Executed>> {
        let stream = start.head.stream;
        let (control, next) = (&mut self.control, start.executed.complete_to() + 1);
        let replay = self.replay.get_or_insert_with(|| {
            let context = Context {
                config: self.config.mysql.clone(),
                version: server.version,
                set_row_format: server.binlog_format != "ROW",
                max_allowed_packet: server.max_allowed_packet,
                stream,
            };
            Replay::new(context, self.region.tables.clone(), self.config.apply.workers)
        });
        let mut proof = std::pin::pin!(replay.prove(next));
        loop {
            tokio::select! {
                proved = &mut proof => {
                    proved?;
                    break;
                }
                () = self.options.stop.cancelled() => return Ok(None),
                () = tokio::time::sleep(OWNED) => {
                    let owners: Option<String> = control
                        .query_first("SELECT @@GLOBAL.gtid_owned")
                        .await
                        .map_err(|error| mysql::error(error, "read gtid_owned"))?;
                    let owners = owners.unwrap_or_default();
                    tracing::warn!(
                        "waiting for transaction {next}, which a connection of an earlier run still runs \
                         (gtid_owned, GTID#connection: {owners})"
                    );
                }
            }
        }
        let executed = Executed::of(stream, &position::gtid_executed(control).await?);
        Ok(Some(executed.with_base(base_tx(start.position.as_ref()))))
    }

    fn tables(&self) -> &TableSet {
        &self.region.tables
    }

    /// Every table that the entries touch must be in the region's list: found before anything is downloaded.
    fn check_tables(&self, entries: &[Entry]) -> Result<()> {
        for (entry, segment) in entries.iter().filter_map(|entry| Some((entry, entry.segment()?))) {
            if let Some(table) = segment.tables.iter().find(|table| !self.tables().admits(table)) {
                let message =
                    format!("gate: refuse entry {}: table {table} is not in this region's list", entry.seq.0);
                return Err(Error::new(Kind::Gate, message).hint(format!(
                    "add {table} to `tables` in [region] of {}: a region takes every table of its stream",
                    self.config.path.display()
                )));
            }
        }
        Ok(())
    }

    /// What the region lacks; an error if something is there that differs.
    async fn missing(&mut self, start: &Start, entries: &[Entry]) -> Result<Missing> {
        let schemas =
            definitions::missing_schemas(&mut self.control, &start.head, &self.region.tables).await?;
        let at = start.position.as_ref().map_or(0, |at| at.last_tx.0);
        let fresh = start.position.is_none() && start.executed.last() == 0;
        let known = |since: &dyn Fn(&Definition) -> bool, all: &[Definition]| -> Vec<Definition> {
            all.iter().filter(|definition| since(definition)).cloned().collect()
        };
        if !fresh {
            let definitions = known(&|definition| definition.since_tx.0 <= at, &start.head.definitions);
            definitions::compare(&mut self.control, &definitions, &self.region.tables).await?;
            return Ok(Missing { schemas, tables: Vec::new() });
        }
        // The first entry keeps the definitions as they were when the stream began; the head has the newest.
        let at_start = |definition: &Definition| definition.since_tx.0 == 0;
        let mut definitions = match entries.iter().find_map(Entry::segment) {
            Some(first) => known(&at_start, &first.definitions),
            None => Vec::new(),
        };
        if definitions.is_empty() {
            definitions = known(&at_start, &start.head.definitions);
        }
        let tables =
            definitions::compare_at_start(&mut self.control, &definitions, &self.region.tables).await?;
        Ok(Missing { schemas, tables })
    }

    fn plan(&self, start: &Start, entries: &[Entry], missing: &Missing) -> Plan {
        let from = start.position.as_ref().map_or(Point::default(), point);
        let last_tx = entries.iter().rev().find_map(Entry::segment).map(|segment| segment.last_tx.0);
        let to = entries
            .last()
            .map_or(from, |entry| Point { seq: entry.seq.0, last_tx: last_tx.unwrap_or(from.last_tx) });
        let segments = entries.iter().filter_map(|entry| {
            let segment = entry.segment()?;
            Some(PlannedSegment {
                seq: entry.seq.0,
                key: segment.key.to_string(),
                size: segment.size,
                first_tx: segment.first_tx.0,
                last_tx: segment.last_tx.0,
                count: segment.count,
                tables: segment.tables.clone(),
            })
        });
        Plan {
            stream: self.config.stream.clone(),
            uuid: start.head.stream,
            region: self.region.name.clone(),
            store: self.store.url(),
            from,
            to,
            more_entries: start.head.last_seq.0 - to.seq,
            as_of: start.head.as_of,
            create_position: start.position.is_none(),
            create_schemas: missing.schemas.clone(),
            create_tables: missing.tables.clone(),
            segments: segments.collect(),
        }
    }

    /// What can be known to fail in a segment, before anything of it runs.
    async fn check(&mut self, start: &Start, next: &Fetched, to_come: &Missing) -> Result<()> {
        let (scan, executed) = (&next.scan, &start.executed);
        let limit = self.server.as_ref().map_or(u64::MAX, |server| server.max_allowed_packet);
        definitions::check_packet(scan, executed, limit)?;
        let first_change = scan.changes_of_defaults(executed).first().copied().unwrap_or(u64::MAX);
        let range = 0..=first_change - 1;
        definitions::check_schema_defaults(&mut self.control, scan, executed, range, &to_come.schemas)
            .await?;
        definitions::check_maps(&mut self.control, scan, executed, &to_come.tables).await
    }

    /// The region's first change: schemas, tables, and the row of the position.
    async fn set_up(&mut self, start: &Start, at: Option<Position>, missing: &Missing) -> Result<Position> {
        position::create(&mut self.control).await?;
        definitions::create(&mut self.control, missing).await?;
        if let Some(at) = at {
            return Ok(at);
        }
        let is_whole = start.head.entries.first().is_some_and(|entry| entry.seq == Seq(1));
        let first = start.head.entries.iter().find_map(Entry::segment).filter(|_| is_whole);
        let covered = first.map(|segment| segment.covered_before.clone()).unwrap_or_default();
        let position = Position::start(start.head.stream, self.store.url(), covered, self.clock.now());
        position::insert(&mut self.control, &self.config.stream, &position).await?;
        Ok(position)
    }

    /// Runs one segment and records it. `None`: ended before its end, by `until` or by the token.
    async fn apply(
        &mut self,
        start: &Start,
        before: &Position,
        fetched: &Fetched,
        report: &mut Report,
    ) -> Result<Option<Position>> {
        let (entry, segment, scan) = (&fetched.entry, &fetched.segment, &fetched.scan);
        let until = self.options.until.unwrap_or(u64::MAX).min(segment.last_tx.0);
        let mut executed = start.executed.clone();
        let changes = scan.changes_of_defaults(&executed);
        report.skipped += executed.count(segment.first_tx.0, until);
        let mut from = 0;
        for next in changes.into_iter().chain([u64::MAX]) {
            if from > 0 {
                let (control, range) = (&mut self.control, from..=next - 1);
                definitions::check_schema_defaults(control, scan, &executed, range, &[]).await?;
            }
            executed = self.replay(start, fetched, executed, until.min(next - 1), report).await?;
            if report.stopped {
                return Ok(None);
            }
            from = next;
        }
        if until < segment.last_tx.0 {
            return Ok(None);
        }
        let definitions: Vec<Definition> = start
            .head
            .definitions
            .iter()
            .filter(|definition| {
                before.last_tx < definition.since_tx && definition.since_tx <= segment.last_tx
            })
            .cloned()
            .collect();
        definitions::compare(&mut self.control, &definitions, &self.region.tables).await?;
        self.record(start, before, entry, report).await.map(Some)
    }

    /// An entry that brings no transactions: only the position comes further.
    async fn pass_over(
        &mut self,
        start: &Start,
        before: &Position,
        entry: &Entry,
        report: &mut Report,
    ) -> Result<Position> {
        self.record(start, before, entry, report).await
    }

    /// Puts down that an entry is done.
    async fn record(
        &mut self,
        start: &Start,
        before: &Position,
        entry: &Entry,
        report: &mut Report,
    ) -> Result<Position> {
        let after = self.after(start, before, entry);
        failpoint::hit("apply.before_position");
        if let Some(lock) = &mut self.lock {
            lock.verify().await?;
        }
        position::advance(&mut self.control, &self.config.stream, before, &after).await?;
        failpoint::hit("apply.after_position");
        report.entries += 1;
        self.tell(report, &after);
        Ok(after)
    }

    /// Runs a segment's transactions up to `until`. Says what the server has then.
    async fn replay(
        &mut self,
        start: &Start,
        fetched: &Fetched,
        mut executed: Executed,
        until: u64,
        report: &mut Report,
    ) -> Result<Executed> {
        for attempt in 1.. {
            if let Some(lock) = &mut self.lock {
                lock.verify().await?;
            }
            let Some(replay) = &mut self.replay else { return Ok(executed) };
            let outcome = replay.run(fetched, executed, until, &self.options.stop).await?;
            report.transactions += outcome.committed;
            if let Some(failure) = outcome.failure {
                let error = drift::explain(&mut self.control, fetched, failure).await;
                if matches!(error.kind(), Kind::Drift | Kind::Failed | Kind::Definition) {
                    let (now, text) = (self.clock.now(), super::chain(&error));
                    let name = &self.config.stream;
                    if let Err(error) = position::record_error(&mut self.control, name, &text, now).await {
                        tracing::warn!(error = %super::chain(&error), "could not record the error");
                    }
                }
                return Err(error);
            }
            report.stopped |= outcome.stopped;
            if report.stopped || !outcome.again {
                return Ok(Executed::up_to(until));
            }
            if attempt == ATTEMPTS {
                let message = format!("apply entry {}: other sessions hold its locks", fetched.entry.seq.0);
                return Err(Error::new(Kind::Mysql, message).hint(
                    "look for long transactions on these tables in the region (performance_schema.data_locks, \
                     metadata_locks); nothing is lost, run `tablecast apply` again",
                ));
            }
            let gtids = position::gtid_executed(&mut self.control).await?;
            executed = Executed::of(start.head.stream, &gtids).with_base(base_tx(start.position.as_ref()));
        }
        Ok(executed)
    }

    fn after(&self, start: &Start, before: &Position, entry: &Entry) -> Position {
        let head = &start.head;
        let is_last = entry.seq == head.last_seq;
        let (last_tx, covered, as_of) = match entry.segment() {
            // Never more than the head vouches for.
            Some(segment) => {
                (segment.last_tx, segment.covered_after.clone(), Some(head.as_of.min(segment.last_commit)))
            }
            None => (before.last_tx, before.covered.clone(), before.as_of),
        };
        let as_of = if is_last { Some(head.as_of) } else { as_of };
        Position {
            stream: head.stream,
            store: self.store.url(),
            seq: entry.seq,
            chain: entry.chain,
            last_tx,
            base_tx: before.base_tx,
            covered: if is_last { head.covered.clone() } else { covered },
            as_of: before.as_of.max(as_of),
            applied_at: self.clock.now(),
            head_etag: is_last.then(|| start.etag.clone()),
            last_error: None,
            last_error_at: None,
        }
    }

    /// Nothing to run, but the head is another: its time and coverage are put down.
    async fn refresh(&mut self, start: Start, report: &mut Report) -> Result<Next> {
        let Some(before) = start.position else { return Ok(Next::Idle) };
        let is_last = before.seq == start.head.last_seq;
        if !is_last || self.options.dry_run {
            return Ok(Next::Over);
        }
        let after = Position {
            store: self.store.url(),
            covered: start.head.covered,
            as_of: later(before.as_of, start.head.as_of),
            applied_at: self.clock.now(),
            head_etag: Some(start.etag),
            last_error: None,
            last_error_at: None,
            ..before.clone()
        };
        position::advance(&mut self.control, &self.config.stream, &before, &after).await?;
        self.tell(report, &after);
        Ok(Next::Idle)
    }

    fn tell(&self, report: &mut Report, position: &Position) {
        report.seq = position.seq.0;
        report.last_tx = position.last_tx.0;
        report.as_of = position.as_of.filter(|as_of| *as_of != DateTime::UNIX_EPOCH);
        report.lag_seconds = report.as_of.map(|as_of| seconds_since(as_of, self.clock.now()));
    }
}

/// The last transaction that came with a dump.
fn base_tx(position: Option<&Position>) -> StreamTx {
    position.map_or(StreamTx::ZERO, |at| at.base_tx)
}

fn point(position: &Position) -> Point {
    Point { seq: position.seq.0, last_tx: position.last_tx.0 }
}

fn later(old: Option<DateTime<Utc>>, new: DateTime<Utc>) -> Option<DateTime<Utc>> {
    Some(old.map_or(new, |old| old.max(new)))
}

/// Whole seconds from `then` to `now`; none if the clocks disagree.
pub fn seconds_since(then: DateTime<Utc>, now: DateTime<Utc>) -> u64 {
    u64::try_from((now - then).num_seconds()).unwrap_or(0)
}
