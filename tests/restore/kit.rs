//! Dumps as a source takes them, made step by step so that tests decide what happens between the snapshot and the
//! entry.

use std::collections::BTreeMap;

use tablecast::binlog::gtid::GtidSet;
use tablecast::binlog::name::{TableName, shadow_name};
use tablecast::clock::{Clock, SystemClock};
use tablecast::mysql::table;
use tablecast::store::{self, Store, head};
use tablecast::stream::chunk::ChunkWriter;
use tablecast::stream::{
    Body, Chunk, Codec, DumpEntry, DumpId, DumpedTable, FORMAT, Key, Manifest, Md5, RowsChecksum,
    SchemaDefaults, StreamTx,
};

pub use crate::apply::kit::Stream;
use crate::support::mysql::Server;

/// A dump whose rows are in the bucket, and whose entry is not in the index yet.
#[derive(Clone)]
pub struct Taken {
    manifest: Manifest,
    at: StreamTx,
    size: u64,
    md5: Md5,
}

/// What an entry says beside what it holds.
#[derive(Clone, Copy, Default)]
pub struct Kind {
    pub full: bool,
    pub mandatory: bool,
    pub resync: bool,
}

pub const FULL: Kind = Kind { full: true, mandatory: false, resync: false };
pub const SOME: Kind = Kind { full: false, mandatory: false, resync: false };
pub const MANDATORY: Kind = Kind { full: true, mandatory: true, resync: false };

async fn open(stream: &Stream) -> std::sync::Arc<dyn Store> {
    store::open(&stream.source_config()).await.unwrap()
}

async fn read(store: &dyn Store) -> (tablecast::stream::Head, store::Etag) {
    match head::read(store, None).await.unwrap() {
        head::Read::Head { head, etag } => (*head, etag),
        head::Read::Unchanged => unreachable!("nothing was known"),
    }
}

/// Ships everything, and reads the tables as they are then. Nobody may write to them meanwhile.
pub async fn take(stream: &Stream, tables: &[&str]) -> Taken {
    stream.upload().await;
    let store = open(stream).await;
    let (head, _) = read(&*store).await;
    let now = SystemClock.now();
    let id = DumpId::new(now, rand_u32());
    let mut names: Vec<TableName> =
        tables.iter().map(|table| TableName::new(stream.schema, *table)).collect();
    names.sort();
    let there = base_tables(stream).await;
    let (names, absent): (Vec<TableName>, Vec<TableName>) =
        names.into_iter().partition(|name| there.contains(&name.table));
    let mut dumped = Vec::new();
    for (number, name) in names.iter().enumerate() {
        dumped.push(table_of(stream.source, &*store, &id, number, name).await);
    }
    let collation: String = stream
        .source
        .value(&format!(
            "SELECT DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = '{}'",
            stream.schema
        ))
        .await;
    let manifest = Manifest {
        format: FORMAT,
        stream: head.stream,
        id: id.clone(),
        snapshot: head.covered.clone(),
        taken_at: now,
        server_version: stream.source.value("SELECT VERSION()").await,
        table_set_version: 1,
        full: false,
        pause_us: 1000,
        schemas: BTreeMap::from([(stream.schema.to_owned(), SchemaDefaults { collation })]),
        absent,
        tables: dumped,
        writer: "tests".into(),
        extra: Default::default(),
    };
    let bytes = manifest.to_json().unwrap();
    store.create(&Key::manifest(&id), store::Body::Bytes(&bytes)).await.unwrap();
    Taken { manifest, at: head.last_tx, size: bytes.len() as u64, md5: Md5::of(&bytes) }
}

fn rand_u32() -> u32 {
    uuid::Uuid::new_v4().as_fields().0
}

/// Small chunks, so that there are several.
const CHUNK: u64 = 200_000;

async fn table_of(
    source: &Server,
    store: &dyn Store,
    id: &DumpId,
    number: usize,
    name: &TableName,
) -> DumpedTable {
    let mut wire = table::open(&source.config()).await.unwrap();
    let columns = table::columns(&mut wire, name).await.unwrap();
    let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
    let mut chunks = Vec::new();
    let shadow = shadow_name(name);
    let new = || {
        ChunkWriter::new(
            flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()),
            &shadow,
            &names,
        )
    };
    let mut writer = new().unwrap();
    let mut scan = table::TableScan::open(&mut wire, name, &columns, &table::Range::all()).await.unwrap();
    let mut rows = 0;
    let mut done = false;
    while !done {
        match scan.next().await.unwrap() {
            Some(tuple) => {
                writer.row(tuple).unwrap();
                rows += 1;
            }
            None => done = true,
        }
        if (done && rows > 0) || writer.raw_size() > CHUNK {
            let (gzip, stats) = std::mem::replace(&mut writer, new().unwrap()).finish().unwrap();
            rows = 0;
            let bytes = gzip.finish().unwrap();
            let key = Key::chunk(id, number, chunks.len(), Codec::Gzip);
            store.create(&key, store::Body::Bytes(&bytes)).await.unwrap();
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
    }
    let checksum: RowsChecksum = chunks.iter().map(|chunk| chunk.checksum).sum();
    DumpedTable {
        table: name.clone(),
        create_table: source.show_create(&name.quoted()).await,
        columns: names,
        rows: chunks.iter().map(|chunk| chunk.rows).sum(),
        checksum,
        largest_statement: chunks.iter().map(|chunk| chunk.largest_statement).max().unwrap_or(0),
        chunks,
    }
}

/// Appends a dump's entry to the index.
pub async fn publish(stream: &Stream, taken: &Taken, kind: Kind) -> DumpId {
    let store = open(stream).await;
    let (mut head, etag) = read(&*store).await;
    let manifest = &taken.manifest;
    let snapshot: GtidSet = match kind.resync {
        true => {
            let mut all = head.covered.clone();
            all.extend(&stream.source.gtid_executed().await);
            all
        }
        false => manifest.snapshot.clone(),
    };
    let entry = DumpEntry {
        id: manifest.id.clone(),
        manifest: Key::manifest(&manifest.id),
        size: taken.size,
        md5: taken.md5,
        at: taken.at,
        snapshot,
        tables: manifest.speaks_about(),
        full: kind.full,
        mandatory: kind.mandatory,
        lacks: kind.resync.then(GtidSet::new),
        brought: kind.resync.then(GtidSet::new),
        resync: kind.resync,
        rows: manifest.rows(),
        bytes: manifest.bytes(),
        taken_at: manifest.taken_at,
        requests: Vec::new(),
    };
    head.append(Body::Dump(entry), SystemClock.now()).unwrap();
    head::write(&*store, &mut head, Some(&etag)).await.unwrap();
    manifest.id.clone()
}

/// A dump of these tables as they are now.
pub async fn dump(stream: &Stream, tables: &[&str], kind: Kind) -> DumpId {
    let taken = take(stream, tables).await;
    publish(stream, &taken, kind).await
}

/// Restores of the region: state, and why.
///
/// Without the notes of tables that have gone out of a list, which stand in the same record.
pub async fn restores(region: &Server) -> Vec<(String, String)> {
    region.rows("SELECT state, why FROM tablecast.restore ORDER BY id").await
}

/// No table of ours is left beside the stream's.
pub async fn assert_clean(region: &Server) {
    let left: Vec<String> = region
        .rows("SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_NAME LIKE '\\_tablecast\\_%'")
        .await;
    assert!(left.is_empty(), "{left:?}");
    let quarantined: Vec<String> = region.rows("SELECT table_name FROM tablecast.quarantine").await;
    assert!(quarantined.is_empty(), "{quarantined:?}");
}

/// Every table of the stream's schema.
pub async fn base_tables(stream: &Stream) -> Vec<String> {
    stream
        .source
        .rows(&format!(
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{}' AND TABLE_TYPE = 'BASE TABLE'",
            stream.schema
        ))
        .await
}
