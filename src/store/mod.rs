//! The bucket itself: one trait with its atomicity contract, S3, and a directory.

mod counted;
mod dir;
pub mod head;
mod probe;
mod s3;
mod signed;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::config::{Config, S3Config, StoreUrl};
use crate::error::Result;
use crate::stream::{Key, Md5};

pub use counted::counted;
pub use dir::DirStore;
pub use probe::{Probe, probe};
pub use s3::{Clients, S3Store};
pub use signed::{Signing, signed};

/// The largest document (head, page, manifest) that is read into memory.
pub const DOCUMENT_LIMIT: u64 = 64 << 20;

/// A store of objects under one prefix.
///
/// What every implementation promises, and the conformance suite in `tests/store` proves for each:
///
/// - **Whole objects.** A reader sees an object's old bytes or its new bytes, never a part or a mixture, and
///   never an object whose writing failed or was killed. A reader that began before a [`swap`](Store::swap)
///   may still get the old ones.
/// - **Durable before success.** When a write returns success, a crash of this process or of the machine it
///   runs on does not undo it, and every later read by anybody sees it.
/// - **Create once.** Of any number of [`create`](Store::create)s of one key with different bytes exactly
///   one succeeds; the others get `Kind::Conflict` and change nothing. Creating what is already there with
///   the very same bytes succeeds: objects that are created never change, so a run that repeats the step of
///   a killed one needs no special case, nor does a request whose answer was lost.
/// - **Compare and swap.** Of any number of [`swap`](Store::swap)s that expect the same state of one key
///   exactly one succeeds; the others get `Kind::Conflict` and change nothing. A tag stands for the content:
///   two states with the same bytes may have the same tag. Should the answer to a swap that took effect be
///   lost *and* somebody else swap on top of it before the store has been asked again, then it ends in
///   `Kind::Conflict` too: after a conflict, what is there now is the truth, and has to be read.
/// - **Errors.** `Kind::Store` means that it is unknown whether the write took effect; calling again with
///   the same arguments is right in either case: the step is done once, and a `swap` that did take effect is
///   recognised by its bytes. `Kind::Denied` and `Kind::NotFound` mean that nothing was changed.
///
/// Some S3 servers accept the conditions and ignore them: [`probe()`] finds out, and nothing may be written to
/// a store that fails it.
#[async_trait]
pub trait Store: Send + Sync {
    /// The store's name in messages: `s3://bucket/prefix` or `file:///path`.
    fn url(&self) -> String;

    /// A whole document of at most [`DOCUMENT_LIMIT`]. With `unless`, one that still has this tag is not
    /// sent again: that costs one request, and no body. `Kind::NotFound` if there is none.
    async fn get(&self, key: &Key, unless: Option<&Etag>) -> Result<Fetched>;

    /// Streams an object into the file `to` (made, or emptied first), and says what came. Never writes more
    /// than `limit` bytes: an object that is larger is `Kind::Corrupt`. After an error `to` holds rubbish.
    async fn download(&self, key: &Key, to: &Path, limit: u64) -> Result<Download>;

    /// Makes an object that never changes afterwards. `Kind::Conflict` if the key has other content.
    async fn create(&self, key: &Key, body: Body<'_>) -> Result<Etag>;

    /// Replaces the object that has the tag `expected`; `None`: makes it, if there is none.
    /// `Kind::Conflict` if the key is in another state.
    async fn swap(&self, key: &Key, bytes: &[u8], expected: Option<&Etag>) -> Result<Etag>;

    /// What is known of an object without reading it. `Kind::NotFound` if there is none.
    async fn stat(&self, key: &Key) -> Result<Stat>;

    /// Every object whose key begins with `prefix` (empty: all), in the order of the keys. What is no key of
    /// ours (white space, odd signs) is left out. Objects written while it runs may be missing.
    async fn list(&self, prefix: &str) -> Result<Vec<Listed>>;

    /// Removes an object; success if there was none.
    async fn delete(&self, key: &Key) -> Result<()>;

    /// Why a large file is made by one request here, which limits its size: "the server …". `None`: nothing does.
    async fn whole_files_only(&self) -> Result<Option<&'static str>> {
        Ok(None)
    }

    /// Gives up what killed writers have begun to make before that time and nobody will end: it takes room, and is seen
    /// by no reader. Says how many.
    async fn give_up_unfinished(&self, _before: DateTime<Utc>) -> Result<u64> {
        // Where a next writer cleans up by itself.
        Ok(0)
    }
}

/// A tag that changes when an object's content does. Opaque: what it is made of is the store's business.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Etag(String);

impl Etag {
    /// A tag that a store gave earlier, as kept in a cache or in `tablecast.position`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What [`Store::get`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// The object still has the tag that the caller named.
    Unchanged,
    Object {
        bytes: Vec<u8>,
        etag: Etag,
    },
}

/// What [`Store::download`] wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Download {
    pub size: u64,
    pub md5: Md5,
}

/// The content of an object to be made.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    Bytes(&'a [u8]),
    /// A file that nobody changes meanwhile. It is read twice (digest, then content) and never held in memory.
    File(&'a Path),
    /// The same, whose digest is known. S3 holds what it sends against it; a directory, which has the file copied by the
    /// kernel, takes it on trust: what a region fetches is held against it in any case.
    Packed {
        path: &'a Path,
        md5: Md5,
        size: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    pub size: u64,
    pub etag: Etag,
    /// Where the store knows it without reading the object.
    pub md5: Option<Md5>,
    pub modified: DateTime<Utc>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub key: Key,
    pub size: u64,
    pub modified: DateTime<Utc>,
}

/// The store that a config names. Nothing is read or written yet; a directory must exist.
pub async fn open(config: &Config) -> Result<Arc<dyn Store>> {
    open_with(config, &Clients::default()).await
}

/// The same, with what the stores of one process share.
pub async fn open_with(config: &Config, clients: &Clients) -> Result<Arc<dyn Store>> {
    open_signing(config, clients, Signing::of(config)?).await
}

/// The same with other keys than the config's: for who says what is to be signed.
pub async fn open_signing(config: &Config, clients: &Clients, signing: Signing) -> Result<Arc<dyn Store>> {
    Ok(signed(open_url(&config.store, &config.s3, clients).await?, signing))
}

/// The store at `url`, whoever has signed what is there.
pub async fn open_url(url: &StoreUrl, s3: &S3Config, clients: &Clients) -> Result<Arc<dyn Store>> {
    Ok(match url {
        StoreUrl::S3 { bucket, prefix } => Arc::new(S3Store::open_with(bucket, prefix, s3, clients).await?),
        StoreUrl::File(root) => Arc::new(DirStore::open(root)?),
    })
}
