//! The binlog connection: asks a source, as a replica does, for every transaction outside a GTID set.
//!
//! Memory is bounded by one event. A compressed transaction above 16 MiB goes to a temp file as it arrives.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use crate::Result;
use crate::config::MysqlConfig;

/// What to ask for.
#[derive(Clone, Debug)]
pub struct Request {
    /// Must differ from every replica of this source.
    pub server_id: u32,
    /// Stay connected at the end of the binlog and wait for more; otherwise `next` ends there.
    pub follow: bool,
    /// How often a following connection gets a heartbeat when nothing happens.
    pub heartbeat: Duration,
    /// Where events above 16 MiB are put.
    pub spool_dir: PathBuf,
}

/// One step of the binlog as the source sends it.
pub enum Incoming {
    /// A whole event: header, body, and (if `crc`) its CRC32, not yet checked.
    Event { bytes: Vec<u8>, crc: bool },
    /// A TRANSACTION_PAYLOAD event above 16 MiB: its header, and its body without checksum in an unlinked
    /// file that stands at its start. The CRC32 has been checked.
    Large { header: [u8; 19], body: File },
}

/// An open binlog connection.
pub struct ReplicationStream;

impl ReplicationStream {
    /// Connects and asks for every transaction outside `covered`.
    /// `Kind::History` when the source has purged some of them (1236).
    pub async fn connect(
        _config: &MysqlConfig,
        _covered: &(dyn std::fmt::Display + Sync),
        _request: &Request,
    ) -> Result<Self> {
        todo!()
    }

    /// The next event; `None` at the end of the binlog when not following.
    pub async fn next(&mut self) -> Result<Option<Incoming>> {
        todo!()
    }
}
