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

/// Three tables; `a` is the one that is tampered with.
const TABLES: &str = "CREATE TABLE @.a (id INT PRIMARY KEY, v VARCHAR(40), KEY (v)); \
                      CREATE TABLE @.b (id INT PRIMARY KEY, v VARCHAR(40)); \
                      CREATE TABLE @.c (id INT PRIMARY KEY, v VARCHAR(40))";

/// A region that has applied three transactions.
pub async fn applied(schema: &'static str) -> (Stream, Server) {
    let stream = Stream::new(schema, TABLES).await;
    let region = Server::start(&[]);
    for table in ["a", "b", "c"] {
        stream.sql(&format!("INSERT INTO @.{table} VALUES (1, 'x'), (2, 'y'), (3, 'z')")).await;
    }
    stream.upload().await;
    stream.apply(&region).await.unwrap();
    stream.assert_equal(&region).await;
    (stream, region)
}

/// The same with `a` in quarantine since transaction 4, in which row 2 of it was to change and is not there.
pub async fn isolated(schema: &'static str) -> (Stream, Server) {
    let (stream, region) = applied(schema).await;
    region.sql(&format!("DELETE FROM {schema}.a WHERE id = 2")).await;
    stream.sql("UPDATE @.a SET v = 'gone' WHERE id = 2").await;
    apply(&stream, &region).await;
    assert_eq!(rows(&stream, &region).await, [row("a", "conflict", 4, 1)]);
    (stream, region)
}

/// Ships and applies what is new; the tables in quarantine then.
pub async fn apply(stream: &Stream, region: &Server) -> Vec<String> {
    stream.upload().await;
    let report = stream.apply(region).await.unwrap();
    names(&report.quarantined).into_iter().map(str::to_owned).collect()
}
