//! Who stands in the way of a metadata lock, by name.

use std::collections::BTreeSet;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::binlog::name::TableName;

const BLOCKERS: &str = include_str!("../../sql/blockers.sql");

/// The sessions that use these tables, for a message. Where nobody can be seen it says where to look.
pub async fn blockers(conn: &mut Conn, tables: &[&TableName]) -> String {
    let mut found = BTreeSet::new();
    for table in tables {
        let rows: mysql_async::Result<Vec<(u64, String, u64, String)>> =
            conn.exec(BLOCKERS, (&table.schema, &table.table)).await;
        for (id, account, seconds, statement) in rows.unwrap_or_default() {
            found.insert(format!("connection {id} of {account} uses {table} ({statement}, {seconds} s)"));
        }
    }
    match found.is_empty() {
        true => "some session has used them in a transaction that is still open \
                 (performance_schema.metadata_locks tells which)"
            .to_owned(),
        false => found.into_iter().collect::<Vec<_>>().join("; "),
    }
}
