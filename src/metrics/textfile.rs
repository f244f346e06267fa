//! The text file that node_exporter's textfile collector reads
//! (<https://github.com/prometheus/node_exporter#textfile-collector>): replaced as a whole, so that no reader sees a part.
//!
//! It is its own memory. Counters of runs that come and go must not go back, so each writer reads what stands there, adds
//! what it has counted since it wrote last, and takes over what it knows nothing of. Several may write one file: `upload`
//! and `prune` of one config, or a run that ends with 11 beside the one at work. They take turns by a lock on the file. A
//! file that is gone or cannot be read begins anew, which Prometheus takes for a restart.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use rustix::fs::{FlockOperation, OFlags, flock};

use super::catalogue::BUILD_INFO;
use super::meters::{Base, Meters, texts};
use super::text::{Samples, Series};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::stream::{FORMAT, Format};

/// Read by the exporter, which is another user.
const MODE: u32 = 0o644;
/// How often, and how long apart, the lock is tried for: writing takes milliseconds.
const TRIES: u32 = 50;
const APART: Duration = Duration::from_millis(100);
/// A file that is larger is not ours.
const LIMIT: u64 = 16 << 20;

/// Where the runs of this config write, if it says so: the file, or one made of the names in the folder.
pub fn path(config: &Config) -> Option<PathBuf> {
    let path = config.metrics.textfile.as_ref()?;
    if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        let Base { stream, role, region, .. } = Base::of(config, "");
        let parts = ["tablecast", &role, &stream, &region].map(str::to_owned);
        let name: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        return Some(path.join(format!("{}.prom", name.join("_"))));
    }
    Some(path.clone())
}

/// One writer of a file.
#[derive(Debug)]
pub struct Textfile {
    path: PathBuf,
    base: Base,
    /// What has been added to the file's counters so far.
    added: BTreeMap<Series, f64>,
}

impl Textfile {
    pub fn new(path: PathBuf, base: Base) -> Textfile {
        Textfile { path, base, added: BTreeMap::new() }
    }

    /// Brings the file up to what these meters say. Blocks for as long as another writer is at it, some seconds at most.
    pub fn write(&mut self, meters: &Meters, now: DateTime<Utc>) -> Result<()> {
        let failed = |what: &str, cause: std::io::Error| {
            Error::new(Kind::Failed, format!("{what} {}", self.path.display()))
                .hint("`metrics.textfile` in the config names a file in a folder that this user can write to")
                .caused_by(cause)
        };
        let mut file = locked(&self.path).map_err(|cause| failed("lock the metrics file", cause))?;
        let mut text = String::new();
        // One that is not text, or too large to be ours, is begun anew.
        if (&mut file).take(LIMIT).read_to_string(&mut text).is_err() || text.len() as u64 == LIMIT {
            text.clear();
        }
        let mut samples = Samples::parse(&text);
        let reading = meters.read();
        let mut counted = BTreeMap::new();
        for (metric, own, value) in reading.counters {
            let series = self.base.series(metric, &texts(&own));
            samples.add(series.clone(), value - self.added.get(&series).copied().unwrap_or(0.0));
            counted.insert(series, value);
        }
        for (metric, own, value) in reading.gauges {
            let series = self.base.series(metric, &texts(&own));
            match value {
                Some(value) => samples.put(series, value),
                None => samples.remove(&series),
            }
        }
        // Of another version, perhaps.
        samples.retain(|metric, values| metric != &BUILD_INFO || !self.base.holds(metric, values));
        samples.extend(build_info(&self.base));
        samples.tell_ages(now);
        replace(&self.path, samples.to_text().as_bytes())
            .map_err(|cause| failed("write the metrics file", cause))?;
        self.added = counted;
        Ok(())
    }
}

/// What this program is.
pub fn build_info(base: &Base) -> Samples {
    let mut samples = Samples::default();
    let Format { major, minor } = FORMAT;
    let format = format!("{major}.{minor}");
    samples.put(base.series(&BUILD_INFO, &[env!("CARGO_PKG_VERSION"), &format]), 1.0);
    samples
}

/// The file, made if there is none, locked as long as it is open. Whoever had it before may have put another in its
/// place meanwhile: that one is what has to be locked.
fn locked(path: &Path) -> std::io::Result<File> {
    for attempt in 0..TRIES {
        if attempt > 0 {
            std::thread::sleep(APART);
        }
        let file = open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => continue,
            other => other?,
        }
        let (held, there) = (file.metadata()?, std::fs::symlink_metadata(path));
        if there.is_ok_and(|there| (there.dev(), there.ino()) == (held.dev(), held.ino())) {
            return Ok(file);
        }
    }
    Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "another run holds its lock"))
}

/// No link is followed: the folder may be another user's.
fn open(path: &Path) -> std::io::Result<File> {
    let no_link = OFlags::NOFOLLOW.bits().cast_signed();
    match OpenOptions::new().read(true).custom_flags(no_link).open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    match OpenOptions::new().read(true).write(true).create_new(true).mode(MODE).open(path) {
        // Another was faster.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            OpenOptions::new().read(true).custom_flags(no_link).open(path)
        }
        made => {
            let file = made?;
            file.set_permissions(Permissions::from_mode(MODE))?;
            Ok(file)
        }
    }
}

/// Under the lock: so the temporary file has a name that a killed writer leaves no second one beside. What one left there,
/// perhaps another user's, goes first. No fsync: a file that a crash of the machine empties is begun anew.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".tmp");
    let temporary = folder.join(name);
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&temporary)?;
        // Whatever the umask is.
        file.set_permissions(Permissions::from_mode(MODE))?;
        file.write_all(bytes)?;
        std::fs::rename(&temporary, path)
    };
    write().inspect_err(|_| {
        let _ = std::fs::remove_file(&temporary);
    })
}

#[cfg(test)]
mod tests {
    use super::super::catalogue as c;
    use super::*;

    fn base(role: &str) -> Base {
        let command = if role == "source" { "upload" } else { "apply" }.to_owned();
        Base { stream: "apps".into(), role: role.into(), region: String::new(), command }
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).expect("a time")
    }

    fn value(path: &Path, series: &Series) -> Option<f64> {
        Samples::parse(&std::fs::read_to_string(path).expect("the file")).get(series)
    }

    #[test]
    fn counters_go_on_from_run_to_run_and_each_writer_adds_only_what_is_new() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("t.prom");
        let shipped = base("source").series(&c::UPLOAD_TRANSACTIONS, &[]);
        for run in 1..=3 {
            let (meters, mut file) = (Meters::default(), Textfile::new(path.clone(), base("source")));
            meters.add(&c::UPLOAD_TRANSACTIONS, &[], 7.0);
            file.write(&meters, now()).expect("write");
            file.write(&meters, now()).expect("write it again");
            assert_eq!(value(&path, &shipped), Some(7.0 * f64::from(run)));
        }
        let mode = std::fs::metadata(&path).expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing beside it");
    }

    #[test]
    fn two_writers_leave_each_others_figures_and_what_is_unknown_now_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("t.prom");
        let (one, two) = (Meters::default(), Meters::default());
        let mut source = Textfile::new(path.clone(), base("source"));
        let mut region = Textfile::new(path.clone(), base("region"));
        one.set(&c::LAST_EXIT_CODE, &[], 0.0);
        one.set(&c::STREAM_TX, &[], 9.0);
        two.set(&c::LAST_EXIT_CODE, &[], 3.0);
        source.write(&one, now()).expect("write");
        region.write(&two, now()).expect("write");
        one.set(&c::STREAM_TX, &[], None);
        source.write(&one, now()).expect("write");
        assert_eq!(value(&path, &base("source").series(&c::LAST_EXIT_CODE, &[])), Some(0.0));
        assert_eq!(value(&path, &base("region").series(&c::LAST_EXIT_CODE, &[])), Some(3.0));
        assert_eq!(value(&path, &base("source").series(&c::STREAM_TX, &[])), None);
    }

    #[test]
    fn many_writers_at_once_lose_no_count() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("t.prom");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let (meters, mut file) = (Meters::default(), Textfile::new(path.clone(), base("source")));
                    for _ in 0..5 {
                        meters.add(&c::UPLOAD_SEGMENTS, &[], 1.0);
                        // Another that is at it for long on a busy machine is no loss: the next write adds it.
                        let _ = file.write(&meters, now());
                    }
                    while let Err(error) = file.write(&meters, now()) {
                        assert!(format!("{error:?}").contains("lock"), "{error:?}");
                    }
                });
            }
        });
        assert_eq!(value(&path, &base("source").series(&c::UPLOAD_SEGMENTS, &[])), Some(40.0));
    }

    #[test]
    fn a_file_of_rubbish_or_of_another_version_is_taken_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("t.prom");
        let old = "tablecast_build_info{stream=\"apps\",role=\"source\",version=\"0.0.1\",format=\"0.9\"} 1\n\
                   tablecast_forgotten_total{stream=\"apps\"} 4\n";
        for before in [old.as_bytes(), b"\xff\xfe\x00"] {
            std::fs::write(&path, before).expect("write");
            Textfile::new(path.clone(), base("source")).write(&Meters::default(), now()).expect("write");
            let text = std::fs::read_to_string(&path).expect("text");
            assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), 1, "{text}");
            assert!(text.contains(&format!("version=\"{}\"", env!("CARGO_PKG_VERSION"))), "{text}");
        }
    }

    #[test]
    fn what_a_killed_writer_left_is_replaced_and_no_link_is_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, other) = (folder.path().join("t.prom"), folder.path().join("other"));
        let temporary = folder.path().join(".t.prom.tmp");
        std::fs::write(&other, "of somebody else").expect("write");
        std::os::unix::fs::symlink(&other, &temporary).expect("a link");
        let mut file = Textfile::new(path.clone(), base("source"));
        file.write(&Meters::default(), now()).expect("write");
        assert!(!temporary.exists() && std::fs::symlink_metadata(&path).expect("it").is_file());
        std::fs::write(&temporary, "half a fi").expect("write");
        std::fs::set_permissions(&temporary, Permissions::from_mode(0o400)).expect("chmod");
        file.write(&Meters::default(), now()).expect("write");
        assert!(!temporary.exists());
        std::fs::remove_file(&path).expect("remove it");
        std::os::unix::fs::symlink(&other, &path).expect("a link");
        file.write(&Meters::default(), now()).expect_err("a link is not followed");
        std::fs::remove_file(&path).expect("remove it");
        // It cannot be put there: nothing stays behind.
        std::fs::create_dir(&path).expect("a folder");
        replace(&path, b"x").expect_err("a folder stands there");
        assert!(!temporary.exists());
        assert_eq!(std::fs::read_to_string(&other).expect("it"), "of somebody else");
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_that_names_the_key() {
        let mut file = Textfile::new("/nonexistent/t.prom".into(), base("source"));
        let error = file.write(&Meters::default(), now()).expect_err("no folder");
        assert!(error.hint_text().is_some_and(|hint| hint.contains("metrics.textfile")));
    }
}
