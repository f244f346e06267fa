//! An object of the stream as a temporary file, checked against what is promised of it.

use std::path::Path;

use tempfile::NamedTempFile;

use crate::error::{Error, Kind, Result};
use crate::store::Store;
use crate::stream::{Chunk, DumpEntry, Key, Md5, NamesObject, SegmentEntry};

/// What somebody says of an object.
pub struct Promise<'a> {
    pub key: &'a Key,
    pub size: u64,
    pub md5: Md5,
    /// Who says so, for messages.
    by: &'static str,
}

impl<'a> Promise<'a> {
    /// What the index says of a segment.
    pub fn of_segment(segment: &'a SegmentEntry) -> Self {
        Self { key: &segment.key, size: segment.size, md5: segment.md5, by: "the index" }
    }

    /// What the index says of a dump's manifest.
    pub fn of_manifest(dump: &'a DumpEntry) -> Self {
        Self { key: &dump.manifest, size: dump.size, md5: dump.md5, by: "the index" }
    }

    /// What the index says of the rows of a check.
    pub fn of_names(names: &'a NamesObject) -> Self {
        Self { key: &names.key, size: names.size, md5: names.md5, by: "the index" }
    }

    /// What a manifest says of a chunk.
    pub fn of_chunk(chunk: &'a Chunk) -> Self {
        Self { key: &chunk.key, size: chunk.size, md5: chunk.md5, by: "its manifest" }
    }

    /// Downloads it; `Kind::Corrupt` unless size and MD5 are as promised.
    pub async fn download(&self, store: &dyn Store, folder: &Path) -> Result<NamedTempFile> {
        let file = temporary(folder)?;
        let found = store.download(self.key, file.path(), self.size).await?;
        self.compare(found.size, Some(found.md5))?;
        Ok(file)
    }

    /// Looks it up without reading it.
    pub async fn stat(&self, store: &dyn Store) -> Result<()> {
        let stat = store.stat(self.key).await?;
        self.compare(stat.size, stat.md5)
    }

    pub fn compare(&self, size: u64, md5: Option<Md5>) -> Result<()> {
        let corrupt = |what: String| {
            Err(Error::new(Kind::Corrupt, format!("read {}: {what}", self.key)).hint(
                "restore this object from a backup or an older version of it; `tablecast verify` checks all",
            ))
        };
        if size != self.size {
            return corrupt(format!("it has {size} bytes, {} says {}", self.by, self.size));
        }
        match md5 {
            Some(md5) if md5 != self.md5 => {
                corrupt(format!("its md5 is {md5}, {} says {}", self.by, self.md5))
            }
            _ => Ok(()),
        }
    }
}

/// Downloads whatever is under `key`.
pub async fn object(store: &dyn Store, key: &Key, folder: &Path) -> Result<NamedTempFile> {
    let stat = store.stat(key).await?;
    let file = temporary(folder)?;
    store.download(key, file.path(), stat.size).await?;
    Ok(file)
}

fn temporary(folder: &Path) -> Result<NamedTempFile> {
    let failed = |cause| {
        Error::new(Kind::Failed, format!("make a temporary file in {}", folder.display()))
            .hint("files.spool_dir in the config names a folder that this user can write to")
            .caused_by(cause)
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    tempfile::Builder::new().prefix("tablecast-").tempfile_in(folder).map_err(failed)
}
