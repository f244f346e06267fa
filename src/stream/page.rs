//! A sealed page: 500 or so of the older entries in an object of their own that never changes, linked to the
//! page before it. The head and each page hold the size, MD5 and chain of the page before, so the newest
//! index vouches for every older byte.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::chain::Chain;
use super::digest::Md5;
use super::document::{self, FORMAT, Format, json};
use super::entry::{self, Entry, Mark};
use super::ids::{Seq, StreamTx};
use super::keys::Key;
use crate::error::{Error, Kind, Result};

/// Most entries that a head or a page may hold.
pub const MAX_ENTRIES: usize = 1_000;

/// How many of the oldest entries leave a head that has grown too long.
pub const PAGE_ENTRIES: usize = 500;

/// More entries than the first do not stay in a head; the second is how many of them go. Readers take any number up to
/// [`MAX_ENTRIES`], so a test whose streams are short can have pages sealed in them, too.
pub(crate) fn sealing() -> (usize, usize) {
    #[cfg(test)]
    if let Some(sealing) = SEALING.get() {
        return sealing;
    }
    (MAX_ENTRIES, PAGE_ENTRIES)
}

#[cfg(test)]
thread_local! {
    /// What a test wants on its thread.
    pub(crate) static SEALING: std::cell::Cell<Option<(usize, usize)>> = const { std::cell::Cell::new(None) };
}

/// What is known of a sealed page without reading it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageLink {
    /// The page's key.
    pub key: Key,
    /// The first and the last entry in it.
    pub first: Seq,
    pub last: Seq,
    /// The object's size in bytes.
    pub size: u64,
    /// The object's MD5, hex.
    pub md5: Md5,
    /// The chain value of its last entry.
    pub chain: Chain,
    /// The last stream transaction up to the end of the page.
    pub last_tx: StreamTx,
}

impl PageLink {
    pub(super) fn mark(&self) -> Mark {
        Mark { seq: self.last, chain: self.chain, tx: self.last_tx }
    }

    pub(super) fn validate(&self) -> Result<()> {
        let fits = self.key == Key::page(self.first, self.last)
            && Seq::ZERO < self.first
            && self.first <= self.last
            && self.last.0 - self.first.0 < MAX_ENTRIES as u64;
        if fits {
            return Ok(());
        }
        Err(Error::new(
            Kind::Corrupt,
            format!(
                "check the link to page {}: it cannot hold entries {} to {}",
                self.key, self.first.0, self.last.0
            ),
        ))
    }
}

/// A sealed page, read and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The format it was written in.
    pub format: Format,
    /// The stream it belongs to.
    pub stream: Uuid,
    /// The first and the last entry in it.
    pub first: Seq,
    pub last: Seq,
    /// The page before it; absent in the first.
    pub previous: Option<PageLink>,
    pub entries: Vec<Entry>,
    /// Members of a later minor version.
    pub(super) extra: Map<String, Value>,
}

impl Page {
    pub(super) fn of(stream: Uuid, previous: Option<PageLink>, entries: Vec<Entry>) -> Self {
        let (first, last) = match (entries.first(), entries.last()) {
            (Some(first), Some(last)) => (first.seq, last.seq),
            _ => (Seq::ZERO, Seq::ZERO),
        };
        Self { format: FORMAT, stream, first, last, previous, entries, extra: Map::new() }
    }

    pub fn key(&self) -> Key {
        Key::page(self.first, self.last)
    }

    /// The page as it is stored. The same entries always give the same bytes, whoever seals them and when.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        self.validate(&self.key().to_string())?;
        let mut members = vec![
            ("format", json(&self.format)),
            ("stream", json(&self.stream)),
            ("first", json(&self.first)),
            ("last", json(&self.last)),
        ];
        if let Some(previous) = &self.previous {
            members.push(("previous", json(previous)));
        }
        Ok(document::render(&members, Some(&self.entries), &self.extra, &[]))
    }

    /// The link to this page, stored as `bytes`.
    pub fn link(&self, bytes: &[u8]) -> Result<PageLink> {
        let end = self.validate(&self.key().to_string())?;
        Ok(PageLink {
            key: self.key(),
            first: self.first,
            last: self.last,
            size: bytes.len() as u64,
            md5: Md5::of(bytes),
            chain: end.chain,
            last_tx: end.tx,
        })
    }

    /// A page that is there under `key`, by itself: what it is expected to be is not known.
    pub fn parse(key: &Key, bytes: &[u8]) -> Result<Self> {
        let what = key.to_string();
        let mut parts = document::parse_parts(&what, bytes)?;
        let entries = parts.take_entries(&what);
        let mut members = parts.members;
        let page = Self {
            format: document::take(&what, &mut members, "format")?,
            stream: document::take(&what, &mut members, "stream")?,
            first: document::take(&what, &mut members, "first")?,
            last: document::take(&what, &mut members, "last")?,
            previous: document::take(&what, &mut members, "previous")?,
            entries: entries?,
            extra: {
                members.remove("sha256");
                members
            },
        };
        page.validate(&what)?;
        if page.key() != *key {
            return Err(Error::new(Kind::Corrupt, format!("read {what}: it is page {}", page.key())));
        }
        document::check_seal(&what, bytes)?;
        Ok(page)
    }

    /// The page that `link` promises, from what is stored under its key.
    pub fn parse_linked(stream: Uuid, link: &PageLink, bytes: &[u8]) -> Result<Self> {
        let key = &link.key;
        let md5 = Md5::of(bytes);
        if (bytes.len() as u64, md5) != (link.size, link.md5) {
            return Err(Error::new(
                Kind::Corrupt,
                format!(
                    "read {key}: it has {} bytes with md5 {md5}, the index says {} with md5 {}",
                    bytes.len(),
                    link.size,
                    link.md5
                ),
            )
            .hint("restore this object from a backup or an older version of it"));
        }
        let page = Self::parse(key, bytes)?;
        let end = page.validate(&key.to_string())?;
        if page.stream != stream || end != link.mark() {
            return Err(Error::new(
                Kind::History,
                format!(
                    "read {key}: it ends stream {} at entry {} with chain {}, the index says stream {stream}, \
                     entry {}, chain {}",
                    page.stream, end.seq.0, end.chain, link.last.0, link.chain
                ),
            ));
        }
        Ok(page)
    }

    /// What must hold in a page; says where it ends.
    fn validate(&self, what: &str) -> Result<Mark> {
        let bad = |why: String| Err(Error::new(Kind::Corrupt, format!("check {what}: {why}")));
        if self.format.major != FORMAT.major {
            return bad(format!("format {} is not {}", self.format.major, FORMAT.major));
        }
        if self.entries.is_empty() || self.entries.len() > MAX_ENTRIES {
            return bad(format!("{} entries, not 1 to {MAX_ENTRIES}", self.entries.len()));
        }
        if let Some(previous) = &self.previous {
            previous.validate()?;
        }
        let from = start(self.stream, self.previous.as_ref());
        let end = entry::run(what, from, &self.entries)?;
        if (self.first, self.last) != (from.seq.next(), end.seq) {
            return bad(format!(
                "it says entries {} to {} and holds {} to {}",
                self.first.0,
                self.last.0,
                from.seq.next().0,
                end.seq.0
            ));
        }
        Ok(end)
    }
}

/// Where the entries after `previous`, or the first ones of all, begin.
pub(super) fn start(stream: Uuid, previous: Option<&PageLink>) -> Mark {
    match previous {
        Some(link) => link.mark(),
        None => Mark { seq: Seq::ZERO, chain: Chain::genesis(stream), tx: StreamTx::ZERO },
    }
}
