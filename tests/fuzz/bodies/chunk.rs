//! Chunks of dumps, and the names of rows that a check has read. I6: what the reader lets through is INSERTs of rows into the one table, and nothing else; rows that
//! it has read make the same chunk again.

use std::io::Cursor;

use tablecast::Kind;
use tablecast::binlog::name::TableName;
use tablecast::stream::chunk::{ChunkReader, ChunkWriter, Limits, peek};

use super::names::names;

pub fn chunk(data: &[u8]) {
    names(data);
    let (table, columns) = peek(data).unwrap_or_else(|| (TableName::new("g", "apps"), vec!["id".to_owned()]));
    let limits = Limits { statement: 1 << 16, raw_size: 1 << 20 };
    let Ok(mut reader) = ChunkReader::new(Cursor::new(data), &table, &columns, limits) else { return };
    let Ok(mut writer) = ChunkWriter::new(Vec::new(), &table, &columns) else { return };
    let begin = format!("INSERT INTO {} (", table.quoted());
    loop {
        match reader.next() {
            Ok(Some(statement)) => {
                let text = String::from_utf8_lossy(statement.text);
                assert!(text.starts_with(&begin), "{text}");
                for tuple in statement.tuples() {
                    writer.row(tuple).expect("what was read can be written");
                }
            }
            Ok(None) => break,
            Err(error) => {
                assert!([Kind::Corrupt, Kind::Gate].contains(&error.kind()), "{:?}: {error}", error.kind());
                return;
            }
        }
    }
    let read = reader.stats();
    let (_, written) = writer.finish().expect("memory");
    assert_eq!((written.rows, written.checksum), (read.rows, read.checksum));
}
