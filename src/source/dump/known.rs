//! Requests that are over, remembered from one look at the queue to the next, and from one run to the next: they
//! never change, and a run from cron would otherwise read each of them every minute.
//!
//! What lies in `cache_dir` is a copy. One that is missing, damaged or of another store costs reading them once
//! more, and failing to write it is no reason to fail.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fs, io};

use sha2::{Digest, Sha256};

use super::quiet::Quiet;
use crate::hex::hex;
use crate::store::Store;
use crate::stream::{Request, RequestId};

/// Most requests that are remembered; beyond, some are read again.
const MOST: usize = 20_000;

/// Clones share what they know.
#[derive(Clone, Debug, Default)]
pub struct Known {
    memory: Arc<Mutex<Memory>>,
    quiet: Option<Quiet>,
}

#[derive(Debug, Default)]
struct Memory {
    requests: BTreeMap<RequestId, Request>,
    copy: Option<PathBuf>,
    /// Since the copy was written.
    is_changed: bool,
}

impl Known {
    /// What earlier runs on this machine have read from this store.
    pub fn load(store: &dyn Store, cache_dir: &Path) -> Known {
        let digest = Sha256::digest(store.url());
        // One file for each store, whatever stands in its URL.
        let path = cache_dir.join(format!("requests-{}", hex(&digest[..16])));
        let requests = read(&path);
        let memory = Memory { requests, copy: Some(path), is_changed: false };
        Known { memory: Arc::new(Mutex::new(memory)), quiet: Some(Quiet::of(store, cache_dir)) }
    }

    /// What is read from this store from now on, for a process that lives long.
    pub fn fresh(store: &dyn Store, cache_dir: &Path) -> Known {
        Known { memory: Arc::default(), quiet: Some(Quiet::of(store, cache_dir)) }
    }

    /// The note of this machine that nothing is pending.
    pub(super) fn quiet(&self) -> Option<&Quiet> {
        self.quiet.as_ref()
    }

    pub(super) fn get(&self, id: &RequestId) -> Option<Request> {
        self.memory().requests.get(id).cloned()
    }

    /// Remembers a request that is over.
    pub(super) fn learn(&self, request: &Request) {
        let mut memory = self.memory();
        if request.state.is_final() && memory.requests.len() < MOST {
            memory.requests.insert(request.id.clone(), request.clone());
            memory.is_changed = true;
        }
    }

    /// Forgets all but these, and keeps the rest for the next run.
    pub(super) fn retain(&self, there: &BTreeSet<RequestId>) {
        let mut memory = self.memory();
        let before = memory.requests.len();
        memory.requests.retain(|id, _| there.contains(id));
        memory.is_changed |= memory.requests.len() != before;
        if let (true, Some(path)) = (std::mem::take(&mut memory.is_changed), &memory.copy)
            && let Err(error) = write(path, &memory.requests)
        {
            tracing::debug!("keep what is known of requests in {}: {error}", path.display());
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Whoever panicked while holding it left a map of whole requests.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Each request as it lies in the store, under its id; each is sealed by a digest of its own.
fn read(path: &Path) -> BTreeMap<RequestId, Request> {
    let texts: BTreeMap<String, String> =
        fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let parsed = texts.into_iter().filter_map(|(id, text)| {
        let id: RequestId = id.parse().ok()?;
        let request = Request::parse(&id, text.as_bytes()).ok()?;
        request.state.is_final().then_some((id, request))
    });
    parsed.take(MOST).collect()
}

fn write(path: &Path, requests: &BTreeMap<RequestId, Request>) -> io::Result<()> {
    let mut texts = BTreeMap::new();
    for (id, request) in requests {
        let text = request.to_json().map_err(io::Error::other)?;
        texts.insert(id.to_string(), String::from_utf8(text).map_err(io::Error::other)?);
    }
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    // One name, so that a killed run leaves nothing that piles up.
    let new = path.with_extension("new");
    fs::write(&new, serde_json::to_vec(&texts)?)?;
    fs::rename(&new, path)
}
