//! What a run says: each line with the time since it began, to people and to a file that is kept when something is found.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

pub struct Log {
    began: Instant,
    file: Mutex<File>,
    is_quiet: bool,
}

impl Log {
    pub fn new(path: &Path, is_quiet: bool) -> Log {
        let file = File::create(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Log { began: Instant::now(), file: Mutex::new(file), is_quiet }
    }

    /// For people and for the file.
    pub fn say(&self, text: impl AsRef<str>) {
        let line = self.write(text.as_ref());
        if !self.is_quiet {
            // A reader that went away is no reason to stop.
            let _ = std::io::stdout().write_all(line.as_bytes());
        }
    }

    /// For the file.
    pub fn note(&self, text: impl AsRef<str>) {
        self.write(text.as_ref());
    }

    fn write(&self, text: &str) -> String {
        let at = self.began.elapsed();
        let (seconds, millis) = (at.as_secs(), at.subsec_millis());
        let line = format!("{:02}:{:02}.{millis:03} {}\n", seconds / 60, seconds % 60, text);
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = file.write_all(line.as_bytes());
        line
    }
}
