//! Who waits for news of the stream, and the one look at the bucket that all of them share.
//!
//! Upload may run on another machine, so the service learns of a new head as everybody does: by a conditional GET. It
//! asks only while somebody waits, once for all of them, and four times slower once nothing has come for a while. What
//! it says is a hint: a region that hears of news reads the head itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::service::Service;
use crate::store::Etag;
use crate::stream::Head;

/// So long after the last news the head is looked at as often as the config says.
const LIVELY: Duration = Duration::from_secs(10);
/// And so many times slower after that.
const SLOWER: u32 = 4;
/// The pauses after a look that failed.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What a look at the head showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// None yet.
    Nothing,
    Head {
        seq: u64,
        etag: Etag,
    },
    Unreadable,
}

impl Seen {
    pub fn of(head: &Head, etag: &Etag) -> Seen {
        Seen::Head { seq: head.last_seq.0, etag: etag.clone() }
    }
}

pub struct Watcher {
    every: Duration,
    seen: watch::Sender<Seen>,
    /// A task looks.
    is_running: Mutex<bool>,
}

impl Watcher {
    pub fn new(every: Duration) -> Watcher {
        Watcher { every, seen: watch::Sender::new(Seen::Nothing), is_running: Mutex::new(false) }
    }

    /// What is seen from now on.
    pub fn watch(service: &Arc<Service>) -> watch::Receiver<Seen> {
        let watcher = &service.watcher;
        let mut is_running = watcher.is_running.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = watcher.seen.subscribe();
        if !*is_running {
            *is_running = true;
            tokio::spawn(look(service.clone()));
        }
        receiver
    }

    /// Whether nobody waits any more. Then the task ends, and the next who comes begins another.
    fn may_end(&self) -> bool {
        let mut is_running = self.is_running.lock().unwrap_or_else(PoisonError::into_inner);
        *is_running = self.seen.receiver_count() > 0;
        !*is_running
    }

    fn pause(&self, quiet: Duration) -> Duration {
        if quiet < LIVELY { self.every } else { self.every * SLOWER }
    }
}

async fn look(service: Arc<Service>) {
    let watcher = &service.watcher;
    let (mut last_news, mut failed) = (Instant::now(), None::<Duration>);
    loop {
        let pause = failed.unwrap_or_else(|| watcher.pause(last_news.elapsed()));
        tokio::time::sleep(pause).await;
        if watcher.may_end() {
            return;
        }
        let now = match service.head_of(Duration::ZERO).await {
            Ok((head, etag)) => {
                failed = None;
                Seen::of(&head, &etag)
            }
            Err(_) => {
                failed = Some(failed.map_or(FIRST_PAUSE, |pause| (pause * 2).min(LONGEST_PAUSE)));
                Seen::Unreadable
            }
        };
        let is_news = watcher.seen.send_if_modified(|seen| {
            let is_news = *seen != now;
            *seen = now;
            is_news
        });
        if is_news {
            last_news = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_stream_is_looked_at_less_often() {
        let watcher = Watcher::new(Duration::from_millis(100));
        assert_eq!(watcher.pause(Duration::from_secs(9)), Duration::from_millis(100));
        assert_eq!(watcher.pause(Duration::from_secs(10)), Duration::from_millis(400));
    }
}
