//! A worker: one connection, one transaction at a time.
//!
//! A small transaction is one round trip: context, BEGIN, its rows, COMMIT. When any statement in it fails, the
//! server runs none behind it, so a transaction is committed whole or rolled back. What lost to a lock is tried
//! again; anything else ends the run, with the transaction rolled back and its GTID free.

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

/// What became of a job.
pub struct Done {
    pub worker: usize,
    pub n: u64,
    pub result: Result<(), Failure>,
}

/// Runs jobs until nobody sends any more.
pub async fn work(
    number: usize,
    context: Arc<Context>,
    mut jobs: mpsc::Receiver<Job>,
    done: mpsc::UnboundedSender<Done>,
) {
    let mut session = None;
    while let Some(mut job) = jobs.recv().await {
        failpoint::hit("apply.before_transaction");
        let result = run(&context, &mut session, &mut job).await;
        if result.is_ok() {
            failpoint::hit("apply.after_commit");
        } else if let Some(mut broken) = session.take() {
            // Whatever is still open ends here, so that the GTID is free before anybody looks at it.
            if broken.rollback().await.is_ok() {
                broken.close().await;
            }
        }
        let result = result.map_err(|(doing, error)| Failure {
            n: job.head.n,
            source_gtid: job.head.source_gtid.clone(),
            doing: doing.to_owned(),
            error,
        });
        if done.send(Done { worker: number, n: job.head.n, result }).is_err() {
            return;
        }
    }
    if let Some(session) = session {
        session.close().await;
    }
}

/// What was being done, and why it failed.
type Failed = (&'static str, RunError);

async fn run(context: &Arc<Context>, session: &mut Option<Session>, job: &mut Job) -> Result<(), Failed> {
    let mut attempt = 0;
    loop {
        let result = match &mut job.opening {
            Opening::Rows(of) => {
                let session = match session {
                    Some(session) => session,
                    None => session.insert(open(context).await?),
                };
                session
                    .describe(&job.format)
                    .await
                    .map_err(|error| ("send the format description", error))?;
                let opening = session.opening(&job.head, of);
                rows(session, opening, &mut job.body).await.map_err(|error| ("run its rows", error))
            }
            Opening::Ddl(ddl) => {
                let session = open(context).await?;
                statement(session, &job.head, ddl, &job.format, &mut job.body)
                    .await
                    .map_err(|error| ("run its statement", error))
            }
        };
        let Err((doing, error)) = result else { return Ok(()) };
        attempt += 1;
        if !lost_to_a_lock(&error) || attempt == ATTEMPTS || !matches!(job.body, Body::Whole(_)) {
            return Err((doing, error));
        }
        tracing::debug!(transaction = job.head.n, attempt, ?error, "lost to a lock, trying again");
        if let Some(session) = session {
            session.rollback().await.map_err(|error| ("roll back", error))?;
        }
        tokio::time::sleep(Duration::from_millis(20 << attempt.min(7))).await;
    }
}

async fn open(context: &Arc<Context>) -> Result<Session, Failed> {
    Session::open(context.clone()).await.map_err(|error| ("connect", RunError::Lost(error)))
}

/// 1205: lock wait timeout; 1213: deadlock; 3572: NOWAIT; 1614, 3101: group replication rolled it back.
pub fn lost_to_a_lock(error: &RunError) -> bool {
    matches!(error, RunError::Server { code: 1205 | 1213 | 1614 | 3101 | 3572, .. })
}

/// Opens the transaction, runs its rows, commits.
async fn rows(session: &mut Session, mut opening: Piece, body: &mut Body) -> Result<(), RunError> {
    opening.push(b"BEGIN");
    match body {
        Body::Whole(piece) => {
            opening.append(piece);
            opening.push(b"COMMIT");
            session.run(&opening).await
        }
        Body::Stream(parts) => {
            session.run(&opening).await?;
            stream(session, parts).await
        }
    }
}

/// Runs the pieces of an open transaction as they come, and commits if they came to their end.
async fn stream(session: &mut Session, parts: &mut mpsc::Receiver<Part>) -> Result<(), RunError> {
    loop {
        let (mut piece, last) = match parts.recv().await {
            Some(Part::More(piece)) => (piece, false),
            Some(Part::Last(piece)) => (piece, true),
            None => {
                let message = "the rest of the transaction could not be read: it is rolled back";
                return Err(RunError::Lost(Error::new(Kind::Failed, message)));
            }
        };
        if last {
            failpoint::hit("apply.before_commit");
            piece.push(b"COMMIT");
        }
        session.run(&piece).await?;
        if last {
            return Ok(());
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
    let opening = session.opening(head, &ddl.session);
    let text = Piece { sql: ddl.text.clone(), results: 1 };
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
