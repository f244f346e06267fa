//! Which transaction runs when (I4): none before every one that it depends on has committed, DDL alone.
//!
//! Transactions start in the order of the stream; those that the source could have committed side by side run
//! side by side and may commit in another order. After a failure nothing new starts, and what is running ends.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Failure;
use super::probe::probe;
use super::raw::RunError;
use super::read::{Job, Outlet, PIECE, SHARES, Wanted, read};
use super::session::{Context, Session};
use super::statement::events_in;
use super::worker::{CONNECT, Done, Fate, lost_to_a_lock, work};
use crate::binlog::name::TableName;
use crate::mysql::Server;
use crate::region::position::Executed;
use crate::region::quarantine::Passing;
use crate::region::scope::Scope;
use crate::region::segments::Fetched;
use crate::{Error, Kind, Result};

/// How many jobs wait for a worker.
const WAITING: usize = 256;

/// How many transactions a worker gets at once, and how large they are together. More would save little, and let
/// the other workers wait longer for what depends on them.
const BATCH: usize = 32;
const BATCH_SIZE: usize = 128 * 1024;

/// How long a worker may take to close its connection.
const FAREWELL: Duration = Duration::from_secs(5);

/// How many times as many workers there are where commits wait for a disk.
const TOGETHER: usize = 8;

/// The largest share of the server's connections that these may take.
const CONNECTIONS: usize = 4;

/// How many workers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workers {
    /// As configured.
    pub least: usize,
    /// With those that do nothing but wait for the disk together with others.
    pub most: usize,
}

impl Workers {
    /// By what the server does at each commit. One that is synced takes milliseconds whether it holds one transaction
    /// or many: as many as there are connections. 60,000 transactions took 22.8 s on 4 of them, 9.2 s on 32. Of a
    /// single worker it is expected that it stays alone.
    pub fn at(server: &Server, configured: usize) -> Workers {
        Workers::of(server.syncs_commits, server.max_connections, configured)
    }

    fn of(syncs_commits: bool, max_connections: usize, configured: usize) -> Workers {
        let least = configured.max(1);
        if least == 1 || !syncs_commits {
            return Workers { least, most: least };
        }
        Workers { least, most: (least * TOGETHER).min(max_connections / CONNECTIONS).max(least) }
    }
}

/// The workers of a run, with their connections.
pub struct Replay {
    stream: Uuid,
    /// As the pass that is at work has it.
    pub scope: Scope,
    context: Arc<Context>,
    workers: Vec<mpsc::Sender<Vec<Job>>>,
    /// How many of them a run does not go without.
    least: usize,
    tasks: Vec<JoinHandle<()>>,
    done: mpsc::UnboundedReceiver<Done>,
}

/// How far a segment was run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Committed now.
    pub committed: u64,
    /// Ended by the token before the segment's end.
    pub stopped: bool,
    pub failure: Option<Failure>,
    /// Some of it lost to a lock and could not be tried again by its worker: run the segment once more.
    pub again: bool,
}

impl Replay {
    /// Starts the workers. Each connects with its first transaction.
    pub fn new(context: Context, scope: Scope, workers: Workers) -> Replay {
        let context = Arc::new(context);
        let (report, done) = mpsc::unbounded_channel();
        let mut replay = Replay {
            stream: context.stream,
            scope,
            context: context.clone(),
            workers: Vec::new(),
            least: workers.least,
            tasks: Vec::new(),
            done,
        };
        for number in 0..workers.most {
            let (sender, jobs) = mpsc::channel(1);
            replay.workers.push(sender);
            replay.tasks.push(tokio::spawn(work(number, context.clone(), jobs, report.clone())));
        }
        replay
    }

    /// Shows on a connection of its own that the account may replay; changes nothing.
    pub async fn prove(&self, n: u64) -> Result<()> {
        let mut session = Session::open(self.context.clone()).await?;
        session.prove(n).await?;
        session.close().await;
        Ok(())
    }

    /// The table on which transaction `n` fails, found by running it once more and rolling it back.
    pub async fn probe(
        &self,
        fetched: &Fetched,
        passing: &Passing,
        n: u64,
    ) -> Result<Option<(TableName, RunError)>> {
        probe(self.context.clone(), fetched, &self.scope, passing, n).await
    }

    /// Runs what is wanted of a segment.
    pub async fn run(
        &mut self,
        fetched: &Fetched,
        executed: Executed,
        passing: Passing,
        until: u64,
        stop: &CancellationToken,
    ) -> Result<Outcome> {
        let (sender, jobs) = mpsc::channel(WAITING);
        let reader = tokio::task::spawn_blocking({
            let (file, segment) = (fetched.file.clone(), fetched.segment.clone());
            let (stream, scope) = (self.stream, self.scope.clone());
            let piece = events_in(self.context.max_allowed_packet).min(PIECE as u64) as usize;
            let wanted = Wanted { executed, passing, until, piece };
            let memory = Arc::new(Semaphore::new(SHARES));
            let outlet = Outlet { jobs: sender, memory, runtime: tokio::runtime::Handle::current() };
            move || read(&file, &segment, stream, &scope, &wanted, &outlet)
        });
        let mut run = Run {
            replay: self,
            running: BTreeSet::new(),
            idle: (0..0).collect(),
            outcome: Outcome::default(),
            is_crowded: false,
        };
        run.idle = (0..run.replay.workers.len()).rev().collect();
        run.dispatch(jobs, stop).await?;
        let (outcome, is_crowded) = (run.outcome, run.is_crowded);
        if is_crowded {
            self.shrink().await;
        }
        let read =
            reader.await.map_err(|error| Error::new(Kind::Failed, "read a segment").caused_by(error))?;
        // A worker that waited for the rest of an unreadable transaction is not the cause.
        read?;
        Ok(outcome)
    }

    /// Goes on without the workers that are there for the disk's sake only.
    async fn shrink(&mut self) {
        self.workers.truncate(self.least);
        end(self.tasks.split_off(self.least)).await;
    }

    /// Ends the workers and waits until their connections are closed.
    pub async fn close(self) {
        drop(self.workers);
        end(self.tasks).await;
    }
}

/// Waits for workers to whom nobody sends any more.
async fn end(tasks: Vec<JoinHandle<()>>) {
    for mut task in tasks {
        // A worker that panicked has no connection any more; one that does not end has one that hangs.
        if tokio::time::timeout(FAREWELL, &mut task).await.is_err() {
            task.abort();
        }
    }
}

/// One segment's run.
struct Run<'a> {
    replay: &'a mut Replay,
    /// Transactions that workers hold.
    running: BTreeSet<u64>,
    idle: Vec<usize>,
    outcome: Outcome,
    /// The server has no connection left for one of the workers: without those beyond the least it may.
    is_crowded: bool,
}

impl Run<'_> {
    async fn dispatch(&mut self, mut jobs: mpsc::Receiver<Job>, stop: &CancellationToken) -> Result<()> {
        // Received, and not yet to be started.
        let mut held = None;
        loop {
            let job = match held.take() {
                Some(job) if !stop.is_cancelled() => job,
                _ => tokio::select! {
                    biased;
                    () = stop.cancelled() => {
                        self.outcome.stopped = true;
                        break;
                    }
                    Some(done) = self.replay.done.recv() => {
                        self.take(done);
                        if self.is_over() { break } else { continue }
                    }
                    job = jobs.recv() => match job {
                        Some(job) => job,
                        None => break,
                    },
                },
            };
            // DDL runs alone. So does a transaction in pieces: it cannot be tried again, so nothing that might take
            // its locks runs beside it.
            let alone = job.size().is_none();
            let depends_on = if alone { u64::MAX } else { job.head.depends_on };
            self.wait_until(|run| !run.idle.is_empty() && run.is_done(depends_on)).await?;
            if self.is_over() {
                break;
            }
            let mut batches = vec![vec![job]];
            if !alone {
                held = self.gather(&mut batches, &mut jobs);
            }
            for batch in batches {
                let Some(worker) = self.idle.pop() else { break };
                self.running.extend(batch.iter().map(|job| job.head.n));
                if self.replay.workers[worker].send(batch).await.is_err() {
                    return Err(Error::new(Kind::Failed, "hand a transaction to a worker: it has ended"));
                }
            }
            if alone {
                self.wait_until(|run| run.running.is_empty()).await?;
            }
            if self.is_over() {
                break;
            }
        }
        // Whoever still reads the segment notices that nobody takes its jobs.
        drop((jobs, held));
        while !self.running.is_empty() {
            self.wait_for_one().await?;
        }
        Ok(())
    }

    /// Whether every transaction up to `n` has ended.
    fn is_done(&self, n: u64) -> bool {
        self.running.first().is_none_or(|&first| first > n)
    }

    /// Shares out the jobs that have come among the idle workers: what depends on nothing that is under way goes to
    /// the worker with the least to do, what depends on one worker's jobs goes behind them. Returns the first job
    /// that has to wait.
    fn gather(&self, batches: &mut Vec<Vec<Job>>, jobs: &mut mpsc::Receiver<Job>) -> Option<Job> {
        let packet = usize::try_from(self.replay.context.max_allowed_packet / 2).unwrap_or(usize::MAX);
        let mut shares = Shares::new(self.idle.len(), packet.min(BATCH_SIZE));
        for job in batches.iter().flatten() {
            shares.place(job.head.n, 0, job.size().unwrap_or(0));
        }
        batches.resize_with(self.idle.len(), Vec::new);
        let held = loop {
            let Ok(job) = jobs.try_recv() else { break None };
            let (n, depends_on) = (job.head.n, job.head.depends_on);
            let size = job.size().filter(|_| self.is_done(depends_on));
            let Some(at) = size.and_then(|size| shares.place(n, depends_on, size)) else { break Some(job) };
            batches[at].push(job);
        };
        batches.retain(|batch| !batch.is_empty());
        held
    }

    fn is_over(&self) -> bool {
        self.outcome.failure.is_some() || self.outcome.again
    }

    /// Waits until it holds, or the run is over.
    async fn wait_until(&mut self, holds: impl Fn(&Self) -> bool) -> Result<()> {
        while !self.is_over() && !holds(self) {
            self.wait_for_one().await?;
        }
        Ok(())
    }

    async fn wait_for_one(&mut self) -> Result<()> {
        match self.replay.done.recv().await {
            Some(done) => {
                self.take(done);
                Ok(())
            }
            None => Err(Error::new(Kind::Failed, "wait for a transaction: all workers have ended")),
        }
    }

    fn take(&mut self, done: Done) {
        self.running.remove(&done.n);
        self.idle.extend(done.idle);
        match done.fate {
            Fate::Committed => self.outcome.committed += 1,
            Fate::NotRun => {}
            Fate::Failed(failure)
                if failure.doing == CONNECT && self.replay.workers.len() > self.replay.least =>
            {
                self.outcome.again = true;
                self.is_crowded = true;
                tracing::info!(
                    error = ?failure.error,
                    workers = self.replay.least,
                    "the server takes no more connections: going on with fewer workers"
                );
            }
            Fate::Failed(failure) if lost_to_a_lock(&failure.error) => {
                self.outcome.again = true;
                tracing::warn!(
                    transaction = failure.n,
                    error = ?failure.error,
                    "lost to a lock of another session in this region; the segment is run again"
                );
            }
            // Of several failures the earliest is told: the others may follow from it.
            Fate::Failed(failure) => match &self.outcome.failure {
                Some(earlier) if earlier.n < failure.n => {}
                _ => self.outcome.failure = Some(failure),
            },
        }
    }
}

/// How jobs are shared out among idle workers.
struct Shares {
    /// Of each worker's batch: its first transaction, how many, and how large.
    batches: Vec<(Option<u64>, usize, usize)>,
    /// How large a batch may be, unless it is a single job.
    limit: usize,
}

impl Shares {
    fn new(workers: usize, limit: usize) -> Shares {
        Shares { batches: vec![(None, 0, 0); workers], limit }
    }

    /// The batch that transaction `n` joins; `None` if it has to wait. What is in no batch has ended up to
    /// `depends_on`.
    fn place(&mut self, n: u64, depends_on: u64, size: usize) -> Option<usize> {
        let is_before =
            |(first, ..): &(Option<u64>, usize, usize)| first.is_some_and(|first| first <= depends_on);
        let mut before = (0..self.batches.len()).filter(|&at| is_before(&self.batches[at]));
        let at = match (before.next(), before.next()) {
            (None, _) => (0..self.batches.len()).min_by_key(|&at| self.batches[at].1)?,
            (Some(at), None) => at,
            (Some(_), Some(_)) => return None,
        };
        let (first, count, sum) = &mut self.batches[at];
        if *count >= BATCH || (*count > 0 && *sum + size > self.limit) {
            return None;
        }
        first.get_or_insert(n);
        *count += 1;
        *sum += size;
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// I4: everything that a transaction depends on has ended or stands before it on the same connection.
        #[test]
        fn a_transaction_is_only_put_behind_everything_that_it_depends_on(
            workers in 1usize..6, distances in prop::collection::vec((1u64..40, 1usize..60_000), 1..200),
        ) {
            let mut shares = Shares::new(workers, BATCH_SIZE);
            let mut placed: Vec<(u64, usize)> = Vec::new();
            // What is up to 1,000 has ended.
            for (n, (distance, size)) in (1001..).zip(distances) {
                let depends_on = n - distance;
                let Some(at) = shares.place(n, depends_on, size) else { break };
                for (earlier, there) in &placed {
                    prop_assert!(*earlier > depends_on || *there == at);
                }
                placed.push((n, at));
            }
            prop_assert!(!placed.is_empty());
        }
    }

    #[test]
    fn there_are_more_workers_where_commits_are_synced_and_never_fewer_than_configured() {
        let most = |syncs, connections, configured| Workers::of(syncs, connections, configured).most;
        assert_eq!(most(true, 151, 4), 32);
        assert_eq!(most(true, 100, 4), 25);
        assert_eq!(most(true, 10, 4), 4);
        assert_eq!(most(true, 1000, 1), 1);
        assert_eq!(most(false, 1000, 4), 4);
        assert_eq!(Workers::of(true, 151, 0), Workers { least: 1, most: 1 });
    }

    #[test]
    fn independent_transactions_are_spread_and_a_chain_stays_together() {
        let mut shares = Shares::new(3, BATCH_SIZE);
        let spread: Vec<_> = (1..=6).map(|n| shares.place(n, 0, 10)).collect();
        assert_eq!(spread, [Some(0), Some(1), Some(2), Some(0), Some(1), Some(2)]);
        assert_eq!(shares.place(7, 3, 10), None);
        let mut shares = Shares::new(3, BATCH_SIZE);
        assert!((1..=BATCH as u64).all(|n| shares.place(n, n - 1, 10) == Some(0)));
        assert_eq!(shares.place(BATCH as u64 + 1, BATCH as u64, 10), None);
    }
}
