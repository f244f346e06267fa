//! Online migrations in the manner of gh-ost and of pt-online-schema-change, as the statements that they send. Writers go on.

use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::servers::within;
use super::tables::Table;
use super::world::World;

/// Rows that are copied at a time: several steps for each table.
const CHUNK: u32 = 12;

/// One whole migration, which adds a column.
pub async fn run(
    world: &World,
    table: &Table,
    column: u32,
    with_triggers: bool,
    is_dropped: bool,
) -> mysql_async::Result<()> {
    let mut conn = world.primary().connect().await?;
    let waits = "SET SESSION lock_wait_timeout = 5, innodb_lock_wait_timeout = 5";
    within(conn.query_drop(waits)).await?;
    match with_triggers {
        true => by_triggers(&mut conn, table, column).await?,
        false => {
            table.note_touched(true);
            let done = by_binlog(&mut conn, table, column).await;
            table.note_touched(false);
            done?;
        }
    }
    if !is_dropped {
        // People look at the old table for a while.
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    Ok(())
}

/// What no migration leaves behind, however it ends.
pub async fn clean(world: &World, table: &Table) -> mysql_async::Result<()> {
    let mut conn = world.primary().connect().await?;
    within(conn.query_drop("SET SESSION lock_wait_timeout = 5")).await?;
    for what in ["ins", "upd", "del"] {
        let (schema, short) = (table.schema, &table.short);
        within(conn.query_drop(format!("DROP TRIGGER IF EXISTS {schema}.pt_osc_{schema}_{short}_{what}")))
            .await?;
    }
    for ghost in table.ghosts() {
        // Only what is there: a statement for nothing would be in the binlog all the same.
        let found = format!(
            "SELECT COUNT(*) FROM information_schema.TABLES WHERE CONCAT(TABLE_SCHEMA, '.', TABLE_NAME) = '{ghost}'"
        );
        if within(conn.query_first::<u64, _>(found)).await? != Some(0) {
            within(conn.query_drop(format!("DROP TABLE IF EXISTS {ghost}"))).await?;
        }
    }
    Ok(())
}

/// Columns that are written, in their order.
async fn columns(conn: &mut Conn, table: &Table) -> mysql_async::Result<Vec<String>> {
    let query = format!(
        "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = '{}' AND TABLE_NAME = '{}' \
         AND GENERATION_EXPRESSION = '' ORDER BY ORDINAL_POSITION",
        table.schema, table.short
    );
    within(conn.query(query)).await
}

/// As gh-ost: rows are copied in chunks, and what changes meanwhile is carried over one by one.
async fn by_binlog(conn: &mut Conn, table: &Table, column: u32) -> mysql_async::Result<()> {
    let (name, short, schema) = (&table.name, &table.short, table.schema);
    let [ghost, log, old] = ["gho", "ghc", "del"].map(|what| format!("{schema}._{short}_{what}"));
    let columns = columns(conn, table).await?.join(", ");
    for statement in [
        format!(
            "CREATE TABLE {log} (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, \
             last_update TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, \
             hint VARCHAR(64) CHARACTER SET ascii NOT NULL, value VARCHAR(4096) CHARACTER SET ascii NOT NULL, \
             UNIQUE KEY hint_uidx (hint)) AUTO_INCREMENT = 256 COMMENT = 'gh-ost changelog'"
        ),
        format!("CREATE TABLE {ghost} LIKE {name}"),
        format!("ALTER TABLE {ghost} ADD COLUMN c_{column} INT NULL DEFAULT {column}"),
        format!("INSERT INTO {log} (hint, value) VALUES ('state', 'GhostTableMigrated')"),
    ] {
        within(conn.query_drop(statement)).await?;
    }
    let mut from = 0;
    while from <= table.greatest_id() {
        let to = from + CHUNK;
        within(conn.query_drop(format!(
            "INSERT IGNORE INTO {ghost} ({columns}) (SELECT {columns} FROM {name} FORCE INDEX (PRIMARY) \
             WHERE id >= {from} AND id < {to} FOR SHARE)"
        )))
        .await?;
        from = to;
        carry_over(conn, table, &ghost, &columns).await?;
        within(conn.query_drop(format!(
            "INSERT INTO {log} (hint, value) VALUES ('heartbeat', 'at {from}') ON DUPLICATE KEY UPDATE value = VALUES(value)"
        )))
        .await?;
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    // The cut-over: nobody writes.
    let _gate = table.gate.write().await;
    carry_over(conn, table, &ghost, &columns).await?;
    within(conn.query_drop(format!("RENAME TABLE {name} TO {old}, {ghost} TO {name}"))).await?;
    within(conn.query_drop(format!("DROP TABLE IF EXISTS {log}"))).await
}

async fn carry_over(conn: &mut Conn, table: &Table, ghost: &str, columns: &str) -> mysql_async::Result<()> {
    for id in table.take_touched() {
        let copy =
            format!("REPLACE INTO {ghost} ({columns}) SELECT {columns} FROM {} WHERE id = {id}", table.name);
        within(conn.query_drop(copy)).await?;
        if conn.affected_rows() == 0 {
            within(conn.query_drop(format!("DELETE FROM {ghost} WHERE id = {id}"))).await?;
        }
    }
    Ok(())
}

/// As pt-online-schema-change: triggers carry over what changes.
async fn by_triggers(conn: &mut Conn, table: &Table, column: u32) -> mysql_async::Result<()> {
    let (name, short, schema) = (&table.name, &table.short, table.schema);
    let [new, old] = ["new", "old"].map(|what| format!("{schema}._{short}_{what}"));
    let columns = columns(conn, table).await?;
    let list = columns.join(", ");
    let values: Vec<String> = columns.iter().map(|column| format!("NEW.{column}")).collect();
    let values = values.join(", ");
    let trigger = |what: &str| format!("{schema}.pt_osc_{schema}_{short}_{what}");
    for statement in [
        format!("CREATE TABLE {new} LIKE {name}"),
        format!("ALTER TABLE {new} ADD COLUMN c_{column} VARCHAR(20) NULL DEFAULT 'new'"),
        format!(
            "CREATE TRIGGER {} AFTER DELETE ON {name} FOR EACH ROW DELETE IGNORE FROM {new} WHERE {new}.id <=> OLD.id",
            trigger("del")
        ),
        format!(
            "CREATE TRIGGER {} AFTER UPDATE ON {name} FOR EACH ROW BEGIN DELETE IGNORE FROM {new} WHERE \
             !(OLD.id <=> NEW.id) AND {new}.id <=> OLD.id; REPLACE INTO {new} ({list}) VALUES ({values}); END",
            trigger("upd")
        ),
        format!(
            "CREATE TRIGGER {} AFTER INSERT ON {name} FOR EACH ROW REPLACE INTO {new} ({list}) VALUES ({values})",
            trigger("ins")
        ),
    ] {
        within(conn.query_drop(statement)).await?;
    }
    let mut from = 0;
    while from <= table.greatest_id() {
        let to = from + CHUNK;
        within(conn.query_drop(format!(
            "INSERT LOW_PRIORITY IGNORE INTO {new} ({list}) SELECT {list} FROM {name} FORCE INDEX (PRIMARY) \
             WHERE id >= {from} AND id < {to} LOCK IN SHARE MODE"
        )))
        .await?;
        from = to;
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    within(conn.query_drop(format!("RENAME TABLE {name} TO {old}, {new} TO {name}"))).await
}
