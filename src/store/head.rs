//! Reading and writing the index through a store.

use async_trait::async_trait;

use super::{Etag, Store};
use crate::error::Result;
use crate::stream::{Head, PageLink, PageLoader};

/// What [`read`] found.
pub enum Read {
    /// The head still has the tag that the caller named.
    Unchanged,
    Head {
        head: Box<Head>,
        etag: Etag,
    },
}

/// Reads and checks the head: one conditional GET. `Kind::NotFound`, with a hint, if there is no stream.
pub async fn read(_store: &dyn Store, _unless: Option<&Etag>) -> Result<Read> {
    todo!()
}

/// Writes the head in the place of the one with the tag `expected` (`None`: the first head of a stream).
/// Where it holds too many entries, its oldest are sealed into a page first. `Kind::Conflict`: somebody else
/// wrote meanwhile; read again and start over.
pub async fn write(_store: &dyn Store, _head: &mut Head, _expected: Option<&Etag>) -> Result<Etag> {
    todo!()
}

#[async_trait]
impl PageLoader for dyn Store + '_ {
    async fn page(&self, _link: &PageLink) -> Result<Vec<u8>> {
        todo!()
    }
}
