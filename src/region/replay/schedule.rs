//! Which transaction runs when (I4): none before every one that it depends on has committed, DDL alone.
//!
//! Transactions start in the order of the stream; those that the source could have committed side by side run
//! side by side and may commit in another order. After a failure nothing new starts, and what is running ends.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Failure;
use super::read::{Body, Job, Opening, Wanted, read};
use super::session::{Context, Session};
use super::worker::{Done, lost_to_a_lock, work};
use crate::binlog::name::TableSet;
use crate::region::position::Executed;
use crate::region::segments::{Fetched, segment};
use crate::{Error, Kind, Result};

/// How many small jobs wait for a worker.
const WAITING: usize = 16;

/// The workers of a run, with their connections.
pub struct Replay {
    stream: Uuid,
    tables: TableSet,
    context: Arc<Context>,
    workers: Vec<mpsc::Sender<Job>>,
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
    /// Starts `workers` workers. Each connects with its first transaction.
    pub fn new(context: Context, tables: TableSet, workers: usize) -> Replay {
        let context = Arc::new(context);
        let (report, done) = mpsc::unbounded_channel();
        let mut replay = Replay {
            stream: context.stream,
            tables,
            context: context.clone(),
            workers: Vec::new(),
            tasks: Vec::new(),
            done,
        };
        for number in 0..workers.max(1) {
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

    /// Runs what is wanted of a segment.
    pub async fn run(
        &mut self,
        fetched: &Fetched,
        executed: Executed,
        until: u64,
        stop: &CancellationToken,
    ) -> Result<Outcome> {
        let (sender, jobs) = mpsc::channel(WAITING);
        let reader = tokio::task::spawn_blocking({
            let (file, entry) = (fetched.file.clone(), fetched.entry.clone());
            let (stream, tables) = (self.stream, self.tables.clone());
            let wanted = Wanted { executed, until };
            move || read(file.path(), segment(&entry), stream, &tables, &wanted, &sender)
        });
        let mut run = Run {
            replay: self,
            running: BTreeSet::new(),
            idle: (0..0).collect(),
            outcome: Outcome::default(),
        };
        run.idle = (0..run.replay.workers.len()).rev().collect();
        run.dispatch(jobs, stop).await?;
        let outcome = run.outcome;
        let read =
            reader.await.map_err(|error| Error::new(Kind::Failed, "read a segment").caused_by(error))?;
        // A worker that waited for the rest of an unreadable transaction is not the cause.
        read?;
        Ok(outcome)
    }

    /// Ends the workers and waits until their connections are closed.
    pub async fn close(self) {
        drop(self.workers);
        for task in self.tasks {
            // A worker that panicked has no connection any more.
            let _ = task.await;
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
}

impl Run<'_> {
    async fn dispatch(&mut self, mut jobs: mpsc::Receiver<Job>, stop: &CancellationToken) -> Result<()> {
        loop {
            let job = tokio::select! {
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
            };
            let alone = matches!(job.opening, Opening::Ddl(_));
            // A transaction in pieces cannot be tried again: nothing that might take its locks runs beside it.
            let alone = alone || matches!(job.body, Body::Stream(_));
            if alone {
                self.wait_until(|run| run.running.is_empty()).await?;
            } else {
                let depends_on = job.head.depends_on;
                self.wait_until(|run| {
                    !run.idle.is_empty() && run.running.first().is_none_or(|&first| first > depends_on)
                })
                .await?;
            }
            if self.is_over() {
                break;
            }
            let Some(worker) = self.idle.pop() else { break };
            self.running.insert(job.head.n);
            if self.replay.workers[worker].send(job).await.is_err() {
                return Err(Error::new(Kind::Failed, "hand a transaction to a worker: it has ended"));
            }
            if alone {
                self.wait_until(|run| run.running.is_empty()).await?;
            }
            if self.is_over() {
                break;
            }
        }
        // Whoever still reads the segment notices that nobody takes its jobs.
        drop(jobs);
        while !self.running.is_empty() {
            self.wait_for_one().await?;
        }
        Ok(())
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
        self.idle.push(done.worker);
        match done.result {
            Ok(()) => self.outcome.committed += 1,
            Err(failure) if lost_to_a_lock(&failure.error) => {
                self.outcome.again = true;
                tracing::warn!(
                    transaction = failure.n,
                    error = ?failure.error,
                    "lost to a lock of another session in this region; the segment is run again"
                );
            }
            // Of several failures the earliest is told: the others may follow from it.
            Err(failure) => match &self.outcome.failure {
                Some(earlier) if earlier.n < failure.n => {}
                _ => self.outcome.failure = Some(failure),
            },
        }
    }
}
