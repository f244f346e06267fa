//! One pass: head, checks, plan, and the plan carried out.
//!
//! Everything that can be found wrong before the first change is found before it: history, definitions,
//! privileges, every object of the first segment. From then on each entry is checked, run, and recorded by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::guarding::Watch;
use super::{Next, Options, Report};
use crate::binlog::name::{TableName, TableSet};
use crate::clock::Clock;
use crate::config::{Config, OnConflict, RegionConfig};
use crate::error::chain;
use crate::mysql::{self, Held, Lock, Server};
use crate::region::definitions::{self, Missing};
use crate::region::plan::{Plan, Point};
use crate::region::position::{self, Executed, Position};
use crate::region::quarantine::Quarantined;
use crate::region::replay::{Context, Replay, Workers};
use crate::region::scope::Scope;
use crate::region::segments;
use crate::region::state::State;
use crate::region::{checked, history, preflight, restore, state};
use crate::store::head::Read;
use crate::store::{Etag, Store};
use crate::stream::{Entry, Head, Index, Seq, StreamTx};
use crate::{Error, Kind, Result, failpoint, store};

/// After how long a wait for a GTID that another session owns is told.
const OWNED: Duration = Duration::from_secs(5);

/// How often a head that ends before what has been applied here is read again, and how long after each time: a store of several
/// machines may answer from one that is behind for a moment.
const AGAIN: u32 = 4;
const AGAIN_AFTER: Duration = Duration::from_secs(1);

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
    pub(super) replay: Option<Replay>,
    /// The pass before this one, of this run, has shown that the account may replay, and ended well: no connection is
    /// left that could hold the GTID that comes next.
    is_proved: bool,
    /// Its server knows of a failure, which a pass that works ends.
    has_failed: bool,
    /// When every definition was compared last.
    pub(super) compared: Option<Instant>,
    pub(super) guard: Watch,
}

/// What a pass starts from.
pub(super) struct Start {
    pub(super) position: Option<Position>,
    pub(super) head: Head,
    pub(super) etag: Etag,
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

/// Ends what is paused; the report knows of it.
fn heed(
    config: &Config,
    region: &RegionConfig,
    state: &State,
    clock: &dyn Clock,
    report: &mut Report,
) -> Result<()> {
    report.paused = state.pause(clock.now()).cloned();
    let what = format!("apply {} in {}", config.stream, region.name);
    report.paused.as_ref().map_or(Ok(()), |paused| Err(paused.refuse(&what, "tablecast apply")))
}

impl<'a> Region<'a> {
    /// Takes the lock and connects.
    pub async fn open(
        config: &'a Config,
        store: Arc<dyn Store>,
        clock: &'a dyn Clock,
        options: &'a Options,
        report: &mut Report,
    ) -> Result<Region<'a>> {
        let region = region_of(config)?;
        if report.paused.is_some() {
            // No lock is taken to find that it still is: others are told of the pause, and not of a lock.
            let mut control = mysql::connect(&config.mysql).await?;
            let state = state::read(&mut control, &config.stream).await?;
            let _ = control.disconnect().await;
            heed(config, region, &state, clock, report)?;
        }
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
            is_proved: false,
            has_failed: false,
            compared: None,
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

    /// Whether somebody wants nothing applied here.
    pub(super) async fn heed_pause(&mut self, report: &mut Report) -> Result<()> {
        let state = state::read(&mut self.control, &self.config.stream).await?;
        self.has_failed = state.failure.is_some();
        heed(self.config, self.region, &state, self.clock, report)
    }

    /// A pass has done what there was to do: what failed before is over.
    pub(super) async fn works(&mut self) {
        if std::mem::take(&mut self.has_failed)
            && !self.options.dry_run
            && let Err(error) = state::worked(&mut self.control, &self.config.stream).await
        {
            tracing::warn!("{}", chain(&error));
        }
    }

    /// After a pass that had nothing to run: needs no more connections than that takes.
    pub(super) async fn rest(&mut self) {
        if let Some(replay) = &mut self.replay {
            replay.rest().await;
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
            if !checked::list(&mut self.control, name).await?.is_empty() {
                checked::forget_gone(&mut self.control, name).await?;
            }
            report.figures.compared(&checked::list(&mut self.control, name).await?);
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
        let mut unless = known.and_then(|at| at.head_etag.clone());
        let mut left = AGAIN;
        let (mut index, etag, executed) = loop {
            let (head, etag) = match store::head::read(&*self.store, unless.as_ref()).await? {
                Read::Unchanged => {
                    if let Some(at) = &position {
                        report.figures.end = Some(point(at));
                        self.keep_guard_idle(at.seq, report).await;
                    }
                    return Ok(Next::Idle);
                }
                Read::Head { head, etag } => (*head, etag),
            };
            history::check_name(name, &head, &url)?;
            report.figures.end = Some(Point { seq: head.last_seq.0, last_tx: head.last_tx.0 });
            let executed = Executed::of(head.stream, &gtids).with_base(base_tx(position.as_ref()));
            let is_behind = position.as_ref().is_some_and(|at| head.last_seq < at.seq)
                || head.last_tx.0 < executed.last();
            let mut index = Index::new(head);
            let Err(error) = self.check_history(&mut index, position.as_ref(), &executed).await else {
                break (index, etag, executed);
            };
            if !is_behind || left == 0 {
                return Err(error);
            }
            tracing::debug!("{error}; reading it again");
            (left, unless) = (left - 1, None);
            tokio::time::sleep(AGAIN_AFTER).await;
        };
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

    /// Whether the index and this region can be of one history.
    async fn check_history(
        &mut self,
        index: &mut Index,
        position: Option<&Position>,
        executed: &Executed,
    ) -> Result<()> {
        if let Some(at) = position {
            index.check_position(at.stream, at.seq, &at.chain, &*self.store).await?;
        }
        history::check_index(&mut self.control, &self.config.stream, position, executed, index.head()).await
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
        let (stream, spool) = (start.head.stream, &self.config.files.spool_dir);
        let mut fetched = None;
        if !self.options.dry_run {
            std::fs::create_dir_all(spool).map_err(|error| {
                Error::new(Kind::Failed, format!("make the folder {}", spool.display())).caused_by(error)
            })?;
            segments::sweep(spool, self.clock.now());
            // The first comes while the rest is looked at.
            let (store, scope) = (self.store.clone(), self.scope.clone());
            fetched = Some(segments::prefetch(store, stream, scope, spool, entries.clone()));
        }
        if !self.options.dry_run && !std::mem::take(&mut self.is_proved) {
            let Some(executed) = self.prove(&server, &start).await? else {
                report.stopped = true;
                return Ok(Next::Over);
            };
            start.executed = executed;
        }
        if let Some(replay) = &mut self.replay {
            replay.scope = self.scope.clone();
        }
        let (mut missing, drifted) = self.missing(&start, &entries).await?;
        let plan = Plan { let_in, ..self.plan(&start, &entries, &missing, &drifted) };
        let (end, last_seq) = (plan.to.seq, start.head.last_seq.0);
        if report.plan.is_none() {
            report.plan = Some(plan);
        }
        if self.options.dry_run {
            segments::are_there(&self.store, &entries).await?;
            let stops = self.config.apply.on_conflict == OnConflict::Stop;
            return drifted
                .into_iter()
                .next()
                .filter(|_| stops)
                .map_or(Ok(Next::Over), |first| Err(first.error));
        }
        let next = start.executed.complete_to() + 1;
        self.isolate_drifted(drifted, next, false, &start.head.definitions, report).await?;
        let applied = !entries.is_empty();
        let mut at = start.position.clone();
        for (number, entry) in entries.iter().enumerate() {
            if number > 0 {
                self.heed_pause(report).await?;
            }
            if entry.segment().is_none() {
                let before = match at {
                    Some(at) => at,
                    None => self.set_up(&start, None, &std::mem::take(&mut missing)).await?,
                };
                let (name, list) = (&self.config.stream, &self.region.tables);
                if !restore::meets(&mut self.control, name, list, entry, self.clock).await? {
                    // Nothing behind it runs before it is restored.
                    return Ok(Next::Nothing);
                }
                if let Some(change) = entry.tables() {
                    self.change_set(&start, entry, change, report).await?;
                }
                if let Some(check) = entry.check() {
                    self.compare_rows(&start, &before, (entry, check), report).await?;
                }
                at = Some(self.record(&start, &before, entry, report).await?);
                continue;
            }
            let Some(fetched) = &mut fetched else { break };
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
        self.is_proved = true;
        match end < last_seq {
            true if self.options.until.is_none() => Ok(Next::More),
            true => Ok(Next::Over),
            false if applied => Ok(Next::Applied),
            false => Ok(Next::Nothing),
        }
    }

    /// Shows that the account may replay, and waits until no connection of a killed run goes on: it would hold the
    /// GTID that comes next. Says what the server has executed then; `None` if the token came first.
    async fn prove(&mut self, server: &Server, start: &Start) -> Result<Option<Executed>> {
        let stream = start.head.stream;
        let (control, next) = (&mut self.control, start.executed.complete_to() + 1);
        let replay = match &self.replay {
            Some(replay) => replay,
            None => {
                let context = Context {
                    config: self.config.mysql.clone(),
                    version: server.version,
                    set_row_format: server.binlog_format != "ROW",
                    max_allowed_packet: server.max_allowed_packet,
                    stream,
                };
                let of_account = mysql::max_user_connections(control).await?;
                let workers = Workers::at(server, of_account, self.config.apply.workers);
                self.replay.insert(Replay::new(context, self.scope.clone(), workers))
            }
        };
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
}

/// The last transaction that came with a dump.
pub(super) fn base_tx(position: Option<&Position>) -> StreamTx {
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

/// Whole seconds from `then` to `now`; none if the clocks disagree.
pub fn seconds_since(then: DateTime<Utc>, now: DateTime<Utc>) -> u64 {
    u64::try_from((now - then).num_seconds()).unwrap_or(0)
}
