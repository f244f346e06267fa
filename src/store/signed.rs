//! A store whose head is signed by whom this config trusts, whoever reads it and whoever writes it: every store that a config
//! opens is one. What is below it knows nothing of signatures, what is above it cannot forget them.
//!
//! A head that is not signed as the config asks is refused before anything in it is believed ([`Kind::History`]). A head
//! that was signed is never written without: a config that has no key refuses ([`Kind::Usage`]).

use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{Body, Download, Etag, Fetched, Listed, Stat, Store};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::signing::{PublicKey, SecretKey};
use crate::stream::{Key, signature};

/// Whose heads are believed, and how they are written.
#[derive(Debug, Default)]
pub struct Signing {
    /// Signs what is written; none: only what was not signed before can be written.
    pub key: Option<SecretKey>,
    /// Nobody: every head is believed.
    pub trusted: Vec<PublicKey>,
}

impl Signing {
    /// As the config says. Whoever signs trusts his own key, and nothing that is not signed: what somebody else has put into the
    /// bucket would be his own word otherwise.
    pub fn of(config: &Config) -> Result<Self> {
        let key = config.sign_key.as_deref().map(SecretKey::load).transpose()?;
        let own = key.iter().map(SecretKey::public);
        let mut trusted: Vec<PublicKey> = own.chain(config.trusted.iter().copied()).collect();
        trusted.dedup();
        Ok(Self { key, trusted })
    }
}

/// The same store, with its head signed and checked.
pub fn signed(inner: Arc<dyn Store>, signing: Signing) -> Arc<dyn Store> {
    Arc::new(SignedStore { inner, signing, head: Key::head(), checked: Mutex::default() })
}

struct SignedStore {
    inner: Arc<dyn Store>,
    signing: Signing,
    head: Key,
    /// The head that was found good last. What another process has seen, perhaps before it was told whom to trust, counts
    /// for nothing.
    checked: Mutex<Option<Etag>>,
}

impl SignedStore {
    fn remember(&self, etag: &Etag) {
        *self.checked.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(etag.clone());
    }

    fn has_checked(&self, etag: &Etag) -> bool {
        self.checked.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).as_ref() == Some(etag)
    }
}

#[async_trait]
impl Store for SignedStore {
    fn url(&self) -> String {
        self.inner.url()
    }

    async fn get(&self, key: &Key, unless: Option<&Etag>) -> Result<Fetched> {
        if *key != self.head || self.signing.trusted.is_empty() {
            return self.inner.get(key, unless).await;
        }
        let unless = unless.filter(|etag| self.has_checked(etag));
        let got = self.inner.get(key, unless).await?;
        if let Fetched::Object { bytes, etag } = &got {
            signature::check(bytes, &self.signing.trusted, &self.url())?;
            self.remember(etag);
        }
        Ok(got)
    }

    async fn download(&self, key: &Key, to: &Path, limit: u64) -> Result<Download> {
        self.inner.download(key, to, limit).await
    }

    async fn create(&self, key: &Key, body: Body<'_>) -> Result<Etag> {
        self.inner.create(key, body).await
    }

    async fn swap(&self, key: &Key, bytes: &[u8], expected: Option<&Etag>) -> Result<Etag> {
        if *key != self.head {
            return self.inner.swap(key, bytes, expected).await;
        }
        let Some(secret) = &self.signing.key else {
            if signature::is_signed(bytes) {
                let what = format!(
                    "write {}/{key}: it is signed, and this config has no key to sign it with",
                    self.url()
                );
                return Err(Error::new(Kind::Usage, what).hint(
                    "run this where the source's [sign] key_file is; to end the signing of this stream: \
                     docs/runbooks/sign-the-stream.md",
                ));
            }
            return self.inner.swap(key, bytes, expected).await;
        };
        let etag = self.inner.swap(key, &signature::sign(bytes, secret)?, expected).await?;
        self.remember(&etag);
        Ok(etag)
    }

    async fn stat(&self, key: &Key) -> Result<Stat> {
        self.inner.stat(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        self.inner.list(prefix).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.inner.delete(key).await
    }

    async fn whole_files_only(&self) -> Result<Option<&'static str>> {
        self.inner.whole_files_only().await
    }

    async fn give_up_unfinished(&self, before: DateTime<Utc>) -> Result<u64> {
        self.inner.give_up_unfinished(before).await
    }
}
