//! How many workers this process has at each server, all its streams together.
//!
//! What a stream's workers do at the least it always may. Those beyond that are there to share the disk's time, and
//! streams that share a server share what it has for them: applications must get in as well.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

static WORKERS: Mutex<BTreeMap<Uuid, usize>> = Mutex::new(BTreeMap::new());

fn workers() -> MutexGuard<'static, BTreeMap<Uuid, usize>> {
    WORKERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One stream's part of the workers at a server. Given back when it is dropped.
pub struct Share {
    server: Uuid,
    /// Of all streams together.
    limit: usize,
    taken: usize,
}

impl Share {
    /// With so many from the start, whatever the others have.
    pub fn new(server: Uuid, limit: usize, least: usize) -> Share {
        *workers().entry(server).or_default() += least;
        Share { server, limit, taken: least }
    }

    /// Up to so many more; says how many.
    pub fn take(&mut self, wanted: usize) -> usize {
        let mut workers = workers();
        let all = workers.entry(self.server).or_default();
        let more = wanted.min(self.limit.saturating_sub(*all));
        *all += more;
        self.taken += more;
        more
    }

    /// Gives back all beyond so many.
    pub fn keep(&mut self, least: usize) {
        let less = self.taken.saturating_sub(least);
        self.taken -= less;
        let mut workers = workers();
        if let Some(all) = workers.get_mut(&self.server) {
            *all = all.saturating_sub(less);
            if *all == 0 {
                workers.remove(&self.server);
            }
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.keep(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_that_share_a_server_share_what_it_has_for_more_workers() {
        let (server, other) = (Uuid::from_u128(71), Uuid::from_u128(72));
        let mut first = Share::new(server, 20, 4);
        assert_eq!(first.take(28), 16);
        let mut second = Share::new(server, 20, 4);
        assert_eq!((second.take(28), first.take(1)), (0, 0), "what it must have it has, and no more");
        assert_eq!(Share::new(other, 20, 4).take(28), 16, "another server is another matter");
        first.keep(4);
        assert_eq!((second.take(28), first.take(28)), (12, 0));
        drop(second);
        assert_eq!(first.take(28), 16);
        drop(first);
        assert!(!workers().contains_key(&server), "nothing is left of them");
    }
}
