//! The runs of a process, one for each config file. No run waits for another one's end, and what one of them fails
//! with, a panic included, is its own.
//!
//! Alone, a run that follows and fails ends the process, and the service manager starts it again. Among others it is
//! begun again ([`Again`]), config file and all, while those go on.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;
use tracing::Instrument;

use super::Verb;
use super::again::Again;
use super::globals::Globals;
use super::look::Look;
use super::output::Output;
use super::results::Results;
use super::run::Run;
use super::signals::Signals;
use super::slots::{Slot, Slots};
use crate::clock::SystemClock;
use crate::config::{self, Config, MysqlConfig};
use crate::error::{Error, Kind, Result};
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
        again: Again::new(paths.len()),
    });
    let mut tasks = Vec::with_capacity(paths.len());
    for (path, config) in load(paths, shared.verb.may_lock()) {
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
/// neither is begun. What takes no lock is only warned.
fn load(paths: Vec<PathBuf>, locks: bool) -> Vec<(PathBuf, Result<Box<Config>>)> {
    let load = |path: PathBuf| {
        let config = config::load(&path).map(Box::new);
        (path, config)
    };
    let mut loaded: Vec<_> = paths.into_iter().map(load).collect();
    let mut claims: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (at, (_, config)) in loaded.iter().enumerate() {
        if let Ok(config) = config {
            let side = (config.role.to_string(), config.stream.clone());
            claims.entry((side, server(&config.mysql))).or_default().push(at);
        }
    }
    for (((role, stream), _), claimants) in claims.into_iter().filter(|(_, claimants)| claimants.len() > 1) {
        let files: Vec<String> = claimants.iter().map(|&at| loaded[at].0.display().to_string()).collect();
        for (turn, &at) in claimants.iter().enumerate() {
            let others = files.iter().enumerate().filter(|(other, _)| *other != turn);
            let others = others.map(|(_, file)| file.as_str()).collect::<Vec<_>>().join(", ");
            let what = format!(
                "config {}: the {role}'s side of stream {stream:?} at the same server is also in {others}",
                files[turn]
            );
            match &mut loaded[at].1 {
                Ok(config) if !locks => {
                    config.warnings.push(format!("{what}: upload and apply begin neither of them"));
                }
                refused => {
                    let error = Error::new(Kind::Usage, what);
                    let hint = "they would lock each other out, so none of them is begun: remove all but one";
                    *refused = Err(error.hint(hint));
                }
            }
        }
    }
    loaded
}

/// What a server is recognised by, as far as a config tells: each name of this machine is the same one. That a socket
/// and a port lead to one server, or two names, only the lock at that server finds out.
fn server(mysql: &MysqlConfig) -> (String, u16, Option<PathBuf>) {
    if mysql.socket.is_some() {
        return (String::new(), 0, mysql.socket.clone());
    }
    let host = mysql.host.as_deref().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
    let is_here = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    (if is_here { "127.0.0.1".to_owned() } else { host }, mysql.port, None)
}

/// One run; one that follows among others is begun again when it fails.
async fn one(shared: Arc<Shared>, path: PathBuf, config: Result<Box<Config>>) -> Result<Output> {
    let mut config = Some(config);
    let mut begin = |slot: Slot| {
        let config = config.take().unwrap_or_else(|| config::load(&path).map(Box::new));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_this_machine_is_one_server_and_other_machines_ports_and_sockets_are_others() {
        let mysql = |lines: &str| -> MysqlConfig {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("t.toml");
            let text = format!(
                "role = \"source\"\nstream = \"s\"\nstore = \"s3://b/s\"\n[mysql]\nuser = \"u\"\n{lines}\n"
            );
            std::fs::write(&path, text).expect("write a config");
            config::load(&path).expect("a config").mysql
        };
        let here = server(&mysql("host = \"127.0.0.1\""));
        for host in ["localhost", "LocalHost.", "::1", "127.0.1.1"] {
            assert_eq!(server(&mysql(&format!("host = {host:?}"))), here, "{host}");
        }
        for other in ["host = \"db1\"", "host = \"127.0.0.1\"\nport = 3307", "socket = \"/run/mysqld.sock\""]
        {
            assert_ne!(server(&mysql(other)), here, "{other}");
        }
        assert_eq!(server(&mysql("host = \"DB1.\"")), server(&mysql("host = \"db1\"")));
    }
}
