//! An object of the stream as a temporary file, checked against what the index says of it.

use std::path::Path;

use tempfile::NamedTempFile;

use crate::error::{Error, Kind, Result};
use crate::store::Store;
use crate::stream::{Key, SegmentEntry};

/// Downloads a segment; `Kind::Corrupt` unless size and MD5 are the entry's.
pub async fn segment(store: &dyn Store, segment: &SegmentEntry, folder: &Path) -> Result<NamedTempFile> {
    let file = temporary(folder)?;
    let found = store.download(&segment.key, file.path(), segment.size).await?;
    compare(segment, found.size, Some(found.md5.to_string()))?;
    Ok(file)
}

/// Downloads whatever is under `key`.
pub async fn object(store: &dyn Store, key: &Key, folder: &Path) -> Result<NamedTempFile> {
    let stat = store.stat(key).await?;
    let file = temporary(folder)?;
    store.download(key, file.path(), stat.size).await?;
    Ok(file)
}

/// Compares what was found with what the entry says.
pub fn compare(segment: &SegmentEntry, size: u64, md5: Option<String>) -> Result<()> {
    let corrupt = |what: String| {
        Err(Error::new(Kind::Corrupt, format!("read {}: {what}", segment.key)).hint(
            "restore this object from a backup or an older version of it; `tablecast verify` checks all",
        ))
    };
    if size != segment.size {
        return corrupt(format!("it has {size} bytes, the index says {}", segment.size));
    }
    match md5 {
        Some(md5) if md5 != segment.md5.to_string() => {
            corrupt(format!("its md5 is {md5}, the index says {}", segment.md5))
        }
        _ => Ok(()),
    }
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
