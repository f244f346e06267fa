//! One pass: head, checks, plan, and the plan carried out.
//!
//! Everything that can be found wrong before the first change is found before it: history, definitions,
//! privileges, every object of the first segment. From then on each entry is checked, run, and recorded by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::guarding::Watch;
use super::{Next, Options, Report};
use crate::binlog::name::{TableName, TableSet};
use crate::clock::Clock;
use crate::config::{Config, OnConflict, RegionConfig};
use crate::error::chain;
use crate::mysql::{self, Lock, Server};
use crate::region::definitions::{self, Missing};
use crate::region::plan::{Plan, Point};
use crate::region::position::{self, Executed, Position};
use crate::region::quarantine::{self, Quarantined};
use crate::region::replay::{Context, Replay};
use crate::region::scope::{Scope, left_out};
use crate::region::segments::{self, Fetched};
use crate::region::{drift, history, preflight, restore};
use crate::store::head::Read;
use crate::store::{Etag, Store};
use crate::stream::{Body, Definition, Entry, Head, Index, Seq, StreamTx};
use crate::{Error, Kind, Result, failpoint, store};

/// How often a segment is run again because it lost to locks of other sessions.
const ATTEMPTS: u32 = 3;

/// After how long a wait for a GTID that another session owns is told.
const OWNED: Duration = Duration::from_secs(5);

/// What a run holds in the region.
pub struct Region<'a> {
    pub(super) config: &'a Config,
    pub(super) region: &'a RegionConfig,
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: &'a dyn Clock,
    pub(super) options: &'a Options,
    /// `None` for a dry run, which changes nothing.
    lock: Option<Lock>,
    pub(super) control: Conn,
    /// By the newest head that has been read.
    pub(super) scope: Scope,
    /// As read at the start of the pass, and after every change since.
    pub(super) quarantined: Vec<Quarantined>,
    /// Restores have been given up since the engine looked last.
    pub has_given_up: bool,
    /// All of our own tables are known to be there.
    is_complete: bool,
    pub(super) server: Option<Server>,
    replay: Option<Replay>,
    pub(super) guard: Watch,
}

/// What a pass starts from.
pub(super) struct Start {
    pub(super) position: Option<Position>,
    pub(super) head: Head,
    etag: Etag,
    pub(super) executed: Executed,
    /// Tables that changes of the set add which the region has yet to come to, with the last such entry of each.
    pub(super) ahead: BTreeMap<TableName, Seq>,
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
            scope: Scope::of_list(&region.tables),
            quarantined: Vec::new(),
            has_given_up: false,
            is_complete: false,
            server: None,
            replay: None,
            guard: Watch::new(config.apply.guard),
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

    pub(super) fn is_dry_run(&self) -> bool {
        self.options.dry_run
    }

    /// The connection on which this run reads and writes what it keeps.
    pub fn control(&mut self) -> &mut Conn {
        &mut self.control
    }

    /// Whether this run still holds the lock.
    pub async fn verify_lock(&mut self) -> Result<()> {
        match &mut self.lock {
            Some(lock) => lock.verify().await,
            None => Ok(()),
        }
    }

    /// Applies what is new, at most the entries of one object of the index.
    pub(super) async fn pass(&mut self, report: &mut Report) -> Result<Next> {
        self.verify_lock().await?;
        self.read_quarantine(report).await?;
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
        let known = position.as_ref().filter(|at| at.store == url && self.follows_list(at));
        let unless = known.and_then(|at| at.head_etag.clone());
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
        let ahead = added_ahead(&entries, index.head(), seq);
        let start = Start { position, head: index.head().clone(), etag, executed, ahead };
        self.carry_out(start, entries, report).await
    }

    async fn carry_out(
        &mut self,
        mut start: Start,
        entries: Vec<Entry>,
        report: &mut Report,
    ) -> Result<Next> {
        self.scope = Scope::of(&self.region.tables, &start.head);
        let let_in = self.follow_list(&mut start, &entries, report).await?;
        let must_tell = self.options.dry_run && !let_in.is_empty();
        if let Some(at) = start.position.as_ref().map(|at| at.seq) {
            self.keep_guard(&start.head, at, report).await;
        }
        if entries.is_empty() && start.position.is_some() && !must_tell {
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
        let (mut missing, drifted) = self.missing(&start, &entries).await?;
        let plan = Plan { let_in, ..self.plan(&start, &entries, &missing, &drifted) };
        let (end, last_seq) = (plan.to.seq, start.head.last_seq.0);
        if report.plan.is_none() {
            report.plan = Some(plan);
        }
        if self.options.dry_run {
            let stops = self.config.apply.on_conflict == OnConflict::Stop;
            return drifted
                .into_iter()
                .next()
                .filter(|_| stops)
                .map_or(Ok(Next::Over), |first| Err(first.error));
        }
        let next = start.executed.complete_to() + 1;
        self.isolate_drifted(drifted, next, false, &start.head.definitions, report).await?;
        let spool = &self.config.files.spool_dir;
        std::fs::create_dir_all(spool).map_err(|error| {
            Error::new(Kind::Failed, format!("make the folder {}", spool.display())).caused_by(error)
        })?;
        segments::sweep(spool, self.clock.now());
        let applied = !entries.is_empty();
        let mut fetched =
            segments::prefetch(self.store.clone(), stream, self.scope.clone(), spool, entries.clone());
        let mut at = start.position.clone();
        for entry in &entries {
            if entry.segment().is_none() {
                let before = match at {
                    Some(at) => at,
                    None => self.set_up(&start, None, &std::mem::take(&mut missing)).await?,
                };
                let (name, list) = (&self.config.stream, &self.region.tables);
                if !restore::meets(&mut self.control, name, list, entry, self.clock).await? {
                    // Nothing behind it runs before it is restored.
                    return Ok(Next::Idle);
                }
                if let Some(change) = entry.tables() {
                    self.change_set(&start, entry, change, report).await?;
                }
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
                    self.check(&start, &next, &missing, report).await?;
                    at
                }
                at => {
                    for new in &mut missing.schemas {
                        // The head's default is the newest; these transactions may be older.
                        if let Some(collation) = next.scan.first_default(&new.schema) {
                            new.collation = Some(collation.to_owned());
                        }
                    }
                    self.check(&start, &next, &missing, report).await?;
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
            self.keep_guard(&start.head, before.seq, report).await;
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
            Replay::new(context, self.scope.clone(), self.config.apply.workers)
        });
        replay.scope = self.scope.clone();
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

    pub(super) fn tables(&self) -> &TableSet {
        &self.region.tables
    }

    /// The region's first change: schemas, tables, and the row of the position.
    async fn set_up(&mut self, start: &Start, at: Option<Position>, missing: &Missing) -> Result<Position> {
        position::create(&mut self.control).await?;
        definitions::create(&mut self.control, missing).await?;
        self.guard_is_due();
        if let Some(at) = at {
            return Ok(at);
        }
        let is_whole = start.head.entries.first().is_some_and(|entry| entry.seq == Seq(1));
        let first = start.head.entries.iter().find_map(Entry::segment).filter(|_| is_whole);
        let covered = first.map(|segment| segment.covered_before.clone()).unwrap_or_default();
        let position = Position::start(
            start.head.stream,
            self.store.url(),
            covered,
            &self.region.tables,
            self.clock.now(),
        );
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
        let for_guard = self.guard_stops(fetched, &executed);
        let mut stops = for_guard.clone();
        stops.extend(scan.changes_of_defaults(&executed));
        let has_ddl = scan.ddls.iter().any(|ddl| !executed.contains(ddl.n));
        report.skipped += executed.count(segment.first_tx.0, until);
        let mut from = 0;
        for next in stops.into_iter().chain([u64::MAX]) {
            if from > until {
                break;
            }
            if for_guard.contains(&from) {
                self.guard_before(from, fetched, &start.head, report).await;
            }
            if from > 0 {
                let (set, range) = (&self.region.tables, from..=next - 1);
                let turns = quarantine::turns(&self.quarantined, set, scan, &executed, next - 1);
                let (control, left_out) = (&mut self.control, &turns.statements);
                definitions::check_schema_defaults(control, scan, &executed, left_out, range, &[]).await?;
            }
            executed = self.replay(start, fetched, executed, until.min(next - 1), report).await?;
            if report.stopped {
                return Ok(None);
            }
            from = next;
        }
        if has_ddl {
            self.guard_is_due();
        }
        self.keep_guard(&start.head, entry.seq, report).await;
        if until < segment.last_tx.0 {
            return Ok(None);
        }
        // What a change of the set behind it adds is not there yet.
        let is_ahead = |table: &TableName| start.ahead.get(table).is_some_and(|seq| *seq > entry.seq);
        let definitions: Vec<Definition> = start
            .head
            .definitions
            .iter()
            .filter(|definition| {
                before.last_tx < definition.since_tx
                    && definition.since_tx <= segment.last_tx
                    && !is_ahead(&definition.table)
            })
            .cloned()
            .collect();
        // What a DDL in here has left otherwise than at the source: rows behind it may have gone into wrong columns.
        let drifted = self.compare(definitions).await?;
        self.isolate_drifted(drifted, 0, true, &start.head.definitions, report).await?;
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
        self.verify_lock().await?;
        position::advance(&mut self.control, &self.config.stream, before, &after).await?;
        failpoint::hit("apply.after_position");
        report.entries += 1;
        self.tell(report, &after);
        if entry.tables().is_some() {
            // Other tables are the guard's from here on.
            self.guard_is_due();
            self.keep_guard(&start.head, entry.seq, report).await;
        }
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
        let (stream, definitions) = (start.head.stream, &start.head.definitions);
        let mut attempt = 0;
        loop {
            attempt += 1;
            self.verify_lock().await?;
            let (turns, cut) = self.follow(fetched, &executed, until, definitions, report).await?;
            let Some(replay) = &mut self.replay else { return Ok(executed) };
            let passing = turns.passing.clone();
            let outcome = replay.run(fetched, executed, passing, cut, &self.options.stop).await?;
            report.transactions += outcome.committed;
            report.stopped |= outcome.stopped;
            executed = match outcome.failure.is_some() || outcome.again || report.stopped {
                true => Executed::of(stream, &position::gtid_executed(&mut self.control).await?)
                    .with_base(base_tx(start.position.as_ref())),
                false => Executed::up_to(cut),
            };
            self.end(&turns, &executed, report).await?;
            if let Some(failure) = outcome.failure {
                let Some(replay) = &self.replay else { return Ok(executed) };
                let set = &self.region.tables;
                let judged = drift::judge(&mut self.control, replay, fetched, &turns, set, failure).await?;
                if judged.has_passed && attempt < ATTEMPTS {
                    tracing::warn!(error = %chain(&judged.error), "it does not fail again, going on");
                    continue;
                }
                self.isolate_failed(judged, definitions, report).await?;
                attempt = 0;
                continue;
            }
            if report.stopped || (!outcome.again && cut == until) {
                return Ok(executed);
            }
            if !outcome.again {
                attempt = 0;
            }
            if attempt == ATTEMPTS {
                let message = format!("apply entry {}: other sessions hold its locks", fetched.entry.seq.0);
                return Err(Error::new(Kind::Mysql, message).hint(
                    "look for long transactions on these tables in the region (performance_schema.data_locks, \
                     metadata_locks); nothing is lost, run `tablecast apply` again",
                ));
            }
        }
    }

    fn after(&self, start: &Start, before: &Position, entry: &Entry) -> Position {
        let head = &start.head;
        let is_last = entry.seq == head.last_seq;
        let (last_tx, covered, as_of) = match &entry.body {
            // Never more than the head vouches for.
            Body::Segment(segment) => {
                (segment.last_tx, segment.covered_after.clone(), Some(head.as_of.min(segment.last_commit)))
            }
            Body::Tables(change) => {
                (before.last_tx, change.covered_after.clone(), Some(head.as_of.min(change.changed_at)))
            }
            Body::Dump(_) => (before.last_tx, before.covered.clone(), before.as_of),
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
            lets_in: before.lets_in.clone(),
            left_out: left_out(self.tables(), head),
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
            left_out: left_out(self.tables(), &start.head),
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
        report.left_out.clone_from(&position.left_out);
        report.as_of = position.as_of.filter(|as_of| *as_of != DateTime::UNIX_EPOCH);
        report.lag_seconds = report.as_of.map(|as_of| seconds_since(as_of, self.clock.now()));
    }
}

/// The last transaction that came with a dump.
fn base_tx(position: Option<&Position>) -> StreamTx {
    position.map_or(StreamTx::ZERO, |at| at.base_tx)
}

fn added_ahead(entries: &[Entry], head: &Head, from: Seq) -> BTreeMap<TableName, Seq> {
    let mut ahead = BTreeMap::new();
    // The head's own entries may be further than the page that is read now.
    for entry in entries.iter().chain(&head.entries).filter(|entry| entry.seq > from) {
        for added in entry.tables().into_iter().flat_map(|change| &change.added) {
            let last = ahead.entry(added.table.clone()).or_insert(entry.seq);
            *last = entry.seq.max(*last);
        }
    }
    ahead
}

pub(super) fn point(position: &Position) -> Point {
    Point { seq: position.seq.0, last_tx: position.last_tx.0 }
}

fn later(old: Option<DateTime<Utc>>, new: DateTime<Utc>) -> Option<DateTime<Utc>> {
    Some(old.map_or(new, |old| old.max(new)))
}

/// Whole seconds from `then` to `now`; none if the clocks disagree.
pub fn seconds_since(then: DateTime<Utc>, now: DateTime<Utc>) -> u64 {
    u64::try_from((now - then).num_seconds()).unwrap_or(0)
}
