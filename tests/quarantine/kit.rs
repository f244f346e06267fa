//! What is in quarantine, and whether the rest is as at the source.

use tablecast::region::quarantine::Quarantined;

pub use crate::apply::kit::Stream;
use crate::support::mysql::Server;

/// Tables in quarantine: name, reason, since which transaction, how many were passed over.
pub type Row = (String, String, u64, u64);

pub fn row(table: &str, reason: &str, since: u64, passed_over: u64) -> Row {
    (table.to_owned(), reason.to_owned(), since, passed_over)
}

/// The rows of `tablecast.quarantine` at a server.
pub async fn rows(stream: &Stream, server: &Server) -> Vec<Row> {
    server
        .rows(&format!(
            "SELECT table_name, reason, since_tx, passed_over FROM tablecast.quarantine WHERE name = '{}' ORDER BY 1",
            stream.schema
        ))
        .await
}

pub fn names(tables: &[Quarantined]) -> Vec<&str> {
    tables.iter().map(|known| known.table.table.as_str()).collect()
}

/// Asserts that every table but these is as at the source, and that the region has committed everything once.
pub async fn assert_others_equal(stream: &Stream, region: &Server, except: &[&str], last: u64) {
    let mut tables = stream.tables(stream.source).await;
    let mut here = stream.tables(region).await;
    for tables in [&mut tables, &mut here] {
        tables.retain(|(name, _)| !except.contains(&name.as_str()));
    }
    assert_eq!(tables, here, "tables and checksums of {}", stream.schema);
    assert_eq!(stream.executed(region).await, format!("1-{last}"));
    let done: u64 = region
        .value(&format!("SELECT last_tx FROM tablecast.position WHERE name = '{}'", stream.schema))
        .await;
    assert_eq!(done, last);
}
