//! A dump's objects: the manifest against its entry, each chunk against the manifest, and, when they are read,
//! every row's form and the rows' checksums.

use std::path::Path;

use futures::StreamExt;

use crate::binlog::name::shadow_name;
use crate::commands::fetch::Promise;
use crate::error::{Error, Kind, Result};
use crate::store::{Fetched, Store};
use crate::stream::{Chunk, DumpEntry, DumpedTable, Manifest, chunk};

/// What was found of one object.
pub struct Found {
    pub object: String,
    pub size: u64,
    pub result: Result<()>,
}

/// Every object of a dump. The chunks of one whose manifest cannot be read are not known.
pub async fn check(
    store: &dyn Store,
    dump: &DumpEntry,
    quick: bool,
    spool: &Path,
    at_once: usize,
) -> Vec<Found> {
    let found = |result| Found { object: dump.manifest.to_string(), size: dump.size, result };
    let manifest = match manifest(store, dump).await {
        Ok(manifest) => manifest,
        Err(error) => return vec![found(Err(error))],
    };
    let mut found = vec![found(Ok(()))];
    let chunks: Vec<_> = manifest
        .tables
        .iter()
        .flat_map(|table| table.chunks.iter().map(move |chunk| (table, chunk)))
        .map(|(table, chunk)| check_chunk(store, table, chunk, quick, spool))
        .collect();
    let mut chunks = futures::stream::iter(chunks).buffer_unordered(at_once);
    while let Some(chunk) = chunks.next().await {
        found.push(chunk);
    }
    found
}

/// The manifest that the entry promises.
pub async fn manifest(store: &dyn Store, dump: &DumpEntry) -> Result<Manifest> {
    let promise = Promise::of_manifest(dump);
    promise.stat(store).await?;
    let Fetched::Object { bytes, .. } = store.get(&dump.manifest, None).await? else {
        return Err(Error::new(
            Kind::Store,
            format!("read {}: answered \"unchanged\" unasked", dump.manifest),
        ));
    };
    promise.compare(bytes.len() as u64, Some(crate::stream::Md5::of(&bytes)))?;
    let manifest = Manifest::parse(&dump.id, &bytes)?;
    let tables = manifest.speaks_about();
    let fits = manifest.snapshot == dump.snapshot
        && manifest.full == dump.full
        && tables == dump.tables
        && (manifest.rows(), manifest.bytes()) == (dump.rows, dump.bytes);
    if fits {
        return Ok(manifest);
    }
    Err(Error::new(
        Kind::Corrupt,
        format!(
            "read {}: it holds {} rows in {} bytes of {} tables at {}, the index says {} rows in {} bytes of {} tables \
             at {}",
            dump.manifest,
            manifest.rows(),
            manifest.bytes(),
            tables.len(),
            manifest.snapshot,
            dump.rows,
            dump.bytes,
            dump.tables.len(),
            dump.snapshot
        ),
    ))
}

async fn check_chunk(
    store: &dyn Store,
    table: &DumpedTable,
    chunk: &Chunk,
    quick: bool,
    spool: &Path,
) -> Found {
    let promise = Promise::of_chunk(chunk);
    let result = match quick {
        true => promise.stat(store).await,
        false => read_chunk(store, &promise, table, chunk, spool).await,
    };
    Found { object: chunk.key.to_string(), size: chunk.size, result }
}

async fn read_chunk(
    store: &dyn Store,
    promise: &Promise<'_>,
    table: &DumpedTable,
    chunk: &Chunk,
    spool: &Path,
) -> Result<()> {
    let file = promise.download(store, spool).await?;
    let file = file.reopen().map_err(|cause| {
        Error::new(Kind::Failed, format!("read {}", file.path().display())).caused_by(cause)
    })?;
    let (chunk, target, columns) = (chunk.clone(), shadow_name(&table.table), table.columns.clone());
    let read = move || chunk::open(&chunk, file, &target, &columns)?.finish();
    let read = tokio::task::spawn_blocking(read).await;
    read.map_err(|cause| Error::new(Kind::Failed, "verify ended by a panic: this is a bug").caused_by(cause))?
        .map(drop)
}
