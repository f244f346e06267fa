//! What a table's rows amount to, whatever their order: the number to compare two copies of a table by.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::try_join_all;

use super::{Column, Range, Ranging, TableScan, open, ranges};
use crate::Result;
use crate::binlog::name::TableName;
use crate::config::MysqlConfig;
use crate::stream::RowsChecksum;

/// How many rows `table` has, and their checksum, read over several connections. They share no snapshot: nobody may
/// write to the table meanwhile.
pub async fn checksum(
    config: &MysqlConfig,
    table: &TableName,
    columns: &[Column],
    connections: usize,
) -> Result<(u64, RowsChecksum)> {
    let connections = connections.max(1);
    let mut first = open(config).await?;
    let ranging = Ranging { connections, ..Ranging::default() };
    let ranges = Arc::new(ranges(&mut first, table, &ranging).await?);
    let next = Arc::new(AtomicUsize::new(0));
    let mut first = Some(first);
    let readers = (0..connections.min(ranges.len())).map(|_| {
        let (ranges, next, wire) = (ranges.clone(), next.clone(), first.take());
        let (config, table, columns) = (config.clone(), table.clone(), columns.to_vec());
        // A task each: hashing shall use more than one core.
        let reader = tokio::spawn(async move {
            let mut wire = match wire {
                Some(wire) => wire,
                None => open(&config).await?,
            };
            let mut sum = (0, RowsChecksum::default());
            while let Some(range) = ranges.get(next.fetch_add(1, Ordering::Relaxed)) {
                let of_range = scan(&mut wire, &table, &columns, range).await?;
                sum = (sum.0 + of_range.0, sum.1 + of_range.1);
            }
            wire.close().await;
            Ok(sum)
        });
        joined(reader)
    });
    let parts = try_join_all(readers).await?;
    Ok(parts.into_iter().fold((0, RowsChecksum::default()), |sum, part| (sum.0 + part.0, sum.1 + part.1)))
}

async fn joined<T>(task: tokio::task::JoinHandle<Result<T>>) -> Result<T> {
    let guard = AbortOnDrop(task.abort_handle());
    let result = task.await;
    drop(guard);
    match result {
        Ok(result) => result,
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        Err(e) => Err(crate::Error::new(crate::Kind::Failed, "compute a table's checksum").caused_by(e)),
    }
}

/// Whoever waits no longer, because another reader failed or the caller gave up, wants no reader left behind.
struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn scan(
    wire: &mut crate::mysql::wire::Wire,
    table: &TableName,
    columns: &[Column],
    range: &Range,
) -> Result<(u64, RowsChecksum)> {
    let mut scan = TableScan::open(wire, table, columns, range).await?;
    let mut sum = (0, RowsChecksum::default());
    while let Some(tuple) = scan.next().await? {
        sum = (sum.0 + 1, sum.1 + RowsChecksum::of_row(tuple));
    }
    Ok(sum)
}
