//! Whether a store honours the conditions of a write, tried for real.
//!
//! Some S3 servers accept `If-None-Match` and `If-Match` and ignore them. With such a server two uploads at
//! once would overwrite each other's head in silence, so `stream init` refuses it and `doctor` names it. Others
//! honour them on PUT only, and not for files in parts: those get whole files, which is no finding but worth a note.

use uuid::Uuid;

use super::{Body, Etag, Fetched, Store};
use crate::error::{Error, Kind, Result};
use crate::stream::Key;

/// What the probe found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// What the store does otherwise than it must, one clause each; empty: nothing.
    pub findings: Vec<String>,
    /// Why large files do not go in parts ("the server …"), if they do not.
    pub whole_files_only: Option<&'static str>,
}

impl Probe {
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }

    /// The error of a run that must not write to a store like this; nothing if it is sound.
    pub fn into_result(self, store: &dyn Store) -> Result<()> {
        if self.is_sound() {
            return Ok(());
        }
        Err(Error::new(
            Kind::Denied,
            format!("probe {}: the store {}", store.url(), self.findings.join("; and it ")),
        )
        .hint(
            "use a store that honours If-Match and If-None-Match on PUT (Amazon S3, MinIO, Ceph from Tentacle, \
             Cloudflare R2); on this one two uploads at once would lose transactions in silence",
        ))
    }
}

/// Tries every conditional write on a throw-away key, which it removes again. An error means that the probe
/// itself could not be carried out: no access, no bucket.
pub async fn probe(store: &dyn Store) -> Result<Probe> {
    let key = Key::probe(Uuid::new_v4());
    let found = attempt(store, &key).await;
    // Also after a failure; what cannot be removed is told unless something worse was found.
    let removed = store.delete(&key).await;
    let found = found?;
    removed?;
    Ok(found)
}

async fn attempt(store: &dyn Store, key: &Key) -> Result<Probe> {
    let mut probe = Probe::default();
    let first = store.create(key, Body::Bytes(b"first")).await?;
    probe.expect_conflict(
        store.create(key, Body::Bytes(b"second")).await,
        "creates an object that exists already (If-None-Match: * on PUT is ignored)",
    )?;
    probe.expect_bytes(store, key, b"first", "after an object was to be created a second time").await?;
    // From what is there now, whatever the store did so far.
    let now = match store.get(key, None).await? {
        Fetched::Object { etag, .. } => etag,
        Fetched::Unchanged => first.clone(),
    };
    let second = store.swap(key, b"third", Some(&now)).await?;
    if second == first || second == now {
        probe.findings.push("gives two contents the same ETag".into());
    }
    probe.expect_conflict(
        store.swap(key, b"fourth", Some(&stale(&first, &second))).await,
        "overwrites an object that has changed meanwhile (If-Match on PUT is ignored)",
    )?;
    probe.expect_conflict(
        store.swap(key, b"fifth", None).await,
        "overwrites an object that was expected to be missing (If-None-Match: * on PUT is ignored)",
    )?;
    probe.expect_bytes(store, key, b"third", "after swaps that had to fail").await?;
    store.delete(key).await?;
    match store.get(key, None).await {
        Err(e) if e.is_not_found() => {}
        Err(e) => return Err(e),
        Ok(_) => probe.findings.push("still gives out an object after it was deleted".into()),
    }
    probe.expect_conflict(
        store.swap(key, b"sixth", Some(&second)).await,
        "makes an object that was expected to be there (If-Match on PUT is ignored)",
    )?;
    if probe.is_sound() {
        probe.whole_files_only = store.whole_files_only().await?;
    }
    Ok(probe)
}

/// A tag that the object has had and has no more.
fn stale(first: &Etag, second: &Etag) -> Etag {
    if first == second { Etag::new("\"00000000000000000000000000000000\"") } else { first.clone() }
}

impl Probe {
    fn expect_conflict(&mut self, done: Result<Etag>, otherwise: &str) -> Result<()> {
        match done {
            Err(e) if e.is_conflict() => Ok(()),
            Err(e) => Err(e),
            Ok(_) => {
                self.findings.push(otherwise.to_owned());
                Ok(())
            }
        }
    }

    async fn expect_bytes(&mut self, store: &dyn Store, key: &Key, wanted: &[u8], when: &str) -> Result<()> {
        let Fetched::Object { bytes, .. } = store.get(key, None).await? else { return Ok(()) };
        // That a write was let through has been said already.
        if bytes != wanted && self.is_sound() {
            self.findings.push(format!(
                "gives {:?} {when}, and {:?} was to be there",
                String::from_utf8_lossy(&bytes),
                String::from_utf8_lossy(wanted)
            ));
        }
        Ok(())
    }
}
