//! Answering requests for dumps beside the stream: looks at the queue, takes one dump for all that is due, has it
//! appended, and says in the requests how far it is.
//!
//! Only the upload that holds the stream's lock does this, so a request that is `running` when it looks is the trace
//! of a killed run: it is put back, or, if its dump has reached the index, completed. A failure here never ends the
//! upload: the stream is worth more than a dump.
//!
//! A run from cron looks once, and not at all where one before it has just found nothing (`quiet`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::chunks::Progress;
use super::desk::Desk;
use super::place::{self, Place};
use super::queue::{self, Found, Known};
use super::runner::{self, Order, Outcome, Wanted, Written};
use crate::binlog::gtid::GtidSet;
use crate::binlog::name::TableName;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, Kind, Result, chain_and_hint};
use crate::failpoint;
use crate::source::lost;
use crate::store::{self, Etag, Store};
use crate::stream::request::MAX_TEXT;
use crate::stream::{DumpEntry, DumpId, Head, Request, RequestState, Seq, StreamTx};

/// How often a following upload looks at the queue.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// The same for a run that waits for nothing but the queue.
const LOOK_SOON: Duration = Duration::from_secs(1);
/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(3);
const LOG_EVERY: Duration = Duration::from_secs(10);
/// How often a dump is begun whose attempts fail or are killed, and one that gives way to DDL.
const ATTEMPTS: u32 = 3;
const GIVEN_WAY: u32 = 5;
/// Before the next attempt.
const REST: TimeDelta = TimeDelta::seconds(30);

pub(crate) struct Jobs<'a> {
    pub config: &'a Config,
    pub store: Arc<dyn Store>,
    pub clock: &'a dyn Clock,
    pub desk: &'a Desk,
    /// Look at the queue for ever; else until nothing is pending.
    pub follow: bool,
    pub stop: CancellationToken,
}

/// A request that this run answers.
struct Mine {
    request: Request,
    etag: Etag,
}

/// What a look at the queue found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Queue {
    Empty,
    /// What is in it is not due yet.
    Waiting,
    /// A dump was taken, or tried: its requests are where that has put them.
    Answered,
}

/// How a dump ended.
enum Ended {
    Uploaded {
        seq: Seq,
        at: StreamTx,
    },
    Failed(Error),
    GaveWay(String),
    /// We have to end, or nobody waits any more.
    Stopped,
}

impl Jobs<'_> {
    pub(crate) async fn run(self) {
        let stream = tokio::select! {
            () = self.stop.cancelled() => return self.desk.close(),
            stream = self.desk.lock() => stream,
        };
        let known = Known::load(&*self.store, &self.config.files.cache_dir);
        let quiet = known.quiet().filter(|_| !self.follow);
        if quiet.is_some_and(|quiet| quiet.holds(self.clock.now())) {
            return self.desk.close();
        }
        let mut told = String::new();
        while !self.stop.is_cancelled() {
            if let Some(quiet) = quiet {
                quiet.begin(self.clock.now());
            }
            let found = self.look(stream, &known).await;
            if let Some(quiet) = quiet {
                match found {
                    Ok(Queue::Empty) => quiet.end(),
                    _ => quiet.is_over(),
                }
            }
            let found = match found {
                // Others may have come meanwhile.
                Ok(Queue::Answered) => continue,
                Ok(found) => found,
                Err(error) => {
                    // Once, not every ten seconds.
                    let text = chain_and_hint(&error);
                    if text != told {
                        tracing::warn!("requests for dumps cannot be answered now: {text}");
                        told = text;
                    }
                    Queue::Empty
                }
            };
            if !self.follow && found == Queue::Empty {
                break;
            }
            let pause = if self.follow { LOOK_EVERY } else { LOOK_SOON };
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = sleep(pause) => {}
            }
        }
        self.desk.close();
    }

    /// Looks at the queue and takes a dump if one is due.
    async fn look(&self, stream: Uuid, known: &Known) -> Result<Queue> {
        let mut queue = queue::all(&*self.store, stream, known).await?;
        if queue.iter().all(|found| found.request.state.is_final()) {
            return Ok(Queue::Empty);
        }
        let head = self.head().await?;
        for found in &mut queue {
            if found.request.state == RequestState::Running {
                self.adopt(found, &head).await?;
            }
        }
        let now = self.clock.now();
        let pending = |found: &&Found| found.request.state == RequestState::Queued;
        // A time that no attempt sets is that of a clock which was wrong.
        let due =
            |found: &&Found| found.request.not_before.is_none_or(|time| time <= now || time - now > REST * 2);
        let mut due: Vec<Mine> = queue
            .iter()
            .filter(pending)
            .filter(due)
            .filter_map(|found| Some(Mine { request: found.request.clone(), etag: found.etag.clone()? }))
            .collect();
        // One that has failed is tried by itself: it may be what the others failed by.
        if let Some(at) = due.iter().position(|mine| mine.request.attempts > 0) {
            due = vec![due.swap_remove(at)];
        }
        if !due.is_empty() {
            self.answer(due, &head).await?;
            return Ok(Queue::Answered);
        }
        Ok(if queue.iter().any(|found| pending(&found)) { Queue::Waiting } else { Queue::Empty })
    }

    async fn head(&self) -> Result<Head> {
        match store::head::read(&*self.store, None).await? {
            store::head::Read::Head { head, .. } => Ok(*head),
            store::head::Read::Unchanged => Err(Error::new(
                Kind::Store,
                format!("read {}/index.json: unchanged since never", self.store.url()),
            )),
        }
    }

    /// A request that a killed run has left.
    async fn adopt(&self, found: &mut Found, head: &Head) -> Result<()> {
        let Some(etag) = &found.etag else { return Ok(()) };
        let request = &mut found.request;
        let dump = request.dump.clone();
        match dump.as_ref().and_then(|id| head.dump(id)) {
            Some(there) => {
                request.advance(RequestState::Uploaded, self.clock.now())?;
                (request.seq, request.at) = (Some(there.seq), Some(there.dump.at));
                (request.rows, request.bytes) = (there.dump.rows, there.dump.bytes);
            }
            None => {
                let id = dump.map(|id| id.to_string()).unwrap_or_default();
                tracing::warn!(
                    "dump {id} was left unfinished by a run that was killed: it is taken again; \
                     `tablecast stream prune` removes what is left of it"
                );
                self.put_back(request, "the upload that took it was killed", ATTEMPTS)?;
                // Nothing speaks against trying at once.
                request.not_before = None;
            }
        }
        match queue::write(&*self.store, request, etag).await {
            Ok(etag) => found.etag = Some(etag),
            // Cancelled meanwhile, or joined: it is looked at again.
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Back to the queue, or out of it after so many attempts.
    fn put_back(&self, request: &mut Request, why: &str, attempts: u32) -> Result<()> {
        let now = self.clock.now();
        request.error = Some(why.chars().take(MAX_TEXT).collect());
        if request.attempts >= attempts {
            return request.advance(RequestState::Failed, now);
        }
        request.advance(RequestState::Queued, now)?;
        request.not_before = Some(now + REST);
        (request.rows, request.bytes, request.dump) = (0, 0, None);
        Ok(())
    }

    /// Takes one dump for all of these.
    async fn answer(&self, mut due: Vec<Mine>, head: &Head) -> Result<()> {
        let set = &head.table_set.tables;
        let mut outside = Vec::new();
        due.retain_mut(|mine| match mine.request.tables.iter().find(|table| !set.names(table)) {
            Some(table) => {
                let why = format!("{table} is not in the table set any more");
                outside.push((Mine { request: mine.request.clone(), etag: mine.etag.clone() }, why));
                false
            }
            None => true,
        });
        self.leave_out_refused(&mut due, head, &mut outside).await;
        for (mut mine, why) in outside {
            self.change(&mut mine, |request| {
                request.error = Some(why.clone());
                request.advance(RequestState::Failed, self.clock.now())
            })
            .await?;
        }
        let id = DumpId::new(self.clock.now(), Uuid::new_v4().as_u128() as u32);
        self.for_each(&mut due, |request| {
            request.advance(RequestState::Running, self.clock.now())?;
            (request.dump, request.rows, request.bytes) = (Some(id.clone()), 0, 0);
            (request.error, request.not_before) = (None, None);
            Ok(())
        })
        .await?;
        if due.is_empty() {
            return Ok(());
        }
        failpoint::hit("dump.requests_running");
        let ended = self.dump(&mut due, head, &id).await;
        self.desk.withdraw();
        let ended = match ended {
            // Appended in the moment in which we were told to stop.
            Ended::Stopped => match self.head().await.ok().as_ref().and_then(|head| head.dump(&id)) {
                Some(there) => Ended::Uploaded { seq: there.seq, at: there.dump.at },
                None => Ended::Stopped,
            },
            ended => ended,
        };
        match ended {
            Ended::Uploaded { seq, at } => {
                failpoint::hit("dump.before_requests_uploaded");
                self.for_each(&mut due, |request| {
                    request.advance(RequestState::Uploaded, self.clock.now())?;
                    (request.seq, request.at) = (Some(seq), Some(at));
                    Ok(())
                })
                .await
            }
            Ended::Failed(error) => {
                tracing::warn!("dump {id} failed: {}", chain_and_hint(&error));
                let attempts = match error.kind() {
                    // Nothing that goes by.
                    Kind::Denied | Kind::Usage if due.len() == 1 => 0,
                    _ => ATTEMPTS,
                };
                let why = chain_and_hint(&error);
                self.for_each(&mut due, |request| self.put_back(request, &why, attempts)).await
            }
            Ended::GaveWay(why) => {
                tracing::warn!("dump {id} is given up for now: {why}");
                self.for_each(&mut due, |request| self.put_back(request, &why, GIVEN_WAY)).await
            }
            Ended::Stopped => {
                self.for_each(&mut due, |request| {
                    // The attempt did not fail: somebody else takes it up.
                    request.attempts = request.attempts.saturating_sub(1);
                    request.dump = None;
                    request.advance(RequestState::Queued, self.clock.now())
                })
                .await
            }
        }
    }

    /// One region's table that cannot be dumped is no reason to leave the others waiting.
    async fn leave_out_refused(&self, due: &mut Vec<Mine>, head: &Head, outside: &mut Vec<(Mine, String)>) {
        if due.is_empty() {
            return;
        }
        // What cannot be found out now is met by the dump itself.
        let set = &head.table_set.tables;
        let Ok(refused) = runner::refused(self.config, set, &wanted(due)).await else { return };
        due.retain_mut(|mine| {
            let concerns = |table: &TableName| mine.request.all_tables || mine.request.tables.contains(table);
            let Some((_, why)) = refused.iter().find(|(table, _)| concerns(table)) else { return true };
            outside
                .push((Mine { request: mine.request.clone(), etag: mine.etag.clone() }, chain_and_hint(why)));
            false
        });
    }

    async fn dump(&self, due: &mut Vec<Mine>, head: &Head, id: &DumpId) -> Ended {
        let begin = Instant::now();
        let wanted = wanted(due);
        let order = Order {
            id: id.clone(),
            stream: head.stream,
            set: head.table_set.clone(),
            wanted: wanted.clone(),
            covered: GtidSet::new(),
        };
        let progress = Arc::new(Progress::default());
        let stop = self.stop.child_token();
        // Also when this future is dropped.
        let _ends = stop.clone().drop_guard();
        let (config, store) = (self.config.clone(), self.store.clone());
        let (theirs, their_stop) = (progress.clone(), stop.clone());
        // A task of its own: the lock under the snapshot is counted in milliseconds.
        let mut task =
            tokio::spawn(async move { runner::take(&config, store, order, theirs, their_stop).await });
        let mut tick = interval(TELL_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut logged = Instant::now();
        let outcome = loop {
            tokio::select! {
                outcome = &mut task => break outcome,
                _ = tick.tick() => {
                    if let Err(error) = self.tell(due, &progress, begin).await {
                        tracing::debug!("progress of dump {id} cannot be told: {error:?}");
                    }
                    if due.is_empty() {
                        stop.cancel();
                    }
                    if logged.elapsed() >= LOG_EVERY {
                        logged = Instant::now();
                        let left = eta(&progress, begin);
                        let left = left.map(|seconds| format!(", {seconds} s left")).unwrap_or_default();
                        tracing::info!("dump {id}: {progress}{left}");
                    }
                }
            }
        };
        let written = match outcome {
            Ok(Ok(Outcome::Written(written))) => written,
            Ok(Ok(Outcome::Stopped)) => return Ended::Stopped,
            Ok(Ok(Outcome::GaveWay(table))) => {
                return Ended::GaveWay(format!("a DDL on {table} waited for it at the source"));
            }
            Ok(Err(error)) => return Ended::Failed(error),
            Err(panic) => {
                return Ended::Failed(Error::new(Kind::Failed, format!("take dump {id}")).caused_by(panic));
            }
        };
        let _ = self.tell(due, &progress, begin).await;
        let full = wanted == Wanted::All;
        let mandatory = due.iter().any(|mine| mine.request.mandatory);
        let requests: BTreeSet<_> = due.iter().map(|mine| mine.request.id.clone()).collect();
        let entry = |at| DumpEntry {
            id: id.clone(),
            manifest: written.key.clone(),
            size: written.size,
            md5: written.md5,
            at,
            snapshot: written.manifest.snapshot.clone(),
            tables: written.tables.clone(),
            full,
            mandatory,
            lacks: None,
            brought: None,
            resync: false,
            rows: written.manifest.rows(),
            bytes: written.manifest.bytes(),
            taken_at: written.manifest.taken_at,
            requests: requests.iter().cloned().collect(),
        };
        let placed = async {
            let at = self.place(head, &written).await?;
            let seq = self.desk.append(entry(at), head.table_set.version).await?;
            Ok::<_, Error>((seq, at))
        };
        let placed = tokio::select! {
            () = self.stop.cancelled() => return Ended::Stopped,
            placed = placed => placed,
        };
        match placed {
            Ok((seq, at)) => {
                tracing::info!(
                    "dump {id}: {} rows of {} tables, state of transaction {}, is entry {}",
                    written.manifest.rows(),
                    written.tables.len(),
                    at.0,
                    seq.0
                );
                Ended::Uploaded { seq, at }
            }
            // The set changed meanwhile: it is taken again, of the new one.
            Err(error) if error.is_conflict() => Ended::GaveWay(error.to_string()),
            Err(error) => Ended::Failed(error),
        }
    }

    /// Finds the stream transaction whose state it holds, once the stream has come so far.
    async fn place(&self, before: &Head, written: &Written) -> Result<StreamTx> {
        let snapshot = &written.manifest.snapshot;
        self.desk.cover(snapshot.clone()).await;
        let head = self.head().await?;
        let (store, files) = (&*self.store, &self.config.files);
        let doing = format!("find the place of dump {} in the stream", written.manifest.id);
        let beyond = before.covered.difference(snapshot);
        if !beyond.is_empty() {
            let shipped = lost::shipped(store, &head, &beyond, &files.cache_dir, &files.spool_dir).await?;
            if !shipped.is_empty() {
                return Err(Error::new(
                    Kind::Mysql,
                    format!(
                        "{doing}: the server it was taken at lacks {shipped}, which the stream has shipped"
                    ),
                )
                .hint("does the name in [mysql] lead to several servers? All must be of one history"));
            }
        }
        let tables = &written.tables;
        match place::find(store, &head, before.last_tx, snapshot, tables, &files.spool_dir).await? {
            Place::At(at) => Ok(at),
            Place::Torn(tx) => Err(Error::new(
                Kind::Mysql,
                format!("{doing}: transaction {} stands before others that it has, and it lacks that", tx.0),
            )),
        }
    }

    async fn tell(&self, due: &mut Vec<Mine>, progress: &Progress, begin: Instant) -> Result<()> {
        let (rows, total, bytes) = progress.get();
        let eta = eta(progress, begin);
        self.for_each(due, |request| {
            (request.rows, request.rows_total, request.bytes) = (rows, total, bytes);
            request.eta_seconds = eta;
            request.advance(RequestState::Running, self.clock.now())
        })
        .await
    }

    /// Changes each of them; those that are over by now are let go.
    async fn for_each(&self, due: &mut Vec<Mine>, change: impl Fn(&mut Request) -> Result<()>) -> Result<()> {
        let mut result = Ok(());
        let mut left = Vec::new();
        for mut mine in std::mem::take(due) {
            match self.change(&mut mine, &change).await {
                Ok(true) => left.push(mine),
                Ok(false) => {}
                Err(error) => {
                    left.push(mine);
                    result = result.and(Err(error));
                }
            }
        }
        *due = left;
        result
    }

    /// Changes a request that others may change meanwhile; false if it is over.
    async fn change(&self, mine: &mut Mine, change: impl Fn(&mut Request) -> Result<()>) -> Result<bool> {
        loop {
            if mine.request.state.is_final() {
                return Ok(false);
            }
            let mut changed = mine.request.clone();
            change(&mut changed)?;
            match queue::write(&*self.store, &changed, &mine.etag).await {
                Ok(etag) => {
                    *mine = Mine { request: changed, etag };
                    return Ok(true);
                }
                Err(error) if error.is_conflict() => {
                    let (request, etag) = match queue::read(&*self.store, &mine.request.id).await {
                        Ok(found) => found,
                        // Pruned.
                        Err(error) if error.is_not_found() => return Ok(false),
                        Err(error) => return Err(error),
                    };
                    *mine = Mine { request, etag };
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn wanted(due: &[Mine]) -> Wanted {
    match due.iter().any(|mine| mine.request.all_tables) {
        true => Wanted::All,
        false => Wanted::Tables(due.iter().flat_map(|mine| mine.request.tables.clone()).collect()),
    }
}

fn eta(progress: &Progress, begin: Instant) -> Option<u64> {
    let ((rows, total, _), seconds) = (progress.get(), begin.elapsed().as_secs_f64());
    (rows > 0 && seconds > 0.0).then(|| ((total - rows) as f64 * seconds / rows as f64).round() as u64)
}
