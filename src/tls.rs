//! TLS: the cryptography that the process uses, and which authorities are trusted.

use std::path::Path;
use std::sync::{Arc, Once};

use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::error::{Error, Kind, Result};

/// Makes aws-lc the process's provider, for the clients that take whatever the process has and panic if two are
/// compiled in and none is chosen.
pub fn use_our_provider() {
    static ONCE: Once = Once::new();
    // Fails only if somebody chose already, which is as good.
    ONCE.call_once(|| drop(aws_lc_rs::default_provider().install_default()));
}

/// The provider for configurations that name theirs.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The authorities in the PEM file `ca`, or the public ones. `what` is the file's place in the config.
pub async fn roots(what: &str, ca: Option<&Path>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let Some(path) = ca else {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        return Ok(roots);
    };
    let unusable = |why: &str| {
        Error::new(Kind::Usage, format!("{what} {}: {why}", path.display()))
            .hint("the file must hold the authority's certificate in PEM form")
    };
    let pem = tokio::fs::read(path).await.map_err(|e| unusable("cannot be read").caused_by(e))?;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|e| unusable("is not PEM").caused_by(e))?;
        roots.add(certificate).map_err(|e| unusable("holds an unusable certificate").caused_by(e))?;
    }
    if roots.is_empty() {
        return Err(unusable("holds no certificate"));
    }
    Ok(roots)
}
