//! The binlog connection in a task of its own, so that the network is read while segments are compressed and
//! shipped, and so that waiting for the next event can be given up at any moment without losing a byte.
//!
//! What waits between the two is bounded by bytes, not by events.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
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
/// Events go from one task to the other in batches of so many bytes, or of what has arrived.
const BATCH: u32 = 128 << 10;
const BATCHES: usize = 64;
const HEARTBEAT: Duration = Duration::from_secs(10);

/// The events of the source's binlog that are outside a GTID set.
pub(crate) struct Reader {
    batches: mpsc::Receiver<Result<Batch>>,
    batch: Batch,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Batch {
    events: VecDeque<Incoming>,
    /// Of the bytes that may be ahead; given back when all of them have been taken.
    permit: Option<OwnedSemaphorePermit>,
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
        let (sender, batches) = mpsc::channel(BATCHES);
        let budget = Arc::new(Semaphore::new(AHEAD as usize));
        let task = tokio::spawn(async move {
            let mut step = binlog.next().await;
            loop {
                let mut batch = Batch::default();
                let mut bytes: u32 = 0;
                let mut ended = None;
                loop {
                    match step {
                        Ok(Some(incoming)) => {
                            bytes = bytes.saturating_add(size(&incoming));
                            batch.events.push_back(incoming);
                        }
                        Ok(None) => ended = Some(Ok(())),
                        Err(error) => ended = Some(Err(error)),
                    }
                    if bytes >= BATCH || ended.is_some() {
                        break;
                    }
                    // Only what is there already: nobody shall wait for what comes later.
                    match binlog.next().now_or_never() {
                        Some(next) => step = next,
                        None => break,
                    }
                }
                // An event larger than the whole budget waits until everything before it was taken.
                match Arc::clone(&budget).acquire_many_owned(bytes.clamp(1, AHEAD)).await {
                    Ok(permit) => batch.permit = Some(permit),
                    Err(closed) => {
                        ended = Some(Err(Error::new(Kind::Failed, "read ahead").caused_by(closed)));
                    }
                }
                if !batch.events.is_empty() && sender.send(Ok(batch)).await.is_err() {
                    return;
                }
                // Nor is one after it read while it is held: the two may be of any size.
                if bytes > AHEAD {
                    let taken = Arc::clone(&budget).acquire_many_owned(AHEAD).await;
                    drop(taken);
                }
                match ended {
                    None => step = binlog.next().await,
                    Some(Ok(())) => return,
                    Some(Err(error)) => {
                        let _ = sender.send(Err(error)).await;
                        return;
                    }
                }
            }
        });
        Ok(Self { batches, batch: Batch::default(), task })
    }

    /// An event that is there already. Between two batches there is none: time to look at other things.
    pub(crate) fn ready(&mut self) -> Option<Incoming> {
        self.batch.events.pop_front()
    }

    /// The next event; `None` at the end of the binlog. Giving up waiting loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Option<Incoming>> {
        loop {
            if let Some(incoming) = self.batch.events.pop_front() {
                return Ok(Some(incoming));
            }
            self.batch.permit = None;
            match self.batches.recv().await {
                None => return Ok(None),
                Some(batch) => self.batch = batch?,
            }
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
