//! The runs of a process, one for each config file. No run waits for another one's end, and what one of them fails
//! with, a panic included, is its own.
//!
//! Alone, a run that follows and fails ends the process, and the service manager starts it again. Among others it is
//! begun again from here, config file and all, while those go on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::Verb;
use super::globals::Globals;
use super::look::Look;
use super::output::Output;
use super::results::Results;
use super::run::Run;
use super::signals::Signals;
use super::slots::Slots;
use crate::clock::SystemClock;
use crate::config::{self, Config};
use crate::error::{Error, Kind, Result, chain_and_hint};
use crate::store::Clients;

/// Before a run that follows is begun again: the first pause, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// The same failure is logged again after so long.
const REMIND: Duration = Duration::from_secs(3600);

/// What the runs of a process share.
struct Shared {
    verb: Verb,
    globals: Arc<Globals>,
    look: Look,
    signals: Signals,
    slots: Arc<Slots>,
    clients: Arc<Clients>,
    is_one_of_many: bool,
    /// Runs that have not failed yet.
    hopeful: AtomicUsize,
    /// All of them have: somebody should see the process end.
    hopeless: CancellationToken,
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
    let shared = Arc::new(Shared {
        slots: Slots::new(globals.jobs),
        verb,
        globals,
        look,
        signals: signals.clone(),
        clients: Arc::default(),
        is_one_of_many: paths.len() > 1,
        hopeful: AtomicUsize::new(paths.len()),
        hopeless: CancellationToken::new(),
    });
    let mut tasks = Vec::with_capacity(paths.len());
    for (path, config) in load(paths) {
        // Side by side, the logs say whose they are.
        let span = match shared.is_one_of_many {
            true => tracing::error_span!("run", config = %path.display()),
            false => tracing::Span::none(),
        };
        let run = one(shared.clone(), path.clone(), config).instrument(span);
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

/// Reads the files. Two of one stream, role and server would keep each other from working, now one and now the other:
/// neither is begun.
fn load(paths: Vec<PathBuf>) -> Vec<(PathBuf, Result<Box<Config>>)> {
    let load = |path: PathBuf| {
        let config = config::load(&path).map(Box::new);
        (path, config)
    };
    let mut loaded: Vec<_> = paths.into_iter().map(load).collect();
    let mut claims: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (at, (_, config)) in loaded.iter().enumerate() {
        if let Ok(config) = config {
            let server = (config.mysql.host.clone(), config.mysql.port, config.mysql.socket.clone());
            claims.entry((config.role.to_string(), config.stream.clone(), server)).or_default().push(at);
        }
    }
    for ((role, stream, _), claimants) in claims.into_iter().filter(|(_, claimants)| claimants.len() > 1) {
        let files: Vec<String> = claimants.iter().map(|&at| loaded[at].0.display().to_string()).collect();
        for (turn, &at) in claimants.iter().enumerate() {
            let others = files.iter().enumerate().filter(|(other, _)| *other != turn);
            let others = others.map(|(_, file)| file.as_str()).collect::<Vec<_>>().join(", ");
            loaded[at].1 = Err(Error::new(
                Kind::Usage,
                format!(
                    "config {}: the {role}'s side of stream {stream:?} at the same server is also in {others}",
                    files[turn]
                ),
            )
            .hint("they would lock each other out, so none of them is begun: remove all but one"));
        }
    }
    loaded
}

/// One run; one that follows among others is begun again when it fails.
async fn one(shared: Arc<Shared>, path: PathBuf, config: Result<Box<Config>>) -> Result<Output> {
    let mut config = Some(config);
    let mut pause = FIRST_PAUSE;
    let mut told: Option<(String, Instant)> = None;
    loop {
        let slot = tokio::select! {
            biased;
            () = shared.signals.stop.cancelled() => return Ok(Output::new("", json!({}))),
            slot = shared.slots.take() => slot,
        };
        let began = Instant::now();
        let result = match config.take().unwrap_or_else(|| config::load(&path).map(Box::new)) {
            Ok(config) => {
                let run = slot.run(shared.verb.follows(), once(shared.clone(), config));
                // A task of its own, so that a panic ends there.
                tokio::spawn(run.in_current_span()).await.unwrap_or_else(|cause| Err(panicked(cause)))
            }
            Err(error) => {
                drop(slot);
                Err(error)
            }
        };
        let begins_again =
            shared.is_one_of_many && shared.verb.follows() && !shared.signals.stop.is_cancelled();
        let error = match result {
            Err(error) if begins_again => error,
            result => return result.map(|output| shared.trim(output)),
        };
        if told.is_none() && shared.hopeful.fetch_sub(1, Ordering::Relaxed) == 1 {
            shared.hopeless.cancel();
        }
        if began.elapsed() > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        let text = chain_and_hint(&error);
        if told.as_ref().is_none_or(|(said, at)| *said != text || at.elapsed() >= REMIND) {
            tracing::error!("{text}; the run is begun again, next time in {} s", pause.as_secs());
            told = Some((text, Instant::now()));
        }
        tokio::select! {
            () = shared.signals.stop.cancelled() => return Err(error),
            () = shared.hopeless.cancelled() => return Err(error),
            () = sleep(pause) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
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
    };
    let ends_by_itself = shared.verb.ends_by_itself();
    tokio::select! {
        result = shared.verb.run(&run) => result,
        () = stop.cancelled(), if !ends_by_itself => Ok(Output::new("", json!({}))),
    }
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
