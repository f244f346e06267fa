//! The built program at the source and in the regions of a stream.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::apply::kit::Stream;
use crate::support::granted;
use crate::support::mysql::Server;
use crate::support::signal;

/// How long anything is waited for.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// What a run has printed, and its exit code.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn of(mut command: Command) -> Ran {
        let output = command.output().unwrap();
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    pub fn ends(self, code: i32, says: &[&str]) -> Ran {
        assert_eq!(self.code, code, "{self:?}");
        for part in says {
            assert!(self.stdout.contains(part) || self.stderr.contains(part), "no {part:?} in {self:?}");
        }
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// `tablecast` with this config file, run by Anna.
pub fn command(config: &Path, arguments: &[&str]) -> Command {
    command_of(Path::new(env!("CARGO_BIN_EXE_tablecast")), config, arguments)
}

/// The same of another build.
pub fn command_of(program: &Path, config: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.arg("--config").arg(config).args(arguments).stdin(Stdio::null());
    for variable in ["TABLECAST_FAILPOINTS", "TABLECAST_LOG", "TABLECAST_CONFIG", "SUDO_USER"] {
        command.env_remove(variable);
    }
    command.env("LOGNAME", "anna");
    command
}

pub fn source_command(stream: &Stream, arguments: &[&str]) -> Command {
    command(&stream.source_file(), arguments)
}

pub fn at_source(stream: &Stream, arguments: &[&str]) -> Ran {
    Ran::of(source_command(stream, arguments))
}

pub fn region_command(stream: &Stream, region: &Server, arguments: &[&str]) -> Command {
    command(&stream.region_file(region, granted::USER, &["@.*"]), arguments)
}

pub fn in_region(stream: &Stream, region: &Server, arguments: &[&str]) -> Ran {
    Ran::of(region_command(stream, region, arguments))
}

/// A program that a run may start. Written by another process: what this one has open for writing, a child that another test
/// starts at that moment holds for an instant, and then nobody can run it (ETXTBSY).
pub fn write_script(path: &Path, text: &str) {
    let write = r#"printf '#!/bin/sh\n%s\n' "$2" > "$1" && chmod 700 "$1""#;
    let written = Command::new("sh").args(["-c", write, "sh"]).arg(path).arg(text).status().unwrap();
    assert!(written.success());
}

/// A hook that writes down what it is told, and a config file that names it: `config`, and `more` at its end.
pub fn with_hook(config: &Path, folder: &Path, more: &str) -> PathBuf {
    let lines = "cat >> {0}/told\nenv > {0}/env\necho \"$# arguments\" > {0}/arguments";
    write_script(&folder.join("hook"), &lines.replace("{0}", &folder.display().to_string()));
    let path = folder.join("config.toml");
    let text = std::fs::read_to_string(config).unwrap();
    std::fs::write(&path, format!("{text}\n[hooks]\non_failure = \"hook\"\n{more}")).unwrap();
    path
}

/// What the hook has been told.
pub fn told(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("told")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Event and kind of each.
pub fn events(folder: &Path) -> Vec<String> {
    let told = told(folder);
    told.iter().map(|told| format!("{} {}", told["event"], told["kind"]).replace('"', "")).collect()
}

/// Everything that was said, with who said it.
#[derive(Default)]
pub struct Said(pub Vec<(String, String)>);

impl Said {
    pub fn run(&mut self, mut command: Command) -> i32 {
        let what = format!("{:?}", command.get_args().collect::<Vec<_>>());
        let output = command.output().unwrap();
        for bytes in [&output.stdout, &output.stderr] {
            self.0.push((what.clone(), String::from_utf8_lossy(bytes).into_owned()));
        }
        output.status.code().unwrap_or(-1)
    }

    /// Every file in a folder.
    pub fn files(&mut self, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => self.files(&path),
                false => {
                    let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
                    self.0.push((path.display().to_string(), text));
                }
            }
        }
    }

    /// None of these is in anything that was said.
    pub fn assert_without(&self, secrets: &[&str]) {
        for (what, text) in &self.0 {
            for secret in secrets {
                let line = text.lines().find(|line| line.contains(secret));
                assert!(line.is_none(), "{what} says {secret:?}: {}", line.unwrap_or_default());
            }
        }
    }
}

/// A run that follows; ended when dropped.
pub struct Follower {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Follower {
    pub fn start(mut command: Command) -> Follower {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (reader, kept) = (BufReader::new(child.stderr.take().unwrap()), log.clone());
        std::thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                let mut log = kept.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Follower { child, log }
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until the log says this.
    pub async fn logs(&self, text: &str) {
        until(&format!("the log says {text:?}"), || async { self.log().contains(text) }).await;
    }

    /// SIGTERM; the exit code.
    pub async fn end(mut self) -> i32 {
        signal(&self.child.id().to_string(), Signal::TERM);
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it does not end:\n{}", self.log());
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the following run said:\n{}", self.log());
        }
    }
}

/// Waits until something is so.
pub async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
