//! What a server is: its version and replication state, by statements that every version from 8.0 knows.

use mysql_async::Conn;

use crate::Result;

/// A server's identity and the settings that matter to us.
#[derive(Clone, Debug)]
pub struct Server {
    pub version: (u16, u16, u16),
    /// As the server prints it, e.g. `9.7.4-1`.
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
}

/// Reads `Server`; refuses MariaDB and MySQL before 8.0 (`Kind::Usage`).
pub async fn server(_conn: &mut Conn) -> Result<Server> {
    todo!()
}

/// Where the server's own binlog ends. `None` when it writes none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BinaryLogStatus {
    pub file: String,
    pub position: u64,
    /// MySQL's text of `gtid_executed`.
    pub executed: String,
}

/// `SHOW BINARY LOG STATUS`, which was `SHOW MASTER STATUS` before 8.2.
pub async fn binary_log_status(_conn: &mut Conn) -> Result<Option<BinaryLogStatus>> {
    todo!()
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
    pub last_io_error: String,
    pub last_sql_error: String,
    pub retrieved_gtid_set: String,
    pub executed_gtid_set: String,
    pub seconds_behind: Option<u64>,
}

/// `SHOW REPLICA STATUS` (8.0.22) or `SHOW SLAVE STATUS`; empty when the server is no replica.
pub async fn replica_status(_conn: &mut Conn) -> Result<Vec<ReplicaStatus>> {
    todo!()
}
