//! `tablecast` as people run it: services that are begun again when they end, as their units in scripts/package/systemd say, and
//! single runs as cron makes them. Every exit code is judged: in a quiet time none may come, and at no time one that nothing explains.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::world::World;

/// A unit's RestartSec is 15 s; more is tried in less time with this.
const RESTART: Duration = Duration::from_millis(700);
/// What no second try mends: RestartPreventExitStatus of the units.
const FOR_PEOPLE: [i32; 4] = [2, 10, 13, 15];

/// A service.
pub struct Program {
    /// As in the log: `upload`, `apply-eu`.
    pub name: String,
    pub machine: Arc<Machine>,
    pub args: Vec<&'static str>,
    state: Mutex<State>,
}

/// Where programs run: what they share there.
pub struct Machine {
    /// Of the network.
    pub node: String,
    /// As its config file is called, and its clock.
    pub name: String,
    pub config: PathBuf,
    pub cache: PathBuf,
}

#[derive(Default)]
struct State {
    is_wanted: bool,
    pid: Option<Pid>,
    /// We have killed it.
    is_ours: bool,
    /// It has ended with a code for people.
    held: Option<i32>,
    starts: u64,
}

impl Program {
    pub fn new(name: &str, machine: &Arc<Machine>, args: &[&'static str]) -> Arc<Program> {
        let (name, machine, args) = (name.to_owned(), machine.clone(), args.to_vec());
        Arc::new(Program { name, machine, args, state: Mutex::default() })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_running(&self) -> bool {
        self.state().pid.is_some()
    }

    /// The code for people that it waits for somebody with.
    pub fn held(&self) -> Option<i32> {
        self.state().held
    }

    /// `systemctl start`: also one that was held.
    pub fn want(&self) {
        let mut state = self.state();
        (state.is_wanted, state.held) = (true, None);
    }

    /// `kill -9`; true if there was something to kill. It is begun again.
    pub fn kill9(&self) -> bool {
        let mut state = self.state();
        let Some(pid) = state.pid else { return false };
        state.is_ours = true;
        kill_process(pid, Signal::KILL).is_ok()
    }

    /// Keeps it down, by SIGKILL; it is gone when this returns.
    pub async fn put_down(&self) {
        self.state().is_wanted = false;
        self.kill9();
        while self.is_running() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends it as `systemctl stop` does.
    pub async fn stop(&self) {
        let pid = {
            let mut state = self.state();
            state.is_wanted = false;
            state.pid
        };
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::TERM);
        }
        let began = Instant::now();
        while self.is_running() {
            if began.elapsed() > Duration::from_secs(60) {
                self.kill9();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Runs it as its unit says, for as long as the world is there.
    pub async fn supervise(self: Arc<Self>, world: Arc<World>) {
        loop {
            let is_due = {
                let state = self.state();
                state.is_wanted && state.held.is_none()
            };
            if world.is_ended.load(Ordering::Acquire) {
                return;
            }
            if !is_due {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            let (log, out) =
                (world.path(&format!("{}.log", self.name)), world.path(&format!("{}.out", self.name)));
            let mut command = tokio::process::Command::from(world.command(&self.machine, &self.args));
            let append = |path| File::options().create(true).append(true).open(path).expect("a log");
            command.stdin(Stdio::null()).stdout(File::create(&out).expect("a file")).stderr(append(&log));
            command.kill_on_drop(true);
            let mut child = command.spawn().unwrap_or_else(|e| panic!("start {}: {e}", self.name));
            let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
            let is_unwanted = {
                let mut state = self.state();
                (state.pid, state.is_ours) = (pid, false);
                state.starts += 1;
                if state.starts > 1 {
                    world.figures.count("restarts", &self.name);
                }
                !state.is_wanted
            };
            if is_unwanted {
                self.kill9();
            }
            let ended = loop {
                tokio::select! {
                    ended = child.wait() => break ended.expect("a child of ours"),
                    () = tokio::time::sleep(Duration::from_millis(500)) => {
                        world.memory(&self.name, pid);
                    }
                }
            };
            let (is_ours, is_wanted) = {
                let mut state = self.state();
                state.pid = None;
                (std::mem::take(&mut state.is_ours), state.is_wanted)
            };
            let ended = Ended::of(ended, &std::fs::read(&out).unwrap_or_default());
            if !is_ours && (is_wanted || ended.code != Some(143)) {
                world.log.say(format!("{} has ended: {ended}", self.name));
                world.figures.count("ends of services", format!("{} {}", self.name, ended.short()));
                world.judge(&self.name, &ended, true);
                if let Some(code) = ended.code.filter(|code| FOR_PEOPLE.contains(code)) {
                    self.state().held = Some(code);
                }
            }
            tokio::time::sleep(RESTART).await;
        }
    }
}

/// How a run has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    /// The document that `--json` prints.
    pub document: Value,
}

impl Ended {
    pub fn of(status: ExitStatus, stdout: &[u8]) -> Ended {
        let document = serde_json::from_slice(stdout).unwrap_or(Value::Null);
        Ended { code: status.code(), signal: status.signal(), document }
    }

    pub fn kind(&self) -> &str {
        self.document["kind"].as_str().unwrap_or_default()
    }

    pub fn message(&self) -> String {
        let causes = self.document["causes"].as_array().cloned().unwrap_or_default();
        let causes = causes.iter().filter_map(|cause| cause.as_str().map(|cause| format!(": {cause}")));
        format!("{}{}", self.document["message"].as_str().unwrap_or_default(), causes.collect::<String>())
    }

    /// The code, and its kind where the code has several.
    pub fn short(&self) -> String {
        match (self.code, self.signal) {
            (Some(1), _) => format!("1 {}", self.kind()),
            (Some(code), _) => code.to_string(),
            (None, signal) => format!("signal {}", signal.unwrap_or_default()),
        }
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.short(), self.message())
    }
}

/// A single run, as cron or a person makes it.
pub struct OneShot {
    pub ended: Ended,
    pub is_killed: bool,
    pub stderr: String,
    pub took: Duration,
}

static RUNS: AtomicU64 = AtomicU64::new(0);

/// Runs it to its end. `kill_after`: it is killed then, if it has not ended. One that does not end at all is found by the
/// caller's `limit`: a violation.
pub async fn one_shot(
    world: &World,
    machine: &Machine,
    args: &[&str],
    kill_after: Option<Duration>,
    limit: Duration,
) -> OneShot {
    let began = Instant::now();
    let n = RUNS.fetch_add(1, Ordering::Relaxed);
    let (out, log) = (world.path(&format!("run-{n}.out")), world.path(&format!("run-{n}.log")));
    let mut command = tokio::process::Command::from(world.command(machine, args));
    command.stdin(Stdio::null());
    command.stdout(File::create(&out).expect("a file")).stderr(File::create(&log).expect("a file"));
    command.kill_on_drop(true);
    let mut child = command.spawn().unwrap_or_else(|e| panic!("start {args:?}: {e}"));
    let patience = kill_after.unwrap_or(limit);
    let (status, is_killed) = match tokio::time::timeout(patience, child.wait()).await {
        Ok(status) => (status.expect("a child of ours"), false),
        Err(_) => {
            let _ = child.start_kill();
            (child.wait().await.expect("a child of ours"), true)
        }
    };
    let stdout = std::fs::read(&out).unwrap_or_default();
    let stderr = String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()).into_owned();
    for file in [out, log] {
        let _ = std::fs::remove_file(file);
    }
    let ended = Ended::of(status, &stdout);
    let took = began.elapsed();
    world.log.note(format!(
        "{args:?} on {}: {ended}{}",
        machine.node,
        if is_killed { " (killed)" } else { "" }
    ));
    if is_killed && kill_after.is_none() {
        world.violation(format!("{args:?} on {} does not end within {limit:?}: {stderr}", machine.node));
    }
    OneShot { ended, is_killed, stderr, took }
}
