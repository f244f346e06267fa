//! The filter: the source's binlog in, transactions of the table set out.
//!
//! It takes events as the source sends them and gives, at the end of each transaction, what is to be kept of it:
//! row changes of tables in the set with their table maps, table DDL whose tables are all in the set, nothing
//! else. A transaction that leaves nothing is `Foreign`. It decides by table maps and by `ddl::classify`; the
//! rows themselves are never read.
//!
//! It refuses (`Kind::Gate`) whatever touches the set in a way that cannot be carried faithfully: changes as
//! statements, XA, DDL that mixes tables of the set with others, anonymous transactions. After an error the
//! filter is of no more use: what was given before it stands, what would follow does not exist.
//!
//! In memory it holds one event, and of a transaction no more than a spool does.

mod open;
mod payload;
mod rows;
mod statement;
#[cfg(test)]
mod tests;
mod watch;
mod zone;

use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::clock::SourceClock;
use super::ddl::SchemaDdl;
use super::event::{Checksum, Event, FormatDescription, GtidEvent, Header, kind};
use super::gtid::Gtid;
use super::name::TableSet;
use super::spool::Spool;
pub use super::transaction::Transaction;
use crate::error::{Error, Kind, Result};
pub use watch::{SetChange, SetRow, is_table_set};
pub use zone::SystemZone;

use open::Open;

/// What an event led to.
#[derive(Debug)]
pub enum Step {
    More,
    /// The source writes another format from here on (always given before the first transaction): a segment
    /// that was begun under another one must be cut.
    Format(FormatDescription),
    /// A transaction that leaves nothing in the stream but its GTID in the covered set.
    Foreign(Foreign),
    Kept(Box<Transaction>),
    /// The stream's table set is another one from here on: see [`Filter::take_on`].
    TableSet(Box<SetChange>),
}

#[derive(Debug)]
pub struct Foreign {
    pub gtid: Gtid,
    /// When it committed at the server where it was made, in microseconds since 1970 by that server's clock: a
    /// replica's own clock would tell nothing about how far it has come.
    pub commit_us: u64,
    /// CREATE, ALTER or DROP DATABASE, so that upload can keep track of the schemas' defaults.
    pub schema: Option<SchemaDdl>,
    /// With it, the session's collation_server: what a CREATE DATABASE takes that names none.
    pub server_collation: Option<u16>,
    /// Rows of `tablecast.table_set` that tell of this stream were changed or deleted.
    pub set_meddled: bool,
}

/// A transaction of rows that is still being read.
#[derive(Debug)]
pub struct UnderWay<'a> {
    pub gtid: &'a Gtid,
    pub gtid_event: &'a GtidEvent,
    pub events: &'a mut Spool,
}

/// Takes the events of one source in the order of its binlog.
#[derive(Debug)]
pub struct Filter {
    scope: Scope,
    /// Which file of the source this is, for the logical clock.
    file: u64,
    open: Option<Box<Open>>,
}

/// What does not change from transaction to transaction.
#[derive(Debug)]
struct Scope {
    set: TableSet,
    folder: PathBuf,
    zone: SystemZone,
    /// Changes of this stream's table set are told.
    stream: Option<Uuid>,
    format: Option<FormatDescription>,
}

impl Filter {
    /// `spool_dir` is where a transaction goes that does not fit in memory.
    pub fn new(set: TableSet, spool_dir: &Path) -> Filter {
        let folder = spool_dir.to_owned();
        let scope = Scope { set, folder, zone: SystemZone::AsWritten, stream: None, format: None };
        Filter { scope, file: 0, open: None }
    }

    /// Tells changes of this stream's table set, by [`Step::TableSet`].
    pub fn watching(mut self, stream: Uuid) -> Filter {
        self.scope.stream = Some(stream);
        self
    }

    /// Between two transactions: those that follow are of another table set.
    pub fn take_on(&mut self, set: TableSet) {
        self.scope.set = set;
    }

    /// What the time zone `SYSTEM` of the source's sessions stands for.
    pub fn with_system_zone(mut self, zone: SystemZone) -> Filter {
        self.scope.zone = zone;
        self
    }

    /// Takes the next event of the source's binlog, as it comes: artificial ones included.
    pub fn push(&mut self, event: Event) -> Result<Step> {
        match event.kind() {
            kind::FORMAT_DESCRIPTION => self.new_file(&event),
            kind::ROTATE | kind::STOP | kind::PREVIOUS_GTIDS => {
                self.none_open(&event)?;
                Ok(Step::More)
            }
            kind::HEARTBEAT | kind::HEARTBEAT_V2 => Ok(Step::More),
            kind::INCIDENT => Err(incident(&event)),
            kind::GTID | kind::GTID_TAGGED | kind::ANONYMOUS_GTID => self.begin(&event),
            kind::TRANSACTION_PAYLOAD => {
                let body = io::Cursor::new(event.body());
                self.payload(event.header(), body)
            }
            _ => self.inside(event),
        }
    }

    /// Takes a TRANSACTION_PAYLOAD that is too large to hold. `body` begins behind its header. With
    /// `Checksum::Crc32` it ends with its checksum, which is verified before anything is unpacked; with
    /// `Checksum::None` it ends with the payload: it had no checksum, or whoever took it in has verified it.
    pub fn push_payload(
        &mut self,
        header: Header,
        mut body: impl Read + Seek,
        checksum: Checksum,
    ) -> Result<Step> {
        match checksum {
            Checksum::None => self.payload(header, io::BufReader::new(body)),
            Checksum::Crc32 => {
                let body = payload::verified(header, &mut body)?;
                self.payload(header, io::BufReader::new(body))
            }
        }
    }

    pub fn is_between_transactions(&self) -> bool {
        self.open.is_none()
    }

    /// The transaction that is being read, if there are at least so many bytes of it to take away from here. What is
    /// taken is not in the [`Transaction`] that [`Step::Kept`] gives; whether there will be one is not known before.
    pub fn under_way(&mut self, at_least: u64) -> Option<UnderWay<'_>> {
        self.open.as_mut()?.under_way(at_least)
    }

    fn new_file(&mut self, event: &Event) -> Result<Step> {
        self.none_open(event)?;
        let format = FormatDescription::parse(event)?;
        self.file += 1;
        if self.scope.format.as_ref().is_some_and(|known| known.is_same_format(&format)) {
            return Ok(Step::More);
        }
        self.scope.format = Some(format.clone());
        Ok(Step::Format(format))
    }

    fn begin(&mut self, event: &Event) -> Result<Step> {
        self.none_open(event)?;
        if self.scope.format.is_none() {
            let what = format!("read the source's binlog: {event:?} before any format description");
            return Err(Error::new(Kind::Corrupt, what));
        }
        let gtid_event = GtidEvent::parse(event)?;
        let Some(gtid) = gtid_event.gtid.clone() else {
            let at = event.header().log_pos;
            let what =
                format!("read the source's binlog: the transaction that begins before {at} has no GTID");
            let hint = "the source needs gtid_mode=ON and enforce_gtid_consistency=ON";
            return Err(Error::new(Kind::Gate, what).hint(hint));
        };
        let clock = SourceClock {
            file: self.file,
            last_committed: gtid_event.last_committed,
            sequence_number: gtid_event.sequence_number,
        };
        self.open = Some(Box::new(Open::new(gtid, gtid_event, event.header(), clock)));
        Ok(Step::More)
    }

    fn inside(&mut self, event: Event) -> Result<Step> {
        let Some(open) = &mut self.open else {
            let what = format!("read the source's binlog: {event:?} outside a transaction");
            return Err(Error::new(Kind::Corrupt, what));
        };
        let done = open.push(&self.scope, event).map_err(|error| in_transaction(&open.gtid, error))?;
        if !done {
            return Ok(Step::More);
        }
        match self.open.take() {
            Some(open) => open.finish(),
            None => Ok(Step::More),
        }
    }

    fn payload(&mut self, header: Header, body: impl Read) -> Result<Step> {
        let Some(open) = &self.open else {
            let what = format!("read the source's binlog: {} outside a transaction", header.name());
            return Err(Error::new(Kind::Corrupt, what));
        };
        let gtid = open.gtid.clone();
        let mut last = Step::More;
        payload::unpack(body, |event| {
            // Nothing follows the end of its transaction; the position is that of the payload.
            if !matches!(last, Step::More) {
                return Err(Error::new(Kind::Corrupt, format!("{event:?} behind the transaction's end")));
            }
            last = self.inside(event)?;
            Ok(())
        })
        .map_err(|error| in_transaction(&gtid, error))?;
        match last {
            Step::More => {
                let what = "its compressed payload ends before the transaction does";
                Err(in_transaction(&gtid, Error::new(Kind::Corrupt, what)))
            }
            step => Ok(step),
        }
    }

    fn none_open(&self, event: &Event) -> Result<()> {
        match &self.open {
            None => Ok(()),
            Some(open) => {
                let what = format!("{event:?} before the transaction's end");
                Err(in_transaction(&open.gtid, Error::new(Kind::Corrupt, what)))
            }
        }
    }
}

/// Says which transaction an error is about, once.
fn in_transaction(gtid: &Gtid, error: Error) -> Error {
    let operation = format!("read source transaction {gtid}");
    if error.to_string().starts_with(&operation) {
        return error;
    }
    let mut named = Error::new(error.kind(), format!("{operation}: {error}"));
    if let Some(hint) = error.hint_text() {
        named = named.hint(hint);
    }
    match std::error::Error::source(&error).map(ToString::to_string) {
        Some(cause) => named.caused_by(cause),
        None => named,
    }
}

fn incident(event: &Event) -> Error {
    let body = event.body();
    // Incident number (2 bytes), length (1 byte), message: `Incident_event` in control_events.h.
    let message = String::from_utf8_lossy(body.get(3..).unwrap_or_default());
    let at = event.header().log_pos;
    let what = format!("read the source's binlog: it records an incident before {at}: {message}");
    let hint = "the source lost changes that are not in its binlog: repair it, then every region needs a new copy \
                of the tables";
    Error::new(Kind::History, what).hint(hint)
}
