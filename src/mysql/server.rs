//! What a server is: its version, its settings, its place in replication, asked by statements that every
//! version from 8.0 knows.

use std::collections::HashMap;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row, Value};

use super::error;
use crate::binlog::name::TableName;
use crate::{Error, Kind, Result};

/// The first version whose binlogs and statements we know.
const OLDEST: (u16, u16, u16) = (8, 0, 0);

/// A server's identity and the settings that matter to us.
#[derive(Clone, Debug)]
pub struct Server {
    pub version: (u16, u16, u16),
    /// As the server prints it, e.g. `9.7.4-2`.
    pub version_text: String,
    pub uuid: uuid::Uuid,
    pub server_id: u32,
    pub gtid_mode: String,
    pub enforce_gtid_consistency: String,
    pub log_bin: bool,
    pub binlog_format: String,
    pub binlog_row_image: String,
    pub read_only: bool,
    pub super_read_only: bool,
    pub max_allowed_packet: u64,
    pub lower_case_table_names: u8,
    /// Every commit waits for a disk: sync_binlog=1, or innodb_flush_log_at_trx_commit=1.
    pub syncs_commits: bool,
    pub max_connections: usize,
}

/// Reads `Server`; refuses MariaDB and MySQL before 8.0 (`Kind::Usage`).
pub async fn server(conn: &mut Conn) -> Result<Server> {
    const DOING: &str = "read the server's settings";
    let rows: Vec<(String, String)> = conn
        .query(
            "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('version', 'version_comment', 'server_uuid', \
             'server_id', 'gtid_mode', 'enforce_gtid_consistency', 'log_bin', 'binlog_format', \
             'binlog_row_image', 'read_only', 'super_read_only', 'max_allowed_packet', \
             'lower_case_table_names', 'sync_binlog', 'innodb_flush_log_at_trx_commit', 'max_connections')",
        )
        .await
        .map_err(|e| error(e, DOING))?;
    let settings: HashMap<String, String> = rows.into_iter().collect();
    let text = |name: &str| settings.get(name).map(String::as_str).unwrap_or_default();
    let version_text = text("version").to_owned();
    let version = version(&version_text, text("version_comment"))?;
    let odd = |name: &str| Error::new(Kind::Mysql, format!("{DOING}: {name} is '{}'", text(name)));
    let on = |name: &str| text(name) == "ON";
    let log_bin = on("log_bin");
    Ok(Server {
        version,
        uuid: text("server_uuid").parse().map_err(|e| odd("server_uuid").caused_by(e))?,
        server_id: text("server_id").parse().map_err(|e| odd("server_id").caused_by(e))?,
        gtid_mode: text("gtid_mode").to_owned(),
        enforce_gtid_consistency: text("enforce_gtid_consistency").to_owned(),
        log_bin,
        binlog_format: settings.get("binlog_format").cloned().unwrap_or_else(|| "ROW".to_owned()),
        binlog_row_image: text("binlog_row_image").to_owned(),
        read_only: on("read_only"),
        super_read_only: on("super_read_only"),
        max_allowed_packet: text("max_allowed_packet")
            .parse()
            .map_err(|e| odd("max_allowed_packet").caused_by(e))?,
        lower_case_table_names: text("lower_case_table_names")
            .parse()
            .map_err(|e| odd("lower_case_table_names").caused_by(e))?,
        syncs_commits: (log_bin && text("sync_binlog") == "1")
            || text("innodb_flush_log_at_trx_commit") == "1",
        max_connections: text("max_connections").parse().map_err(|e| odd("max_connections").caused_by(e))?,
        version_text,
    })
}

/// How many connections this account may have at once; 0: as many as the server has. Of a session this is the
/// account's own limit, or else the one of all (`sql/sys_vars.h`, `Sys_var_max_user_conn`).
pub async fn max_user_connections(conn: &mut Conn) -> Result<usize> {
    const READ: &str = "SELECT @@SESSION.max_user_connections";
    let most: Option<usize> = conn.query_first(READ).await.map_err(|e| error(e, READ))?;
    Ok(most.unwrap_or(0))
}

fn version(text: &str, comment: &str) -> Result<(u16, u16, u16)> {
    let refused = || {
        Error::new(Kind::Usage, format!("the server is {text} ({comment}), not MySQL 8.0 or newer"))
            .hint("Tablecast reads and writes MySQL's binlog format: MySQL or Percona Server from 8.0 on")
    };
    if text.contains("MariaDB") || comment.contains("mariadb") {
        return Err(refused());
    }
    let numbers = text.split(|c: char| c != '.' && !c.is_ascii_digit()).next().unwrap_or_default();
    let mut parts = numbers.split('.').map(str::parse::<u16>);
    let (Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch))) = (parts.next(), parts.next(), parts.next())
    else {
        return Err(refused());
    };
    let version = (major, minor, patch);
    if version < OLDEST { Err(refused()) } else { Ok(version) }
}

/// Where the server's own binlog ends. `None` when it writes none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BinaryLogStatus {
    pub file: String,
    pub position: u64,
    /// MySQL's text of `gtid_executed`.
    pub executed: String,
    /// `--binlog-do-db`: nothing else gets in, if there are any.
    pub only: Vec<String>,
    /// `--binlog-ignore-db`
    pub ignored: Vec<String>,
}

impl BinaryLogStatus {
    /// Whether row changes in this schema are kept out.
    pub fn hides(&self, schema: &str) -> bool {
        let has = |list: &[String]| list.iter().any(|name| name == schema);
        has(&self.ignored) || (!self.only.is_empty() && !has(&self.only))
    }

    /// Whether anything is.
    pub fn is_filtered(&self) -> bool {
        !self.only.is_empty() || !self.ignored.is_empty()
    }
}

/// `SHOW BINARY LOG STATUS`, which was `SHOW MASTER STATUS` before 8.2.
pub async fn binary_log_status(conn: &mut Conn) -> Result<Option<BinaryLogStatus>> {
    let statement =
        if conn.server_version() >= (8, 2, 0) { "SHOW BINARY LOG STATUS" } else { "SHOW MASTER STATUS" };
    let row: Option<Row> = conn.query_first(statement).await.map_err(|e| error(e, statement))?;
    let Some(row) = row else { return Ok(None) };
    let list = |column: &str| -> Vec<String> {
        let text = text(&row, &[column]);
        text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
    };
    Ok(Some(BinaryLogStatus {
        file: text(&row, &["File"]),
        position: text(&row, &["Position"])
            .parse()
            .map_err(|e| Error::new(Kind::Mysql, format!("{statement}: odd Position")).caused_by(e))?,
        executed: text(&row, &["Executed_Gtid_Set"]),
        only: list("Binlog_Do_DB"),
        ignored: list("Binlog_Ignore_DB"),
    }))
}

/// One replication channel of a server that is a replica.
#[derive(Clone, Debug)]
pub struct ReplicaStatus {
    pub channel: String,
    pub source_host: String,
    pub source_port: u16,
    pub source_uuid: String,
    pub io_running: bool,
    pub sql_running: bool,
    /// 0: none.
    pub last_io_errno: u32,
    pub last_io_error: String,
    pub last_sql_errno: u32,
    pub last_sql_error: String,
    pub retrieved_gtid_set: String,
    pub executed_gtid_set: String,
    pub seconds_behind: Option<u64>,
}

/// `SHOW REPLICA STATUS` (8.0.22) or `SHOW SLAVE STATUS`; empty when the server is no replica.
pub async fn replica_status(conn: &mut Conn) -> Result<Vec<ReplicaStatus>> {
    let statement =
        if conn.server_version() >= (8, 0, 22) { "SHOW REPLICA STATUS" } else { "SHOW SLAVE STATUS" };
    let rows: Vec<Row> = conn.query(statement).await.map_err(|e| error(e, statement))?;
    Ok(rows
        .iter()
        .map(|row| ReplicaStatus {
            channel: text(row, &["Channel_Name"]),
            source_host: text(row, &["Source_Host", "Master_Host"]),
            source_port: text(row, &["Source_Port", "Master_Port"]).parse().unwrap_or_default(),
            source_uuid: text(row, &["Source_UUID", "Master_UUID"]),
            // "Connecting" is not running: nothing arrives.
            io_running: text(row, &["Replica_IO_Running", "Slave_IO_Running"]) == "Yes",
            sql_running: text(row, &["Replica_SQL_Running", "Slave_SQL_Running"]) == "Yes",
            last_io_errno: text(row, &["Last_IO_Errno"]).parse().unwrap_or_default(),
            last_io_error: text(row, &["Last_IO_Error"]),
            last_sql_errno: text(row, &["Last_SQL_Errno"]).parse().unwrap_or_default(),
            last_sql_error: text(row, &["Last_SQL_Error"]),
            retrieved_gtid_set: text(row, &["Retrieved_Gtid_Set"]),
            executed_gtid_set: text(row, &["Executed_Gtid_Set"]),
            seconds_behind: text(row, &["Seconds_Behind_Source", "Seconds_Behind_Master"]).parse().ok(),
        })
        .collect())
}

/// The value of the first of these columns that the row has; NULL is the empty text.
fn text(row: &Row, names: &[&str]) -> String {
    let named =
        row.columns_ref().iter().position(|column| names.iter().any(|name| column.name_str() == *name));
    match named.and_then(|index| row.as_ref(index)) {
        Some(Value::Bytes(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        Some(Value::Int(number)) => number.to_string(),
        Some(Value::UInt(number)) => number.to_string(),
        _ => String::new(),
    }
}

/// Whether there is a view of this name now.
pub async fn is_view(conn: &mut Conn, table: &TableName) -> Result<bool> {
    let found: Option<String> = conn
        .exec_first(
            "SELECT TABLE_TYPE FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?",
            (&table.schema, &table.table),
        )
        .await
        .map_err(|cause| error(cause, &format!("look whether {table} is a view")))?;
    Ok(found.is_some_and(|found| found.ends_with("VIEW")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_mysql_and_percona_are_understood() {
        assert_eq!(version("9.7.4-2", "(Debian)").unwrap(), (9, 7, 4));
        assert_eq!(version("8.0.36-28", "Percona Server (GPL)").unwrap(), (8, 0, 36));
        assert_eq!(version("8.4.3-commercial", "").unwrap(), (8, 4, 3));
        assert_eq!(version("8.0.36", "MySQL Community Server").unwrap(), (8, 0, 36));
    }

    #[test]
    fn mariadb_and_old_servers_are_refused() {
        for text in ["5.5.5-10.11.6-MariaDB-0+deb12u1", "10.11.6-MariaDB", "5.7.44-log", "nonsense", ""] {
            assert_eq!(version(text, "").unwrap_err().kind(), Kind::Usage, "{text}");
        }
    }
}
