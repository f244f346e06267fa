//! Temporary tables that hide tables of the set (I3): their DDL must never reach the set's.

use tablecast::Kind;
use tablecast::binlog::filter::{Filter, Step};
use tablecast::binlog::name::TableSet;

use super::Tail;
use crate::support::mysql::Server;

/// What the filter makes of a session: how many transactions it keeps, or its refusal.
pub async fn filtered(server: &Server, statements: &str) -> tablecast::Result<usize> {
    server.sql("FLUSH BINARY LOGS").await;
    server.sql(&format!("USE g; {statements}")).await;
    let mut filter = Filter::new(TableSet::parse(&["g.apps", "g.copy"]).unwrap(), &std::env::temp_dir());
    let mut kept = 0;
    for event in Tail::open(server).await.events() {
        kept += usize::from(matches!(filter.push(event)?, Step::Kept(_)));
    }
    Ok(kept)
}

#[tokio::test]
async fn i3_ddl_on_a_temporary_table_is_not_taken_for_ddl_on_the_sets() {
    let server = Server::start(&[]);
    server.sql("CREATE DATABASE g; CREATE TABLE g.apps (a INT PRIMARY KEY)").await;
    for statement in [
        "ALTER TABLE apps ADD b INT",
        "ALTER TABLE apps RENAME TO others",
        "TRUNCATE apps",
        "CREATE INDEX i ON apps (z)",
        "DROP INDEX z ON apps",
        "CREATE TABLE copy LIKE apps",
    ] {
        let hidden = "SET binlog_format=STATEMENT; CREATE TEMPORARY TABLE apps (z INT, INDEX z (z));";
        let error = filtered(&server, &format!("{hidden} {statement}")).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Gate, "{statement}: {error:?}");
        assert!(
            error.to_string().contains("in the table set, but its session used a temporary table"),
            "{error}"
        );
        assert!(error.hint_text().unwrap().contains("binlog_format=ROW"));
        server.sql("DROP TABLE IF EXISTS g.copy").await;
    }
    // A temporary table that is made and dropped changes nothing, and in ROW none of it is logged.
    let made = "CREATE TEMPORARY TABLE apps (z INT); INSERT INTO apps VALUES (1); DROP TABLE apps";
    assert_eq!(filtered(&server, &format!("SET binlog_format=STATEMENT; {made}")).await.unwrap_or(0), 0);
    let hidden = "CREATE TEMPORARY TABLE apps (z INT); ALTER TABLE apps ADD b INT; TRUNCATE apps; CREATE TABLE copy LIKE apps";
    assert_eq!(filtered(&server, hidden).await.unwrap(), 1);
}

#[tokio::test]
async fn i3_ddl_on_the_sets_tables_travels_from_sessions_that_use_temporary_tables_of_other_names() {
    let server = Server::start(&[]);
    server.sql("CREATE DATABASE h; CREATE DATABASE g; CREATE TABLE g.apps (a INT PRIMARY KEY)").await;
    for format in ["ROW", "MIXED", "STATEMENT"] {
        let session = format!(
            "SET binlog_format={format}; CREATE TEMPORARY TABLE h.mine (z INT); INSERT INTO h.mine VALUES (1); \
             ALTER TABLE apps ADD b INT DEFAULT (CONNECTION_ID()); ALTER TABLE apps DROP b; TRUNCATE apps; \
             CREATE INDEX i ON apps (a); DROP INDEX i ON apps; RENAME TABLE apps TO copy; ALTER TABLE copy RENAME apps; \
             DROP TABLE h.mine"
        );
        assert_eq!(filtered(&server, &session).await.unwrap(), 7, "{format}");
    }
}
