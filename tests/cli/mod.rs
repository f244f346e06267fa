//! The command line: arguments, config, output and exit codes of the built binary; the documentation that
//! describes them; and the commands that look at a stream, on real servers.

mod arguments;
pub mod docs;
mod old_stream;
mod servers;

use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;

/// A folder with config files, and `tablecast` run in it.
struct Desk {
    dir: tempfile::TempDir,
}

/// What a run printed, and its exit code.
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Desk {
    fn new() -> Desk {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(dir.path().join("store")).expect("a store");
        Desk { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).expect("write a file");
        path
    }

    /// The first three lines of a config whose store is a folder of this desk.
    fn head(&self, role: &str) -> String {
        let store = self.path("store");
        format!("role = \"{role}\"\nstream = \"apps\"\nstore = \"file://{}\"\n", store.display())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tablecast"));
        command
            .current_dir(self.dir.path())
            .env_remove("TABLECAST_CONFIG")
            .env_remove("TABLECAST_LOG")
            .env("TABLECAST_CACHE_DIR", self.path("cache"))
            .timeout(std::time::Duration::from_secs(120));
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command().args(args).output().expect("run tablecast"))
    }

    /// Runs with `--json`; the one document that it printed.
    fn json(&self, args: &[&str]) -> (i32, Value) {
        let ran = self.run(&[args, &["--json"]].concat());
        let document = serde_json::from_str(&ran.stdout)
            .unwrap_or_else(|error| panic!("{args:?}: {error}\n{}\n{}", ran.stdout, ran.stderr));
        (ran.code, document)
    }
}

impl Ran {
    fn of(output: Output) -> Ran {
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    fn ok(self) -> Ran {
        assert_eq!(self.code, 0, "stdout:\n{}stderr:\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    fn says(&self, parts: &[&str]) {
        for part in parts {
            let found = self.stdout.contains(part) || self.stderr.contains(part);
            assert!(found, "{part:?} is not in\nstdout:\n{}stderr:\n{}", self.stdout, self.stderr);
        }
    }
}

/// A file of docs/.
fn doc(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)
}
