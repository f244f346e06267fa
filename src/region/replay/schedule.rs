//! Which transaction runs when (I4): none before every one that it depends on has committed, DDL alone.
//!
//! Transactions start in the order of the stream; those that the source could have committed side by side run
//! side by side and may commit in another order. After a failure nothing new starts, and what is running ends.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Failure;
use super::probe::probe;
use super::raw::RunError;
use super::read::{Job, Outlet, PIECE, SHARES, Wanted, read};
use super::session::{Context, Session};
use super::share::Share;
use super::statement::events_in;
use super::worker::{CONNECT, Done, Fate, lost_to_a_lock, work};
use crate::binlog::name::TableName;
use crate::mysql::{self, Server};
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

/// How many times as many workers there are where commits wait for a disk, and where they do not: there, while one
/// learns that its batch is done, another's runs.
const TOGETHER: usize = 8;
const IN_TURN: usize = 2;

/// The largest shares of the server's connections, and of the account's, that all workers of this process may take.
const OF_SERVER: usize = 4;
const OF_ACCOUNT: usize = 2;

/// So long after a run last had a use for most of the workers, those that it had none for are given back.
const QUIET: Duration = Duration::from_secs(5);

/// So long after the server had no connection to spare it is not asked for more than the least.
const CROWDED: Duration = Duration::from_secs(600);

/// How many workers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workers {
    server: Uuid,
    /// As configured.
    least: usize,
    /// With those that wait for the disk together with others, or take turns.
    most: usize,
    /// Of all streams of this process together, unless their least is more.
    limit: usize,
}

impl Workers {
    /// By what the server does at each commit. One that is synced takes milliseconds whether it holds one transaction
    /// or many: as many as there are connections. 60,000 transactions took 22.8 s on 4 of them, 9.2 s on 32. Elsewhere
    /// two take turns: one's answers are read while another's batch runs. Of a
    /// single worker it is expected that it stays alone. The account may have its own limit (0: none).
    pub fn at(server: &Server, max_user_connections: usize, configured: usize) -> Workers {
        let least = configured.max(1);
        let of_account = match max_user_connections {
            0 => usize::MAX,
            most => most / OF_ACCOUNT,
        };
        let limit = (server.max_connections / OF_SERVER).min(of_account);
        let times = if server.syncs_commits { TOGETHER } else { IN_TURN };
        let most = match least {
            1 => 1,
            _ => (least * times).min(limit).max(least),
        };
        Workers { server: server.uuid, least, most, limit }
    }
}

/// The workers of a run, with their connections.
pub struct Replay {
    stream: Uuid,
    /// As the pass that is at work has it.
    pub scope: Scope,
    context: Arc<Context>,
    workers: Vec<mpsc::Sender<Vec<Job>>>,
    /// How many of them a run does not go without, and how many it may have.
    least: usize,
    most: usize,
    share: Share,
    tasks: Vec<JoinHandle<()>>,
    /// Of workers to come. Those that are there keep it alive.
    report: mpsc::WeakUnboundedSender<Done>,
    done: mpsc::UnboundedReceiver<Done>,
    /// When a run last had a use for most of the workers. That there is a little to do all the time is no reason to keep
    /// what other streams may need.
    needed: Instant,
    /// When the server had no connection to spare.
    crowded: Option<Instant>,
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
    /// The server had no connection left for one of the workers: the same, by fewer of them.
    pub crowded: bool,
}

impl Replay {
    /// Starts the least of the workers. Each connects with its first transaction.
    pub fn new(context: Context, scope: Scope, workers: Workers) -> Replay {
        let (report, done) = mpsc::unbounded_channel();
        let mut replay = Replay {
            stream: context.stream,
            scope,
            context: Arc::new(context),
            workers: Vec::new(),
            least: workers.least,
            most: workers.most,
            share: Share::new(workers.server, workers.limit, workers.least),
            tasks: Vec::new(),
            report: report.downgrade(),
            done,
            needed: Instant::now(),
            crowded: None,
        };
        replay.start(workers.least, &report);
        replay
    }

    fn start(&mut self, count: usize, report: &mpsc::UnboundedSender<Done>) {
        for number in self.workers.len()..self.workers.len() + count {
            let (sender, jobs) = mpsc::channel(1);
            self.workers.push(sender);
            self.tasks.push(tokio::spawn(work(number, self.context.clone(), jobs, report.clone())));
        }
    }

    /// As many workers as so many transactions have a use for.
    async fn fit(&mut self, transactions: u64) {
        let wanted = self.most.min(usize::try_from(transactions).unwrap_or(usize::MAX)).max(self.least);
        if wanted > self.workers.len() / 2 {
            self.needed = Instant::now();
        } else if self.needed.elapsed() >= QUIET {
            self.shrink(wanted).await;
        }
        self.grow(wanted);
    }

    /// So many, if the server may be asked for more.
    fn grow(&mut self, wanted: usize) {
        let wanted = wanted.saturating_sub(self.workers.len());
        if wanted == 0 || self.crowded.is_some_and(|at| at.elapsed() < CROWDED) {
            return;
        }
        // Without a worker there is nobody to report, and the run says so.
        let Some(report) = self.report.upgrade() else { return };
        let more = self.share.take(wanted);
        self.start(more, &report);
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
        let first = executed.next_missing(fetched.segment.first_tx.0);
        let transactions = until.saturating_sub(first).saturating_add(1);
        self.fit(transactions).await;
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
        };
        run.idle = (0..run.replay.workers.len()).rev().collect();
        run.dispatch(jobs, stop).await?;
        let outcome = run.outcome;
        // However long it was: most of them are what it had a use for until now.
        if transactions > self.workers.len() as u64 / 2 {
            self.needed = Instant::now();
        }
        if outcome.crowded {
            self.crowded = Some(Instant::now());
            self.shrink(self.least).await;
        }
        let read =
            reader.await.map_err(|error| Error::new(Kind::Failed, "read a segment").caused_by(error))?;
        // A worker that waited for the rest of an unreadable transaction is not the cause.
        read?;
        Ok(outcome)
    }

    /// Between runs: what has had nothing to do for a while needs no connections for the disk's sake.
    pub async fn rest(&mut self) {
        if self.needed.elapsed() >= QUIET {
            self.shrink(self.least).await;
        }
    }

    /// Goes on with no more than so many.
    async fn shrink(&mut self, count: usize) {
        self.workers.truncate(count);
        end(self.tasks.split_off(count.min(self.tasks.len()))).await;
        self.share.keep(count);
    }

    /// Ends the workers and waits until their connections are closed.
    pub async fn close(self) {
        drop(self.workers);
        end(self.tasks).await;
    }
}

/// Waits for workers to whom nobody sends any more, for all of them together no longer than for one.
async fn end(mut tasks: Vec<JoinHandle<()>>) {
    let all = futures::future::join_all(&mut tasks);
    // A worker that panicked has no connection any more; one that does not end has one that hangs.
    if tokio::time::timeout(FAREWELL, all).await.is_err() {
        tasks.iter().for_each(JoinHandle::abort);
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
                if self.replay.workers.len() > self.replay.least && is_crowded(&failure) =>
            {
                (self.outcome.again, self.outcome.crowded) = (true, true);
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

/// Whether it is a connection too many. Anything else that a connection fails for, the others would fail for as well.
fn is_crowded(failure: &Failure) -> bool {
    let RunError::Lost(error) = &failure.error else { return false };
    failure.doing == CONNECT && mysql::lacks_connections(error)
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

    fn server(syncs_commits: bool, max_connections: usize) -> Server {
        Server {
            version: (9, 7, 0),
            version_text: String::new(),
            uuid: Uuid::from_u128(73),
            server_id: 1,
            gtid_mode: String::new(),
            enforce_gtid_consistency: String::new(),
            log_bin: true,
            binlog_format: String::new(),
            binlog_row_image: String::new(),
            read_only: false,
            super_read_only: false,
            max_allowed_packet: 1 << 26,
            lower_case_table_names: 0,
            syncs_commits,
            max_connections,
        }
    }

    #[test]
    fn there_are_more_workers_where_commits_are_synced_and_never_fewer_than_configured() {
        let most = |syncs, connections, of_user, configured| {
            Workers::at(&server(syncs, connections), of_user, configured).most
        };
        assert_eq!(most(true, 151, 0, 4), 32);
        assert_eq!(most(true, 100, 0, 4), 25);
        assert_eq!(most(true, 10, 0, 4), 4);
        assert_eq!(most(true, 1000, 0, 1), 1);
        assert_eq!(most(false, 1000, 0, 4), 8);
        assert_eq!(most(false, 20, 0, 4), 5);
        assert_eq!(most(true, 151, 30, 4), 15, "an account's own limit");
        assert_eq!(most(true, 151, 1, 4), 4);
        let one = Workers::at(&server(true, 151), 0, 0);
        assert_eq!((one.least, one.most), (1, 1));
    }

    fn replay(workers: Workers) -> Replay {
        let config = "role = \"region\"\nstream = \"a\"\nstore = \"file:///nowhere\"\n[mysql]\nhost = \"127.0.0.1\"\n\
                      user = \"a\"\n[region]\nname = \"r\"\ntables = [\"g.t\"]\n";
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), config).unwrap();
        let config = crate::config::load(file.path()).unwrap();
        let context = Context {
            config: config.mysql,
            version: (9, 7, 0),
            set_row_format: false,
            max_allowed_packet: 1 << 26,
            stream: Uuid::from_u128(7),
        };
        let list = config.region.unwrap().tables;
        Replay::new(context, Scope::of_list(&list), workers)
    }

    #[tokio::test]
    async fn workers_come_with_the_work_and_go_without_and_stay_away_from_a_crowded_server() {
        let server = Server { uuid: Uuid::from_u128(74), ..server(true, 100) };
        let mut first = replay(Workers::at(&server, 0, 4));
        first.fit(1).await;
        assert_eq!(first.workers.len(), 4, "one transaction needs no more");
        first.fit(10).await;
        assert_eq!(first.workers.len(), 10);
        first.fit(1_000).await;
        assert_eq!(first.workers.len(), 25, "a quarter of what the server has");
        let mut second = replay(Workers::at(&server, 0, 4));
        second.fit(1_000).await;
        assert_eq!(second.workers.len(), 4, "it is taken: all streams share that quarter");
        first.rest().await;
        first.fit(1).await;
        assert_eq!(first.workers.len(), 25, "it has worked just now");
        let Some(earlier) = Instant::now().checked_sub(QUIET) else { return };
        first.needed = earlier;
        first.rest().await;
        assert_eq!((first.workers.len(), first.tasks.len()), (4, 4));
        second.crowded = Some(Instant::now());
        second.fit(1_000).await;
        assert_eq!(second.workers.len(), 4, "it has been refused");
        let Some(long_ago) = Instant::now().checked_sub(CROWDED) else { return };
        second.crowded = Some(long_ago);
        second.fit(1_000).await;
        assert_eq!(second.workers.len(), 4 + 17, "and is asked again");
        first.close().await;
        second.close().await;
    }

    #[tokio::test]
    async fn a_stream_that_always_has_a_little_to_do_gives_back_the_workers_of_a_catch_up() {
        let server = Server { uuid: Uuid::from_u128(75), ..server(true, 151) };
        let mut first = replay(Workers::at(&server, 0, 4));
        let mut second = replay(Workers::at(&server, 0, 4));
        first.fit(10_000).await;
        assert_eq!(first.workers.len(), 32);
        let Some(earlier) = Instant::now().checked_sub(QUIET) else { return };
        first.needed = earlier;
        first.fit(17).await;
        assert_eq!(first.workers.len(), 32, "most of them are of use");
        assert!(first.needed > earlier);
        first.needed = earlier;
        first.fit(7).await;
        assert_eq!((first.workers.len(), first.tasks.len()), (7, 7), "and it never was at rest");
        first.needed = earlier;
        for _ in 0..3 {
            first.fit(1).await;
        }
        assert_eq!(first.workers.len(), 7, "more than half of them are the least");
        first.rest().await;
        assert_eq!(first.workers.len(), 7);
        first.needed = earlier;
        first.rest().await;
        assert_eq!(first.workers.len(), 4);
        second.fit(10_000).await;
        assert_eq!(second.workers.len(), 32, "what another stream gave back is there to take");
        first.close().await;
        second.close().await;
    }

    #[test]
    fn only_a_connection_too_many_counts_as_one() {
        let failure = |code| Failure {
            n: 1,
            source_gtid: format!("{}:1", Uuid::from_u128(7)).parse().unwrap(),
            doing: CONNECT.to_owned(),
            error: RunError::Lost(
                mysql::server_error(code, "08004", "Too many connections", "connect").during("prepare"),
            ),
        };
        for (code, expected) in
            [(1040, true), (1203, true), (1226, true), (1045, false), (1053, false), (2013, false)]
        {
            assert_eq!(is_crowded(&failure(code)), expected, "{code}");
        }
        assert!(!is_crowded(&Failure { doing: "run its rows".to_owned(), ..failure(1040) }));
        let lost = Error::new(Kind::Mysql, "connect").caused_by("Connection refused");
        assert!(!is_crowded(&Failure { error: RunError::Lost(lost), ..failure(1040) }));
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
