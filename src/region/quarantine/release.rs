//! `quarantine release`: somebody has mended the table by hand, and says so.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

use super::{Quarantined, Reason, list, remove};
use crate::binlog::name::TableName;
use crate::config::Config;
use crate::mysql::{self, Held, Lock};
use crate::region::apply::pass::{lock_name, region_of};
use crate::region::definitions;
use crate::{Error, Kind, Result, failpoint};

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    pub tables: Vec<TableName>,
    /// Also where changes were passed over.
    pub force: bool,
    pub dry_run: bool,
    pub lock_wait: Duration,
}

/// What was released, and what still is in quarantine.
#[derive(Clone, Debug, Serialize)]
pub struct Released {
    pub stream: String,
    pub region: String,
    pub dry_run: bool,
    pub released: Vec<Quarantined>,
    pub quarantined: Vec<Quarantined>,
}

/// Ends the quarantine of tables without a restore. Holds the apply lock; refuses a table whose changes were passed
/// over, unless forced.
pub async fn release(config: &Config, options: &Options) -> Result<Released> {
    let region = region_of(config)?;
    let lock = match options.dry_run {
        true => None,
        false => Some(Lock::acquire(&config.mysql, &lock_name(config), options.lock_wait).await?),
    };
    let mut conn = mysql::connect(&config.mysql).await?;
    let all = list(&mut conn, &config.stream).await?;
    let wanted: BTreeSet<TableName> = options.tables.iter().cloned().collect();
    for table in &wanted {
        let Some(known) = all.iter().find(|known| known.table == *table) else {
            return Err(Error::new(Kind::NotFound, format!("release {table}: it is not in quarantine"))
                .hint("`tablecast quarantine list` shows what is"));
        };
        may_be_released(known, options.force)?;
        if region.tables.names(table) && definitions::show_create(&mut conn, table).await?.is_none() {
            return Err(Error::new(Kind::Finding, format!("release {table}: this region does not have it"))
                .hint(format!("`tablecast restore {table}` brings it back with its rows")));
        }
    }
    let (released, quarantined) = all.into_iter().partition(|known| wanted.contains(&known.table));
    if let Some(mut lock) = lock {
        lock.verify().await?;
        failpoint::hit("quarantine.before_release");
        let mut transaction = conn
            .start_transaction(mysql_async::TxOpts::default())
            .await
            .map_err(|error| mysql::error(error, "release tables"))?;
        remove(&mut transaction, &config.stream, &wanted).await?;
        transaction.commit().await.map_err(|error| mysql::error(error, "release tables"))?;
        lock.release().await?;
    }
    let (stream, region) = (config.stream.clone(), region.name.clone());
    Ok(Released { stream, region, dry_run: options.dry_run, released, quarantined })
}

fn may_be_released(known: &Quarantined, force: bool) -> Result<()> {
    let Quarantined { table, since_tx, passed_over, reason, .. } = known;
    if *reason == Reason::Held {
        return Err(Error::new(Kind::Finding, format!("release {table}: a restore holds it"))
            .hint("let it end (`tablecast status`): it ends the quarantine by itself"));
    }
    if *passed_over == 0 || force {
        return Ok(());
    }
    Err(Error::new(
        Kind::Finding,
        format!(
            "release {table}: the changes of {passed_over} transaction{}, from {since_tx} on, were passed over, and the \
             table lacks them",
            if *passed_over == 1 { "" } else { "s" }
        ),
    )
    .hint(format!(
        "`tablecast restore {table}` brings it back with all of them. --force goes on without: none of them comes \
         again, rows stay different from the source's until something changes or copies them, and the next change \
         that does not fit puts the table back into quarantine. Use it only if you have copied the table's state as \
         of this region's position yourself"
    )))
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    #[test]
    fn a_table_that_missed_changes_is_released_by_force_only() {
        let at = DateTime::UNIX_EPOCH;
        let known = Quarantined::new(TableName::new("g", "t"), Reason::Definition, 7, String::new(), at);
        assert!(may_be_released(&known, false).is_ok());
        let missed = Quarantined { passed_over: 3, ..known.clone() };
        let error = may_be_released(&missed, false).unwrap_err();
        assert!(error.to_string().contains("3 transactions, from 7 on"), "{error}");
        assert!(may_be_released(&missed, true).is_ok());
        let held = Quarantined { reason: Reason::Held, ..known };
        assert!(may_be_released(&held, true).is_err());
    }
}
