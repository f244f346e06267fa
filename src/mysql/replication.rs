//! The binlog connection: asks a source, as a replica does, for every transaction outside a GTID set.
//!
//! Memory is bounded by one event; a compressed transaction above 16 MiB goes to a temp file as it arrives.
//! Nothing is unpacked or interpreted here but an event's header. A source that falls silent is an error: it
//! promised heartbeats.
//!
//! `com_binlog_dump_gtid` and `Binlog_sender` in sql/rpl_source.cc and sql/rpl_binlog_sender.cc.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::PathBuf;
use std::time::Duration;

use super::wire::{ServerError, Wire, command};
use crate::binlog::event::{CHECKSUM_LEN, HEADER_LEN, Header, MAX_EVENT_LEN, kind};
use crate::binlog::gtid::GtidSet;
use crate::config::MysqlConfig;
use crate::{Error, Kind, Result};

/// Compressed transactions above this size are put into a file.
pub const LARGE: usize = 16 << 20;

/// The source ends the dump at the end of its binlog (`BINLOG_DUMP_NON_BLOCK`).
const NON_BLOCKING: u16 = 1;
/// Where a binlog's first event stands, behind its magic number.
const FIRST_POSITION: u64 = 4;
/// A source may look through many old files before it sends anything; a dead one is noticed in this time.
const MIN_PATIENCE: Duration = Duration::from_secs(60);

/// What to ask for.
#[derive(Clone, Debug)]
pub struct Request {
    /// Must differ from every replica of this source.
    pub server_id: u32,
    /// Stay connected at the end of the binlog and wait for more; otherwise `next` ends there.
    pub follow: bool,
    /// How often the source says that it lives when it has nothing to send.
    pub heartbeat: Duration,
    /// Where events above 16 MiB are put.
    pub spool_dir: PathBuf,
}

/// One step of the binlog as the source sends it.
#[derive(Debug)]
pub enum Incoming {
    /// A whole event: header, body, and (if `crc`) its CRC32, not yet checked.
    Event { bytes: Vec<u8>, crc: bool },
    /// A TRANSACTION_PAYLOAD event above 16 MiB: its header, and its body without checksum in an unlinked
    /// file that stands at its start. The CRC32 has been checked.
    Large { header: [u8; HEADER_LEN], body: File },
}

/// An open binlog connection. After an error it is done for: connect again.
pub struct ReplicationStream {
    wire: Wire,
    spool_dir: PathBuf,
    /// Whether events end with a CRC32: what we asked for, then what each FORMAT_DESCRIPTION says.
    crc: bool,
    arriving: Arriving,
    at_end: bool,
}

/// The packet that is being received. It survives a `next` that is dropped half-way.
#[derive(Default)]
struct Arriving {
    /// The status byte that precedes each event.
    status: Option<u8>,
    bytes: Vec<u8>,
    spooled: Option<Spooled>,
}

/// An event on its way to a file: `bytes` holds its header.
struct Spooled {
    file: File,
    /// Of header and body so far.
    crc: crc32fast::Hasher,
    /// Bytes of the body still to come, before the checksum.
    body_left: usize,
    checksum: Vec<u8>,
}

impl ReplicationStream {
    /// Connects and asks for every transaction outside `covered`.
    ///
    /// `Kind::History` when the source has purged some of them; that may also be `next`'s first answer.
    pub async fn connect(config: &MysqlConfig, covered: &GtidSet, request: &Request) -> Result<Self> {
        let mut wire = Wire::connect(config).await?;
        wire.set_patience(Some(MIN_PATIENCE.max(request.heartbeat * 3)));
        let doing = format!("prepare the binlog connection to {config}");
        wire.query(session(request).as_bytes(), &doing).await?;
        wire.send(command::BINLOG_DUMP_GTID, &dump_command(covered, request)).await?;
        wire.begin_answer();
        Ok(ReplicationStream {
            wire,
            spool_dir: request.spool_dir.clone(),
            crc: true,
            arriving: Arriving::default(),
            at_end: false,
        })
    }

    /// The server's id of this connection, for messages and for tests that cut it.
    pub fn connection_id(&self) -> u32 {
        self.wire.connection_id()
    }

    /// The next event; `None` at the end of the binlog when not following.
    ///
    /// Cancel-safe: dropped half-way, the next call goes on where this one was.
    pub async fn next(&mut self) -> Result<Option<Incoming>> {
        if self.at_end {
            return Ok(None);
        }
        loop {
            // Between this await and the end of the loop's body nothing waits: no bytes can get lost.
            let len = self.wire.chunk().await.map_err(|e| e.during(self.doing()))?;
            if len == 0 {
                return self.whole_packet();
            }
            let bytes = self.wire.consume(len);
            self.take(&bytes)?;
        }
    }

    fn doing(&self) -> String {
        format!("read the binlog of {}", self.wire.peer())
    }

    fn garbled(&self, what: impl std::fmt::Display) -> Error {
        Error::new(Kind::Mysql, format!("{}: {what}", self.doing()))
    }

    /// Takes bytes of the packet that is arriving.
    fn take(&mut self, mut bytes: &[u8]) -> Result<()> {
        if self.arriving.status.is_none() {
            let Some((&status, rest)) = bytes.split_first() else { return Ok(()) };
            self.arriving.status = Some(status);
            bytes = rest;
        }
        if self.arriving.status != Some(0) {
            self.arriving.bytes.extend_from_slice(bytes);
            return Ok(());
        }
        if self.arriving.spooled.is_none() && self.arriving.bytes.len() < HEADER_LEN {
            let missing = HEADER_LEN - self.arriving.bytes.len();
            let (head, rest) = bytes.split_at(missing.min(bytes.len()));
            self.arriving.bytes.extend_from_slice(head);
            bytes = rest;
            if self.arriving.bytes.len() == HEADER_LEN {
                self.begin_event()?;
            }
        }
        match &mut self.arriving.spooled {
            None => self.arriving.bytes.extend_from_slice(bytes),
            Some(spooled) => spooled.take(bytes).map_err(|e| {
                Error::new(Kind::Failed, format!("write a temp file in {}", self.spool_dir.display()))
                    .caused_by(e)
                    .hint("is there space, and may this user write there? See spool_dir")
            })?,
        }
        if self.arriving.bytes.len() > MAX_EVENT_LEN as usize {
            return Err(self.garbled(format_args!("an event of more than {MAX_EVENT_LEN} bytes")));
        }
        Ok(())
    }

    /// The header is there: decides where the rest goes.
    fn begin_event(&mut self) -> Result<()> {
        let header = self.header()?;
        let size = header.size as usize;
        if !(HEADER_LEN..=MAX_EVENT_LEN as usize).contains(&size) {
            return Err(self.garbled(format_args!("an event that says it has {size} bytes")));
        }
        if header.kind != kind::TRANSACTION_PAYLOAD || size <= LARGE {
            self.arriving.bytes.reserve_exact(size - HEADER_LEN);
            return Ok(());
        }
        let file = tempfile::tempfile_in(&self.spool_dir).map_err(|e| {
            Error::new(Kind::Failed, format!("make a temp file in {}", self.spool_dir.display())).caused_by(e)
        })?;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.arriving.bytes);
        let checksum_len = if self.crc { CHECKSUM_LEN } else { 0 };
        let body_left = size - HEADER_LEN - checksum_len;
        self.arriving.spooled = Some(Spooled { file, crc, body_left, checksum: Vec::new() });
        Ok(())
    }

    fn header(&self) -> Result<Header> {
        match self.arriving.bytes.first_chunk() {
            Some(bytes) => Header::parse(bytes).map_err(|e| e.during(self.doing())),
            None => Err(self.garbled(format_args!("a packet of {} bytes", self.arriving.bytes.len()))),
        }
    }

    /// The packet has arrived whole.
    fn whole_packet(&mut self) -> Result<Option<Incoming>> {
        let arrived = std::mem::take(&mut self.arriving);
        match arrived.status {
            Some(0x00) => {}
            Some(0xfe) => {
                self.at_end = true;
                return Ok(None);
            }
            Some(0xff) => {
                let packet = [&[0xff], &arrived.bytes[..]].concat();
                return Err(ServerError::parse(&packet).into_error(&self.doing()));
            }
            _ => return Err(self.garbled("a packet that is neither event, end nor error")),
        }
        let Some(header) = arrived.bytes.first_chunk::<HEADER_LEN>().copied() else {
            return Err(self.garbled(format_args!("an event of {} bytes", arrived.bytes.len())));
        };
        let parsed = Header::parse(&header).map_err(|e| e.during(self.doing()))?;
        if let Some(spooled) = arrived.spooled {
            return spooled.finish(self.crc).map(|body| Some(Incoming::Large { header, body })).map_err(
                |problem| match problem {
                    Problem::Bytes(what) => self.garbled(format_args!("a transaction payload {what}")),
                    Problem::File(e) => self.garbled("a temp file cannot be read back").caused_by(e),
                },
            );
        }
        let bytes = arrived.bytes;
        if bytes.len() != parsed.size as usize {
            return Err(self.garbled(format_args!(
                "an event of {} bytes that says it has {}",
                bytes.len(),
                parsed.size
            )));
        }
        if parsed.kind == kind::FORMAT_DESCRIPTION {
            // Its last five bytes are the algorithm and its own checksum, which is there in any case.
            self.crc = bytes.len() > HEADER_LEN + CHECKSUM_LEN && bytes[bytes.len() - CHECKSUM_LEN - 1] == 1;
        }
        Ok(Some(Incoming::Event { bytes, crc: self.crc }))
    }
}

enum Problem {
    Bytes(&'static str),
    File(std::io::Error),
}

impl Spooled {
    fn take(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let (body, checksum) = bytes.split_at(bytes.len().min(self.body_left));
        self.crc.update(body);
        self.body_left -= body.len();
        self.file.write_all(body)?;
        // More than a checksum is told by `finish`; it is not kept.
        let room = (CHECKSUM_LEN + 1).saturating_sub(self.checksum.len());
        self.checksum.extend_from_slice(&checksum[..checksum.len().min(room)]);
        Ok(())
    }

    fn finish(mut self, with_crc: bool) -> Result<File, Problem> {
        let expected_len = if with_crc { CHECKSUM_LEN } else { 0 };
        if self.body_left > 0 || self.checksum.len() != expected_len {
            return Err(Problem::Bytes("whose size is not the one that its header says"));
        }
        if with_crc && self.checksum != self.crc.finalize().to_le_bytes() {
            return Err(Problem::Bytes("whose CRC32 does not fit"));
        }
        self.file.rewind().map_err(Problem::File)?;
        Ok(self.file)
    }
}

/// What a replica says of itself. Old names and new: which one is read depends on the source's version.
/// The UUID is random: a source ends the older one of two dumps under the same UUID.
fn session(request: &Request) -> String {
    let uuid = uuid::Uuid::new_v4();
    let nanos = request.heartbeat.as_nanos();
    format!(
        "SET @source_binlog_checksum='CRC32', @master_binlog_checksum='CRC32', \
         @source_heartbeat_period={nanos}, @master_heartbeat_period={nanos}, \
         @replica_uuid='{uuid}', @slave_uuid='{uuid}'"
    )
}

fn dump_command(covered: &GtidSet, request: &Request) -> Vec<u8> {
    let set = covered.encode();
    let mut body = Vec::with_capacity(22 + set.len());
    let flags = if request.follow { 0 } else { NON_BLOCKING };
    body.extend_from_slice(&flags.to_le_bytes());
    body.extend_from_slice(&request.server_id.to_le_bytes());
    // No file name: the set alone says where to begin.
    body.extend_from_slice(&0u32.to_le_bytes());
    body.extend_from_slice(&FIRST_POSITION.to_le_bytes());
    body.extend_from_slice(&(set.len() as u32).to_le_bytes());
    body.extend_from_slice(&set);
    body
}
