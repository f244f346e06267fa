//! Changes of the table set, and regions with lists of their own.

use std::process::Output;

use tablecast::binlog::name::{TableName, TableSet};
use tablecast::clock::{Clock, SystemClock};
use tablecast::config::{self, Config};
use tablecast::region::apply;
use tablecast::store::{self, head};
use tablecast::stream::definition::normalise;
use tablecast::stream::{AddedTable, Body, TablesEntry};

pub use crate::apply::kit::{Stream, options};
pub use crate::restore::kit::{FULL, MANDATORY, SOME, assert_clean, dump, restores};
use crate::support::granted;
pub use crate::support::mysql::Server;

/// Tables in quarantine: name, reason.
pub async fn quarantined(region: &Server) -> Vec<(String, String)> {
    region.rows("SELECT table_name, reason FROM tablecast.quarantine ORDER BY 1").await
}

pub fn row(table: &str, reason: &str) -> (String, String) {
    (table.to_owned(), reason.to_owned())
}

pub fn config(stream: &Stream, region: &Server, list: &[&str]) -> Config {
    config::load(&stream.region_file(region, granted::USER, list)).unwrap()
}

/// Applies in a region with this list.
pub async fn apply_list(stream: &Stream, region: &Server, list: &[&str]) -> apply::Report {
    stream.apply_with(&config(stream, region, list), options()).await.unwrap()
}

/// `tablecast` with these arguments in a region with this list.
pub fn run_list(stream: &Stream, region: &Server, list: &[&str], args: &[&str], failpoints: &str) -> Output {
    let file = stream.region_file(region, granted::USER, list);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tablecast"));
    command.arg("--config").arg(file).args(args).env("TABLECAST_FAILPOINTS", failpoints).output().unwrap()
}

pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}

pub fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", said(output));
}

/// Ships everything, and changes the set by a transaction of its own. `added`: each with whether it holds rows.
pub async fn change_set(stream: &Stream, set: &[&str], added: &[(&str, bool)], removed: &[&str]) {
    stream.upload().await;
    stream.grant(set);
    let gtid = format!("{}:1", uuid::Uuid::new_v4());
    stream.sql(&format!("SET gtid_next = '{gtid}'; BEGIN; COMMIT; SET gtid_next = 'AUTOMATIC'")).await;
    let with_schema = |names: &[&str]| -> Vec<String> {
        names.iter().map(|name| name.replace('@', stream.schema)).collect()
    };
    let collation: String = stream
        .source
        .value(&format!(
            "SELECT DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = '{}'",
            stream.schema
        ))
        .await;
    let mut tables = Vec::new();
    for (name, has_rows) in added {
        let table = TableName::new(stream.schema, *name);
        let create_table = normalise(&stream.source.show_create(&table.quoted()).await);
        tables.push(AddedTable { table, create_table, has_rows: *has_rows, collation: collation.clone() });
    }
    tables.sort_by(|a, b| a.table.cmp(&b.table));
    let store = store::open(&stream.source_config()).await.unwrap();
    let head::Read::Head { mut head, etag } = head::read(&*store, None).await.unwrap() else {
        unreachable!("nothing was known")
    };
    // What came before it and does not travel is behind it, too.
    let mut covered_after = head.covered.clone();
    covered_after.extend(&stream.source.gtid_executed().await);
    let now = SystemClock.now();
    let change = TablesEntry {
        version: head.table_set.version + 1,
        tables: TableSet::parse(&with_schema(set)).unwrap(),
        added: tables,
        removed: with_schema(removed).iter().map(|pattern| pattern.parse().unwrap()).collect(),
        at: head.last_tx,
        source_gtid: Some(gtid.parse().unwrap()),
        covered_before: head.covered.clone(),
        covered_after,
        changed_at: now,
    };
    head.append(Body::Tables(change), now).unwrap();
    // The dumps of these tests are taken by hand.
    head.set_changed.as_mut().unwrap().owes_dump = false;
    head::write(&*store, &mut head, Some(&etag)).await.unwrap();
}

/// The last transaction of the stream.
pub async fn last_tx(stream: &Stream) -> u64 {
    let store = store::open(&stream.source_config()).await.unwrap();
    match head::read(&*store, None).await.unwrap() {
        head::Read::Head { head, .. } => head.last_tx.0,
        head::Read::Unchanged => unreachable!("nothing was known"),
    }
}

/// What the region has of a table, as text.
pub async fn all(region: &Server, stream: &Stream, table: &str) -> Vec<(u64, Option<String>)> {
    region.rows(&format!("SELECT id, v FROM {}.{table} ORDER BY id", stream.schema)).await
}

/// Asserts that these tables are as at the source.
pub async fn assert_same(stream: &Stream, region: &Server, tables: &[&str]) {
    for table in tables {
        let name = format!("{}.{table}", stream.schema);
        let held = quarantined(region).await;
        assert_eq!(
            stream.source.checksum(&name).await,
            region.checksum(&name).await,
            "{name}; in quarantine: {held:?}"
        );
        assert_eq!(
            normalise(&stream.source.show_create(&name).await),
            normalise(&region.show_create(&name).await)
        );
    }
}

pub async fn exists(region: &Server, stream: &Stream, table: &str) -> bool {
    let count: u64 = region
        .value(&format!(
            "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{}' AND TABLE_NAME = '{table}'",
            stream.schema
        ))
        .await;
    count > 0
}
