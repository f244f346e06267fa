//! Reading a chunk, statement by statement, none of which is given out before all of it has passed the grammar.

use std::io::{BufReader, ErrorKind, Read};

use super::{ChunkStats, HEADER, grammar, insert_into};
use crate::binlog::name::TableName;
use crate::error::{Error, Kind, Result};
use crate::stream::dump::RowsChecksum;
use crate::stream::manifest::Chunk;
use crate::stream::unpack::unpack;

/// What a chunk may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest statement, in bytes: so much memory is needed, and no more than twice that is ever taken.
    pub statement: u64,
    /// All of it, decompressed.
    pub raw_size: u64,
}

/// A whole statement, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement<'a> {
    /// `INSERT INTO … VALUES …`, without the closing `;`.
    pub text: &'a [u8],
    pub rows: u64,
    columns: usize,
    /// Where the first row begins.
    first: usize,
}

impl<'a> Statement<'a> {
    /// Its rows, each as the text from `(` to `)`.
    pub fn tuples(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (columns, mut rest) = (self.columns, &self.text[self.first..]);
        std::iter::from_fn(move || {
            let end = grammar::tuple(rest, columns).ok()??;
            let (tuple, more) = rest.split_at(end);
            rest = more.strip_prefix(b",\n").unwrap_or(more);
            Some(tuple)
        })
    }
}

/// Reads the decompressed bytes of a chunk of rows for `target`.
///
/// `Kind::Gate`: there is something in it that must not run. `Kind::Corrupt`: it is cut, or longer than it may be.
pub struct ChunkReader<R> {
    input: R,
    insert: Vec<u8>,
    columns: usize,
    limits: Limits,
    /// What it must be in the end, where that is known.
    promised: Option<ChunkStats>,
    buffer: Vec<u8>,
    /// What has been read and not been given out: this part of the buffer.
    start: usize,
    end: usize,
    at_end: bool,
    stats: ChunkStats,
}

/// Opens the chunk that a manifest describes: decompresses what `compressed` gives, holds it to the sizes that the
/// manifest says, and [`ChunkReader::finish`] to its rows and checksum.
pub fn open<R: Read + Send + 'static>(
    chunk: &Chunk,
    compressed: R,
    target: &TableName,
    columns: &[String],
) -> Result<ChunkReader<Box<dyn Read + Send>>> {
    let compressed = BufReader::with_capacity(128 << 10, compressed);
    let plain = unpack(chunk.codec, compressed)?;
    let limits = Limits { statement: chunk.largest_statement, raw_size: chunk.raw_size };
    let mut reader = ChunkReader::new(plain, target, columns, limits)?;
    reader.promised = Some(ChunkStats {
        rows: chunk.rows,
        checksum: chunk.checksum,
        raw_size: chunk.raw_size,
        largest_statement: chunk.largest_statement,
    });
    Ok(reader)
}

/// The table and the columns that the chunk which begins with `bytes` says it is of; `None` if it is no chunk, or one
/// without rows. For people who look at one: a region knows from the manifest what it must be.
pub fn peek(bytes: &[u8]) -> Option<(TableName, Vec<String>)> {
    let rest = bytes.strip_prefix(HEADER.as_bytes())?;
    let line = &rest[..rest.iter().position(|byte| *byte == b'\n')?];
    let line = str::from_utf8(line).ok()?.strip_prefix("INSERT INTO ")?.strip_suffix(") VALUES")?;
    let (schema, line) = unquote(line)?;
    let (table, line) = unquote(line.strip_prefix('.')?)?;
    let mut line = line.strip_prefix(" (")?;
    let mut columns = Vec::new();
    while !line.is_empty() {
        let (column, more) = unquote(line)?;
        columns.push(column);
        line = more.strip_prefix(',').unwrap_or(more);
    }
    Some((TableName::new(schema, table), columns))
}

/// The identifier in backquotes that `text` begins with, and what follows it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let (mut name, mut rest) = (String::new(), text.strip_prefix('`')?);
    loop {
        let (part, more) = rest.split_once('`')?;
        name.push_str(part);
        match more.strip_prefix('`') {
            Some(more) => {
                name.push('`');
                rest = more;
            }
            None => return Some((name, more)),
        }
    }
}

/// How much is read at a time, at least.
const STEP: usize = 256 << 10;

impl<R: Read> ChunkReader<R> {
    /// Reads the header.
    pub fn new(input: R, target: &TableName, columns: &[String], limits: Limits) -> Result<Self> {
        let mut reader = Self {
            input,
            insert: insert_into(target, columns).into_bytes(),
            columns: columns.len(),
            limits,
            promised: None,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            at_end: false,
            stats: ChunkStats::default(),
        };
        reader.fill(HEADER.len())?;
        if !reader.rest().starts_with(HEADER.as_bytes()) {
            return Err(reader.refused(0, "it does not begin as a chunk does"));
        }
        reader.start += HEADER.len();
        reader.stats.raw_size = HEADER.len() as u64;
        Ok(reader)
    }

    /// The next statement; `None` at the end.
    #[allow(clippy::should_implement_trait)] // it lends what it reads
    pub fn next(&mut self) -> Result<Option<Statement<'_>>> {
        let prefix = self.insert.len();
        self.fill(prefix)?;
        if self.rest().is_empty() {
            return Ok(None);
        }
        if !self.rest().starts_with(&self.insert) {
            return Err(match self.insert.starts_with(self.rest()) {
                true => self.cut(),
                false => self.refused(0, "not an INSERT into exactly this table with exactly these columns"),
            });
        }
        let (mut length, mut rows, mut checksum) = (prefix, 0, RowsChecksum::default());
        loop {
            let end = length + self.tuple(length)?;
            rows += 1;
            checksum += RowsChecksum::of_row(&self.rest()[length..end]);
            if end as u64 > self.limits.statement {
                return Err(self.too_long());
            }
            self.fill(end + 2)?;
            match &self.rest()[end..self.rest().len().min(end + 2)] {
                b",\n" => length = end + 2,
                b";\n" => {
                    length = end;
                    break;
                }
                b"" | b"," | b";" => return Err(self.cut()),
                _ => {
                    return Err(
                        self.refused(end, "a row is followed by a comma or a semicolon, and a line break")
                    );
                }
            }
        }
        let from = self.start;
        self.start += length + 2;
        self.stats.rows += rows;
        self.stats.checksum += checksum;
        self.stats.raw_size += length as u64 + 2;
        self.stats.largest_statement = self.stats.largest_statement.max(length as u64);
        let text = &self.buffer[from..from + length];
        Ok(Some(Statement { text, rows, columns: self.columns, first: prefix }))
    }

    /// Reads what is left and says what was there; `Kind::Corrupt` if it is not what the manifest says.
    pub fn finish(mut self) -> Result<ChunkStats> {
        while self.next()?.is_some() {}
        if let Some(promised) = self.promised.filter(|promised| *promised != self.stats) {
            let text = |stats: &ChunkStats| {
                format!(
                    "{} rows with checksum {} in {} bytes, the longest statement with {}",
                    stats.rows, stats.checksum, stats.raw_size, stats.largest_statement
                )
            };
            return Err(Error::new(
                Kind::Corrupt,
                format!(
                    "read a chunk: it holds {}; the manifest says {}",
                    text(&self.stats),
                    text(&promised)
                ),
            ));
        }
        Ok(self.stats)
    }

    /// What was given out so far.
    pub fn stats(&self) -> ChunkStats {
        self.stats
    }

    /// Bytes of memory that it holds.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.buffer.capacity()
    }

    /// The length of the tuple `at` bytes into what is there.
    fn tuple(&mut self, at: usize) -> Result<usize> {
        loop {
            match grammar::tuple(&self.rest()[at..], self.columns) {
                Ok(Some(length)) => return Ok(length),
                Err(bad) => return Err(self.refused(at + bad.at, bad.why)),
                Ok(None) if self.rest().len() as u64 > self.limits.statement.saturating_add(2) => {
                    return Err(self.too_long());
                }
                Ok(None) => {
                    // Twice of it next time, so that a giant row is not gone through again and again.
                    let there = self.rest().len();
                    self.fill(at + 2 * (there - at) + 1)?;
                    if self.rest().len() == there {
                        return Err(self.cut());
                    }
                }
            }
        }
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Reads until `wanted` bytes are there, or there are no more. Never more than a statement may have, and what
    /// is needed to see its end.
    fn fill(&mut self, wanted: usize) -> Result<()> {
        let most = usize::try_from(self.limits.statement).unwrap_or(usize::MAX).saturating_add(STEP);
        let wanted = wanted.min(most);
        while self.end - self.start < wanted && !self.at_end {
            if self.buffer.len() - self.start < wanted.max(self.end - self.start + 1)
                || self.end == self.buffer.len()
            {
                if self.start > 0 {
                    self.buffer.copy_within(self.start..self.end, 0);
                    (self.end, self.start) = (self.end - self.start, 0);
                }
                if self.buffer.len() < wanted.max(self.end + STEP) {
                    self.buffer.resize(wanted.max(self.end + STEP), 0);
                }
            }
            let read = match self.input.read(&mut self.buffer[self.end..]) {
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.unreadable(error)),
            };
            self.end += read;
            self.at_end = read == 0;
            // Bytes that were given out are counted in stats, the others are in the buffer.
            let seen = self.stats.raw_size + (self.end - self.start) as u64;
            if seen > self.limits.raw_size {
                return Err(Error::new(
                    Kind::Corrupt,
                    format!(
                        "read a chunk: it has more than {} bytes, which is all it may have",
                        self.limits.raw_size
                    ),
                ));
            }
        }
        Ok(())
    }

    fn refused(&self, at: usize, why: &str) -> Error {
        let rest = self.rest();
        let near = &rest[at.min(rest.len())..rest.len().min(at + 32)];
        Error::new(
            Kind::Gate,
            format!(
                "gate: refuse a chunk at byte {}, behind row {}: {}: {why}",
                self.stats.raw_size + at as u64,
                self.stats.rows,
                near.escape_ascii()
            ),
        )
        .hint("nothing from here on was run; a dump that says anything but rows was not made by tablecast, or not left as it was")
    }

    fn cut(&self) -> Error {
        let bytes = self.stats.raw_size + self.rest().len() as u64;
        Error::new(Kind::Corrupt, format!("read a chunk: it ends at byte {bytes}, within a statement"))
    }

    fn too_long(&self) -> Error {
        Error::new(
            Kind::Corrupt,
            format!(
                "read a chunk: the statement behind row {} has more than {} bytes, which is all it may have",
                self.stats.rows, self.limits.statement
            ),
        )
    }

    fn unreadable(&self, cause: std::io::Error) -> Error {
        use ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
        // What decompressors say of damaged bytes; anything else is the disk's.
        let kind = match cause.kind() {
            InvalidData | InvalidInput | Other | UnexpectedEof => Kind::Corrupt,
            _ => Kind::Failed,
        };
        Error::new(kind, format!("read a chunk: decompress behind row {}", self.stats.rows)).caused_by(cause)
    }
}
