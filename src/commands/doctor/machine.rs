//! This machine: the config file, the folders that a run writes to, room in them, the metrics file.

use std::path::Path;

use super::super::look;
use super::super::run::Run;
use super::{Check, Outcome, ends_with};
use crate::config::{Role, TlsMode};
use crate::error::Kind;
use crate::metrics::textfile;

/// Less room than this, and the next segment may not fit.
const LITTLE: u64 = 64 << 20;

pub fn checks(run: &Run) -> Vec<Check> {
    let config = &run.config;
    let mut checks = vec![match config.warnings.as_slice() {
        [] => Check::passed("config", config.path.display().to_string()),
        warnings => Check::finding(
            "config",
            Outcome::Warning,
            warnings.join("\n"),
            "other users of this machine can read a secret",
            "chmod 600 the files named, or give them to the account that runs tablecast",
        ),
    }];
    let servers = [("mysql", Some(&config.mysql)), ("primary", config.primary.as_ref())];
    for (section, server) in servers {
        if let Some(server) = server.filter(|server| server.tls.mode == TlsMode::Require) {
            checks.push(Check::finding(
                "tls",
                Outcome::Warning,
                format!("[{section}] the certificate of {server} is not checked"),
                "whoever sits between can read and change what travels, the password included",
                format!("in [{section}]: tls = {{ mode = \"verify\", ca = \"/path/to/ca.pem\" }}"),
            ));
        }
    }
    checks.push(folder(run, "cache folder", &config.files.cache_dir, LITTLE));
    // Room for the segment that is made and the one that is sent; a region fetches a few ahead.
    let wanted = match config.role {
        Role::Source => config.upload.segment_bytes.saturating_mul(2).max(LITTLE),
        Role::Region => LITTLE * 4,
    };
    checks.push(folder(run, "spool folder", &config.files.spool_dir, wanted));
    checks.extend(textfile::path(config).map(|path| metrics_file(&path)));
    checks
}

/// Can the runs' figures be written? Its folder is made by whoever reads it.
fn metrics_file(path: &Path) -> Check {
    let (name, folder) = ("metrics file", path.parent().unwrap_or(Path::new("/")));
    match tempfile::tempfile_in(folder) {
        Ok(_) => Check::passed(name, path.display().to_string()),
        Err(cause) => Check::finding(
            name,
            Outcome::Warning,
            format!("make a file in {}: {cause}", folder.display()),
            "runs go on without it, and Prometheus learns nothing of them",
            format!(
                "setfacl -m u:USER:rwx {0}, with the user that runs tablecast; or name another place as metrics.textfile",
                folder.display()
            ),
        ),
    }
}

/// Can a file be made there, and is there room?
fn folder(run: &Run, name: &str, path: &Path, wanted: u64) -> Check {
    let shown = path.display();
    let tried = std::fs::create_dir_all(path).and_then(|()| tempfile::tempfile_in(path));
    if let Err(cause) = tried {
        let hint = format!(
            "make {shown} writable for this user, or set files.{} in the config",
            match name {
                "cache folder" => "cache_dir",
                _ => "spool_dir",
            }
        );
        return Check::finding(
            name,
            Outcome::Failed,
            format!("make a file in {shown}: {cause}"),
            ends_with(run, Kind::Failed),
            hint,
        );
    }
    let Ok(space) = rustix::fs::statvfs(path) else {
        return Check::passed(name, format!("{shown}, room {}", look::UNKNOWN));
    };
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    if free < wanted {
        return Check::finding(
            name,
            Outcome::Warning,
            format!("{shown} has {} left, {} are wanted", look::size(free), look::size(wanted)),
            "a large transaction may not fit and the run would end with 1 (failed); nothing is lost",
            "make room, or point files.spool_dir to a larger disk",
        );
    }
    Check::passed(name, format!("{shown}, {} free", look::size(free)))
}
