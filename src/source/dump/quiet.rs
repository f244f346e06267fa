//! Whether an upload from cron need look at the queue of requests at all: a listing is the dearest request of S3, and an
//! idle run would make no other but its look at the head.
//!
//! A run that finds nothing pending leaves a note of it in `cache_dir`, which holds for some minutes. Whoever asks for a dump
//! from this machine takes the note away, so that the very next run looks. From another machine a request is seen when the
//! note has run out. A note that cannot be written, or is of a time to come, only costs the look.
//!
//! It is written before the look under another name, and takes its own after it: a request made meanwhile takes away
//! both, and a run that is killed meanwhile leaves none that holds.

use std::fs;
use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest, Sha256};

use crate::hex::hex;
use crate::store::Store;

/// So long nobody looks again.
const HOLDS: TimeDelta = TimeDelta::minutes(5);

/// The note of one store on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Quiet {
    note: PathBuf,
    began: PathBuf,
}

impl Quiet {
    pub(crate) fn of(store: &dyn Store, cache_dir: &Path) -> Quiet {
        let digest = Sha256::digest(store.url());
        let note = cache_dir.join(format!("quiet-{}", hex(&digest[..16])));
        Quiet { began: note.with_extension("new"), note }
    }

    /// Whether a run has looked not long ago, and found nothing pending.
    pub(crate) fn holds(&self, now: DateTime<Utc>) -> bool {
        let read = fs::read_to_string(&self.note).ok();
        let looked = read.and_then(|text| text.trim().parse::<DateTime<Utc>>().ok());
        looked.is_some_and(|looked| looked <= now && now - looked < HOLDS)
    }

    /// Before a look.
    pub(crate) fn begin(&self, now: DateTime<Utc>) {
        let written = fs::create_dir_all(self.note.parent().unwrap_or(Path::new(".")))
            .and_then(|()| fs::write(&self.began, now.to_rfc3339()));
        if let Err(error) = written {
            tracing::debug!("note a look at the queue in {}: {error}", self.began.display());
        }
    }

    /// After one that has found nothing pending.
    pub(crate) fn end(&self) {
        if let Err(error) = fs::rename(&self.began, &self.note) {
            tracing::debug!("note that the queue is empty in {}: {error}", self.note.display());
        }
    }

    /// For whoever asks for a dump: however that ends.
    pub(crate) fn over_afterwards(&self) -> impl Drop + use<'_> {
        struct Over<'a>(&'a Quiet);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.is_over();
            }
        }
        Over(self)
    }

    /// There is something in the queue, or may be. In this order: what is renamed between the two is taken away as well.
    pub(crate) fn is_over(&self) {
        for path in [&self.began, &self.note] {
            match fs::remove_file(path) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(
                    "take away {}: {error}. An upload from cron sees the request in some minutes",
                    path.display()
                ),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::DirStore;

    #[test]
    fn a_note_holds_until_somebody_asks_or_its_time_is_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = DirStore::open(folder.path()).expect("a store");
        let quiet = Quiet::of(&store, &folder.path().join("cache"));
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(1);
        assert!(!quiet.holds(now));
        quiet.begin(now);
        // A run that was killed here has not looked.
        assert!(!quiet.holds(now));
        quiet.end();
        assert!(quiet.holds(now) && quiet.holds(now + HOLDS - TimeDelta::seconds(1)));
        assert!(!quiet.holds(now + HOLDS));
        // The clock was set back.
        assert!(!quiet.holds(now - TimeDelta::seconds(1)));
        quiet.is_over();
        assert!(!quiet.holds(now));
        // Asked for between a run's look and its note.
        quiet.begin(now);
        quiet.is_over();
        quiet.end();
        assert!(!quiet.holds(now));
    }
}
