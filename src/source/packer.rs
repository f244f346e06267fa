//! A segment on its way: binlog bytes in, a compressed file on disk with its size and MD5 out.
//!
//! Compression runs in a thread of its own. Nothing of a segment is held in memory but a few chunks, so its
//! size does not matter. The file is removed when it is dropped; what a killed process left behind is removed
//! by the next run, under the stream's lock.
//!
//! A transaction of more than 16 MiB is compressed while it is still being read ([`Large`]). What stands before its
//! events, its length first of all, is known only then: so they are a frame (zstd) or member (gzip) of their own in a
//! file of their own, which is put into the segment's.

use std::error::Error as _;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use flate2::write::GzEncoder;
use tempfile::{NamedTempFile, TempPath};
use uuid::Uuid;

use crate::binlog::event::FormatDescription;
use crate::binlog::filter::UnderWay;
use crate::binlog::gtid::Gtid;
use crate::binlog::segment::{EventWriter, SegmentWriter, Written};
use crate::binlog::spool::Spool;
use crate::binlog::transaction::Transaction;
use crate::config;
use crate::config::UploadConfig;
use crate::error::{Error, Kind, Result};
use crate::stream::digest::{Hasher, Md5};
use crate::stream::ids::StreamTx;

const CHUNK: usize = 128 << 10;
const CHUNKS_AHEAD: usize = 8;

/// A segment that is being written.
pub(crate) struct Packer {
    writer: SegmentWriter<Feed>,
    thread: Compressor,
    folder: std::path::PathBuf,
    stream: Uuid,
    config: UploadConfig,
}

/// A finished segment.
pub(crate) struct Packed {
    pub file: TempPath,
    pub size: u64,
    pub md5: Md5,
    pub written: Written,
}

/// The events of a large transaction that is being read: the first of a segment.
pub(crate) struct Large {
    pub gtid: Gtid,
    pub packer: Packer,
    writer: EventWriter<Feed>,
    thread: Compressor,
}

impl Packer {
    pub(crate) fn new(
        folder: &Path,
        stream: Uuid,
        format: &FormatDescription,
        first: StreamTx,
        config: &UploadConfig,
    ) -> Result<Self> {
        let doing = format!("write the segment from transaction {} in {}", first.0, folder.display());
        let (feed, thread) = Compressor::start(folder, stream, config, doing)?;
        let writer = SegmentWriter::new(feed, stream, format, first.0)?;
        Ok(Self { writer, thread, folder: folder.to_owned(), stream, config: config.clone() })
    }

    /// Writes the transaction as the stream's next; returns its number.
    pub(crate) fn push(&mut self, transaction: &mut Transaction, depends_on: u64) -> Result<StreamTx> {
        let pushed = self.writer.push(transaction, depends_on);
        pushed.map(StreamTx).map_err(|error| self.thread.why(error))
    }

    /// Begins a transaction whose end has not been read yet.
    pub(crate) fn large(self, transaction: &UnderWay<'_>) -> Result<Large> {
        let place = self.writer.place_of_large(transaction.gtid, transaction.gtid_event)?;
        let doing = format!("write source transaction {} in {}", transaction.gtid, self.folder.display());
        let (feed, thread) = Compressor::start(&self.folder, self.stream, &self.config, doing)?;
        let writer = EventWriter::new(feed, place);
        Ok(Large { gtid: transaction.gtid.clone(), packer: self, writer, thread })
    }

    /// Written so far, before compression.
    pub(crate) fn bytes(&self) -> u64 {
        self.writer.bytes()
    }

    /// The compressor may have much to do yet, a large transaction to copy above all: no thread of the runtime waits for it.
    pub(crate) async fn finish(self) -> Result<Packed> {
        let doing = self.thread.doing.clone();
        let finished = tokio::task::spawn_blocking(move || self.finish_here()).await;
        finished.unwrap_or_else(|cause| Err(Error::new(Kind::Failed, doing).caused_by(cause)))
    }

    fn finish_here(self) -> Result<Packed> {
        let Self { writer, thread, .. } = self;
        let finished = writer.finish().and_then(|(mut feed, written)| {
            feed.flush().map_err(|cause| failed(&thread.doing, cause))?;
            Ok(written)
        });
        let (Compressed { file, size, md5 }, written) = thread.join(finished)?;
        Ok(Packed { file: file.into_temp_path(), size, md5, written })
    }
}

impl Large {
    /// Takes what has been read of it since.
    pub(crate) fn push(&mut self, events: &mut Spool) -> Result<()> {
        self.writer.push(events).map_err(|error| self.thread.why(error))
    }

    /// Its end has been read: it becomes the first of its segment.
    pub(crate) fn finish(
        mut self,
        transaction: &mut Transaction,
        depends_on: u64,
    ) -> Result<(Packer, StreamTx)> {
        self.push(&mut transaction.events)?;
        let Self { mut packer, writer, thread, .. } = self;
        let finished = writer.finish().and_then(|(mut feed, written)| {
            feed.flush().map_err(|cause| failed(&thread.doing, cause))?;
            Ok(written)
        });
        let (compressed, written) = thread.join(finished)?;
        let put = packer.writer.push_around(transaction, depends_on, written).and_then(|(n, feed)| {
            let sent = feed.send(Piece::Frame(compressed.file));
            sent.map_err(|cause| failed(&packer.thread.doing, cause))?;
            Ok(StreamTx(n))
        });
        match put {
            Ok(n) => Ok((packer, n)),
            Err(error) => Err(packer.thread.why(error)),
        }
    }
}

/// The thread that compresses.
struct Compressor {
    /// Taken when it has been joined.
    thread: Option<JoinHandle<io::Result<Compressed>>>,
    doing: String,
}

impl Compressor {
    fn start(folder: &Path, stream: Uuid, config: &UploadConfig, doing: String) -> Result<(Feed, Self)> {
        let file = tempfile::Builder::new()
            .prefix(&prefix(stream))
            .suffix(SUFFIX)
            .tempfile_in(folder)
            .map_err(|cause| failed(&doing, cause))?;
        Self::into_file(file, config, doing)
    }

    fn into_file(file: NamedTempFile, config: &UploadConfig, doing: String) -> Result<(Feed, Self)> {
        let (sender, pieces) = sync_channel(CHUNKS_AHEAD);
        let (codec, level) = (config.codec, config.level);
        let thread = std::thread::Builder::new()
            .name("compress".to_owned())
            .spawn(move || compress(pieces, file, codec, level))
            .map_err(|cause| failed(&doing, cause))?;
        Ok((Feed { chunk: Vec::with_capacity(CHUNK), sender }, Self { thread: Some(thread), doing }))
    }

    /// The thread knows why writing failed (a full disk); this side only that it takes nothing more.
    fn why(&mut self, error: Error) -> Error {
        let chain = std::iter::successors(error.source(), |&cause| cause.source());
        let takes_no_more = chain.filter_map(|cause| cause.downcast_ref::<io::Error>()).any(has_ended);
        match self.thread.take_if(|_| takes_no_more).map(JoinHandle::join) {
            Some(Ok(Err(cause))) => failed(&self.doing, cause),
            _ => error,
        }
    }

    /// Everything has been sent, and the feed is gone.
    fn join<T>(self, sent: Result<T>) -> Result<(Compressed, T)> {
        match self.thread.map(JoinHandle::join) {
            Some(Ok(Ok(compressed))) => Ok((compressed, sent?)),
            Some(Ok(Err(cause))) => Err(failed(&self.doing, cause)),
            _ => Err(Error::new(Kind::Failed, format!("{}: the compressor has ended", self.doing))),
        }
    }
}

fn failed(doing: &str, cause: io::Error) -> Error {
    Error::new(Kind::Failed, doing).hint(HINT).caused_by(cause)
}

const HINT: &str = "files.spool_dir in the config names the folder; it needs room for the largest segment, and \
                    twice for the largest transaction";
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

enum Piece {
    Bytes(Vec<u8>),
    /// Compressed already; it stands for itself between two frames.
    Frame(NamedTempFile),
}

/// Hands what is written to the compressing thread, in chunks.
struct Feed {
    chunk: Vec<u8>,
    sender: SyncSender<Piece>,
}

impl Feed {
    fn send(&self, piece: Piece) -> io::Result<()> {
        self.sender.send(piece).map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, Ended))
    }
}

/// The receiver is gone: the thread is at its end.
#[derive(Debug, thiserror::Error)]
#[error("the compressor has ended")]
struct Ended;

fn has_ended(cause: &io::Error) -> bool {
    cause.get_ref().is_some_and(|inner| inner.is::<Ended>())
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
        self.send(Piece::Bytes(full))
    }
}

struct Compressed {
    file: NamedTempFile,
    size: u64,
    md5: Md5,
}

fn compress(
    pieces: Receiver<Piece>,
    file: NamedTempFile,
    codec: config::Codec,
    level: u32,
) -> io::Result<Compressed> {
    let mut out = Out::Between(Sink { file, hasher: Hasher::default() });
    for piece in pieces {
        out = match piece {
            Piece::Bytes(bytes) => {
                let mut out = out.open(codec, level)?;
                out.write_all(&bytes)?;
                out
            }
            Piece::Frame(mut frame) => {
                let mut sink = out.close()?;
                copy(frame.as_file_mut(), &mut sink)?;
                Out::Between(sink)
            }
        };
    }
    let Sink { mut file, hasher } = out.close()?;
    file.flush()?;
    Ok(Compressed { file, size: hasher.size(), md5: hasher.finish() })
}

fn copy(from: &mut File, to: &mut Sink) -> io::Result<()> {
    use io::{Read, Seek};
    from.rewind()?;
    let mut buffer = vec![0; CHUNK];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            len => to.write_all(&buffer[..len])?,
        }
    }
}

/// Where compressed bytes go: into a frame, which begins with the first of them.
enum Out {
    Between(Sink),
    Gzip(GzEncoder<Sink>),
    Zstd(zstd::Encoder<'static, Sink>),
}

impl Out {
    fn open(self, codec: config::Codec, level: u32) -> io::Result<Self> {
        let Out::Between(sink) = self else { return Ok(self) };
        Ok(match codec {
            config::Codec::Gzip => Out::Gzip(GzEncoder::new(sink, flate2::Compression::new(level))),
            config::Codec::Zstd => Out::Zstd(zstd::Encoder::new(sink, i32::try_from(level).unwrap_or(1))?),
        })
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Out::Between(sink) => sink.write_all(bytes),
            Out::Gzip(encoder) => encoder.write_all(bytes),
            Out::Zstd(encoder) => encoder.write_all(bytes),
        }
    }

    fn close(self) -> io::Result<Sink> {
        match self {
            Out::Between(sink) => Ok(sink),
            Out::Gzip(encoder) => encoder.finish(),
            Out::Zstd(encoder) => encoder.finish(),
        }
    }
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

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::Duration;

    use super::*;
    use crate::binlog::clock::SourceClock;
    use crate::binlog::event::{Checksum, Event, GtidEvent, Header, MAGIC, kind, read_event};
    use crate::error::chain;

    fn config() -> UploadConfig {
        UploadConfig { codec: config::Codec::Zstd, ..UploadConfig::default() }
    }

    /// A compressor whose output goes there.
    fn into(output: File) -> (Feed, Compressor) {
        let nowhere = TempPath::try_from_path("/nowhere/at/all").expect("an absolute path");
        let file = NamedTempFile::from_parts(output, nowhere);
        Compressor::into_file(file, &config(), "write the segment".to_owned()).expect("a thread")
    }

    fn large_frame() -> NamedTempFile {
        let mut frame = NamedTempFile::new().expect("a file");
        frame.write_all(&vec![7; 1 << 20]).expect("write");
        frame
    }

    #[test]
    fn a_disk_that_fills_up_while_a_large_transaction_is_put_into_its_segment_is_told() {
        for _ in 0..20 {
            let full = File::options().write(true).open("/dev/full").expect("/dev/full");
            let (mut feed, mut thread) = into(full);
            feed.send(Piece::Frame(large_frame())).expect("it is there still");
            let cause = (0..).find_map(|_| feed.write_all(&[0; CHUNK]).err()).expect("it ends");
            let error = thread.why(failed("write the segment", cause));
            assert!(chain(&error).contains("No space left on device"), "{}", chain(&error));
        }
    }

    /// The same, found out only when its frame is to be put there.
    #[test]
    fn a_disk_that_was_full_before_a_large_transaction_ended_is_told() {
        let mut fixture = &include_bytes!("../../tests/fixtures/binlog/everyday.binlog")[MAGIC.len()..];
        let all: Vec<Event> =
            std::iter::from_fn(|| read_event(&mut fixture, Checksum::Crc32, "the fixture").expect("sound"))
                .collect();
        let gtid = all.iter().find(|event| event.kind() == kind::GTID).expect("a GTID");
        let gtid_event = GtidEvent::parse(gtid).expect("a GTID event");
        let mut transaction = Transaction {
            source_gtid: gtid_event.gtid.clone().expect("a GTID"),
            clock: SourceClock { file: 1, last_committed: 0, sequence_number: 1 },
            gtid_event,
            timestamp: 1,
            server_id: 1,
            tables: Default::default(),
            ddl: None,
            schema: None,
            schema_collations: Vec::new(),
            events: Spool::new(&std::env::temp_dir()),
        };
        let rows = Event::build(
            Header { kind: kind::WRITE_ROWS, ..gtid.header() },
            &vec![7; 1 << 20],
            Checksum::Crc32,
        );
        for _ in 0..17 {
            transaction.events.append(rows.bytes()).expect("append");
        }
        let full = File::options().write(true).open("/dev/full").expect("/dev/full");
        let (feed, thread) = into(full);
        feed.send(Piece::Frame(large_frame())).expect("it is there still");
        while thread.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            std::thread::yield_now();
        }
        let format = FormatDescription::parse(&all[0]).expect("a format");
        let stream = Uuid::from_u128(7);
        let writer = SegmentWriter::new(feed, stream, &format, 1).expect("a segment");
        let packer = Packer { writer, thread, folder: std::env::temp_dir(), stream, config: config() };
        let (gtid, gtid_event) = (transaction.source_gtid.clone(), transaction.gtid_event.clone());
        let mut none = Spool::new(&std::env::temp_dir());
        let under_way = UnderWay { gtid: &gtid, gtid_event: &gtid_event, events: &mut none };
        let large = packer.large(&under_way).expect("begun");
        let error = large.finish(&mut transaction, 0).err().expect("refused");
        assert!(chain(&error).contains("No space left on device"), "{}", chain(&error));
    }

    /// Its output takes nothing until the runtime's only thread has come to read it.
    #[test]
    fn while_a_segment_is_finished_the_runtime_goes_on() {
        let (done, is_done) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let (mut output, input) = io::pipe().expect("a pipe");
                let (feed, thread) = into(File::from(std::os::fd::OwnedFd::from(input)));
                feed.send(Piece::Frame(large_frame())).expect("it is there");
                let mut fixture =
                    &include_bytes!("../../tests/fixtures/binlog/everyday.binlog")[MAGIC.len()..];
                let format = read_event(&mut fixture, Checksum::Crc32, "the fixture").expect("an event");
                let format = FormatDescription::parse(&format.expect("one")).expect("a format");
                let stream = Uuid::from_u128(7);
                let writer = SegmentWriter::new(feed, stream, &format, 1).expect("a segment");
                let folder = std::env::temp_dir();
                let packer = Packer { writer, thread, folder, stream, config: config() };
                let reads = async {
                    let mut bytes = Vec::new();
                    let reads = move || output.read_to_end(&mut bytes).map(|_| Md5::of(&bytes));
                    tokio::task::spawn_blocking(reads).await.expect("no panic").expect("read")
                };
                let finishes = async {
                    let Packed { file, md5, .. } = packer.finish().await.expect("finish");
                    // It was never there.
                    let _ = file.keep();
                    md5
                };
                done.send(tokio::join!(finishes, reads)).expect("somebody waits");
            });
        });
        let (told, read) = is_done.recv_timeout(Duration::from_secs(60)).expect("the runtime stands still");
        assert_eq!(told, read);
    }
}
