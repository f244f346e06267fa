//! A table's rows as SQL, the same text on every server: what a dump is written from, and what a restored table is
//! compared by.
//!
//! A row is a tuple of literals, `(1,'a',NULL)`. Which columns it has, how each is selected and how it is written
//! stands in `column` and `literal`; a `TableScan` reads one `Range` of a table. A value that these literals bring
//! into a table of the same definition is read back as the same literal: that, over all rows, is the checksum. A
//! `KeyedScan` reads a piece of a table in the order of its key, and tells each row's key.
//! JSON is text on this way, and its text after one reading: a DECIMAL or a DATETIME that functions have put into a
//! JSON value comes back as the number or the string that its text is (`1.50` as `1.5`).
//!
//! Rows are read in one fixed session (`SESSION`), at the source and in a region alike.

mod checksum;
mod column;
mod key;
mod keyed;
mod literal;
mod range;
mod scan;

pub use checksum::checksum;
pub use column::{Column, ColumnKind, columns, digest};
pub use keyed::{KeyedScan, TableKey, table_key};
pub use range::{Range, Ranging, ranges};
pub use scan::TableScan;

use crate::Result;
use crate::config::MysqlConfig;
use crate::mysql::wire::Wire;

/// Nothing is converted, and yet a server that opens a partitioned table for this session reads the values of its
/// partitions as what they are, UTF-8 (`sql/sql_partition.cc`, `mysql_unpack_partition`: by collation_connection). Else it
/// has no partition for `'ä'` of a latin1 column, nor have other sessions, which find the table in its cache.
pub const NAMES: &str = "SET NAMES binary, collation_connection='utf8mb4_bin'";

/// What must be in force where rows are read. NAMES binary: nothing is converted, neither what is sent (literals
/// of range bounds say their character set) nor what comes back. The reader may be slower than the server: it
/// waits for a bucket, hence `net_write_timeout`.
pub const SESSION: &[&str] = &[
    NAMES,
    "SET character_set_results=NULL, time_zone='+00:00', sql_mode='NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES', \
     autocommit=1, completion_type='NO_CHAIN', transaction_isolation='REPEATABLE-READ', transaction_read_only=0, \
     sql_select_limit=18446744073709551615, max_execution_time=0, sql_safe_updates=0, sql_auto_is_null=0, \
     lc_messages='en_US', lc_time_names='en_US', wait_timeout=86400, net_write_timeout=86400, \
     information_schema_stats_expiry=0, session_track_gtids='OFF' \
     /*!80030 , show_gipk_in_create_table_and_information_schema=1 */",
];

/// A connection with this session in force.
pub async fn open(config: &MysqlConfig) -> Result<Wire> {
    let mut wire = Wire::connect(config).await?;
    let doing = format!("prepare a session for reading rows at {config}");
    for statement in SESSION {
        wire.query(statement.as_bytes(), &doing).await?;
    }
    Ok(wire)
}
