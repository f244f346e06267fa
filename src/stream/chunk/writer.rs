//! Writing a chunk, row by row.

use std::io::Write;

use super::{ChunkStats, HEADER, STATEMENT, grammar, insert_into};
use crate::binlog::name::TableName;
use crate::error::{Error, Kind, Result};
use crate::stream::dump::RowsChecksum;

/// Writes rows of one table as statements on `target`.
pub struct ChunkWriter<W> {
    out: W,
    columns: usize,
    insert: String,
    stats: ChunkStats,
    /// Bytes of the statement under way; 0: none is.
    statement: u64,
}

impl<W: Write> ChunkWriter<W> {
    /// A chunk of rows with values for `columns`, in this order.
    pub fn new(out: W, target: &TableName, columns: &[String]) -> Result<Self> {
        let insert = insert_into(target, columns);
        let stats = ChunkStats::default();
        let mut writer = Self { out, columns: columns.len(), insert, stats, statement: 0 };
        writer.put(HEADER.as_bytes())?;
        Ok(writer)
    }

    /// Adds a row, `(…)`. One that the grammar does not know is refused: a chunk that no region takes is no dump.
    pub fn row(&mut self, tuple: &[u8]) -> Result<()> {
        let refused = |at: usize, why: &str| {
            let near = &tuple[at.min(tuple.len())..tuple.len().min(at + 32)];
            Err(Error::new(
                Kind::Failed,
                format!(
                    "write row {} of a chunk: byte {at} of its text, {}: {why}",
                    self.stats.rows + 1,
                    near.escape_ascii()
                ),
            )
            .hint("this is an error in tablecast: report it with the table's definition"))
        };
        match grammar::tuple(tuple, self.columns) {
            Ok(Some(end)) if end == tuple.len() => {}
            Ok(Some(end)) => return refused(end, "something follows the row"),
            Ok(None) => return refused(tuple.len(), "the row is cut"),
            Err(bad) => return refused(bad.at, bad.why),
        }
        let length = tuple.len() as u64;
        if self.statement > 0 && self.statement + 2 + length > STATEMENT {
            self.end_statement()?;
        }
        if self.statement == 0 {
            let insert = std::mem::take(&mut self.insert);
            self.put(insert.as_bytes())?;
            self.statement = insert.len() as u64 + length;
            self.insert = insert;
        } else {
            self.put(b",\n")?;
            self.statement += 2 + length;
        }
        self.put(tuple)?;
        self.stats.rows += 1;
        self.stats.checksum += RowsChecksum::of_row(tuple);
        Ok(())
    }

    /// Bytes so far, before compression.
    pub fn raw_size(&self) -> u64 {
        self.stats.raw_size
    }

    /// Ends the chunk; gives back where it was written to, not flushed, and what was written.
    pub fn finish(mut self) -> Result<(W, ChunkStats)> {
        self.end_statement()?;
        Ok((self.out, self.stats))
    }

    fn end_statement(&mut self) -> Result<()> {
        if self.statement > 0 {
            self.stats.largest_statement = self.stats.largest_statement.max(self.statement);
            self.statement = 0;
            self.put(b";\n")?;
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.stats.raw_size += bytes.len() as u64;
        self.out
            .write_all(bytes)
            .map_err(|cause| Error::new(Kind::Failed, "write a chunk of a dump").caused_by(cause))
    }
}
