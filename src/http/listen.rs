//! The service's sockets: accepting, TLS, time limits, and a graceful end.
//!
//! Nobody may keep a connection busy without asking: the TLS handshake, a request's headers and its body have
//! their time, the number of connections is bounded (`Peers`), and none lives longer than a few minutes. Whoever
//! comes beyond all bounds waits in the kernel's queue.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::peers::{Peers, Seat};
use super::watched::Watched;
use crate::error::{Error, Kind, Result};

const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// For the headers of a request; also how long a connection may stand idle.
pub const HEADER_TIME: Duration = Duration::from_secs(10);
/// A connection ends after this time, when the request in work is answered.
const LIFETIME: Duration = Duration::from_secs(300);
/// What is still being answered when the service, or the connection's time, is over has so long.
const LAST_TIME: Duration = Duration::from_secs(15);
/// The largest head of a request, and what is buffered of a body that nobody reads yet.
const BUFFER: usize = 32 << 10;

/// Certificate and key, read anew when they change.
pub type ServerTls = Watched<ServerConfig>;

/// The server's side of TLS.
pub fn tls(cert: PathBuf, key: PathBuf) -> Result<ServerTls> {
    let paths = vec![cert.clone(), key.clone()];
    Watched::open("certificate and key", paths, move || {
        let unusable = |file: &PathBuf, why: &str| {
            Error::new(Kind::Usage, format!("serve.tls {}: {why}", file.display())).hint(
                "cert is the certificate chain in PEM form, its own certificate first; key the private key",
            )
        };
        let chain = CertificateDer::pem_file_iter(&cert)
            .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
            .map_err(|e| unusable(&cert, "cannot be read as PEM").caused_by(e))?;
        if chain.is_empty() {
            return Err(unusable(&cert, "holds no certificate"));
        }
        let private = PrivateKeyDer::from_pem_file(&key)
            .map_err(|e| unusable(&key, "cannot be read as a private key in PEM form").caused_by(e))?;
        let config = ServerConfig::builder_with_provider(crate::tls::provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::new(Kind::Failed, "set up TLS").caused_by(e))?
            .with_no_client_auth()
            .with_single_cert(chain, private);
        let mut config = config.map_err(|e| unusable(&cert, "does not go with its key").caused_by(e))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    })
}

/// Serves until `stop` is cancelled and what was being answered then is answered, or takes too long.
pub async fn serve(
    listener: TcpListener,
    tls: Option<ServerTls>,
    router: Router,
    peers: Peers,
    stop: CancellationToken,
) {
    let tasks = TaskTracker::new();
    loop {
        let room = tokio::select! {
            () = stop.cancelled() => break,
            // Never closed, so never none.
            Some(room) = peers.room() => room,
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (socket, address) = match accepted {
            Ok(accepted) => accepted,
            // Out of file descriptors, or the peer has gone already: neither ends the service.
            Err(error) => {
                tracing::warn!("accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(open) = peers.open(address.ip(), room) else { continue };
        let acceptor = tls.as_ref().map(|tls| TlsAcceptor::from(tls.get()));
        let (router, stop) = (router.clone(), stop.clone());
        let seat = Arc::new(Seat::new(open, peers.clone()));
        tasks.spawn(async move {
            if turn(&seat, &stop).await {
                connection(socket, acceptor, router, seat, stop).await;
            }
        });
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(LAST_TIME + Duration::from_secs(1), tasks.wait()).await.is_err() {
        tracing::warn!("{} connections were cut off", tasks.len());
    }
}

async fn turn(seat: &Seat, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        is_served = seat.sit() => is_served,
    }
}

async fn connection(
    socket: TcpStream,
    tls: Option<TlsAcceptor>,
    router: Router,
    seat: Arc<Seat>,
    stop: CancellationToken,
) {
    // Answers are small and written at once.
    let _ = socket.set_nodelay(true);
    match tls {
        None => http(socket, router, seat, stop).await,
        Some(tls) => match tokio::time::timeout(HANDSHAKE_TIME, tls.accept(socket)).await {
            Ok(Ok(socket)) => http(socket, router, seat, stop).await,
            Ok(Err(error)) => tracing::debug!("a TLS handshake failed: {error}"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        },
    }
}

async fn http(
    socket: impl AsyncRead + AsyncWrite + Unpin,
    router: Router,
    seat: Arc<Seat>,
    stop: CancellationToken,
) {
    let service = TowerToHyperService::new(router.layer(Extension(seat.clone())));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(socket), service);
    tokio::pin!(serving);
    let result = tokio::select! {
        result = &mut serving => result,
        () = ended(&stop) => {
            seat.ending.cancel();
            serving.as_mut().graceful_shutdown();
            match tokio::time::timeout(LAST_TIME, serving).await {
                Ok(result) => result,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!("a connection ended: {error}");
    }
}

async fn ended(stop: &CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep(LIFETIME) => {}
    }
}
