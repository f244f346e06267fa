//! TLS for our own client: the three modes of the config as rustls configurations.

use std::sync::{Arc, Once};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::config::{Tls, TlsMode};
use crate::{Error, Kind, Result};

/// Makes aws-lc the process's provider. `mysql_async` takes whatever the process has, and panics if two are
/// compiled in and none is chosen.
pub(super) fn use_our_provider() {
    static ONCE: Once = Once::new();
    // Fails only if somebody chose already, which is as good.
    ONCE.call_once(|| drop(aws_lc_rs::default_provider().install_default()));
}

/// The client's side of TLS; `None` when it is off.
pub(super) async fn client_config(tls: &Tls) -> Result<Option<Arc<ClientConfig>>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::new(Kind::Failed, "set up TLS").caused_by(e))?;
    let config = match tls.mode {
        TlsMode::Off => return Ok(None),
        TlsMode::Require => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth(),
        TlsMode::Verify => builder.with_root_certificates(roots(tls).await?).with_no_client_auth(),
    };
    Ok(Some(Arc::new(config)))
}

async fn roots(tls: &Tls) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let Some(path) = &tls.ca else {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        return Ok(roots);
    };
    let unusable = |what: &str| {
        Error::new(Kind::Usage, format!("tls ca {}: {what}", path.display()))
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

/// Mode `require`: any certificate will do, but its owner must prove to have its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
