//! Shadow tables that nobody needs any more: those of restores that were given up while they were loaded, by whatever
//! run. A restore that goes on drops its own before it begins again.

use std::collections::BTreeSet;

use mysql_async::prelude::Queryable;

use super::engine::Engine;
use super::journal::{self, Restore, State};
use crate::Result;
use crate::binlog::name::{TableName, shadow_name};
use crate::error::chain;
use crate::mysql;
use crate::region::apply::pass::Region;

/// So far back restores that were given up are looked for.
const PAST: u64 = 100;

const SHADOWS: &str = "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES \
    WHERE TABLE_NAME LIKE '\\_tablecast\\_%\\_new'";

impl Engine<'_> {
    /// Once a run, and after a restore has been given up: with nothing being loaded.
    pub(super) async fn sweep(&mut self, region: &mut Region<'_>, open: &[Restore]) -> Result<()> {
        if !self.must_sweep || self.running.is_some() {
            return Ok(());
        }
        self.must_sweep = false;
        let is_used = |state| matches!(state, State::Loading | State::Loaded | State::Swapping);
        let used: BTreeSet<&TableName> = open
            .iter()
            .filter(|restore| is_used(restore.state))
            .flat_map(|restore| &restore.tables)
            .collect();
        let past = journal::recent(region.control(), &self.config.stream, PAST).await?;
        let given_up = past.iter().filter(|restore| restore.state == State::Superseded);
        let tables = given_up.flat_map(|restore| &restore.tables).filter(|table| !used.contains(table));
        let shadows: BTreeSet<TableName> = tables.map(shadow_name).collect();
        if shadows.is_empty() {
            return Ok(());
        }
        let there: Vec<(String, String)> = region
            .control()
            .query(SHADOWS)
            .await
            .map_err(|error| mysql::error(error, "look for shadow tables that nobody needs"))?;
        let there = there.into_iter().map(|(schema, table)| TableName::new(schema, table));
        let left: Vec<String> =
            there.filter(|table| shadows.contains(table)).map(|table| table.quoted()).collect();
        if left.is_empty() {
            return Ok(());
        }
        region.verify_lock().await?;
        let dropped = async {
            let mut definer = self.definer(region).await?;
            definer
                .query_drop(format!("DROP TABLE IF EXISTS {}", left.join(", ")))
                .await
                .map_err(|error| mysql::error(error, "drop shadow tables that nobody needs"))
        };
        match dropped.await {
            Ok(()) => tracing::info!("dropped {}, of a restore that was given up", left.join(", ")),
            // They are in nobody's way: the next run tries again.
            Err(error) => tracing::warn!(error = %chain(&error), "shadow tables are left"),
        }
        Ok(())
    }
}
