//! From the bucket into shadow tables: made from the manifest's definitions, filled over several connections,
//! read back and compared, and only then given their keys.
//!
//! Nothing here touches a table that anybody reads. Whatever fails leaves shadows behind that the next attempt
//! drops. A chunk is downloaded to disk, its size and MD5 looked at, and each of its statements is sent only after
//! it has passed the grammar (I6); one chunk is one transaction.

use std::collections::VecDeque;
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tempfile::NamedTempFile;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::pace::Pace;
use super::shape::{Definition, Shape, shapes};
use super::{server, swap};
use crate::binlog::name::TableSet;
use crate::config::MysqlConfig;
use crate::error::chain;
use crate::mysql::table;
use crate::mysql::wire::{Reply, Wire, command};
use crate::region::definitions::{self, Missing};
use crate::region::plan::NewSchema;
use crate::region::restore::journal::Planned;
use crate::region::segments;
use crate::store::Store;
use crate::stream::chunk;
use crate::stream::{Chunk, DumpedTable, Manifest};
use crate::{Error, Kind, Result, failpoint, mysql};

/// Statements that have been sent and not been answered yet, on one connection.
const IN_FLIGHT: usize = 4;

/// Statements that have been read and not been sent.
const WAITING: usize = 4;

/// How long a store that does not answer is waited for before what has been loaded is given up, and the longest pause
/// between two tries.
const STORE_PATIENCE: Duration = Duration::from_secs(600);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What a statement needs of `max_allowed_packet` beyond its text.
const PACKET_OVERHEAD: u64 = 1024;

/// What loading needs to know.
#[derive(Clone)]
pub struct Loader {
    pub stream: String,
    pub config: MysqlConfig,
    pub store: Arc<dyn Store>,
    pub spool_dir: PathBuf,
    pub connections: usize,
    /// The region's list.
    pub tables: TableSet,
    pub rows: Arc<AtomicU64>,
    pub pace: Arc<Pace>,
    /// The stream goes on beside it: what cannot stand back keeps to one core.
    pub is_beside: bool,
}

/// A chunk and whose it is.
struct Job {
    chunk: Chunk,
    table: usize,
}

impl Loader {
    /// Loads the tables of `plan` from a dump. On return the shadows hold what the manifest promises, with all keys.
    pub async fn run(&self, manifest: &Manifest, plan: &[Planned]) -> Result<()> {
        match self.attempt(manifest, plan, true).await {
            // Keys that are added later may come to lie in another order.
            Err(error) if error.kind() == Kind::Definition => {
                tracing::info!(error = %error, "loading again, with every key from the start");
                self.attempt(manifest, plan, false).await
            }
            result => result,
        }
    }

    /// Drops what a killed load has left, before anything else of a run. `patience`, in seconds: the stream waits.
    pub async fn clear(&self, shapes: &[Shape], patience: u32) -> Result<()> {
        let mut conn = mysql::connect(&self.config).await?;
        let server = mysql::server(&mut conn).await?;
        let mut definer =
            server::definer(&self.config, &self.stream, server.version, "define", patience).await?;
        definer
            .query_drop(format!("SET lock_wait_timeout={patience}"))
            .await
            .map_err(|error| mysql::error(error, "drop shadow tables"))?;
        drop_shadows(&mut definer, shapes).await
    }

    /// Drops what a load that failed has left.
    pub async fn give_up(&self, shapes: &[Shape]) -> Result<()> {
        let mut conn = mysql::connect(&self.config).await?;
        let server = mysql::server(&mut conn).await?;
        let mut definer =
            server::definer(&self.config, &self.stream, server.version, "define", server::PATIENCE).await?;
        drop_shadows(&mut definer, shapes).await
    }

    /// Gives the shadows the CHECKs that they lack. Their tables have lost them by now.
    pub async fn add_checks(&self, shapes: &[Shape]) -> Result<()> {
        let mut conn = mysql::connect(&self.config).await?;
        let mut lacking = swap::lacking_checks(&mut conn, shapes).await?;
        if lacking.is_empty() {
            return Ok(());
        }
        let server = mysql::server(&mut conn).await?;
        let mut definer =
            server::definer(&self.config, &self.stream, server.version, "define", server::PATIENCE).await?;
        // A connection of a killed run may have been at it.
        lacking = swap::lacking_checks(&mut conn, shapes).await?;
        for shape in shapes.iter().filter(|shape| lacking.contains(&shape.table)) {
            let Some(statement) = shape.definition.as_ref().and_then(Definition::checks) else { continue };
            definitions::execute(&mut definer, &statement).await.map_err(|error| {
                mysql::error(error, &format!("add the CHECKs of the shadow of {}", shape.table))
            })?;
        }
        failpoint::hit("restore.checks_added");
        Ok(())
    }

    async fn attempt(&self, manifest: &Manifest, plan: &[Planned], keys_later: bool) -> Result<()> {
        let shapes = shapes(&self.tables, plan, keys_later)?;
        let dumped = dumped(manifest, &shapes);
        let mut conn = mysql::connect(&self.config).await?;
        let server = mysql::server(&mut conn).await?;
        check_packet(&dumped, server.max_allowed_packet)?;
        let mut definer =
            server::definer(&self.config, &self.stream, server.version, "define", server::PATIENCE).await?;
        let mut fillers = Vec::new();
        for number in 0..self.connections.max(1) {
            fillers.push(server::filler(&self.config, &self.stream, server.version, number).await?);
        }
        drop_shadows(&mut definer, &shapes).await?;
        // Those whose names are taken come last of all.
        let late = swap::checks_in_the_way(&mut conn, &shapes).await?;
        let with_checks = |shape: &Shape| late.iter().all(|(table, _)| *table != shape.table);
        self.create(&mut definer, manifest, &shapes, with_checks).await?;
        failpoint::hit("restore.shadows_made");
        self.rows.store(0, Ordering::Relaxed);
        self.fill(fillers, &dumped, &shapes).await?;
        failpoint::hit("restore.rows_loaded");
        self.check(&dumped, &shapes).await?;
        failpoint::hit("restore.rows_checked");
        if self.is_beside && server.version >= server::THREADED_DDL {
            definer
                .query_drop(server::ONE_THREAD)
                .await
                .map_err(|error| mysql::error(error, "prepare to build keys beside the stream"))?;
        }
        build(&mut definer, &shapes).await?;
        failpoint::hit("restore.keys_built");
        for shape in &shapes {
            compare(&mut definer, shape, with_checks(shape)).await?;
        }
        Ok(())
    }

    async fn create(
        &self,
        conn: &mut Conn,
        manifest: &Manifest,
        shapes: &[Shape],
        with_checks: impl Fn(&Shape) -> bool,
    ) -> Result<()> {
        let mut schemas = Vec::new();
        for shape in shapes.iter().filter(|shape| shape.definition.is_some()) {
            let schema = &shape.table.schema;
            let known = |new: &NewSchema| new.schema == *schema;
            if !schemas.iter().any(known) && definitions::schema_collation(conn, schema).await?.is_none() {
                let collation = manifest.schemas.get(schema).map(|defaults| defaults.collation.clone());
                schemas.push(NewSchema { schema: schema.clone(), collation });
            }
        }
        definitions::create(conn, &Missing { schemas, tables: Vec::new() }).await?;
        for shape in shapes {
            let Some(definition) = &shape.definition else { continue };
            definitions::execute(conn, &definition.create(with_checks(shape)))
                .await
                .map_err(|error| mysql::error(error, &format!("make the shadow table of {}", shape.table)))?;
        }
        Ok(())
    }

    /// Fills the shadows with all chunks, several at a time.
    async fn fill(&self, fillers: Vec<Wire>, dumped: &[&DumpedTable], shapes: &[Shape]) -> Result<()> {
        let targets: Vec<Target> = dumped
            .iter()
            .filter_map(|table| {
                let shape = shapes.iter().find(|shape| shape.table == table.table)?;
                Some(Target { name: shape.shadow.clone(), columns: table.columns.clone() })
            })
            .collect();
        let targets = Arc::new(targets);
        let jobs = dumped.iter().enumerate().flat_map(|(table, dumped)| {
            dumped.chunks.iter().map(move |chunk| Job { chunk: chunk.clone(), table })
        });
        let jobs: Arc<Mutex<VecDeque<Job>>> = Arc::new(Mutex::new(jobs.collect()));
        // Dropped, and its tasks with it, by the first that fails.
        let mut tasks = JoinSet::new();
        for (number, wire) in fillers.into_iter().enumerate() {
            let (loader, jobs, targets) = (self.clone(), jobs.clone(), targets.clone());
            tasks.spawn(async move { loader.work(number, wire, &jobs, &targets).await });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(|error| Error::new(Kind::Failed, "load a dump").caused_by(error))??;
        }
        Ok(())
    }

    /// One connection's work: chunk after chunk, the next one downloaded meanwhile.
    async fn work(
        &self,
        number: usize,
        mut wire: Wire,
        jobs: &Mutex<VecDeque<Job>>,
        targets: &[Target],
    ) -> Result<()> {
        // A lock that nobody can have poisoned: nothing is done under it but this.
        let take = || jobs.lock().ok().and_then(|mut jobs| jobs.pop_front());
        let download = |job: Job| {
            let (store, spool_dir) = (self.store.clone(), self.spool_dir.clone());
            let mut task = JoinSet::new();
            task.spawn(async move {
                let file = download(&*store, &spool_dir, &job.chunk).await?;
                Ok::<_, Error>((job, file))
            });
            task
        };
        let mut coming = take().map(download);
        while let Some(mut task) = coming {
            let arrived = task.join_next().await;
            let Some(arrived) = arrived else { break };
            let (job, file) =
                arrived.map_err(|error| Error::new(Kind::Failed, "download").caused_by(error))??;
            coming = take().map(download);
            let target = &targets[job.table];
            self.run_chunk(number, &mut wire, &job.chunk, file, target)
                .await
                .map_err(|error| error.during(format!("load {} into {}", job.chunk.key, target.name)))?;
            failpoint::hit("restore.chunk_loaded");
        }
        wire.close().await;
        Ok(())
    }

    /// Runs a chunk as one transaction.
    async fn run_chunk(
        &self,
        number: usize,
        wire: &mut Wire,
        chunk: &Chunk,
        file: NamedTempFile,
        target: &Target,
    ) -> Result<()> {
        let (sender, mut statements) = mpsc::channel::<(Vec<u8>, u64)>(WAITING);
        let reader = tokio::task::spawn_blocking({
            let (chunk, target) = (chunk.clone(), target.clone());
            move || read(&chunk, file, &target, &sender)
        });
        // What is awaited: the rows that the statement brings; none for BEGIN and COMMIT.
        let mut awaited: VecDeque<Option<u64>> = VecDeque::new();
        wire.queue(command::QUERY, b"BEGIN");
        awaited.push_back(None);
        while let Some((text, rows)) = statements.recv().await {
            self.pace.turn(number).await;
            wire.queue(command::QUERY, &text);
            drop(text);
            wire.flush().await?;
            awaited.push_back(Some(rows));
            while awaited.len() > IN_FLIGHT {
                self.answer(wire, &mut awaited).await?;
            }
        }
        // Only a chunk that was good to its end is committed.
        reader.await.map_err(|error| Error::new(Kind::Failed, "read a chunk").caused_by(error))??;
        failpoint::hit("restore.before_chunk_commit");
        wire.queue(command::QUERY, b"COMMIT");
        awaited.push_back(None);
        wire.flush().await?;
        while !awaited.is_empty() {
            self.answer(wire, &mut awaited).await?;
        }
        Ok(())
    }

    async fn answer(&self, wire: &mut Wire, awaited: &mut VecDeque<Option<u64>>) -> Result<()> {
        match (wire.reply().await?, awaited.pop_front().flatten()) {
            (Reply::Error(error), _) => Err(error.into_error("run its statement")),
            (Reply::Done(done), Some(rows)) if done.affected_rows != rows => Err(Error::new(
                Kind::Failed,
                format!("run its statement: {} rows arrived of {rows}", done.affected_rows),
            )),
            (_, rows) => {
                self.rows.fetch_add(rows.unwrap_or(0), Ordering::Relaxed);
                Ok(())
            }
        }
    }

    /// Reads every shadow back and compares it with the manifest.
    async fn check(&self, dumped: &[&DumpedTable], shapes: &[Shape]) -> Result<()> {
        let mut wire = table::open(&self.config).await?;
        for table in dumped {
            let Some(shape) = shapes.iter().find(|shape| shape.table == table.table) else { continue };
            let columns = table::columns(&mut wire, &shape.shadow).await?;
            if !columns.iter().map(|column| &column.name).eq(&table.columns) {
                let found: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
                return Err(Error::new(
                    Kind::Corrupt,
                    format!(
                        "check the rows of {}: they have the columns {found:?}, the manifest says {:?}",
                        table.table, table.columns
                    ),
                ));
            }
            let connections = if self.is_beside { 1 } else { self.connections };
            let (rows, sum) = table::checksum(&self.config, &shape.shadow, &columns, connections).await?;
            if (rows, sum) != (table.rows, table.checksum) {
                return Err(Error::new(
                    Kind::Corrupt,
                    format!(
                        "check the rows of {}: {rows} have arrived with checksum {sum}, the manifest says {} with {}",
                        table.table, table.rows, table.checksum
                    ),
                )
                .hint("nothing was replaced; the dump is loaded again, or another one asked for"));
            }
        }
        wire.close().await;
        Ok(())
    }
}

/// The tables that have rows to load.
fn dumped<'m>(manifest: &'m Manifest, shapes: &[Shape]) -> Vec<&'m DumpedTable> {
    let made = shapes.iter().filter(|shape| shape.definition.is_some());
    made.filter_map(|shape| manifest.table(&shape.table)).collect()
}

/// Where the rows of a table go.
#[derive(Clone)]
struct Target {
    name: crate::binlog::name::TableName,
    columns: Vec<String>,
}

/// Reads a chunk's statements, each checked, and hands them on.
fn read(
    chunk: &Chunk,
    file: NamedTempFile,
    target: &Target,
    sender: &mpsc::Sender<(Vec<u8>, u64)>,
) -> Result<()> {
    let opened = File::open(file.path()).map_err(|error| {
        Error::new(Kind::Failed, format!("open {}", file.path().display())).caused_by(error)
    })?;
    let mut reader = chunk::open(chunk, opened, &target.name, &target.columns)?;
    while let Some(statement) = reader.next()? {
        let rows = statement.rows;
        if sender.blocking_send((statement.text.to_vec(), rows)).is_err() {
            // Whoever sends them has met an error, and that is the one to tell.
            return Err(Error::new(Kind::Failed, "read a chunk: nobody takes its statements"));
        }
    }
    reader.finish().map(|_| ())
}

async fn download(store: &dyn Store, spool_dir: &std::path::Path, chunk: &Chunk) -> Result<NamedTempFile> {
    let object = segments::Promised { key: &chunk.key, size: chunk.size, md5: chunk.md5, by: "the manifest" };
    let doing = format!("read {}/{}", store.url(), chunk.key);
    let (begin, mut pause) = (Instant::now(), Duration::from_secs(1));
    loop {
        match segments::download(store, spool_dir, &object, &doing).await {
            Err(error) if error.kind() == Kind::Store && begin.elapsed() < STORE_PATIENCE => {
                let seconds = pause.as_secs();
                tracing::warn!(error = %chain(&error), "a load waits for the store; next try in {seconds} s");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            result => return result,
        }
    }
}

/// A statement that this server does not take is told before anything is made.
fn check_packet(dumped: &[&DumpedTable], max_allowed_packet: u64) -> Result<()> {
    let Some(largest) = dumped.iter().max_by_key(|table| table.largest_statement) else { return Ok(()) };
    let needed = largest.largest_statement + PACKET_OVERHEAD;
    if needed <= max_allowed_packet {
        return Ok(());
    }
    let message = format!(
        "check the dump of {}: its longest statement needs max_allowed_packet={needed}, and it is \
         {max_allowed_packet} here",
        largest.table
    );
    Err(Error::new(Kind::Failed, message).hint(match needed.div_ceil(1 << 20) {
        mib @ 0..=1024 => {
            format!("SET PERSIST max_allowed_packet={}; it is tried again by itself", mib << 20)
        }
        _ => "no max_allowed_packet is large enough for this row".to_owned(),
    }))
}

/// Drops the shadows, those of an earlier attempt.
pub async fn drop_shadows(conn: &mut Conn, shapes: &[Shape]) -> Result<()> {
    if shapes.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = shapes.iter().map(|shape| shape.shadow.quoted()).collect();
    conn.query_drop(format!("DROP TABLE IF EXISTS {}", names.join(", ")))
        .await
        .map_err(|error| mysql::error(error, "drop shadow tables"))
}

/// Keys of all tables first: a foreign key wants its parent's.
async fn build(conn: &mut Conn, shapes: &[Shape]) -> Result<()> {
    let definitions = || shapes.iter().filter_map(|shape| Some((shape, shape.definition.as_ref()?)));
    for (shape, definition) in definitions() {
        let Some(statement) = definition.keys() else { continue };
        definitions::execute(conn, &statement).await.map_err(|error| {
            mysql::error(error, &format!("build the keys of the shadow of {}", shape.table))
        })?;
    }
    for (shape, definition) in definitions() {
        let Some(statement) = definition.foreign_keys() else { continue };
        definitions::execute(conn, &statement).await.map_err(|error| {
            mysql::error(error, &format!("add the foreign keys of the shadow of {}", shape.table))
        })?;
    }
    Ok(())
}

/// Compares a shadow's definition with the manifest's; unless `with_checks`, before it has got its CHECKs.
pub async fn compare(conn: &mut Conn, shape: &Shape, with_checks: bool) -> Result<()> {
    let Some(definition) = &shape.definition else { return Ok(()) };
    match definitions::show_create(conn, &shape.shadow).await? {
        Some(found) => definition.compare(&found, with_checks),
        // Only another load helps.
        None => Err(Error::new(Kind::NotFound, format!("check the shadow of {}: it is gone", shape.table))),
    }
}
