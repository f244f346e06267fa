//! Where CLONE cannot be used: the same by mysqldump, as commands with the names filled in.

use mysql_async::prelude::Queryable;
use serde::Serialize;

use super::replicate;
use super::rules::Rules;
use super::side::Side;
use crate::binlog::name::{TableName, TableSet, is_system_schema, quote};
use crate::config::{MysqlConfig, TlsMode};
use crate::error::Result;
use crate::figures::shell;
use crate::mysql;

#[derive(Clone, Debug, Serialize)]
pub struct ByHand {
    /// What stands in the way of CLONE.
    pub why: String,
    /// To be run one after the other; comments begin with `#` or `--`.
    pub commands: Vec<String>,
}

pub(super) async fn commands(
    donor: &mut Side,
    processor: &Side,
    set: &TableSet,
    rules: &Rules,
) -> Result<Vec<String>> {
    let doing = format!("read information_schema.TABLES at {}", donor.name);
    let rows: Vec<(String, String, String)> = donor
        .conn
        .query("SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE FROM information_schema.TABLES ORDER BY 1, 2")
        .await
        .map_err(|cause| mysql::error(cause, &doing))?;
    let schemas: Vec<String> = donor
        .conn
        .query("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA ORDER BY 1")
        .await
        .map_err(|cause| mysql::error(cause, &doing))?;
    let table_set = TableName::new("tablecast", "table_set");
    let has_table_set = rows.iter().any(|(s, t, _)| (s, t) == (&table_set.schema, &table_set.table));
    let mut dumped: Vec<&str> = schemas
        .iter()
        .map(String::as_str)
        .filter(|schema| set.schemas().contains(*schema) || (has_table_set && *schema == table_set.schema))
        .collect();
    dumped.dedup();
    let others: Vec<&str> = schemas
        .iter()
        .map(String::as_str)
        .filter(|schema| !is_system_schema(schema) && !dumped.contains(schema))
        .collect();
    let mut ignored = String::new();
    let mut views = Vec::new();
    for (schema, table, kind) in rows.iter().filter(|(schema, ..)| dumped.contains(&schema.as_str())) {
        let table = TableName::new(schema, table);
        let is_table = kind == "BASE TABLE";
        if is_table && (set.admits(&table) || table == table_set) {
            continue;
        }
        ignored.push_str(&format!(" --ignore-table={}", shell(&format!("{}.{}", table.schema, table.table))));
        if !is_table && set.admits(&table) {
            views.push(table);
        }
    }
    let reset =
        if processor.server.version >= (8, 2, 0) { "RESET BINARY LOGS AND GTIDS" } else { "RESET MASTER" };
    let word = if processor.server.version >= (8, 0, 22) { "REPLICA" } else { "SLAVE" };
    let names = |schemas: &[&str]| schemas.iter().map(|schema| shell(schema)).collect::<Vec<_>>().join(" ");
    let dump = format!(
        "mysqldump {} -p --single-transaction --no-tablespaces --skip-triggers --routines --events --hex-blob",
        client(&donor.config)
    );
    let mut commands = vec![
        "# 1. From the primary: these tables, at one point of its history, and the procedures, functions and events of all \
         schemas: a DROP of one that is not there would stop the processor. Nobody may make or drop one meanwhile. root \
         stands for an administrator there (SELECT, RELOAD, SHOW_ROUTINE, EVENT); it asks for the password."
            .to_owned(),
        format!("{dump} --set-gtid-purged=ON --databases {}{ignored} > processor.sql", names(&dumped)),
    ];
    if !others.is_empty() {
        commands.push(format!(
            "{dump} --set-gtid-purged=OFF --no-data --no-create-info --databases {} >> processor.sql",
            names(&others)
        ));
    }
    commands.extend([
        format!(
            "# 2. At the processor, {}, as an administrator: a server with the my.cnf of `tablecast processor config`, on \
             which nothing else is",
            processor.name
        ),
        format!("mysql> STOP {word}; RESET {word} ALL;"),
        "mysql> SET GLOBAL read_only = OFF;".to_owned(),
    ]);
    for schema in dumped.iter().chain(&others) {
        commands.push(format!("mysql> SET sql_log_bin = 0; DROP DATABASE IF EXISTS {};", quote(schema)));
    }
    let change = replicate::change_source(processor, donor, "…")?;
    commands.extend([
        format!("mysql> {reset};"),
        "# The file sets GTID_PURGED. Nothing of what is loaded may be logged.".to_owned(),
        format!(
            "mysql {} -p --init-command='SET SESSION sql_log_bin = 0' < processor.sql",
            client(&processor.config)
        ),
    ]);
    // A view may read tables that are not here. Its DROP comes through all the same.
    for view in views {
        commands.push(format!(
            "mysql> SET sql_log_bin = 0; CREATE OR REPLACE VIEW {} AS SELECT 1 AS stands_for_a_view;",
            view.quoted()
        ));
    }
    commands.extend([
        "mysql> SET GLOBAL super_read_only = ON;".to_owned(),
        "# 3. The rest: filters, replication, checks.".to_owned(),
        "tablecast processor create --loaded".to_owned(),
        "# It does, where the filters are not in my.cnf:".to_owned(),
        format!("#   mysql> {};", rules.statement()),
        format!("#   mysql> {change};"),
        format!("#   mysql> START {word};"),
    ]);
    Ok(commands)
}

/// How the clients reach the server: as an administrator, for none of our accounts may do this.
fn client(config: &MysqlConfig) -> String {
    let place = match (&config.socket, &config.host) {
        (Some(socket), _) => format!("--socket={}", shell(&socket.to_string_lossy())),
        (None, host) => {
            format!("--host={} --port={}", shell(host.as_deref().unwrap_or("127.0.0.1")), config.port)
        }
    };
    let tls = match (config.tls.mode, &config.tls.ca) {
        (TlsMode::Off, _) => String::new(),
        (TlsMode::Verify, Some(ca)) => {
            format!(" --ssl-mode=VERIFY_IDENTITY --ssl-ca={}", shell(&ca.to_string_lossy()))
        }
        (TlsMode::Verify, None) => " --ssl-mode=VERIFY_IDENTITY".to_owned(),
        (TlsMode::Require, _) => " --ssl-mode=REQUIRED".to_owned(),
    };
    format!("{place} --user=root{tls}")
}
