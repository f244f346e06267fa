//! A run whose figures go into the metrics file of its config: at its end, however it ends, and twice a minute while it is
//! at work. That the file cannot be written is told once, and changes nothing about the run; nor does a disk that hangs:
//! the last write comes after everything else, and is not waited for for ever.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::Verb;
use super::output::Output;
use super::run::Run;
use crate::clock::Clock;
use crate::error::{Error, Kind, Result, chain_and_hint};
use crate::failure::is_a_slip;
use crate::metrics::catalogue::{
    ERRORS, LAST_EXIT_CODE, LAST_RUN, LAST_RUN_DURATION, LAST_SUCCESS, REGION_BEHIND_ENTRIES,
    REGION_BEHIND_TRANSACTIONS, RETRIES, RUNS, SOURCE_BACKLOG,
};
use crate::metrics::textfile::{self, Textfile};
use crate::metrics::{Base, Meters, timestamp};

/// How often the file is written while the run goes on.
const EVERY: Duration = Duration::from_secs(30);
/// A run that follows shows soon that it works.
const FIRST: Duration = Duration::from_secs(2);
/// How long the last write may take: another run's lock takes 5 s at most.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many files are written at once: there may be 1,200 runs side by side.
static WRITERS: Semaphore = Semaphore::const_new(8);

/// The figures of one run.
pub(super) struct Metered {
    meters: Meters,
    file: Arc<File>,
    clock: Arc<dyn Clock>,
    began: Instant,
    follows: bool,
    command: &'static str,
    is_over: bool,
    ticks: JoinHandle<()>,
}

impl Metered {
    /// `None`: this run has no metrics file.
    pub fn begin(verb: &Verb, run: &Run) -> Option<Metered> {
        let (command, path) = (verb.metered_as()?, textfile::path(&run.config)?);
        let base = Base::of(&run.config, command);
        let file = Arc::new(File { inner: Mutex::new(Textfile::new(path, base)), told: Mutex::new(false) });
        let (meters, clock) = (run.meters.clone(), run.clock.clone());
        // From the first run on.
        meters.add(&RETRIES, &[], 0.0);
        let (follows, kept, ticking) = (verb.follows(), meters.clone(), file.clone());
        let (time, began) = (clock.clone(), Instant::now());
        let ticks = async move {
            let mut pause = if follows { FIRST } else { EVERY };
            // Runs that were started together do not write together for ever.
            let mut next = EVERY.mul_f64(share());
            loop {
                sleep(pause).await;
                pause = std::mem::replace(&mut next, EVERY);
                if follows {
                    works(&kept, time.now());
                    if kept.is_failing() {
                        forget(&kept, command);
                    }
                }
                ticking.write(&kept, time.now()).await;
            }
        };
        Some(Metered {
            meters,
            file,
            clock,
            began,
            follows,
            command,
            is_over: false,
            ticks: tokio::spawn(ticks),
        })
    }

    /// The run is over; `signal`: what ended it, if it was one. What comes back is to be written.
    pub async fn end(mut self, result: &Result<Output>, signal: Option<Error>) -> Ended {
        self.ticks.abort();
        // What it says last would stand in the file otherwise.
        let _ = (&mut self.ticks).await;
        self.is_over = true;
        let failure = match result {
            Ok(output) => signal.as_ref().or(output.verdict.as_ref()),
            Err(error) => Some(error),
        };
        let failure = failure.map(Error::kind);
        let now = self.clock.now();
        if !failure.is_some_and(|kind| is_a_slip(kind, self.command)) {
            if let Err(error) = result {
                self.meters.add(&ERRORS, &[error.kind().name()], 1.0);
            }
            self.conclude(failure, now);
        }
        Ended { meters: self.meters.clone(), file: self.file.clone(), now }
    }

    /// What there is to tell of a run that is over.
    fn conclude(&self, failure: Option<Kind>, now: DateTime<Utc>) {
        let code = failure.map_or(0, Kind::exit_code);
        let is_done = failure.is_none_or(|kind| kind == Kind::Partly);
        let meters = &self.meters;
        let worked = meters.last_worked().filter(|_| self.follows).and_then(timestamp);
        if let Some(at) = timestamp(now).filter(|_| is_done).or(worked) {
            meters.set(&LAST_SUCCESS, &[], at);
        }
        // Of a run that did nothing, because another is at it or it is paused, that other's figures stand.
        if !is_done && !matches!(failure, Some(Kind::Locked | Kind::Paused)) {
            forget(meters, self.command);
        }
        meters.set(&LAST_RUN, &[], timestamp(now));
        meters.set(&LAST_RUN_DURATION, &[], self.began.elapsed().as_secs_f64());
        meters.set(&LAST_EXIT_CODE, &[], f64::from(code));
        meters.add(&RUNS, &[&code.to_string()], 1.0);
    }
}

/// What is left to do of a run that is over.
pub(super) struct Ended {
    meters: Meters,
    file: Arc<File>,
    now: DateTime<Utc>,
}

impl Ended {
    pub async fn write(self) {
        if timeout(PATIENCE, self.file.write(&self.meters, self.now)).await.is_err() {
            tracing::warn!("write the metrics file: it takes longer than {} s", PATIENCE.as_secs());
        }
    }
}

/// By a panic, mostly: it is told as a failure, and nobody goes on telling that the run works.
impl Drop for Metered {
    fn drop(&mut self) {
        self.ticks.abort();
        if !self.is_over && std::thread::panicking() {
            let now = self.clock.now();
            self.meters.add(&ERRORS, &[Kind::Failed.name()], 1.0);
            self.conclude(Some(Kind::Failed), now);
            // Whether it can be written has been said; the panic is told in any case.
            let _ = self.file.lock().write(&self.meters, now);
        }
    }
}

/// What is told of a run that follows and goes on.
fn works(meters: &Meters, now: DateTime<Utc>) {
    meters.set(&LAST_RUN, &[], timestamp(now));
    if let Some(worked) = meters.last_worked() {
        meters.set(&LAST_SUCCESS, &[], timestamp(worked));
    }
    match (meters.is_paused(), meters.last_worked()) {
        // What each run from cron ends with meanwhile.
        (Some(true), _) => meters.set(&LAST_EXIT_CODE, &[], f64::from(Kind::Paused.exit_code())),
        (_, Some(_)) => meters.set(&LAST_EXIT_CODE, &[], 0.0),
        // Whatever stood there: a pause that is over, or that an earlier run met, is no news of this one.
        (Some(false), None) => meters.set(&LAST_EXIT_CODE, &[], None),
        (None, None) => {}
    }
}

/// What was true when it looked last is not known any more: nobody has looked since.
fn forget(meters: &Meters, command: &str) {
    let gone: &[_] = match command {
        "upload" => &[&SOURCE_BACKLOG],
        "apply" => &[&REGION_BEHIND_ENTRIES, &REGION_BEHIND_TRANSACTIONS],
        _ => &[],
    };
    gone.iter().for_each(|metric| meters.set(metric, &[], None));
}

/// From 0 up to 1, by chance.
fn share() -> f64 {
    RandomState::new().hash_one(0) as f64 / u64::MAX as f64
}

struct File {
    inner: Mutex<Textfile>,
    /// That it cannot be written has been said.
    told: Mutex<bool>,
}

impl File {
    fn lock(&self) -> MutexGuard<'_, Textfile> {
        // Whoever panicked while holding it has counted at worst a little twice.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(self: &Arc<Self>, meters: &Meters, now: DateTime<Utc>) {
        let (file, meters) = (self.clone(), meters.clone());
        // Never closed.
        let _one = WRITERS.acquire().await;
        let write = move || file.lock().write(&meters, now);
        // In a thread of its own: it waits for the disk, and perhaps for another run.
        let written = tokio::task::spawn_blocking(write).await;
        let written = written
            .unwrap_or_else(|cause| Err(Error::new(Kind::Failed, "write the metrics file").caused_by(cause)));
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match written {
            Ok(()) => *told = false,
            Err(error) if !std::mem::replace(&mut told, true) => {
                tracing::warn!("{}; the run goes on without it", chain_and_hint(&error));
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_follows_tells_0_once_it_works_14_while_it_is_paused_and_nothing_before() {
        let (meters, now) = (Meters::default(), DateTime::from_timestamp(1_800_000_000, 0).expect("a time"));
        let base = Base { stream: "s".into(), ..Base::default() };
        let code = || {
            works(&meters, now);
            meters.samples(&base).get(&base.series(&LAST_EXIT_CODE, &[]))
        };
        assert_eq!(code(), None, "nobody knows yet");
        meters.waits_for_resume();
        assert_eq!(code(), Some(14.0));
        meters.worked(now);
        assert_eq!(code(), Some(0.0));
        meters.waits_for_resume();
        assert_eq!(code(), Some(14.0));
        meters.goes_on();
        assert_eq!(code(), Some(0.0));
        assert_eq!(meters.samples(&base).get(&base.series(&LAST_SUCCESS, &[])), Some(1_800_000_000.0));
    }

    #[test]
    fn a_run_that_fails_after_a_pause_is_not_told_as_paused() {
        let (base, now) = (Base::default(), DateTime::from_timestamp(1_800_000_000, 0).expect("a time"));
        for is_seen in [true, false] {
            let meters = Meters::default();
            let code = || {
                works(&meters, now);
                meters.samples(&base).get(&base.series(&LAST_EXIT_CODE, &[]))
            };
            meters.waits_for_resume();
            assert_eq!(code(), Some(14.0));
            if is_seen {
                meters.goes_on();
            }
            // Or its server or store failed before the end of the pause was seen.
            meters.tried_again(Kind::Store);
            assert_eq!(code(), None);
            meters.worked(now);
            assert_eq!(code(), Some(0.0));
        }
    }

    #[test]
    fn a_backlog_is_forgotten_once_nobody_looks_any_more() {
        let (meters, base) = (Meters::default(), Base::default());
        meters.set(&SOURCE_BACKLOG, &[], 7.0);
        meters.tried_again(Kind::Mysql);
        assert!(meters.is_failing());
        forget(&meters, "apply");
        assert_eq!(meters.samples(&base).get(&base.series(&SOURCE_BACKLOG, &[])), Some(7.0));
        forget(&meters, "upload");
        assert_eq!(meters.samples(&base).get(&base.series(&SOURCE_BACKLOG, &[])), None);
        meters.worked(DateTime::UNIX_EPOCH);
        assert!(!meters.is_failing());
    }
}
