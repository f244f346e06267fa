//! FORMAT_DESCRIPTION: the first event of a file, which says how the others are laid out.
//!
//! `Format_description_event` in libs/mysql/binlog/event/control_events.h. The layouts that the parsers here rely
//! on have not changed since MySQL 5.6; a description that says otherwise is refused, so that no parser has to ask.

use super::{CHECKSUM_LEN, Checksum, Event, HEADER_LEN, Header, kind};
use crate::binlog::wire::Cursor;
use crate::error::{Error, Kind, Result};

const SERVER_VERSION_LEN: usize = 50;
/// Version, server version, creation time, header length.
const FIXED_LEN: usize = 2 + SERVER_VERSION_LEN + 4 + 1;

/// Post-header lengths that the parsers of this crate expect.
const EXPECTED: [(u8, u8); 13] = [
    (kind::QUERY, 13),
    (kind::ROTATE, 8),
    (kind::TABLE_MAP, 8),
    (kind::EXECUTE_LOAD_QUERY, 26),
    (kind::WRITE_ROWS_V1, 8),
    (kind::UPDATE_ROWS_V1, 8),
    (kind::DELETE_ROWS_V1, 8),
    (kind::WRITE_ROWS, 10),
    (kind::UPDATE_ROWS, 10),
    (kind::DELETE_ROWS, 10),
    (kind::PARTIAL_UPDATE_ROWS, 10),
    (kind::GTID, 42),
    (kind::ANONYMOUS_GTID, 42),
];

/// What a server says about the binlog that it writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatDescription {
    /// As the server prints it: `8.4.3`, `9.7.4-log`.
    pub server_version: String,
    /// Of the events that follow in the same file or on the same connection.
    pub checksum: Checksum,
    pub server_id: u32,
    /// When the server wrote it.
    pub timestamp: u32,
    post_header_lengths: Vec<u8>,
}

impl FormatDescription {
    pub fn parse(event: &Event) -> Result<FormatDescription> {
        let mut input = Cursor::new("format description event", event.body());
        if event.kind() != kind::FORMAT_DESCRIPTION {
            return Err(input.corrupt(format_args!("this is a {} event", event.header().name())));
        }
        let version = input.u16()?;
        if version != 4 {
            return Err(input.corrupt(format_args!("binlog format {version}, not 4")));
        }
        let name = input.bytes(SERVER_VERSION_LEN)?;
        let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
        let Ok(server_version) = std::str::from_utf8(name) else {
            return Err(input.corrupt("the server's version is not text"));
        };
        let _created = input.u32()?;
        let header_len = input.u8()?;
        if usize::from(header_len) != HEADER_LEN {
            return Err(input.corrupt(format_args!("event headers of {header_len} bytes, not {HEADER_LEN}")));
        }
        // Everything but the checksum algorithm, which is the last byte.
        let post_header_lengths = input.bytes(input.remaining().saturating_sub(1))?.to_vec();
        let checksum = algorithm(&mut input)?;
        for (kind, expected) in EXPECTED {
            match post_header_lengths.get(usize::from(kind) - 1) {
                Some(&found) if found != expected && found != 0 => {
                    let name = kind::name(kind);
                    let why = format!("{name} events have {found} bytes of fixed data, not {expected}");
                    return Err(input.corrupt(why));
                }
                // A server that does not know this kind of event, or no longer (9.7 has 0 for version 1 of
                // the rows events), does not write it.
                _ => {}
            }
        }
        let header = event.header();
        Ok(FormatDescription {
            server_version: server_version.to_owned(),
            checksum,
            server_id: header.server_id,
            timestamp: header.timestamp,
            post_header_lengths,
        })
    }

    /// Whether it knows table maps and rows, and lays them out as they are read here. 0 stands for an event that its server
    /// does not write.
    pub fn lays_out_rows(&self) -> bool {
        const WRITTEN: [u8; 4] = [kind::TABLE_MAP, kind::WRITE_ROWS, kind::UPDATE_ROWS, kind::DELETE_ROWS];
        let mut expected = EXPECTED.iter().filter(|(kind, _)| WRITTEN.contains(kind));
        expected
            .all(|(kind, expected)| self.post_header_lengths.get(usize::from(*kind) - 1) == Some(expected))
    }

    /// As the first event of a segment: with a checksum, as of a file that was closed in good order. A creation
    /// time would make a server that executes it drop its temporary tables.
    pub fn to_event(&self) -> Event {
        let mut body = Vec::with_capacity(FIXED_LEN + self.post_header_lengths.len() + 1);
        body.extend(4u16.to_le_bytes());
        let name = self.server_version.as_bytes();
        body.extend(&name[..name.len().min(SERVER_VERSION_LEN)]);
        body.resize(2 + SERVER_VERSION_LEN, 0);
        body.extend(0u32.to_le_bytes());
        body.push(HEADER_LEN as u8);
        body.extend(&self.post_header_lengths);
        body.push(1);
        let header = Header {
            timestamp: self.timestamp,
            kind: kind::FORMAT_DESCRIPTION,
            server_id: self.server_id,
            size: 0,
            log_pos: (4 + HEADER_LEN + body.len() + CHECKSUM_LEN) as u32,
            flags: 0,
        };
        Event::build(header, &body, Checksum::Crc32)
    }

    /// Whether events written under the one can stand in a file of the other.
    pub fn is_same_format(&self, other: &FormatDescription) -> bool {
        self.server_version == other.server_version && self.post_header_lengths == other.post_header_lengths
    }

    /// Major, minor, patch; zero for what is not a number.
    pub fn version(&self) -> (u16, u16, u16) {
        let mut parts =
            self.server_version.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().ok());
        let mut next = || parts.next().flatten().unwrap_or(0);
        (next(), next(), next())
    }
}

/// Which checksum a format description announces. It always ends with four bytes for its own checksum, which
/// mean something only if the algorithm says so: a server with checksums off leaves them as they come.
pub(super) fn checksum_of(event: &[u8]) -> Result<Checksum> {
    if event.len() < HEADER_LEN + FIXED_LEN + 1 + CHECKSUM_LEN {
        let what = format!("read a Format_desc event: {} bytes are too few", event.len());
        return Err(Error::new(Kind::Corrupt, what));
    }
    let at = event.len() - CHECKSUM_LEN - 1;
    algorithm(&mut Cursor::new("format description event", &event[at..at + 1]))
}

fn algorithm(input: &mut Cursor<'_>) -> Result<Checksum> {
    match input.u8()? {
        0 => Ok(Checksum::None),
        1 => Ok(Checksum::Crc32),
        other => Err(input.corrupt(format_args!("unknown checksum algorithm {other}"))),
    }
}
