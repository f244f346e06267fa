//! The runs of a process, one for each config file. No run waits for another one's end, and what one of them fails
//! with, a panic included, is its own.
//!
//! Alone, a run that follows and fails ends the process, and the service manager starts it again. Among others it is
//! begun again ([`Again`]), config file and all, while those go on.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;
use tracing::Instrument;

use super::Verb;
use super::again::Again;
use super::claims::Claims;
use super::globals::Globals;
use super::look::Look;
use super::metered::Metered;
use super::output::Output;
use super::results::Results;
use super::run::Run;
use super::signals::Signals;
use super::slots::{Slot, Slots};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
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
        let span = match shared.is_one_of_many {
            true => tracing::error_span!("run", config = %path.display()),
            false => tracing::Span::none(),
        };
        let run = one(shared.clone(), at, config).instrument(span);
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
async fn one(shared: Arc<Shared>, at: usize, config: Result<Box<Config>>) -> Result<Output> {
    let mut config = Some(config);
    let mut begin = |slot: Slot| {
        let config = config.take().unwrap_or_else(|| shared.claims.load_again(at));
        attempt(shared.clone(), config, slot)
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

async fn attempt(shared: Arc<Shared>, config: Result<Box<Config>>, slot: Slot) -> Result<Output> {
    let follows = shared.verb.follows();
    let run = slot.run(follows, once(shared, config?));
    // A task of its own, so that a panic ends there.
    tokio::spawn(run.in_current_span()).await.unwrap_or_else(|cause| Err(panicked(cause)))
}

async fn once(shared: Arc<Shared>, config: Box<Config>) -> Result<Output> {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let stop = shared.signals.stop.clone();
    let run = Run {
        config: *config,
        globals: shared.globals.clone(),
        clock: Arc::new(SystemClock),
        stop: stop.clone(),
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
    if let Some(metered) = metered {
        metered.end(&result, shared.signals.heard()).await;
    }
    result
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
