//! Changing the set of a stream, and looking at what came of it.

use serde_json::Value;
use tablecast::binlog::name::TablePattern;
use tablecast::stream::{Entry, TablesEntry};

use crate::upload::kit::Stream;

pub const SETUP: &str = "CREATE DATABASE g; CREATE TABLE g.apps (id INT AUTO_INCREMENT PRIMARY KEY, name TEXT); \
    CREATE TABLE g.plans (id INT AUTO_INCREMENT PRIMARY KEY, price INT, KEY (price)); \
    CREATE DATABASE private; CREATE TABLE private.t (id INT AUTO_INCREMENT PRIMARY KEY)";

/// `tablecast tables …`, which must end with this code; what it printed.
pub fn tables(stream: &Stream, args: &[&str], code: i32) -> Value {
    // As docs/tables.md says: what is granted for a table that comes in.
    if let ["add", names @ ..] = args {
        let is_name = |name: &&&str| name.parse::<TablePattern>().is_ok_and(|name| name.schema() != "mysql");
        stream.grant(&names.iter().filter(is_name).copied().collect::<Vec<_>>());
    }
    let args: Vec<&str> = ["tables"].iter().chain(args).chain(&["--json"]).copied().collect();
    let output = stream.run(&args, "");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {text}{errors}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}: {text}{errors}"))
}

/// The message of one that is refused.
pub fn refused(stream: &Stream, args: &[&str], code: i32) -> String {
    let failure = tables(stream, args, code);
    format!(
        "{} {}",
        failure["message"].as_str().unwrap_or_default(),
        failure["hint"].as_str().unwrap_or_default()
    )
}

/// The changes of the set that are in the stream, the oldest first.
pub async fn changes(stream: &Stream) -> Vec<TablesEntry> {
    stream.entries().await.iter().filter_map(Entry::tables).cloned().collect()
}

/// The kinds of all entries, in their order.
pub async fn kinds(stream: &Stream) -> Vec<&'static str> {
    stream.entries().await.iter().map(|entry| entry.body.kind()).collect()
}

pub async fn set(stream: &Stream) -> (u64, String) {
    let head = stream.head().await;
    (head.table_set.version, head.table_set.tables.to_string())
}
