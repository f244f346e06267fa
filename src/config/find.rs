//! Which config files a run is about: `--config` (repeated, or a folder), else `TABLECAST_CONFIG`, else
//! `tablecast.toml` here.

use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};

/// The files that were named, folders replaced by their `*.toml` in the order of their names.
pub fn find(named: &[PathBuf]) -> Result<Vec<PathBuf>> {
    if named.is_empty() {
        return Ok(vec![PathBuf::from("tablecast.toml")]);
    }
    let mut files = Vec::new();
    for path in named {
        if path.is_dir() {
            files.extend(folder(path)?);
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

fn folder(path: &Path) -> Result<Vec<PathBuf>> {
    let failed = |cause: std::io::Error| {
        Error::new(Kind::Usage, format!("list config folder {}", path.display())).caused_by(cause)
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        if file.extension().is_some_and(|extension| extension == "toml") && file.is_file() {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(Error::new(Kind::Usage, format!("config folder {} holds no *.toml", path.display()))
            .hint("one file per stream and role; `tablecast init source|region` writes one"));
    }
    files.sort();
    Ok(files)
}
