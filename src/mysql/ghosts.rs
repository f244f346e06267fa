//! The tables that online migrations make beside a table of the set, as a server has them at the moment.
//!
//! Names are all that tells them apart: gh-ost's `_t_gho` (the new table), `_t_ghc` (its changelog) and `_t_del` (the
//! old one, or the sentry of its cut-over: github/gh-ost, go/base/context.go), pt-online-schema-change's `_t_new` and
//! `_t_old`. Only base tables that this account may see are found.

use std::fmt;

use chrono::{DateTime, NaiveDateTime, Utc};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::errors;
use crate::Result;
use crate::binlog::name::{TableName, TableSet};

/// A ghost table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ghost {
    pub table: TableName,
    /// The table of the set that it belongs to.
    pub of: TableName,
    pub part: Part,
    /// The server's clock, to the second. An ALTER makes it new; a RENAME keeps it.
    pub created_at: Option<DateTime<Utc>>,
}

/// What a ghost table is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It becomes the table at the cut-over: as long as it is there, a migration is in flight, or one was given up.
    New(Tool),
    /// gh-ost's notes.
    Changelog,
    /// The table as it was before, or a placeholder for it.
    Old,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    GhOst,
    PtOnlineSchemaChange,
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tool::GhOst => "gh-ost",
            Tool::PtOnlineSchemaChange => "pt-online-schema-change",
        })
    }
}

impl Part {
    /// By the name of a table that is known to be a ghost.
    pub fn of(name: &str) -> Part {
        match () {
            () if name.ends_with("_gho") => Part::New(Tool::GhOst),
            () if name.ends_with("_new") => Part::New(Tool::PtOnlineSchemaChange),
            () if name.ends_with("_ghc") => Part::Changelog,
            () => Part::Old,
        }
    }
}

/// The ghost tables of `set` that are there, by name.
pub async fn ghosts(conn: &mut Conn, server: &str, set: &TableSet) -> Result<Vec<Ghost>> {
    const THERE: &str = "SELECT TABLE_NAME, DATE_FORMAT(CREATE_TIME, '%Y-%m-%d %H:%i:%s') FROM information_schema.TABLES \
         WHERE TABLE_SCHEMA = ? AND TABLE_NAME LIKE '\\_%' AND TABLE_TYPE = 'BASE TABLE'";
    let doing = format!("look for ghost tables at {server}");
    let mut found = Vec::new();
    for schema in set.schemas() {
        let rows: Vec<(String, Option<String>)> =
            conn.exec(THERE, (&schema,)).await.map_err(|cause| errors::error(cause, &doing))?;
        for (name, created_at) in rows {
            let table = TableName::new(&schema, name);
            let Some(of) = set.ghost_of(&table).filter(|_| !set.names(&table)) else { continue };
            // The session's time zone is UTC.
            let created_at = created_at
                .and_then(|text| NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S").ok())
                .map(|time| time.and_utc());
            found.push(Ghost { part: Part::of(&table.table), table, of, created_at });
        }
    }
    found.sort_by(|a, b| a.table.cmp(&b.table));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_what_a_ghost_table_is_for() {
        let parts =
            ["_a_gho", "_a_ghc", "_a_del", "_a_20251121081530_del", "__a_new", "_a_old"].map(Part::of);
        let (gh_ost, pt) = (Part::New(Tool::GhOst), Part::New(Tool::PtOnlineSchemaChange));
        assert_eq!(parts, [gh_ost, Part::Changelog, Part::Old, Part::Old, pt, Part::Old]);
    }
}
