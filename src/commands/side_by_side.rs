//! The runs of a process, one for each config file. No run waits for another one's end, and what one of them fails
//! with, a panic included, is its own.
//!
//! Alone, a run that follows and fails ends the process, and the service manager starts it again. Among others it is
//! begun again ([`Again`]), config file and all, while those go on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use tracing::field::{Empty, display};
use tracing::{Instrument, Span};
use uuid::Uuid;

use super::Verb;
use super::again::Again;
use super::claims::Claims;
use super::globals::Globals;
use super::ledger::Ledger;
use super::look::Look;
use super::metered::Metered;
use super::output::Output;
use super::results::{self, Results};
use super::run::Run;
use super::signals::Signals;
use super::slots::{Slot, Slots};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::error::{Error, Kind, Result, chain};
use crate::failure::Notice;
use crate::metrics::Meters;
use crate::store::Clients;

/// What the runs of a process share.
struct Shared {
    verb: Verb,
    globals: Arc<Globals>,
    look: Look,
    signals: Signals,
    slots: Arc<Slots>,
    clients: Arc<Clients>,
    is_one_of_many: bool,
    again: Again,
    claims: Claims,
}

/// One run per file, side by side; the results in the order of the files.
pub(super) async fn run_all(
    verb: Verb,
    globals: Arc<Globals>,
    paths: Vec<PathBuf>,
    look: Look,
) -> Result<Results> {
    #[allow(clippy::disallowed_methods)] // The operator's second Ctrl-C: this is main's own business.
    let signals = Signals::listen(|code| std::process::exit(code.into()))?;
    let (claims, loaded) = Claims::load(paths.clone(), verb.purpose());
    let shared = Arc::new(Shared {
        slots: Slots::new(globals.jobs),
        verb,
        globals,
        look,
        signals: signals.clone(),
        clients: Arc::default(),
        is_one_of_many: paths.len() > 1,
        again: Again::new(paths.len()),
        claims,
    });
    let mut tasks = Vec::with_capacity(paths.len());
    for (at, (path, config)) in paths.into_iter().zip(loaded).enumerate() {
        // Side by side, the logs say whose they are.
        let id: Arc<str> = format!("{:08x}", Uuid::new_v4().as_fields().0).into();
        let span = span(&shared, &id, &path, config.as_deref().ok());
        let run = one(shared.clone(), at, config, id).instrument(span);
        tasks.push((path, tokio::spawn(run)));
    }
    let mut results = Vec::with_capacity(tasks.len());
    for (path, task) in tasks {
        let result = task.await.unwrap_or_else(|cause| Err(panicked(cause)));
        // A run that failed for a reason of its own keeps it; a signal explains the others.
        let result = match (result, signals.heard()) {
            (Ok(output), Some(signal)) => Ok(output.with_verdict(Some(signal))),
            (result, _) => result,
        };
        results.push((path, result));
    }
    Ok(results)
}

/// One run; one that follows among others is begun again when it fails.
async fn one(shared: Arc<Shared>, at: usize, config: Result<Box<Config>>, id: Arc<str>) -> Result<Output> {
    let mut config = Some(config);
    let mut begin = |slot: Slot| {
        let config = config.take().unwrap_or_else(|| shared.claims.load_again(at));
        attempt(shared.clone(), config, id.clone(), slot)
    };
    let stop = &shared.signals.stop;
    let ended = match shared.is_one_of_many && shared.verb.follows() {
        true => shared.again.and_again(&shared.slots, stop, begin).await,
        false => tokio::select! {
            biased;
            () = stop.cancelled() => None,
            slot = shared.slots.take() => Some(begin(slot).await),
        },
    };
    let result = ended.unwrap_or_else(|| Ok(Output::new("", json!({}))));
    result.map(|output| shared.trim(output))
}

/// What every line of a run's log says: the run, what it is doing, and to which stream. A run that is begun again, in this
/// process, stays the same run.
fn span(shared: &Shared, id: &str, path: &Path, config: Option<&Config>) -> Span {
    let span = tracing::error_span!(
        "run",
        run = id,
        job = shared.verb.name(),
        stream = Empty,
        role = Empty,
        region = Empty,
        config = Empty
    );
    match config {
        Some(config) => {
            span.record("stream", display(&config.stream)).record("role", display(config.role));
            if let Some(region) = &config.region {
                span.record("region", display(&region.name));
            }
        }
        None => {
            span.record("config", display(path.display()));
        }
    }
    if shared.is_one_of_many && config.is_some() {
        span.record("config", display(path.display()));
    }
    span
}

async fn attempt(
    shared: Arc<Shared>,
    config: Result<Box<Config>>,
    id: Arc<str>,
    slot: Slot,
) -> Result<Output> {
    let (follows, config) = (shared.verb.follows(), config?);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let stop = shared.signals.stop.clone();
    let job = shared.verb.job();
    let ledger = job.map(|job| Arc::new(Ledger::new(&config, clock, job, &id, stop)));
    let run = slot.run(follows, once(shared, config, ledger.clone()));
    // A task of its own, so that a panic ends there.
    match tokio::spawn(run.in_current_span()).await {
        Ok(result) => result,
        Err(cause) => {
            let error = panicked(cause);
            if let Some(ledger) = ledger {
                ledger.ended(Some(&error)).await;
            }
            Err(error)
        }
    }
}

async fn once(shared: Arc<Shared>, config: Box<Config>, ledger: Option<Arc<Ledger>>) -> Result<Output> {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let stop = shared.signals.stop.clone();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let notice = ledger.clone().map_or_else(Notice::default, |ledger| Notice::to(ledger));
    let began = clock.now();
    let run = Run {
        config: *config,
        globals: shared.globals.clone(),
        clock: clock.clone(),
        stop: stop.clone(),
        notice,
        look: shared.look,
        is_one_of_many: shared.is_one_of_many,
        clients: shared.clients.clone(),
        meters: Meters::default(),
    };
    let metered = Metered::begin(&shared.verb, &run);
    let ends_by_itself = shared.verb.ends_by_itself();
    let result = tokio::select! {
        result = shared.verb.run(&run) => result,
        () = stop.cancelled(), if !ends_by_itself => Ok(Output::new("", json!({}))),
    };
    let ended = match metered {
        Some(metered) => Some(metered.end(&result, shared.signals.heard()).await),
        None => None,
    };
    let failure = results::failure(&result);
    if let Some(ledger) = ledger {
        match failure {
            // One that was told to end has not shown that anything works.
            None if stop.is_cancelled() => ledger.settle().await,
            failure => ledger.ended(failure).await,
        }
    }
    // Last: its disk may hang, and somebody has to hear of a failure all the same.
    if let Some(ended) = ended {
        ended.write().await;
    }
    say_end(shared.verb.name(), &result, (clock.now() - began).num_milliseconds());
    result
}

/// A line for each run, whatever came of it.
fn say_end(job: &str, result: &Result<Output>, millis: i64) {
    let (outcome, error) = (results::outcome(result), results::failure(result));
    let exit_code = error.map_or(0, |error| error.kind().exit_code());
    let said = match (error, result) {
        (Some(error), _) => chain(error),
        (None, Ok(output)) => output.text.lines().next().unwrap_or_default().to_owned(),
        (None, Err(_)) => String::new(),
    };
    let colon = if said.is_empty() { "" } else { ": " };
    tracing::info!(exit_code, outcome, millis, "{job} has ended{colon}{said}");
}

impl Shared {
    /// Of many runs that found nothing to do, nothing is kept that nobody will see.
    fn trim(&self, output: Output) -> Output {
        let is_seen = !self.is_one_of_many || self.globals.json || self.globals.verbose > 0;
        if is_seen || !output.is_idle() { output } else { output.emptied() }
    }
}

fn panicked(cause: tokio::task::JoinError) -> Error {
    Error::new(Kind::Failed, "the run ended by a panic: this is a bug").caused_by(cause)
}
