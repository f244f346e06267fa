//! What must be true of a source before anything is read from it, and the SQL or setting that mends it.
//!
//! `doctor` shows every check; `stream init` and `upload` end at the first that failed. Nothing here changes
//! anything at the source. What a session may set for itself (`SET SESSION binlog_format`) cannot be checked
//! beforehand: the filter refuses it, transaction by transaction.

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde::Serialize;

use crate::binlog::filter::SystemZone;
use crate::binlog::name::{TableSet, quote};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::mysql::{self, Server};
use crate::source::bridge;
use crate::source::definitions;
use crate::source::dump::shows_waits;
use crate::source::gap;
use crate::source::migrations;
use crate::source::moment::{self, Moment};
use crate::source::primacy;
use crate::source::processor;
use crate::source::replica_filters;
use crate::source::standstill;
use crate::source::tables::doctor;
use crate::source::zone::system_zone;
use crate::stream::head::Head;

mod grants;

use grants::DUMP_TABLES;
pub(crate) use grants::on_schema;
pub use grants::{grants, primary_grants, writer_grants};

/// One precondition, tried.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub outcome: Outcome,
    /// What a failure would end a run with.
    #[serde(skip)]
    pub kind: Kind,
    pub message: String,
    pub hint: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Passed,
    /// Works, but not as well or not for ever.
    Warning,
    Failed,
}

impl Check {
    pub(crate) fn passed(name: &'static str, message: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Passed, kind: Kind::Finding, message: message.into(), hint: None }
    }

    pub(crate) fn warning(name: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        let hint = Some(hint.into());
        Self { name, outcome: Outcome::Warning, kind: Kind::Finding, message: message.into(), hint }
    }

    pub(crate) fn failed(
        name: &'static str,
        kind: Kind,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        let hint = Some(hint.into());
        Self { name, outcome: Outcome::Failed, kind, message: message.into(), hint }
    }

    fn into_error(self) -> Error {
        let error = Error::new(self.kind, self.message);
        match self.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    pub(crate) fn of_error(name: &'static str, error: &Error) -> Self {
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            message = format!("{message}: {inner}");
            cause = inner.source();
        }
        Self {
            name,
            outcome: Outcome::Failed,
            kind: error.kind(),
            message,
            hint: error.hint_text().map(str::to_owned),
        }
    }
}

/// Tries every precondition of the source role. An unreachable server is one failed check.
pub async fn checks(config: &Config, head: Option<&Head>) -> Result<Vec<Check>> {
    let server = config.mysql.to_string();
    let mut conn = match mysql::connect(&config.mysql).await {
        Ok(conn) => conn,
        Err(error) => return Ok(vec![Check::of_error("connection", &error)]),
    };
    let mut checks = vec![Check::passed("connection", format!("connected to {server}"))];
    let tables = head.map(|head| &head.table_set.tables);
    checks.extend(settings(&mut conn, &server, tables).await?);
    checks.push(privileges(&mut conn, &server).await?);
    match moment::look(&mut conn, &server).await {
        Ok(mut moment) => {
            primacy::judge(config, &mut moment).await;
            checks.push(standstill::check(&moment, &server));
            if let Some(head) = head {
                let beyond = head.covered.difference(&moment.executed);
                let found = match bridge::plan(config, &moment, head).await {
                    Ok(Some(bridge)) => {
                        checks.push(Check::warning(
                            "bridge",
                            format!("{server} no longer holds {}, which the stream lacks", bridge.missing),
                            format!(
                                "nothing to do while {} has it: `tablecast upload` reads it there",
                                bridge.from
                            ),
                        ));
                        kept(&moment, head, &server)
                    }
                    Ok(None) => history(&moment, head, &server),
                    Err(error) => Err(error),
                };
                checks.push(match found {
                    Ok(()) if !beyond.is_empty() => Check::warning(
                        "history",
                        format!("{server} does not have {beyond}, which the stream covers"),
                        "a replica may be behind; `tablecast upload` finds out whether any of it has been shipped",
                    ),
                    Ok(()) => Check::passed(
                        "history",
                        "the source still has every transaction that the stream lacks",
                    ),
                    Err(error) => Check::of_error("history", &error),
                });
            }
        }
        Err(error) => checks.push(Check::of_error("replication state", &error)),
    }
    if let Some(tables) = tables {
        checks.extend(processor::doctor::check(&mut conn, &server, tables).await);
        checks.push(readable(&mut conn, tables).await);
        checks.push(dumps(&mut conn, &server, tables).await?);
        checks.push(match migrations::blind(&mut conn, &server, tables).await? {
            None => Check::passed("migrations", "ghost tables of online migrations can be seen"),
            Some((message, hint)) => Check::warning("migrations", message, hint),
        });
    }
    if let Some(head) = head {
        match (&head.gap, gap::of_schemas(&mut conn, &server, head).await) {
            (Some(gap), _) => checks.push(Check::of_error("what was left out", &gap::told(gap, &server))),
            (None, Err(error)) => checks.push(Check::of_error("what is left out", &error)),
            (None, Ok(())) => {}
        }
        checks.extend(head.refused.iter().map(|refused| Check::of_error("last upload", &refused.error())));
        checks.push(doctor::check(config, head).await);
    }
    Ok(checks)
}

/// The checks of settings and privileges as an error, for a run that is about to read; warnings are returned.
pub(crate) async fn require(conn: &mut Conn, server: &str, tables: &TableSet) -> Result<Vec<String>> {
    let mut checks = settings(conn, server, Some(tables)).await?;
    checks.push(privileges(conn, server).await?);
    insist(checks)
}

/// The same of the server that is written to, which nobody reads.
pub(crate) async fn require_of_primary(
    conn: &mut Conn,
    server: &str,
    tables: &TableSet,
) -> Result<Vec<String>> {
    insist(settings(conn, server, Some(tables)).await?)
}

fn insist(checks: Vec<Check>) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    for check in checks {
        match check.outcome {
            Outcome::Passed => {}
            Outcome::Warning => warnings.push(check.message),
            Outcome::Failed => return Err(check.into_error()),
        }
    }
    Ok(warnings)
}

/// Refuses a source that writes transactions without GTIDs. Part of every look, since the mode can be changed
/// at any time.
pub(crate) fn mode(moment: &Moment, server: &str) -> Result<()> {
    let check = gtid_mode(&moment.gtid_mode, server);
    if check.outcome == Outcome::Failed { Err(check.into_error()) } else { Ok(()) }
}

/// Refuses a source that cannot send what the stream lacks, or that has lost what the stream holds.
pub(crate) fn history(moment: &Moment, head: &Head, server: &str) -> Result<()> {
    let lost = moment.purged.difference(&head.covered);
    if !lost.is_empty() {
        return Err(Error::new(
            Kind::History,
            format!("read {server}: its binary logs no longer hold {lost}, which the stream lacks"),
        )
        .hint(RESTART_HINT));
    }
    kept(moment, head, server)
}

/// Refuses a source that has lost what the stream holds.
pub(crate) fn kept(moment: &Moment, head: &Head, server: &str) -> Result<()> {
    own_numbers(moment, head, server)?;
    // A replica may get them yet.
    if !moment.lacks.is_empty() && moment.channels.is_empty() {
        return Err(Error::new(
            Kind::History,
            format!("read {server}: it does not have {}, which the stream has shipped to the regions", moment.lacks),
        )
        .hint(format!(
            "a failover lost them, or this is not a server of the same replication topology: check [mysql]. The \
             regions hold what this server has lost; {RESTART_HINT}"
        )));
    }
    Ok(())
}

pub(crate) const RESTART_HINT: &str = "if the primary still has them, name it in [primary]: upload reads them there. \
     If another replica still has the binary logs, point [mysql] at it. Else `tablecast upload --resync` takes a dump of all tables, which every region restores, and the stream goes on \
     behind it";

/// Refuses a server that has lost transactions of its own. Only the server itself makes transactions under its own
/// UUID, so it had these and has them no more. It will use their numbers again for other transactions, and those
/// would be taken for shipped.
pub(crate) fn own_numbers(moment: &Moment, head: &Head, server: &str) -> Result<()> {
    let gone = moment.own_gone(&head.covered);
    if gone.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        Kind::History,
        format!("read {server}: the stream holds {gone}, which this server made itself and has lost"),
    )
    .hint(
        "the server was restored from an old copy or lost its newest transactions in a crash, and will use their \
         numbers again. Point [mysql] at a server that has them; or give this one a new UUID (stop it, remove auto.cnf \
         from its data directory, start it), then `tablecast upload --resync`",
    ))
}

async fn settings(conn: &mut Conn, server: &str, tables: Option<&TableSet>) -> Result<Vec<Check>> {
    let found = match mysql::server(conn).await {
        Ok(found) => found,
        Err(error) => return Ok(vec![Check::of_error("version", &error)]),
    };
    let mut checks = vec![Check::passed("version", format!("{server} is MySQL {}", found.version_text))];
    checks.push(binary_log(&found, server));
    checks.push(gtid_mode(&found.gtid_mode, server));
    checks.push(binlog_format(&found, server));
    checks.push(lower_case(&found, server));
    checks.push(time_zone(conn, server).await);
    if found.log_bin {
        checks.push(log_replica_updates(conn, server).await?);
        checks.push(binlog_filters(conn, server, tables).await);
    }
    if let Some(tables) = tables {
        checks.push(replication_filters(conn, server, tables).await);
    }
    Ok(checks)
}

fn binary_log(found: &Server, server: &str) -> Check {
    if found.log_bin {
        Check::passed("binary log", "log_bin is ON")
    } else {
        Check::failed(
            "binary log",
            Kind::Usage,
            format!("read {server}: log_bin is OFF, there is nothing to read"),
            "start the server with --log-bin (it is on by default) and without --skip-log-bin",
        )
    }
}

fn gtid_mode(mode: &str, server: &str) -> Check {
    if mode.eq_ignore_ascii_case("ON") {
        Check::passed("gtid_mode", "gtid_mode is ON")
    } else {
        Check::failed(
            "gtid_mode",
            Kind::Gate,
            format!("read {server}: gtid_mode is {mode}, the stream needs ON"),
            "SET PERSIST enforce_gtid_consistency = ON; then SET PERSIST gtid_mode step by step: OFF_PERMISSIVE, \
             ON_PERMISSIVE, ON. Changes of the set's tables that were made without a GTID do not reach the stream: \
             after such changes `tablecast upload --resync`",
        )
    }
}

fn binlog_format(found: &Server, server: &str) -> Check {
    // Gone in a future MySQL, where rows are all there is: then it reads as empty.
    if found.binlog_format.is_empty() || found.binlog_format.eq_ignore_ascii_case("ROW") {
        Check::passed("binlog_format", "binlog_format is ROW")
    } else {
        Check::failed(
            "binlog_format",
            Kind::Gate,
            format!("read {server}: binlog_format is {}, the stream needs ROW", found.binlog_format),
            "SET PERSIST binlog_format = ROW; sessions that are already open keep the old format until they \
             reconnect",
        )
    }
}

fn lower_case(found: &Server, server: &str) -> Check {
    if found.lower_case_table_names == 0 {
        Check::passed("lower_case_table_names", "lower_case_table_names is 0")
    } else {
        Check::failed(
            "lower_case_table_names",
            Kind::Usage,
            format!(
                "read {server}: lower_case_table_names is {}, only 0 is supported",
                found.lower_case_table_names
            ),
            "statements in the binlog carry names as they were typed, so DDL could be matched to the wrong table; \
             read from a server that was initialised with lower_case_table_names=0",
        )
    }
}

/// What DDL does to times must be the same in a region whose host is elsewhere.
async fn time_zone(conn: &mut Conn, server: &str) -> Check {
    const NAME: &str = "time zone";
    let global: Result<Option<String>> = conn
        .query_first("SELECT @@GLOBAL.time_zone")
        .await
        .map_err(|cause| mysql::error(cause, "read time_zone"));
    let zone = match global {
        Ok(global) => global.unwrap_or_default(),
        Err(error) => return Check::of_error(NAME, &error),
    };
    if !zone.eq_ignore_ascii_case("SYSTEM") {
        return Check::passed(NAME, format!("time_zone is {zone}"));
    }
    match system_zone(conn, server).await {
        Ok(SystemZone::Varies) => Check::failed(
            NAME,
            Kind::Gate,
            format!(
                "read {server}: time_zone is SYSTEM, and the host's zone has not one offset at all times"
            ),
            "DDL that converts times would give others in a region whose host is elsewhere: give the server a zone by \
             name (SET PERSIST time_zone = 'Europe/Berlin', after mysql_tzinfo_to_sql there and in every region), \
             and let clients connect anew",
        ),
        Ok(SystemZone::Fixed(offset)) => {
            Check::passed(NAME, format!("time_zone is SYSTEM, which is {offset} at all times"))
        }
        Ok(SystemZone::AsWritten) => Check::passed(NAME, "time_zone is SYSTEM"),
        Err(error) => Check::of_error(NAME, &error),
    }
}

async fn log_replica_updates(conn: &mut Conn, server: &str) -> Result<Check> {
    const NAME: &str = "log_replica_updates";
    if variable(conn, &["log_replica_updates", "log_slave_updates"]).await? {
        return Ok(Check::passed(NAME, "log_replica_updates is ON"));
    }
    let what = format!("read {server}: log_replica_updates is OFF");
    let hint = "restart the server with --log-replica-updates=ON (log_slave_updates before 8.0.26)";
    Ok(match moment::look(conn, server).await {
        Ok(moment) if moment.channels.is_empty() => {
            Check::warning(NAME, format!("{what}: should it become a replica, it cannot be a source"), hint)
        }
        _ => Check::failed(
            NAME,
            Kind::Usage,
            format!("{what}, so what it replicates is not in its binlog"),
            hint,
        ),
    })
}

/// `--binlog-do-db` and `--binlog-ignore-db` keep changes out of the binlog without a trace.
/// I3: rows that a mini-replica never got leave no trace in its binlog but the GTID of their transaction.
async fn replication_filters(conn: &mut Conn, server: &str, tables: &TableSet) -> Check {
    const NAME: &str = "replication filters";
    match replica_filters::left_out(conn, server, tables).await {
        Ok(lost) if lost.is_empty() => Check::passed(NAME, "every table of the set reaches this server"),
        // The tables that are there today may all be named in the filter; the next one would be lost with nothing to show for it.
        Ok(lost) if lost.iter().all(|pattern| pattern.ends_with(".*")) => {
            Check::of_error(NAME, &gap::not_every_table(&lost.join(", "), server))
        }
        Ok(lost) => Check::failed(
            NAME,
            Kind::Usage,
            format!("read {server}: its replication filters leave out {}", lost.join(", ")),
            "stop its SQL thread; CHANGE REPLICATION FILTER (and my.cnf) so that every table of the stream is let in. What it \
             has executed meanwhile is lost to the stream: `tablecast upload` says whether it was anything",
        ),
        Err(error) if error.kind() == Kind::Denied => Check::warning(
            NAME,
            format!("{error}, so nobody knows whether its filters leave out a table of the set"),
            "`tablecast grants` prints the privileges that this account needs at the source",
        ),
        Err(error) => Check::of_error(NAME, &error),
    }
}

async fn binlog_filters(conn: &mut Conn, server: &str, tables: Option<&TableSet>) -> Check {
    const NAME: &str = "binlog filters";
    let status = match mysql::binary_log_status(conn).await {
        Ok(status) => status,
        Err(error) => return Check::of_error(NAME, &error.during(format!("look at the binlog of {server}"))),
    };
    let schemas = tables.map(TableSet::schemas).unwrap_or_default();
    let hidden = |schema: &&String| status.as_ref().is_some_and(|status| status.hides(schema));
    match schemas.iter().find(hidden) {
        Some(schema) => Check::failed(
            NAME,
            Kind::Gate,
            format!(
                "read {server}: --binlog-do-db or --binlog-ignore-db keeps schema {schema} out of the binlog"
            ),
            "restart the server without --binlog-do-db and --binlog-ignore-db",
        ),
        None if !status.is_some_and(|status| status.is_filtered()) => {
            Check::passed(NAME, "nothing is kept out of the binlog")
        }
        None => Check::warning(
            NAME,
            format!(
                "{server} has --binlog-do-db or --binlog-ignore-db, which follow the *default database* of a session"
            ),
            "restart the server without --binlog-do-db and --binlog-ignore-db",
        ),
    }
}

/// Whether the first of the variables that exists is on.
async fn variable(conn: &mut Conn, names: &[&str]) -> Result<bool> {
    let list: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    let query = format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({})", list.join(", "));
    let row: Option<(String, String)> =
        conn.query_first(&query).await.map_err(|cause| mysql::error(cause, &query))?;
    Ok(row.is_some_and(|(_, value)| value.eq_ignore_ascii_case("ON") || value == "1"))
}

async fn privileges(conn: &mut Conn, server: &str) -> Result<Check> {
    const NAME: &str = "privileges";
    let doing = format!("SHOW GRANTS at {server}");
    let grants: Vec<String> = conn.query("SHOW GRANTS").await.map_err(|cause| mysql::error(cause, &doing))?;
    let missing: Vec<&str> = ["REPLICATION SLAVE", "REPLICATION CLIENT"]
        .into_iter()
        .filter(|privilege| !grants.iter().any(|grant| grants_globally(grant, privilege)))
        .collect();
    if missing.is_empty() {
        return Ok(Check::passed(NAME, "REPLICATION SLAVE and REPLICATION CLIENT are granted"));
    }
    let missing = missing.join(", ");
    Ok(Check::failed(
        NAME,
        Kind::Denied,
        format!("read {server}: the account lacks {missing}"),
        format!("GRANT {missing} ON *.* TO this account; `tablecast grants` prints everything it needs"),
    ))
}

/// Whether one of the rows of SHOW GRANTS gives a global privilege.
pub(crate) fn grants_globally_any(grants: &[String], privilege: &str) -> bool {
    grants.iter().any(|grant| grants_globally(grant, privilege))
}

/// Whether one row of SHOW GRANTS gives a global privilege.
fn grants_globally(grant: &str, privilege: &str) -> bool {
    let Some((privileges, _)) = grant.strip_prefix("GRANT ").and_then(|rest| rest.split_once(" ON *.* TO "))
    else {
        return false;
    };
    privileges.split(',').map(str::trim).any(|given| given == privilege || given == "ALL PRIVILEGES")
}

async fn readable(conn: &mut Conn, tables: &TableSet) -> Check {
    const NAME: &str = "definitions";
    let mut absent = Vec::new();
    for table in tables.listed() {
        match definitions::show_create(conn, table).await {
            Ok(Some(_)) => {}
            Ok(None) => absent.push(table.to_string()),
            Err(error) => return Check::of_error(NAME, &error),
        }
    }
    if absent.is_empty() {
        return Check::passed(NAME, "the definition of every listed table can be read");
    }
    Check::warning(
        NAME,
        format!("in the set and not at the source: {}", absent.join(", ")),
        "a table of this name travels from its CREATE TABLE on; `tablecast tables remove` takes out what is gone for good \
         (docs/tables.md#dropped)",
    )
}

/// What taking a dump needs beyond shipping the stream, which goes on without it.
async fn dumps(conn: &mut Conn, server: &str, tables: &TableSet) -> Result<Check> {
    const NAME: &str = "dumps";
    for table in DUMP_TABLES {
        let query = format!("SELECT 1 FROM performance_schema.{table} LIMIT 0");
        if let Err(cause) = conn.query_drop(&query).await {
            let error = mysql::error(cause, &query);
            return Ok(Check { outcome: Outcome::Warning, ..Check::of_error(NAME, &error) });
        }
    }
    if let Err(error) = shows_waits(conn, &format!("take a dump at {server}")).await {
        return Ok(Check { outcome: Outcome::Warning, ..Check::of_error(NAME, &error) });
    }
    let privileges =
        mysql::Privileges::read(conn).await.map_err(|error| error.during(format!("look at {server}")))?;
    let may_lock = |schema: &String| privileges.in_schema("LOCK TABLES", schema);
    Ok(match tables.schemas().iter().find(|schema| !may_lock(schema)) {
        None => Check::passed(NAME, "dumps can be taken: LOCK TABLES and metadata_locks are granted"),
        Some(schema) => Check::warning(
            NAME,
            format!("take a dump at {server}: the account lacks LOCK TABLES on {}.*", quote(schema)),
            format!(
                "{}; the stream goes on without it",
                privileges.fit(on_schema("this account", tables, schema))
            ),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_global_privilege_is_found_in_what_show_grants_prints() {
        let grant = "GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO `t`@`%`";
        assert!(grants_globally(grant, "REPLICATION SLAVE"));
        assert!(grants_globally(
            "GRANT ALL PRIVILEGES ON *.* TO `r`@`%` WITH GRANT OPTION",
            "REPLICATION SLAVE"
        ));
        assert!(!grants_globally("GRANT ALL PRIVILEGES ON `g`.* TO `t`@`%`", "REPLICATION SLAVE"));
        assert!(!grants_globally("GRANT REPLICATION CLIENT ON *.* TO `t`@`%`", "REPLICATION SLAVE"));
        assert!(!grants_globally("GRANT `REPLICATION SLAVE`@`%` TO `t`@`%`", "REPLICATION SLAVE"));
    }
}
