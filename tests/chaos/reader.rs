//! Who reads in a region all along, as an application does. I4, I8: what one statement sees of a pair of tables is a state that the
//! source had. I5: no table's counter is ever smaller than before. And no table goes into quarantine that nobody has changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use rand::Rng;

use super::options::generator;
use super::servers::{code, within};
use super::tables::{BALANCE, PAIRS, ROWS};
use super::world::{Region, World};

/// A reader meets the table that took its place while it was reading: MySQL asks it to read again.
const READ_AGAIN: u16 = 1412;
const NO_TABLE: [u16; 2] = [1146, 1049];

/// What was read of a table.
struct Seen {
    rows: u64,
    balance: i64,
    counter: Option<i64>,
}

pub async fn reader(world: Arc<World>, at: usize) {
    let region = &world.regions[at];
    let mut random = generator(world.seed, &format!("reader {}", region.name));
    let mut last: BTreeMap<String, i64> = BTreeMap::new();
    let mut conn: Option<Conn> = None;
    let mut readings = 0u64;
    while !world.is_over() {
        tokio::time::sleep(Duration::from_millis(random.random_range(2..25))).await;
        let Some(session) = conn.as_mut() else {
            conn = region.server.connect().await.ok();
            if conn.is_none() {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            continue;
        };
        let chosen = random.random_range(0..PAIRS + 1);
        let tables: Vec<String> = if chosen < PAIRS {
            [chosen * 2, chosen * 2 + 1].map(|at| world.tables.paired[at].name.clone()).into()
        } else {
            vec![world.tables.named[random.random_range(0..world.tables.named.len())].name.clone()]
        };
        let was_tainted = tables.iter().any(|table| region.is_tainted(table));
        match read(session, &tables).await {
            Ok((seen, in_quarantine)) => {
                let is_tainted = was_tainted || tables.iter().any(|table| region.is_tainted(table));
                let is_whole = !is_tainted && !in_quarantine;
                judge(&world, region, &tables, &seen, (is_tainted, is_whole), &mut last);
                world.figures.count("readings", region.name);
            }
            Err(error) => match code(&error) {
                Some(READ_AGAIN) => world.figures.count("readings", format!("{} again (1412)", region.name)),
                Some(code) if NO_TABLE.contains(&code) => {
                    let is_tainted = was_tainted || tables.iter().any(|table| region.is_tainted(table));
                    // A table that is not in the set, or not yet, need not be there.
                    if chosen < PAIRS && !is_tainted {
                        world.violation(format!(
                            "I8: {} has no table, in {}: {error}",
                            region.name,
                            tables.join(", ")
                        ));
                    }
                }
                Some(1053 | 1927 | 3169 | 1317) | None => conn = None,
                Some(_) => {
                    world.violation(format!("{}: {} cannot be read: {error}", region.name, tables.join(", ")))
                }
            },
        }
        readings += 1;
        if readings.is_multiple_of(20)
            && let Some(session) = conn.as_mut()
            && let Ok(found) = quarantined(session).await
        {
            if let Ok(found) = within(session.query::<(String, String), _>(DIFFERS)).await {
                for (table, state) in found {
                    world
                        .figures
                        .count("checks of rows", format!("{} differs, as seen by a reader", region.name));
                    if !is_explained(region, &table) {
                        world.violation(format!(
                            "{}: {table} is said to have other rows than the source, and nobody has changed it there: {state}",
                            region.name
                        ));
                    }
                }
            }
            for (table, reason, error) in found {
                world.figures.count("seen in quarantine", format!("{} {reason}", region.name));
                let is_expected = ["held", "added", "let_in"].contains(&reason.as_str());
                if !is_expected && !is_explained(region, &table) {
                    world.violation(format!(
                        "{}: {table} is in quarantine ({reason}), and nobody has changed it there: {error}",
                        region.name
                    ));
                }
            }
        }
    }
}

/// What the checks in the stream have found.
const DIFFERS: &str =
    "SELECT CONCAT(table_schema, '.', table_name), state FROM tablecast.checked WHERE differs";

/// It, or the table that it is a ghost of, has been changed here on purpose.
fn is_explained(region: &Region, table: &str) -> bool {
    if region.is_tainted(table) {
        return true;
    }
    let Some((schema, ghost)) = table.split_once('.') else { return false };
    let Some(short) = ghost.strip_prefix('_').and_then(|rest| rest.rsplit_once('_')).map(|(short, _)| short)
    else {
        return false;
    };
    region.is_tainted(&format!("{schema}.{short}"))
}

/// One statement: it sees one moment.
async fn read(conn: &mut Conn, tables: &[String]) -> mysql_async::Result<(Vec<Seen>, bool)> {
    let mut parts: Vec<String> = tables
        .iter()
        .map(|table| {
            format!(
                "(SELECT COUNT(*) FROM {table}), (SELECT CAST(COALESCE(SUM(bal), 0) AS SIGNED) FROM {table}), \
                 (SELECT n FROM {table} WHERE id = 0)"
            )
        })
        .collect();
    let names: Vec<String> = tables.iter().map(|table| format!("'{table}'")).collect();
    parts.push(format!(
        "(SELECT COUNT(*) FROM tablecast.quarantine WHERE CONCAT(table_schema, '.', table_name) IN ({}))",
        names.join(", ")
    ));
    let row: Option<Row> = within(conn.query_first(format!("SELECT {}", parts.join(", ")))).await?;
    let row = row.expect("a SELECT without FROM has a row");
    let seen = (0..tables.len())
        .map(|at| Seen {
            rows: row.get(at * 3).unwrap_or_default(),
            balance: row.get(at * 3 + 1).unwrap_or_default(),
            counter: row.get_opt(at * 3 + 2).and_then(Result::ok),
        })
        .collect();
    let in_quarantine: u64 = row.get(tables.len() * 3).unwrap_or_default();
    Ok((seen, in_quarantine > 0))
}

async fn quarantined(conn: &mut Conn) -> mysql_async::Result<Vec<(String, String, String)>> {
    within(
        conn.query("SELECT CONCAT(table_schema, '.', table_name), reason, error FROM tablecast.quarantine"),
    )
    .await
}

fn judge(
    world: &World,
    region: &Region,
    tables: &[String],
    seen: &[Seen],
    (is_tainted, is_whole): (bool, bool),
    last: &mut BTreeMap<String, i64>,
) {
    for (table, seen) in tables.iter().zip(seen) {
        if let Some(counter) = seen.counter {
            let before = last.entry(table.clone()).or_insert(counter);
            if counter < *before {
                world.violation(format!(
                    "I5: {table} went back in {}: from {before} to {counter}",
                    region.name
                ));
            }
            *before = counter;
        }
        let is_there = seen.rows == u64::from(ROWS) + 1 && seen.counter.is_some();
        if !is_tainted && !is_there {
            world.violation(format!(
                "I8: {table} shows {} rows in {}, and its counter {:?}: no state of the source",
                seen.rows, region.name, seen.counter
            ));
        }
    }
    let balance: i64 = seen.iter().map(|seen| seen.balance).sum();
    let wanted = i64::from(ROWS * BALANCE) * seen.len() as i64;
    if is_whole && seen.len() == 2 && balance != wanted {
        world.violation(format!(
            "I4: {} together have {balance} in {}, and {wanted} at the source at any time",
            tables.join(" and "),
            region.name
        ));
    }
}
