//! Control connections: `mysql_async` with our TLS modes and a session in a fixed state, so that nothing a
//! server has as a default, or an `init_connect` sets, changes what our own statements mean.

use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, SslOpts};
use secrecy::ExposeSecret;

use super::errors;
use crate::config::{MysqlConfig, TlsMode};
use crate::{Error, Kind, Result};

/// How long a server may take to accept a connection and a login.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Silence after which the kernel asks whether the other machine still lives.
pub(super) const KEEPALIVE: Duration = Duration::from_secs(30);
/// Prepared statements that a connection keeps at the server. The client closes what it no longer keeps, but with 0 it
/// closes none: each call would leave one behind, and `max_prepared_stmt_count` is for all who use the server.
const STATEMENTS: usize = 1;

/// The largest packet that the protocol allows; the server's own `max_allowed_packet` is what limits us.
const MAX_PACKET: usize = 1 << 30;

/// The fixed state, in one statement. Only what any account may set (`sql_generate_invisible_primary_key` and
/// `explicit_defaults_for_timestamp`, for two, need a privilege: who creates tables sets them where it matters).
///
/// `wait_timeout` is long because a run may be busy elsewhere (packing, uploading) between two statements.
const SESSION: &str = "SET NAMES utf8mb4, autocommit=1, completion_type='NO_CHAIN', sql_mode='', \
    time_zone='+00:00', transaction_isolation='REPEATABLE-READ', transaction_read_only=0, \
    sql_quote_show_create=1, sql_safe_updates=0, sql_auto_is_null=0, sql_select_limit=18446744073709551615, \
    max_execution_time=0, foreign_key_checks=1, unique_checks=1, default_storage_engine=InnoDB, \
    default_tmp_storage_engine=InnoDB, lc_time_names='en_US', lc_messages='en_US', \
    group_concat_max_len=1073741824, wait_timeout=86400, session_track_gtids='OFF' \
    /*!80030 , show_gipk_in_create_table_and_information_schema=1 */";

/// Connects and puts the session into its fixed state.
///
/// Messages name `user@host:port`. A refused login is `Kind::Denied`, an unreachable server `Kind::Mysql`.
pub async fn connect(config: &MysqlConfig) -> Result<Conn> {
    let doing = format!("connect to MySQL {config}");
    let options = options(config).await.map_err(|e| e.during(doing.clone()))?;
    let connecting = async {
        let mut conn = Conn::new(options).await?;
        conn.query_drop(SESSION).await?;
        Ok(conn)
    };
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(conn)) => Ok(conn),
        Ok(Err(cause)) => Err(errors::connecting(cause, &doing)),
        Err(_) => Err(timed_out(&doing)),
    }
}

/// The error for a server that accepts no connection, or no login, in time.
pub(super) fn timed_out(doing: &str) -> Error {
    Error::new(Kind::Mysql, format!("{doing}: no answer within {} s", CONNECT_TIMEOUT.as_secs()))
        .hint("check host, port and firewalls: something swallows the packets, or the server hangs")
}

async fn options(config: &MysqlConfig) -> Result<OptsBuilder> {
    let password = config.password.get().await?;
    let builder = OptsBuilder::default()
        .user(Some(&config.user))
        .pass(password.as_ref().map(|secret| secret.expose_secret()))
        .prefer_socket(false)
        .tcp_keepalive(Some(KEEPALIVE))
        .stmt_cache_size(STATEMENTS)
        // Both known: no query is spent on asking for them.
        .max_allowed_packet(Some(MAX_PACKET))
        .wait_timeout(Some(86_400));
    let Some(socket) = &config.socket else {
        let host = config.host.as_deref().unwrap_or("127.0.0.1");
        return Ok(builder.ip_or_hostname(host).tcp_port(config.port).ssl_opts(tls(config)));
    };
    // A socket is never left by what is sent through it: no TLS there.
    Ok(builder.socket(Some(socket.to_string_lossy())))
}

fn tls(config: &MysqlConfig) -> Option<SslOpts> {
    crate::tls::use_our_provider();
    match config.tls.mode {
        TlsMode::Off => None,
        TlsMode::Require => Some(
            SslOpts::default()
                .with_danger_accept_invalid_certs(true)
                .with_danger_skip_domain_validation(true),
        ),
        TlsMode::Verify => Some(match &config.tls.ca {
            None => SslOpts::default(),
            Some(ca) => {
                SslOpts::default().with_root_certs(vec![ca.clone().into()]).with_disable_built_in_roots(true)
            }
        }),
    }
}
