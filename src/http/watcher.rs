//! Who waits for news of the stream, and the one look at the bucket that all of them share.
//!
//! Upload may run on another machine, so the service learns of a new head as everybody does: by a conditional GET. It
//! asks only while somebody waits, once for all of them, and the less often the longer no entry has come. What it says
//! is a hint: a region that hears of news reads the head itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::service::Service;
use crate::store::Etag;
use crate::stream::Head;

/// The longest pause between two looks. It is reached when no entry has come for twenty times as long.
const LONGEST_LOOK: Duration = Duration::from_secs(2);
const SLOWLY: u32 = 20;
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

    /// Whether another entry has come since. An idle stream's head is written once a minute, for its time alone.
    fn has_entry_since(&self, before: &Seen) -> bool {
        match (before, self) {
            (Seen::Head { seq: before, .. }, Seen::Head { seq, .. }) => seq != before,
            _ => false,
        }
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
        (quiet / SLOWLY).clamp(self.every, LONGEST_LOOK.max(self.every))
    }

    fn has_ended(&self) {
        *self.is_running.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.seen.send_replace(Seen::Unreadable);
    }
}

/// A task that looks. One that panics (a head is foreign JSON) says so: who waits asks again, and the next who comes
/// begins another.
struct Looking<'a> {
    watcher: &'a Watcher,
    /// By itself, as nobody waits.
    is_over: bool,
}

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.watcher.has_ended();
        }
    }
}

async fn look(service: Arc<Service>) {
    let watcher = &service.watcher;
    let mut looking = Looking { watcher, is_over: false };
    let (mut last_news, mut failed) = (Instant::now(), None::<Duration>);
    loop {
        let pause = failed.unwrap_or_else(|| watcher.pause(last_news.elapsed()));
        tokio::time::sleep(pause).await;
        if watcher.may_end() {
            looking.is_over = true;
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
        watcher.seen.send_if_modified(|seen| {
            if now.has_entry_since(seen) {
                last_news = Instant::now();
            }
            let is_news = *seen != now;
            *seen = now;
            is_news
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_stream_is_looked_at_less_and_less_often_up_to_a_bound() {
        let watcher = Watcher::new(Duration::from_millis(100));
        for (seconds, pause) in [(0, 100), (2, 100), (10, 500), (40, 2_000), (100_000, 2_000)] {
            assert_eq!(
                watcher.pause(Duration::from_secs(seconds)),
                Duration::from_millis(pause),
                "{seconds} s"
            );
        }
        let slow = Watcher::new(Duration::from_secs(7));
        assert_eq!(slow.pause(Duration::from_secs(1_000)), Duration::from_secs(7));
        let head = |seq, etag: &str| Seen::Head { seq, etag: Etag::new(etag.to_owned()) };
        assert!(head(2, "b").has_entry_since(&head(1, "a")));
        assert!(!head(1, "b").has_entry_since(&head(1, "a")), "only its time");
        assert!(!head(1, "b").has_entry_since(&Seen::Nothing));
        assert!(!head(1, "b").has_entry_since(&Seen::Unreadable));
    }

    #[test]
    fn a_look_that_panics_is_told_and_the_next_who_waits_begins_another() {
        let watcher = Watcher::new(Duration::from_millis(100));
        *watcher.is_running.lock().unwrap() = true;
        let waits = watcher.seen.subscribe();
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _looking = Looking { watcher: &watcher, is_over: false };
            panic!("a head that nobody thought of");
        }));
        assert!(looked.is_err());
        assert!(waits.has_changed().unwrap() && *waits.borrow() == Seen::Unreadable);
        assert!(!*watcher.is_running.lock().unwrap());
        // Another may have begun by the time that one which nobody waits for is gone.
        *watcher.is_running.lock().unwrap() = true;
        drop(Looking { watcher: &watcher, is_over: true });
        assert!(*watcher.is_running.lock().unwrap());
    }
}
