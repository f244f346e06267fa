//! What a server holds, as far as it has to be equal on another.

use mysql_async::prelude::Queryable;
use mysql_async::{Row, Value};

use super::case::Table;
use crate::support::mysql::Server;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Missing(String),
    Table { definition: String, rows: u64, checksum: String },
}

impl Content {
    pub fn is_missing(&self) -> bool {
        matches!(self, Content::Missing(_))
    }
}

/// The base tables of the schemas that start with `prefix`.
pub async fn tables(server: &Server, prefix: &str) -> Vec<Table> {
    let mut conn = server.connect().await;
    let rows: Vec<(String, String)> = conn
        .query(format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE' \
             AND LEFT(TABLE_SCHEMA, {}) = '{prefix}' ORDER BY 1, 2",
            prefix.len()
        ))
        .await
        .unwrap();
    rows.into_iter().map(|(schema, name)| Table { schema, name }).collect()
}

/// What must be equal: the definition without its AUTO_INCREMENT counter, the number of rows, the checksum.
pub async fn content(server: &Server, tables: &[Table]) -> Vec<Content> {
    let mut conn = server.connect().await;
    let fixed = "SET SESSION autocommit = 1, sql_mode = '', time_zone = '+00:00', sql_quote_show_create = 1, \
                 show_gipk_in_create_table_and_information_schema = 1";
    conn.query_drop(fixed).await.unwrap();
    conn.query_drop("SET NAMES utf8mb4").await.unwrap();
    let defaults = "SELECT CHARACTER_SET_NAME, DEFAULT_COLLATE_NAME FROM information_schema.CHARACTER_SETS";
    let collations: Vec<(String, String)> = conn.query(defaults).await.unwrap();
    let mut contents = Vec::new();
    for table in tables {
        let name = table.quoted();
        let definition = match conn.query_first::<Row, _>(format!("SHOW CREATE TABLE {name}")).await {
            Ok(row) => normalised(&text(row.unwrap(), 1), &collations),
            Err(e) => {
                contents.push(Content::Missing(e.to_string()));
                continue;
            }
        };
        let rows = conn.query_first::<u64, _>(format!("SELECT COUNT(*) FROM {name}")).await.unwrap().unwrap();
        let checksum = conn.query_first::<Row, _>(format!("CHECKSUM TABLE {name}")).await.unwrap().unwrap();
        contents.push(Content::Table { definition, rows, checksum: text(checksum, 1) });
    }
    contents
}

/// All that is neither a table nor MySQL's own: views, routines, triggers, events, accounts.
pub async fn other_objects(server: &Server) -> Vec<String> {
    let mut conn = server.connect().await;
    conn.query(
        "SELECT CONCAT('view ', TABLE_SCHEMA, '.', TABLE_NAME) FROM information_schema.VIEWS \
           WHERE TABLE_SCHEMA <> 'sys' \
         UNION ALL SELECT CONCAT(ROUTINE_TYPE, ' ', ROUTINE_SCHEMA, '.', ROUTINE_NAME) \
           FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA <> 'sys' \
         UNION ALL SELECT CONCAT('trigger ', TRIGGER_SCHEMA, '.', TRIGGER_NAME) \
           FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA <> 'sys' \
         UNION ALL SELECT CONCAT('event ', EVENT_SCHEMA, '.', EVENT_NAME) FROM information_schema.EVENTS \
         UNION ALL SELECT CONCAT('account ', user, '@', host) FROM mysql.user WHERE user LIKE 'c\\_%'",
    )
    .await
    .unwrap()
}

fn text(row: Row, column: usize) -> String {
    match row.unwrap().swap_remove(column) {
        Value::NULL => "NULL".into(),
        Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        other => other.as_sql(true),
    }
}

/// Takes out what need not be equal: the AUTO_INCREMENT counter among the table's options (behind the last line that
/// starts with a parenthesis), and whether a column's character set and collation are written out where they are the
/// table's, or the collation where it is the character set's own: CREATE TABLE ... SELECT does that on a native
/// replica too.
fn normalised(create: &str, collations: &[(String, String)]) -> String {
    let options = create.rfind("\n) ").map_or(0, |at| at + 1);
    let (columns, options) = create.split_at(options);
    let mut text = match options.split_once(" AUTO_INCREMENT=") {
        // Inside a comment it would follow a quote.
        Some((before, after)) if !before.contains('\'') => {
            format!("{columns}{before}{}", after.trim_start_matches(|c: char| c.is_ascii_digit()))
        }
        _ => create.to_owned(),
    };
    let value = |key: &str| {
        let (_, rest) = options.split_once(key)?;
        rest.split_whitespace().next()
    };
    let of_table = value("DEFAULT CHARSET=").unwrap_or_default();
    for (charset, collation) in collations {
        let written = format!(" CHARACTER SET {charset} COLLATE {collation}");
        text = text.replace(&written, &format!(" CHARACTER SET {charset}"));
        if charset == of_table {
            let collation = value("COLLATE=").unwrap_or(collation);
            for written in
                [&format!(" CHARACTER SET {charset} COLLATE {collation}"), &format!(" COLLATE {collation}")]
            {
                text = text.replace(written.as_str(), "");
            }
        }
    }
    text
}
