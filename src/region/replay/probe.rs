//! Which table a failed transaction failed on, for certain: it is run once more, one row event to a statement, and
//! rolled back. The event that fails names its table; MySQL's message may name none, or one of several of the
//! same name.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::raw::RunError;
use super::session::{Context, Session};
use super::statement::Piece;
use super::worker::lost_to_a_lock;
use crate::binlog::event::{Event, TableMap, with_stmt_end};
use crate::binlog::name::TableName;
use crate::binlog::segment::{Item, TransactionHead};
use crate::binlog::session;
use crate::region::gate::{Action, Gate};
use crate::region::quarantine::Passing;
use crate::region::scope::Scope;
use crate::region::segments::{self, Fetched};
use crate::{Error, Kind, Result};

/// What is run next.
enum Step {
    Begin(Box<(TransactionHead, session::Session)>),
    Rows(TableName, Piece),
    Savepoint(String),
}

/// The first row event of transaction `n` that fails; `None` if it does not fail any more, or cannot be told.
/// Changes nothing.
pub async fn probe(
    context: Arc<Context>,
    fetched: &Fetched,
    scope: &Scope,
    passing: &Passing,
    n: u64,
) -> Result<Option<(TableName, RunError)>> {
    let (sender, mut steps) = mpsc::channel(8);
    let format = Arc::new(fetched.format()?);
    let reader = tokio::task::spawn_blocking({
        let (file, segment, stream) = (fetched.file.clone(), fetched.segment.clone(), fetched.stream);
        let (scope, passing) = (scope.clone(), passing.clone());
        move || {
            let mut reader = segments::open(&file, &segment, stream)?;
            let mut gate = Gate::new(&scope);
            let mut statement = Statement::default();
            let mut head = None;
            while let Some(item) = reader.next()? {
                match item {
                    Item::Begin(begun) => {
                        gate.begin(&begun);
                        head = (begun.n == n).then_some(begun);
                    }
                    Item::End if gate.end().is_ok() && head.is_some() => break,
                    Item::End => {}
                    Item::Event(event) => {
                        let action = gate.event(&event)?;
                        let Some(head) = &head else { continue };
                        let step = match action {
                            Action::Begin(session) => Some(Step::Begin(Box::new((head.clone(), *session)))),
                            Action::Map(map) => {
                                statement.map(event, map, |table| passing.covers(&scope.list, table, n));
                                None
                            }
                            Action::Rows(header) => {
                                statement.rows(event, header.table_id, header.ends_statement())?
                            }
                            Action::Savepoint(text) => Some(Step::Savepoint(text)),
                            Action::Ddl(_) | Action::Commit => None,
                        };
                        if let Some(step) = step
                            && sender.blocking_send(step).is_err()
                        {
                            break;
                        }
                    }
                }
            }
            Ok::<_, Error>(())
        }
    });
    let mut session = Session::open(context).await?;
    session.describe(&format).await.map_err(|error| super::session::refused(error, "describe events"))?;
    let mut found = None;
    while let Some(step) = steps.recv().await {
        let mut piece = Piece::default();
        let mut of = None;
        match step {
            Step::Begin(begin) => {
                piece = session.opening_of_rows(&begin.0, &begin.1);
                piece.push(b"BEGIN");
            }
            Step::Rows(table, rows) => {
                piece = rows;
                of = Some(table);
            }
            Step::Savepoint(text) => piece.push(text.as_bytes()),
        }
        match (session.run(&piece).await, of) {
            (Ok(()), _) => {}
            (Err(error), _) if lost_to_a_lock(&error) => break,
            (Err(error @ RunError::Server { .. }), Some(table)) => {
                found = Some((table, error));
                break;
            }
            (Err(error), _) => return Err(super::session::refused(error, "look for the row that failed")),
        }
    }
    drop(steps);
    if session.rollback().await.is_ok() {
        session.close().await;
    }
    reader.await.map_err(|error| Error::new(Kind::Failed, "read a transaction again").caused_by(error))??;
    Ok(found)
}

/// The statement that is being read: its table maps, without those that are left out.
#[derive(Default)]
struct Statement {
    maps: Vec<Event>,
    tables: Vec<(u64, TableName)>,
    ended: bool,
}

impl Statement {
    fn map(&mut self, event: Event, map: TableMap, left_out: impl Fn(&TableName) -> bool) {
        if self.ended {
            *self = Statement::default();
        }
        if !left_out(&map.table) {
            self.maps.push(event);
            self.tables.push((map.table_id, map.table));
        }
    }

    /// The row event as a statement of its own; `None` if it is left out.
    fn rows(&mut self, event: Event, table_id: u64, ends: bool) -> Result<Option<Step>> {
        self.ended = ends;
        let Some((_, table)) = self.tables.iter().find(|(id, _)| *id == table_id) else { return Ok(None) };
        let event = if ends { event } else { with_stmt_end(event)? };
        let mut piece = Piece::default();
        piece.push_events(self.maps.iter().cloned().chain([event]).collect());
        Ok(Some(Step::Rows(table.clone(), piece)))
    }
}
