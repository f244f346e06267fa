//! `serve`: from the config to a running service.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::listen::{self, ServerTls};
use super::service::{Service, router};
use super::tokens::Tokens;
use super::watched::Watched;
use crate::clock::Clock;
use crate::config::{Config, ServeConfig};
use crate::error::{Error, Kind, Result};
use crate::metrics::Meters;
use crate::store::Store;

/// What a service that has ended says.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub stream: String,
    pub listen: SocketAddr,
}

/// The files that a service needs, read and found good.
pub struct Files {
    pub tokens: Watched<Tokens>,
    pub tls: Option<ServerTls>,
}

/// The service's section, or what to write.
pub fn section(config: &Config) -> Result<&ServeConfig> {
    config.serve.as_ref().ok_or_else(|| {
        Error::new(Kind::Usage, format!("{} has no section [serve]", config.path.display()))
            .hint("write [serve] with tokens_file = \"/etc/tablecast/tokens.toml\"; docs/http.md explains it")
    })
}

/// Reads what the section names.
pub fn files(serve: &ServeConfig) -> Result<Files> {
    let path = serve.tokens_file.clone();
    let tokens = Watched::open("tokens", vec![path.clone()], move || Tokens::load(&path))?;
    let tls = match serve.tls.clone() {
        Some((cert, key)) => Some(listen::tls(cert, key)?),
        None => None,
    };
    Ok(Files { tokens, tls })
}

/// Serves until `stop` is cancelled.
pub async fn run(
    config: &Config,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    meters: Meters,
    stop: CancellationToken,
) -> Result<Report> {
    let serve = section(config)?;
    let Files { tokens, tls } = files(serve)?;
    let failed = |cause| {
        Error::new(Kind::Failed, format!("listen on {}", serve.listen))
            .hint("does another process use the port? `ss -ltnp` tells; `serve.listen` names another")
            .caused_by(cause)
    };
    let listener = TcpListener::bind(serve.listen).await.map_err(failed)?;
    let listen = listener.local_addr().map_err(failed)?;
    if tokens.get().is_empty() {
        tracing::warn!("{} has no token: every request will be refused", serve.tokens_file.display());
    }
    let scheme = if tls.is_some() { "https" } else { "http" };
    let service = Arc::new(Service::new(config, store, clock, tokens, meters));
    match service.first_head().await {
        Ok(head) => tracing::info!(stream = head.name, uuid = %head.stream, "serving {scheme}://{listen}"),
        // Another stream than the config says, or credentials that do not fit: it will not go by.
        Err(error) if matches!(error.kind(), Kind::Usage | Kind::Denied) => return Err(error),
        // It may come back, and readyz tells until then.
        Err(error) => tracing::warn!("serving {scheme}://{listen}, but {error}"),
    }
    let peers = service.peers.clone();
    listen::serve(listener, tls, router(service), peers, stop).await;
    tracing::info!("ended");
    Ok(Report { stream: config.stream.clone(), listen })
}
