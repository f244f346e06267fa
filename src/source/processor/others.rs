//! The tables of a copy that its filters do not let in. They go before replication begins.
//!
//! CLONE brings every table of the primary. What the filters leave out would stay there as it was at that moment, and
//! nothing tells old rows from current ones: whoever widens the filters later, or renames such a table into the set,
//! would ship them as the truth. Without the table the processor stops instead, with error 1146.
//!
//! Schemas, routines, events and views stay: CREATE, ALTER and DROP of them come through table filters, and a DROP of
//! what is not there would stop the processor. A table that a foreign key of the set leads to stays as well, as old as
//! the copy: without it no row of the set's table could come in.
//!
//! Nothing of it is logged, and whatever was dropped by a run that was killed is simply not found by the next one.

use std::collections::BTreeSet;
use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::time::Instant;

use super::side::{Side, same_account};
use crate::binlog::name::{TableName, TableSet, is_system_schema};
use crate::error::{Kind, Result};
use crate::source::fitness;
use crate::source::replica_filters::Filters;
use crate::{failpoint, mysql};

const SAY_EVERY: Duration = Duration::from_secs(10);
/// Nobody works with these tables: who still reads one is told by name, and the run can be made again.
const SESSION: &str = "SET SESSION sql_log_bin = 0, foreign_key_checks = 0, lock_wait_timeout = 60";

/// Every base table that this account sees.
async fn tables(conn: &mut Conn, server: &str) -> Result<Vec<TableName>> {
    let doing = format!("read information_schema.TABLES at {server}");
    let rows: Vec<(String, String)> = conn
        .query(
            "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE' \
             ORDER BY 1, 2",
        )
        .await
        .map_err(|cause| mysql::error(cause, &doing))?;
    Ok(rows.into_iter().map(|(schema, table)| TableName::new(schema, table)).collect())
}

/// Tables of the set that the one server has and the other has not: an earlier run for a smaller set may have dropped
/// them from the copy.
pub(super) async fn missing(donor: &mut Side, copy: &mut Side, set: &TableSet) -> Result<Vec<TableName>> {
    let here: BTreeSet<TableName> = tables(&mut copy.conn, &copy.name).await?.into_iter().collect();
    let there = tables(&mut donor.conn, &donor.name).await?.into_iter();
    Ok(there.filter(|table| set.names(table) && !here.contains(table)).collect())
}

/// What is let in neither by these filters nor by the set, and is needed by nothing that is.
pub(super) async fn find(side: &mut Side, set: &TableSet, filters: &Filters) -> Result<Vec<TableName>> {
    let all = tables(&mut side.conn, &side.name).await?;
    // Ours is one of them, but for the table set, which the filters let in, it is the primary's own affair.
    let is_server_s = |schema: &str| is_system_schema(schema) && schema != "tablecast";
    let stays = |table: &TableName| is_server_s(&table.schema) || filters.lets_in(table) || set.admits(table);
    let keys = fitness::keys(&mut side.conn, &side.name).await?;
    let parents: BTreeSet<TableName> =
        keys.into_iter().filter(|key| stays(&key.from)).map(|key| key.to).collect();
    Ok(all.into_iter().filter(|table| !stays(table) && !parents.contains(table)).collect())
}

/// Which of them the donor does not have. The account of `[primary]` need not see every table there; that of `[mysql]`, which
/// is to be at the primary too, does.
pub(super) async fn strangers(donor: &mut Side, copy: &Side, others: &[TableName]) -> Result<Vec<TableName>> {
    let mut there: BTreeSet<TableName> = tables(&mut donor.conn, &donor.name).await?.into_iter().collect();
    if others.iter().all(|table| there.contains(table)) {
        return Ok(Vec::new());
    }
    match mysql::connect(&same_account(copy, donor)).await {
        Ok(mut conn) => {
            there.extend(tables(&mut conn, &donor.name).await?);
            let _ = conn.disconnect().await;
        }
        Err(error) if error.kind() == Kind::Denied => {}
        Err(error) => return Err(error),
    }
    Ok(others.iter().filter(|table| !there.contains(table)).cloned().collect())
}

/// How many tables of people's schemas this account sees, of whatever engine.
pub(super) async fn count(side: &mut Side) -> Result<u64> {
    let tables = tables(&mut side.conn, &side.name).await?;
    Ok(tables.iter().filter(|table| !is_system_schema(&table.schema)).count() as u64)
}

/// Drops them, and leaves a server behind on which nobody writes but replication. How many there were.
pub(super) async fn drop_all(side: &mut Side, set: &TableSet, filters: &Filters) -> Result<u64> {
    let tables = find(side, set, filters).await?;
    // The primary's events came along, and would write as soon as the server lets them.
    let events: Option<String> = side
        .conn
        .query_first("SELECT CAST(@@GLOBAL.event_scheduler AS CHAR)")
        .await
        .map_err(|cause| mysql::error(cause, &format!("read event_scheduler at {}", side.name)))?;
    if events.is_some_and(|events| events == "ON") {
        side.run("SET GLOBAL event_scheduler = OFF").await?;
    }
    if !tables.is_empty() {
        tracing::info!(
            "drop {} tables of {} that its filters do not let in, {} to {}",
            tables.len(),
            side.name,
            tables[0],
            tables[tables.len() - 1]
        );
        side.run("SET GLOBAL read_only = OFF").await?;
    }
    let dropped = drop_each(side, &tables).await;
    // Also behind a run that was killed when it was off, and behind an error.
    let sealed = side.run("SET GLOBAL super_read_only = ON").await;
    dropped?;
    sealed?;
    Ok(tables.len() as u64)
}

async fn drop_each(side: &Side, tables: &[TableName]) -> Result<()> {
    if tables.is_empty() {
        return Ok(());
    }
    // Its session ends with it.
    let mut conn: Conn = mysql::connect(&side.config).await?;
    let mut said = Instant::now();
    let at = |what: &str| format!("{what} at {}", side.name);
    conn.query_drop(SESSION).await.map_err(|cause| mysql::error(cause, &at(SESSION)))?;
    for (n, table) in tables.iter().enumerate() {
        let statement = format!("DROP TABLE IF EXISTS {}", table.quoted());
        conn.query_drop(&statement).await.map_err(|cause| {
            mysql::error(cause, &at(&statement))
                .hint("what is left goes when this is run again; replication has not begun")
        })?;
        failpoint::hit("processor.after_drop");
        if said.elapsed() >= SAY_EVERY {
            said = Instant::now();
            tracing::info!("dropped {} of {} tables", n + 1, tables.len());
        }
    }
    let _ = conn.disconnect().await;
    Ok(())
}
