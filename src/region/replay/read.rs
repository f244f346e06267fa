//! A checked segment as jobs: read a second time, through the gate again, and packed into statements.
//!
//! Small transactions are packed whole. A large one is handed over while it is read, piece by piece, so that
//! memory stays bounded whatever its size.
//!
//! What belongs to a table in quarantine, or to one that is not let in, is left out here, behind the gate: that reads everything. A transaction of
//! which nothing is left commits empty, under its GTID. Savepoints stay, so that going back to one means the same.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use uuid::Uuid;

use super::statement::{Packer, Piece};
use crate::binlog::event::{Event, RowsHeader};
use crate::binlog::name::TableSet;
use crate::binlog::segment::{Item, TransactionHead};
use crate::binlog::session;
use crate::region::gate::{Action, Ddl, Gate};
use crate::region::position::Executed;
use crate::region::quarantine::Passing;
use crate::region::scope::Scope;
use crate::region::segments::{self, Spooled};
use crate::stream::SegmentEntry;
use crate::{Error, Kind, Result};

/// Bytes of events in one piece, at most.
pub const PIECE: usize = 512 * 1024;

/// One transaction to run.
pub struct Job {
    pub head: TransactionHead,
    pub opening: Opening,
    pub body: Body,
    /// The format description of the segment's events.
    pub format: Arc<Vec<u8>>,
    /// Its share of the memory that waiting jobs may take.
    _share: OwnedSemaphorePermit,
}

/// Where jobs go, and how much of them may wait there.
pub struct Outlet {
    pub jobs: mpsc::Sender<Job>,
    pub memory: Arc<Semaphore>,
    /// To wait for memory on a thread that is not the runtime's.
    pub runtime: tokio::runtime::Handle,
}

/// Memory is shared out in pieces of this size.
const SHARE: usize = 1024;

/// How many shares there are: all waiting jobs together take no more, nearly.
pub const SHARES: usize = 12 * 1024 * 1024 / SHARE;

/// What begins a transaction.
pub enum Opening {
    Rows(Box<session::Session>),
    Ddl(Box<Ddl>),
}

/// What follows, up to the commit.
pub enum Body {
    /// All of it; can be run again.
    Whole(Piece),
    /// As it comes. If it ends without [`Part::Last`], the rest could not be read: do not commit.
    Stream(mpsc::Receiver<Part>),
}

pub enum Part {
    /// With what ends when it has been run.
    More(Piece, oneshot::Sender<()>),
    Last(Piece),
}

/// Which transactions of a segment to read.
pub struct Wanted {
    pub executed: Executed,
    /// What of them is passed over.
    pub passing: Passing,
    /// The last one to run.
    pub until: u64,
    /// Bytes of events in one piece: what the server's packets take, and no more than [`PIECE`].
    pub piece: usize,
}

/// Reads the segment and sends its jobs in order, without those that the server has. Ends early, without an error, when nobody receives any more.
pub fn read(
    file: &Spooled,
    entry: &SegmentEntry,
    stream: Uuid,
    scope: &Scope,
    wanted: &Wanted,
    outlet: &Outlet,
) -> Result<()> {
    let mut reader = segments::open(file, entry, stream)?;
    let format = Arc::new(reader.format_description().bytes().to_vec());
    let (mut gate, tables) = (Gate::new(scope), &scope.list);
    let mut current: Option<Packing> = None;
    while let Some(item) = reader.next()? {
        match item {
            Item::Begin(head) => {
                if head.n > wanted.until {
                    break;
                }
                gate.begin(&head);
                current = (!wanted.executed.contains(head.n)).then(|| Packing::new(head, wanted.piece));
            }
            Item::Event(event) => {
                let action = gate.event(&event)?;
                let Some(packing) = &mut current else { continue };
                let n = packing.n;
                let mut full = Vec::new();
                match action {
                    Action::Begin(session) => packing.opening = Some(Opening::Rows(session)),
                    Action::Ddl(ddl) if wanted.passing.leaves_out(tables, &ddl.ddl, n) => {
                        packing.pass_over(*ddl, event.header().timestamp, tables)?;
                    }
                    Action::Ddl(ddl) => packing.opening = Some(Opening::Ddl(ddl)),
                    Action::Map(map) => {
                        let left_out = wanted.passing.covers(tables, &map.table, n);
                        packing.maps.add(event, map.table_id, left_out);
                    }
                    Action::Rows(header) => match packing.maps.take(&header) {
                        Some(maps) => {
                            for map in maps {
                                packing.packer.map(map)?;
                            }
                            full = packing.packer.rows(event, header)?;
                        }
                        None if header.ends_statement() => packing.packer.end_statement(),
                        None => {}
                    },
                    Action::Savepoint(text) => {
                        packing.maps = Maps::default();
                        packing.packer.statement(text.as_bytes())?;
                    }
                    Action::Commit => {}
                }
                for piece in full {
                    if packing.send(piece, &format, outlet).is_err() {
                        return Ok(());
                    }
                }
            }
            Item::End => {
                gate.end()?;
                if let Some(packing) = current.take()
                    && packing.finish(&format, outlet)?.is_err()
                {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// Nobody receives any more.
struct Abandoned;

/// The transaction that is being read.
struct Packing {
    n: u64,
    head: Option<TransactionHead>,
    opening: Option<Opening>,
    maps: Maps,
    packer: Packer,
    /// Once the job has been handed over: where the rest of it goes.
    rest: Option<mpsc::Sender<Part>>,
}

/// The table maps of the statement that is being read. They are handed on with the first of its row events that is
/// not left out: a map without rows is nothing that a server is ever sent.
#[derive(Default)]
pub struct Maps {
    held: Vec<Event>,
    left_out: BTreeSet<u64>,
    ended: bool,
}

impl Maps {
    pub fn add(&mut self, event: Event, table_id: u64, left_out: bool) {
        if self.ended {
            *self = Maps::default();
        }
        match left_out {
            true => drop(self.left_out.insert(table_id)),
            false => self.held.push(event),
        }
    }

    /// The maps that have to come before this row event; `None` if it is left out.
    pub fn take(&mut self, header: &RowsHeader) -> Option<Vec<Event>> {
        self.ended = header.ends_statement();
        (!self.left_out.contains(&header.table_id)).then(|| std::mem::take(&mut self.held))
    }
}

impl Job {
    /// What its statements take; `None` if they come piece by piece.
    pub fn size(&self) -> Option<usize> {
        match (&self.opening, &self.body) {
            (Opening::Rows(_), Body::Whole(piece)) => Some(piece.len()),
            _ => None,
        }
    }
}

impl Packing {
    fn new(head: TransactionHead, piece: usize) -> Self {
        let n = head.n;
        Self {
            n,
            head: Some(head),
            opening: None,
            maps: Maps::default(),
            packer: Packer::new(piece),
            rest: None,
        }
    }

    /// DDL that is left out: a transaction with nothing in it, or the removal of what is not there afterwards.
    fn pass_over(&mut self, ddl: Ddl, timestamp: u32, tables: &TableSet) -> Result<()> {
        // I6: a name that the list does not let in is somebody else's table here.
        let gone = ddl.ddl.gone().into_iter().filter(|table| tables.admits(table)).collect();
        if let Some(drop) = Ddl::drop_if_exists(gone, timestamp)? {
            self.opening = Some(Opening::Ddl(Box::new(drop)));
        } else if self.opening.is_none() {
            self.opening = Some(Opening::Rows(Box::new(ddl.session)));
        }
        Ok(())
    }

    /// Hands over a full piece, and with the first one the job.
    fn send(
        &mut self,
        piece: Piece,
        format: &Arc<Vec<u8>>,
        outlet: &Outlet,
    ) -> std::result::Result<(), Abandoned> {
        if self.rest.is_none() {
            let (sender, receiver) = mpsc::channel(1);
            self.rest = Some(sender);
            self.hand_over(Body::Stream(receiver), format, outlet)?;
        }
        let Some(rest) = &self.rest else { return Err(Abandoned) };
        let is_taken = piece.hand_on(|piece, run| rest.blocking_send(Part::More(piece, run)).is_ok());
        if is_taken { Ok(()) } else { Err(Abandoned) }
    }

    fn finish(
        mut self,
        format: &Arc<Vec<u8>>,
        outlet: &Outlet,
    ) -> Result<std::result::Result<(), Abandoned>> {
        let packer = std::mem::replace(&mut self.packer, Packer::new(0));
        let last = packer.finish()?;
        Ok(match &self.rest {
            Some(rest) => rest.blocking_send(Part::Last(last)).map_err(|_| Abandoned),
            None if self.opening.is_none() => {
                let n = self.n;
                return Err(Error::new(Kind::Corrupt, format!("stream transaction {n}: it does nothing")));
            }
            None => self.hand_over(Body::Whole(last), format, outlet),
        })
    }

    fn hand_over(
        &mut self,
        body: Body,
        format: &Arc<Vec<u8>>,
        outlet: &Outlet,
    ) -> std::result::Result<(), Abandoned> {
        let (Some(head), Some(opening)) = (self.head.take(), self.opening.take()) else {
            return Err(Abandoned);
        };
        let size = match &body {
            Body::Whole(piece) => piece.len(),
            Body::Stream(_) => PIECE,
        };
        let shares = (size / SHARE + 1).min(SHARES) as u32;
        let share = outlet.runtime.block_on(outlet.memory.clone().acquire_many_owned(shares));
        let job = Job { head, opening, body, format: format.clone(), _share: share.map_err(|_| Abandoned)? };
        outlet.jobs.blocking_send(job).map_err(|_| Abandoned)
    }
}
