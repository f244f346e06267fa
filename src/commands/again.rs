//! Runs that follow side by side and fail: begun again, config file and all, while others go on.
//!
//! A run is hope as long as it is at work or waits for its slot. The process ends when none is left, because every run
//! stands in the pause after a failure at the same time, and none has worked since the process began: then nothing but
//! somebody's hand helps, and the service manager should show it. Once one has worked, what fails now is taken for
//! something that goes by, and is tried again for ever.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::slots::{Slot, Slots};
use crate::error::{Result, chain_and_hint};

/// When a run is begun again, and what is said.
#[derive(Clone, Copy, Debug)]
struct Times {
    /// Before a run is begun again: the first pause, and the longest.
    first: Duration,
    longest: Duration,
    /// A run that goes on for so long works: what it fails with then is another failure.
    works: Duration,
    /// The same failure is logged again after so long.
    remind: Duration,
}

const TIMES: Times = Times {
    first: Duration::from_secs(5),
    longest: Duration::from_secs(300),
    works: Duration::from_secs(300),
    remind: Duration::from_secs(3600),
};

/// What the runs of a process know of each other.
#[derive(Debug)]
pub(super) struct Again {
    times: Times,
    hope: Mutex<Hope>,
    /// There is none: somebody should see the process end.
    gone: CancellationToken,
}

#[derive(Debug)]
struct Hope {
    /// Runs that stand in no pause.
    going: usize,
    /// One of them has worked.
    has_worked: bool,
}

impl Again {
    pub fn new(runs: usize) -> Self {
        Self::with_times(runs, TIMES)
    }

    fn with_times(runs: usize, times: Times) -> Self {
        let hope = Mutex::new(Hope { going: runs, has_worked: false });
        Self { times, hope, gone: CancellationToken::new() }
    }

    fn with<T>(&self, look: impl FnOnce(&mut Hope) -> T) -> T {
        // Whoever panicked while holding it left whole numbers.
        look(&mut self.hope.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// One of the runs: ends when one of its attempts ends well, at a stop, and when there is no hope.
    pub async fn and_again<T, F: Future<Output = Result<T>>>(
        &self,
        slots: &Arc<Slots>,
        stop: &CancellationToken,
        mut begin: impl FnMut(Slot) -> F,
    ) -> Option<Result<T>> {
        let mut pause = self.times.first;
        let mut told: Option<(String, Instant)> = None;
        loop {
            let slot = tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                slot = slots.take() => slot,
            };
            let run = begin(slot);
            tokio::pin!(run);
            let result = tokio::select! {
                biased;
                result = &mut run => result,
                () = sleep(self.times.works) => {
                    self.with(|hope| hope.has_worked = true);
                    pause = self.times.first;
                    if told.take().is_some() {
                        tracing::info!("the run works again: for {} s now", self.times.works.as_secs());
                    }
                    run.await
                }
            };
            let error = match result {
                Err(error) if !stop.is_cancelled() => error,
                result => {
                    self.with(|hope| hope.has_worked |= result.is_ok());
                    return Some(result);
                }
            };
            if !self.stands_still() {
                tracing::error!("none of the runs works, and none has worked: the process ends");
                return Some(Err(error));
            }
            let text = chain_and_hint(&error);
            if told.as_ref().is_none_or(|(said, at)| *said != text || at.elapsed() >= self.times.remind) {
                tracing::error!("{text}; the run is begun again, next time in {} s", pause.as_secs());
                told = Some((text, Instant::now()));
            }
            tokio::select! {
                () = stop.cancelled() => return Some(Err(error)),
                () = self.gone.cancelled() => return Some(Err(error)),
                () = sleep(pause) => {}
            }
            if !self.goes_on() {
                return Some(Err(error));
            }
            pause = (pause * 2).min(self.times.longest);
        }
    }

    /// One has failed, and is to be begun again. Not so if it was the last hope.
    fn stands_still(&self) -> bool {
        self.with(|hope| {
            hope.going = hope.going.saturating_sub(1);
            if hope.going == 0 && !hope.has_worked {
                self.gone.cancel();
            }
            !self.gone.is_cancelled()
        })
    }

    /// Its pause is over. Not so if hope has ended together with it.
    fn goes_on(&self) -> bool {
        self.with(|hope| {
            hope.going += 1;
            !self.gone.is_cancelled()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::error::{Error, Kind};

    const MS: Duration = Duration::from_millis(1);
    /// Longer than anything here may take.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// What an attempt does.
    #[derive(Clone, Copy)]
    enum Attempt {
        Fails,
        /// Works until one counts as working, then fails.
        FailsOnceOneWorks,
        /// Works for so long, then fails.
        FailsAfter(Duration),
        /// Works until the process is asked to stop.
        Works,
    }
    use Attempt::*;

    /// Runs these side by side, each with its attempts (the last one for ever), until `enough` attempts have been begun in
    /// each; then stops. How many each has begun, and whether it ended with a failure.
    async fn side_by_side(works: Duration, runs: &[&[Attempt]], enough: &[usize]) -> Vec<(usize, bool)> {
        let times = Times { first: MS, longest: MS * 4, works, remind: PATIENCE };
        let (again, slots, stop) =
            (Again::with_times(runs.len(), times), Slots::new(32), CancellationToken::new());
        let begun: Vec<_> = runs.iter().map(|_| Mutex::new(0)).collect();
        let count = |run: usize| *begun[run].lock().expect("no panic");
        let one = async |run: usize| {
            let mut attempts: VecDeque<Attempt> = runs[run].iter().copied().collect();
            let begin = |slot: Slot| {
                *begun[run].lock().expect("no panic") += 1;
                let attempt = attempts[0];
                if attempts.len() > 1 {
                    attempts.pop_front();
                }
                let (stop, again) = (stop.clone(), &again);
                async move {
                    drop(slot);
                    match attempt {
                        Fails => {}
                        FailsOnceOneWorks => {
                            while !again.with(|hope| hope.has_worked) {
                                sleep(MS).await;
                            }
                        }
                        FailsAfter(time) => sleep(time).await,
                        Works => {
                            stop.cancelled().await;
                            return Ok(());
                        }
                    }
                    Err(Error::new(Kind::Denied, "refused"))
                }
            };
            again.and_again(&slots, &stop, begin).await.is_some_and(|ended| ended.is_err())
        };
        let stops = async {
            while !(0..runs.len()).all(|run| count(run) >= enough[run]) && !again.gone.is_cancelled() {
                sleep(MS).await;
            }
            // What has just been begun has had its time to fail.
            sleep(MS * 20).await;
            stop.cancel();
        };
        let all = async { tokio::join!(futures::future::join_all((0..runs.len()).map(one)), stops).0 };
        let failed = tokio::time::timeout(PATIENCE, all).await.expect("to be over in time");
        failed.into_iter().enumerate().map(|(run, failed)| (count(run), failed)).collect()
    }

    #[tokio::test]
    async fn one_fails_and_comes_back_and_then_the_other_fails_and_comes_back() {
        let first: &[Attempt] = &[Fails, Works];
        let second: &[Attempt] = &[FailsAfter(MS * 50), Fails, Works];
        assert_eq!(side_by_side(PATIENCE, &[first, second], &[2, 3]).await, [(2, false), (3, false)]);
    }

    #[tokio::test]
    async fn one_that_fails_again_and_again_is_begun_again_as_long_as_another_works() {
        let ended = side_by_side(PATIENCE, &[&[Fails], &[Works], &[Fails]], &[20, 1, 20]).await;
        assert!(ended[0].0 >= 20 && ended[2].0 >= 20 && !ended[1].1, "{ended:?}");
    }

    #[tokio::test]
    async fn when_all_fail_that_have_worked_they_are_begun_again_for_ever() {
        let run: &[Attempt] = &[FailsOnceOneWorks, Fails];
        let ended = side_by_side(MS * 10, &[run, run], &[20, 20]).await;
        assert!(ended.iter().all(|(begun, _)| *begun >= 20), "{ended:?}");
    }

    #[tokio::test]
    async fn when_none_has_worked_and_all_fail_there_is_no_hope() {
        let ended = side_by_side(PATIENCE, &[&[Fails], &[FailsAfter(MS * 5), Fails]], &[999, 999]).await;
        assert!(ended.iter().all(|(_, failed)| *failed), "{ended:?}");
    }
}
