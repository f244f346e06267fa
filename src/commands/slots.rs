//! How many runs of a process are at work at once.
//!
//! A slot limits work, not waiting: a run that has heard nothing from anybody for a while (a server that hangs) gives
//! its slot to the next one, and takes it back when it is woken, whoever is in it by then. A run that follows holds one
//! only until it has settled down.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep_until};

/// After which times a slot is given up.
#[derive(Clone, Copy, Debug)]
struct Times {
    /// So long without a sign of life, and a run does not count.
    silence: Duration,
    /// A following run that is silent for so long has begun.
    settled: Duration,
    /// One that is not has begun after this, too.
    longest_start: Duration,
}

const TIMES: Times = Times {
    silence: Duration::from_secs(2),
    settled: Duration::from_millis(200),
    longest_start: Duration::from_secs(5),
};

/// The slots of a process.
#[derive(Debug)]
pub struct Slots {
    limit: usize,
    times: Times,
    taken: Mutex<usize>,
    freed: Notify,
}

impl Slots {
    pub fn new(limit: usize) -> Arc<Slots> {
        Self::with_times(limit, TIMES)
    }

    fn with_times(limit: usize, times: Times) -> Arc<Slots> {
        Arc::new(Slots { limit: limit.max(1), times, taken: Mutex::new(0), freed: Notify::new() })
    }

    /// Waits for a slot.
    pub async fn take(self: &Arc<Self>) -> Slot {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // From here on none that is freed is missed.
            freed.as_mut().enable();
            let is_free = self.with(|taken| {
                let is_free = *taken < self.limit;
                *taken += usize::from(is_free);
                is_free
            });
            if is_free {
                return Slot { slots: self.clone(), is_held: true };
            }
            freed.await;
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut usize) -> T) -> T {
        change(&mut self.taken.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One of them, held until it is dropped or given up for a while.
#[derive(Debug)]
pub struct Slot {
    slots: Arc<Slots>,
    is_held: bool,
}

impl Slot {
    /// Carries out a run in this slot.
    pub fn run<F: Future>(self, follows: bool, future: F) -> Working<F> {
        let now = Instant::now();
        let times = self.slots.times;
        let silence = if follows { times.settled } else { times.silence };
        Working {
            future: Box::pin(future),
            slot: self,
            follows,
            silence,
            began: now,
            woken: now,
            alarm: Box::pin(sleep_until(now + silence)),
        }
    }

    fn give_up(&mut self) {
        if std::mem::take(&mut self.is_held) {
            self.slots.with(|taken| *taken -= 1);
            self.slots.freed.notify_one();
        }
    }

    /// Beyond the limit, if need be: a run that goes on must not wait for those that have not begun.
    fn take_back(&mut self) {
        if !self.is_held {
            self.is_held = true;
            self.slots.with(|taken| *taken += 1);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// A run in its slot.
pub struct Working<F> {
    future: Pin<Box<F>>,
    slot: Slot,
    follows: bool,
    silence: Duration,
    began: Instant,
    /// When it was last woken, by whatever, and had worked.
    woken: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl<F: Future> Future for Working<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        let now = Instant::now();
        if this.slot.is_held {
            let has_begun = this.follows && now - this.began >= this.slot.slots.times.longest_start;
            if now - this.woken >= this.silence || has_begun {
                this.slot.give_up();
            }
        } else if !this.follows {
            // Nothing but the run itself wakes it while it has no slot.
            this.slot.take_back();
        }
        if let Poll::Ready(output) = this.future.as_mut().poll(context) {
            return Poll::Ready(output);
        }
        // It may have worked for long.
        this.woken = Instant::now();
        // Set once for the whole time, not at every wake: a run that works is woken often.
        while this.slot.is_held {
            ready!(this.alarm.as_mut().poll(context));
            this.alarm.as_mut().reset(Instant::now() + this.silence);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::oneshot;
    use tokio::time::sleep;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn slots(limit: usize) -> Arc<Slots> {
        Slots::with_times(limit, Times { silence: MS * 50, settled: MS * 20, longest_start: MS * 200 })
    }

    #[tokio::test]
    async fn no_more_runs_than_slots_are_at_work() {
        let (slots, at_work, most) = (Slots::new(3), AtomicUsize::new(0), AtomicUsize::new(0));
        let run = |slot: Slot| {
            slot.run(false, async {
                let now = at_work.fetch_add(1, Ordering::Relaxed) + 1;
                most.fetch_max(now, Ordering::Relaxed);
                for _ in 0..10 {
                    sleep(MS).await;
                }
                at_work.fetch_sub(1, Ordering::Relaxed);
            })
        };
        futures::future::join_all((0..20).map(|_| async { run(slots.take().await).await })).await;
        assert_eq!((most.load(Ordering::Relaxed), slots.with(|taken| *taken)), (3, 0));
    }

    #[tokio::test]
    async fn a_run_that_hangs_keeps_no_slot_from_others_and_counts_again_when_it_is_woken() {
        let slots = slots(1);
        let (wake, woken) = oneshot::channel::<()>();
        let counted = slots.clone();
        let hangs = tokio::spawn(slots.take().await.run(false, async move {
            woken.await.expect("to be woken");
            counted.with(|taken| *taken)
        }));
        for _ in 0..3 {
            slots.take().await.run(false, sleep(MS)).await;
        }
        assert!(!hangs.is_finished());
        assert_eq!(slots.with(|taken| *taken), 0);
        wake.send(()).expect("it still waits");
        assert_eq!(hangs.await.expect("no panic"), 1);
        assert_eq!(slots.with(|taken| *taken), 0);
    }

    /// On a machine that is busy enough it may be woken late, and be thought silent: not every time.
    #[tokio::test]
    async fn a_run_that_computes_for_longer_than_the_silence_goes_on_and_keeps_its_slot() {
        let slots = slots(1);
        let mut seen = Vec::new();
        for _ in 0..20 {
            let computes = async {
                let mut taken = Vec::new();
                for _ in 0..3 {
                    std::thread::sleep(MS * 60);
                    tokio::task::yield_now().await;
                    taken.push(slots.with(|taken| *taken));
                }
                taken
            };
            seen.push(slots.take().await.run(false, computes).await);
            assert_eq!(slots.with(|taken| *taken), 0);
            if seen.last().is_some_and(|taken| *taken == [1; 3]) {
                return;
            }
        }
        panic!("it lost its slot each time: {seen:?}");
    }

    #[tokio::test]
    async fn runs_that_follow_are_limited_only_while_they_begin() {
        let slots = slots(2);
        for pause in [MS * 100, MS] {
            for _ in 0..6 {
                let follows = async move {
                    loop {
                        sleep(pause).await;
                    }
                };
                tokio::spawn(slots.take().await.run(true, follows));
            }
        }
        let (one, other) = (slots.take().await, slots.take().await);
        drop((one, other));
    }
}
