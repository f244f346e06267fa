//! Who changes definitions at the primary: columns, indexes, options, and tables that come and go.

use std::sync::Arc;
use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::migrate;
use super::options::generator;
use super::servers::{code, within};
use super::tables::{SCRATCH, Table, scratch};
use super::world::World;

/// Types of columns that come and go, and a value for each.
const TYPES: [(&str, &str); 18] = [
    ("INT NULL", "id * 7"),
    ("INT NOT NULL DEFAULT 5", "id + 1"),
    ("BIGINT UNSIGNED NULL", "id * 1000000007"),
    ("DECIMAL(12,4) NULL", "id / 7"),
    ("DOUBLE NULL", "id / 3"),
    ("FLOAT NULL", "id / 9"),
    ("VARCHAR(50) CHARACTER SET utf8mb4 NULL", "CONCAT('ä€😀 ', id)"),
    ("VARCHAR(300) CHARACTER SET latin1 NULL DEFAULT 'it''s'", "REPEAT('l', id % 200)"),
    ("TEXT NULL", "REPEAT('text ', id % 90)"),
    ("VARBINARY(64) NULL", "UNHEX(MD5(id))"),
    ("BLOB NULL", "UNHEX(SHA2(id, 512))"),
    ("JSON NULL", "JSON_OBJECT('id', id, 'list', JSON_ARRAY(1, 'b', NULL))"),
    ("DATETIME(6) NULL", "'2026-03-29 02:30:00.123456'"),
    ("TIMESTAMP(3) NULL", "FROM_UNIXTIME(1700000000 + id)"),
    ("DATE NULL", "'2024-02-29'"),
    ("ENUM('a','b','ü') NULL", "1 + id % 3"),
    ("BIT(9) NULL", "id % 512"),
    ("POINT NULL", "ST_GeomFromText('POINT(1 2)')"),
];

/// Changes definitions until the run is over.
pub async fn alterer(world: Arc<World>) {
    let mut random = generator(world.seed, "ddl");
    while !world.is_over() {
        tokio::time::sleep(Duration::from_millis(random.random_range(500..5000))).await;
        let quiet = world.quiet.read().await;
        if world.is_over() {
            return;
        }
        let is_scratch = random.random_bool(0.4);
        let table = world.tables.counted().nth(random.random_range(0..15)).expect("a table").clone();
        let mut own = generator(random.random(), "one change");
        let Ok(mut conn) = world.primary().connect().await else { continue };
        let waits = "SET SESSION lock_wait_timeout = 5, innodb_lock_wait_timeout = 5";
        if within(conn.query_drop(waits)).await.is_err() {
            continue;
        }
        let done = match is_scratch {
            true => scratches(&mut conn, &mut own).await.map(|what| (what, "a scratch table".to_owned())),
            // Somebody migrates it.
            false => match table.definition.try_lock() {
                Ok(_held) => alter(&mut conn, &table, &mut own).await.map(|what| (what, table.name.clone())),
                Err(_) => continue,
            },
        };
        match done {
            Ok((what, table)) => {
                world.figures.count("DDL", what);
                world.log.note(format!("DDL: {what} {table}"));
            }
            Err(error) => world.figures.count(
                "DDL",
                match code(&error) {
                    Some(code) => format!("refused with {code}"),
                    None => "connection lost".to_owned(),
                },
            ),
        }
        drop(quiet);
    }
}

/// Migrates tables until the run is over.
pub async fn migrator(world: Arc<World>) {
    let mut random = generator(world.seed, "migrations");
    while !world.is_over() {
        tokio::time::sleep(Duration::from_millis(random.random_range(4000..15000))).await;
        let _quiet = world.quiet.read().await;
        if world.is_over() {
            return;
        }
        let table = world.tables.paired.choose(&mut random).expect("a table").clone();
        let (with_triggers, is_dropped) = (random.random(), random.random_bool(0.8));
        let column = random.random_range(0..1_000_000);
        let _held = table.definition.lock().await;
        let done = migrate::run(&world, &table, column, with_triggers, is_dropped).await;
        let tool = if with_triggers { "pt-online-schema-change" } else { "gh-ost" };
        match done {
            Ok(()) => {
                world.figures.count("migrations", format!("{tool}: whole"));
                world.log.note(format!("migration of {} as {tool}", table.name));
            }
            Err(error) => {
                world.figures.count("migrations", format!("{tool}: interrupted"));
                world.log.note(format!("migration of {} as {tool}: {error}", table.name));
            }
        }
        // Interrupted or not: nothing is left of it. It may take until the primary is back.
        while !world.is_over() && migrate::clean(&world, &table).await.is_err() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// The columns and indexes that have come.
async fn extras(conn: &mut Conn, table: &Table) -> mysql_async::Result<(Vec<String>, Vec<String>)> {
    let of = format!("TABLE_SCHEMA = '{}' AND TABLE_NAME = '{}'", table.schema, table.short);
    let columns = format!(
        "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE {of} AND COLUMN_NAME LIKE 'c\\_%' ORDER BY 1"
    );
    let indexes = format!(
        "SELECT DISTINCT INDEX_NAME FROM information_schema.STATISTICS WHERE {of} AND INDEX_NAME LIKE 'i\\_%' ORDER BY 1"
    );
    let columns = within(conn.query(columns)).await?;
    Ok((columns, within(conn.query(indexes)).await?))
}

async fn alter(conn: &mut Conn, table: &Table, random: &mut StdRng) -> mysql_async::Result<&'static str> {
    let (columns, indexes) = extras(conn, table).await?;
    let name = &table.name;
    let n: u32 = random.random_range(0..1_000_000);
    let (kind, value) = *TYPES.choose(random).expect("a type");
    let column = columns.choose(random).cloned();
    let place = *["", " FIRST", " AFTER id", " AFTER bal"].choose(random).expect("a place");
    let many = columns.len() > 5;
    let mut fill = None;
    let (what, statement) = match (random.random_range(0..14), column) {
        (0..4, Some(column)) if many => ("DROP COLUMN", format!("ALTER TABLE {name} DROP COLUMN {column}")),
        (0..4, _) => {
            fill = Some((format!("c_{n}"), value));
            ("ADD COLUMN", format!("ALTER TABLE {name} ADD COLUMN c_{n} {kind}{place}"))
        }
        (4, Some(column)) => {
            fill = Some((column.clone(), value));
            ("MODIFY COLUMN", format!("ALTER TABLE {name} MODIFY COLUMN {column} {kind}{place}"))
        }
        (5, Some(column)) => ("RENAME COLUMN", format!("ALTER TABLE {name} RENAME COLUMN {column} TO c_{n}")),
        (6, Some(column)) => (
            "CHANGE COLUMN",
            format!("ALTER TABLE {name} CHANGE COLUMN {column} c_{n} {kind}, ALGORITHM = COPY"),
        ),
        (7, Some(column)) if indexes.len() < 4 => {
            ("ADD INDEX", format!("CREATE INDEX i_{n} ON {name} ({column}, v)"))
        }
        (8, _) if indexes.len() < 4 => {
            ("ADD UNIQUE INDEX", format!("ALTER TABLE {name} ADD UNIQUE INDEX i_{n} (id, name(10))"))
        }
        (7..10, _) if !indexes.is_empty() => {
            let index = indexes.choose(random).cloned().unwrap_or_default();
            ("DROP INDEX", format!("ALTER TABLE {name} DROP INDEX {index}"))
        }
        (10, _) => ("ENGINE = InnoDB", format!("ALTER TABLE {name} ENGINE = InnoDB")),
        (11, _) => (
            "COMMENT",
            format!("ALTER TABLE {name} COMMENT = 'changed {n}; it''s `so`', ROW_FORMAT = DYNAMIC"),
        ),
        (12, _) => (
            "ADD generated column",
            format!("ALTER TABLE {name} ADD COLUMN c_{n} BIGINT AS (bal * 2 + id) STORED"),
        ),
        _ => (
            "MODIFY of a column in use",
            format!("ALTER TABLE {name} MODIFY COLUMN name VARCHAR({}) NULL", 60 + n % 40),
        ),
    };
    within(conn.query_drop(statement)).await?;
    if let Some((column, value)) = fill {
        // Of a MODIFY, too; a value that does not fit is no news.
        let _ =
            within(conn.query_drop(format!("UPDATE {name} SET {column} = {value} WHERE id % 3 = 1"))).await;
    }
    Ok(what)
}

async fn scratches(conn: &mut Conn, random: &mut StdRng) -> mysql_async::Result<&'static str> {
    let n = random.random_range(0..SCRATCH);
    let (name, other) = (format!("g.s{n}"), format!("g.s{n}_away"));
    let (what, statements) = match random.random_range(0..8) {
        0..2 => ("TRUNCATE", vec![format!("TRUNCATE TABLE {name}")]),
        2 => ("DROP and CREATE TABLE", vec![format!("DROP TABLE IF EXISTS {name}"), scratch(&name)]),
        3..5 => (
            "RENAME TABLE there and back",
            vec![
                format!("DROP TABLE IF EXISTS {other}"),
                format!("RENAME TABLE {name} TO {other}"),
                format!("RENAME TABLE {other} TO {name}"),
            ],
        ),
        5 => (
            "CREATE TABLE LIKE",
            vec![
                format!("DROP TABLE IF EXISTS {other}"),
                format!("CREATE TABLE {other} LIKE {name}"),
                format!("INSERT INTO {other} SELECT * FROM {name}"),
                format!("RENAME TABLE {name} TO {name}_old_one, {other} TO {name}"),
                format!("DROP TABLE {name}_old_one"),
            ],
        ),
        6 => (
            "CREATE TABLE AS SELECT",
            vec![
                format!("DROP TABLE IF EXISTS {other}"),
                format!("CREATE TABLE {other} (PRIMARY KEY (id)) AS SELECT id, v, txt FROM {name}"),
                format!("DROP TABLE {other}"),
            ],
        ),
        _ => (
            "ALTER TABLE … RENAME",
            vec![
                format!("DROP TABLE IF EXISTS {other}"),
                format!("ALTER TABLE {name} RENAME TO {other}"),
                format!(
                    "ALTER TABLE {other} RENAME TO {name}, ADD COLUMN c_{} INT",
                    random.random_range(0..99)
                ),
            ],
        ),
    };
    // What an interrupted one has left.
    let mend = [
        format!("CREATE TABLE IF NOT EXISTS {}", scratch(&name).trim_start_matches("CREATE TABLE ")),
        format!("DROP TABLE IF EXISTS {name}_old_one"),
    ];
    for statement in mend.into_iter().chain(statements) {
        within(conn.query_drop(statement)).await?;
    }
    Ok(what)
}
