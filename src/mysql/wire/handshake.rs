//! Opening a connection: the server's greeting, TLS if wanted, our answer. "Connection Phase" and
//! "Protocol::HandshakeV10" of the MySQL source documentation.

use std::sync::Arc;

use rustix::net::sockopt;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::auth::Method;
use super::fields::{Fields, put_length_encoded_bytes};
use super::reply::ServerError;
use super::socket::Socket;
use super::{Wire, broken};
use crate::config::MysqlConfig;
use crate::mysql::connect::{CONNECT_TIMEOUT, KEEPALIVE, timed_out};
use crate::mysql::{errors, tls};
use crate::{Error, Kind, Result};

/// Capabilities ("CapabilitiesFlags") that we use; the server must know all but TLS.
mod can {
    pub const LONG_PASSWORD: u32 = 1;
    pub const PROTOCOL_41: u32 = 1 << 9;
    pub const SSL: u32 = 1 << 11;
    pub const TRANSACTIONS: u32 = 1 << 13;
    pub const SECURE_CONNECTION: u32 = 1 << 15;
    pub const MULTI_STATEMENTS: u32 = 1 << 16;
    pub const MULTI_RESULTS: u32 = 1 << 17;
    pub const PLUGIN_AUTH: u32 = 1 << 19;
    pub const CONNECT_ATTRS: u32 = 1 << 20;
    pub const PLUGIN_AUTH_LENENC_DATA: u32 = 1 << 21;

    pub const NEEDED: u32 = LONG_PASSWORD
        | PROTOCOL_41
        | TRANSACTIONS
        | SECURE_CONNECTION
        | MULTI_STATEMENTS
        | MULTI_RESULTS
        | PLUGIN_AUTH
        | CONNECT_ATTRS
        | PLUGIN_AUTH_LENENC_DATA;
}

/// `utf8mb4_general_ci`, which every server knows.
const COLLATION: u8 = 45;
/// What we tell the server that we take; it is not what the server takes.
const MAX_PACKET: u32 = 1 << 30;

/// Shown in the server's performance_schema.session_connect_attrs.
const ATTRIBUTES: [(&str, &str); 2] =
    [("program_name", "tablecast"), ("_client_version", env!("CARGO_PKG_VERSION"))];

/// What the server says first.
#[derive(Debug, PartialEq, Eq)]
struct Greeting {
    server_version: String,
    connection_id: u32,
    nonce: Vec<u8>,
    capabilities: u32,
    method: String,
}

impl Wire {
    /// Connects and logs in. Messages name `user@host:port`; a refused login is `Kind::Denied`.
    pub async fn connect(config: &MysqlConfig) -> Result<Wire> {
        let doing = format!("connect to MySQL {config}");
        let opening = async {
            let password = config.password.get().await?;
            let tls = tls::client_config(&config.tls).await?;
            let mut wire = open_socket(config, &doing).await?;
            let greeting = wire.greeting(&doing).await?;
            wire.server_version = greeting.server_version.clone();
            wire.connection_id = greeting.connection_id;
            let wire = match tls {
                Some(tls) if !wire.is_socket => wire.encrypt(config, tls, &greeting, &doing).await?,
                _ => wire,
            };
            wire.log_in(config, password.as_ref(), &greeting, &doing).await
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(timed_out(&doing)),
        }
    }

    async fn greeting(&mut self, doing: &str) -> Result<Greeting> {
        let payload = self.payload().await.map_err(|e| e.during(doing))?;
        if payload.first() == Some(&0xff) {
            return Err(ServerError::parse(&payload).into_error(doing));
        }
        let greeting = parse_greeting(&payload).ok_or_else(|| self.garbled("an odd greeting"))?;
        if greeting.capabilities & can::NEEDED != can::NEEDED {
            return Err(Error::new(Kind::Usage, doing)
                .caused_by(format!("server {} speaks too old a protocol", greeting.server_version))
                .hint("Tablecast needs MySQL 8.0 or newer"));
        }
        Ok(greeting)
    }

    /// Asks for TLS and goes on inside it.
    async fn encrypt(
        mut self,
        config: &MysqlConfig,
        tls: Arc<ClientConfig>,
        greeting: &Greeting,
        doing: &str,
    ) -> Result<Wire> {
        if greeting.capabilities & can::SSL == 0 {
            return Err(errors::no_tls_there(doing));
        }
        self.send_payload(&response_head(can::NEEDED | can::SSL)).await?;
        // Bytes sent before the encryption starts would be taken for encrypted ones.
        if !self.input.is_empty() {
            return Err(self.garbled("the server speaks before the encryption starts"));
        }
        let host = config.host.as_deref().unwrap_or("127.0.0.1");
        let name = ServerName::try_from(host.to_owned()).map_err(|e| {
            Error::new(Kind::Usage, format!("{doing}: {host:?} is not a host name")).caused_by(e)
        })?;
        let io =
            TlsConnector::from(tls).connect(name, self.io).await.map_err(|e| match errors::is_tls(&e) {
                true => errors::tls_refused(doing).caused_by(e),
                false => errors::unreachable_server(doing).caused_by(e),
            })?;
        Ok(Wire { io: Box::new(io), is_tls: true, ..self })
    }

    async fn log_in(
        mut self,
        config: &MysqlConfig,
        password: Option<&secrecy::SecretString>,
        greeting: &Greeting,
        doing: &str,
    ) -> Result<Wire> {
        // A method of the server's own choice that we do not speak: the server asks for the account's one.
        let method = Method::named(&greeting.method).unwrap_or(Method::CachingSha2);
        let tls = if self.is_tls { can::SSL } else { 0 };
        let mut response = response_head(can::NEEDED | tls);
        response.extend_from_slice(config.user.as_bytes());
        response.push(0);
        put_length_encoded_bytes(&mut response, &method.proof(password, &greeting.nonce, self.is_tls));
        response.extend_from_slice(method.name().as_bytes());
        response.push(0);
        let mut attributes = Vec::new();
        for (key, value) in ATTRIBUTES {
            put_length_encoded_bytes(&mut attributes, key.as_bytes());
            put_length_encoded_bytes(&mut attributes, value.as_bytes());
        }
        put_length_encoded_bytes(&mut response, &attributes);
        self.send_payload(&response).await?;
        self.authenticate(method, password, greeting.nonce.clone(), doing).await?;
        Ok(self)
    }
}

async fn open_socket(config: &MysqlConfig, doing: &str) -> Result<Wire> {
    let unreachable = |e| errors::unreachable_server(doing).caused_by(e);
    if let Some(path) = &config.socket {
        let stream = UnixStream::connect(path).await.map_err(unreachable)?;
        return Ok(Wire::new(Socket::unix(stream), config.to_string(), true));
    }
    let host = config.host.as_deref().unwrap_or("127.0.0.1");
    let stream = TcpStream::connect((host, config.port)).await.map_err(unreachable)?;
    let set_up = || {
        sockopt::set_tcp_nodelay(&stream, true)?;
        sockopt::set_socket_keepalive(&stream, true)?;
        sockopt::set_tcp_keepidle(&stream, KEEPALIVE)?;
        sockopt::set_tcp_keepintvl(&stream, KEEPALIVE / 3)?;
        sockopt::set_tcp_keepcnt(&stream, 3)
    };
    set_up().map_err(|e| broken(&config.to_string(), "set options").caused_by(e))?;
    Ok(Wire::new(Socket::tcp(stream), config.to_string(), false))
}

/// The part of our answer that is also, alone, the request for TLS.
fn response_head(capabilities: u32) -> Vec<u8> {
    let mut head = Vec::with_capacity(128);
    head.extend_from_slice(&capabilities.to_le_bytes());
    head.extend_from_slice(&MAX_PACKET.to_le_bytes());
    head.push(COLLATION);
    head.extend_from_slice(&[0; 23]);
    head
}

fn parse_greeting(payload: &[u8]) -> Option<Greeting> {
    let mut fields = Fields(payload);
    if fields.int(1)? != 10 {
        return None;
    }
    let server_version = String::from_utf8_lossy(fields.text()).into_owned();
    let connection_id = fields.int(4)? as u32;
    let mut nonce = fields.bytes(8)?.to_vec();
    fields.bytes(1)?;
    let low = fields.int(2)? as u32;
    let _collation = fields.int(1)?;
    let _status = fields.int(2)?;
    let high = fields.int(2)? as u32;
    let nonce_len = fields.int(1)? as usize;
    fields.bytes(10)?;
    let rest = fields.bytes(nonce_len.saturating_sub(8).max(13))?;
    // The last byte is a NUL, not part of the nonce.
    nonce.extend_from_slice(rest.strip_suffix(&[0]).unwrap_or(rest));
    let method = String::from_utf8_lossy(fields.text()).into_owned();
    Some(Greeting { server_version, connection_id, nonce, capabilities: low | high << 16, method })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREETING: &[u8] = b"\x0a9.7.4\0\x07\0\0\0abcdefgh\0\xff\xff\xff\x02\0\xff\xdf\x15\
        \0\0\0\0\0\0\0\0\0\0ijklmnopqrst\0caching_sha2_password\0";

    #[test]
    fn a_greeting_is_read() {
        let greeting = parse_greeting(GREETING).unwrap();
        assert_eq!(greeting.server_version, "9.7.4");
        assert_eq!(greeting.connection_id, 7);
        assert_eq!(greeting.nonce, b"abcdefghijklmnopqrst");
        assert_eq!(greeting.capabilities, 0xdfff_ffff);
        assert_eq!(greeting.method, "caching_sha2_password");
    }

    #[test]
    fn a_greeting_cut_short_is_refused_and_never_a_panic() {
        let end_of_nonce = GREETING.len() - "caching_sha2_password\0".len();
        for len in 0..end_of_nonce {
            assert_eq!(parse_greeting(&GREETING[..len]), None, "{len}");
        }
    }
}
