//! Online migrations in flight, as the service tells of them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::source::migrations;

/// Online migrations in flight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Migrations {
    pub stream: String,
    /// What the source has executed: everything here is measured against it.
    pub executed: String,
    /// Of that, so many transactions are not in the stream yet.
    pub not_shipped: u64,
    /// Whether an upload runs.
    pub uploading: bool,
    /// By table.
    pub migrations: Vec<Migration>,
    /// Ghost tables that no migration needs: old tables that were kept, or left behind.
    pub leftovers: Vec<String>,
    pub warnings: Vec<String>,
}

/// One migration in flight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Migration {
    #[schema(example = "g.apps")]
    pub table: String,
    /// The table that is to take its place.
    #[schema(example = "g._apps_gho")]
    pub ghost: String,
    #[schema(example = "gh-ost")]
    pub tool: String,
    /// When the ghost was made or last altered.
    pub since: Option<DateTime<Utc>>,
    /// The source's state that this is measured against.
    pub executed: String,
    pub regions: Vec<MigrationRegion>,
    /// Whether the cut-over is safe in every region that is not ignored.
    pub safe: bool,
    /// Why it is not.
    pub held_up_by: Vec<String>,
}

/// How far a region is with a migration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MigrationRegion {
    pub region: String,
    pub state: migrations::State,
    pub ignored: bool,
    pub last_tx: u64,
    /// Stream transactions that it lacks; absent if it is not known how many.
    pub behind: Option<u64>,
    pub lag_seconds: Option<u64>,
    /// When its last report came: the store's clock.
    pub received_at: DateTime<Utc>,
    /// What is in the way there.
    pub why: Option<String>,
}

impl From<&migrations::Migrations> for Migrations {
    fn from(answer: &migrations::Migrations) -> Self {
        let executed = answer.executed.to_string();
        let region = |region: &migrations::Progress| MigrationRegion {
            region: region.region.clone(),
            state: region.state,
            ignored: region.ignored,
            last_tx: region.last_tx.0,
            behind: region.behind,
            lag_seconds: region.lag_seconds,
            received_at: region.received_at,
            why: region.why.clone(),
        };
        let migration = |migration: &migrations::Migration| Migration {
            table: migration.table.to_string(),
            ghost: migration.ghost.to_string(),
            tool: migration.tool.clone(),
            since: migration.since,
            executed: executed.clone(),
            regions: migration.regions.iter().map(region).collect(),
            safe: migration.safe,
            held_up_by: migration.held_up_by.clone(),
        };
        Self {
            stream: answer.stream.clone(),
            migrations: answer.migrations.iter().map(migration).collect(),
            executed: executed.clone(),
            not_shipped: answer.not_shipped,
            uploading: answer.uploading,
            leftovers: answer.leftovers.iter().map(|left| left.table.to_string()).collect(),
            warnings: answer.warnings.clone(),
        }
    }
}
