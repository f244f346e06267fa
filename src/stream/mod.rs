//! What the bucket holds: keys, entries, the index and its chain. Pure documents and their rules; no I/O.
//!
//! - [`Key`] names an object; every key is formed and parsed in one file.
//! - [`Head`] is `index.json`, the only object that is ever overwritten; [`Page`] holds older entries, sealed.
//! - [`Entry`] is one step of the stream. Its [`Chain`] value covers everything before it (I2).
//! - [`DumpEntry`] is another kind of step: rows as they were at one transaction. Its [`Manifest`] lists the
//!   objects that hold them, and [`chunk`] reads and writes these. [`TablesEntry`] is the third: the table set changed.
//!   [`CheckEntry`] is the fourth: what rows were at the source, for regions to compare their own with.
//! - [`Request`] and [`RegionReport`] are how regions and source talk to each other.
//! - [`Index`] is the two of them as a reader uses them: entries after a position, and whether the position
//!   is still part of this history.
//!
//! Nothing here is used unvalidated: each document has one `validate()` that lists its invariants, and the
//! only ways in (`parse`) and out (`to_json`) pass through it. Bytes that are damaged are `Kind::Corrupt`; a
//! sequence that was broken, cut or rewritten is `Kind::History`; what a later version wrote and this one
//! does not know is `Kind::TooNew`.

mod canonical;
pub mod chain;
pub mod check;
pub mod chunk;
pub mod definition;
pub mod digest;
pub mod document;
pub mod dump;
pub mod entry;
pub mod gap;
pub mod head;
pub mod ids;
pub mod index;
pub mod keys;
pub mod manifest;
pub mod page;
pub mod paused;
pub mod prune;
pub mod refused;
pub mod report;
pub mod request;
pub mod signature;
pub mod tables;
pub mod unpack;
mod values;

pub use chain::Chain;
pub use check::{CheckEntry, Checked, CheckedRange, NamedRow, NamesObject, RowKey};
pub use definition::Definition;
pub use digest::Md5;
pub use document::{FORMAT, Format};
pub use dump::{DumpEntry, DumpId, DumpRef, RowsChecksum};
pub use entry::{Body, Entry, SegmentEntry};
pub use gap::Gap;
pub use head::{Floor, Head, SchemaDefaults, TableSetVersion};
pub use ids::{Seq, StreamTx};
pub use index::{Index, PageLoader};
pub use keys::{Codec, Key, KeyKind};
pub use manifest::{Chunk, DumpedTable, Manifest};
pub use page::{Page, PageLink};
pub use paused::Paused;
pub use refused::Refused;
pub use report::{RegionReport, ReportedDrift, ReportedFailure, ReportedQuarantine, ReportedRestore};
pub use request::{Request, RequestId, RequestState};
pub use signature::Signature;
pub use tables::{AddedTable, SetChanged, TablesEntry};

#[cfg(test)]
pub(crate) mod tests;
