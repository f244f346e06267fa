//! What runs at the source: uploads with their dumps and resyncs, prune, pauses. The steps are the product's own; what
//! stands here is what MySQL does for them otherwise: a binlog to read, a snapshot to take.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{Either, select};
use tokio_util::sync::CancellationToken;

use super::bucket::{Bucket, NoLock};
use super::source::{self, Committed};
use super::world::World;
use crate::binlog::event::Checksum;
use crate::binlog::gtid::GtidSet;
use crate::binlog::name::TableName;
use crate::config::Config;
use crate::metrics::Meters;
use crate::mysql::Incoming;
use crate::source::definitions::{Tracker, Views};
use crate::source::dump::{self, Desk, Place, Written};
use crate::source::pass::{Pass, Tools};
use crate::source::schemas::Schemas;
use crate::source::set_change::catch_up;
use crate::source::tip::Tip;
use crate::source::upload::{self, Report};
use crate::source::{lost, pause, prune, resync};
use crate::store::{self, Body, Store, head::Read};
use crate::stream::paused::Wanted;
use crate::stream::{
    Chunk, Codec, DumpEntry, DumpId, DumpedTable, FORMAT, Head, Key, Manifest, Md5, RowsChecksum,
    SchemaDefaults,
};
use crate::{Error, Kind, Result};

/// How a run of an upload goes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Run {
    /// It takes a full dump beside the stream.
    pub dumps: bool,
    /// One that every region restores.
    pub is_mandatory: bool,
    /// Its snapshot lacks this transaction, which the source had committed a moment ago.
    pub lacks: Option<u64>,
}

/// A process: where it is, and what it works with.
#[derive(Clone)]
pub(super) struct Own {
    pub world: Arc<World>,
    pub process: usize,
    pub config: Arc<Config>,
}

impl Own {
    pub fn bucket(&self) -> Bucket {
        Bucket { world: self.world.clone(), process: self.process }
    }

    pub fn lock(&self) -> NoLock {
        NoLock { world: self.world.clone(), process: self.process }
    }
}

/// No table of the simulated source is a view.
struct NoViews;

#[async_trait]
impl Views for NoViews {
    async fn is_view(&mut self, _: &TableName) -> Result<bool> {
        Ok(false)
    }
}

/// One run of `upload`: whoever loses a swap begins again from the newest head.
pub(super) async fn uploads(own: Own, run: Run) -> Result<()> {
    const CONFLICTS: u32 = 5;
    let mut conflicts = 0;
    loop {
        match session(&own, run).await {
            Err(error) if error.is_conflict() && conflicts < CONFLICTS => conflicts += 1,
            ended => return ended,
        }
    }
}

async fn session(own: &Own, run: Run) -> Result<()> {
    let (bucket, mut lock) = (own.bucket(), own.lock());
    let tools = Tools { config: &own.config, store: &bucket, clock: &*own.world };
    let mut tip = Tip::load(tools.store, &own.config.files.cache_dir).await?;
    upload::go_on(tools, &mut tip)?;
    let mut report = Report::new(&own.config, false, Meters::default());
    if !purged(own).is_subset(&tip.head.covered) {
        resyncs(own, tools, &mut lock, &mut tip, &mut report).await?;
    }
    let desk = Desk::default();
    desk.lock_taken(tip.head.stream);
    let passes = pin!(async {
        loop {
            let (schemas, tracker) = (Schemas::default(), Tracker::default());
            let mut pass = Pass::new(tools, &mut tip, &mut lock, &mut report, schemas, tracker, true);
            read(own, &mut pass).await?;
            pass.finish().await?;
            pass.attend(&desk).await?;
            if desk.is_closed() {
                return Ok::<(), Error>(());
            }
            desk.work().await;
        }
    });
    let jobs = pin!(async {
        let taken = if run.dumps { takes_dump(own, &desk, run).await } else { Ok(()) };
        desk.withdraw();
        desk.close();
        taken
    });
    match select(passes, jobs).await {
        Either::Left((ended, _)) => ended,
        Either::Right((taken, passes)) => {
            passes.await?;
            // A dump that failed is another run's business, unless something is not as it was written.
            taken.or_else(|error| if error.kind() == Kind::Corrupt { Err(error) } else { Ok(()) })
        }
    }
}

/// Reads the binlog to its end.
async fn read(own: &Own, pass: &mut Pass<'_>) -> Result<()> {
    let new: Vec<Committed> = own.world.state().source.behind(&pass.covered);
    if new.is_empty() {
        return Ok(());
    }
    pass.take(&mut NoViews, incoming(source::format())).await?;
    for committed in new {
        if let Some(change) = committed.set_change() {
            pass.change_set(change).await?;
        }
        for event in committed.events() {
            pass.take(&mut NoViews, incoming(event)).await?;
        }
    }
    Ok(())
}

fn incoming(event: crate::binlog::event::Event) -> Incoming {
    Incoming::Event { crc: event.checksum() == Checksum::Crc32, bytes: event.into_bytes() }
}

fn purged(own: &Own) -> GtidSet {
    own.world.state().source.purged.clone()
}

async fn newest(bucket: &Bucket) -> Result<Head> {
    match store::head::read(bucket, None).await? {
        Read::Head { head, .. } => Ok(*head),
        Read::Unchanged => Err(Error::new(Kind::Store, "unchanged since never")),
    }
}

/// What a job does around the stream: a snapshot, its objects, and its place.
async fn takes_dump(own: &Own, desk: &Desk, run: Run) -> Result<()> {
    let bucket = own.bucket();
    let before = newest(&bucket).await?;
    let mut snapshot = own.world.state().source.executed();
    if let Some(lacks) = run.lacks {
        let mut unseen = GtidSet::new();
        unseen.insert(&source::gtid(lacks));
        snapshot = snapshot.difference(&unseen);
    }
    own.world.step(own.process, "snapshot").await?;
    let written = writes_dump(own, &bucket, &before, snapshot.clone()).await?;
    desk.cover(snapshot.clone()).await;
    let head = newest(&bucket).await?;
    // In the binlog, and shipped, a moment before the server shows it: the product tells by what it has shipped.
    let beyond = before.covered.difference(&snapshot);
    let (cache, spool) = (&own.config.files.cache_dir, &own.config.files.spool_dir);
    if !lost::shipped(&bucket, &head, &beyond, cache, spool).await?.is_empty() {
        return Err(Error::new(Kind::Mysql, "the snapshot lacks what the stream has shipped"));
    }
    let at = match dump::place(&bucket, &head, before.last_tx, &snapshot, &written.tables, spool).await? {
        Place::At(at) => at,
        Place::Torn(tx) => return Err(Error::new(Kind::Mysql, format!("torn at {}", tx.0))),
    };
    let entry = DumpEntry {
        id: written.manifest.id.clone(),
        manifest: written.key,
        size: written.size,
        md5: written.md5,
        at,
        snapshot,
        tables: written.tables,
        full: true,
        mandatory: run.is_mandatory,
        lacks: None,
        brought: None,
        resync: false,
        rows: written.manifest.rows(),
        bytes: written.manifest.bytes(),
        taken_at: written.manifest.taken_at,
        requests: Vec::new(),
    };
    desk.append(entry, before.table_set.version).await.map(drop)
}

/// The dump that stands for what is lost.
async fn resyncs(
    own: &Own,
    tools: Tools<'_>,
    lock: &mut NoLock,
    tip: &mut Tip,
    report: &mut Report,
) -> Result<()> {
    let bucket = own.bucket();
    let changes = own.world.state().source.changes_behind(tip.head.table_set.version);
    let before = catch_up(&tip.head, &changes, tools.clock.now())?;
    let executed = own.world.state().source.executed();
    let snapshot = executed.union(&tip.head.covered);
    own.world.step(own.process, "snapshot").await?;
    let written = Written { executed, ..writes_dump(own, &bucket, &before, snapshot).await? };
    let since = own.world.state().source.changes_behind(before.table_set.version);
    if !since.is_empty() {
        return Err(Error::new(Kind::Mysql, "the table set changed meanwhile: to be begun again"));
    }
    resync::append(tools, lock, tip, report, before, written, None).await
}

/// One table, and in it one row for each transaction of the set that the snapshot has.
async fn writes_dump(own: &Own, bucket: &Bucket, head: &Head, snapshot: GtidSet) -> Result<Written> {
    let (now, id, rows) = {
        let mut state = own.world.state();
        let rows: Vec<u64> = state.source.rows_in(&snapshot);
        (state.now, DumpId::new(state.now, state.random()), rows)
    };
    let bytes = serde_json::to_vec(&rows).map_err(|e| Error::new(Kind::Failed, "write rows").caused_by(e))?;
    let key = Key::chunk(&id, 0, 0, Codec::Gzip);
    let chunk = Chunk {
        key: key.clone(),
        size: bytes.len() as u64,
        md5: Md5::of(&bytes),
        raw_size: 1_000_000,
        codec: Codec::Gzip,
        rows: rows.len() as u64,
        checksum: RowsChecksum::default(),
        largest_statement: 1,
    };
    let table = DumpedTable {
        table: TableName::new("g", "apps"),
        create_table: "CREATE TABLE `apps` (\n  `id` int unsigned NOT NULL\n)".to_owned(),
        columns: vec!["id".to_owned()],
        rows: chunk.rows,
        checksum: chunk.checksum,
        largest_statement: u64::from(!rows.is_empty()),
        chunks: if rows.is_empty() { Vec::new() } else { vec![chunk] },
    };
    if !rows.is_empty() {
        bucket.create(&key, Body::Bytes(&bytes)).await?;
    }
    let defaults = SchemaDefaults { collation: "utf8mb4_bin".to_owned() };
    let manifest = Manifest {
        format: FORMAT,
        stream: head.stream,
        id: id.clone(),
        snapshot: snapshot.clone(),
        taken_at: now,
        server_version: "8.4.0".to_owned(),
        table_set_version: head.table_set.version,
        full: true,
        pause_us: 0,
        schemas: BTreeMap::from([("g".to_owned(), defaults)]),
        tables: vec![table],
        absent: Vec::new(),
        writer: "simulated".to_owned(),
        extra: Default::default(),
    };
    let json = manifest.to_json()?;
    let key = Key::manifest(&id);
    bucket.create(&key, Body::Bytes(&json)).await?;
    let tables = manifest.speaks_about();
    Ok(Written { manifest, executed: snapshot, key, size: json.len() as u64, md5: Md5::of(&json), tables })
}

/// How `stream prune` is run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pruning {
    pub keep: Duration,
    pub keep_entries: u64,
    pub without_reports: bool,
}

pub(super) async fn prunes(own: Own, how: Pruning) -> Result<()> {
    let options = prune::Options {
        keep: how.keep,
        keep_entries: how.keep_entries,
        without_reports: how.without_reports,
        forget: Vec::new(),
        dry_run: false,
        lock_wait: Duration::ZERO,
        stop: CancellationToken::new(),
    };
    prune::under_lock(&own.config, &own.bucket(), &*own.world, &options, &mut own.lock()).await.map(drop)
}

/// Pauses the stream, and ends the pause; killed in between, it stays.
pub(super) async fn pauses(own: Own) -> Result<()> {
    let wanted = Wanted { reason: "simulated".to_owned(), by: "somebody".to_owned(), until: None };
    let bucket = own.bucket();
    pause::change(&own.config, &bucket, &*own.world, Some(&wanted), false).await?;
    own.world.step(own.process, "rest").await?;
    pause::change(&own.config, &bucket, &*own.world, None, false).await.map(drop)
}

/// Ends a pause that somebody has left.
pub(super) async fn resumes(own: Own) -> Result<()> {
    pause::change(&own.config, &own.bucket(), &*own.world, None, false).await.map(drop)
}

/// The source goes on.
pub(super) async fn commits(own: Own, what: Vec<(source::What, bool)>) -> Result<()> {
    for (what, out_of_order) in what {
        own.world.step(own.process, "commit").await?;
        let mut state = own.world.state();
        let now = state.now;
        let what = match what {
            // Numbered when it commits.
            source::What::Set { .. } => {
                let (version, has_more) = state.source.version();
                source::What::Set { version: version + 1, has_more: !has_more }
            }
            other => other,
        };
        state.source.commit(what, out_of_order, now);
        drop(state);
    }
    Ok(())
}
