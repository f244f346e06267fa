//! Which row did not fit. MySQL names the key of a duplicate but not that of a row that is missing, so the
//! rows of the failed transaction are looked up one after the other until one is not there.
//!
//! For a message only: whatever cannot be decoded or found leaves the message without a key.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::panic::AssertUnwindSafe;

use mysql_async::binlog::events::EventData;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Value};
use mysql_common::binlog::EventStreamReader;
use mysql_common::binlog::consts::BinlogVersion;
use mysql_common::binlog::row::BinlogRow;
use mysql_common::binlog::value::BinlogValue;

use super::{Found, Row};
use crate::binlog::event::kind;
use crate::binlog::name::{TableName, quote};
use crate::binlog::segment::Item;
use crate::region::segments::{self, Fetched};
use crate::{Error, Kind, Result, mysql};

/// No more rows are looked up: the message waits for it.
const MOST_ROWS: usize = 5_000;

/// The columns of each table's primary key: name and place in the row.
type Keys = BTreeMap<TableName, Vec<(String, usize)>>;

/// Finds the row that transaction `n` failed on, in one of these tables.
pub async fn find(
    conn: &mut Conn,
    fetched: &Fetched,
    tables: &BTreeSet<TableName>,
    n: u64,
    code: u16,
    message: &str,
) -> Found {
    let named = named_table(tables, message);
    match code {
        1032 => {}
        // "Duplicate entry '7' for key 'apps.PRIMARY'"
        1062 => {
            let key = message.split_once("entry ").map(|(_, key)| key.replacen(" for key ", " of ", 1));
            return Ok(named.map(|table| Row { table, key }));
        }
        _ => return Ok(named.map(|table| Row::of(&table))),
    }
    let places = tables.iter().filter(|table| named.as_ref().is_none_or(|named| named == *table));
    let places = places.map(|table| (table.clone(), table.clone())).collect();
    Ok(missing(conn, fetched, &places, n).await?.or(named.map(|table| Row::of(&table))))
}

/// The first row that transaction `n` wants to change and that is not there. `places`: each table, as the stream calls
/// it, with the one that its rows are to be found in here.
pub async fn missing(
    conn: &mut Conn,
    fetched: &Fetched,
    places: &BTreeMap<TableName, TableName>,
    n: u64,
) -> Found {
    let mut keys = Keys::new();
    for (table, place) in places {
        keys.insert(table.clone(), key_columns(conn, place).await?);
    }
    let rows = {
        let (fetched_file, entry, wanted) = (fetched.file.clone(), fetched.segment.clone(), keys.clone());
        let stream = fetched.stream;
        tokio::task::spawn_blocking(move || {
            // The decoder trusts its input more than we do.
            std::panic::catch_unwind(AssertUnwindSafe(|| {
                changed_rows(&fetched_file, &entry, stream, n, &wanted)
            }))
            .unwrap_or_else(|_| Err(Error::new(Kind::Corrupt, "decode the rows of the failed transaction")))
        })
        .await
        .map_err(|error| Error::new(Kind::Failed, "decode rows").caused_by(error))??
    };
    for (table, key) in rows {
        let columns = &keys[&table];
        if !is_there(conn, &places[&table], columns, &key).await? {
            let key =
                columns.iter().zip(&key).map(|((name, _), value)| format!("{name}={}", value.as_sql(false)));
            let key = key.collect::<Vec<_>>().join(", ");
            return Ok(Some(Row { table, key: Some(key) }));
        }
    }
    Ok(None)
}

/// The table that the message is about: the only one of the transaction, or the one that it names.
fn named_table(tables: &BTreeSet<TableName>, message: &str) -> Option<TableName> {
    if tables.len() == 1 {
        return tables.first().cloned();
    }
    let names = |table: &&TableName| {
        [format!("'{}'", table.table), format!("'{}.", table.table), format!("'{table}'")]
            .iter()
            .any(|name| message.contains(name.as_str()))
    };
    let mut named = tables.iter().filter(names);
    named.next().filter(|_| named.next().is_none()).cloned()
}

async fn key_columns(conn: &mut Conn, table: &TableName) -> Result<Vec<(String, usize)>> {
    const KEY: &str = include_str!("../../../sql/region/primary_key.sql");
    let columns: Vec<(String, usize)> = conn
        .exec(KEY, (&table.schema, &table.table))
        .await
        .map_err(|error| mysql::error(error, &format!("read the primary key of {table}")))?;
    Ok(columns.into_iter().map(|(name, place)| (name, place - 1)).collect())
}

async fn is_there(
    conn: &mut Conn,
    table: &TableName,
    columns: &[(String, usize)],
    key: &[Value],
) -> Result<bool> {
    let condition: Vec<String> = columns.iter().map(|(name, _)| format!("{} <=> ?", quote(name))).collect();
    let query = format!("SELECT 1 FROM {} WHERE {} LIMIT 1", table.quoted(), condition.join(" AND "));
    let found: Option<u8> = conn
        .exec_first(query, key.to_vec())
        .await
        .map_err(|error| mysql::error(error, &format!("look up a row of {table}")))?;
    Ok(found.is_some())
}

/// The primary keys that the transaction expects to be there, as far as it did not insert them itself.
fn changed_rows(
    file: &segments::Spooled,
    entry: &crate::stream::SegmentEntry,
    stream: uuid::Uuid,
    n: u64,
    keys: &Keys,
) -> Result<Vec<(TableName, Vec<Value>)>> {
    let unreadable = |error: std::io::Error| {
        Error::new(Kind::Corrupt, "decode the rows of a transaction").caused_by(error)
    };
    let mut reader = segments::open(file, entry, stream)?;
    let mut decoder = EventStreamReader::new(BinlogVersion::Version4);
    decoder.read(Cursor::new(reader.format_description().bytes())).map_err(unreadable)?;
    let (mut inside, mut made, mut wanted) = (false, BTreeSet::new(), Vec::new());
    while let Some(item) = reader.next()? {
        let event = match item {
            Item::Begin(head) => {
                inside = head.n == n;
                continue;
            }
            Item::End if inside => break,
            Item::Event(event)
                if inside && (event.kind() == kind::TABLE_MAP || kind::is_rows(event.kind())) =>
            {
                event
            }
            _ => continue,
        };
        let Some(event) = decoder.read(Cursor::new(event.bytes())).map_err(unreadable)? else { continue };
        let Some(EventData::RowsEvent(rows)) = event.read_data().map_err(unreadable)? else { continue };
        let Some(map) = decoder.get_tme(rows.table_id()) else { continue };
        let table = TableName::new(map.database_name(), map.table_name());
        let Some(columns) = keys.get(&table).filter(|columns| !columns.is_empty()) else { continue };
        for row in rows.rows(map) {
            let (before, after) = row.map_err(unreadable)?;
            let (before, after) =
                (before.and_then(|row| key(row, columns)), after.and_then(|row| key(row, columns)));
            if let Some(key) = before
                && !made.contains(&(table.clone(), text(&key)))
            {
                wanted.push((table.clone(), key));
            }
            if let Some(key) = after {
                made.insert((table.clone(), text(&key)));
            }
            if wanted.len() >= MOST_ROWS {
                return Ok(wanted);
            }
        }
    }
    Ok(wanted)
}

/// The key's values; `None` if the image does not hold all of them as plain values.
fn key(mut row: BinlogRow, columns: &[(String, usize)]) -> Option<Vec<Value>> {
    // Without names in the table map a column is called "@" and its place.
    let names: Vec<String> = row.columns_ref().iter().map(|column| column.name_str().into_owned()).collect();
    let mut values = Vec::new();
    for (name, place) in columns {
        let at = names.iter().position(|found| found == name || *found == format!("@{place}"))?;
        match row.take(at)? {
            BinlogValue::Value(value) => values.push(value),
            BinlogValue::Jsonb(_) | BinlogValue::JsonDiff(_) => return None,
        }
    }
    Some(values)
}

fn text(key: &[Value]) -> String {
    key.iter().map(|value| value.as_sql(false)).collect::<Vec<_>>().join(",")
}
