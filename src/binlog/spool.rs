//! Bytes that are written once and read back from the start: in memory while they are few, else in a file
//! without a name. A killed process leaves nothing behind.

use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use tempfile::SpooledTempFile;

use crate::error::{Error, Kind, Result};

/// What a spool holds in memory before it takes a file.
pub const MEMORY_LIMIT: usize = 1 << 20;

pub struct Spool {
    file: SpooledTempFile,
    folder: PathBuf,
    len: u64,
}

impl Spool {
    /// The folder is used only above the limit.
    pub fn new(folder: &Path) -> Spool {
        Spool::with_limit(folder, MEMORY_LIMIT)
    }

    pub fn with_limit(folder: &Path, limit: usize) -> Spool {
        Spool { file: tempfile::spooled_tempfile_in(limit, folder), folder: folder.to_owned(), len: 0 }
    }

    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|cause| self.failed("write to", cause))?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// From the start, buffered. Ends after `len` bytes.
    pub fn reader(&mut self) -> Result<impl Read + '_> {
        self.file.rewind().map_err(|cause| self.failed("read back", cause))?;
        Ok(io::BufReader::with_capacity(64 << 10, &mut self.file))
    }

    fn failed(&self, doing: &str, cause: io::Error) -> Error {
        let what = format!("{doing} a temporary file in {}", self.folder.display());
        let hint = "a transaction that does not fit in memory is kept there: it needs the space and the rights \
                    for it; files.spool_dir in the config chooses another folder";
        Error::new(Kind::Failed, what).hint(hint).caused_by(cause)
    }
}

impl std::fmt::Debug for Spool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "spool of {} bytes", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_appended_is_read_back_above_and_below_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        for total in [0usize, 10, 100, 10_000] {
            let mut spool = Spool::with_limit(folder.path(), 64);
            let bytes: Vec<u8> = (0..total).map(|i| i as u8).collect();
            for part in bytes.chunks(7) {
                spool.append(part).unwrap();
            }
            assert_eq!(spool.len(), total as u64);
            for _ in 0..2 {
                let mut back = Vec::new();
                spool.reader().unwrap().read_to_end(&mut back).unwrap();
                assert_eq!(back, bytes);
            }
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the file has no name");
    }

    #[test]
    fn a_folder_that_is_not_there_is_named_in_the_error() {
        let mut spool = Spool::with_limit(Path::new("/nowhere/at/all"), 4);
        let error = spool.append(b"more than four").unwrap_err();
        assert_eq!(error.to_string(), "write to a temporary file in /nowhere/at/all");
    }
}
