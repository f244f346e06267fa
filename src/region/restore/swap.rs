//! The moment in which a restored table takes its place: one RENAME TABLE for all tables of the restore.
//!
//! Readers see the old tables or the new ones, never anything between (I8), and the new ones are at the very
//! transaction at which the region is (I5). What would be lost with the old table is carried over or is the reason
//! to refuse: the triggers of the write guard are put on the shadow; other triggers, and foreign keys of tables
//! that are not part of the restore, are listed and left alone.
//!
//! The journal says `swapping` before the RENAME; whether it has happened is told by the tables. From then on
//! there is only forward: old tables dropped, foreign keys given their names, quarantine, journal and what checks had
//! shown closed in one transaction.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::journal::{self, Restore, State, names};
use super::shape::Shape;
use crate::binlog::name::{TableName, is_own, quote};
use crate::region::checked;
use crate::region::definitions;
use crate::region::guard::{self, Dress};
use crate::region::position::{self, Position};
use crate::region::quarantine::{self, Quarantined};
use crate::region::scope::Scope;
use crate::stream::Definition;
use crate::{Error, Kind, Result, failpoint, mysql};

const TRIGGERS: &str = include_str!("../../../sql/region/triggers.sql");
const CHECKS: &str = include_str!("../../../sql/region/checks.sql");
const CONSTRAINTS: &str = include_str!("../../../sql/region/constraints.sql");

/// ER_FK_CANNOT_DROP_PARENT
const STILL_REFERRED_TO: u16 = 3730;

/// ER_LOCK_WAIT_TIMEOUT, ER_LOCK_DEADLOCK
const LOCKED: [u16; 2] = [1205, 1213];

/// What stands against a restore of these tables, as the region is now.
pub async fn hindrances(
    conn: &mut Conn,
    scope: &Scope,
    known: &[Definition],
    shapes: &[Shape],
) -> Result<Vec<String>> {
    let restored: BTreeSet<&TableName> = shapes.iter().map(|shape| &shape.table).collect();
    let mut found = BTreeSet::new();
    for shape in shapes {
        for trigger in triggers(conn, &shape.table).await? {
            if !trigger.starts_with(guard::PREFIX) {
                found.insert(format!("the trigger {} on {}", quote(&trigger), shape.table));
            }
        }
        for (child, parent) in quarantine::family(conn, scope, known, &shape.table).await?.outside_children {
            if !is_own(&child) && !restored.contains(&child) {
                found.insert(format!(
                    "a foreign key of {child}, which this region does not follow, on {parent}"
                ));
            }
        }
        let Some(definition) = &shape.definition else { continue };
        for check in &definition.named_checks {
            for owner in owners_of_check(conn, &shape.table, check).await? {
                if owner != shape.table && !is_own(&owner) {
                    found.insert(format!(
                        "the CHECK {} of {owner}, which {} needs",
                        quote(check),
                        shape.table
                    ));
                }
            }
        }
    }
    Ok(found.into_iter().collect())
}

/// The error for a restore that is refused.
pub fn refused(tables: &BTreeSet<TableName>, found: &[String]) -> Error {
    Error::new(Kind::Failed, format!("restore {}: refused, it would lose {}", names(tables), found.join("; "))).hint(
        "DROP these, let the restore happen, and make them again; a table with a foreign key on a table of the set \
         can also be put on the region's list if the source has it, too",
    )
}

/// Tables whose shadows have not got all of their CHECKs with names of their own.
pub async fn lacking_checks(conn: &mut Conn, shapes: &[Shape]) -> Result<BTreeSet<TableName>> {
    let mut found = BTreeSet::new();
    for shape in shapes {
        for check in shape.definition.iter().flat_map(|definition| &definition.named_checks) {
            if !owners_of_check(conn, &shape.table, check).await?.contains(&shape.shadow) {
                found.insert(shape.table.clone());
            }
        }
    }
    Ok(found)
}

/// CHECKs with names of their own that the tables have now: they must go before the shadows can have them.
pub async fn checks_in_the_way(conn: &mut Conn, shapes: &[Shape]) -> Result<Vec<(TableName, String)>> {
    let mut found = Vec::new();
    for shape in shapes {
        for check in shape.definition.iter().flat_map(|definition| &definition.named_checks) {
            if owners_of_check(conn, &shape.table, check).await?.contains(&shape.table) {
                found.push((shape.table.clone(), check.clone()));
            }
        }
    }
    Ok(found)
}

/// Takes them away. The tables must be in quarantine: they are no longer defined as at the source.
pub async fn drop_checks(conn: &mut Conn, checks: &[(TableName, String)]) -> Result<()> {
    // The stream waits meanwhile.
    conn.query_drop("SET lock_wait_timeout=1")
        .await
        .map_err(|error| mysql::error(error, "prepare to drop CHECKs before a restore"))?;
    for (table, check) in checks {
        let statement = format!("ALTER TABLE {} DROP CHECK {}", table.quoted(), quote(check));
        conn.query_drop(statement).await.map_err(|error| {
            mysql::error(error, &format!("drop the CHECK {check} of {table} before its restore"))
        })?;
    }
    Ok(())
}

async fn owners_of_check(conn: &mut Conn, of: &TableName, check: &str) -> Result<Vec<TableName>> {
    let rows: Vec<String> = conn
        .exec(CHECKS, (&of.schema, check))
        .await
        .map_err(|error| mysql::error(error, &format!("look for the CHECK {check}")))?;
    Ok(rows.into_iter().map(|table| TableName::new(&of.schema, table)).collect())
}

/// The names of a table's triggers.
async fn triggers(conn: &mut Conn, table: &TableName) -> Result<Vec<String>> {
    conn.exec(TRIGGERS, (&table.schema, &table.table))
        .await
        .map_err(|error| mysql::error(error, &format!("read the triggers of {table}")))
}

/// Puts the guard on the shadows as it is to be now, whatever the tables have.
async fn guard_shadows(conn: &mut Conn, dress: Option<&Dress>, shapes: &[Shape]) -> Result<()> {
    for shape in shapes.iter().filter(|shape| shape.definition.is_some()) {
        let doing = format!("guard {} as it is swapped in", shape.table);
        for trigger in triggers(conn, &shape.shadow).await? {
            let name = format!("{}.{}", quote(&shape.table.schema), quote(&trigger));
            conn.query_drop(format!("DROP TRIGGER IF EXISTS {name}"))
                .await
                .map_err(|error| mysql::error(error, &doing))?;
        }
        if let Some(dress) = dress {
            dress.put_on(conn, &shape.shadow, &shape.table).await?;
        }
    }
    Ok(())
}

/// Whether the tables have been swapped.
#[derive(Debug, PartialEq, Eq)]
pub enum Swapped {
    Done,
    /// Somebody uses the tables; who, as far as the server tells.
    Blocked(String),
}

/// Renames. The shadows must be at the region's transaction, and nothing may be applied meanwhile.
pub async fn rename(
    conn: &mut Conn,
    name: &str,
    dress: Option<&Dress>,
    restore: &mut Restore,
    shapes: &[Shape],
) -> Result<Swapped> {
    guard_shadows(conn, dress, shapes).await?;
    failpoint::hit("restore.triggers_carried");
    if let Some(why) = drop_old(conn, shapes).await? {
        return Err(Error::new(
            Kind::Failed,
            format!("swap {}: an earlier one left a table: {why}", restore.names()),
        )
        .hint("drop that foreign key, or make it again on the table that is there now"));
    }
    let mut steps = Vec::new();
    for shape in shapes {
        if definitions::show_create(conn, &shape.table).await?.is_some() {
            steps.push(format!("{} TO {}", shape.table.quoted(), shape.old.quoted()));
        }
        if shape.definition.is_some() {
            steps.push(format!("{} TO {}", shape.shadow.quoted(), shape.table.quoted()));
        }
    }
    restore.state = State::Swapping;
    journal::update(conn, restore).await?;
    failpoint::reach("restore.before_rename")?;
    if !steps.is_empty() {
        let doing = format!("swap {}", restore.names());
        let set = |seconds: u32| format!("SET lock_wait_timeout={seconds}");
        conn.query_drop(set(1)).await.map_err(|error| mysql::error(error, &doing))?;
        let renamed = conn.query_drop(format!("RENAME TABLE {}", steps.join(", "))).await;
        conn.query_drop(set(60)).await.map_err(|error| mysql::error(error, &doing))?;
        match renamed {
            Ok(()) => {}
            Err(mysql_async::Error::Server(error)) if LOCKED.contains(&error.code) => {
                restore.state = State::Loaded;
                let who = mysql::blockers(conn, &tables_of(shapes)).await;
                restore.message = Some(format!("waits for the tables: {who}"));
                journal::update(conn, restore).await?;
                return Ok(Swapped::Blocked(who));
            }
            Err(error) => return Err(mysql::error(error, &doing)),
        }
    }
    failpoint::hit("restore.after_rename");
    tracing::info!(stream = name, restore = restore.id, "swapped {}", restore.names());
    Ok(Swapped::Done)
}

fn tables_of(shapes: &[Shape]) -> Vec<&TableName> {
    shapes.iter().map(|shape| &shape.table).collect()
}

/// Whether the RENAME of a restore that was cut short has happened.
pub async fn has_happened(conn: &mut Conn, shapes: &[Shape]) -> Result<bool> {
    for shape in shapes {
        // One statement renames them all, or none.
        let (probe, is_there) = match &shape.definition {
            Some(_) => (&shape.shadow, false),
            None => (&shape.table, false),
        };
        if definitions::show_create(conn, probe).await?.is_some() != is_there {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Drops the tables that were replaced. One that a table still refers to, which this account cannot see, stays:
/// `Some` says which.
async fn drop_old(conn: &mut Conn, shapes: &[Shape]) -> Result<Option<String>> {
    const DOING: &str = "drop the tables that were replaced";
    let old: Vec<String> = shapes.iter().map(|shape| shape.old.quoted()).collect();
    // With the checks on, the server knows who refers to them.
    conn.query_drop("SET foreign_key_checks=1").await.map_err(|error| mysql::error(error, DOING))?;
    let dropped = conn.query_drop(format!("DROP TABLE IF EXISTS {}", old.join(", "))).await;
    conn.query_drop("SET foreign_key_checks=0").await.map_err(|error| mysql::error(error, DOING))?;
    match dropped {
        Ok(()) => Ok(None),
        Err(mysql_async::Error::Server(error)) if error.code == STILL_REFERRED_TO => Ok(Some(error.message)),
        Err(error) => Err(mysql::error(error, DOING)),
    }
}

/// Everything behind the RENAME. May be run again from its beginning. `strays`: tables that what comes with the dump
/// has not reached.
pub async fn finish(
    conn: &mut Conn,
    name: &str,
    restore: &mut Restore,
    shapes: &[Shape],
    place: Option<&Place>,
    strays: &[Quarantined],
    now: DateTime<Utc>,
) -> Result<()> {
    let dropped = dropped(conn, shapes).await?;
    let left = drop_old(conn, shapes).await?;
    if let Some(why) = &left {
        tracing::error!(
            stream = name,
            restore = restore.id,
            "the tables that {} replaces are kept: {why}; make that foreign key again on the table that is there now",
            restore.names()
        );
    }
    failpoint::reach("restore.old_dropped")?;
    for shape in shapes {
        mend(conn, shape).await?;
    }
    failpoint::reach("restore.keys_named")?;
    let doing = format!("record that {} is restored", restore.names());
    let failed = |error| mysql::error(error, &doing);
    restore.state = State::Done;
    restore.finished_at = Some(now);
    let left = left.map(|why| format!("the tables that were replaced are kept: {why}"));
    let said: Vec<String> = dropped.into_iter().chain(left).collect();
    restore.message = (!said.is_empty()).then(|| said.join("; "));
    conn.query_drop("START TRANSACTION").await.map_err(failed)?;
    let recorded = async {
        quarantine::remove(conn, name, &restore.tables).await?;
        quarantine::insert(conn, name, strays).await?;
        checked::restored(conn, name, &restore.tables).await?;
        match place {
            Some(Place::First(position)) => position::insert(conn, name, position).await?,
            Some(Place::Next { before, after }) => position::advance(conn, name, before, after).await?,
            None => {}
        }
        journal::update(conn, restore).await
    };
    if let Err(error) = recorded.await {
        // A connection that does not even take this ends, and the transaction with it.
        let _ = conn.query_drop("ROLLBACK").await;
        return Err(error);
    }
    failpoint::hit("restore.before_done");
    conn.query_drop("COMMIT").await.map_err(failed)?;
    failpoint::hit("restore.done");
    Ok(())
}

/// Tables that have gone with this restore, for the source has none: named, before the last of them is dropped.
async fn dropped(conn: &mut Conn, shapes: &[Shape]) -> Result<Option<String>> {
    let mut gone = Vec::new();
    for shape in shapes.iter().filter(|shape| shape.definition.is_none()) {
        if definitions::show_create(conn, &shape.old).await?.is_some() {
            gone.push(shape.table.to_string());
        }
    }
    let dropped =
        format!("dropped {}, which the source did not have when the dump was taken", gone.join(", "));
    Ok((!gone.is_empty()).then(|| {
        tracing::warn!("{dropped}");
        dropped
    }))
}

/// The position that comes with a dump.
pub enum Place {
    /// The region's first.
    First(Box<Position>),
    /// Behind the dump's entry.
    Next { before: Box<Position>, after: Box<Position> },
}

/// Gives foreign keys their own names. The tables have just become visible: whoever reads them is waited for.
async fn mend(conn: &mut Conn, shape: &Shape) -> Result<()> {
    let Some(definition) = &shape.definition else { return Ok(()) };
    let Some(statement) = definition.mend() else { return Ok(()) };
    let doing = format!("name the foreign keys of {}", shape.table);
    for attempt in 0u32.. {
        let there: Vec<String> = conn
            .exec(CONSTRAINTS, (&shape.table.schema, &shape.table.table))
            .await
            .map_err(|error| mysql::error(error, &doing))?;
        if !definition.temporary_names().iter().any(|name| there.iter().any(|found| found == name)) {
            return Ok(());
        }
        conn.query_drop("SET lock_wait_timeout=1").await.map_err(|error| mysql::error(error, &doing))?;
        let done = definitions::execute(conn, &statement).await;
        conn.query_drop("SET lock_wait_timeout=60").await.map_err(|error| mysql::error(error, &doing))?;
        match done {
            Ok(()) => return Ok(()),
            Err(mysql_async::Error::Server(error)) if LOCKED.contains(&error.code) => {
                let who = mysql::blockers(conn, &[&shape.table]).await;
                tracing::warn!("{doing}: waiting for {who}");
                tokio::time::sleep(Duration::from_millis(500 << attempt.min(4))).await;
            }
            Err(error) => return Err(mysql::error(error, &doing)),
        }
    }
    Ok(())
}
