//! A directory as a store: for one machine, a shared file system, tests, and the demo.
//!
//! Objects are files under the root, named by their keys. What is not ours to touch stays untouched: no key
//! leads out of the root, and a symbolic link below it is never followed. `.tablecast/` in the root holds the
//! lock and what is being written.
//!
//! - A write goes to a file of its own in `.tablecast/`, is synced, and gets its name in one step, `link` for
//!   [`create`](Store::create) (fails if the name is taken) or `rename` for [`swap`](Store::swap). The folder
//!   is synced before success is reported.
//! - A swap compares and renames under an exclusive lock on `.tablecast/lock`. Readers take no lock and need
//!   no right to write.
//! - A tag is the MD5 of the content.
//!
//! A killed writer leaves at most its file in `.tablecast/`, unlocked; the next writer removes it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use uuid::Uuid;

use super::{Body, DOCUMENT_LIMIT, Download, Etag, Fetched, Listed, Stat, Store};
use crate::error::{Error, Kind, Result};
use crate::stream::digest::Hasher;
use crate::stream::{Key, Md5};

/// The folder in the root that is the store's own. No key begins with a dot.
const OWN: &str = ".tablecast";
const LOCK: &str = "lock";
const NEW: &str = "new-";

/// How long a writer waits for another one that is in the middle of a swap.
const LOCK_WAIT: Duration = Duration::from_secs(30);

/// A store in a directory.
#[derive(Clone, Debug)]
pub struct DirStore {
    root: PathBuf,
}

impl DirStore {
    /// The store in `root`, which need not exist before the first write.
    pub fn open(root: &Path) -> Result<Self> {
        if !root.is_absolute() {
            return Err(Error::new(
                Kind::Usage,
                format!("open the store file://{}: not an absolute path", root.display()),
            )
            .hint("write it as file:///srv/tablecast/NAME"));
        }
        Ok(Self { root: root.to_owned() })
    }

    /// File calls block, some for long (a sync, a network file system): they run beside the async threads.
    async fn run<T: Send + 'static>(
        &self,
        doing: &'static str,
        key: &str,
        work: impl FnOnce(Files) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let files = Files { root: self.root.clone() };
        let done = tokio::task::spawn_blocking(move || work(files)).await;
        done.unwrap_or_else(|e| Err(io::Error::other(e))).map_err(|e| self.error(doing, key, e))
    }

    fn error(&self, doing: &str, key: &str, cause: io::Error) -> Error {
        let url = self.url();
        let (kind, why, hint) = match cause.kind() {
            io::ErrorKind::NotFound => (Kind::NotFound, "there is no such object", None),
            io::ErrorKind::AlreadyExists => (Kind::Conflict, "it is there already, with other content", None),
            io::ErrorKind::ResourceBusy => (Kind::Conflict, "somebody else wrote it meanwhile", None),
            io::ErrorKind::FileTooLarge => (Kind::Corrupt, "it is larger than expected", None),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => (
                Kind::Denied,
                "the file system does not let us",
                Some(format!("give this user the right to read and write {}", self.root.display())),
            ),
            io::ErrorKind::Unsupported => (
                Kind::Denied,
                "the file system has no hard links",
                Some("put the store on a file system with hard links and locks (ext4, xfs, NFS 4)".into()),
            ),
            io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => (
                Kind::Denied,
                "a symbolic link, a folder or a special file stands in its way",
                Some("keep nothing but the store in its folder; links in it are not followed".into()),
            ),
            io::ErrorKind::TimedOut => (
                Kind::Store,
                "another process has been holding the store's lock for 30 s",
                Some(format!(
                    "see who has {} open: a run that hangs",
                    self.root.join(OWN).join(LOCK).display()
                )),
            ),
            _ => (Kind::Store, "the file system answered with an error", None),
        };
        let error = Error::new(kind, format!("{doing} {url}/{key}: {why}")).caused_by(cause);
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

#[async_trait]
impl Store for DirStore {
    fn url(&self) -> String {
        format!("file://{}", self.root.display())
    }

    async fn get(&self, key: &Key, unless: Option<&Etag>) -> Result<Fetched> {
        let name = key.clone();
        let bytes = self.run("read", key.as_str(), move |files| files.read(&name)).await?;
        let etag = tag(&bytes);
        if unless == Some(&etag) { Ok(Fetched::Unchanged) } else { Ok(Fetched::Object { bytes, etag }) }
    }

    async fn download(&self, key: &Key, to: &Path, limit: u64) -> Result<Download> {
        let (name, to) = (key.clone(), to.to_owned());
        self.run("read", key.as_str(), move |files| {
            let mut from = files.open(&name)?;
            if from.metadata()?.len() > limit {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            copy(&mut from, &mut File::create(to)?, limit)
        })
        .await
    }

    async fn create(&self, key: &Key, body: Body<'_>) -> Result<Etag> {
        let name = key.clone();
        match body {
            Body::Bytes(bytes) => {
                let bytes = bytes.to_vec();
                self.run("create", key.as_str(), move |files| {
                    files.create(&name, Content::Bytes(&mut bytes.as_slice()))
                })
                .await
            }
            Body::File(path) | Body::Packed { path, .. } => {
                // A file that is missing here is not an object that is missing there.
                let mut file = File::open(path).map_err(|e| {
                    Error::new(Kind::Failed, format!("create {}/{key}: read {}", self.url(), path.display()))
                        .caused_by(e)
                })?;
                let known = match body {
                    Body::Packed { md5, size, .. } => Some(Download { size, md5 }),
                    _ => None,
                };
                self.run("create", key.as_str(), move |files| match known {
                    Some(known) => files.create(&name, Content::Known(&mut file, known)),
                    None => files.create(&name, Content::Bytes(&mut file)),
                })
                .await
            }
        }
    }

    async fn swap(&self, key: &Key, bytes: &[u8], expected: Option<&Etag>) -> Result<Etag> {
        let (name, bytes, expected) = (key.clone(), bytes.to_vec(), expected.cloned());
        self.run("swap", key.as_str(), move |files| files.swap(&name, &bytes, expected.as_ref())).await
    }

    async fn stat(&self, key: &Key) -> Result<Stat> {
        let name = key.clone();
        self.run("look at", key.as_str(), move |files| {
            let mut file = files.open(&name)?;
            let modified = file.metadata()?.modified()?.into();
            let (md5, size) = Md5::of_reader(&mut file)?;
            Ok(Stat { size, etag: Etag::new(md5.to_string()), md5: Some(md5), modified })
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        let begins = prefix.to_owned();
        self.run("list", prefix, move |files| files.list(&begins)).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let name = key.clone();
        self.run("delete", key.as_str(), move |files| files.delete(&name)).await
    }
}

fn tag(bytes: &[u8]) -> Etag {
    Etag::new(Md5::of(bytes).to_string())
}

/// Copies at most `limit` bytes; more are an error, and are not written.
fn copy(from: &mut dyn Read, to: &mut dyn Write, limit: u64) -> io::Result<Download> {
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        if hasher.size() + n as u64 > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        hasher.update(&buffer[..n]);
        to.write_all(&buffer[..n])?;
    }
    to.flush()?;
    Ok(Download { size: hasher.size(), md5: hasher.finish() })
}

/// The blocking side: every name below is resolved step by step from the root, links never followed.
struct Files {
    root: PathBuf,
}

/// What a new object is made of.
enum Content<'a> {
    Bytes(&'a mut dyn Read),
    Known(&'a mut File, Download),
}

impl Content<'_> {
    fn copy(self, to: &mut File) -> io::Result<Md5> {
        match self {
            Content::Bytes(from) => Ok(copy(from, to, u64::MAX)?.md5),
            // In the kernel, where the file system can.
            Content::Known(from, Download { size, md5 }) => match io::copy(from, to)? {
                copied if copied == size => Ok(md5),
                copied => Err(io::Error::other(format!("it should have {size} bytes, and has {copied}"))),
            },
        }
    }
}

/// A file being written, under a name in the store's own folder, locked as long as its writer lives.
struct New {
    own: OwnedFd,
    name: String,
    file: File,
}

impl Drop for New {
    fn drop(&mut self) {
        // What is left behind if this fails, the next writer removes.
        let _ = rustix::fs::unlinkat(&self.own, &self.name, AtFlags::empty());
    }
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const READ: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

impl Files {
    fn root(&self) -> io::Result<OwnedFd> {
        Ok(rustix::fs::openat(CWD, &self.root, FOLDER, Mode::empty())?)
    }

    fn make_root(&self) -> io::Result<OwnedFd> {
        if let Ok(root) = self.root() {
            return Ok(root);
        }
        std::fs::create_dir_all(&self.root)?;
        // That the folder is there has to survive a crash as well; what we may not open is not ours.
        for above in self.root.ancestors().skip(1) {
            match File::open(above).and_then(|folder| folder.sync_all()) {
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => break,
                synced => synced?,
            }
        }
        self.root()
    }

    /// The folder that holds `key`, and the name in it.
    fn folder<'k>(&self, key: &'k Key, make: bool) -> io::Result<(OwnedFd, &'k str)> {
        let mut folder = if make { self.make_root()? } else { self.root()? };
        let mut parts = key.as_str().split('/').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return Ok((folder, part));
            }
            folder = step(&folder, part, make)?;
        }
        Err(io::ErrorKind::InvalidInput.into())
    }

    fn open(&self, key: &Key) -> io::Result<File> {
        let (folder, name) = self.folder(key, false)?;
        open(&folder, name)
    }

    fn read(&self, key: &Key) -> io::Result<Vec<u8>> {
        let file = self.open(key)?;
        let mut bytes = Vec::new();
        file.take(DOCUMENT_LIMIT + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > DOCUMENT_LIMIT { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
    }

    fn create(&self, key: &Key, from: Content<'_>) -> io::Result<Etag> {
        let new = self.write_new(from)?;
        let (folder, name) = self.folder(key, true)?;
        let md5 = new.1;
        match rustix::fs::linkat(&new.0.own, &new.0.name, &folder, name, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                // The very same content is success: an earlier run got so far. It may not have synced it.
                let mut there = open(&folder, name)?;
                if Md5::of_reader(&mut there)?.0 != md5 {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                there.sync_all()?;
            }
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => {
                return Err(io::ErrorKind::Unsupported.into());
            }
            Err(e) => return Err(e.into()),
        }
        rustix::fs::fsync(&folder)?;
        Ok(Etag::new(md5.to_string()))
    }

    fn swap(&self, key: &Key, bytes: &[u8], expected: Option<&Etag>) -> io::Result<Etag> {
        let (new, _) = self.write_new(Content::Bytes(&mut &*bytes))?;
        let (folder, name) = self.folder(key, true)?;
        let _lock = self.lock()?;
        let there = match self.read(key) {
            Ok(bytes) => Some(tag(&bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        let wanted = tag(bytes);
        if there.as_ref() != expected && there.as_ref() != Some(&wanted) {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        rustix::fs::renameat(&new.own, &new.name, &folder, name)?;
        rustix::fs::fsync(&folder)?;
        Ok(wanted)
    }

    fn delete(&self, key: &Key) -> io::Result<()> {
        let gone = |e: io::Error| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) };
        let (folder, name) = match self.folder(key, false) {
            Ok(found) => found,
            Err(e) => return gone(e),
        };
        match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
            Ok(()) => Ok(rustix::fs::fsync(&folder)?),
            Err(e) => gone(e.into()),
        }
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<Listed>> {
        let mut listed = Vec::new();
        match self.root() {
            Ok(root) => walk(&root, "", prefix, &mut listed)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        listed.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(listed)
    }

    /// Writes and syncs a file that has no name among the objects yet.
    fn write_new(&self, from: Content<'_>) -> io::Result<(New, Md5)> {
        let mut new = {
            // Under the lock, so that nobody takes the file for one left behind before it is locked.
            let lock = self.lock()?;
            let own = lock.own.try_clone()?;
            remove_left_behind(&own)?;
            let name = format!("{NEW}{}", Uuid::new_v4());
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let file = File::from(rustix::fs::openat(&own, &name, flags, Mode::from_raw_mode(0o666))?);
            let new = New { own, name, file };
            new.file.try_lock().map_err(io::Error::from)?;
            new
        };
        let md5 = from.copy(&mut new.file)?;
        new.file.sync_all()?;
        Ok((new, md5))
    }

    fn lock(&self) -> io::Result<Lock> {
        let own = step(&self.make_root()?, OWN, true)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&own, LOCK, flags, Mode::from_raw_mode(0o666))?);
        let until = Instant::now() + LOCK_WAIT;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock { own, _file: file }),
                Err(std::fs::TryLockError::WouldBlock) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(std::fs::TryLockError::WouldBlock) => return Err(io::ErrorKind::TimedOut.into()),
                Err(std::fs::TryLockError::Error(e)) => return Err(e),
            }
        }
    }
}

/// The store's lock, until it is dropped.
struct Lock {
    own: OwnedFd,
    _file: File,
}

/// The folder `name` in `folder`; with `make`, made durably if it is not there.
fn step(folder: &OwnedFd, name: &str, make: bool) -> io::Result<OwnedFd> {
    let flags = FOLDER | OFlags::NOFOLLOW;
    match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Err(Errno::NOENT) if make => {
            match rustix::fs::mkdirat(folder, name, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => rustix::fs::fsync(folder)?,
                Err(e) => return Err(e.into()),
            }
            Ok(rustix::fs::openat(folder, name, flags, Mode::empty())?)
        }
        opened => Ok(opened?),
    }
}

/// A regular file, never a link; non-blocking, so that a FIFO in its place does not hang us.
fn open(folder: impl AsFd, name: &str) -> io::Result<File> {
    let file = File::from(rustix::fs::openat(folder, name, READ, Mode::empty()).map_err(|e| match e {
        Errno::LOOP => io::ErrorKind::NotADirectory.into(),
        e => io::Error::from(e),
    })?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::IsADirectory.into()) }
}

/// Removes what killed writers have left: files whose lock nobody holds. The caller holds the store's lock.
fn remove_left_behind(own: &OwnedFd) -> io::Result<()> {
    for entry in rustix::fs::Dir::read_from(own)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if !name.starts_with(NEW) {
            continue;
        }
        let Ok(file) = open(own, name) else { continue };
        if file.try_lock().is_ok() {
            match rustix::fs::unlinkat(own, name, AtFlags::empty()) {
                // Its writer has just ended, and removed it itself.
                Ok(()) | Err(Errno::NOENT) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    Ok(())
}

fn walk(folder: &OwnedFd, path: &str, prefix: &str, listed: &mut Vec<Listed>) -> io::Result<()> {
    for entry in rustix::fs::Dir::read_from(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        let full = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
        // Also keeps out ".", ".." and the store's own folder: no key has a part that begins with a dot.
        let Ok(key) = Key::new(full.clone()) else { continue };
        let stat = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(e) => return Err(e.into()),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if full.starts_with(prefix) || prefix.starts_with(&format!("{full}/")) => {
                match step(folder, name, false) {
                    Ok(folder) => walk(&folder, &full, prefix, listed)?,
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => return Err(e),
                }
            }
            FileType::RegularFile if full.starts_with(prefix) => {
                let modified =
                    chrono::DateTime::from_timestamp(stat.st_mtime as i64, stat.st_mtime_nsec as u32);
                listed.push(Listed {
                    key,
                    size: stat.st_size as u64,
                    modified: modified.unwrap_or_default(),
                });
            }
            _ => {}
        }
    }
    Ok(())
}
