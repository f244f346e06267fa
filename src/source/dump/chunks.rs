//! Writing the rows of a snapshot: several connections, each with a chunk under way and at most one on its way to
//! the bucket. Memory is that of two chunks for each connection, and of the largest row.
//!
//! Each writer runs on a thread of its own. Compression and hashing keep it busy for long stretches, and what shares
//! the machine's other threads (the binlog connection, the segments) must not wait for them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flate2::write::GzEncoder;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::binlog::name::{TableName, shadow_name};
use crate::config::{self, DumpConfig};
use crate::error::{Error, Kind, Result};
use crate::failpoint;
use crate::mysql::table::{self, Column, Range, Ranging, TableScan};
use crate::mysql::wire::Wire;
use crate::store::{Body, Store};
use crate::stream::chunk::{ChunkStats, ChunkWriter};
use crate::stream::{Chunk, Codec, DumpId, Key, Md5};

/// How far a dump has come, for whoever looks.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub rows: AtomicU64,
    pub rows_total: AtomicU64,
    /// In the bucket, compressed.
    pub bytes: AtomicU64,
}

impl Progress {
    /// Rows, about how many there are, and bytes in the bucket.
    pub fn get(&self) -> (u64, u64, u64) {
        let rows = self.rows.load(Ordering::Relaxed);
        (rows, self.rows_total.load(Ordering::Relaxed).max(rows), self.bytes.load(Ordering::Relaxed))
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rows, total, bytes) = self.get();
        write!(f, "{rows} of about {total} rows, {} in the bucket", config::show_size(bytes))
    }
}

/// What the writers share.
pub(crate) struct Work {
    store: Arc<dyn Store>,
    config: DumpConfig,
    id: DumpId,
    progress: Arc<Progress>,
    tables: Vec<Table>,
    queue: Mutex<Queue>,
    changed: Notify,
}

/// One table on its way.
struct Table {
    name: TableName,
    /// Known once it has been divided.
    columns: std::sync::OnceLock<Arc<Columns>>,
    next_chunk: AtomicUsize,
    chunks: Mutex<Vec<Chunk>>,
}

struct Columns {
    columns: Vec<Column>,
    names: Vec<String>,
}

#[derive(Default)]
struct Queue {
    /// Tables that are not divided yet, the largest first.
    whole: VecDeque<usize>,
    ranges: VecDeque<(usize, Range)>,
    /// How many writers are dividing a table: more ranges will come.
    dividing: usize,
}

/// A table that has been written.
pub(crate) struct WrittenTable {
    pub table: TableName,
    pub columns: Vec<String>,
    pub chunks: Vec<Chunk>,
}

impl Work {
    /// `tables` in the manifest's order, each with about how many bytes it has.
    pub(crate) fn new(
        store: Arc<dyn Store>,
        config: DumpConfig,
        id: DumpId,
        progress: Arc<Progress>,
        tables: Vec<(TableName, u64)>,
    ) -> Work {
        let mut order: Vec<usize> = (0..tables.len()).collect();
        order.sort_by_key(|&at| std::cmp::Reverse(tables[at].1));
        let table = |(name, _)| Table {
            name,
            columns: std::sync::OnceLock::new(),
            next_chunk: AtomicUsize::new(0),
            chunks: Mutex::default(),
        };
        let queue = Queue { whole: order.into(), ..Queue::default() };
        let tables = tables.into_iter().map(table).collect();
        Work { store, config, id, progress, tables, queue: Mutex::new(queue), changed: Notify::new() }
    }

    /// Writes everything over these connections; the first failure ends all of it. `stop` ends it too, with success
    /// and without sense: the caller knows that it stopped.
    pub(crate) async fn run(self: &Arc<Self>, wires: Vec<Wire>, stop: &CancellationToken) -> Result<()> {
        let stop = stop.child_token();
        // Also when this future is dropped.
        let _ends = stop.clone().drop_guard();
        let writers: Vec<JoinHandle<Result<Option<Wire>>>> = wires
            .into_iter()
            .map(|mut wire| {
                let (work, stop, handle) = (self.clone(), stop.clone(), Handle::current());
                tokio::task::spawn_blocking(move || {
                    handle.block_on(async {
                        let done = tokio::select! {
                            () = stop.cancelled() => return Ok(None),
                            done = work.write(&mut wire) => done,
                        };
                        if done.is_err() {
                            stop.cancel();
                        }
                        done.map(|()| Some(wire))
                    })
                })
            })
            .collect();
        let (mut result, mut wires) = (Ok(()), Vec::new());
        for writer in writers {
            match writer.await {
                Ok(Ok(wire)) => wires.extend(wire),
                Ok(Err(error)) => result = result.and(Err(error)),
                Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
                Err(e) => result = result.and(Err(Error::new(Kind::Failed, "write a dump").caused_by(e))),
            }
        }
        // Only now: the first one's locks keep DDL away from what others still read.
        for wire in wires {
            wire.close().await;
        }
        result
    }

    /// What has been written, in the order of the tables.
    pub(crate) fn finish(&self) -> Vec<WrittenTable> {
        let written = self.tables.iter().map(|table| {
            let mut chunks = std::mem::take(&mut *locked(&table.chunks));
            // Their numbers are given when they are complete, so there is one of each.
            chunks.sort_by(|a, b| a.key.cmp(&b.key));
            let columns = table.columns.get().map(|columns| columns.names.clone()).unwrap_or_default();
            WrittenTable { table: table.name.clone(), columns, chunks }
        });
        written.collect()
    }

    /// One writer, until nothing is left.
    async fn write(self: &Arc<Self>, wire: &mut Wire) -> Result<()> {
        let mut upload = Upload::default();
        let mut open: Option<OpenChunk> = None;
        while let Some((at, range)) = self.next(wire).await? {
            // The chunk goes on over the ranges of one table, lest every range end in a small one.
            if let Some(other) = open.take_if(|open| open.table != at) {
                upload.begin(self, other).await?;
            }
            let columns = self.columns(at)?;
            let mut scan = TableScan::open(wire, &self.tables[at].name, &columns.columns, &range).await?;
            let mut rows = 0;
            while let Some(tuple) = scan.next().await? {
                let chunk = match &mut open {
                    Some(chunk) => chunk,
                    none => none.insert(OpenChunk::new(self, at, &columns.names)?),
                };
                chunk.writer.row(tuple)?;
                rows += 1;
                if chunk.writer.raw_size() >= self.config.chunk_bytes
                    && let Some(full) = open.take()
                {
                    self.progress.rows.fetch_add(std::mem::take(&mut rows), Ordering::Relaxed);
                    upload.begin(self, full).await?;
                }
            }
            self.progress.rows.fetch_add(rows, Ordering::Relaxed);
        }
        if let Some(last) = open {
            upload.begin(self, last).await?;
        }
        upload.end().await
    }

    fn columns(&self, at: usize) -> Result<Arc<Columns>> {
        let columns = self.tables[at].columns.get();
        columns.cloned().ok_or_else(|| Error::new(Kind::Failed, "write a dump: a table was not divided"))
    }

    /// The next range to write; divides a table if there is none yet.
    async fn next(&self, wire: &mut Wire) -> Result<Option<(usize, Range)>> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on no notification is missed.
            changed.as_mut().enable();
            let table = {
                let mut queue = locked(&self.queue);
                if let Some(next) = queue.ranges.pop_front() {
                    return Ok(Some(next));
                }
                let table = queue.whole.pop_front();
                match table {
                    Some(_) => queue.dividing += 1,
                    None if queue.dividing == 0 => return Ok(None),
                    None => {}
                }
                table
            };
            match table {
                Some(at) => self.divide(wire, at).await?,
                None => changed.await,
            }
        }
    }

    async fn divide(&self, wire: &mut Wire, at: usize) -> Result<()> {
        let name = &self.tables[at].name;
        let columns = table::columns(wire, name).await?;
        let names = columns.iter().map(|column| column.name.clone()).collect();
        let _ = self.tables[at].columns.set(Arc::new(Columns { columns, names }));
        let ranging = Ranging {
            connections: self.config.connections,
            bytes: self.config.chunk_bytes.saturating_mul(4),
        };
        let ranges = match table::ranges(wire, name, &ranging).await {
            Ok(ranges) => ranges,
            // No reason to fail: one connection can read all of it. A broken one meets its error there.
            Err(error) => {
                tracing::debug!("{name} is not divided: {error:?}");
                vec![Range::all()]
            }
        };
        let mut queue = locked(&self.queue);
        queue.dividing -= 1;
        queue.ranges.extend(ranges.into_iter().map(|range| (at, range)));
        drop(queue);
        self.changed.notify_waiters();
        Ok(())
    }

    async fn put(
        self: Arc<Self>,
        at: usize,
        number: usize,
        packed: Vec<u8>,
        stats: ChunkStats,
    ) -> Result<()> {
        let codec = codec(self.config.codec);
        let key = Key::chunk(&self.id, at, number, codec);
        let (size, md5) = (packed.len() as u64, Md5::of(&packed));
        failpoint::hit("dump.before_chunk_put");
        self.store.create(&key, Body::Bytes(&packed)).await?;
        failpoint::hit("dump.after_chunk_put");
        let ChunkStats { rows, checksum, raw_size, largest_statement } = stats;
        let chunk = Chunk { key, size, md5, raw_size, codec, rows, checksum, largest_statement };
        locked(&self.tables[at].chunks).push(chunk);
        self.progress.bytes.fetch_add(size, Ordering::Relaxed);
        Ok(())
    }
}

/// The one chunk of a writer that is on its way to the bucket while the next is being written.
#[derive(Default)]
struct Upload(Option<JoinHandle<Result<()>>>);

impl Upload {
    async fn begin(&mut self, work: &Arc<Work>, chunk: OpenChunk) -> Result<()> {
        let table = chunk.table;
        let (packed, stats) = chunk.finish()?;
        let number = work.tables[table].next_chunk.fetch_add(1, Ordering::Relaxed);
        self.end().await?;
        self.0 = Some(tokio::spawn(work.clone().put(table, number, packed, stats)));
        Ok(())
    }

    async fn end(&mut self) -> Result<()> {
        let Some(running) = &mut self.0 else { return Ok(()) };
        let done = running.await;
        self.0 = None;
        match done {
            Ok(done) => done,
            Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
            Err(e) => Err(Error::new(Kind::Failed, "write a chunk of a dump").caused_by(e)),
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(running) = &self.0 {
            running.abort();
        }
    }
}

/// A chunk that is being written.
struct OpenChunk {
    table: usize,
    writer: ChunkWriter<Encoder>,
}

enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(zstd::Encoder<'static, Vec<u8>>),
}

impl OpenChunk {
    fn new(work: &Work, table: usize, columns: &[String]) -> Result<OpenChunk> {
        let packed = Vec::new();
        let encoder = match work.config.codec {
            config::Codec::Gzip => {
                Encoder::Gzip(GzEncoder::new(packed, flate2::Compression::new(work.config.level)))
            }
            config::Codec::Zstd => {
                let level = i32::try_from(work.config.level).unwrap_or(1);
                Encoder::Zstd(zstd::Encoder::new(packed, level).map_err(failed)?)
            }
        };
        let target = shadow_name(&work.tables[table].name);
        Ok(OpenChunk { table, writer: ChunkWriter::new(encoder, &target, columns)? })
    }

    fn finish(self) -> Result<(Vec<u8>, ChunkStats)> {
        let (encoder, stats) = self.writer.finish()?;
        let packed = match encoder {
            Encoder::Gzip(encoder) => encoder.finish(),
            Encoder::Zstd(encoder) => encoder.finish(),
        };
        Ok((packed.map_err(failed)?, stats))
    }
}

impl std::io::Write for Encoder {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Encoder::Gzip(encoder) => encoder.write(bytes),
            Encoder::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Encoder::Gzip(encoder) => encoder.flush(),
            Encoder::Zstd(encoder) => encoder.flush(),
        }
    }
}

fn failed(cause: std::io::Error) -> Error {
    Error::new(Kind::Failed, "compress a chunk of a dump").caused_by(cause)
}

fn codec(codec: config::Codec) -> Codec {
    match codec {
        config::Codec::Gzip => Codec::Gzip,
        config::Codec::Zstd => Codec::Zstd,
    }
}

/// Nothing panics while one of these is held, and if it did, what is in them would still be right.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
