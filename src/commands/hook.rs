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
use tokio::process::Command;

const LIMIT: Duration = Duration::from_secs(30);
/// What a hook is given of the environment.
const KEPT: [&str; 9] = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR"];
/// So much of what it writes to its standard error is logged if it fails.
const SAID: u64 = 2_000;

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

/// Runs the hook; says whether it ended well.
pub async fn run(program: &Path, document: &Value) -> bool {
    match within(LIMIT, program, document).await {
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
        let tell = async {
            if let Some(mut stdin) = stdin {
                // One that does not read it ends as well as it likes.
                let _ = stdin.write_all(text.as_bytes()).await;
            }
        };
        let listen = async {
            let mut said = Vec::new();
            if let Some(mut stderr) = stderr {
                let _ = (&mut stderr).take(SAID).read_to_end(&mut said).await;
                let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
            }
            String::from_utf8_lossy(&said).trim().to_owned()
        };
        let ((), said, status) = tokio::join!(tell, listen, child.wait());
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use serde_json::json;

    use super::*;

    fn script(folder: &Path, text: &str) -> PathBuf {
        let path = folder.join("hook");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("write the hook");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).expect("chmod");
        path
    }

    #[tokio::test]
    async fn a_hook_that_does_not_end_is_ended_with_all_that_it_has_started() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = script(folder.path(), "sleep 600 & sleep 600");
        let why = within(Duration::from_millis(300), &path, &json!({})).await.expect_err("it hangs");
        assert!(why.contains("it was ended"), "{why}");
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
