//! `tablecast.table_set` on the server that is written to: every version of each stream's table set, as rows that
//! are only ever inserted (sql/source/table_set.sql).
//!
//! A stream works without the table, or without rows of its own in it: its set is then the one in the head. That is
//! so for a stream that an older version made, and for one whose account must not write at the primary.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use uuid::Uuid;

use crate::binlog::filter::SetRow;
use crate::binlog::name::{TableName, TablePattern, TableSet, quote};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::mysql;
use crate::source::{moment, replica_filters};
use crate::stream::AddedTable;

/// As SQL names it.
pub(crate) const NAME: &str = "`tablecast`.`table_set`";

const MAKE: &str = include_str!("../../sql/source/table_set.sql");

const NO_SUCH_SCHEMA: u16 = 1049;
const NO_SUCH_TABLE: u16 = 1146;

/// One version of a set, with what it took to come to it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    pub version: u64,
    /// The whole set from here on.
    pub tables: TableSet,
    pub added: Vec<AddedTable>,
    pub removed: Vec<TablePattern>,
}

/// A version as people look at it.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub change: Change,
    pub changed_by: String,
    /// UTC, the server's clock.
    pub changed_at: String,
    pub reason: Option<String>,
}

impl Change {
    /// What a row says; [`Kind::Gate`] if it cannot be understood.
    pub(crate) fn parse(row: &SetRow) -> Result<Self> {
        let version = row.version;
        let bad = |column: &str, cause: serde_json::Error| {
            Error::new(
                Kind::Gate,
                format!("read version {version} of the table set: its column {column} cannot be understood"),
            )
            .caused_by(cause)
            .hint("rows of tablecast.table_set are made by `tablecast tables`; `tablecast upload --resync` goes on behind this one")
        };
        let mut change = Self {
            version,
            tables: serde_json::from_str(&row.tables).map_err(|cause| bad("tables", cause))?,
            added: serde_json::from_str(&row.added).map_err(|cause| bad("added", cause))?,
            removed: serde_json::from_str(&row.removed).map_err(|cause| bad("removed", cause))?,
        };
        change.added.sort_by(|a, b| a.table.cmp(&b.table));
        change.removed.sort();
        Ok(change)
    }

    fn to_row(&self) -> Result<SetRow> {
        let json = |value: serde_json::Result<String>| {
            value.map_err(|cause| {
                Error::new(Kind::Failed, format!("write version {} of the table set", self.version))
                    .caused_by(cause)
            })
        };
        Ok(SetRow {
            version: self.version,
            tables: json(serde_json::to_string(&self.tables))?,
            added: json(serde_json::to_string(&self.added))?,
            removed: json(serde_json::to_string(&self.removed))?,
        })
    }
}

/// The versions behind `after`, the oldest first; `None` if the table is not there.
pub(crate) async fn versions(
    conn: &mut Conn,
    server: &str,
    stream: Uuid,
    after: u64,
) -> Result<Option<Vec<Version>>> {
    let doing = format!("read {NAME} at {server}");
    let query = format!(
        "SELECT version, tables, added, removed, COALESCE(changed_by, ''), \
         DATE_FORMAT(changed_at, '%Y-%m-%dT%H:%i:%s.%fZ'), reason FROM {NAME} \
         WHERE uuid = ? AND version > ? ORDER BY version"
    );
    let rows: Vec<Row> = match conn.exec(query, (stream.to_string(), after)).await {
        Ok(rows) => rows,
        Err(mysql_async::Error::Server(e)) if [NO_SUCH_SCHEMA, NO_SUCH_TABLE].contains(&e.code) => {
            return Ok(None);
        }
        Err(cause) => return Err(mysql::error(cause, &doing)),
    };
    let mut versions = Vec::new();
    for row in rows {
        type Columns = (u64, String, String, String, String, String, Option<String>);
        let (version, tables, added, removed, changed_by, changed_at, reason): Columns =
            mysql_async::from_row_opt(row)
                .map_err(|cause| Error::new(Kind::Mysql, doing.clone()).caused_by(cause))?;
        let change = Change::parse(&SetRow { version, tables, added, removed })
            .map_err(|error| error.during(doing.clone()))?;
        versions.push(Version { change, changed_by, changed_at, reason });
    }
    Ok(Some(versions))
}

/// The newest version's number; 0: there is none of this stream, or no such table.
pub(crate) async fn newest(conn: &mut Conn, server: &str, stream: Uuid) -> Result<u64> {
    let query = format!("SELECT CAST(COALESCE(MAX(version), 0) AS UNSIGNED) FROM {NAME} WHERE uuid = ?");
    match conn.exec_first(query, (stream.to_string(),)).await {
        Ok(newest) => Ok(newest.unwrap_or(0)),
        Err(mysql_async::Error::Server(e)) if [NO_SUCH_SCHEMA, NO_SUCH_TABLE].contains(&e.code) => Ok(0),
        Err(cause) => Err(mysql::error(cause, &format!("read {NAME} at {server}"))),
    }
}

/// A connection to the server that is written to, and what messages call it: `[primary]`, or the source where that is
/// no replica.
pub(crate) async fn writer(config: &Config) -> Result<(Conn, String)> {
    let (mysql_config, is_primary) = match &config.primary {
        Some(primary) => (primary, true),
        None => (&config.mysql, false),
    };
    let server = mysql_config.to_string();
    let mut conn = mysql::connect(mysql_config).await?;
    if !is_primary && !moment::look(&mut conn, &server).await?.channels.is_empty() {
        return Err(Error::new(
            Kind::Usage,
            format!("write to {NAME}: the source {server} is a replica, and the config does not say of which server"),
        )
        .hint("write [primary] in the config: the server that is written to; `tables` needs it"));
    }
    let read_only: Option<bool> = conn
        .query_first("SELECT @@GLOBAL.read_only OR @@GLOBAL.super_read_only")
        .await
        .map_err(|cause| mysql::error(cause, &format!("read the settings of {server}")))?;
    if read_only == Some(true) {
        let section = if is_primary { "[primary]" } else { "[mysql]" };
        return Err(Error::new(Kind::Usage, format!("write to {NAME}: {server} is read-only"))
            .hint(format!("after a failover {section} in the config must name the new primary")));
    }
    Ok((conn, server))
}

/// Refuses to make the table where that would stop a mini-replica: its filter lets the table in, and not the
/// statement that makes its schema.
pub(crate) async fn would_stop_the_source(config: &Config) -> Result<()> {
    if config.primary.is_none() {
        return Ok(());
    }
    let server = config.mysql.to_string();
    let mut conn = mysql::connect(&config.mysql).await?;
    let there: Option<u8> = conn
        .query_first("SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'tablecast'")
        .await
        .map_err(|cause| mysql::error(cause, &format!("look for the schema tablecast at {server}")))?;
    if there.is_some() || !replica_filters::lacks_schema_of(&mut conn, &server, &name()).await? {
        return Ok(());
    }
    Err(Error::new(
        Kind::Usage,
        format!("make {NAME}: the filter of {server} lets it in, and not CREATE DATABASE tablecast, so it would stop there"),
    )
    .hint("add replicate-wild-do-table = 'tablecast.%' to its filter, or CREATE DATABASE tablecast there"))
}

/// The table's name.
pub(crate) fn name() -> TableName {
    TableName::new("tablecast", "table_set")
}

/// Whether the table is there. An account without any privilege on it is told that it is not.
pub(crate) async fn exists(conn: &mut Conn, server: &str) -> Result<bool> {
    let found: Option<u8> = conn
        .query_first(
            "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'tablecast' AND TABLE_NAME = 'table_set'",
        )
        .await
        .map_err(|cause| mysql::error(cause, &format!("look for {NAME} at {server}")))?;
    Ok(found.is_some())
}

/// Makes the table where it is not there.
pub(crate) async fn make(conn: &mut Conn, server: &str) -> Result<()> {
    if exists(conn, server).await? {
        return Ok(());
    }
    let doing = format!("make {NAME} at {server}");
    let schema = format!(
        "CREATE DATABASE IF NOT EXISTS {} DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
        quote("tablecast")
    );
    for statement in [schema.as_str(), MAKE] {
        conn.query_drop(statement).await.map_err(|cause| mysql::error(cause, &doing))?;
    }
    Ok(())
}

/// Writes a version down, in a transaction of its own. `Kind::Conflict`: it is there already, from somebody else.
pub(crate) async fn insert(
    conn: &mut Conn,
    server: &str,
    (stream, name): (Uuid, &str),
    change: &Change,
    reason: Option<&str>,
) -> Result<()> {
    const DUPLICATE: u16 = 1062;
    let doing = format!("write version {} of the table set to {NAME} at {server}", change.version);
    let row = change.to_row()?;
    let query = format!(
        "INSERT INTO {NAME} (stream, uuid, version, tables, added, removed, changed_by, changed_at, reason) \
         VALUES (?, ?, ?, ?, ?, ?, USER(), UTC_TIMESTAMP(6), ?)"
    );
    let values = (name, stream.to_string(), row.version, row.tables, row.added, row.removed, reason);
    match conn.exec_drop(query, values).await {
        Ok(()) => Ok(()),
        Err(mysql_async::Error::Server(e)) if e.code == DUPLICATE => Err(Error::new(Kind::Conflict, doing)
            .hint(
                "somebody else changed the set at the same moment: `tablecast tables list`, then run again",
            )),
        Err(cause) => Err(mysql::error(cause, &doing)),
    }
}

/// Rows reach the stream only as rows: with statements in the binlog nobody would see the change.
pub(crate) async fn writes_rows(conn: &mut Conn, server: &str) -> Result<()> {
    let doing = format!("read the session's binlog settings at {server}");
    let rows: Vec<(String, String)> = conn
        .query("SHOW SESSION VARIABLES WHERE Variable_name IN ('binlog_format', 'sql_log_bin', 'log_bin')")
        .await
        .map_err(|cause| mysql::error(cause, &doing))?;
    let value = |name: &str| rows.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let logs = value("sql_log_bin") == Some("ON") && value("log_bin") == Some("ON");
    // Gone in a future MySQL, where rows are all there is.
    let format = value("binlog_format").unwrap_or("ROW").to_owned();
    if logs && format.eq_ignore_ascii_case("ROW") {
        return Ok(());
    }
    let what = match (logs, format) {
        (false, _) => "it writes no binlog".to_owned(),
        (true, format) => format!("binlog_format is {format}"),
    };
    Err(Error::new(
        Kind::Usage,
        format!("change the table set at {server}: {what}, and the stream is made of rows"),
    )
    .hint("SET PERSIST binlog_format = 'ROW' there, or mend [primary] in the config"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    fn name() -> impl Strategy<Value = String> {
        "[a-zA-Z0-9_.`*\u{e4}\u{4e2d}]{1,12}".prop_filter("a name", |name| !name.ends_with(' '))
    }

    fn pattern() -> impl Strategy<Value = TablePattern> {
        prop_oneof![
            (name(), name()).prop_map(|(schema, table)| TablePattern::Table(TableName::new(schema, table))),
            name().prop_map(TablePattern::Schema),
        ]
    }

    proptest! {
        /// I3: what one process writes into the table, another reads from the binlog.
        #[test]
        fn a_version_round_trips_through_its_row(
            version in 1..u64::MAX,
            tables in proptest::collection::btree_set(pattern(), 1..6),
            removed in proptest::collection::btree_set(pattern(), 0..4),
            added in proptest::collection::btree_map((name(), name()), (".*", any::<bool>(), "[a-z0-9_]{1,20}"), 0..4),
        ) {
            let Ok(tables) = TableSet::new(tables) else { return Ok(()) };
            let mut added: Vec<AddedTable> = added
                .into_iter()
                .map(|((schema, table), (create_table, has_rows, collation))| AddedTable {
                    table: TableName::new(schema, table), create_table, has_rows, collation,
                })
                .collect();
            added.sort_by(|a, b| a.table.cmp(&b.table));
            let change = Change { version, tables, added, removed: removed.into_iter().collect() };
            prop_assert_eq!(Change::parse(&change.to_row().expect("a row")).expect("a change"), change);
        }

        #[test]
        fn a_row_of_anything_is_refused_and_never_a_panic(tables in ".*", added in ".*", removed in ".*") {
            let row = SetRow { version: 7, tables, added, removed };
            if let Err(error) = Change::parse(&row) {
                prop_assert_eq!(error.kind(), Kind::Gate);
            }
        }
    }
}
