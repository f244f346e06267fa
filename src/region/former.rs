//! `tablecast.former`: tables of this server that were let go of, by a change of the stream's set or of the region's list,
//! and stay as ordinary ones.
//!
//! Only what was once the stream's may be replaced unasked when the stream has a table of that name again. Written under
//! the lock of apply, before the quarantine of such a table ends.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, TxOpts};

use super::position::{datetime, is_missing};
use super::quarantine::{Quarantined, Reason};
use super::restore;
use crate::binlog::name::TableName;
use crate::stream::Seq;
use crate::{Error, Kind, Result, mysql};

const INSERT: &str = include_str!("../../sql/region/former_insert.sql");
/// What is known by now counts for more than a note of an earlier version.
const TAKE_OVER: &str = "INSERT INTO tablecast.former (name, table_schema, table_name, own, entry, left_at) \
    VALUES (?, ?, ?, ?, ?, ?) ON DUPLICATE KEY UPDATE own = own";
const OURS: &str = "SELECT table_schema, table_name FROM tablecast.former WHERE name = ? AND NOT own";

/// How an earlier version put it down: as a restore that is none. `?` is [`NOTE`].
const NOTES: &str = "SELECT id, name, tables, CAST(wanted_at AS CHAR) FROM tablecast.restore \
    WHERE state = 'superseded' AND message = ? ORDER BY id";
const NOTE: &str = "out of the list of tables: an ordinary table from then on";

/// Tables that have been the stream's here: let go of since, or brought by a restore, as the record of those tells.
pub async fn were_ours(conn: &mut Conn, name: &str) -> Result<BTreeSet<TableName>> {
    let mut ours = restore::brought(conn, name).await?;
    let doing = format!("read which tables were those of {name}");
    let former: Vec<(String, String)> = match conn.exec(OURS, (name,)).await {
        Ok(rows) => rows,
        Err(error) if is_missing(&error) => return Ok(ours),
        Err(error) => return Err(mysql::error(error, &doing)),
    };
    ours.extend(former.into_iter().map(|(schema, table)| TableName::new(schema, table)));
    Ok(ours)
}

/// Puts down that tables stay here as ordinary ones, and whose their rows are. `entry`: the one that lets them go.
pub async fn record(
    conn: &mut Conn,
    name: &str,
    tables: &[TableName],
    quarantined: &[Quarantined],
    entry: Seq,
    now: DateTime<Utc>,
) -> Result<()> {
    for table in tables {
        let own = quarantined.iter().any(|known| known.table == *table && known.reason == Reason::Own);
        insert(conn, INSERT, name, table, (own, entry, &datetime(now))).await?;
    }
    Ok(())
}

async fn insert(
    conn: &mut impl Queryable,
    statement: &str,
    name: &str,
    table: &TableName,
    (own, entry, left_at): (bool, Seq, &str),
) -> Result<()> {
    conn.exec_drop(statement, (name, &table.schema, &table.table, own, entry.0, left_at))
        .await
        .map_err(|error| mysql::error(error, &format!("record that {table} is an ordinary table now")))
}

/// Takes over what an earlier version has left among the restores.
pub async fn take_over(conn: &mut Conn) -> Result<()> {
    const DOING: &str = "take tables that were let go of from the record of restores";
    let wrong = |error| mysql::error(error, DOING);
    let notes: Vec<(u64, String, String, String)> = conn.exec(NOTES, (NOTE,)).await.map_err(wrong)?;
    if notes.is_empty() {
        return Ok(());
    }
    let mut transaction = conn.start_transaction(TxOpts::default()).await.map_err(wrong)?;
    for (id, name, tables, left_at) in notes {
        let tables: Vec<TableName> = serde_json::from_str(&tables).map_err(|error| {
            let message = format!("{DOING}: restore {id}: {tables:?} is no list of tables");
            Error::new(Kind::Corrupt, message).caused_by(error)
        })?;
        for table in &tables {
            insert(&mut transaction, TAKE_OVER, &name, table, (false, Seq::ZERO, &left_at)).await?;
        }
        let delete = "DELETE FROM tablecast.restore WHERE id = ?";
        transaction.exec_drop(delete, (id,)).await.map_err(wrong)?;
    }
    transaction.commit().await.map_err(wrong)
}
