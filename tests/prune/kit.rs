//! A stream with dumps and reports in its bucket.

use std::io::Write;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use flate2::Compression;
use flate2::write::GzEncoder;
use tablecast::binlog::name::{TableName, shadow_name};
use tablecast::clock::{Clock, SystemClock};
use tablecast::source::prune;
use tablecast::store::{self, Body, Store};
use tablecast::stream::chunk::ChunkWriter;
use tablecast::stream::{
    self, Chain, Chunk, Codec, DumpEntry, DumpId, DumpedTable, FORMAT, Head, Index, Key, Manifest, Md5,
    RegionReport, SchemaDefaults, Seq,
};
use tablecast::{Error, Result};

use crate::apply::kit::Stream;
use crate::support::mysql::Server;
use crate::support::report_of;

pub const TABLE: &str = "CREATE TABLE @.n (id INT PRIMARY KEY, v VARCHAR(200))";

/// The machine's clock, some days ahead.
pub struct Ahead(pub i64);

impl Clock for Ahead {
    fn now(&self) -> DateTime<Utc> {
        SystemClock.now() + chrono::Duration::days(self.0)
    }
}

pub async fn store(stream: &Stream) -> Arc<dyn Store> {
    store::open(&stream.source_config()).await.unwrap()
}

pub async fn head(stream: &Stream) -> Head {
    match store::head::read(&*store(stream).await, None).await.unwrap() {
        store::head::Read::Head { head, .. } => *head,
        store::head::Read::Unchanged => panic!("unchanged from nothing"),
    }
}

/// A transaction on the table, and its segment.
pub async fn step(stream: &Stream, id: u32) {
    stream.sql(&format!("INSERT INTO @.n VALUES ({id}, REPEAT('x', {id}))")).await;
    stream.upload().await;
}

/// A dump of the table as it is now, at the last transaction, in chunks of two rows.
pub async fn dump(stream: &Stream, full: bool) -> DumpEntry {
    let store = store(stream).await;
    let rows: Vec<String> = stream
        .source
        .rows(&format!("SELECT CONCAT('(', id, ',''', v, ''')') FROM {}.n ORDER BY id", stream.schema))
        .await;
    let now = SystemClock.now();
    let id = DumpId::new(now, rows.len() as u32);
    let table = TableName::new(stream.schema, "n");
    let columns = vec!["id".to_owned(), "v".to_owned()];
    let mut chunks = Vec::new();
    for (number, rows) in rows.chunks(2).enumerate() {
        let encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let mut writer = ChunkWriter::new(encoder, &shadow_name(&table), &columns).unwrap();
        rows.iter().for_each(|row| writer.row(row.as_bytes()).unwrap());
        let (encoder, stats) = writer.finish().unwrap();
        let bytes = encoder.finish().unwrap();
        let key = Key::chunk(&id, 0, number, Codec::Gzip);
        store.create(&key, Body::Bytes(&bytes)).await.unwrap();
        chunks.push(Chunk {
            key,
            size: bytes.len() as u64,
            md5: Md5::of(&bytes),
            raw_size: stats.raw_size,
            codec: Codec::Gzip,
            rows: stats.rows,
            checksum: stats.checksum,
            largest_statement: stats.largest_statement,
        });
    }
    let store::head::Read::Head { mut head, etag } = store::head::read(&*store, None).await.unwrap() else {
        panic!("unchanged from nothing")
    };
    let definition = head.definition(&table).map(|known| known.create_table.clone());
    let manifest = Manifest {
        format: FORMAT,
        stream: head.stream,
        id: id.clone(),
        snapshot: head.covered.clone(),
        taken_at: now,
        server_version: "9.7.0".into(),
        table_set_version: 1,
        full,
        pause_us: 1_500,
        schemas: [(stream.schema.to_owned(), SchemaDefaults { collation: "utf8mb4_0900_ai_ci".into() })]
            .into(),
        tables: vec![DumpedTable {
            table: table.clone(),
            create_table: definition.unwrap_or_else(|| "CREATE TABLE `n` (`id` int)".into()),
            columns,
            rows: chunks.iter().map(|chunk| chunk.rows).sum(),
            checksum: chunks.iter().map(|chunk| chunk.checksum).sum(),
            largest_statement: chunks.iter().map(|chunk| chunk.largest_statement).max().unwrap_or(0),
            chunks,
        }],
        absent: Vec::new(),
        writer: "a test".into(),
        extra: Default::default(),
    };
    let bytes = manifest.to_json().unwrap();
    store.create(&Key::manifest(&id), Body::Bytes(&bytes)).await.unwrap();
    let entry = DumpEntry {
        manifest: Key::manifest(&id),
        size: bytes.len() as u64,
        md5: Md5::of(&bytes),
        at: head.last_tx,
        snapshot: head.covered.clone(),
        tables: vec![table],
        full,
        mandatory: false,
        lacks: None,
        brought: None,
        resync: false,
        rows: manifest.rows(),
        bytes: manifest.bytes(),
        taken_at: now,
        requests: Vec::new(),
        id,
    };
    let mut tag = etag;
    loop {
        head.append(stream::Body::Dump(entry.clone()), now).unwrap();
        match store::head::write(&*store, &mut head, Some(&tag)).await {
            Ok(_) => return entry,
            Err(error) => assert!(error.is_conflict(), "{error:?}"),
        }
        // An upload was faster.
        let store::head::Read::Head { head: newest, etag } = store::head::read(&*store, None).await.unwrap()
        else {
            panic!("unchanged from nothing")
        };
        (head, tag) = (newest, etag);
    }
}

/// Puts a region's report into the bucket, as `serve` does.
pub async fn report(stream: &Stream, region: &str, seq: u64) {
    let (store, head) = (store(stream).await, head(stream).await);
    let chain = match seq {
        0 => Chain::genesis(head.stream),
        _ if Seq(seq) == head.last_seq => head.tip,
        seq => Index::new(head.clone()).entry(Seq(seq), &*store).await.unwrap().chain,
    };
    let report = RegionReport { chain, seq: Seq(seq), ..report_of(region, head.stream) };
    let key = Key::region(region).unwrap();
    store.delete(&key).await.unwrap();
    store.swap(&key, &report.to_json().unwrap(), None).await.unwrap();
}

pub fn options() -> prune::Options {
    prune::Options {
        keep: Duration::ZERO,
        keep_entries: 1,
        without_reports: false,
        forget: Vec::new(),
        dry_run: false,
        lock_wait: Duration::from_secs(20),
        stop: Default::default(),
    }
}

pub async fn prune(stream: &Stream, options: prune::Options) -> Result<prune::Report, Error> {
    prune::run(&stream.source_config(), &*store(stream).await, &SystemClock, &options).await
}

/// Every key in the bucket.
pub async fn keys(stream: &Stream) -> Vec<String> {
    store(stream).await.list("").await.unwrap().into_iter().map(|object| object.key.to_string()).collect()
}

/// The built program at the source.
pub fn program(stream: &Stream, args: &[&str], failpoints: &str) -> Output {
    let file = stream.source_config().path;
    let mut command = Command::new(env!("CARGO_BIN_EXE_tablecast"));
    command.arg("--config").arg(file).args(args).env("TABLECAST_FAILPOINTS", failpoints);
    command.output().unwrap()
}

/// I1: every object that the index lists is there, as it is listed.
#[track_caller]
pub fn assert_sound(stream: &Stream, when: &str) {
    let output = program(stream, &["verify"], "");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "I1 {when}: {text}{}", String::from_utf8_lossy(&output.stderr));
}

/// Applies the stream up to the transaction `until`.
pub async fn apply_until(stream: &Stream, region: &Server, until: u64) {
    let options = tablecast::region::apply::Options { until: Some(until), ..crate::apply::kit::options() };
    stream.apply_with(&stream.region_config(region), options).await.unwrap();
}

/// Writes to the file of an object.
pub fn damage(stream: &Stream, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let path = stream.bucket().join(key);
    let mut bytes = std::fs::read(&path).unwrap();
    change(&mut bytes);
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(&bytes).unwrap();
}
