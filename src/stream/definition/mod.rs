//! What a table looks like at the source, so that a region that has another one is found before rows are put
//! into the wrong columns.

mod normalise;

use serde::{Deserialize, Serialize};

pub use normalise::normalise;

use super::ids::StreamTx;
use crate::binlog::name::TableName;
use crate::error::{Error, Kind, Result};

/// A table's definition as of a point in the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// The table, `"schema.table"`.
    pub table: TableName,
    /// The stream transaction of the last DDL on the table; 0: none since `stream init`.
    pub since_tx: StreamTx,
    /// `SHOW CREATE TABLE`, normalised: see [`fn@normalise`].
    pub create_table: String,
    /// Whether the table held rows when the stream was made; absent for tables made later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_at_init: Option<bool>,
}

impl Definition {
    /// What must hold when the stream has come to transaction `last`.
    pub(super) fn validate(&self, last: StreamTx) -> Result<()> {
        let bad = |why: String| {
            Err(Error::new(Kind::Corrupt, format!("check the definition of {}: {why}", self.table)))
        };
        if self.since_tx > last {
            return bad(format!("it is of transaction {}, the last is {}", self.since_tx.0, last.0));
        }
        if self.create_table.is_empty() {
            return bad("it is empty".into());
        }
        Ok(())
    }
}
