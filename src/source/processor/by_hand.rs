//! Where CLONE cannot be used: the same by mysqldump, as commands with the names filled in.

use mysql_async::prelude::Queryable;
use serde::Serialize;

use super::replicate;
use super::rules::Rules;
use super::side::Side;
use crate::binlog::name::{TableName, TableSet, is_system_schema, quote};
use crate::config::{MysqlConfig, TlsMode};
use crate::error::Result;
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
    let mut dumped: Vec<String> = set.schemas().into_iter().collect();
    if has_table_set {
        dumped.push(table_set.schema.clone());
    }
    let ignored =
        rows.iter().filter(|(schema, ..)| dumped.contains(schema)).filter_map(|(schema, table, _)| {
            let table = TableName::new(schema, table);
            let wanted = set.admits(&table) || table == table_set;
            (!wanted)
                .then(|| format!(" --ignore-table={}", shell(&format!("{}.{}", table.schema, table.table))))
        });
    let ignored: String = ignored.collect();
    let (reset, dump_data) = (
        if processor.server.version >= (8, 2, 0) { "RESET BINARY LOGS AND GTIDS" } else { "RESET MASTER" },
        if donor.server.version >= (8, 0, 26) { "--source-data=2" } else { "--master-data=2" },
    );
    let word = if processor.server.version >= (8, 0, 22) { "REPLICA" } else { "SLAVE" };
    let names: Vec<String> = dumped.iter().map(|schema| shell(schema)).collect();
    let others = schemas.iter().filter(|schema| !is_system_schema(schema) && !dumped.contains(schema));
    let mut commands = vec![
        "# 1. At the primary: these tables, at one point of its history. mysqldump asks for the password."
            .to_owned(),
        format!(
            "mysqldump {} -p --single-transaction {dump_data} --set-gtid-purged=ON --no-tablespaces --skip-triggers \
             --hex-blob --databases {}{ignored} > processor.sql",
            client(&donor.config),
            names.join(" ")
        ),
        format!(
            "# 2. At the processor, {}, as an administrator: an empty server, with the my.cnf of `tablecast processor config`",
            processor.name
        ),
        format!("mysql> STOP {word}; RESET {word} ALL;"),
        "mysql> SET GLOBAL super_read_only = OFF;".to_owned(),
    ];
    for schema in &dumped {
        commands.push(format!("mysql> SET sql_log_bin = 0; DROP DATABASE IF EXISTS {};", quote(schema)));
    }
    // A schema that is not there stops the processor at the first procedure that is made in it.
    for schema in others {
        commands
            .push(format!("mysql> SET sql_log_bin = 0; CREATE DATABASE IF NOT EXISTS {};", quote(schema)));
    }
    let change = replicate::change_source(processor, donor, "…")?;
    commands.extend([
        format!("mysql> {reset};"),
        "# The file sets GTID_PURGED, and logs nothing of what it loads.".to_owned(),
        format!("mysql {} -p < processor.sql", client(&processor.config)),
        "mysql> SET GLOBAL super_read_only = ON;".to_owned(),
        "# 3. The rest: filters, replication, checks".to_owned(),
        "tablecast processor create --loaded".to_owned(),
        "# which does, where the filters are not in my.cnf:".to_owned(),
        format!("mysql> {};", rules.statement()),
        format!("mysql> {change};"),
        format!("mysql> START {word};"),
    ]);
    Ok(commands)
}

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
    format!("{place} --user={}{tls}", shell(&config.user))
}

/// A word for the shell.
fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+=".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}
