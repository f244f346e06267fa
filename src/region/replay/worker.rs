//! A worker: one connection, one transaction after the other.
//!
//! Small transactions are run several to a round trip: context, BEGIN, rows, COMMIT, and the next. When any
//! statement fails, the server runs none behind it, so each transaction is committed whole or rolled back, and
//! those behind it have not begun. What lost to a lock is tried again; anything else ends the run, with the
//! transaction rolled back and its GTID free.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Failure;
use super::raw::RunError;
use super::read::{Body, Job, Opening, Part};
use super::session::{Context, Session};
use super::statement::Piece;
use crate::binlog::segment::TransactionHead;
use crate::region::gate::Ddl;
use crate::{Error, Kind, failpoint};

/// How often a transaction that lost to a lock is tried again before the run ends.
const ATTEMPTS: u32 = 12;

/// What a worker does before its first transaction.
pub const CONNECT: &str = "connect";

/// What became of a job.
pub struct Done {
    pub n: u64,
    pub fate: Fate,
    /// The worker that has nothing more to do.
    pub idle: Option<usize>,
}

pub enum Fate {
    Committed,
    Failed(Failure),
    /// One before it failed.
    NotRun,
}

/// Runs batches of jobs until nobody sends any more.
pub async fn work(
    number: usize,
    context: Arc<Context>,
    mut batches: mpsc::Receiver<Vec<Job>>,
    done: mpsc::UnboundedSender<Done>,
) {
    let mut session = None;
    while let Some(mut batch) = batches.recv().await {
        for _ in &batch {
            failpoint::hit("apply.before_transaction");
        }
        let (committed, failed) = run(&context, &mut session, &mut batch).await;
        for _ in 0..committed {
            failpoint::hit("apply.after_commit");
        }
        let mut failed = failed.map(|(doing, error)| (doing.to_owned(), error));
        if failed.is_some()
            && let Some(mut broken) = session.take()
        {
            // Whatever is still open ends here, so that the GTID is free before anybody looks at it.
            if broken.rollback().await.is_ok() {
                broken.close().await;
            }
        }
        let last = batch.len() - 1;
        for (at, job) in batch.into_iter().enumerate() {
            let n = job.head.n;
            let fate = match failed.take_if(|_| at == committed) {
                Some((doing, error)) => {
                    Fate::Failed(Failure { n, source_gtid: job.head.source_gtid.clone(), doing, error })
                }
                None if at < committed => Fate::Committed,
                None => Fate::NotRun,
            };
            if done.send(Done { n, fate, idle: (at == last).then_some(number) }).is_err() {
                return;
            }
        }
    }
    if let Some(session) = session {
        session.close().await;
    }
}

/// What was being done, and why it failed.
type Failed = (&'static str, RunError);

/// Runs a batch. Says how many of it have been committed, and why the next was not.
async fn run(
    context: &Arc<Context>,
    session: &mut Option<Session>,
    batch: &mut [Job],
) -> (usize, Option<Failed>) {
    let (mut committed, mut attempt) = (0, 0);
    while committed < batch.len() {
        let (more, result) = run_once(context, session, &mut batch[committed..]).await;
        committed += more;
        if more > 0 {
            attempt = 0;
        }
        let Err((doing, error)) = result else { continue };
        attempt += 1;
        let job = &batch[committed];
        if !lost_to_a_lock(&error) || attempt == ATTEMPTS || !matches!(job.body, Body::Whole(_)) {
            return (committed, Some((doing, error)));
        }
        tracing::debug!(transaction = job.head.n, attempt, ?error, "lost to a lock, trying again");
        if let Some(session) = session
            && let Err(error) = session.rollback().await
        {
            return (committed, Some(("roll back", error)));
        }
        tokio::time::sleep(Duration::from_millis(20 << attempt.min(7))).await;
    }
    (committed, None)
}

/// Runs the jobs, or the first of them if it is one that runs by itself. Says how many have been committed.
async fn run_once(
    context: &Arc<Context>,
    session: &mut Option<Session>,
    jobs: &mut [Job],
) -> (usize, Result<(), Failed>) {
    let [first, ..] = jobs else { return (0, Ok(())) };
    if let Opening::Ddl(ddl) = &first.opening {
        let result = async {
            let session = open(context).await?;
            let run = statement(session, &first.head, ddl, &first.format, &mut first.body);
            run.await.map_err(|error| ("run its statement", error))
        };
        let result = result.await;
        return (usize::from(result.is_ok()), result);
    }
    let session = match session {
        Some(session) => session,
        None => match open(context).await {
            Ok(opened) => session.insert(opened),
            Err(failed) => return (0, Err(failed)),
        },
    };
    if let Err(error) = session.describe(&first.format).await {
        return (0, Err(("send the format description", error)));
    }
    let (committed, result) = match first.size() {
        Some(_) => whole(session, jobs).await,
        None => {
            let result = large(session, first).await;
            (usize::from(result.is_ok()), result)
        }
    };
    (committed, result.map_err(|error| ("run its rows", error)))
}

async fn open(context: &Arc<Context>) -> Result<Session, Failed> {
    Session::open(context.clone()).await.map_err(|error| (CONNECT, RunError::Lost(error)))
}

/// 1205: lock wait timeout; 1213: deadlock; 3572: NOWAIT; 1614, 3101: group replication rolled it back.
pub fn lost_to_a_lock(error: &RunError) -> bool {
    matches!(error, RunError::Server { code: 1205 | 1213 | 1614 | 3101 | 3572, .. })
}

/// What says nothing about the statement: a lock, a server that goes down, a connection that was killed.
pub fn is_passing(error: &RunError) -> bool {
    match error {
        RunError::Lost(_) => true,
        RunError::Server { code, .. } => {
            lost_to_a_lock(error) || matches!(code, 1053 | 1077 | 1317 | 3168 | 3169)
        }
    }
}

/// Runs whole transactions in one round trip. Says how many were committed.
async fn whole(session: &mut Session, jobs: &[Job]) -> (usize, Result<(), RunError>) {
    let (mut query, mut ends) = (Piece::default(), Vec::with_capacity(jobs.len()));
    for job in jobs {
        let (Opening::Rows(of), Body::Whole(piece)) = (&job.opening, &job.body) else { break };
        query.append(&session.opening_of_rows(&job.head, of));
        // Rows begin a transaction by themselves. Where there are none, only this makes one that COMMIT can end. COMMIT
        // is never left to autocommit: rows that change nothing here leave nothing in the region's binlog, and only an
        // explicit COMMIT gives such a transaction its GTID (`sql/binlog.cc`, `binlog_gtid_end_transaction`).
        if !piece.begins_with_rows() {
            query.push(b"BEGIN");
        }
        query.append(piece);
        query.push(b"COMMIT");
        ends.push(query.results);
    }
    let result = session.run(&query).await;
    let committed = match &result {
        Ok(()) => ends.len(),
        Err(RunError::Server { index, .. }) => ends.iter().filter(|end| *end <= index).count(),
        // Not known, and found out by the next run.
        Err(RunError::Lost(_)) => 0,
    };
    (committed, result)
}

/// Runs a transaction whose pieces are still being read.
async fn large(session: &mut Session, job: &mut Job) -> Result<(), RunError> {
    let (Opening::Rows(of), Body::Stream(parts)) = (&job.opening, &mut job.body) else { return Ok(()) };
    let mut opening = session.opening_of_rows(&job.head, of);
    opening.push(b"BEGIN");
    session.run(&opening).await?;
    stream(session, parts).await
}
/// Runs the pieces of an open transaction as they come, and commits if they came to their end.
///
/// While one runs the next is sent, so that the server never waits. It runs, too, if the one before it fails: in the same
/// transaction, which is rolled back, or, where the server has rolled back already, not at all, for gtid_next is used up then
/// (1837). COMMIT is sent when all before it has run.
async fn stream(session: &mut Session, parts: &mut mpsc::Receiver<Part>) -> Result<(), RunError> {
    loop {
        match parts.recv().await {
            // Held once, and nothing beside it.
            Some(Part::More(piece, _running)) if piece.is_large() => {
                session.finish(0).await?;
                session.run(&piece).await?;
            }
            Some(Part::More(piece, _)) => {
                session.begin(&piece).await?;
                session.finish(1).await?;
            }
            Some(Part::Last(mut piece)) => {
                session.finish(0).await?;
                failpoint::hit("apply.before_commit");
                piece.push(b"COMMIT");
                return session.run(&piece).await;
            }
            None => {
                let message = "the rest of the transaction could not be read: it is rolled back";
                return Err(RunError::Lost(Error::new(Kind::Failed, message)));
            }
        }
        failpoint::hit("apply.in_transaction");
    }
}

/// Runs a DDL statement on a connection of its own: its context is complete, and nothing of it stays behind.
async fn statement(
    mut session: Session,
    head: &TransactionHead,
    ddl: &Ddl,
    format: &Arc<Vec<u8>>,
    body: &mut Body,
) -> Result<(), RunError> {
    if ddl.ddl.row_create {
        session.describe(format).await?;
    }
    if let Some(schema) = ddl.default_schema() {
        session.use_schema(schema).await?;
    }
    session.enter(&ddl.session).await?;
    let opening = session.opening(head, &ddl.session);
    let text = Piece::of(ddl.text.clone());
    let result = async {
        session.run(&opening).await?;
        failpoint::hit("apply.before_ddl");
        session.run(&text).await?;
        failpoint::hit("apply.after_ddl");
        if !ddl.ddl.row_create {
            return Ok(());
        }
        match body {
            Body::Whole(piece) => {
                let mut rest = Piece::default();
                rest.append(piece);
                rest.push(b"COMMIT");
                session.run(&rest).await
            }
            Body::Stream(parts) => stream(&mut session, parts).await,
        }
    }
    .await;
    // A session that cannot be rolled back is gone, and its transaction with it.
    if result.is_ok() || session.rollback().await.is_ok() {
        session.close().await;
    }
    result
}
