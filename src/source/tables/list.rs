//! `tables list`: the set as the stream has it, and changes that upload has not come to yet.

use serde::Serialize;
use uuid::Uuid;

use super::read_head;
use crate::binlog::name::{TableName, TablePattern, TableSet};
use crate::config::{Config, Role};
use crate::error::{Error, Result, chain, chain_and_hint};
use crate::source::set_table::{self, Version};
use crate::source::upload::as_text;
use crate::source::{moment, passed_over};
use crate::store::Store;
use crate::stream::Head;

#[derive(Clone, Debug, Serialize)]
pub struct Listing {
    pub stream: String,
    pub uuid: Uuid,
    #[serde(serialize_with = "as_text")]
    pub version: u64,
    pub tables: Vec<Listed>,
    /// Whether regions wait for a dump, because tables came in that hold rows.
    pub waits_for_dump: bool,
    /// Made on the server that is written to, and not in the stream yet.
    pub pending: Vec<Pending>,
    /// Whether upload will never come to these, because it has covered them and does not know them.
    pub passed_over: bool,
    pub warnings: Vec<String>,
}

/// One line of the set.
#[derive(Clone, Debug, Serialize)]
pub struct Listed {
    pub pattern: TablePattern,
    /// Tables that it stands for and whose definition the stream knows.
    pub known: Vec<TableName>,
    /// In a region: whether its own list lets all of it in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub let_in: Option<bool>,
}

/// A version that upload has not come to.
#[derive(Clone, Debug, Serialize)]
pub struct Pending {
    #[serde(serialize_with = "as_text")]
    pub version: u64,
    pub tables: TableSet,
    pub added: Vec<TableName>,
    pub removed: Vec<TablePattern>,
    pub changed_by: String,
    pub changed_at: String,
    pub reason: Option<String>,
}

/// Looks at the set.
pub async fn list(config: &Config, store: &dyn Store) -> Result<Listing> {
    let head = read_head(store).await?;
    let let_in = config.region.as_ref().map(|region| &region.tables);
    let tables = head.table_set.tables.patterns().map(|pattern| listed(&head, pattern, let_in)).collect();
    let mut listing = Listing {
        stream: head.name.clone(),
        uuid: head.stream,
        version: head.table_set.version,
        tables,
        waits_for_dump: crate::source::owed::owes(&head),
        pending: Vec::new(),
        passed_over: false,
        warnings: Vec::new(),
    };
    if config.role == Role::Source {
        match pending(config, &head).await {
            Ok((versions, passed_over)) => {
                listing.pending = versions.into_iter().map(Pending::from).collect();
                listing.passed_over = passed_over.is_some();
                listing.warnings.extend(passed_over.as_ref().map(chain_and_hint));
            }
            Err(error) => listing.warnings.push(format!(
                "nobody has looked for changes that upload has not come to: {}",
                chain(&error)
            )),
        }
    }
    Ok(listing)
}

/// The versions that upload has not come to, and why it never will, if so.
async fn pending(config: &Config, head: &Head) -> Result<(Vec<Version>, Option<Error>)> {
    let (mut conn, server) = set_table::writer(config).await?;
    let versions = set_table::versions(&mut conn, &server, head.stream, head.table_set.version).await?;
    let versions = versions.unwrap_or_default();
    let executed = moment::executed(&mut conn, &server).await?;
    let _ = conn.disconnect().await;
    let passed_over = passed_over::of(&versions, &server, head, &executed);
    Ok((versions, passed_over))
}

fn listed(head: &Head, pattern: &TablePattern, let_in: Option<&TableSet>) -> Listed {
    let stands_for = |table: &TableName| match pattern {
        TablePattern::Table(listed) => listed == table,
        TablePattern::Schema(schema) => *schema == table.schema,
    };
    let known =
        head.definitions.iter().map(|definition| definition.table.clone()).filter(stands_for).collect();
    let let_in = let_in.map(|set| super::has(set, pattern));
    Listed { pattern: pattern.clone(), known, let_in }
}

impl From<Version> for Pending {
    fn from(version: Version) -> Self {
        let Version { change, changed_by, changed_at, reason } = version;
        Self {
            version: change.version,
            tables: change.tables,
            added: change.added.into_iter().map(|added| added.table).collect(),
            removed: change.removed,
            changed_by,
            changed_at,
            reason,
        }
    }
}
