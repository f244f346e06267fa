//! What must hold before the first change: each as a check that `doctor` lists and `apply` insists on.
//!
//! What can be tried without changing anything is tried: what an account may do hangs on roles, wildcards and the
//! server's mode. The privileges on tables are read (`privileges`). Nothing here changes anything.

use std::sync::Arc;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde::Serialize;

use super::apply::pass::{lock_name, region_of};
use super::position::{self, Executed};
use super::quarantine::{self, Passing, Quarantined};
use super::replay::{Context, Session};
use super::restore::names as names_of;
use super::scope::{self, Scope, left_out};
use super::{definitions, guard, history, privileges, ties};
use crate::binlog::name::{TablePattern, TableSet};
use crate::config::{Config, OnConflict};
use crate::error::chain;
use crate::mysql::{self, BinaryLogStatus, Server};
use crate::store::Store;
use crate::store::head::Read;
use crate::stream::{Head, Index};
use crate::{Error, Kind, Result, store};

/// Row events of up to 16 MiB, as text.
const MODEST_PACKET: u64 = 64 << 20;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Passed,
    /// Works now, but something will not.
    Warning,
    /// `apply` refuses to run.
    Failed,
}

/// One precondition, tried for real.
#[derive(Clone, Debug)]
pub struct Check {
    pub name: &'static str,
    pub outcome: Outcome,
    /// What `apply` ends with when the check failed.
    pub kind: Kind,
    pub message: String,
    /// The SQL or setting that mends it.
    pub hint: Option<String>,
}

impl Check {
    pub(super) fn passed(name: &'static str, message: impl Into<String>) -> Check {
        Check { name, outcome: Outcome::Passed, kind: Kind::Failed, message: message.into(), hint: None }
    }

    pub(super) fn failed(name: &'static str, error: &Error) -> Check {
        Check {
            name,
            outcome: Outcome::Failed,
            kind: error.kind(),
            message: chain(error),
            hint: error.hint_text().map(str::to_owned),
        }
    }

    pub(super) fn warning(name: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Check {
        let (message, hint) = (message.into(), Some(hint.into()));
        Check { name, outcome: Outcome::Warning, kind: Kind::Finding, message, hint }
    }

    fn of(name: &'static str, result: Result<String>) -> Check {
        match result {
            Ok(message) => Check::passed(name, message),
            Err(error) => Check::failed(name, &error),
        }
    }
}

/// Every precondition of a region; never stops at the first that fails.
pub async fn checks(config: &Config, store: Option<&dyn Store>) -> Result<Vec<Check>> {
    let region = region_of(config)?;
    let mut checks = Vec::new();
    let mut conn = match mysql::connect(&config.mysql).await {
        Ok(conn) => conn,
        Err(error) => return Ok(vec![Check::failed("mysql connection", &error)]),
    };
    let server = match mysql::server(&mut conn).await {
        Ok(server) => server,
        Err(error) => return Ok(vec![Check::failed("mysql connection", &error)]),
    };
    checks
        .push(Check::passed("mysql connection", format!("{}: MySQL {}", config.mysql, server.version_text)));
    checks.push(Check::of("gtid_mode", gtid_mode(&server)));
    checks.push(Check::of("writable", writable(&mut conn, &server).await));
    checks.push(binlog_filters(&mut conn, &region.tables).await);
    checks.push(packet(&server));
    checks.push(durable(&mut conn).await);
    checks.push(time_zones(&mut conn).await);
    checks.push(Check::of("names", names(&server, &region.tables)));
    let head = match store {
        None => None,
        Some(store) => match store::head::read(store, None).await {
            Ok(Read::Head { head, .. }) => {
                let message =
                    format!("{}: entry {}, transaction {}", store.url(), head.last_seq.0, head.last_tx.0);
                checks.push(Check::passed("stream", message));
                Some((store, *head))
            }
            Ok(Read::Unchanged) => None,
            Err(error) => {
                checks.push(Check::failed("stream", &error));
                None
            }
        },
    };
    let stream = head.as_ref().map_or(server.uuid, |(_, head)| head.stream);
    checks.push(Check::of("replay privileges", replay(config, &server, stream).await));
    checks.push(Check::of("tablecast schema", tablecast_schema(&mut conn).await));
    let known = head.as_ref().map(|(_, head)| head);
    checks.extend(privileges::checks(&mut conn, &region.tables, known, config.apply.guard).await);
    checks.push(lock(&mut conn, &lock_name(config)).await);
    checks.extend(guard::checks(&mut conn, config, head.as_ref().map(|(_, head)| head)).await);
    if let Some((store, head)) = head {
        checks.push(coverage(config, &head, &region.tables));
        checks.extend(misspelt(config, &head, &region.tables));
        checks.push(foreign_keys(&mut conn, &head, &region.tables).await);
        match stands(&mut conn, config, store, head).await {
            Ok(more) => checks.extend(more),
            Err(error) => checks.push(Check::failed("history", &error)),
        }
    }
    Ok(checks)
}

/// What `apply` does not start without.
pub async fn insist(conn: &mut Conn, server: &Server, tables: &TableSet) -> Result<()> {
    gtid_mode(server)?;
    names(server, tables)?;
    writable(conn, server).await?;
    match kept_out(conn, tables).await {
        // An account of an earlier version: each segment is looked for in gtid_executed all the same.
        Err(error) if error.kind() == Kind::Denied => tracing::debug!("{}", chain(&error)),
        looked => drop(looked?),
    }
    Ok(())
}

/// Refuses a server that keeps the tables' rows out of its own binlog. Whether a transaction of which nothing is written
/// there has its GTID afterwards hangs on how it ends; and replicas of the region would not have the rows, or not
/// the position that belongs to them.
async fn kept_out(conn: &mut Conn, tables: &TableSet) -> Result<Option<BinaryLogStatus>> {
    let status = mysql::binary_log_status(conn).await?;
    let Some(found) = &status else { return Ok(None) };
    let refused = |schema: &str, hint: &str| {
        let what = format!(
            "check the server's settings: --binlog-do-db or --binlog-ignore-db keeps schema {schema} out of its binlog"
        );
        Err(Error::new(Kind::Failed, what).hint(hint))
    };
    match tables.schemas().into_iter().find(|schema| found.hides(schema)) {
        Some(schema) => refused(&schema, "restart this server without --binlog-do-db and --binlog-ignore-db"),
        // One that becomes the region's server would have the rows, and not how far they go.
        None if found.hides(privileges::SCHEMA) => refused(
            privileges::SCHEMA,
            "replicas of this server would have the rows without the position: restart it without --binlog-do-db and \
             --binlog-ignore-db, or let them log schema tablecast as well",
        ),
        None => Ok(status),
    }
}

async fn binlog_filters(conn: &mut Conn, tables: &TableSet) -> Check {
    const NAME: &str = "binlog filters";
    match kept_out(conn, tables).await {
        Ok(Some(status)) if status.is_filtered() => Check::warning(
            NAME,
            "this server has --binlog-do-db or --binlog-ignore-db: they let in all that this region has now, and a schema \
             that comes to it later may be kept out, which stops it",
            "restart the server without --binlog-do-db and --binlog-ignore-db",
        ),
        Ok(_) => Check::passed(NAME, "nothing is kept out of this server's binlog"),
        Err(error) if error.kind() == Kind::Denied => Check::warning(
            NAME,
            "this account may not see whether --binlog-do-db or --binlog-ignore-db keep tables out of the binlog",
            "GRANT REPLICATION CLIENT ON *.* TO this account; `tablecast grants` prints all",
        ),
        Err(error) => Check::failed(NAME, &error),
    }
}

fn gtid_mode(server: &Server) -> Result<String> {
    let wrong = |name: &str, found: &str, hint: &str| {
        Err(Error::new(
            Kind::Failed,
            format!(
                "check the server's settings: {name} is {found}; transactions run under the stream's GTIDs"
            ),
        )
        .hint(hint))
    };
    if server.enforce_gtid_consistency != "ON" {
        return wrong(
            "enforce_gtid_consistency",
            &server.enforce_gtid_consistency,
            "SET PERSIST enforce_gtid_consistency=ON",
        );
    }
    if server.gtid_mode != "ON" {
        return wrong(
            "gtid_mode",
            &server.gtid_mode,
            "SET PERSIST gtid_mode=OFF_PERMISSIVE, then ON_PERMISSIVE, then ON, one step at a time",
        );
    }
    Ok("ON, with enforce_gtid_consistency".to_owned())
}

pub(super) async fn writable(conn: &mut Conn, server: &Server) -> Result<String> {
    let refused = |name: &str, hint: &str| {
        Err(Error::new(Kind::Denied, format!("check the server's settings: {name} is ON")).hint(hint))
    };
    if server.super_read_only {
        return refused(
            "super_read_only",
            "if this is the region's writable server: SET GLOBAL super_read_only=0 (read_only may stay on); if it is \
             a replica, point [mysql] of the config at its primary",
        );
    }
    if !server.read_only {
        return Ok("not read-only".to_owned());
    }
    let grants: Vec<String> =
        conn.query("SHOW GRANTS").await.map_err(|error| mysql::error(error, "read the account's grants"))?;
    match grants.iter().any(|grant| grant.contains("CONNECTION_ADMIN") || grant.contains("SUPER")) {
        true => Ok("read_only for others; this account has CONNECTION_ADMIN".to_owned()),
        false => refused("read_only", "GRANT CONNECTION_ADMIN ON *.* TO this account, which may write then"),
    }
}

fn packet(server: &Server) -> Check {
    let name = "max_allowed_packet";
    match server.max_allowed_packet {
        size if size < MODEST_PACKET => Check::warning(
            name,
            format!("{size} bytes: a row event above {} bytes cannot be applied", size / 4 * 3),
            format!("SET PERSIST max_allowed_packet={}", 1 << 30),
        ),
        size => Check::passed(name, format!("{size} bytes")),
    }
}

/// A server that loses its last commits in a power cut may keep rows and lose their GTIDs: they would run twice.
async fn durable(conn: &mut Conn) -> Check {
    const NAME: &str = "durable commits";
    let settings: mysql_async::Result<Option<(u64, u64)>> =
        conn.query_first("SELECT @@GLOBAL.sync_binlog, @@GLOBAL.innodb_flush_log_at_trx_commit").await;
    match settings {
        Ok(Some((1, 1))) => Check::passed(NAME, "sync_binlog and innodb_flush_log_at_trx_commit are 1"),
        Ok(Some((sync, flush))) => Check::warning(
            NAME,
            format!(
                "sync_binlog is {sync} and innodb_flush_log_at_trx_commit is {flush}: a power cut may lose commits"
            ),
            "SET PERSIST sync_binlog=1; SET PERSIST innodb_flush_log_at_trx_commit=1",
        ),
        Ok(None) => Check::warning(NAME, "not known", "look at sync_binlog"),
        Err(error) => Check::failed(NAME, &mysql::error(error, "read sync_binlog")),
    }
}

/// Sessions at the source may name their time zone; a server that does not know the name refuses their transactions.
async fn time_zones(conn: &mut Conn) -> Check {
    const NAME: &str = "time zones";
    let known: mysql_async::Result<Option<Option<String>>> =
        conn.query_first("SELECT CAST(CONVERT_TZ('2024-01-01', 'UTC', 'Europe/Berlin') AS CHAR)").await;
    match known {
        Ok(Some(Some(_))) => Check::passed(NAME, "known by name"),
        Ok(_) => {
            Check::warning(NAME, "not known by name: sessions that use one cannot be replayed", TIME_ZONES)
        }
        Err(error) => Check::failed(NAME, &mysql::error(error, "look for time zones")),
    }
}

/// How a server learns the names of time zones.
pub const TIME_ZONES: &str = "mysql_tzinfo_to_sql /usr/share/zoneinfo | mysql -u root mysql";

fn names(server: &Server, tables: &TableSet) -> Result<String> {
    let upper = |pattern: &TablePattern| pattern.to_string().chars().any(char::is_uppercase);
    match tables.patterns().find(|pattern| upper(pattern)) {
        Some(pattern) if server.lower_case_table_names != 0 => Err(Error::new(
            Kind::Failed,
            format!("check {pattern}: lower_case_table_names is {} here", server.lower_case_table_names),
        )
        .hint("this server cannot tell this name from its lower-case form: rename the table at the source")),
        _ => Ok(format!("lower_case_table_names is {}", server.lower_case_table_names)),
    }
}

async fn replay(config: &Config, server: &Server, stream: uuid::Uuid) -> Result<String> {
    let context = Context {
        config: config.mysql.clone(),
        version: server.version,
        set_row_format: server.binlog_format != "ROW",
        max_allowed_packet: server.max_allowed_packet,
        stream,
    };
    let mut session = Session::open(Arc::new(context)).await?;
    let proved = session.prove(1).await;
    session.close().await;
    proved.map(|()| "session settings and gtid_next can be set".to_owned())
}

/// Reading the position shows whether the schema can be used; where it is not there yet, whether it may be made
/// is only known when it is.
async fn tablecast_schema(conn: &mut Conn) -> Result<String> {
    let there: Option<u8> = conn
        .query_first("SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'tablecast' AND TABLE_NAME = 'position'")
        .await
        .map_err(|error| mysql::error(error, "look for tablecast.position"))?;
    position::read(conn, "").await?;
    Ok(match there {
        Some(_) => "tablecast.position can be read".to_owned(),
        None => "not there yet: the first `tablecast apply` makes it".to_owned(),
    })
}

async fn lock(conn: &mut Conn, name: &str) -> Check {
    const NAME: &str = "lock";
    let holder: mysql_async::Result<Option<Option<u64>>> =
        conn.exec_first("SELECT IS_USED_LOCK(?)", (name,)).await;
    match holder {
        Ok(Some(Some(id))) => Check::passed(NAME, format!("an apply is running (connection {id})")),
        Ok(_) => Check::passed(NAME, "no apply is running"),
        Err(error) => Check::failed(NAME, &mysql::error(error, "look at the lock")),
    }
}

fn coverage(config: &Config, head: &Head, tables: &TableSet) -> Check {
    const NAME: &str = "table list";
    let left_out = left_out(tables, head);
    if left_out.is_empty() {
        return Check::passed(NAME, format!("lets in all {} tables of the stream", head.definitions.len()));
    }
    let (names, config) = (names_of(&left_out), config.path.display());
    Check::warning(
        NAME,
        format!("it does not let in {names}: changes of these tables are passed over"),
        format!(
            "if this region is to have them, add them to `tables` in [region] of {config}: a dump brings them"
        ),
    )
}

/// A name in the list that the stream does not know may be one that somebody has mistyped.
fn misspelt(config: &Config, head: &Head, tables: &TableSet) -> Option<Check> {
    let unknown = scope::unknown(tables, head);
    if unknown.is_empty() {
        return None;
    }
    let unknown: Vec<String> = unknown.iter().map(ToString::to_string).collect();
    Some(Check::warning(
        "table list",
        format!("{}: the stream has no such table", unknown.join(", ")),
        format!(
            "is it spelt as at the source? `tables` in [region] of {}; one that has left the stream's set can be taken \
             out, one that is to come in may stand there beforehand",
            config.path.display()
        ),
    ))
}

/// What is followed must not hang on what is not.
async fn foreign_keys(conn: &mut Conn, head: &Head, tables: &TableSet) -> Check {
    const NAME: &str = "foreign keys";
    match ties::look(conn, &Scope::of(tables, head)).await {
        Ok(ties) if ties.is_empty() => {
            Check::passed(NAME, "none ties a table of the stream to another table of this server")
        }
        Ok(ties) => {
            let (why, mend): (Vec<String>, Vec<String>) =
                ties.iter().map(|tie| (tie.why(), tie.mend())).unzip();
            Check::warning(NAME, why.join("; "), mend.join("; "))
        }
        Err(error) => Check::failed(NAME, &error),
    }
}

/// History, schemas and definitions.
async fn stands(conn: &mut Conn, config: &Config, store: &dyn Store, head: Head) -> Result<Vec<Check>> {
    let (name, tables) = (&config.stream, &region_of(config)?.tables);
    let at = position::read(conn, name).await?;
    let gtids = position::gtid_executed(conn).await?;
    let base = at.as_ref().map(|at| at.base_tx).unwrap_or_default();
    let executed = Executed::of(head.stream, &gtids).with_base(base);
    let mut index = Index::new(head);
    let fits = async {
        history::check_name(name, index.head(), &store.url())?;
        if let Some(at) = &at {
            index.check_position(at.stream, at.seq, &at.chain, store).await?;
            history::check_position(name, at, &Executed::of(at.stream, &gtids).with_base(base))?;
        }
        history::check_index(conn, name, at.as_ref(), &executed, index.head()).await
    };
    let mut checks = vec![Check::of(
        "history",
        fits.await.map(|()| match &at {
            Some(at) => format!("at entry {}, which the index holds", at.seq.0),
            None => "nothing applied yet".to_owned(),
        }),
    )];
    let head = index.head();
    let missing = definitions::missing_schemas(conn, head, tables).await?;
    checks.push(Check::passed(
        "schemas",
        match missing.as_slice() {
            [] => "all there".to_owned(),
            missing => {
                let names: Vec<_> = missing.iter().map(|new| new.schema.as_str()).collect();
                format!("{} will be created", names.join(", "))
            }
        },
    ));
    let quarantined = quarantine::list(conn, name).await?;
    checks.push(in_quarantine(&quarantined));
    let passing = Passing::of(&quarantined);
    let last_tx = at.as_ref().map_or(0, |at| at.last_tx.0);
    let mut known: Vec<_> =
        head.definitions.iter().filter(|definition| definition.since_tx.0 <= last_tx).cloned().collect();
    known.retain(|definition| !passing.covers(tables, &definition.table, u64::MAX - 1));
    if at.is_none() && executed.last() == 0 {
        checks.push(match definitions::compare_at_start(conn, &known, tables).await {
            Ok(_) => Check::passed(DEFINITIONS, as_at_the_source(known.len())),
            // A new region: the way in is `bootstrap`, and nothing is amiss that doctor could find.
            Err(error)
                if error.kind() == Kind::Definition
                    && head.full_dump().is_some()
                    && definitions::none_there(conn, &known, tables).await.unwrap_or(false) =>
            {
                Check::warning(
                    DEFINITIONS,
                    "this region has none of the stream's tables yet, and some held rows when the stream began",
                    "`tablecast bootstrap` fills it from the newest full dump, and makes the other tables too",
                )
            }
            Err(error) => Check::failed(DEFINITIONS, &error),
        });
        return Ok(checks);
    }
    match definitions::compare(conn, &known, tables).await {
        Ok(drifted) if drifted.is_empty() => {
            checks.push(Check::passed(DEFINITIONS, as_at_the_source(known.len())));
        }
        Ok(drifted) => checks.extend(drifted.iter().map(|drifted| {
            let stops = config.apply.on_conflict == OnConflict::Stop;
            let kind = if stops { drifted.error.kind() } else { Kind::Partly };
            Check { kind, ..Check::failed(DEFINITIONS, &drifted.error) }
        })),
        Err(error) => checks.push(Check::failed(DEFINITIONS, &error)),
    }
    Ok(checks)
}

const DEFINITIONS: &str = "definitions";

fn as_at_the_source(tables: usize) -> String {
    format!("{tables} tables are defined as at the source")
}

fn in_quarantine(tables: &[Quarantined]) -> Check {
    const NAME: &str = "quarantine";
    if tables.is_empty() {
        return Check::passed(NAME, "no table is in it");
    }
    let tables: Vec<String> = tables
        .iter()
        .map(|known| format!("{} since transaction {}: {}", known.table, known.since_tx, known.error))
        .collect();
    Check {
        name: NAME,
        outcome: Outcome::Failed,
        kind: Kind::Partly,
        message: tables.join("\n"),
        hint: Some(
            "`tablecast quarantine list` says what is being done about it, docs/runbooks/quarantined-table.md what \
             you can do"
                .to_owned(),
        ),
    }
}
