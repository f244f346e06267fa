//! Connections that make and fill shadow tables, their sessions owing nothing to the region's defaults.
//!
//! Each takes a named lock first and keeps it: a connection of a killed run may still have statements to work off,
//! and nothing is begun anew before the last of them is gone.

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use sha2::{Digest, Sha256};

use crate::binlog::session::constant_statements;
use crate::config::MysqlConfig;
use crate::hex::hex;
use crate::mysql::wire::{Reply, Wire};
use crate::{Error, Kind, Result, mysql};

/// How long to wait for a connection of a killed run, in seconds.
pub const PATIENCE: u32 = 120;

/// For definitions and rows alike. The grammar of chunks is the server's under these modes, and a definition is read
/// as it was by the gate.
const SESSION: &str = "SET sql_mode='NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES', time_zone='+00:00', \
    foreign_key_checks=0, unique_checks=0, explicit_defaults_for_timestamp=1, sql_require_primary_key=0, \
    auto_increment_increment=1, auto_increment_offset=1, lc_time_names='en_US', lc_messages='en_US', \
    max_execution_time=0, lock_wait_timeout=60, innodb_lock_wait_timeout=60, wait_timeout=86400, \
    net_read_timeout=600, session_track_gtids='OFF'";

/// The first version that builds keys with several threads.
pub const THREADED_DDL: (u16, u16, u16) = (8, 0, 27);

/// Leaves the other cores to the stream and to readers.
pub const ONE_THREAD: &str = "SET innodb_ddl_threads=1, innodb_parallel_read_threads=1";

/// A connection for definitions of shadow tables.
pub async fn definer(
    config: &MysqlConfig,
    stream: &str,
    version: (u16, u16, u16),
    role: &str,
    patience: u32,
) -> Result<Conn> {
    const DOING: &str = "prepare a session for shadow tables";
    let mut conn = mysql::connect(config).await?;
    for statement in constant_statements(version) {
        conn.query_drop(statement).await.map_err(|error| mysql::error(error, DOING))?;
    }
    conn.query_drop(SESSION).await.map_err(|error| mysql::error(error, DOING))?;
    if version >= THREADED_DDL {
        conn.query_drop(
            "SET innodb_ddl_threads=4, innodb_parallel_read_threads=4, innodb_ddl_buffer_size=67108864",
        )
        .await
        .map_err(|error| mysql::error(error, DOING))?;
    }
    let name = lock_name(stream, role);
    let got: Option<Option<i64>> = conn
        .exec_first("SELECT GET_LOCK(?, ?)", (&name, patience))
        .await
        .map_err(|error| mysql::error(error, DOING))?;
    match got.flatten() {
        Some(1) => Ok(conn),
        _ => Err(held(&name)),
    }
}

/// A connection for rows of shadow tables, the `number`th.
pub async fn filler(
    config: &MysqlConfig,
    stream: &str,
    version: (u16, u16, u16),
    number: usize,
) -> Result<Wire> {
    const DOING: &str = "prepare a session for a dump's rows";
    let mut wire = Wire::connect(config).await?;
    for statement in constant_statements(version) {
        wire.query(statement.as_bytes(), DOING).await?;
    }
    // A chunk's literals are UTF-8 or hexadecimal.
    wire.query(mysql::table::NAMES.as_bytes(), DOING).await?;
    wire.query(SESSION.as_bytes(), DOING).await?;
    let name = lock_name(stream, &format!("fill:{number}"));
    let query = format!("SELECT GET_LOCK('{name}', {PATIENCE})");
    match wire.query(query.as_bytes(), DOING).await? {
        Reply::Rows { rows, .. } if rows == [[Some(b"1".to_vec())]] => Ok(wire),
        _ => Err(held(&name)),
    }
}

fn held(name: &str) -> Error {
    Error::new(Kind::Mysql, format!("take lock '{name}': a connection of an earlier restore still has it"))
        .hint("it is at work on what it was sent before its run ended; SELECT IS_USED_LOCK(…) tells which it is")
}

/// Plain characters only, and within the 64 that GET_LOCK takes.
pub fn lock_name(stream: &str, role: &str) -> String {
    let digest = Sha256::digest(stream);
    format!("tablecast:restore:{}:{role}", hex(&digest[..8]))
}
