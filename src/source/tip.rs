//! The newest head as this run knows it, and a copy of it on this machine.
//!
//! The copy makes an idle run cheap: one conditional GET says that it is still the newest. It is never
//! believed without that answer, and a copy that is missing, unreadable or of another store only costs a
//! whole GET. Failing to write it is no reason to fail.
//!
//! And it makes a stream that went back known: whoever goes on from an older head gives the same numbers to other entries,
//! signs them where streams are signed, and no region that was further ever takes them.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, Kind, Result};
use crate::failpoint;
use crate::hex::hex;
use crate::store::{self, Etag, Store};
use crate::stream::Head;

/// The head and the tag that a swap must meet.
pub(crate) struct Tip {
    pub head: Head,
    pub etag: Etag,
    copy: Option<PathBuf>,
}

impl Tip {
    /// Reads the newest head: one GET, without a body if the copy in `cache_dir` is still the newest.
    pub(crate) async fn load(store: &dyn Store, cache_dir: &Path) -> Result<Self> {
        let path = copy_path(store, cache_dir);
        let kept = read_copy(&path);
        let unless = kept.as_ref().map(|(_, etag)| etag);
        match (store::head::read(store, unless).await?, kept) {
            (store::head::Read::Head { head, etag }, kept) => {
                if let Some((known, _)) = &kept {
                    goes_on(&head, known, &path, store)?;
                }
                let tip = Self { head: *head, etag, copy: Some(path) };
                tip.keep();
                Ok(tip)
            }
            (store::head::Read::Unchanged, Some((head, etag))) => Ok(Self { head, etag, copy: Some(path) }),
            // A store that answers "unchanged" to an unconditional GET: ask again, and fail if it insists.
            (store::head::Read::Unchanged, None) => match store::head::read(store, None).await? {
                store::head::Read::Head { head, etag } => Ok(Self { head: *head, etag, copy: Some(path) }),
                store::head::Read::Unchanged => Err(Error::new(
                    Kind::Store,
                    format!(
                        "read {}/index.json: the store answers \"not modified\" to a plain read",
                        store.url()
                    ),
                )),
            },
        }
    }

    /// Puts `head` in this one's place in the store: `Kind::Conflict` if somebody else has written meanwhile.
    pub(crate) async fn swap(&mut self, store: &dyn Store, mut head: Head) -> Result<()> {
        head.touch();
        failpoint::hit("upload.before_head_swap");
        let etag = store::head::write(store, &mut head, Some(&self.etag)).await?;
        failpoint::hit("upload.after_head_swap");
        (self.head, self.etag) = (head, etag);
        self.keep();
        Ok(())
    }

    fn keep(&self) {
        let Some(path) = &self.copy else { return };
        let written = self.head.to_json().map_err(io::Error::other).and_then(|json| {
            let folder = path.parent().unwrap_or(Path::new("."));
            fs::create_dir_all(folder)?;
            // One name, so that a killed run leaves nothing that piles up.
            let new = path.with_extension("new");
            let mut file = fs::File::create(&new)?;
            writeln!(file, "{}", self.etag)?;
            file.write_all(&json)?;
            fs::rename(&new, path)
        });
        if let Err(cause) = written {
            tracing::debug!("keep a copy of the head in {}: {cause}", path.display());
        }
    }
}

/// Refuses a head that lacks what this machine has seen of the same stream, or has other entries in its place.
fn goes_on(head: &Head, known: &Head, copy: &Path, store: &dyn Store) -> Result<()> {
    if known.stream != head.stream {
        return Ok(());
    }
    let there = match head.last_seq == known.last_seq {
        true => Some(head.tip),
        false => head.entries.iter().find(|entry| entry.seq == known.last_seq).map(|entry| entry.chain),
    };
    let what = match there {
        _ if head.last_seq < known.last_seq => format!("ends at entry {}", head.last_seq.0),
        Some(chain) if chain != known.tip => format!("has chain {chain} there"),
        _ => return Ok(()),
    };
    Err(Error::new(
        Kind::History,
        format!(
            "read {}/index.json: the index went back: it {what}, and this machine has seen entry {} with chain {}",
            store.url(),
            known.last_seq.0,
            known.tip
        ),
    )
    .hint(format!(
        "somebody put back an older index.json: restore the newest version of it. Nothing is shipped until then, because regions \
         that are further would never take it. If what is there now is the right one: remove {} here; regions that it lacks entries \
         of are built again (docs/runbooks/history-lost.md)",
        copy.display()
    )))
}

/// One file for each store, whatever stands in its URL.
fn copy_path(store: &dyn Store, cache_dir: &Path) -> PathBuf {
    let digest = Sha256::digest(store.url().as_bytes());
    cache_dir.join(format!("head-{}", hex(&digest[..16])))
}

fn read_copy(path: &Path) -> Option<(Head, Etag)> {
    let bytes = fs::read(path).ok()?;
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let etag = std::str::from_utf8(&bytes[..end]).ok()?;
    // Sealed by a digest of its own: a copy that was damaged does not parse.
    let head = Head::parse(&bytes[end + 1..]).ok()?;
    Some((head, Etag::new(etag)))
}
