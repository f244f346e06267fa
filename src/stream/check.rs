//! What some of the source's rows were at exactly one place of the stream: the entry that regions compare their own
//! rows with, and the object that names the rows one by one.
//!
//! A region that comes to the entry stands at its `at`: every transaction up to there is in the entries before it, none
//! behind it is. It sums up the same rows of its own, and only where the sums differ does it read the object, which tells
//! which rows they are.
//!
//! Key values are text in these documents: what the server sends of them in the session that rows are read in, or, where
//! that is not plain, `0x` and its bytes in hex. A region makes literals of them by its own table's key, never SQL.

use std::fmt;
use std::io::{BufRead, Read as _, Write};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::digest::Md5;
use super::document::Format;
use super::dump::{RowsChecksum, check_tables};
use super::ids::{Seq, StreamTx};
use super::keys::{Key, KeyKind};
use crate::binlog::name::TableName;
use crate::error::{Error, Kind, Result};
use crate::hex::{bytes_from_hex, hex};
use crate::stream::manifest::total;

/// The first format with such entries: a region of an older one would stop at the first.
pub const KNOWN_SINCE: Format = Format { major: 1, minor: 4 };

/// Rows of some tables, summed up: `"kind": "check"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckEntry {
    /// The last stream transaction before it: the rows are those that it left.
    pub at: StreamTx,
    /// When they were read: the source's clock, RFC 3339, UTC.
    pub checked_at: DateTime<Utc>,
    /// What was read, sorted by table.
    pub ranges: Vec<CheckedRange>,
    /// The object that names the rows; absent if none of the tables has a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<NamesObject>,
}

/// The rows of one table between two keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedRange {
    pub table: TableName,
    /// The MD5, hex, of the columns that make up a row: whoever has others cannot compare.
    pub columns: Md5,
    /// The columns of the key that the rows are in the order of; absent if the table has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
    /// The rows behind this key; absent: from the first on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<RowKey>,
    /// The rows up to this key, its own too; absent: to the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<RowKey>,
    /// How many there are.
    pub rows: u64,
    /// Their checksum, as in a manifest.
    pub checksum: RowsChecksum,
}

/// The object that names the rows of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamesObject {
    pub key: Key,
    pub size: u64,
    pub md5: Md5,
}

/// Where the next check goes on, as the head keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// The newest check's entry; 0: none yet.
    pub seq: Seq,
    /// The first entry of the round that it belongs to, from the first table on.
    pub since: Seq,
    /// When it was taken: the clock of the machine that runs upload.
    pub at: DateTime<Utc>,
    /// How long the stream stood still for it, in milliseconds.
    pub took_ms: u64,
    /// The table that the next one begins with; absent: the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<TableName>,
    /// And the key behind which; absent: its first row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<RowKey>,
}

/// The values of a key's columns, as the server sends them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey(pub Vec<Vec<u8>>);

impl RowKey {
    fn text(value: &[u8]) -> String {
        let is_plain = |byte: &u8| (b' '..=b'~').contains(byte);
        match std::str::from_utf8(value) {
            Ok(text) if value.iter().all(is_plain) && !text.starts_with("0x") => text.to_owned(),
            _ => format!("0x{}", hex(value)),
        }
    }

    fn value(text: &str) -> Option<Vec<u8>> {
        let value = match text.strip_prefix("0x") {
            Some(digits) => bytes_from_hex(digits)?,
            None => text.as_bytes().to_vec(),
        };
        // One value has one text.
        (Self::text(&value) == text).then_some(value)
    }

    fn texts(&self) -> Vec<String> {
        self.0.iter().map(|value| Self::text(value)).collect()
    }
}

/// `7`, or `eu, 7` of a key of two columns.
impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = self.0.iter().map(|value| match std::str::from_utf8(value) {
            // People read more than ASCII.
            Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
            _ => Self::text(value),
        });
        f.write_str(&texts.collect::<Vec<_>>().join(", "))
    }
}

impl Serialize for RowKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.texts().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RowKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let values = texts.iter().map(|text| Self::value(text)).collect::<Option<Vec<_>>>();
        values
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("a key value is neither plain nor 0x and hex"))
    }
}

impl CheckEntry {
    /// What must hold in it by itself; says what does not.
    pub(super) fn validate(&self, seq: Seq) -> Result<(), String> {
        if self.at.0 > super::ids::MAX {
            return Err(format!("there is no transaction {}", self.at.0));
        }
        let tables: Vec<TableName> = self.ranges.iter().map(|range| range.table.clone()).collect();
        check_tables(&tables)?;
        for range in &self.ranges {
            // A bound has a value for each column of the key. Without a key there is but the whole table.
            let fits = |bound: &Option<RowKey>| {
                bound.as_ref().is_none_or(|bound| !range.key.is_empty() && bound.0.len() == range.key.len())
            };
            if !fits(&range.after) || !fits(&range.through) {
                return Err(format!("a bound of {} is not one of its key", range.table));
            }
        }
        let has_names = self.ranges.iter().any(|range| !range.key.is_empty());
        match &self.names {
            None if has_names => return Err("no object names the rows".into()),
            Some(_) if !has_names => return Err("rows without a key are named".into()),
            Some(names) if names.size == 0 => {
                return Err(format!("object {} is said to be empty", names.key));
            }
            // The key says which entry it belongs to.
            Some(names) if !matches!(names.key.parse(), Ok(KeyKind::Check { seq: of, .. }) if of == seq) => {
                return Err(format!("key {} is not one of this entry", names.key));
            }
            _ => {}
        }
        Ok(())
    }

    /// How many rows were read.
    pub fn rows(&self) -> u64 {
        total(self.ranges.iter().map(|range| range.rows))
    }
}

impl fmt::Display for CheckedRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = match self.key.as_slice() {
            [one] => one.clone(),
            several => format!("({})", several.join(", ")),
        };
        match (&self.after, &self.through) {
            (None, None) => write!(f, "all rows"),
            (Some(after), None) => write!(f, "{key} behind {after}"),
            (None, Some(through)) => write!(f, "{key} up to {through}"),
            (Some(after), Some(through)) => write!(f, "{key} behind {after} up to {through}"),
        }
    }
}

/// A row as the object has it: its key, and the first four bytes of its checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedRow {
    pub key: RowKey,
    pub mark: u32,
}

impl NamedRow {
    pub fn new(key: RowKey, checksum: RowsChecksum) -> Self {
        Self { key, mark: (checksum.0 >> 96) as u32 }
    }
}

/// Writes the object: a line with a table's name, then a line for each of its rows, gzip'd.
pub struct NamesWriter {
    out: flate2::write::GzEncoder<Vec<u8>>,
    is_empty: bool,
}

impl Default for NamesWriter {
    fn default() -> Self {
        let out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
        Self { out, is_empty: true }
    }
}

impl NamesWriter {
    /// The rows that follow are of this table.
    pub fn table(&mut self, table: &TableName) -> Result<()> {
        self.is_empty = false;
        self.line(&serde_json::Value::from(table.to_string()).to_string())
    }

    pub fn row(&mut self, row: &NamedRow) -> Result<()> {
        let mut line = format!("[\"{:08x}\"", row.mark);
        for text in row.key.texts() {
            line.push(',');
            line.push_str(&serde_json::Value::from(text).to_string());
        }
        line.push(']');
        self.line(&line)
    }

    fn line(&mut self, line: &str) -> Result<()> {
        let written = self.out.write_all(line.as_bytes()).and_then(|()| self.out.write_all(b"\n"));
        written.map_err(failed)
    }

    /// The object; `None` if no table was named.
    pub fn finish(self) -> Result<Option<Vec<u8>>> {
        let bytes = self.out.finish().map_err(failed)?;
        Ok((!self.is_empty).then_some(bytes))
    }
}

fn failed(cause: std::io::Error) -> Error {
    Error::new(Kind::Failed, "name the rows of a check").caused_by(cause)
}

/// Reads the object of this name, decompressed, row by row.
pub fn read_names(
    name: &str,
    mut plain: impl BufRead,
    mut row: impl FnMut(&TableName, NamedRow) -> Result<()>,
) -> Result<()> {
    let corrupt = |why: &str| Error::new(Kind::Corrupt, format!("read {name}: {why}"));
    let mut table: Option<TableName> = None;
    let mut line = String::new();
    loop {
        line.clear();
        let read = (&mut plain).take(MAX_LINE).read_line(&mut line);
        match read.map_err(|cause| corrupt("decompress").caused_by(cause))? {
            0 => return Ok(()),
            _ if !line.ends_with('\n') => return Err(corrupt("a line has no end")),
            _ if line.starts_with('"') => {
                let text: String =
                    serde_json::from_str(&line).map_err(|e| corrupt("a table's line").caused_by(e))?;
                table = Some(text.parse().map_err(|e| corrupt("a table's line").caused_by(e))?);
            }
            _ => {
                let values: Vec<String> =
                    serde_json::from_str(&line).map_err(|e| corrupt("a row's line").caused_by(e))?;
                let of = table.as_ref().ok_or_else(|| corrupt("a row stands before any table"))?;
                let mut values = values.iter();
                let mark = values.next().and_then(|mark| u32::from_str_radix(mark, 16).ok());
                let key = values.map(|text| RowKey::value(text)).collect::<Option<Vec<_>>>();
                let (Some(mark), Some(key)) = (mark, key) else {
                    return Err(corrupt("a row cannot be understood"));
                };
                row(of, NamedRow { key: RowKey(key), mark })?;
            }
        }
    }
}

/// A key has at most 3,072 bytes; in hex and quoted that is far less than this. What is told of a row has its key in it.
const MAX_LINE: u64 = 64 << 10;
