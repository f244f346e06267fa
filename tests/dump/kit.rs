//! Asking for dumps, and what is in them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::time::{Duration, Instant};

use tablecast::binlog::name::{TableName, quote, shadow_name};
use tablecast::clock::SystemClock;
use tablecast::source::dump::queue::{self, Known, NewRequest, Queued};
use tablecast::store::Fetched;
use tablecast::stream::{Codec, DumpRef, Key, Manifest, Md5, Request, RequestId, RequestState};
use uuid::Uuid;

use crate::mysql::table::{bit_by_bit, summed};
use crate::support::mysql::Server;
use crate::upload::kit::Stream;

pub fn names(tables: &[&str]) -> BTreeSet<TableName> {
    tables.iter().map(|table| table.parse().expect("a name")).collect()
}

/// Puts a request into the queue: for all tables if none is named.
pub async fn ask(stream: &Stream, tables: &[&str]) -> Request {
    try_ask(stream, tables, "source").await.into_request()
}

pub async fn try_ask(stream: &Stream, tables: &[&str], region: &str) -> Queued {
    let new = NewRequest {
        id: RequestId::new(Uuid::new_v4().as_u128()),
        has_key: false,
        region: region.to_owned(),
        tables: names(tables),
        all_tables: tables.is_empty(),
        mandatory: false,
        reason: "a test".to_owned(),
    };
    let head = stream.head().await;
    let known = Known::load(&*stream.store, &stream.config.files.cache_dir);
    queue::queue(&*stream.store, &head, &SystemClock, &new, &known).await.expect("queued")
}

pub async fn request(stream: &Stream, id: &RequestId) -> Request {
    queue::read(&*stream.store, id).await.expect("a request").0
}

/// Waits until the request is in this state.
pub async fn wait_for(stream: &Stream, id: &RequestId, state: RequestState) -> Request {
    let begin = Instant::now();
    loop {
        let request = request(stream, id).await;
        if request.state == state {
            return request;
        }
        assert!(begin.elapsed() < Duration::from_secs(90), "not {state} but {request:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The dumps of the index, the oldest first.
pub async fn dumps(stream: &Stream) -> Vec<DumpRef> {
    stream.head().await.dumps
}

/// The manifest of a dump, as its entry vouches for it.
pub async fn manifest(stream: &Stream, dump: &DumpRef) -> Manifest {
    let dump = &dump.dump;
    let Fetched::Object { bytes, .. } = stream.store.get(&dump.manifest, None).await.expect("I1") else {
        panic!("unchanged from nothing")
    };
    assert_eq!((bytes.len() as u64, Md5::of(&bytes)), (dump.size, dump.md5), "I1");
    let manifest = Manifest::parse(&dump.id, &bytes).expect("a sound manifest");
    assert_eq!((manifest.rows(), manifest.bytes()), (dump.rows, dump.bytes));
    assert_eq!((manifest.full, &manifest.snapshot), (dump.full, &dump.snapshot));
    manifest
}

/// Makes and fills the tables of a dump in another server, as its mysql client reads the chunks; they are taken out
/// of their shadows.
pub async fn load(stream: &Stream, dump: &DumpRef, into: &Server) -> Manifest {
    let manifest = manifest(stream, dump).await;
    for (schema, defaults) in &manifest.schemas {
        let schema = quote(schema);
        into.sql(&format!("CREATE DATABASE IF NOT EXISTS {schema} COLLATE {}", defaults.collation)).await;
    }
    for table in &manifest.tables {
        let shadow = shadow_name(&table.table);
        let create = table.create_table.replacen(
            &format!("CREATE TABLE {}", quote(&table.table.table)),
            &format!("CREATE TABLE {}", quote(&shadow.table)),
            1,
        );
        let schema = quote(&shadow.schema);
        let make = format!(
            "SET NAMES utf8mb4, sql_mode='ALLOW_INVALID_DATES', foreign_key_checks=0; USE {schema}; {create};"
        );
        into.client(&[], make.as_bytes()).unwrap_or_else(|e| panic!("{create}: {e}"));
        for chunk in &table.chunks {
            let sql = object(stream, &chunk.key, chunk.codec, (chunk.size, chunk.md5)).await;
            assert_eq!(sql.len() as u64, chunk.raw_size, "{}", chunk.key);
            let args = ["--binary-mode", "--max-allowed-packet=1G"];
            into.client(&args, &sql).unwrap_or_else(|e| panic!("{}: {e}", chunk.key));
        }
        let rename = format!("RENAME TABLE {} TO {}", shadow.quoted(), table.table.quoted());
        into.sql(&format!("SET foreign_key_checks=0; {rename}")).await;
        assert_eq!(summed(into, &table.table).await, (table.rows, table.checksum), "{}", table.table);
    }
    manifest
}

/// Loads the dump elsewhere, and compares each of its tables with the source's, to the last bit.
pub async fn equals(stream: &Stream, dump: &DumpRef, source: &Server, into: &Server) -> Manifest {
    let manifest = load(stream, dump, into).await;
    for table in &manifest.tables {
        let theirs = bit_by_bit(source, &table.table).await;
        assert_eq!(bit_by_bit(into, &table.table).await, theirs, "{}", table.table);
        let definition = source.show_create(&table.table.quoted()).await;
        assert_eq!(into.show_create(&table.table.quoted()).await, definition);
    }
    manifest
}

async fn object(stream: &Stream, key: &Key, codec: Codec, promised: (u64, Md5)) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    stream.store.download(key, file.path(), promised.0).await.expect("I1: the object is there");
    let packed = std::fs::read(file.path()).expect("what was downloaded");
    assert_eq!((packed.len() as u64, Md5::of(&packed)), promised, "I1: {key}");
    let mut bytes = Vec::new();
    match codec {
        Codec::Gzip => flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut bytes).expect("gzip"),
        Codec::Zstd => zstd::Decoder::new(&packed[..]).expect("zstd").read_to_end(&mut bytes).expect("zstd"),
    };
    bytes
}

/// What lies under `dumps/`, by dump.
pub async fn folders(stream: &Stream) -> BTreeMap<String, usize> {
    let mut folders = BTreeMap::new();
    for listed in stream.store.list(Key::DUMPS).await.expect("a listing") {
        let folder = listed.key.as_str().split('/').nth(1).expect("a folder").to_owned();
        *folders.entry(folder).or_default() += 1;
    }
    folders
}

/// `upload --follow` as a process of its own.
pub struct Following(std::process::Child);

impl Following {
    pub fn start(stream: &Stream, failpoints: &str) -> Following {
        let mut command = stream.program(&["upload", "--follow"]);
        command.env("TABLECAST_FAILPOINTS", failpoints);
        Following(command.spawn().expect("run tablecast"))
    }

    /// Ends it in good order.
    pub fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("signal it");
        let status = self.0.wait().expect("wait for it");
        assert_eq!(status.code(), Some(143), "{status}");
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
