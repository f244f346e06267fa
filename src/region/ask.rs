//! How a region speaks to its source: it asks for dumps and reports where it stands. Here is only what apply needs
//! of it; the HTTP client implements it, and tests do.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;

use crate::binlog::name::TableName;
use crate::error::Result;
use crate::stream::{RegionReport, RequestId, RequestState, Seq};

/// The source's service. Nothing here waits longer than a minute, and nothing that fails costs the region more
/// than the answer.
#[async_trait]
pub trait Asker: Send + Sync {
    /// Asks for a dump of these tables. The same `key` is the same request for ever, with the same tables and
    /// reason: a repetition is answered with the same job, also when that has failed. Another try takes another key.
    async fn ask(&self, tables: &BTreeSet<TableName>, reason: &str, key: &str) -> Result<Asked>;

    /// Tells where this region stands.
    async fn report(&self, report: &RegionReport) -> Result<()>;

    /// Returns as soon as the stream may have something new for who has everything up to `after`; false: nothing has come
    /// in this time, of half a minute at most.
    async fn news(&self, after: Seq, wait: Duration) -> Result<bool>;
}

/// The job that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub id: RequestId,
    pub state: RequestState,
}
