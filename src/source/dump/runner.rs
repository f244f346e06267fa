//! One dump, from the snapshot to its manifest in the bucket. Nothing of the stream is touched: until the index
//! lists it, a dump is a folder of objects that nobody reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde::Serialize;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::chunks::{Progress, Work, WrittenTable};
use super::snapshot::{self, Snapshot};
use crate::binlog::gtid::GtidSet;
use crate::binlog::name::{TableName, TableSet};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::failpoint;
use crate::mysql;
use crate::source::preflight::on_schema;
use crate::source::upload::as_text;
use crate::source::{definitions, schemas};
use crate::store::{Body, Store};
use crate::stream::head::{SchemaDefaults, TableSetVersion};
use crate::stream::{Chunk, DumpId, DumpedTable, FORMAT, Key, Manifest, Md5, RowsChecksum};

/// What to dump.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub id: DumpId,
    pub stream: Uuid,
    pub set: TableSetVersion,
    pub wanted: Wanted,
    /// What counts as part of the snapshot beside what the source has executed: for a resync, what the stream has
    /// covered already; else nothing.
    pub covered: GtidSet,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Every table of the set.
    All,
    Tables(BTreeSet<TableName>),
}

/// How it ended.
pub(crate) enum Outcome {
    Written(Box<Written>),
    /// A DDL at the source waited for it, named here; nothing is worth that the stream stands still.
    GaveWay(TableName),
    Stopped,
}

/// A dump that is complete in the bucket.
pub(crate) struct Written {
    pub manifest: Manifest,
    /// What the source had executed in the snapshot, without [`Order::covered`].
    pub executed: GtidSet,
    pub key: Key,
    pub size: u64,
    pub md5: Md5,
    /// Every table that it speaks about: those in it, and those that are not there at the source.
    pub tables: Vec<TableName>,
}

/// What a dump would be made of.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    pub tables: Vec<PlannedTable>,
    /// Wanted, and no base table at the source: a region that restores the dump loses it.
    pub absent: Vec<TableName>,
}

/// One table, as large as the server estimates it.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedTable {
    pub table: TableName,
    #[serde(serialize_with = "as_text")]
    pub rows: u64,
    #[serde(serialize_with = "as_text")]
    pub bytes: u64,
}

/// Looks what a dump would be made of.
pub async fn plan(config: &Config, set: &TableSet, wanted: &Wanted) -> Result<Plan> {
    let mut conn = mysql::connect(&config.mysql).await?;
    let there = there(&mut conn, set, wanted, &format!("plan a dump of {}", config.mysql)).await?;
    if let Some((_, why)) = there.refused.into_iter().next() {
        return Err(why);
    }
    let tables = there.tables.into_iter();
    let tables = tables.map(|(table, Size { rows, bytes })| PlannedTable { table, rows, bytes }).collect();
    Ok(Plan { tables, absent: there.absent.into_iter().collect() })
}

/// How often to look whether a DDL waits.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often tables may come and go while the snapshot is taken.
const ROUNDS: u32 = 5;

/// Takes the dump.
pub(crate) async fn take(
    config: &Config,
    store: Arc<dyn Store>,
    order: Order,
    progress: Arc<Progress>,
    stop: CancellationToken,
) -> Result<Outcome> {
    let mut conn = mysql::connect(&config.mysql).await?;
    let doing = format!("take dump {} at {}", order.id, config.mysql);
    let server_version = mysql::server(&mut conn).await?.version_text;
    shows_waits(&mut conn, &doing).await?;
    let (there, snapshot) = tokio::select! {
        () = stop.cancelled() => return Ok(Outcome::Stopped),
        taken = begin(config, &mut conn, &order, &doing) => taken?,
    };
    let Snapshot { wires, executed, taken_at, pause, attempts } = snapshot;
    tracing::info!(
        "dump {}: snapshot of {} tables at {executed}, after {attempts} attempts; writers waited {:.1} ms at most",
        order.id,
        there.tables.len(),
        pause.as_secs_f64() * 1e3
    );
    failpoint::hit("dump.snapshot");
    progress.rows_total.store(there.tables.values().map(|size| size.rows).sum(), Ordering::Relaxed);
    let names: Vec<TableName> = there.tables.keys().cloned().collect();
    // The first connection of the snapshot keeps DDL away: what is read now was so at that moment.
    let ids: Vec<u32> = wires.iter().map(mysql::wire::Wire::connection_id).collect();
    let sizes = there.tables.iter().map(|(name, size)| (name.clone(), size.bytes)).collect();
    let work = Arc::new(Work::new(store.clone(), config.dump.clone(), order.id.clone(), progress, sizes));
    let written = async {
        let definitions = describe(config, &names).await?;
        work.run(wires, &stop).await?;
        Ok::<_, Error>(definitions)
    };
    let definitions = tokio::select! {
        written = written => match written {
            Ok(definitions) => definitions,
            // Behind a DDL that waits for our first connection, another one of ours may wait.
            Err(error) => match waiting(&mut conn, &names, &doing).await {
                Ok(Some(table)) => return Ok(Outcome::GaveWay(table)),
                _ => return Err(error.during(doing)),
            },
        },
        gave_way = give_way(&mut conn, &names, &doing) => {
            let table = gave_way?;
            // Dropped connections are noticed when the server next writes to them: they are ended at once.
            for id in ids {
                let _ = conn.query_drop(format!("KILL {id}")).await;
            }
            return Ok(Outcome::GaveWay(table));
        }
    };
    if stop.is_cancelled() {
        return Ok(Outcome::Stopped);
    }
    let tables = dumped(work.finish(), definitions, &doing)?;
    let manifest = Manifest {
        format: FORMAT,
        stream: order.stream,
        id: order.id.clone(),
        snapshot: executed.union(&order.covered),
        taken_at,
        server_version,
        table_set_version: order.set.version,
        full: order.wanted == Wanted::All,
        pause_us: u64::try_from(pause.as_micros()).unwrap_or(u64::MAX),
        schemas: there.schemas,
        tables,
        absent: there.absent.into_iter().collect(),
        writer: format!("tablecast {}", env!("CARGO_PKG_VERSION")),
        extra: Default::default(),
    };
    let json = manifest.to_json()?;
    let key = Key::manifest(&order.id);
    failpoint::hit("dump.before_manifest_put");
    store.create(&key, Body::Bytes(&json)).await?;
    failpoint::hit("dump.after_manifest_put");
    let _ = conn.disconnect().await;
    let (size, md5) = (json.len() as u64, Md5::of(&json));
    let tables = manifest.speaks_about();
    Ok(Outcome::Written(Box::new(Written { manifest, executed, key, size, md5, tables })))
}

/// What the source has of what is wanted.
struct There {
    tables: BTreeMap<TableName, Size>,
    /// Wanted, and no base table there.
    absent: BTreeSet<TableName>,
    schemas: BTreeMap<String, SchemaDefaults>,
    /// Wanted, and not to be dumped: why.
    refused: Vec<(TableName, Error)>,
}

/// As the server estimates it.
#[derive(Clone, Copy)]
struct Size {
    rows: u64,
    bytes: u64,
}

/// Finds the tables and takes the snapshot; again, if the one is not of the other's moment.
async fn begin(config: &Config, conn: &mut Conn, order: &Order, doing: &str) -> Result<(There, Snapshot)> {
    for _ in 0..ROUNDS {
        let there = there(conn, &order.set.tables, &order.wanted, doing).await?;
        if let Some((_, why)) = there.refused.into_iter().next() {
            return Err(why);
        }
        let names: Vec<TableName> = there.tables.keys().cloned().collect();
        // Made beforehand, so that nothing but the moment itself lies between the two looks.
        let taken = snapshot::take(&config.mysql, &names, config.dump.connections, snapshot::PATIENCE).await;
        let snapshot = match taken {
            Ok(snapshot) => snapshot,
            Err(error) => {
                let now = self::there(conn, &order.set.tables, &order.wanted, doing).await?;
                if now.tables.keys().eq(there.tables.keys()) {
                    return Err(error.during(doing));
                }
                continue;
            }
        };
        // A table that came or went between the look and the lock.
        let now = self::there(conn, &order.set.tables, &order.wanted, doing).await?;
        if now.tables.keys().eq(there.tables.keys()) && now.absent == there.absent {
            return Ok((now, snapshot));
        }
    }
    Err(Error::new(Kind::Mysql, format!("{doing}: tables of the set come and go all the time"))
        .hint("take it when no tables are being created, renamed or dropped"))
}

async fn there(conn: &mut Conn, set: &TableSet, wanted: &Wanted, doing: &str) -> Result<There> {
    let found = base_tables(conn, set, doing).await?;
    let is_all = &matches!(wanted, Wanted::All);
    let wanted: BTreeSet<TableName> = match wanted {
        Wanted::All => set.listed().cloned().chain(found.keys().cloned()).collect(),
        Wanted::Tables(tables) => tables.clone(),
    };
    let mut there = There {
        tables: BTreeMap::new(),
        absent: BTreeSet::new(),
        schemas: schemas::read(conn, doing, set).await?,
        refused: Vec::new(),
    };
    if *is_all {
        sees_whole_schemas(conn, set, doing).await?;
    }
    for table in wanted {
        match found.get(&table) {
            // Not to be seen is not to be gone: a region that restores the dump drops what is gone.
            None => match definitions::show_create(conn, &table).await {
                Ok(None) => {
                    there.absent.insert(table);
                }
                Ok(Some(_)) => {
                    let why = format!("{doing}: {table} came up just now, or is not shown to this account");
                    there.refused.push((table, Error::new(Kind::Mysql, why).hint("try again")));
                }
                Err(error) if error.kind() == Kind::Denied => {
                    let grant = format!("GRANT SELECT ON {} TO this account", table.quoted());
                    there.refused.push((table, error.during(doing).hint(grant)));
                }
                Err(error) => return Err(error.during(doing)),
            },
            Some((engine, size)) if engine.eq_ignore_ascii_case("InnoDB") => {
                there.tables.insert(table, *size);
            }
            Some((engine, _)) => {
                let why = format!("{doing}: {table} is of the engine {engine}, which has no snapshots");
                let hint = format!("ALTER TABLE {} ENGINE=InnoDB", table.quoted());
                there.refused.push((table, Error::new(Kind::Usage, why).hint(hint)));
            }
        }
    }
    Ok(there)
}

/// Those of the wanted tables that cannot be dumped, with the reason: whoever waits for others need not suffer.
pub(crate) async fn refused(
    config: &Config,
    set: &TableSet,
    wanted: &Wanted,
) -> Result<Vec<(TableName, Error)>> {
    let mut conn = mysql::connect(&config.mysql).await?;
    let there = there(&mut conn, set, wanted, &format!("take a dump at {}", config.mysql)).await?;
    let _ = conn.disconnect().await;
    Ok(there.refused)
}

/// All tables of a schema are known only to an account that may see all of them.
async fn sees_whole_schemas(conn: &mut Conn, set: &TableSet, doing: &str) -> Result<()> {
    let privileges = mysql::Privileges::read(conn).await.map_err(|error| error.during(doing))?;
    let sees = |schema: &String| privileges.in_schema("SELECT", schema);
    match set.schemas().into_iter().find(|schema| set.has_whole_schema(schema) && !sees(schema)) {
        None => Ok(()),
        Some(schema) => Err(Error::new(
            Kind::Denied,
            format!("{doing}: the account may not see every table of {schema}, and {schema}.* is in the set"),
        )
        .hint(privileges.fit(on_schema("this account", set, &schema)))),
    }
}

/// Whether the server shows who waits for metadata locks. This very query holds one.
pub(crate) async fn shows_waits(conn: &mut Conn, doing: &str) -> Result<()> {
    let locks: Option<u64> = conn
        .query_first("SELECT COUNT(*) FROM performance_schema.metadata_locks")
        .await
        .map_err(|cause| mysql::error(cause, doing))?;
    if locks.is_some_and(|locks| locks > 0) {
        return Ok(());
    }
    Err(Error::new(
        Kind::Usage,
        format!("{doing}: the server does not show metadata locks: a DDL would wait for the whole dump, and writers behind it"),
    )
    .hint(
        "performance_schema must be ON; then UPDATE performance_schema.setup_instruments SET ENABLED='YES' WHERE \
         NAME='wait/lock/metadata/sql/mdl', and performance-schema-instrument='wait/lock/metadata/sql/mdl=ON' in my.cnf",
    ))
}

/// The base tables of the set that exist, each with its engine.
async fn base_tables(
    conn: &mut Conn,
    set: &TableSet,
    doing: &str,
) -> Result<BTreeMap<TableName, (String, Size)>> {
    let mut found = BTreeMap::new();
    conn.query_drop("SET SESSION information_schema_stats_expiry = 0")
        .await
        .map_err(|cause| mysql::error(cause, doing))?;
    for schema in set.schemas() {
        type Row = (String, Option<String>, Option<u64>, Option<u64>);
        let rows: Vec<Row> = conn
            .exec(
                "SELECT TABLE_NAME, ENGINE, TABLE_ROWS, DATA_LENGTH FROM information_schema.TABLES \
                 WHERE TABLE_SCHEMA = ? AND TABLE_TYPE = 'BASE TABLE'",
                (&schema,),
            )
            .await
            .map_err(|cause| mysql::error(cause, doing))?;
        for (name, engine, rows, bytes) in rows {
            let table = TableName::new(&schema, name);
            if set.names(&table) {
                let size = Size { rows: rows.unwrap_or(0), bytes: bytes.unwrap_or(0) };
                found.insert(table, (engine.unwrap_or_default(), size));
            }
        }
    }
    Ok(found)
}

/// A base table of the set that has snapshots, as large as the server estimates it.
pub(crate) struct InnodbTable {
    pub name: TableName,
    pub rows: u64,
    pub bytes: u64,
}

/// Those that exist, by name.
pub(crate) async fn innodb_tables(conn: &mut Conn, set: &TableSet, doing: &str) -> Result<Vec<InnodbTable>> {
    let found = base_tables(conn, set, doing).await?.into_iter();
    let is_innodb = |(_, (engine, _)): &(TableName, (String, Size))| engine.eq_ignore_ascii_case("InnoDB");
    let table = |(name, (_, Size { rows, bytes }))| InnodbTable { name, rows, bytes };
    Ok(found.filter(is_innodb).map(table).collect())
}

async fn describe(config: &Config, tables: &[TableName]) -> Result<BTreeMap<TableName, Option<String>>> {
    let mut conn = mysql::connect(&config.mysql).await?;
    let reading = definitions::read(&mut conn, &config.mysql.to_string(), tables).await?;
    let _ = conn.disconnect().await;
    Ok(reading.tables)
}

fn dumped(
    written: Vec<WrittenTable>,
    mut definitions: BTreeMap<TableName, Option<String>>,
    doing: &str,
) -> Result<Vec<DumpedTable>> {
    let dumped = written.into_iter().map(|WrittenTable { table, columns, chunks }| {
        let create_table = definitions.remove(&table).flatten().ok_or_else(|| {
            Error::new(Kind::Mysql, format!("{doing}: {table} has no definition, though it is locked"))
        })?;
        let sum = |of: fn(&Chunk) -> u64| chunks.iter().map(of).fold(0, u64::saturating_add);
        Ok(DumpedTable {
            create_table,
            columns,
            rows: sum(|chunk| chunk.rows),
            checksum: chunks.iter().map(|chunk| chunk.checksum).sum::<RowsChecksum>(),
            largest_statement: chunks.iter().map(|chunk| chunk.largest_statement).max().unwrap_or(0),
            chunks,
            table,
        })
    });
    dumped.collect()
}

/// Returns when a DDL waits for one of the tables.
async fn give_way(conn: &mut Conn, tables: &[TableName], doing: &str) -> Result<TableName> {
    loop {
        sleep(LOOK_EVERY).await;
        if let Some(table) = waiting(conn, tables, doing).await? {
            return Ok(table);
        }
    }
}

/// One of the tables on which somebody waits for a metadata lock that ours are in the way of.
async fn waiting(conn: &mut Conn, tables: &[TableName], doing: &str) -> Result<Option<TableName>> {
    let pending: Vec<(String, String)> = conn
        .query(
            "SELECT OBJECT_SCHEMA, OBJECT_NAME FROM performance_schema.metadata_locks \
             WHERE OBJECT_TYPE = 'TABLE' AND LOCK_STATUS = 'PENDING' \
               AND LOCK_TYPE IN ('EXCLUSIVE', 'SHARED_NO_READ_WRITE')",
        )
        .await
        .map_err(|cause| mysql::error(cause, doing))?;
    let pending = pending.into_iter().map(|(schema, name)| TableName::new(schema, name));
    Ok(pending.into_iter().find(|table| tables.contains(table)))
}
