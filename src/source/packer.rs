//! A segment on its way: binlog bytes in, a compressed file on disk with its size and MD5 out.
//!
//! Compression runs in a thread of its own. Nothing of a segment is held in memory but a few chunks, so its
//! size does not matter. The file is removed when it is dropped; what a killed process left behind is removed
//! by the next run, under the stream's lock.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use flate2::write::GzEncoder;
use tempfile::{NamedTempFile, TempPath};
use uuid::Uuid;

use crate::binlog::event::FormatDescription;
use crate::binlog::segment::{SegmentWriter, Written};
use crate::binlog::transaction::Transaction;
use crate::config;
use crate::error::{Error, Kind, Result};
use crate::stream::digest::{Hasher, Md5};
use crate::stream::ids::StreamTx;

const CHUNK: usize = 128 << 10;
const CHUNKS_AHEAD: usize = 8;

/// A segment that is being written.
pub(crate) struct Packer {
    writer: SegmentWriter<Feed>,
    /// Taken when it has been joined.
    thread: Option<JoinHandle<io::Result<Compressed>>>,
    doing: String,
}

/// A finished segment.
pub(crate) struct Packed {
    pub file: TempPath,
    pub size: u64,
    pub md5: Md5,
    pub written: Written,
}

impl Packer {
    pub(crate) fn new(
        folder: &Path,
        stream: Uuid,
        format: &FormatDescription,
        first: StreamTx,
        codec: config::Codec,
        level: u32,
    ) -> Result<Self> {
        let doing = format!("write the segment from transaction {} in {}", first.0, folder.display());
        let file = tempfile::Builder::new()
            .prefix(&prefix(stream))
            .suffix(SUFFIX)
            .tempfile_in(folder)
            .map_err(|cause| failed(&doing, cause))?;
        let (sender, chunks) = sync_channel(CHUNKS_AHEAD);
        let thread = std::thread::Builder::new()
            .name("compress".to_owned())
            .spawn(move || compress(chunks, file, codec, level))
            .map_err(|cause| failed(&doing, cause))?;
        let feed = Feed { chunk: Vec::with_capacity(CHUNK), sender };
        let writer = SegmentWriter::new(feed, stream, format, first.0)?;
        Ok(Self { writer, thread: Some(thread), doing })
    }

    /// Writes the transaction as the stream's next; returns its number.
    pub(crate) fn push(&mut self, transaction: &mut Transaction, depends_on: u64) -> Result<StreamTx> {
        self.writer.push(transaction, depends_on).map(StreamTx).map_err(|error| {
            // The thread knows why writing failed (a full disk); this side only that it ended.
            match self.thread.take_if(|thread| thread.is_finished()).map(JoinHandle::join) {
                Some(Ok(Err(cause))) => failed(&self.doing, cause),
                _ => error,
            }
        })
    }

    /// Written so far, before compression.
    pub(crate) fn bytes(&self) -> u64 {
        self.writer.bytes()
    }

    pub(crate) fn finish(self) -> Result<Packed> {
        let Self { writer, thread, doing } = self;
        let finished = writer.finish().and_then(|(mut feed, written)| {
            feed.flush().map_err(|cause| failed(&doing, cause))?;
            Ok(written)
        });
        match thread.map(JoinHandle::join) {
            Some(Ok(Ok(Compressed { file, size, md5 }))) => {
                Ok(Packed { file, size, md5, written: finished? })
            }
            Some(Ok(Err(cause))) => Err(failed(&doing, cause)),
            _ => Err(Error::new(Kind::Failed, format!("{doing}: the compressor has ended"))),
        }
    }
}

fn failed(doing: &str, cause: io::Error) -> Error {
    Error::new(Kind::Failed, doing).hint(HINT).caused_by(cause)
}

const HINT: &str = "files.spool_dir in the config names the folder; it needs room for the largest segment";
const SUFFIX: &str = ".segment";

fn prefix(stream: Uuid) -> String {
    format!("tablecast-{stream}-")
}

/// Removes what killed uploads of this stream have left in the folder. Only under the stream's lock.
pub(crate) fn clean(folder: &Path, stream: Uuid) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let prefix = prefix(stream);
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(&prefix) && name.ends_with(SUFFIX) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Hands what is written to the compressing thread, in chunks.
struct Feed {
    chunk: Vec<u8>,
    sender: SyncSender<Vec<u8>>,
}

impl Write for Feed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = CHUNK - self.chunk.len();
        let taken = bytes.len().min(room);
        self.chunk.extend_from_slice(&bytes[..taken]);
        if self.chunk.len() == CHUNK {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        self.sender
            .send(full)
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the compressor has ended"))
    }
}

struct Compressed {
    file: TempPath,
    size: u64,
    md5: Md5,
}

fn compress(
    chunks: Receiver<Vec<u8>>,
    file: NamedTempFile,
    codec: config::Codec,
    level: u32,
) -> io::Result<Compressed> {
    let sink = Sink { file, hasher: Hasher::default() };
    let sink = match codec {
        config::Codec::Gzip => {
            let mut encoder = GzEncoder::new(sink, flate2::Compression::new(level));
            chunks.iter().try_for_each(|chunk| encoder.write_all(&chunk))?;
            encoder.finish()?
        }
        config::Codec::Zstd => {
            let mut encoder = zstd::Encoder::new(sink, i32::try_from(level).unwrap_or(3))?;
            chunks.iter().try_for_each(|chunk| encoder.write_all(&chunk))?;
            encoder.finish()?
        }
    };
    let Sink { mut file, hasher } = sink;
    file.flush()?;
    Ok(Compressed { file: file.into_temp_path(), size: hasher.size(), md5: hasher.finish() })
}

struct Sink {
    file: NamedTempFile,
    hasher: Hasher,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
