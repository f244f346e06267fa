//! Rows as SQL: what is read from a table and loaded into an empty copy of it is the same to the last bit, and
//! ranges are a partition of the rows.

use std::collections::BTreeSet;

use mysql_async::prelude::Queryable;
use mysql_async::{Row, Value};
use tablecast::binlog::name::{TableName, quote};
use tablecast::mysql::table::{Column, Range, Ranging, TableScan, checksum, columns, open, ranges};
use tablecast::mysql::wire::Wire;
use tablecast::stream::RowsChecksum;

use crate::support::mysql::Server;

mod ranging;
mod types;

/// In which tuples are loaded, as a chunk's header sets it.
const HEADER: &str = "SET NAMES binary; SET sql_mode='NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES', time_zone='+00:00', \
    foreign_key_checks=0, unique_checks=0;\n";

pub async fn base_tables(server: &Server, schema: &str) -> Vec<TableName> {
    let query = format!(
        "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{schema}' AND \
         TABLE_TYPE = 'BASE TABLE' ORDER BY 1"
    );
    let names: Vec<String> = server.rows(&query).await;
    names.into_iter().map(|name| TableName::new(schema, name)).collect()
}

/// All tuples of a range.
async fn tuples(wire: &mut Wire, table: &TableName, columns: &[Column], range: &Range) -> Vec<Vec<u8>> {
    let mut scan = TableScan::open(wire, table, columns, range).await.expect("open a scan");
    let mut tuples = Vec::new();
    while let Some(tuple) = scan.next().await.unwrap_or_else(|e| panic!("{e:?}")) {
        tuples.push(tuple.to_vec());
    }
    tuples
}

/// Makes `h.<table>` and loads the rows into it with the mysql client.
async fn copy(server: &Server, table: &TableName) -> TableName {
    let copy = TableName::new("h", &table.table);
    server
        .sql(&format!(
            "CREATE DATABASE IF NOT EXISTS h; CREATE TABLE {} LIKE {}",
            copy.quoted(),
            table.quoted()
        ))
        .await;
    let mut wire = open(&server.config()).await.expect("connect");
    let columns = columns(&mut wire, table).await.expect("columns");
    let mut script = HEADER.as_bytes().to_vec();
    let names: Vec<String> = columns.iter().map(|column| quote(&column.name)).collect();
    for tuple in tuples(&mut wire, table, &columns, &Range::all()).await {
        let begin = format!("INSERT INTO {} ({}) VALUES\n", copy.quoted(), names.join(","));
        script.extend_from_slice(begin.as_bytes());
        script.extend_from_slice(&tuple);
        script.extend_from_slice(b";\n");
    }
    let loaded = server.client(&["--binary-mode", "--max-allowed-packet=1G"], &script);
    loaded.unwrap_or_else(|e| panic!("load {copy}: {e}"));
    copy
}

/// All rows as the binary protocol brings them, which knows no text of numbers: bit by bit, in no order.
pub async fn bit_by_bit(server: &Server, table: &TableName) -> Vec<String> {
    let mut wire = open(&server.config()).await.expect("connect");
    let columns = columns(&mut wire, table).await.expect("columns");
    let names: Vec<String> = columns.iter().map(|column| quote(&column.name)).collect();
    let list = if names.is_empty() { "1".to_owned() } else { names.join(",") };
    let mut conn = server.connect().await;
    conn.query_drop("SET NAMES utf8mb4, character_set_results = NULL, time_zone = '+00:00'")
        .await
        .expect("set");
    let rows: Vec<Row> = conn.exec(format!("SELECT {list} FROM {}", table.quoted()), ()).await.expect("rows");
    let show = |value: Value| match value {
        Value::Float(value) => format!("f{:08x}", value.to_bits()),
        Value::Double(value) => format!("d{:016x}", value.to_bits()),
        value => format!("{value:?}"),
    };
    let mut rows: Vec<String> = rows
        .into_iter()
        .map(|row| row.unwrap().into_iter().map(show).collect::<Vec<_>>().join("|"))
        .collect();
    rows.sort();
    rows
}

pub async fn summed(server: &Server, table: &TableName) -> (u64, RowsChecksum) {
    let mut wire = open(&server.config()).await.expect("connect");
    let columns = columns(&mut wire, table).await.expect("columns");
    checksum(&server.config(), table, &columns, 3).await.unwrap_or_else(|e| panic!("{table}: {e:?}"))
}

/// Loads a copy, and compares it by our checksum, by the server's, and by the values themselves.
async fn travels(server: &Server, table: &TableName) {
    let copy = copy(server, table).await;
    assert_eq!(bit_by_bit(server, &copy).await, bit_by_bit(server, table).await, "{table}");
    let theirs = server.checksum(&table.quoted()).await;
    assert_eq!(server.checksum(&copy.quoted()).await, theirs, "{table}: CHECKSUM TABLE");
    let ours = summed(server, table).await;
    assert_eq!(summed(server, &copy).await, ours, "{table}");
    let rows: u64 = server.value(&format!("SELECT COUNT(*) FROM {}", table.quoted())).await;
    assert_eq!(ours.0, rows, "{table}");
}

fn distinct(tuples: &[Vec<u8>]) -> BTreeSet<&[u8]> {
    tuples.iter().map(Vec::as_slice).collect()
}
