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
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::sleep;

use crate::error::{Error, Kind, Result};
use crate::failpoint;
use crate::hex::hex;
use crate::store::{self, Etag, Store};
use crate::stream::{Head, Index, Seq};

/// How often a head that went back is read, and how long after each time.
const AGAIN: u32 = 4;
/// The simulation's time does not pass by itself.
const AGAIN_AFTER: Duration = if cfg!(test) { Duration::ZERO } else { Duration::from_secs(1) };

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
                let (head, etag) = match &kept {
                    Some((known, _)) => newest(*head, etag, known, &path, store).await?,
                    None => (*head, etag),
                };
                let tip = Self { head, etag, copy: Some(path) };
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

/// The head as it was read, or as it is read again: a store of several machines may have answered from one that is behind for a
/// moment.
async fn newest(
    mut head: Head,
    mut etag: Etag,
    known: &Head,
    copy: &Path,
    store: &dyn Store,
) -> Result<(Head, Etag)> {
    for left in (0..AGAIN).rev() {
        match goes_on(&head, known, copy, store).await {
            Ok(()) => break,
            Err(error) if left == 0 || error.kind() != Kind::History => return Err(error),
            Err(error) => tracing::debug!("{error}; reading it again"),
        }
        if !AGAIN_AFTER.is_zero() {
            sleep(AGAIN_AFTER).await;
        }
        if let store::head::Read::Head { head: now, etag: tag } = store::head::read(store, None).await? {
            (head, etag) = (*now, tag);
        }
    }
    Ok((head, etag))
}

/// Refuses a head that lacks what this machine has seen of the same stream, or has other entries in its place.
async fn goes_on(head: &Head, known: &Head, copy: &Path, store: &dyn Store) -> Result<()> {
    if known.stream != head.stream {
        return Ok(());
    }
    let is_pruned = head.floor.is_some_and(|floor| known.last_seq <= floor.seq);
    let there = match head.last_seq == known.last_seq {
        true => Some(head.tip),
        false if head.last_seq < known.last_seq || known.last_seq == Seq::ZERO || is_pruned => None,
        // Of a page, if it has left the head since. One that is gone or damaged says nothing of who has put back what; what may
        // be read in a moment is tried again.
        false => match Index::new(head.clone()).chain_at(known.last_seq, store).await {
            Ok(chain) => Some(chain),
            Err(error) if error.is_transient() => {
                return Err(
                    error.during(format!("compare {}/index.json with what is known here", store.url()))
                );
            }
            Err(error) => {
                tracing::debug!("{error}: whether the index went on from what is known here is not known");
                None
            }
        },
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
