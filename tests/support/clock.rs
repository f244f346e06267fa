//! Time that passes when a test says so, for the processes that it starts: `tablecast`, mysqld, whatever else is linked
//! dynamically. They are real, and so are their waits; only what they take for the time of day is the test's. By itself that goes
//! a thousand times slower than the machine's, lest a slow machine adds minutes that no test has spoken of; it does not stand
//! still, so that what comes later is later.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use tablecast::clock::{Clock as _, SystemClock};

/// By itself it goes so many times slower than the machine's.
const SLOWER: i64 = 1000;
/// How far it is ahead of the machine's when it begins, so that it is ahead to the end of a test that passes fewer minutes than it
/// takes: S3's library knows only one limit for both directions.
const AHEAD: i64 = 3_600_000_000_000;

/// Whoever has its [`Clock::env`] goes by it.
pub struct Clock {
    hands: Arc<Hands>,
    file: File,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

/// What a clock shows, in this process.
pub struct Hands {
    began: i64,
    forward: AtomicI64,
}

impl tablecast::clock::Clock for Hands {
    fn now(&self) -> DateTime<Utc> {
        let passed = (nanoseconds(SystemClock.now()) - self.began) / SLOWER;
        DateTime::from_timestamp_nanos(self.began + passed + AHEAD + self.forward.load(Ordering::Relaxed))
    }
}

impl Clock {
    /// It begins at a whole second.
    pub fn new() -> Clock {
        Clock::of(nanoseconds(SystemClock.now().trunc_subsecs(0)))
    }

    /// One that shows what the machine's does, and goes as fast, until it is [`put`](Self::put) elsewhere.
    pub fn of_the_machine() -> Clock {
        let clock = Clock::new();
        clock.file.write_all_at(&[clock.hands.began, 0, 1].map(i64::to_ne_bytes).concat(), 0).unwrap();
        clock
    }

    /// From now on one [`of_the_machine`](Self::of_the_machine) is off by this: at once for those that run already.
    pub fn put(&self, nanoseconds: i64) {
        self.file.write_all_at(&nanoseconds.to_ne_bytes(), 8).unwrap();
    }

    /// One more that shows the same until one of them is set forward.
    pub fn another(&self) -> Clock {
        Clock::of(self.hands.began)
    }

    fn of(began: i64) -> Clock {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hands");
        std::fs::write(&path, [began, AHEAD, SLOWER].map(i64::to_ne_bytes).concat()).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        let hands = Arc::new(Hands { began, forward: AtomicI64::new(0) });
        Clock { hands, file, path, _folder: folder }
    }

    /// From now on it is set forward by this, all in all: at once for those that run already.
    pub fn set_forward(&self, by: Duration) {
        let by = i64::try_from(by.as_nanos()).unwrap();
        self.file.write_all_at(&(AHEAD + by).to_ne_bytes(), 8).unwrap();
        self.hands.forward.store(by, Ordering::Relaxed);
    }

    pub fn hands(&self) -> Arc<Hands> {
        self.hands.clone()
    }

    /// What the process needs that goes by it.
    pub fn env(&self) -> [(&'static str, String); 2] {
        [("LD_PRELOAD", library().display().to_string()), ("CLOCK_OF_TEST", self.path.display().to_string())]
    }
}

fn nanoseconds(time: DateTime<Utc>) -> i64 {
    time.timestamp_nanos_opt().unwrap()
}

/// Made by the compiler that links the tests too. For ever: a server's watcher outlives the test.
fn library() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let ours = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let temp = std::env::temp_dir();
        let folder = folder(&[ours, &temp, Path::new("/tmp"), Path::new("/var/tmp")]);
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/clock.c");
        let new = tempfile::Builder::new().prefix("clock-").suffix(".so").tempfile_in(folder).unwrap();
        let new = new.into_temp_path();
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&new).args([source, "-ldl"]);
        assert!(cc.status().unwrap().success(), "{cc:?}");
        if folder != ours {
            // Where others may write as well, under a name that nobody knew before.
            return new.keep().unwrap();
        }
        let path = ours.join("clock-of-test.so");
        // Another test process may have it loaded.
        new.persist(&path).unwrap();
        path
    })
}

/// The first whose name LD_PRELOAD can hold: to it blanks and colons are ends of names.
fn folder<'a>(folders: &[&'a Path]) -> &'a Path {
    let fits = |folder: &&&Path| {
        folder.to_str().is_some_and(|name| !name.contains([' ', ':', '\t', '\n'])) && folder.is_dir()
    };
    folders.iter().find(fits).unwrap_or_else(|| panic!("no folder without blank or colon among {folders:?}"))
}

#[test]
fn a_library_lies_where_ld_preload_can_name_it() {
    let tmp = Path::new("/tmp");
    for wrong in ["/usr/a checkout", "/usr/a:b", "/no/such/folder"] {
        assert_eq!(folder(&[Path::new(wrong), tmp]), tmp);
    }
    let place = tempfile::tempdir().unwrap();
    let blank = place.path().join("a checkout");
    std::fs::create_dir(&blank).unwrap();
    assert_eq!(folder(&[&blank, tmp]), tmp);
}
