//! Whether tables can travel: what `stream init` and `tables` look at before a table comes into a set.

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::binlog::name::{TableName, TableSet};
use crate::error::{Error, Kind, Result};
use crate::mysql::{self, Ghost};

/// Refuses a change in the middle of an online migration of a table that it is about: its ghost tables would travel
/// from there on, with rows and a definition that no region has, or stop half way. `verb`: "make a stream of", "add".
pub(crate) fn no_migration(
    ghosts: &[Ghost],
    server: &str,
    concerns: impl Fn(&TableName) -> bool,
    verb: &str,
) -> Result<()> {
    let Some(Ghost { table: ghost, of: table, .. }) = ghosts.iter().find(|ghost| concerns(&ghost.of)) else {
        return Ok(());
    };
    Err(Error::new(
        Kind::Usage,
        format!("{verb} {table}: {server} has {ghost}, which an online migration of it made"),
    )
    .hint(
        "let the migration end, or drop what an old one left behind (gh-ost's _gho, _ghc and _del tables, \
         pt-online-schema-change's _new and _old), and run again",
    ))
}

/// Refuses a table that cannot travel, or that is not there.
pub(crate) async fn check(conn: &mut Conn, server: &str, table: &TableName, verb: &str) -> Result<()> {
    let found: Option<(String, Option<String>)> = conn
        .exec_first(
            "SELECT TABLE_TYPE, ENGINE FROM information_schema.TABLES \
             WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?",
            (&table.schema, &table.table),
        )
        .await
        .map_err(|cause| mysql::error(cause, &format!("read information_schema.TABLES at {server}")))?;
    fit(table, found, server, verb)
}

fn fit(table: &TableName, found: Option<(String, Option<String>)>, server: &str, verb: &str) -> Result<()> {
    let refused =
        |why: String, hint: &str| Err(Error::new(Kind::Usage, format!("{verb} {table}: {why}")).hint(hint));
    match found {
        None => refused(
            format!("{server} has no such table"),
            "create it first, or correct the name (names are compared with their case), or grant this account \
             SELECT on it",
        ),
        Some((kind, _)) if kind != "BASE TABLE" => refused(
            format!("it is a {} at {server}, not a table", kind.to_lowercase()),
            "list the tables themselves",
        ),
        Some((_, Some(engine))) if engine.eq_ignore_ascii_case("InnoDB") => Ok(()),
        Some((_, engine)) => refused(
            format!("its engine at {server} is {}, not InnoDB", engine.as_deref().unwrap_or("unknown")),
            "ALTER TABLE … ENGINE=InnoDB: with another engine a transaction that is rolled back leaves its rows",
        ),
    }
}

pub(crate) async fn has_rows(conn: &mut Conn, server: &str, table: &TableName) -> Result<bool> {
    let query = format!("SELECT 1 FROM {} LIMIT 1", table.quoted());
    let failed = |cause| {
        let error = mysql::error(cause, &format!("{query} at {server}"));
        if error.kind() != Kind::Denied {
            return error;
        }
        // The plain `tablecast grants` prints what the set has, and this table is not in it yet.
        error.hint(format!(
            "`tablecast grants --table {table}` prints what the account of [mysql] lacks; with --primary, that of \
             [primary]; where the source is a binlog processor, see docs/runbooks/add-a-table.md"
        ))
    };
    let row: Option<u8> = conn.query_first(&query).await.map_err(failed)?;
    Ok(row.is_some())
}

/// A foreign key.
pub(crate) struct Key {
    pub name: String,
    pub from: TableName,
    pub to: TableName,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, from, to } = self;
        write!(f, "foreign key {name} of {from} leads to {to}, which is not in the set")
    }
}

/// Foreign keys that lead out of the set: a region cannot have them, for it does not have the other table.
pub(crate) async fn outside_keys(conn: &mut Conn, server: &str, set: &TableSet) -> Result<Vec<Key>> {
    let mut keys = keys(conn, server).await?;
    keys.retain(|key| set.names(&key.from) && !set.admits(&key.to));
    Ok(keys)
}

/// Every foreign key of the server.
pub(crate) async fn keys(conn: &mut Conn, server: &str) -> Result<Vec<Key>> {
    let doing = format!("read information_schema.KEY_COLUMN_USAGE at {server}");
    let rows: Vec<(String, String, String, String, String)> = conn
        .query(
            "SELECT DISTINCT CONSTRAINT_NAME, TABLE_SCHEMA, TABLE_NAME, REFERENCED_TABLE_SCHEMA, \
             REFERENCED_TABLE_NAME FROM information_schema.KEY_COLUMN_USAGE \
             WHERE REFERENCED_TABLE_NAME IS NOT NULL",
        )
        .await
        .map_err(|cause| mysql::error(cause, &doing))?;
    let keys = rows.into_iter().map(|(name, schema, table, to_schema, to_table)| Key {
        name,
        from: TableName::new(schema, table),
        to: TableName::new(to_schema, to_table),
    });
    Ok(keys.collect())
}
