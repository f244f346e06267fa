//! `dumps/<id>/manifest.json`: what a dump holds, chunk by chunk. Written once, after its chunks; the entry in
//! the index carries its size and MD5, so the index vouches for every byte of a dump.
//!
//! It does not say which transaction of the stream it stands at: that is found afterwards and stands in the
//! entry ([`DumpEntry::at`](super::DumpEntry)).

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::digest::Md5;
use super::document::{self, FORMAT, Format};
use super::dump::{DumpId, RowsChecksum, check_tables};
use super::head::SchemaDefaults;
use super::keys::{Codec, Key};
use crate::binlog::gtid::GtidSet;
use crate::binlog::name::TableName;
use crate::error::{Error, Kind, Result};

/// What a dump holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The format it was written in.
    pub format: Format,
    /// The stream it belongs to.
    pub stream: Uuid,
    /// The dump's name.
    pub id: DumpId,
    /// The source's `gtid_executed` in the snapshot.
    pub snapshot: GtidSet,
    /// When the snapshot was taken: the source's clock.
    pub taken_at: DateTime<Utc>,
    /// The source's `VERSION()`.
    pub server_version: String,
    /// The version of the table set that was dumped.
    pub table_set_version: u64,
    /// Whether all base tables of that set are in it.
    pub full: bool,
    /// How long writers may have waited for the snapshot, in microseconds.
    pub pause_us: u64,
    /// The defaults of each schema in it.
    pub schemas: BTreeMap<String, SchemaDefaults>,
    /// The tables, sorted by name.
    pub tables: Vec<DumpedTable>,
    /// Tables that were asked for and were no base tables in the snapshot: a region that restores one of them drops
    /// its own. Sorted; absent if there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<TableName>,
    /// The program that wrote it, with its version.
    pub writer: String,
    /// Members of a later minor version.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// One table of a dump.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DumpedTable {
    pub table: TableName,
    /// `SHOW CREATE TABLE` in the snapshot, as it came.
    pub create_table: String,
    /// The columns whose values are in the chunks, in order: all but the generated ones.
    pub columns: Vec<String>,
    pub rows: u64,
    /// The sum of its chunks' checksums.
    pub checksum: RowsChecksum,
    /// In the order of the primary key; none if there are no rows.
    pub chunks: Vec<Chunk>,
    /// The longest statement in its chunks, in bytes.
    pub largest_statement: u64,
}

/// One object with rows of one table; see [`chunk`](super::chunk) for what is in it. At least one row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chunk {
    pub key: Key,
    /// The object's size in bytes, compressed as it is.
    pub size: u64,
    /// The object's MD5, hex.
    pub md5: Md5,
    /// Its size after decompression.
    pub raw_size: u64,
    pub codec: Codec,
    pub rows: u64,
    pub checksum: RowsChecksum,
    /// The longest statement in it, in bytes.
    pub largest_statement: u64,
}

impl Manifest {
    /// What messages call the manifest of dump `id`.
    fn what(id: &DumpId) -> String {
        Key::manifest(id).to_string()
    }

    /// The manifest of dump `id` as stored.
    pub fn parse(id: &DumpId, bytes: &[u8]) -> Result<Self> {
        let what = Self::what(id);
        let manifest: Self = document::unseal(&what, bytes)?;
        manifest.validate()?;
        if manifest.id != *id {
            return Err(Error::new(
                Kind::Corrupt,
                format!("read {what}: it is that of dump {}", manifest.id),
            ));
        }
        document::check_seal(&what, bytes)?;
        Ok(manifest)
    }

    /// The manifest as it is to be stored.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        self.validate()?;
        Ok(document::seal(self, &["tables"]))
    }

    /// The part on one table.
    pub fn table(&self, table: &TableName) -> Option<&DumpedTable> {
        let at = self.tables.binary_search_by(|dumped| dumped.table.cmp(table)).ok()?;
        Some(&self.tables[at])
    }

    /// Every table that the dump speaks about, sorted: as its entry lists them.
    pub fn speaks_about(&self) -> Vec<TableName> {
        let mut all: Vec<TableName> = self.tables.iter().map(|table| table.table.clone()).collect();
        all.extend(self.absent.iter().cloned());
        all.sort();
        all
    }

    pub fn rows(&self) -> u64 {
        total(self.tables.iter().map(|table| table.rows))
    }

    /// The rows of these tables, as far as they are in it.
    pub fn rows_of<'a>(&self, tables: impl IntoIterator<Item = &'a TableName>) -> u64 {
        total(tables.into_iter().filter_map(|name| self.table(name)).map(|table| table.rows))
    }

    /// The sum of the chunks' sizes, compressed as they are.
    pub fn bytes(&self) -> u64 {
        total(self.tables.iter().map(DumpedTable::bytes))
    }

    pub fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.tables.iter().flat_map(|table| &table.chunks)
    }

    /// What must hold in every manifest, read or to be written.
    pub fn validate(&self) -> Result<()> {
        let bad =
            |why: String| Err(Error::new(Kind::Corrupt, format!("check {}: {why}", Self::what(&self.id))));
        if self.format.major != FORMAT.major {
            return bad(format!("format {} is not {}", self.format.major, FORMAT.major));
        }
        // Table sets are numbered from 1.
        if self.table_set_version == 0 {
            return bad("the table set has version 0".into());
        }
        // At least one table, each once: there, or not there. Sorted.
        // A full dump of a set that has no tables yet is one, too.
        let all = self.speaks_about();
        if let Err(why) = check_tables(&all)
            && !(self.full && all.is_empty())
        {
            return bad(why);
        }
        if !self.tables.is_sorted_by(|a, b| a.table < b.table) || !self.absent.is_sorted() {
            return bad("tables are not sorted".into());
        }
        for (number, table) in self.tables.iter().enumerate() {
            // A table can be made only where its schema can.
            if !self.schemas.contains_key(&table.table.schema) {
                return bad(format!("no defaults of the schema of {}", table.table));
            }
            if let Err(why) = table.validate(&self.id, number) {
                return bad(format!("{}: {why}", table.table));
            }
        }
        Ok(())
    }
}

/// The sum of numbers that a bucket holds, which may be any: the largest there is, if they are more.
pub(crate) fn total(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.fold(0, u64::saturating_add)
}

impl DumpedTable {
    /// The sum of its chunks' sizes, compressed as they are.
    pub fn bytes(&self) -> u64 {
        total(self.chunks.iter().map(|chunk| chunk.size))
    }

    /// The sum of its chunks' sizes, unpacked.
    pub fn raw_bytes(&self) -> u64 {
        total(self.chunks.iter().map(|chunk| chunk.raw_size))
    }

    fn validate(&self, id: &DumpId, number: usize) -> Result<(), String> {
        if self.create_table.is_empty() {
            return Err("its definition is empty".into());
        }
        // Each column once; MySQL compares their names without regard to case, bytes are enough to be sure of a list.
        let mut seen = BTreeSet::new();
        for column in &self.columns {
            if column.is_empty() || column.chars().count() > 64 || column.contains('\0') {
                return Err(format!("no column can be called {column:?}"));
            }
            if !seen.insert(column) {
                return Err(format!("two columns {column:?}"));
            }
        }
        let (mut rows, mut checksum, mut largest) = (0u64, RowsChecksum::default(), 0);
        for (at, chunk) in self.chunks.iter().enumerate() {
            // A chunk's key says whose it is and which; none is missing and none is there twice.
            if chunk.key != Key::chunk(id, number, at, chunk.codec) {
                return Err(format!("chunk {at} has the key {}", chunk.key));
            }
            if chunk.size == 0 || chunk.rows == 0 {
                return Err(format!("chunk {} is said to be empty", chunk.key));
            }
            // Every row has at least its parentheses and what separates it from the next, and stands in a statement.
            if chunk.largest_statement == 0
                || chunk.raw_size < chunk.largest_statement
                || chunk.raw_size / 2 < chunk.rows
            {
                return Err(format!(
                    "chunk {} cannot hold {} rows in {} bytes with a statement of {}",
                    chunk.key, chunk.rows, chunk.raw_size, chunk.largest_statement
                ));
            }
            rows = rows.checked_add(chunk.rows).ok_or("too many rows")?;
            checksum += chunk.checksum;
            largest = largest.max(chunk.largest_statement);
        }
        if (rows, checksum) != (self.rows, self.checksum) {
            return Err(format!(
                "its chunks hold {rows} rows with checksum {checksum}, it says {} with {}",
                self.rows, self.checksum
            ));
        }
        if largest != self.largest_statement {
            return Err(format!(
                "the longest statement of its chunks has {largest} bytes, it says {}",
                self.largest_statement
            ));
        }
        Ok(())
    }
}
