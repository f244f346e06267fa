//! The rows that a check names: refused as damaged, or written as they were read.

use std::io::{BufReader, Cursor};

use tablecast::Kind;
use tablecast::stream::NamedRow;
use tablecast::stream::check::{NamesWriter, read_names};

pub fn names(data: &[u8]) {
    let mut rows = Vec::new();
    let all = read_names("checks/x", Cursor::new(data), |table, row: NamedRow| {
        rows.push((table.clone(), row));
        Ok(())
    });
    if let Err(error) = all {
        assert_eq!(error.kind(), Kind::Corrupt, "{error}");
    }
    let mut writer = NamesWriter::default();
    for (table, row) in &rows {
        writer.table(table).expect("memory");
        writer.row(row).expect("memory");
    }
    let Some(object) = writer.finish().expect("memory") else { return };
    let plain = BufReader::new(flate2::read::GzDecoder::new(Cursor::new(object)));
    let mut again = Vec::new();
    read_names("checks/x", plain, |table, row| {
        again.push((table.clone(), row));
        Ok(())
    })
    .expect("as it was written");
    assert_eq!(again, rows);
}
