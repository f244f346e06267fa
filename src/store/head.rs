//! Reading and writing the index through a store: the head by conditional GET and compare-and-swap, sealed
//! pages before the head that links to them.

use async_trait::async_trait;
use uuid::Uuid;

use super::{Body, Etag, Fetched, Store};
use crate::error::{Error, Kind, Result};
use crate::failpoint;
use crate::stream::{Head, Key, Page, PageLink, PageLoader};

/// What [`read`] found.
#[derive(Clone, Debug, PartialEq)]
pub enum Read {
    /// The head still has the tag that the caller named.
    Unchanged,
    Head {
        head: Box<Head>,
        etag: Etag,
    },
}

/// Reads and checks the head: one conditional GET. `Kind::NotFound`, with a hint, if there is no stream.
pub async fn read(store: &dyn Store, unless: Option<&Etag>) -> Result<Read> {
    let key = Key::head();
    match store.get(&key, unless).await {
        Ok(Fetched::Unchanged) => Ok(Read::Unchanged),
        Ok(Fetched::Object { bytes, etag }) => Ok(Read::Head { head: Box::new(Head::parse(&bytes)?), etag }),
        Err(e) if e.is_not_found() => Err(no_stream(store)),
        Err(e) => Err(e),
    }
}

/// That there is no head.
pub fn no_stream(store: &dyn Store) -> Error {
    Error::new(Kind::NotFound, format!("read {}/{}: there is no stream here", store.url(), Key::head()))
        .hint("make it with `tablecast stream init` at the source, or mend `store` in the config")
}

/// The store must hold the stream that the config means: what is said of another one's numbers would mislead.
pub fn check_name(name: &str, head: &Head, url: &str) -> Result<()> {
    if head.name == name {
        return Ok(());
    }
    let message = format!("read {url}: it holds the stream {:?}, the config says {name:?}", head.name);
    Err(Error::new(Kind::Usage, message).hint("mend `stream` or `store` in the config"))
}

/// Writes the head in the place of the one with the tag `expected` (`None`: the first head of a stream).
/// Where it holds too many entries, its oldest are sealed into pages first: each page is in the store before
/// a head that links to it (I1). `Kind::Conflict`: somebody else wrote meanwhile; read again and start over.
///
/// What it would write is read first, as a reader does: an index that nobody can read ends the stream for everybody.
///
/// Passes the failpoints `upload.before_page_put` and `upload.after_page_put`.
pub async fn write(store: &dyn Store, head: &mut Head, expected: Option<&Etag>) -> Result<Etag> {
    while let Some(page) = head.to_seal() {
        failpoint::hit("upload.before_page_put");
        let link = put_page(store, &page).await?;
        failpoint::hit("upload.after_page_put");
        head.seal(link)?;
    }
    head.touch();
    let bytes = head.to_json()?;
    check_readable(head, &bytes)?;
    store.swap(&Key::head(), &bytes, expected).await
}

fn check_readable(head: &Head, bytes: &[u8]) -> Result<()> {
    let unreadable = |why: &str| {
        Error::new(Kind::Failed, format!("write {}: {why}", Key::head())).hint(
            "nothing was written, and regions stand where they stood; this is an error in tablecast: report it with \
             the names and definitions of the tables that changed last",
        )
    };
    match Head::parse(bytes) {
        Ok(read) if read == *head => Ok(()),
        Ok(_) => Err(unreadable("it would be read as another than the one that is written")),
        Err(error) => Err(unreadable("nobody could read it again").caused_by(error)),
    }
}

/// Puts a page where no page is, or finds it there: a run that was killed before it could link to it, perhaps
/// one of another minor version, has sealed the same entries.
async fn put_page(store: &dyn Store, page: &Page) -> Result<PageLink> {
    let (key, bytes) = (page.key(), page.to_json()?);
    match store.create(&key, Body::Bytes(&bytes)).await {
        Ok(_) => return page.link(&bytes),
        Err(e) if e.is_conflict() => {}
        Err(e) => return Err(e),
    }
    let Fetched::Object { bytes, .. } = store.get(&key, None).await? else {
        return Err(Error::new(Kind::Store, format!("read {}/{key}: answered \"unchanged\"", store.url())));
    };
    let there = Page::parse(&key, &bytes)?;
    if (there.stream, &there.previous, &there.entries) != (page.stream, &page.previous, &page.entries) {
        return Err(Error::new(
            Kind::History,
            format!(
                "seal {}/{key}: a page with other entries is there: another upload has continued this stream \
                 from an older index.json",
                store.url()
            ),
        )
        .hint("find out which index.json is the right one; `tablecast verify` on each tells what it holds"));
    }
    there.link(&bytes)
}

#[async_trait]
impl PageLoader for dyn Store + '_ {
    async fn page(&self, stream: Uuid, link: &PageLink) -> Result<Page> {
        match self.get(&link.key, None).await? {
            Fetched::Object { bytes, .. } => Page::parse_linked(stream, link, &bytes),
            Fetched::Unchanged => Err(Error::new(
                Kind::Store,
                format!("read {}/{}: answered \"unchanged\" unasked", self.url(), link.key),
            )),
        }
    }
}
