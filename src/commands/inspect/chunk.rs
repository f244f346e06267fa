//! A chunk of a dump: of which table it is, what is in it, and its rows. It is held to the same grammar as in a region.

use std::io::{Cursor, Read};

use serde_json::{Value, json};

use super::Fact;
use super::segment::Print;
use crate::commands::look;
use crate::commands::output::{Output, Page, big_numbers_as_texts};
use crate::error::{Error, Kind, Result};
use crate::stream::chunk::{self, ChunkReader, Limits};

/// The most that the beginning of a chunk needs, down to the end of the first statement's first line: 4,096 columns
/// of 64 characters.
const BEGIN: usize = 1 << 20;
const STEP: u64 = 16 << 10;

impl Print {
    /// Prints the chunk while it is read.
    pub fn chunk(&self, name: &str, size: u64, about: &[Fact], input: impl Read) -> Result<Output> {
        let failed = |cause| Error::new(Kind::Corrupt, format!("inspect {name}")).caused_by(cause);
        let mut input = input;
        let mut begin = Vec::new();
        let of = loop {
            let read = (&mut input).take(STEP).read_to_end(&mut begin).map_err(failed)?;
            match chunk::peek(&begin) {
                None if read > 0 && begin.len() < BEGIN => {}
                of => break of,
            }
        };
        let Some((target, columns)) = of else {
            return Err(Error::new(
                Kind::Corrupt,
                format!("inspect {name}: it does not begin as a chunk of a dump does, or has no rows"),
            ));
        };
        let limits = Limits { statement: 2 << 30, raw_size: u64::MAX };
        let mut reader = ChunkReader::new(Cursor::new(begin).chain(input), &target, &columns, limits)?;
        let (mut page, mut values) = (Page::new(), Vec::new());
        let mut is_read = true;
        while let Some(statement) = reader.next().map_err(|error| error.during(format!("inspect {name}")))? {
            for tuple in statement.tuples().filter(|_| self.rows) {
                let tuple = String::from_utf8_lossy(tuple);
                if self.json {
                    values.push(Value::from(tuple));
                } else if !self.quiet && is_read {
                    is_read = page.line(&tuple);
                }
            }
        }
        page.finish();
        let stats = reader.finish()?;
        let mut facts = vec![("object", format!("{name} ({})", look::size(size)))];
        facts.extend(about.iter().cloned());
        facts.extend([
            ("into", target.to_string()),
            ("columns", columns.join(", ")),
            ("rows", look::number(stats.rows)),
            (
                "raw",
                format!(
                    "{}, statements of at most {}",
                    look::size(stats.raw_size),
                    look::size(stats.largest_statement)
                ),
            ),
            ("checksum", stats.checksum.to_string()),
        ]);
        let mut json = json!({
            "object": name,
            "into": target,
            "columns": columns,
            "rows": stats.rows,
            "checksum": stats.checksum,
            "raw_size": stats.raw_size,
            "largest_statement": stats.largest_statement,
        });
        if self.rows {
            json["values"] = Value::Array(values);
        }
        Ok(Output::new(format!("{name}: sound\n{}", self.look.facts(&facts)), big_numbers_as_texts(json)))
    }
}
