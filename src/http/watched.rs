//! What a running service reads from files and takes up anew when they change, without a restart: its tokens,
//! its certificate.
//!
//! A new file that cannot be used changes nothing: the old content stays in force, and the log says why, once
//! for each change. A file that is gone is such a change.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Result;

/// How often the files are looked at, at most. A token that was taken away is of no use after this time.
const LOOK_EVERY: Duration = Duration::from_millis(500);

type Load<T> = Box<dyn Fn() -> Result<T> + Send + Sync>;

pub struct Watched<T> {
    /// What it is, for the log: `tokens`.
    what: &'static str,
    paths: Vec<PathBuf>,
    load: Load<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    value: Arc<T>,
    /// What the files looked like when they were read last, well or not.
    seen: Vec<Option<Look>>,
    looked_at: Instant,
}

/// Changes whenever a file is written or another takes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    inode: u64,
    size: u64,
    /// Modification and change of the inode, in seconds and nanoseconds.
    times: [i64; 4],
}

impl Look {
    fn of(file: &Metadata) -> Look {
        let times = [file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()];
        Look { inode: file.ino(), size: file.size(), times }
    }
}

impl<T> Watched<T> {
    /// Reads the files for the first time; here what cannot be used is an error.
    pub fn open(
        what: &'static str,
        paths: Vec<PathBuf>,
        load: impl Fn() -> Result<T> + Send + Sync + 'static,
    ) -> Result<Watched<T>> {
        // Looked at first: a change between the two is found at the next look.
        let seen = look(&paths);
        let value = Arc::new(load()?);
        let state = Mutex::new(State { value, seen, looked_at: Instant::now() });
        Ok(Watched { what, paths, load: Box::new(load), state })
    }

    /// What is in force now.
    pub fn get(&self) -> Arc<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked_at.elapsed() >= LOOK_EVERY {
            state.looked_at = Instant::now();
            let now = look(&self.paths);
            if now != state.seen {
                state.seen = now;
                match (self.load)() {
                    Ok(value) => {
                        state.value = Arc::new(value);
                        tracing::info!("{} read anew from {}", self.what, self.shown());
                    }
                    Err(error) => {
                        tracing::error!(
                            hint = error.hint_text().unwrap_or_default(),
                            "{} changed and cannot be used, the {} read before stay in force: {error}",
                            self.shown(),
                            self.what,
                        );
                    }
                }
            }
        }
        state.value.clone()
    }

    fn shown(&self) -> String {
        let paths = self.paths.iter().map(|path| path.display().to_string());
        paths.collect::<Vec<_>>().join(" and ")
    }
}

fn look(paths: &[PathBuf]) -> Vec<Option<Look>> {
    paths.iter().map(|path| std::fs::metadata(path).ok().as_ref().map(Look::of)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Kind};

    #[test]
    fn a_changed_file_is_read_anew_and_a_broken_one_changes_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("number");
        std::fs::write(&path, "1").expect("write");
        let file = path.clone();
        let load = move || {
            let text =
                std::fs::read_to_string(&file).map_err(|e| Error::new(Kind::Usage, "read").caused_by(e))?;
            text.parse::<u32>().map_err(|e| Error::new(Kind::Usage, "no number").caused_by(e))
        };
        let watched = Watched::open("numbers", vec![path.clone()], load).expect("a number");
        let later = || {
            std::thread::sleep(LOOK_EVERY + Duration::from_millis(20));
            *watched.get()
        };
        assert_eq!(*watched.get(), 1);
        std::fs::write(&path, "22").expect("write");
        assert_eq!(later(), 22);
        std::fs::write(&path, "x").expect("write");
        assert_eq!(later(), 22);
        std::fs::remove_file(&path).expect("remove");
        assert_eq!(later(), 22);
        std::fs::write(&path, "3").expect("write");
        assert_eq!(later(), 3);
    }
}
