//! Control connections: `mysql_async` with our TLS modes and a session in a fixed state.

use mysql_async::Conn;

use crate::Result;
use crate::config::MysqlConfig;

/// Connects and puts the session into its fixed state.
pub async fn connect(_config: &MysqlConfig) -> Result<Conn> {
    todo!()
}
