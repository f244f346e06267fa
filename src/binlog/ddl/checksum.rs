//! The statements of pt-table-checksum (Percona Toolkit), which writes a checksum of each chunk of a table into a
//! table of its own: `REPLACE INTO percona.checksums (db, tbl, …) SELECT … FROM the table`, always as a
//! statement, so that each replica computes its own.
//!
//! The server notes the databases that such a statement reads among those that it changed. What it writes must be
//! read from the text, and that is certain only if it calls no function that could be somebody's own. Taken for
//! granted is that the table is the tool's: no view, and without triggers.

use super::cursor::Cursor;
use super::lexer::{Doubt, TokenKind, Versioned};
use super::{Statement, TableName};

/// What stands between REPLACE and SELECT (`$dml` in pt-table-checksum).
const COLUMNS: [&str; 8] =
    ["db", "tbl", "chunk", "chunk_index", "lower_boundary", "upper_boundary", "this_cnt", "this_crc"];

/// Words before a parenthesis that are keywords, or functions that the server looks for before stored ones.
const KNOWN: [&str; 37] = [
    "AND",
    "AS",
    "BETWEEN",
    "BINARY",
    "BIT_XOR",
    "CAST",
    "CHAR",
    "COALESCE",
    "CONCAT",
    "CONCAT_WS",
    "CONV",
    "CONVERT",
    "COUNT",
    "CRC32",
    "DECIMAL",
    "HEX",
    "IF",
    "IFNULL",
    "IN",
    "INDEX",
    "ISNULL",
    "LEFT",
    "LOWER",
    "LPAD",
    "MAX",
    "MD5",
    "NOT",
    "OR",
    "RIGHT",
    "ROUND",
    "SHA",
    "SHA1",
    "SUBSTRING",
    "TRIM",
    "UNIX_TIMESTAMP",
    "UPPER",
    "WHERE",
];

/// The table that the statement writes to, if it is one of pt-table-checksum's and certainly writes to no other.
pub fn checksum_table(statement: &Statement<'_>) -> Option<TableName> {
    let mut cursor = Cursor::new(statement, Versioned::Code).ok()?;
    let table = read(&mut cursor).ok()?;
    table.filter(|_| cursor.other_readings().is_empty())
}

fn read(cursor: &mut Cursor<'_>) -> Result<Option<TableName>, Doubt> {
    if !cursor.takes(&["REPLACE", "INTO"])? {
        return Ok(None);
    }
    let table = cursor.table()?;
    for (n, column) in COLUMNS.iter().enumerate() {
        if !cursor.takes_punct(if n == 0 { b'(' } else { b',' })? || !cursor.takes(&[column])? {
            return Ok(None);
        }
    }
    if !cursor.takes_punct(b')')? || !cursor.takes(&["SELECT"])? {
        return Ok(None);
    }
    while let Some(token) = cursor.next()? {
        let is_name = matches!(token.kind, TokenKind::Word | TokenKind::Name | TokenKind::Quoted);
        let is_known = KNOWN.iter().any(|known| token.is_word(known));
        if is_name && !is_known && cursor.sees_punct(b'(')? {
            return Ok(None);
        }
    }
    Ok(Some(table))
}
