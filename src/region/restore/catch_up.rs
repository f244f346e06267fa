//! From the dump's state to the region's own: what the stream has done to the tables since, out of the segments and
//! onto their shadows.
//!
//! Segments come as for apply: size and MD5, then the gate, before anything of them runs (I6). Of each transaction
//! only the row events of these tables are kept, their table maps renamed, and they run with automatic GTIDs, in
//! stream order, on one connection. Cascades happen on the shadows, through their own foreign keys. DDL on one of
//! the tables means that the dump does not fit.
//!
//! Many of the stream's transactions go into one local transaction: a commit costs more than the rows of a small one,
//! and nobody reads a shadow, so nobody sees a state in between. How far it has come is written in the same local
//! transaction, so nothing is run twice on a shadow, whatever is killed.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::binlog::event::TableMap;
use crate::binlog::name::TableName;
use crate::binlog::segment::Item;
use crate::binlog::session;
use crate::config::MysqlConfig;
use crate::mysql::{self, Server};
use crate::region::drift;
use crate::region::gate::{Action, Gate};
use crate::region::replay::{
    Context, Maps, PIECE, Packer, Piece, RunError, Session, events_in, is_passing, lost_to_a_lock, refused,
    statement_length,
};
use crate::region::scope::Scope;
use crate::region::segments::{self, Fetched};
use crate::store::Store;
use crate::stream::{Entry, StreamTx};
use crate::{Error, Kind, Result, failpoint};

/// A local transaction takes no more than so many of the stream, or so many bytes of statements.
const BATCH: usize = 1000;
const BATCH_SIZE: usize = 4 << 20;

/// ER_KEY_NOT_FOUND
const NO_SUCH_ROW: u16 = 1032;

const OTHER_DUMP: &str = "nothing that anybody reads was touched; another dump is needed (`tablecast dump take` at the \
                          source). If that one does not fit either, something at the source changes these tables without \
                          its binary log";

/// How often what lost to a lock is tried again. Shadows are nobody else's, but their parents may be.
const ATTEMPTS: u32 = 5;

/// What catching up needs to know.
#[derive(Clone)]
pub struct CatchUp {
    pub config: MysqlConfig,
    pub server: Server,
    pub stream: Uuid,
    pub store: Arc<dyn Store>,
    pub spool_dir: PathBuf,
    /// What the region lets in, and what else stands in the stream.
    pub scope: Scope,
    /// Each table with its shadow.
    pub targets: BTreeMap<TableName, TableName>,
    /// The named lock that keeps two from working on these shadows.
    pub lock: String,
    /// How long to wait for it, in seconds: a connection of a killed run may still be at work.
    pub patience: u32,
    /// The statement that puts down how far the shadows are, run in the transaction that brings them there.
    pub record: Arc<dyn Fn(u64) -> String + Send + Sync>,
    /// Ends the work at the next transaction boundary.
    pub stop: CancellationToken,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caught {
    /// The shadows hold everything up to this transaction: the one asked for, unless the token came first.
    UpTo(u64),
    /// This transaction changes the definition of one of the tables: the dump does not fit. The shadows are of no more
    /// use.
    Ddl { n: u64, table: TableName },
}

impl CatchUp {
    /// Brings the shadows from transaction `from` to `to`. `entries`: at least those that hold these transactions.
    ///
    /// [`Kind::Drift`]: dump and stream do not fit together, another dump is needed. After any other error the
    /// shadows are where [`record`](Self::record) says, and it may be called again from there.
    pub async fn run(&self, entries: &[Entry], from: StreamTx, to: StreamTx) -> Result<Caught> {
        if from >= to {
            return Ok(Caught::UpTo(from.0));
        }
        let wanted = |entry: &&Entry| {
            entry.segment().is_some_and(|segment| {
                segment.last_tx > from
                    && segment.first_tx <= to
                    && segment.tables.iter().any(|table| self.targets.contains_key(table))
            })
        };
        let entries: Vec<Entry> = entries.iter().filter(wanted).cloned().collect();
        let mut fetched =
            segments::prefetch(self.store.clone(), self.stream, self.scope.clone(), &self.spool_dir, entries);
        let mut session = Session::open(Arc::new(self.context())).await?;
        session.take_lock(&self.lock, self.patience).await?;
        let mut at = from.0;
        while let Some(next) = fetched.recv().await {
            match self.whole_segment(&mut session, next?, at, to.0).await? {
                Caught::UpTo(n) => at = n,
                found @ Caught::Ddl { .. } => {
                    session.close().await;
                    return Ok(found);
                }
            }
            if self.stop.is_cancelled() {
                session.close().await;
                return Ok(Caught::UpTo(at));
            }
            failpoint::hit("restore.segment_caught_up");
        }
        let mut last = Piece::default();
        // The format description of a segment leaves it undetermined.
        last.push(b"SET gtid_next='AUTOMATIC'");
        last.push((self.record)(to.0).as_bytes());
        last.push(b"COMMIT");
        session.run(&last).await.map_err(|error| refused(error, &doing(to.0)))?;
        session.close().await;
        Ok(Caught::UpTo(to.0))
    }

    fn context(&self) -> Context {
        Context {
            config: self.config.clone(),
            version: self.server.version,
            set_row_format: self.server.binlog_format != "ROW",
            max_allowed_packet: self.server.max_allowed_packet,
            stream: self.stream,
        }
    }

    /// A segment, tried again where it lost to a lock; and once more, transaction by transaction, to tell which of
    /// them does not fit.
    async fn whole_segment(
        &self,
        session: &mut Session,
        fetched: Fetched,
        from: u64,
        to: u64,
    ) -> Result<Caught> {
        let fetched = Arc::new(fetched);
        let (mut at, mut most, mut attempt) = (from, BATCH, 0);
        loop {
            let mut batch = Batch::new(self, at, most);
            let stuck = match self.segment(session, &fetched, &mut batch, to).await? {
                Ended::Whole => return Ok(Caught::UpTo(to.min(fetched.segment.last_tx.0))),
                Ended::Stopped => return Ok(Caught::UpTo(batch.done)),
                Ended::Ddl { n, table } => return Ok(Caught::Ddl { n, table }),
                Ended::Stuck(error) => error,
            };
            (at, attempt) = (batch.done, attempt + 1);
            if !matches!(stuck, RunError::Lost(_)) {
                session.rollback().await.map_err(|error| refused(error, &doing(batch.at)))?;
            }
            match &stuck {
                error if lost_to_a_lock(error) && attempt <= ATTEMPTS => {
                    tracing::debug!(?error, attempt, "catching up lost to a lock, trying again");
                    tokio::time::sleep(Duration::from_millis(50 << attempt)).await;
                }
                RunError::Server { code, .. } if most > 1 && drift::trouble(*code).is_some() => most = 1,
                _ => return Err(self.explain(&fetched, stuck, batch.at).await),
            }
        }
    }

    /// Runs what is wanted of a segment.
    async fn segment(
        &self,
        session: &mut Session,
        fetched: &Arc<Fetched>,
        batch: &mut Batch<'_>,
        to: u64,
    ) -> Result<Ended> {
        let format = Arc::new(fetched.format()?);
        if let Err(error) = session.describe(&format).await {
            return Ok(Ended::Stuck(error));
        }
        let (sender, mut steps) = mpsc::channel(8);
        let reader = tokio::task::spawn_blocking({
            let (with, fetched, range) = (self.clone(), fetched.clone(), batch.done + 1..=to);
            move || with.read(&fetched, range, &sender)
        });
        let mut stopped = false;
        while let Some(step) = steps.recv().await {
            let done = match step {
                Step::Begin { n, session: of } => {
                    if self.stop.is_cancelled() {
                        stopped = true;
                        break;
                    }
                    batch.begin(session, n, &of).await
                }
                Step::Piece(piece, _running) => batch.add(session, piece).await,
                Step::End => {
                    batch.end();
                    Ok(())
                }
            };
            if let Err(error) = done {
                return Ok(Ended::Stuck(error));
            }
        }
        // The reader notices that nobody takes what it reads, and that is no error then.
        drop(steps);
        // A transaction that was not read to its end is rolled back with its connection.
        let read =
            reader.await.map_err(|error| Error::new(Kind::Failed, "read a segment").caused_by(error))?;
        let found = read?;
        if let Err(error) = batch.commit(session).await {
            return Ok(Ended::Stuck(error));
        }
        Ok(match found {
            Some((n, table)) => Ended::Ddl { n, table },
            None if stopped => Ended::Stopped,
            None => Ended::Whole,
        })
    }

    /// Reads what a segment does to these tables in these transactions. Ends with the first DDL on one of them.
    fn read(
        &self,
        fetched: &Fetched,
        range: RangeInclusive<u64>,
        sender: &mpsc::Sender<Step>,
    ) -> Result<Option<(u64, TableName)>> {
        let mut reader = segments::open(&fetched.file, &fetched.segment, self.stream)?;
        let mut gate = Gate::new(&self.scope);
        let mut current: Option<Reading> = None;
        while let Some(item) = reader.next()? {
            let mut full = Vec::new();
            match item {
                Item::Begin(head) => {
                    if head.n > *range.end() {
                        break;
                    }
                    gate.begin(&head);
                    current = range.contains(&head.n).then(|| Reading::new(head.n, self.piece_size()));
                }
                Item::Event(event) => {
                    let action = gate.event(&event)?;
                    let Some(reading) = current.as_mut().filter(|reading| reading.is_ours) else { continue };
                    match action {
                        Action::Begin(session) => reading.session = Some(session),
                        Action::Ddl(ddl) => {
                            // One that only refers to it may tie another table to it that is not restored with it;
                            // not a table that this region does not have.
                            let list = &self.scope.list;
                            let ties = ddl.ddl.targets.iter().any(|table| list.admits(table));
                            let references = ddl.ddl.references.iter().filter(|_| ties);
                            let mut named = ddl.ddl.targets.iter().chain(references);
                            if let Some(table) = named.find(|table| self.targets.contains_key(table)) {
                                return Ok(Some((reading.n, table.clone())));
                            }
                            reading.is_ours = false;
                        }
                        Action::Map(map) => match self.targets.get(&map.table) {
                            Some(shadow) => {
                                reading.maps.add(TableMap::renamed(&event, shadow)?, map.table_id, false)
                            }
                            None => reading.maps.add(event, map.table_id, true),
                        },
                        Action::Rows(header) => match reading.maps.take(&header) {
                            Some(maps) => {
                                self.check_packet(reading.n, event.bytes().len() as u64)?;
                                for map in maps {
                                    reading.packer.map(map)?;
                                }
                                full = reading.packer.rows(event, header)?;
                            }
                            None if header.ends_statement() => reading.packer.end_statement(),
                            None => {}
                        },
                        Action::Savepoint(text) => {
                            reading.maps = Maps::default();
                            reading.packer.statement(text.as_bytes())?;
                        }
                        Action::Commit => {}
                    }
                    for piece in full {
                        if !reading.send(sender, piece) {
                            return Ok(None);
                        }
                    }
                }
                Item::End => {
                    gate.end()?;
                    if let Some(reading) = current.take()
                        && !reading.finish(sender)?
                    {
                        return Ok(None);
                    }
                }
            }
        }
        Ok(None)
    }

    /// Bytes of events in a piece: two of them fit into a query together.
    fn piece_size(&self) -> usize {
        events_in(self.server.max_allowed_packet / 2).min(PIECE as u64) as usize
    }

    fn check_packet(&self, n: u64, bytes: u64) -> Result<()> {
        let (needed, limit) = (statement_length(bytes), self.server.max_allowed_packet);
        if needed <= limit {
            return Ok(());
        }
        let message = format!(
            "{}: a row event needs a statement of {needed} bytes, max_allowed_packet here is {limit}",
            doing(n)
        );
        let mib = needed.div_ceil(1 << 20);
        Err(Error::new(Kind::Failed, message)
            .hint(format!("SET PERSIST max_allowed_packet={}; it is tried again by itself", mib << 20)))
    }

    /// Why transaction `n` could not be run.
    async fn explain(&self, fetched: &Fetched, error: RunError, n: u64) -> Error {
        let is_passing = is_passing(&error);
        let (code, state, message) = match error {
            RunError::Server { code, state, message, .. } => (code, state, message),
            RunError::Lost(error) => return error.during(doing(n)),
        };
        let error = mysql::server_error(code, &state, &message, &doing(n));
        if is_passing || error.kind() != Kind::Mysql || mysql::lacks_room(code) {
            return error;
        }
        // The server speaks of the shadow.
        let target = self.targets.iter().find(|(_, shadow)| message.contains(&shadow.table));
        let (trouble, (table, shadow)) = match (drift::trouble(code), target) {
            (Some(trouble), Some(target)) => (trouble, target),
            (Some(_), None) => return error,
            (None, _) => {
                return Error::new(Kind::Drift, format!("{}: {message}", doing(n)))
                    .hint(OTHER_DUMP)
                    .caused_by(format!("ERROR {code} ({state})"));
            }
        };
        // The server names the key of a row only where that is there twice.
        let mut key = None;
        if code == NO_SUCH_ROW
            && let Ok(mut conn) = mysql::connect(&self.config).await
        {
            key = drift::missing_key(&mut conn, fetched, table, shadow, n).await;
        }
        let key = key.map_or_else(String::new, |key| format!(", key {key}"));
        let message = message.replace(&shadow.table, &table.table);
        Error::new(
            Kind::Drift,
            format!(
                "{} on {table}{key}: {trouble}: {message}: the dump and the stream do not fit together",
                doing(n)
            ),
        )
        .hint(OTHER_DUMP)
        .caused_by(format!("ERROR {code} ({state})"))
    }
}

fn doing(n: u64) -> String {
    format!("bring shadow tables to stream transaction {n}")
}

/// How a segment ended.
enum Ended {
    Whole,
    Stopped,
    Ddl {
        n: u64,
        table: TableName,
    },
    /// A statement failed.
    Stuck(RunError),
}

/// What the reader of a segment hands on.
enum Step {
    Begin {
        n: u64,
        session: Box<session::Session>,
    },
    /// With what ends when it has been run, or waits for more.
    Piece(Piece, oneshot::Sender<()>),
    End,
}

/// The transaction that is being read.
struct Reading {
    n: u64,
    /// Not DDL on other tables, with or without rows.
    is_ours: bool,
    /// Until it has been handed on: a transaction of which nothing is kept never is.
    session: Option<Box<session::Session>>,
    maps: Maps,
    packer: Packer,
}

impl Reading {
    fn new(n: u64, piece: usize) -> Reading {
        Reading { n, is_ours: true, session: None, maps: Maps::default(), packer: Packer::new(piece) }
    }

    /// Says whether anybody takes it.
    fn send(&mut self, sender: &mpsc::Sender<Step>, piece: Piece) -> bool {
        if let Some(session) = self.session.take()
            && sender.blocking_send(Step::Begin { n: self.n, session }).is_err()
        {
            return false;
        }
        piece.hand_on(|piece, run| sender.blocking_send(Step::Piece(piece, run)).is_ok())
    }

    fn finish(mut self, sender: &mpsc::Sender<Step>) -> Result<bool> {
        let packer = std::mem::replace(&mut self.packer, Packer::new(0));
        let last = packer.finish()?;
        if !self.is_ours {
            return Ok(true);
        }
        if last.results > 0 && !self.send(sender, last) {
            return Ok(false);
        }
        Ok(self.session.is_some() || sender.blocking_send(Step::End).is_ok())
    }
}

/// What goes into one local transaction.
struct Batch<'a> {
    with: &'a CatchUp,
    /// The most of the stream's transactions.
    most: usize,
    /// Everything up to here has been committed.
    done: u64,
    /// The transaction that came last.
    at: u64,
    is_open: bool,
    count: usize,
    size: usize,
    /// Not yet sent.
    piece: Piece,
}

impl<'a> Batch<'a> {
    fn new(with: &'a CatchUp, done: u64, most: usize) -> Batch<'a> {
        Batch { with, most, done, at: done, is_open: false, count: 0, size: 0, piece: Piece::default() }
    }

    /// The next transaction joins, or the one before ends here.
    async fn begin(&mut self, session: &mut Session, n: u64, of: &session::Session) -> Result<(), RunError> {
        let is_full = self.count >= self.most || self.size >= BATCH_SIZE;
        if self.is_open && (is_full || !session.is_in(of)) {
            self.commit(session).await?;
        }
        if !self.is_open {
            self.piece.append(&session.opening_of_ours(of));
            self.piece.push(b"BEGIN");
            self.is_open = true;
        }
        self.at = n;
        Ok(())
    }

    async fn add(&mut self, session: &mut Session, piece: Piece) -> Result<(), RunError> {
        // A query never holds more than one piece that may be as large as the server takes.
        if self.piece.len() + piece.len() > PIECE {
            self.send(session).await?;
            failpoint::hit("restore.in_catch_up");
        }
        self.size += piece.len();
        self.piece.append(&piece);
        if piece.is_large() {
            drop(piece);
            self.send(session).await?;
        }
        Ok(())
    }

    fn end(&mut self) {
        self.count += 1;
    }

    async fn send(&mut self, session: &mut Session) -> Result<(), RunError> {
        let piece = std::mem::take(&mut self.piece);
        session.run(&piece).await
    }

    async fn commit(&mut self, session: &mut Session) -> Result<(), RunError> {
        if !self.is_open {
            return Ok(());
        }
        self.send(session).await?;
        let mut end = Piece::default();
        end.push((self.with.record)(self.at).as_bytes());
        end.push(b"COMMIT");
        failpoint::hit("restore.before_catch_up_commit");
        session.run(&end).await?;
        failpoint::hit("restore.caught_up");
        self.done = self.at;
        (self.is_open, self.count, self.size) = (false, 0, 0);
        Ok(())
    }
}
