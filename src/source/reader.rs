//! The binlog connection in a task of its own, so that the network is read while segments are compressed and
//! shipped, and so that waiting for the next event can be given up at any moment without losing a byte.
//!
//! What waits between the two is bounded by bytes, not by events.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::binlog::gtid::GtidSet;
use crate::config::MysqlConfig;
use crate::error::{Error, Kind, Result};
use crate::mysql::replication::Request;
use crate::mysql::{Incoming, ReplicationStream};

/// Bytes that may have been read and not been taken yet.
const AHEAD: u32 = 4 << 20;
/// Events that may have been read and not been taken yet.
const EVENTS: usize = 4096;
const HEARTBEAT: Duration = Duration::from_secs(10);

/// The events of the source's binlog that are outside a GTID set.
pub(crate) struct Reader {
    events: mpsc::Receiver<Result<(Incoming, OwnedSemaphorePermit)>>,
    task: JoinHandle<()>,
}

impl Reader {
    /// Connects; `follow` decides whether the events end where the binlog ends now.
    pub(crate) async fn open(
        config: &MysqlConfig,
        stream: Uuid,
        covered: &GtidSet,
        follow: bool,
        spool_dir: &Path,
    ) -> Result<Self> {
        let request = Request {
            server_id: server_id(stream),
            follow,
            heartbeat: HEARTBEAT,
            spool_dir: spool_dir.to_owned(),
        };
        let mut binlog = ReplicationStream::connect(config, covered, &request).await?;
        let (sender, events) = mpsc::channel(EVENTS);
        let budget = Arc::new(Semaphore::new(AHEAD as usize));
        let task = tokio::spawn(async move {
            loop {
                let step = match binlog.next().await {
                    Ok(None) => return,
                    Ok(Some(incoming)) => {
                        // An event larger than the whole budget waits until everything before it was taken.
                        let bytes = size(&incoming).clamp(1, AHEAD);
                        match Arc::clone(&budget).acquire_many_owned(bytes).await {
                            Ok(permit) => Ok((incoming, permit)),
                            Err(closed) => Err(Error::new(Kind::Failed, "read ahead").caused_by(closed)),
                        }
                    }
                    Err(error) => Err(error),
                };
                let ended = step.is_err();
                if sender.send(step).await.is_err() || ended {
                    return;
                }
            }
        });
        Ok(Self { events, task })
    }

    /// The next event; `None` at the end of the binlog. Giving up waiting loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Option<Incoming>> {
        match self.events.recv().await {
            None => Ok(None),
            Some(step) => step.map(|(incoming, _permit)| Some(incoming)),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn size(incoming: &Incoming) -> u32 {
    match incoming {
        Incoming::Event { bytes, .. } => u32::try_from(bytes.len()).unwrap_or(u32::MAX),
        // In a file.
        Incoming::Large { .. } => 1,
    }
}

/// A source disconnects a replica when another one with the same number comes. Two uploads of one stream are
/// kept apart by a lock, so the stream's UUID is enough. The upper half is out of the way of numbers that
/// people give to servers.
fn server_id(stream: Uuid) -> u32 {
    let bytes = stream.as_bytes();
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) | 0x8000_0000
}
