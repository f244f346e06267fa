//! Who writes at the primary: transactions over one or several tables, each with its row in the ledger.

use std::sync::Arc;
use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::options::generator;
use super::servers::{code, within};
use super::tables::{PAIRS, SCRATCH, Table};
use super::world::World;

/// What writers lose to others and to faults, and try no further: a deadlock, a lock that was not granted in time, a server that
/// is no primary any more, or is about to go.
const PASSES: [u16; 8] = [1205, 1213, 1290, 1836, 1053, 1317, 3024, 3058];
/// How sessions log what they change.
const SESSIONS: [&str; 4] = [
    "SET SESSION binlog_row_image = FULL",
    "SET SESSION binlog_row_image = MINIMAL, transaction_isolation = 'READ-COMMITTED'",
    "SET SESSION binlog_row_image = NOBLOB, binlog_transaction_compression = ON",
    "SET SESSION binlog_row_value_options = PARTIAL_JSON, transaction_isolation = 'READ-COMMITTED'",
];

/// What is done to one table within a transaction.
#[derive(Clone, Debug)]
enum Change {
    /// One row gives and one of the table's partner takes.
    Give {
        by: i32,
        near: u32,
    },
    /// One row goes, another comes with what it had.
    Replace {
        near: u32,
        is_update: bool,
    },
    /// Some rows in a row.
    Touch {
        from: u32,
        to: u32,
    },
    /// One row becomes large, or small again.
    Pad {
        near: u32,
        size: u32,
    },
    Document {
        near: u32,
        value: u32,
    },
}

enum Plan {
    /// Tables in their order, each with its change.
    Counted(Vec<(Arc<Table>, Change)>),
    /// Nothing is counted, so that others need not wait.
    Plain(Arc<Table>, u32),
    Scratch(String),
    /// Outside of the set.
    Noise,
}

/// Writes until the run is over; stands still in quiet times.
pub async fn writer(world: Arc<World>, at: usize) {
    let mut random = generator(world.seed, &format!("writer {at}"));
    let mut conn: Option<Conn> = None;
    let mut number = 0u64;
    while !world.is_over() {
        let quiet = world.quiet.read().await;
        let plan = draw(&mut random, &world);
        number += 1;
        let id = (at as u64 + 1) * 1_000_000_000 + number;
        let pause = Duration::from_millis(random.random_range(0..40));
        if conn.is_none() {
            conn = begin(&world, at).await;
        }
        let Some(session) = conn.as_mut() else {
            drop(quiet);
            tokio::time::sleep(Duration::from_millis(300)).await;
            continue;
        };
        let done = run(session, &world, &plan, id).await;
        match &done {
            Ok(true) => world.figures.count("transactions", "committed"),
            Ok(false) => world.figures.count("transactions", "given up"),
            Err(error) => {
                world.figures.count(
                    "transactions",
                    match code(error) {
                        Some(code) => format!("failed with {code}"),
                        None => "connection lost".to_owned(),
                    },
                );
                let passes = code(error).is_none_or(|code| PASSES.contains(&code));
                let is_scratch = matches!(plan, Plan::Scratch(_));
                if !passes && !is_scratch {
                    world.log.say(format!("writer {at}: {error}"));
                }
                let is_back = code(error).is_some()
                    && within(session.query_drop("ROLLBACK")).await.is_ok()
                    && ![1290, 1836, 1053].contains(&code(error).unwrap_or_default());
                if !is_back {
                    conn = None;
                }
            }
        }
        drop(quiet);
        tokio::time::sleep(pause).await;
    }
}

async fn begin(world: &World, at: usize) -> Option<Conn> {
    let mut conn = world.primary().connect().await.ok()?;
    within(conn.query_drop(SESSIONS[at % SESSIONS.len()])).await.ok()?;
    within(conn.query_drop("SET SESSION innodb_lock_wait_timeout = 5, lock_wait_timeout = 20")).await.ok()?;
    Some(conn)
}

fn draw(random: &mut StdRng, world: &World) -> Plan {
    let tables = &world.tables;
    let near = |random: &mut StdRng, table: &Table| random.random_range(1..=table.greatest_id());
    match random.random_range(0..100) {
        // A transfer, and now and then something else in the same transaction.
        0..35 => {
            let pair = random.random_range(0..PAIRS);
            let by = random.random_range(1..50);
            let mut changes: Vec<(Arc<Table>, Change)> = [(pair * 2, -by), (pair * 2 + 1, by)]
                .map(|(at, by)| {
                    let table = tables.paired[at].clone();
                    let near = near(random, &table);
                    (table, Change::Give { by, near })
                })
                .into();
            if random.random_bool(0.3) {
                let table = tables.named[random.random_range(0..tables.named.len())].clone();
                changes.push((table, Change::Touch { from: 1, to: 5 }));
            }
            Plan::Counted(changes)
        }
        35..70 => {
            let many = random.random_range(1..=4);
            let all: Vec<Arc<Table>> = tables.counted().cloned().collect();
            let mut chosen: Vec<Arc<Table>> = all.choose_multiple(random, many).cloned().collect();
            chosen.sort_by(|a, b| a.name.cmp(&b.name));
            let changes = chosen.into_iter().map(|table| {
                let near = near(random, &table);
                let change = match random.random_range(0..10) {
                    0..4 => Change::Replace { near, is_update: random.random() },
                    4..7 => Change::Touch { from: near, to: near + random.random_range(0..12) },
                    7 => Change::Pad { near, size: *[0, 10, 1000, 60_000].choose(random).unwrap_or(&0) },
                    _ => Change::Document { near, value: random.random_range(0..1000) },
                };
                (table, change)
            });
            Plan::Counted(changes.collect())
        }
        70..82 => {
            let all: Vec<Arc<Table>> = tables.counted().cloned().collect();
            let table = all[random.random_range(0..all.len())].clone();
            let near = near(random, &table);
            Plan::Plain(table, near)
        }
        82..92 => {
            let (table, v) = (random.random_range(0..SCRATCH), random.random_range(0..50));
            Plan::Scratch(match random.random_range(0..4) {
                0..2 => {
                    format!("INSERT INTO g.s{table} (v, txt) VALUES ({v}, REPEAT('x', {v})), ({v} + 1, NULL)")
                }
                2 => format!("UPDATE g.s{table} SET txt = CONCAT('v', {v}) WHERE v = {v}"),
                _ => format!("DELETE FROM g.s{table} WHERE v = {v}"),
            })
        }
        _ => Plan::Noise,
    }
}

/// False: rolled back, because a row was not there.
async fn run(conn: &mut Conn, world: &World, plan: &Plan, id: u64) -> mysql_async::Result<bool> {
    match plan {
        Plan::Noise => {
            within(conn.query_drop("INSERT INTO p.noise (v) VALUES (1), (2)")).await?;
        }
        Plan::Scratch(statement) => within(conn.query_drop(statement)).await?,
        Plan::Plain(table, near) => {
            let _gate = table.gate.read().await;
            let ids: Vec<u32> = (*near..near + 3).collect();
            within(conn.query_drop("BEGIN")).await?;
            let change =
                format!("UPDATE {} SET v = v + 1 WHERE id BETWEEN {near} AND {near} + 2", table.name);
            within(conn.query_drop(change)).await?;
            enter(conn, id, &[]).await?;
            let done = within(conn.query_drop("COMMIT")).await;
            table.touch(&ids);
            done?;
        }
        Plan::Counted(changes) => {
            let mut gates = Vec::new();
            for (table, _) in changes {
                gates.push(table.gate.read().await);
            }
            return counted(conn, world, changes, id).await;
        }
    }
    Ok(true)
}

async fn counted(
    conn: &mut Conn,
    world: &World,
    changes: &[(Arc<Table>, Change)],
    id: u64,
) -> mysql_async::Result<bool> {
    within(conn.query_drop("BEGIN")).await?;
    let mut touched: Vec<(&Arc<Table>, Vec<u32>)> = Vec::new();
    for (table, _) in changes {
        within(conn.query_drop(format!("UPDATE {} SET n = n + 1 WHERE id = 0", table.name))).await?;
    }
    for (table, change) in changes {
        let Some(mut ids) = apply(conn, table, change).await? else {
            within(conn.query_drop("ROLLBACK")).await?;
            return Ok(false);
        };
        ids.push(0);
        touched.push((table, ids));
    }
    let tables: Vec<&str> = changes.iter().map(|(table, _)| table.name.as_str()).collect();
    enter(conn, id, &tables).await?;
    let done = within(conn.query_drop("COMMIT")).await;
    for (table, ids) in touched {
        table.touch(&ids);
    }
    done?;
    world.figures.add("transactions", "changes of a table that are counted", changes.len() as u64);
    Ok(true)
}

/// The ids that it has changed.
async fn apply(conn: &mut Conn, table: &Table, change: &Change) -> mysql_async::Result<Option<Vec<u32>>> {
    let name = &table.name;
    let (Change::Give { near, .. }
    | Change::Replace { near, .. }
    | Change::Pad { near, .. }
    | Change::Document { near, .. }) = change
    else {
        let Change::Touch { from, to } = change else { return Ok(None) };
        within(conn.query_drop(format!(
            "UPDATE {name} SET v = v + 1, name = CONCAT('v', v) WHERE id BETWEEN {from} AND {to} AND id > 0"
        )))
        .await?;
        return Ok(Some((*from..=*to).collect()));
    };
    let query = format!(
        "SELECT COALESCE((SELECT MIN(id) FROM {name} WHERE id >= {near}), (SELECT MAX(id) FROM {name}))"
    );
    let Some(id): Option<u32> = within(conn.query_first::<Option<u32>, _>(query)).await?.flatten() else {
        return Ok(None);
    };
    let mut ids = vec![id];
    let statement = match change {
        Change::Give { by, .. } => format!("UPDATE {name} SET bal = bal + {by} WHERE id = {id} AND id > 0"),
        Change::Pad { size: 0, .. } => format!("UPDATE {name} SET pad = NULL, v = v + 1 WHERE id = {id}"),
        Change::Pad { size, .. } => {
            format!("UPDATE {name} SET pad = REPEAT('p', {size}), v = v + 1 WHERE id = {id}")
        }
        Change::Document { value, .. } => format!(
            "UPDATE {name} SET v = v + 1, doc = IF(doc IS NULL, JSON_OBJECT('a', {value}, 'text', REPEAT('t', 100)), \
             JSON_SET(doc, '$.a', {value})) WHERE id = {id}"
        ),
        Change::Replace { is_update, .. } => {
            let new = table.next_id();
            ids.push(new);
            if *is_update {
                format!("UPDATE {name} SET id = {new} WHERE id = {id} AND id > 0")
            } else {
                let made = format!(
                    "INSERT INTO {name} (id, n, bal, v, name) SELECT {new}, 0, bal, v, 'new' FROM {name} WHERE id = {id} \
                     AND id > 0"
                );
                within(conn.query_drop(made)).await?;
                format!("DELETE FROM {name} WHERE id = {id} AND id > 0")
            }
        }
        Change::Touch { .. } => return Ok(None),
    };
    within(conn.query_drop(statement)).await?;
    Ok((conn.affected_rows() == 1).then_some(ids))
}

/// The transaction's row of the ledger.
async fn enter(conn: &mut Conn, id: u64, tables: &[&str]) -> mysql_async::Result<()> {
    let counts: Vec<String> = tables
        .iter()
        .map(|table| format!("(SELECT CONCAT('{table}=', n) FROM {table} WHERE id = 0)"))
        .collect();
    let counts =
        if counts.is_empty() { "''".to_owned() } else { format!("CONCAT_WS(',', {})", counts.join(", ")) };
    within(conn.query_drop(format!("INSERT INTO g.ledger (id, at, counts) SELECT {id}, NOW(6), {counts}")))
        .await
}

/// Changes every row of every counted table, so that whatever a region lacks is missed there.
pub async fn touch_all(world: &World, round: u64) -> Result<(), String> {
    let mut conn = world.primary().connect().await.map_err(|e| format!("connect to the primary: {e}"))?;
    for (at, table) in world.tables.counted().enumerate() {
        let id = 900_000_000_000 + round * 100 + at as u64;
        let failed = |e: mysql_async::Error| format!("touch {}: {e}", table.name);
        for statement in [
            "BEGIN".to_owned(),
            format!("UPDATE {} SET n = n + 1 WHERE id = 0", table.name),
            format!("UPDATE {} SET v = v + 1 WHERE id > 0", table.name),
        ] {
            within(conn.query_drop(statement)).await.map_err(failed)?;
        }
        enter(&mut conn, id, &[&table.name]).await.map_err(failed)?;
        within(conn.query_drop("COMMIT")).await.map_err(failed)?;
        world.figures.count("transactions", "committed");
    }
    Ok(())
}
