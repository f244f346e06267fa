//! The filter: the source's binlog in, transactions of the table set out.

use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use super::ddl::SchemaDdl;
use super::event::{Checksum, Event, FormatDescription, Header};
use super::gtid::Gtid;
use super::name::TableSet;
pub use super::transaction::Transaction;
use crate::error::Result;

pub struct Filter {
    _set: TableSet,
    _folder: PathBuf,
}

/// What an event led to.
#[derive(Debug)]
pub enum Step {
    More,
    /// The source writes another format from here on (always given before the first transaction): a segment
    /// that was begun under another one must be cut.
    Format(FormatDescription),
    /// A transaction that leaves nothing in the stream but its GTID in the covered set.
    Foreign(Foreign),
    Kept(Box<Transaction>),
}

#[derive(Debug)]
pub struct Foreign {
    pub gtid: Gtid,
    pub commit_us: u64,
    /// CREATE, ALTER or DROP DATABASE, so that upload can keep track of the schemas' defaults.
    pub schema: Option<SchemaDdl>,
}

impl Filter {
    /// `spool_dir` is where a transaction goes that does not fit in memory.
    pub fn new(set: TableSet, spool_dir: &Path) -> Filter {
        Filter { _set: set, _folder: spool_dir.to_owned() }
    }

    /// Takes the next event of the source's binlog, as it comes: artificial ones included.
    pub fn push(&mut self, _event: Event) -> Result<Step> {
        todo!()
    }

    /// Takes a TRANSACTION_PAYLOAD that is too large to hold. `body` stands behind its header and ends with its
    /// checksum, if any.
    pub fn push_payload(
        &mut self,
        _header: Header,
        _body: impl Read + Seek,
        _checksum: Checksum,
    ) -> Result<Step> {
        todo!()
    }

    pub fn is_between_transactions(&self) -> bool {
        todo!()
    }
}
