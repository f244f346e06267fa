//! Reading a segment.

use std::io::Read;

use uuid::Uuid;

use super::{BEGIN, COMMIT};
use crate::binlog::event::{
    Checksum, Event, FormatDescription, GtidEvent, Header, MAGIC, MAX_EVENT_LEN, failed, kind, query_text,
    read_event_of,
};
use crate::binlog::gtid::{Gtid, GtidSet, Tsid};
use crate::binlog::note::Note;
use crate::error::{Error, Kind, Result};

const WHENCE: &str = "a segment";

/// Most bytes of an event that carries no rows: statements and definitions are far smaller, and a few bytes of a compressed
/// object would be a gigabyte.
const WITHOUT_ROWS: u32 = 64 << 20;
/// No server before this one is a source. Of some older ones a description would give numbers of events another meaning.
const OLDEST: u16 = 8;

/// Reads one segment, event after event.
pub struct SegmentReader<R: Read> {
    input: R,
    format: Event,
    description: FormatDescription,
    /// Not known before the first transaction of the first segment, unless it was given.
    stream: Option<Uuid>,
    next_n: u64,
    position: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Between,
    /// `end`: where the transaction's length says that it ends.
    Inside {
        end: u64,
        shape: Shape,
    },
    /// The last event of a transaction has been given.
    Ended,
    /// STOP has been read.
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// Nothing behind the note so far.
    Unknown,
    /// BEGIN … XID or COMMIT.
    Opened,
}

/// How a transaction begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionHead {
    /// Its number in the stream.
    pub n: u64,
    /// It must not start before every transaction up to this one has committed; 0: none.
    pub depends_on: u64,
    pub source_gtid: Gtid,
    pub note: Note,
    /// Microseconds since 1970 at the source, and at the server where it began.
    pub commit_us: u64,
    pub original_commit_us: u64,
    /// Seconds since 1970, of the GTID event.
    pub timestamp: u32,
    /// Of all its events, the GTID event included.
    pub length: u64,
}

#[derive(Debug)]
pub enum Item {
    Begin(TransactionHead),
    Event(Event),
    /// After XID, COMMIT or the DDL statement.
    End,
}

impl<R: Read> SegmentReader<R> {
    /// Reads the file's head. With `expected_stream`, a segment of another stream is refused.
    pub fn new(mut input: R, expected_stream: Option<Uuid>) -> Result<Self> {
        let mut magic = Vec::new();
        let taken = input.by_ref().take(MAGIC.len() as u64).read_to_end(&mut magic);
        taken.map_err(|cause| failed(WHENCE, cause))?;
        if magic != MAGIC {
            return Err(corrupt(0, "it does not begin as a binlog does"));
        }
        let mut position = MAGIC.len() as u64;
        let format = read_at(&mut input, &mut position, false)?;
        if format.kind() != kind::FORMAT_DESCRIPTION {
            return Err(corrupt(
                position,
                format_args!("{} in place of Format_desc", format.header().name()),
            ));
        }
        let description = FormatDescription::parse(&format)?;
        // A flag is the one thing in it that no checksum covers.
        if description.checksum != Checksum::Crc32 || format.header().flags != 0 {
            return Err(corrupt(position, "its format description is not one that tablecast writes"));
        }
        // The server reads rows by it as well, and must find in them what is found here.
        if description.version().0 < OLDEST || !description.lays_out_rows() {
            let version = &description.server_version;
            return Err(corrupt(
                position,
                format_args!("no source of version {version:?} lays out events like this"),
            ));
        }
        let previous = read_at(&mut input, &mut position, false)?;
        if previous.kind() != kind::PREVIOUS_GTIDS {
            let found = previous.header().name();
            return Err(corrupt(position, format_args!("{found} in place of Previous_gtids")));
        }
        let before = GtidSet::decode(previous.body())?;
        let spaces: Vec<(&Tsid, &[(u64, u64)])> = before.intervals().collect();
        let (stream, next_n) = match spaces[..] {
            [] => (None, 1),
            [(Tsid { uuid, tag: None }, &[(1, last)])] => (Some(*uuid), last + 1),
            _ => return Err(corrupt(position, format_args!("{before} is not a stream's past"))),
        };
        if let (Some(stream), Some(expected)) = (stream, expected_stream)
            && stream != expected
        {
            return Err(corrupt(position, format_args!("it is of stream {stream}, not of {expected}")));
        }
        Ok(SegmentReader {
            input,
            format,
            description,
            stream: stream.or(expected_stream),
            next_n,
            position,
            state: State::Between,
        })
    }

    /// None before the first transaction of a stream's first segment.
    pub fn stream(&self) -> Option<Uuid> {
        self.stream
    }

    /// The number that the next transaction has.
    pub fn next_n(&self) -> u64 {
        self.next_n
    }

    /// The event that a server must be given before any row of this segment.
    pub fn format_description(&self) -> &Event {
        &self.format
    }

    /// The same, read.
    pub fn format(&self) -> &FormatDescription {
        &self.description
    }

    /// None at the end, and only if the segment is whole. After an error the reader is of no more use.
    #[expect(
        clippy::should_implement_trait,
        reason = "it can fail; callers want `?`, not a Result in an Option"
    )]
    pub fn next(&mut self) -> Result<Option<Item>> {
        match self.state {
            State::Between => self.begin(),
            State::Inside { end, shape } => self.inside(end, shape).map(Some),
            State::Ended => {
                self.state = State::Between;
                Ok(Some(Item::End))
            }
            State::Stopped => Ok(None),
        }
    }

    fn begin(&mut self) -> Result<Option<Item>> {
        let start = self.position;
        let event = read_at(&mut self.input, &mut self.position, false)?;
        match event.kind() {
            kind::GTID => {}
            kind::STOP => {
                let mut more = [0];
                match self.input.read(&mut more).map_err(|cause| failed(WHENCE, cause))? {
                    0 => self.state = State::Stopped,
                    _ => return Err(corrupt(self.position, "there are bytes behind its end")),
                }
                return Ok(None);
            }
            _ => {
                let found = event.header().name();
                return Err(corrupt(start, format_args!("{found} where a transaction should begin")));
            }
        }
        let gtid = GtidEvent::parse(&event)?;
        let n = match &gtid.gtid {
            Some(Gtid { tsid: Tsid { uuid, tag: None }, number })
                if self.stream.is_none_or(|stream| stream == *uuid) && *number == self.next_n =>
            {
                self.stream = Some(*uuid);
                *number
            }
            other => {
                let (stream, expected) = (self.stream.unwrap_or_default(), self.next_n);
                let found = other.as_ref().map(ToString::to_string).unwrap_or_default();
                return Err(corrupt(start, format_args!("{found:?} where {stream}:{expected} should be")));
            }
        };
        if gtid.sequence_number != n || gtid.last_committed >= n {
            let (last_committed, sequence) = (gtid.last_committed, gtid.sequence_number);
            return Err(corrupt(
                start,
                format_args!("transaction {n} has clock {last_committed}, {sequence}"),
            ));
        }
        let note_event = read_at(&mut self.input, &mut self.position, false)?;
        let Some(note) = Note::from_event(&note_event)? else {
            let found = note_event.header().name();
            return Err(corrupt(
                self.position,
                format_args!("{found} in place of the note of transaction {n}"),
            ));
        };
        let end = start.saturating_add(gtid.transaction_length);
        if end <= self.position {
            let length = gtid.transaction_length;
            return Err(corrupt(start, format_args!("transaction {n} says that it has {length} bytes")));
        }
        self.next_n = n + 1;
        self.state = State::Inside { end, shape: Shape::Unknown };
        Ok(Some(Item::Begin(TransactionHead {
            n,
            depends_on: gtid.last_committed,
            source_gtid: note.source_gtid.clone(),
            note,
            commit_us: gtid.immediate_commit_us,
            original_commit_us: gtid.original_commit_us,
            timestamp: event.header().timestamp,
            length: gtid.transaction_length,
        })))
    }

    /// The length in the GTID event and the event that ends a transaction must agree about where that is.
    fn inside(&mut self, end: u64, shape: Shape) -> Result<Item> {
        let start = self.position;
        let event = read_at(&mut self.input, &mut self.position, shape == Shape::Opened)?;
        let text = match event.kind() {
            kind::QUERY => query_text(&event)?,
            _ => &[],
        };
        let out_of_place = || {
            let (found, n) = (event.header().name(), self.next_n - 1);
            corrupt(start, format_args!("{found} is not in its place in transaction {n}"))
        };
        let ends = match (shape, event.kind()) {
            (Shape::Unknown, kind::QUERY) if text == BEGIN => false,
            (Shape::Unknown, kind::QUERY) => true,
            (Shape::Unknown, _) => return Err(out_of_place()),
            (Shape::Opened, kind::XID) => true,
            (Shape::Opened, kind::QUERY) => text == COMMIT,
            (Shape::Opened, kind::TABLE_MAP) => false,
            (Shape::Opened, kind) if kind::is_rows(kind) => false,
            (Shape::Opened, _) => return Err(out_of_place()),
        };
        if ends != (self.position == end) {
            return Err(corrupt(start, format_args!("transaction {} should end at {end}", self.next_n - 1)));
        }
        self.state = if ends { State::Ended } else { State::Inside { end, shape: Shape::Opened } };
        Ok(Item::Event(event))
    }
}

/// The next event, which must be there and know its own position. `rows`: whether rows may come here.
fn read_at<R: Read>(input: &mut R, position: &mut u64, rows: bool) -> Result<Event> {
    let most =
        |header: &Header| if rows && kind::is_rows(header.kind) { MAX_EVENT_LEN } else { WITHOUT_ROWS };
    let Some(event) = read_event_of(input, Checksum::Crc32, WHENCE, most)? else {
        return Err(corrupt(*position, "it ends before its end"));
    };
    *position += event.bytes().len() as u64;
    let claimed = event.header().log_pos;
    if claimed != *position as u32 {
        let found = event.header().name();
        return Err(corrupt(*position, format_args!("a {found} event says that it ends at {claimed}")));
    }
    Ok(event)
}

fn corrupt(position: u64, why: impl std::fmt::Display) -> Error {
    Error::new(Kind::Corrupt, format!("read {WHENCE} at {position}: {why}"))
}
