//! `[hooks] on_failure`: a program that is told of failures, as one JSON object on its standard input.
//!
//! It gets no arguments, of the environment only what every program needs (secrets may stand in the rest), and half a minute.
//! Whatever becomes of it, the run's own end stays what it is.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStderr, Command};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(30);
/// What a hook is given of the environment.
const KEPT: [&str; 9] = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR"];
/// So many of them run at once in a process, however many streams fail together; and so long one waits for its turn.
static AT_ONCE: Semaphore = Semaphore::const_new(4);
const TURN: Duration = Duration::from_secs(120);
/// What it has left running may hold its standard error for ever: so long is listened after its end.
const GRACE: Duration = Duration::from_millis(200);
/// So much of what it writes to its standard error is logged if it fails.
const SAID: usize = 2_000;

/// What is wrong with it, as far as can be seen without running it.
pub fn check(program: &Path) -> Result<(), String> {
    let wrong = |why: String| Err(format!("hooks.on_failure {}: {why}", program.display()));
    match std::fs::metadata(program) {
        Err(cause) => wrong(format!("{cause}: nobody would be told of a failure")),
        Ok(there) if !there.is_file() => wrong("it is no file".to_owned()),
        Ok(_) => match rustix::fs::access(program, rustix::fs::Access::EXEC_OK) {
            Ok(()) => Ok(()),
            Err(cause) => wrong(format!("this user may not run it: {cause} (chmod +x)")),
        },
    }
}

/// Runs the hook when it is its turn; says whether it ended well. `stop`: there is no time left to wait for a turn.
pub async fn run(program: &Path, document: &Value, stop: &CancellationToken) -> bool {
    let turn = tokio::select! {
        biased;
        turn = AT_ONCE.acquire() => turn.ok(),
        () = stop.cancelled() => None,
        () = tokio::time::sleep(TURN) => None,
    };
    let ended = match turn {
        // Its time counts from here.
        Some(_turn) => within(LIMIT, program, document).await,
        None => Err("it was not run: too many others were at work".to_owned()),
    };
    match ended {
        Ok(()) => true,
        Err(why) => {
            tracing::warn!("hooks.on_failure {}: {why}", program.display());
            false
        }
    }
}

async fn within(limit: Duration, program: &Path, document: &Value) -> Result<(), String> {
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.envs(KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    // A group of its own: what it has started ends with it when its time is over.
    command.process_group(0).kill_on_drop(true);
    let mut child = command.spawn().map_err(|cause| format!("it could not be started: {cause}"))?;
    let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let text = format!("{document}\n");
    let whole = async {
        let mut said = Vec::new();
        let status = {
            let tell = async {
                if let Some(mut stdin) = stdin {
                    // One that does not read it ends as well as it likes.
                    let _ = stdin.write_all(text.as_bytes()).await;
                }
            };
            let talk = async { tokio::join!(tell, listen(stderr, &mut said)) };
            tokio::pin!(talk);
            tokio::select! {
                status = child.wait() => {
                    let _ = tokio::time::timeout(GRACE, &mut talk).await;
                    status
                }
                _ = &mut talk => child.wait().await,
            }
        };
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) if said.is_empty() => Err(format!("it ended with {status}")),
            Ok(status) => Err(format!("it ended with {status}: {said}")),
            Err(cause) => Err(format!("nobody knows how it ended: {cause}")),
        }
    };
    match tokio::time::timeout(limit, whole).await {
        Ok(ended) => ended,
        Err(_) => {
            if let Some(group) = group {
                let _ = kill_process_group(group, Signal::KILL);
            }
            Err(format!("it was ended after {} s", limit.as_secs()))
        }
    }
}

/// Takes what it says, all of it, and keeps the beginning.
async fn listen(stderr: Option<ChildStderr>, said: &mut Vec<u8>) {
    let Some(mut stderr) = stderr else { return };
    while said.len() < SAID {
        if !stderr.read_buf(said).await.is_ok_and(|read| read > 0) {
            return;
        }
    }
    said.truncate(SAID);
    let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use serde_json::json;

    use super::*;

    /// Written by another process: what this one has open for writing, a child that another test starts at that moment holds
    /// for an instant, and then nobody can run it (ETXTBSY).
    pub fn script(folder: &Path, text: &str) -> PathBuf {
        let path = folder.join("hook");
        let write = r#"printf '#!/bin/sh\n%s\n' "$2" > "$1" && chmod 700 "$1""#;
        let written =
            std::process::Command::new("sh").args(["-c", write, "sh"]).arg(&path).arg(text).status();
        assert!(written.expect("run sh").success());
        path
    }

    /// Whether this process is there, and not only what is left of it until somebody asks how it ended.
    fn is_there(pid: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    }

    #[tokio::test]
    async fn a_hook_that_does_not_end_is_ended_with_all_that_it_has_started() {
        let folder = tempfile::tempdir().expect("a folder");
        let pids = folder.path().join("pids");
        let text = format!("sleep 600 & echo $$ $! > {0}.new; mv {0}.new {0}; sleep 600", pids.display());
        let path = script(folder.path(), &text);
        let mut limit = Duration::from_millis(300);
        let started = loop {
            let why = within(limit, &path, &json!({})).await.expect_err("it hangs");
            assert!(why.contains("it was ended"), "{why}");
            // On a busy machine it may not have come so far.
            match std::fs::read_to_string(&pids) {
                Ok(started) => break started,
                Err(_) => limit *= 2,
            }
            assert!(limit < Duration::from_secs(60), "it does not start");
        };
        let started: Vec<&str> = started.split_whitespace().collect();
        assert_eq!(started.len(), 2);
        for _ in 0..6_000 {
            if !started.iter().any(|pid| is_there(pid)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{started:?} are still there");
    }

    #[tokio::test]
    async fn a_hook_that_leaves_something_running_is_judged_by_its_own_end() {
        let folder = tempfile::tempdir().expect("a folder");
        for (end, ended) in [("exit 0", Ok(())), ("echo 'no route' >&2; exit 3", Err(()))] {
            let left = folder.path().join("left");
            let path = script(folder.path(), &format!("sleep 600 & echo $! > {}; {end}", left.display()));
            let result = within(LIMIT, &path, &json!({})).await;
            let pid = std::fs::read_to_string(&left).expect("it has run");
            assert!(is_there(pid.trim()), "nobody has ended it");
            let pid = Pid::from_raw(pid.trim().parse().expect("a process id")).expect("not 0");
            rustix::process::kill_process(pid, Signal::KILL).expect("end what is left");
            assert_eq!(result.clone().map_err(drop), ended, "{result:?}");
        }
    }

    #[tokio::test]
    async fn only_so_many_hooks_run_at_once_and_none_is_waited_for_at_the_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = script(folder.path(), "exec true");
        let all = AT_ONCE.acquire_many(4).await.expect("it is never closed");
        let (stop, document) = (CancellationToken::new(), json!({}));
        let waits = run(&path, &document, &stop);
        tokio::pin!(waits);
        assert!(
            tokio::time::timeout(Duration::from_millis(300), &mut waits).await.is_err(),
            "it has its turn"
        );
        stop.cancel();
        assert!(!waits.await, "the process ends");
        drop(all);
        assert!(run(&path, &document, &CancellationToken::new()).await, "there is room");
    }

    #[tokio::test]
    async fn what_a_failing_hook_says_is_told_and_one_that_reads_nothing_is_as_good() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = script(folder.path(), "echo 'no route' >&2; exit 3");
        let why = within(LIMIT, &path, &json!({"text": "x".repeat(1 << 20)})).await.expect_err("it fails");
        assert!(why.contains("no route") && why.contains('3'), "{why}");
        let path = script(folder.path(), "exec true");
        assert_eq!(within(LIMIT, &path, &json!({"text": "x".repeat(1 << 20)})).await, Ok(()));
        assert!(check(&path).is_ok());
        assert!(check(folder.path()).is_err() && check(&folder.path().join("gone")).is_err());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
        assert!(check(&path).is_err());
    }
}
