//! `tables add`: tables come into the set, with what they are at that very transaction.

use std::time::Duration;

use mysql_async::prelude::Queryable;
use tokio::time::{Instant, sleep};

use super::{Desk, Incoming, Options, ROUNDS, Report, comes_in, has};
use crate::binlog::name::{TableName, TablePattern, TableSet};
use crate::config::{Config, MysqlConfig};
use crate::error::{Error, Kind, Result};
use crate::mysql::table;
use crate::source::set_table::{self, Change, NAME};
use crate::source::{definitions, fitness, moment, replica_filters, schemas};
use crate::store::Store;
use crate::stream::{AddedTable, RowsChecksum, definition};
use crate::{failpoint, mysql};

/// What messages say is being done to a table.
const VERB: &str = "add";
/// Writers of these tables wait at most so long for one attempt to get the lock: the shortest that MySQL knows.
const LOCK_WAIT: Duration = Duration::from_secs(1);
/// Writers of these tables wait at most so long for a mini-replica to come to where its copy can be compared.
const SOURCE_MAY_BE_BEHIND: Duration = Duration::from_secs(5);
/// Between two attempts.
const BETWEEN: [u64; 5] = [300, 700, 500, 1100, 900];
/// How long attempts go on.
const PATIENCE: Duration = Duration::from_secs(60);

/// Adds `patterns` to the set.
pub async fn add(
    config: &Config,
    store: &dyn Store,
    patterns: &[TablePattern],
    options: &Options,
) -> Result<Report> {
    let mut desk = Desk::open(config, store).await?;
    for _ in 0..ROUNDS {
        if let Some(report) = attempt(&mut desk, patterns, options).await? {
            let _ = desk.conn.disconnect().await;
            return Ok(report);
        }
    }
    Err(Error::new(
        Kind::Conflict,
        format!(
            "change the table set at {}: it, or what comes in, changed {ROUNDS} times meanwhile",
            desk.server
        ),
    )
    .hint("`tablecast tables list` shows the set; run again when nobody else changes it"))
}

/// What comes in, as it is looked for before the lock.
struct Candidates {
    /// There, and fit to travel.
    tables: Vec<TableName>,
    to_come: Vec<TableName>,
    warnings: Vec<String>,
}

/// `None`: somebody was faster, look again.
async fn attempt(
    desk: &mut Desk<'_>,
    patterns: &[TablePattern],
    options: &Options,
) -> Result<Option<Report>> {
    let (before, pending) = desk.newest().await?;
    let (already, new): (Vec<_>, Vec<_>) =
        patterns.iter().cloned().partition(|pattern| has(&before.tables, pattern));
    let mut report = Report {
        stream: desk.head.name.clone(),
        uuid: desk.head.stream,
        server: desk.server.clone(),
        dry_run: options.dry_run,
        changed: !new.is_empty(),
        version: before.version,
        tables: before.tables.clone(),
        already,
        added: Vec::new(),
        to_come: Vec::new(),
        removed: Vec::new(),
        needs_dump: false,
        locked_us: None,
        pending: pending.len() as u64,
        warnings: Vec::new(),
    };
    if new.is_empty() {
        return Ok(Some(report));
    }
    let after = TableSet::new(before.tables.patterns().cloned().chain(new))?;
    let found = candidates(desk, &before.tables, &after).await?;
    let version = before.version + 1;
    let Written { added, warnings, locked_us } = if options.dry_run {
        let added = describe(desk, &found.tables, &after).await?;
        Written { added, warnings: Vec::new(), locked_us: None }
    } else {
        match write(desk, (&before.tables, version), &after, &found, options).await? {
            Some(written) => written,
            None => return Ok(None),
        }
    };
    report.version = version;
    report.tables = after;
    report.locked_us = locked_us;
    report.needs_dump = added.iter().any(|added| added.has_rows);
    report.added =
        added.into_iter().map(|AddedTable { table, has_rows, .. }| Incoming { table, has_rows }).collect();
    report.to_come = found.to_come;
    report.warnings = desk.warnings.iter().cloned().chain(found.warnings).chain(warnings).collect();
    Ok(Some(report))
}

/// Refuses whatever cannot travel, by name, before anything is locked.
async fn candidates(desk: &mut Desk<'_>, before: &TableSet, after: &TableSet) -> Result<Candidates> {
    // A slip of the pen is told before a filter that leaves it out.
    schemas_exist(desk, before, after).await?;
    let (tables, to_come) = existing(desk, before, after).await?;
    let server = desk.server.clone();
    for table in &tables {
        fitness::check(&mut desk.conn, &server, table, VERB).await?;
    }
    let warnings = desk.check(after, &to_come).await?;
    let comes = |table: &TableName| comes_in(before, after, table);
    let ghosts = mysql::ghosts(&mut desk.conn, &server, after).await?;
    fitness::no_migration(&ghosts, &server, comes, VERB)?;
    let outside = fitness::outside_keys(&mut desk.conn, &server, after).await?;
    if let Some(key) = outside.iter().find(|key| comes(&key.from)) {
        return Err(Error::new(Kind::Usage, format!("add {}: {key}", key.from)).hint(format!(
            "a region cannot have that key without that table: `tablecast tables add {} {}`",
            key.from, key.to
        )));
    }
    if desk.config.primary.is_some() {
        are_at_the_source(desk, &tables).await?;
    }
    Ok(Candidates { tables, to_come, warnings })
}

/// I3: a mini-replica whose filter has let a table in without getting a copy of it has nothing that a dump could hold.
async fn are_at_the_source(desk: &mut Desk<'_>, tables: &[TableName]) -> Result<()> {
    let source = desk.config.mysql.to_string();
    let mut conn = mysql::connect(&desk.config.mysql).await?;
    let here = definitions::read(&mut desk.conn, &desk.server, tables).await?;
    let mut there = definitions::read(&mut conn, &source, tables).await?;
    for (table, text) in here.tables {
        let (Some(here), there) = (text, there.tables.remove(&table).flatten()) else { continue };
        let differs = match there {
            None => Some("does not have it"),
            Some(there) if definition::normalise(&there) != definition::normalise(&here) => {
                Some("defines it otherwise")
            }
            Some(_) => {
                // Both are asked, whatever the one says: its rows have to be read there, for the comparison and for dumps.
                let there = fitness::has_rows(&mut conn, &source, &table).await?;
                let here = fitness::has_rows(&mut desk.conn, &desk.server, &table).await?;
                (here && !there).then_some("has no rows of it")
            }
        };
        if let Some(differs) = differs {
            return Err(Error::new(Kind::Usage, format!("add {table}: the source {source} {differs}")).hint(
                "a replica may be behind: run again when it has caught up. A mini-replica needs a copy of the table \
                 first: `tablecast processor rebuild` (docs/runbooks/add-a-table.md)",
            ));
        }
    }
    let _ = conn.disconnect().await;
    Ok(())
}

/// A pattern is of a schema that is there: another name is a slip of the pen.
async fn schemas_exist(desk: &mut Desk<'_>, before: &TableSet, after: &TableSet) -> Result<()> {
    let there = schemas::read(&mut desk.conn, &desk.server, after).await?;
    match after.schemas().into_iter().find(|schema| !before.has_schema(schema) && !there.contains_key(schema))
    {
        None => Ok(()),
        Some(schema) => {
            let server = &desk.server;
            Err(Error::new(Kind::Usage, format!("add tables of {schema}: {server} has no such schema")).hint(
                "create it first, or correct the name (names are compared with their case), or grant this account \
                 SELECT on it",
            ))
        }
    }
}

/// The tables that come in: those that are there, and names without a table. A view counts as there, to be refused.
async fn existing(
    desk: &mut Desk<'_>,
    before: &TableSet,
    after: &TableSet,
) -> Result<(Vec<TableName>, Vec<TableName>)> {
    let doing = format!("read information_schema.TABLES at {}", desk.server);
    let mut there = Vec::new();
    let mut to_come = Vec::new();
    for table in definitions::existing(&mut desk.conn, &desk.server, after).await? {
        if !comes_in(before, after, &table) {
            continue;
        }
        let found: Option<u8> = desk
            .conn
            .exec_first(
                "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?",
                (&table.schema, &table.table),
            )
            .await
            .map_err(|cause| mysql::error(cause, &doing))?;
        match found {
            Some(_) => there.push(table),
            // Not to be seen is not to be gone.
            None => match definitions::show_create(&mut desk.conn, &table).await? {
                Some(_) => there.push(table),
                None => to_come.push(table),
            },
        }
    }
    Ok((there, to_come))
}

/// What the tables are now.
async fn describe(desk: &mut Desk<'_>, tables: &[TableName], set: &TableSet) -> Result<Vec<AddedTable>> {
    let defaults = schemas::read(&mut desk.conn, &desk.server, set).await?;
    let mut reading = definitions::read(&mut desk.conn, &desk.server, tables).await?;
    let mut added = Vec::new();
    for table in tables {
        let gone =
            || Error::new(Kind::Conflict, format!("add {table}: it has just gone from {}", desk.server));
        let text = reading.tables.remove(table).flatten().ok_or_else(gone)?;
        let defaults = defaults.get(&table.schema).ok_or_else(gone)?;
        added.push(AddedTable {
            table: table.clone(),
            create_table: definition::normalise(&text),
            has_rows: fitness::has_rows(&mut desk.conn, &desk.server, table).await?,
            collation: defaults.collation.clone(),
        });
    }
    Ok(added)
}

struct Written {
    added: Vec<AddedTable>,
    warnings: Vec<String>,
    locked_us: Option<u64>,
}

/// The change itself, under the lock. `None`: something is not as it was, look again.
async fn write(
    desk: &mut Desk<'_>,
    (before, version): (&TableSet, u64),
    after: &TableSet,
    found: &Candidates,
    options: &Options,
) -> Result<Option<Written>> {
    set_table::make(&mut desk.conn, &desk.server).await?;
    failpoint::hit("tables.before_lock");
    lock(desk, &found.tables).await?;
    let begin = Instant::now();
    failpoint::hit("tables.locked");
    let written = under_lock(desk, (before, version), after, found, options).await;
    // Whatever came of it: the lock must not outlive this.
    let unlocked = desk.conn.query_drop("UNLOCK TABLES").await;
    let locked_us = u64::try_from(begin.elapsed().as_micros()).ok();
    failpoint::hit("tables.unlocked");
    let added = match written {
        Ok(Some(added)) => added,
        Ok(None) => return Ok(None),
        Err(error) if error.is_conflict() => return Ok(None),
        Err(error) => return Err(error),
    };
    unlocked.map_err(|cause| mysql::error(cause, &format!("UNLOCK TABLES at {}", desk.server)))?;
    // What is made between the look under the lock and the row's commit has no lock to wait for.
    let (now, _) = existing(desk, before, after).await?;
    let missed = now.into_iter().filter(|table| !found.tables.contains(table));
    let warnings = missed.map(|table| {
        format!(
            "{table} was made at the same moment; should regions not have it, `tablecast dump take --mandatory {table}` \
             brings it"
        )
    });
    Ok(Some(Written { added, warnings: warnings.collect(), locked_us }))
}

async fn under_lock(
    desk: &mut Desk<'_>,
    (before, version): (&TableSet, u64),
    after: &TableSet,
    found: &Candidates,
    options: &Options,
) -> Result<Option<Vec<AddedTable>>> {
    let newest = set_table::newest(&mut desk.conn, &desk.server, desk.head.stream).await?;
    if newest >= version || existing_names(desk, before, after).await? != found.tables {
        return Ok(None);
    }
    let added = describe(desk, &found.tables, after).await?;
    are_copied(desk, &found.tables).await?;
    let change = Change { version, tables: after.clone(), added: added.clone(), removed: Vec::new() };
    desk.insert(&change, options.reason.as_deref()).await?;
    Ok(Some(added))
}

/// I3: what a mini-replica's filter left out until now it has no copy of, or an old one (a CLONE holds every table as it
/// was then), and dumps are taken there. Under the lock nothing changes: both sides are compared row by row. A replica
/// without filters has had every change.
async fn are_copied(desk: &mut Desk<'_>, tables: &[TableName]) -> Result<()> {
    let config = desk.config;
    let Some(primary) = config.primary.as_ref().filter(|_| !tables.is_empty()) else { return Ok(()) };
    let source = config.mysql.to_string();
    let mut conn = mysql::connect(&config.mysql).await?;
    if !replica_filters::has_any(&mut conn, &source).await? {
        return Ok(());
    }
    let executed = moment::executed(&mut desk.conn, &desk.server).await?;
    let doing = format!("wait until {source} has what {} has", desk.server);
    let late: Option<Option<i64>> = conn
        .exec_first(
            "SELECT WAIT_FOR_EXECUTED_GTID_SET(?, ?)",
            (executed.to_string(), SOURCE_MAY_BE_BEHIND.as_secs()),
        )
        .await
        .map_err(|cause| mysql::error(cause, &doing))?;
    if late.flatten() != Some(0) {
        let within = SOURCE_MAY_BE_BEHIND.as_secs();
        return Err(Error::new(Kind::Mysql, format!("{doing}: not within {within} s"))
            .hint("its copy of the tables that come in has to be compared: run again when its replication has caught up"));
    }
    for table in tables {
        let connections = config.dump.connections;
        let there = summed(primary, table, connections).await?;
        let here = summed(&config.mysql, table, connections).await?;
        if there != here {
            return Err(Error::new(
                Kind::Usage,
                format!(
                    "add {table}: the source {source} holds {} rows of it that are not the primary's {}",
                    here.0, there.0
                ),
            )
            .hint(
                "its filter has left the table out until now, so it needs a new copy of it: `tablecast processor \
                 rebuild`, or by hand (docs/runbooks/add-a-table.md)",
            ));
        }
    }
    let _ = conn.disconnect().await;
    Ok(())
}

async fn summed(config: &MysqlConfig, table: &TableName, connections: usize) -> Result<(u64, RowsChecksum)> {
    let mut wire = table::open(config).await?;
    let columns = table::columns(&mut wire, table).await?;
    wire.close().await;
    table::checksum(config, table, &columns, connections).await
}

/// The tables that come in and are there, by name alone: under LOCK TABLES others cannot be opened.
async fn existing_names(desk: &mut Desk<'_>, before: &TableSet, after: &TableSet) -> Result<Vec<TableName>> {
    let mut tables = Vec::new();
    for schema in after.schemas() {
        let doing = format!("list the tables of {schema} at {}", desk.server);
        let names: Vec<String> = desk
            .conn
            .exec("SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = ?", (&schema,))
            .await
            .map_err(|cause| mysql::error(cause, &doing))?;
        tables.extend(names.into_iter().map(|name| TableName::new(&schema, name)));
    }
    tables.retain(|table| comes_in(before, after, table));
    tables.sort();
    Ok(tables)
}

/// Takes a read lock on the tables, and the write lock on the set's own. Gives writers way between attempts.
async fn lock(desk: &mut Desk<'_>, tables: &[TableName]) -> Result<()> {
    /// ER_LOCK_WAIT_TIMEOUT, ER_LOCK_DEADLOCK
    const NOT_GRANTED: [u16; 2] = [1205, 1213];
    let doing = format!("lock the tables that come in, at {}", desk.server);
    let wait = format!("SET SESSION lock_wait_timeout = {}", LOCK_WAIT.as_secs());
    desk.conn.query_drop(wait).await.map_err(|cause| mysql::error(cause, &doing))?;
    let locks = tables.iter().map(|table| format!("{} READ", table.quoted()));
    let statement =
        format!("LOCK TABLES {}", locks.chain([format!("{NAME} WRITE")]).collect::<Vec<_>>().join(", "));
    let begin = Instant::now();
    for pause in BETWEEN.iter().cycle() {
        match desk.conn.query_drop(&statement).await {
            Ok(()) => return Ok(()),
            Err(mysql_async::Error::Server(e)) if NOT_GRANTED.contains(&e.code) => {}
            Err(cause) => return Err(mysql::error(cause, &doing)),
        }
        if begin.elapsed() >= PATIENCE {
            break;
        }
        tracing::debug!("{doing}: not granted yet");
        sleep(Duration::from_millis(*pause)).await;
    }
    let own = set_table::name();
    let who = mysql::blockers(&mut desk.conn, &tables.iter().chain([&own]).collect::<Vec<_>>()).await;
    Err(Error::new(Kind::Mysql, format!("{doing}: not granted within {} s: {who}", PATIENCE.as_secs()))
        .hint("a transaction that has used one of these tables is still open: end it, and run again; nothing has changed"))
}
