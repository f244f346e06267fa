//! Time that passes when a test says so, for the processes that it starts: `tablecast`, mysqld, whatever else is linked
//! dynamically. They are real, and so are their waits; only what they take for the time of day is ahead.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

/// A clock that is ahead of the machine's; whoever has its [`Clock::env`] goes by it.
pub struct Clock {
    file: File,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Clock {
    pub fn new() -> Clock {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ahead");
        std::fs::write(&path, 0_i64.to_ne_bytes()).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        Clock { file, path, _folder: folder }
    }

    /// From now on, it is ahead by this: at once for those that run already.
    pub fn set_ahead(&self, by: Duration) {
        let seconds = i64::try_from(by.as_secs()).unwrap();
        self.file.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
    }

    /// What the process needs that goes by it.
    pub fn env(&self) -> [(&'static str, String); 2] {
        [("LD_PRELOAD", library().display().to_string()), ("CLOCK_AHEAD", self.path.display().to_string())]
    }
}

/// Made by the compiler that links the tests too. For ever: a server's watcher outlives the test.
fn library() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (path, new) = (folder.join("clock.so"), folder.join(format!("clock.so.{}", std::process::id())));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/clock.c");
        let made = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&new)
            .args([source, "-ldl"])
            .status()
            .unwrap();
        assert!(made.success(), "cc {source}");
        // Another test process may have it loaded.
        std::fs::rename(&new, &path).unwrap();
        path
    })
}
