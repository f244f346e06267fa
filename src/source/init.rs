//! `stream init`: make the stream. Its UUID, its table set, and the point of the source's history at which it
//! begins, in the first head.
//!
//! Refuses tables that cannot travel, a store that ignores the conditions of a write, and a prefix that holds
//! a stream already. Version 1 of the set is written down on the server that is written to, in
//! `tablecast.table_set`; nothing else there. A run that is killed has either made the stream or not: a row of a
//! stream that never came to be means nothing to anybody.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::DateTime;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use uuid::Uuid;

use crate::binlog::gtid::GtidSet;
use crate::binlog::name::{TableName, TablePattern, TableSet};
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, Kind, Result, chain};
use crate::failpoint;
use crate::mysql;
use crate::source::definitions::{self, Reading};
use crate::source::moment::{self, Moment};
use crate::source::{fitness, preflight, primacy, schemas, set_table};
use crate::store::{self, Store};
use crate::stream::{Definition, Head, SchemaDefaults, StreamTx, definition};

mod report;

pub use report::{Plan, Report};

#[derive(Clone, Debug)]
pub struct Options {
    pub tables: TableSet,
    /// Begin the stream at this GTID set of the source instead of now: that of a copy which the regions get.
    pub covered: Option<GtidSet>,
    /// Only say what would be made.
    pub dry_run: bool,
    /// How long another run may go on holding the stream's lock.
    pub lock_wait: Duration,
}

/// How often the definitions are read again because DDL ran meanwhile.
const READINGS: u32 = 10;

/// What messages say is being done to a table.
const VERB: &str = "make a stream of";
const NEEDS_BOTH: &str = "a region cannot have that key unless it has that table too";

/// Makes the stream.
pub async fn run(config: &Config, store: &dyn Store, clock: &dyn Clock, options: &Options) -> Result<Report> {
    let server = config.mysql.to_string();
    refuse_existing(store).await?;
    let mut conn = mysql::connect(&config.mysql).await?;
    let mut warnings = preflight::require(&mut conn, &server, &options.tables).await?;
    let tables = tables(&mut conn, &server, &options.tables).await?;
    let ghosts = mysql::ghosts(&mut conn, &server, &options.tables).await?;
    fitness::no_migration(&ghosts, &server, |_| true, VERB)?;
    let stream = Uuid::new_v4();
    if !options.dry_run {
        // Before the moment at which the stream begins: it need not read this.
        warnings.extend(write_first_version(config, stream, &options.tables).await);
    }
    let (mut start, reading) = start(&mut conn, &server, &options.tables).await?;
    primacy::judge(config, &mut start.moment).await;
    warnings.extend(start.moment.doubt.iter().map(ToString::to_string));
    let moment = &start.moment;
    preflight::mode(moment, &server)?;
    let (covered, is_now) = begins_at(options, moment, &server)?;

    let mut with_rows = Vec::new();
    let mut known = Vec::new();
    for table in tables.iter().filter(|_| is_now) {
        let has_rows = start.rows.get(table).copied().unwrap_or(false);
        if has_rows {
            with_rows.push(table.clone());
        }
        if let Some(Some(text)) = reading.tables.get(table) {
            known.push(Definition {
                table: table.clone(),
                since_tx: StreamTx::ZERO,
                create_table: definition::normalise(text),
                rows_at_init: Some(has_rows),
            });
        }
    }
    warnings.extend(prepared(&mut conn, &server).await?);
    let outside = fitness::outside_keys(&mut conn, &server, &options.tables).await?;
    warnings.extend(outside.iter().map(|key| format!("{key}: {NEEDS_BOTH}")));
    let as_of = moment.complete_until.filter(|_| is_now);
    if as_of.is_none() && is_now && moment.doubt.is_none() {
        warnings.push(format!(
            "{server} is a replica that stands still, is behind or has heard nothing yet: as_of is unknown until an \
             upload finds it caught up"
        ));
    }
    if !options.dry_run {
        let probe = store::probe(store).await?;
        if !probe.is_sound() {
            return Err(Error::new(
                Kind::Denied,
                format!("probe {}: {}", store.url(), probe.findings.join("; ")),
            )
            .hint(
                "two uploads at once would overwrite each other's index here: use a store that honours If-Match and \
                 If-None-Match",
            ));
        }
    }

    let mut head = Head::new(stream, config.stream.clone(), options.tables.clone(), clock.now());
    head.source_region.clone_from(&config.source_region);
    head.schemas = start.schemas;
    head.covered = covered;
    head.as_of = as_of.unwrap_or(DateTime::UNIX_EPOCH);
    for definition in known {
        head.define(definition);
    }
    if !options.dry_run {
        store::head::write(store, &mut head, None)
            .await
            .map_err(|error| if error.is_conflict() { exists(store).caused_by(error) } else { error })?;
    }
    Ok(Report {
        dry_run: options.dry_run,
        plan: Plan::new(config, &head, tables, with_rows, is_now),
        warnings,
    })
}

/// Version 1 of the set, where `tables` will write the later ones. The stream works without: a warning, if it cannot
/// be written.
async fn write_first_version(config: &Config, stream: Uuid, tables: &TableSet) -> Option<String> {
    let written = async {
        let (mut conn, server) = set_table::writer(config).await?;
        set_table::would_stop_the_source(config).await?;
        set_table::make(&mut conn, &server).await?;
        set_table::writes_rows(&mut conn, &server).await?;
        let first =
            set_table::Change { version: 1, tables: tables.clone(), added: Vec::new(), removed: Vec::new() };
        set_table::insert(&mut conn, &server, (stream, &config.stream), &first, None).await?;
        failpoint::hit("init.after_first_version");
        let _ = conn.disconnect().await;
        Ok::<_, Error>(())
    };
    let error = written.await.err()?;
    let hint = error.hint_text().map(|hint| format!(" ({hint})")).unwrap_or_default();
    Some(format!(
        "the table set is not written down in tablecast.table_set, and `tablecast tables` will not be able to change \
         it before it can write there: {}{hint}",
        chain(&error)
    ))
}

async fn refuse_existing(store: &dyn Store) -> Result<()> {
    match store::head::read(store, None).await {
        Ok(_) => Err(exists(store)),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

fn exists(store: &dyn Store) -> Error {
    Error::new(Kind::Usage, format!("make a stream at {}: there is one already", store.url()))
        .hint("`tablecast stream show` shows it; give `store` in the config another prefix for a new one")
}

/// Where the stream begins, and whether that is the source as it is now.
fn begins_at(options: &Options, moment: &Moment, server: &str) -> Result<(GtidSet, bool)> {
    let Some(covered) = &options.covered else { return Ok((moment.executed.clone(), true)) };
    let unknown = covered.difference(&moment.executed);
    if !unknown.is_empty() {
        return Err(Error::new(Kind::Usage, format!("begin at {covered}: {server} does not have {unknown}"))
            .hint(
                "give the GTID set of a copy that was taken from this source, e.g. mysqldump's GTID_PURGED",
            ));
    }
    let lost = moment.purged.difference(covered);
    if !lost.is_empty() {
        return Err(Error::new(
            Kind::History,
            format!("begin at {covered}: the binary logs of {server} no longer hold {lost}"),
        )
        .hint("take a newer copy, and begin at its GTID set"));
    }
    Ok((covered.clone(), *covered == moment.executed))
}

struct Start {
    moment: Moment,
    schemas: BTreeMap<String, SchemaDefaults>,
    /// Which tables hold rows.
    rows: BTreeMap<TableName, bool>,
}

/// Looks at the source, with what holds at that very point (definitions, defaults, whether a table is empty):
/// read before and after it, and the same.
async fn start(conn: &mut Conn, server: &str, set: &TableSet) -> Result<(Start, Reading)> {
    let mut before = state(conn, server, set).await?;
    for _ in 0..READINGS {
        let moment = moment::look(conn, server).await?;
        failpoint::hit("init.after_moment");
        let after = state(conn, server, set).await?;
        if before.reading.tables == after.reading.tables
            && (&before.schemas, &before.rows) == (&after.schemas, &after.rows)
        {
            return Ok((Start { moment, schemas: after.schemas, rows: after.rows }, after.reading));
        }
        before = after;
    }
    Err(Error::new(
        Kind::Failed,
        format!("read the definitions at {server}: they changed {READINGS} times meanwhile"),
    )
    .hint("run again when no DDL runs on the tables of the set"))
}

struct State {
    reading: Reading,
    schemas: BTreeMap<String, SchemaDefaults>,
    rows: BTreeMap<TableName, bool>,
}

async fn state(conn: &mut Conn, server: &str, set: &TableSet) -> Result<State> {
    let tables = definitions::existing(conn, server, set).await?;
    let mut reading = definitions::read(conn, server, &tables).await?;
    // The counters that rows move are no part of the definition.
    for text in reading.tables.values_mut().flatten() {
        *text = definition::normalise(text);
    }
    let mut rows = BTreeMap::new();
    for (table, _) in reading.tables.iter().filter(|(_, text)| text.is_some()) {
        rows.insert(table.clone(), fitness::has_rows(conn, server, table).await?);
    }
    Ok(State { reading, schemas: schemas::read(conn, server, set).await?, rows })
}

/// The tables of the set, every one of them fit to travel.
async fn tables(conn: &mut Conn, server: &str, set: &TableSet) -> Result<Vec<TableName>> {
    let doing = format!("read information_schema.TABLES at {server}");
    for pattern in set.patterns() {
        let schema = pattern.schema();
        let found: Option<u8> = conn
            .exec_first("SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = ?", (schema,))
            .await
            .map_err(|cause| mysql::error(cause, &doing))?;
        if found.is_none() && matches!(pattern, TablePattern::Schema(_)) {
            return Err(Error::new(
                Kind::Usage,
                format!("make a stream of {pattern}: {server} has no schema {schema}"),
            )
            .hint(
                "create it first, or correct the name (names are compared with their case), or grant this \
                       account SELECT on it",
            ));
        }
    }
    let tables = definitions::existing(conn, server, set).await?;
    for table in &tables {
        fitness::check(conn, server, table, VERB).await?;
    }
    Ok(tables)
}

/// Refuses to begin while XA transactions are prepared: their rows stand in the binlog before the stream begins,
/// and would take effect after it. A warning, where the account may not ask.
async fn prepared(conn: &mut Conn, server: &str) -> Result<Option<String>> {
    const DENIED: u16 = 1401;
    const DENIED_BY_PRIVILEGE: u16 = 1227;
    match conn.query::<Row, _>("XA RECOVER").await {
        Ok(rows) if rows.is_empty() => Ok(None),
        Ok(rows) => Err(Error::new(
            Kind::Gate,
            format!("make a stream at {server}: XA RECOVER lists {} prepared transactions", rows.len()),
        )
        .hint("commit or roll them back first: a change of the set's tables in one of them would be missing in the stream")),
        Err(mysql_async::Error::Server(e)) if [DENIED, DENIED_BY_PRIVILEGE].contains(&e.code) => Ok(Some(format!(
            "{server}: the account lacks XA_RECOVER_ADMIN, so nobody has looked for prepared XA transactions; one that \
             changed a table of the set and is committed later would be missing in the stream (XA RECOVER shows them)"
        ))),
        Err(cause) => Err(mysql::error(cause, &format!("XA RECOVER at {server}"))),
    }
}
