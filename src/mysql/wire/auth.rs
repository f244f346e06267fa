//! The authentication methods: how an account proves its password. A password is sent in the clear only where
//! nobody listens (TLS, Unix socket), else encrypted with the server's RSA key, or only a scramble of it is sent.
//!
//! "Authentication Methods" of the MySQL source documentation; sql/auth/sha2_password.cc.

use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, PublicEncryptingKey};
use mysql_common::scramble::scramble_native;
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::Wire;
use super::fields::Fields;
use super::reply::ServerError;
use crate::mysql::errors;
use crate::{Error, Kind, Result};

/// First bytes of the server's packets during a login.
const OK: u8 = 0x00;
const MORE_DATA: u8 = 0x01;
const SWITCH: u8 = 0xfe;
const ERR: u8 = 0xff;

/// What follows MORE_DATA with caching_sha2_password.
const FAST_AUTH_OK: u8 = 0x03;
const FULL_AUTH: u8 = 0x04;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    CachingSha2,
    Native,
    Sha256,
}

impl Method {
    pub fn named(name: &str) -> Option<Method> {
        [Method::CachingSha2, Method::Native, Method::Sha256].into_iter().find(|method| method.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Method::CachingSha2 => "caching_sha2_password",
            Method::Native => "mysql_native_password",
            Method::Sha256 => "sha256_password",
        }
    }

    /// The first answer to the server's nonce.
    pub fn proof(self, password: Option<&SecretString>, nonce: &[u8], is_tls: bool) -> Vec<u8> {
        let password = exposed(password);
        match self {
            Method::CachingSha2 | Method::Native if password.is_empty() => Vec::new(),
            Method::CachingSha2 => scramble_sha2(password, nonce),
            Method::Native => scramble_native(nonce, password).map(Vec::from).unwrap_or_default(),
            // This method has no scramble: the password itself, or a request for the key to encrypt it with.
            Method::Sha256 if password.is_empty() => vec![0],
            Method::Sha256 if is_tls => terminated(password),
            Method::Sha256 => vec![0x01],
        }
    }

    /// What asks the server for its RSA key during a full authentication.
    fn key_request(self) -> u8 {
        match self {
            Method::CachingSha2 => 0x02,
            _ => 0x01,
        }
    }
}

impl Wire {
    /// Goes on from our first answer until the server lets us in or does not.
    pub(super) async fn authenticate(
        &mut self,
        mut method: Method,
        password: Option<&SecretString>,
        mut nonce: Vec<u8>,
        doing: &str,
    ) -> Result<()> {
        let mut has_switched = false;
        loop {
            let payload = self.payload().await.map_err(|e| e.during(doing))?;
            match payload.first() {
                Some(&OK) => return Ok(()),
                Some(&ERR) => return Err(ServerError::parse(&payload).into_error(doing)),
                Some(&SWITCH) if !has_switched => {
                    has_switched = true;
                    (method, nonce) = switch(&payload, doing)?;
                    let proof = method.proof(password, &nonce, self.is_tls);
                    self.send_payload(&proof).await?;
                }
                Some(&MORE_DATA) => match (method, payload.get(1)) {
                    (Method::CachingSha2, Some(&FAST_AUTH_OK)) => {}
                    (Method::CachingSha2, Some(&FULL_AUTH)) if self.is_tls || self.is_socket => {
                        self.send_payload(&terminated(exposed(password))).await?;
                    }
                    (Method::CachingSha2, Some(&FULL_AUTH)) => {
                        self.send_payload(&[method.key_request()]).await?;
                    }
                    (Method::CachingSha2 | Method::Sha256, Some(b'-')) => {
                        let encrypted = encrypt(exposed(password), &nonce, &payload[1..], doing)?;
                        self.send_payload(&encrypted).await?;
                    }
                    _ => return Err(self.garbled(format_args!("an odd step of {}", method.name()))),
                },
                _ => return Err(self.garbled("an odd step of the login")),
            }
        }
    }
}

/// The server names the account's method, and gives a new nonce.
fn switch(payload: &[u8], doing: &str) -> Result<(Method, Vec<u8>)> {
    let mut fields = Fields(&payload[1..]);
    let name = String::from_utf8_lossy(fields.text()).into_owned();
    let Some(method) = Method::named(&name) else {
        return Err(errors::unknown_method(doing)
            .caused_by(format!("the server asks for the authentication method '{name}'")));
    };
    Ok((method, fields.0.strip_suffix(&[0]).unwrap_or(fields.0).to_vec()))
}

fn exposed(password: Option<&SecretString>) -> &[u8] {
    password.map(|secret| secret.expose_secret().as_bytes()).unwrap_or_default()
}

fn terminated(password: &[u8]) -> Vec<u8> {
    [password, &[0]].concat()
}

/// XOR(SHA256(password), SHA256(SHA256(SHA256(password)), nonce))
fn scramble_sha2(password: &[u8], nonce: &[u8]) -> Vec<u8> {
    let once = Sha256::digest(password);
    let twice = Sha256::digest(once);
    let salted = Sha256::new().chain_update(twice).chain_update(nonce).finalize();
    once.iter().zip(salted).map(|(a, b)| a ^ b).collect()
}

/// The password, masked with the nonce (so that it cannot be sent again), under the server's key.
fn encrypt(password: &[u8], nonce: &[u8], pem: &[u8], doing: &str) -> Result<Vec<u8>> {
    let unusable = |why: &str| Error::new(Kind::Denied, format!("{doing}: the server's RSA key {why}"));
    let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|e| unusable("is no PEM").caused_by(e))?;
    let key = PublicEncryptingKey::from_der(&der).map_err(|e| unusable("is refused").caused_by(e))?;
    let key = OaepPublicEncryptingKey::new(key).map_err(|e| unusable("is refused").caused_by(e))?;
    if nonce.is_empty() {
        return Err(unusable("comes without a nonce"));
    }
    let masked: Vec<u8> =
        terminated(password).iter().zip(nonce.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    let mut encrypted = vec![0; key.ciphertext_size()];
    key.encrypt(&OAEP_SHA1_MGF1SHA1, &masked, &mut encrypted, None)
        .map_err(|e| unusable("cannot take a password of this length").caused_by(e))?;
    Ok(encrypted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scramble_is_the_one_that_mysql_common_makes() {
        let nonce = b"abcdefghijklmnopqrst";
        let theirs = mysql_common::scramble::scramble_sha256(nonce, b"secret").unwrap();
        assert_eq!(scramble_sha2(b"secret", nonce), theirs);
    }

    #[test]
    fn without_tls_no_first_answer_holds_the_password() {
        let password = SecretString::from("secret");
        for method in [Method::CachingSha2, Method::Native, Method::Sha256] {
            let proof = method.proof(Some(&password), b"abcdefghijklmnopqrst", false);
            assert!(!proof.windows(6).any(|bytes| bytes == b"secret"), "{}", method.name());
        }
    }

    #[test]
    fn a_method_we_do_not_speak_is_a_refusal_that_names_it() {
        let error = switch(b"\xfeauthentication_ldap_simple\0nonce\0", "connect").unwrap_err();
        assert_eq!(error.kind(), Kind::Denied);
        assert!(format!("{error:?}").contains("authentication_ldap_simple"));
    }
}
