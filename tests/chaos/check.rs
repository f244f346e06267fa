//! What must hold when nobody writes and nothing goes wrong any more: every region has come to the source's last transaction, and
//! every table is the source's, in rows and definition; every transaction counts once; nothing is left of what went wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mysql_async::Row;
use rand::Rng;
use rand::seq::IndexedRandom;
use serde_json::Value;
use tablecast::binlog::gtid::GtidSet;

use super::options::generator;
use super::servers::Server;
use super::workload;
use super::world::{Region, World, lock};
use crate::support::s3::Weather;

/// A region that is not right again by then never will be. Tablecast itself waits for up to five minutes between two tries of a
/// restore that has failed again and again.
const PATIENCE: Duration = Duration::from_secs(420);
/// By then somebody looks, and starts `apply` anew.
const SOMEBODY_LOOKS: Duration = Duration::from_secs(90);

pub async fn at_peace(world: &World, round: u64, is_last: bool) -> Result<(), String> {
    world.log.say(format!("a quiet moment, number {round}"));
    world.net.calm();
    world.s3.weather(Weather::default());
    for clock in world.clocks.values() {
        clock.put(0);
    }
    for program in world.programs() {
        program.want();
    }
    // A server may be about to break off connections that waited.
    let mut touched = Err(String::new());
    for attempt in 0..5 {
        touched = workload::touch_all(world, round * 10 + attempt).await;
        if touched.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    touched.map_err(|why| format!("the harness cannot write at the primary: {why}"))?;
    let wanted = world.primary().executed().await.map_err(|e| format!("ask the primary: {e}"))?;
    become_right(world, &wanted).await?;
    world.is_calm.store(true, Ordering::Release);
    let checked = look(world, &wanted, is_last, round).await;
    if checked.is_ok() {
        for region in &world.regions {
            lock(&region.tainted).clear();
        }
        world.figures.count("checks", "quiet moments at which everything held");
        world.log.say(format!("everything holds, number {round}"));
    }
    checked
}

/// Waits until each region shows the source's last transaction and has nothing to heal.
async fn become_right(world: &World, wanted: &GtidSet) -> Result<(), String> {
    let began = Instant::now();
    let mut has_looked = false;
    loop {
        let mut amiss = Vec::new();
        for region in &world.regions {
            if let Err(why) = is_right(region, wanted).await {
                amiss.push(format!("{}: {why}", region.name));
            }
        }
        if amiss.is_empty() {
            let took = began.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
            world.figures.most("longest (ms)", "until all regions were right", took);
            return Ok(());
        }
        if world.is_over() {
            return Err("something was found meanwhile".into());
        }
        if began.elapsed() > PATIENCE {
            return Err(format!("not right after {} s of peace: {}", PATIENCE.as_secs(), amiss.join("; ")));
        }
        if began.elapsed() > SOMEBODY_LOOKS && !has_looked {
            has_looked = true;
            world.log.say(format!("not right after {} s: {}", SOMEBODY_LOOKS.as_secs(), amiss.join("; ")));
            world.figures.count("heals", "apply started anew by hand");
            for region in &world.regions {
                region.apply.put_down().await;
                region.apply.want();
            }
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

async fn is_right(region: &Region, wanted: &GtidSet) -> Result<(), String> {
    let failed = |e: mysql_async::Error| e.to_string();
    let covered: Option<String> =
        region.server.value("SELECT covered FROM tablecast.position").await.map_err(failed)?;
    let covered: GtidSet =
        covered.unwrap_or_default().parse::<GtidSet>().map_err(|e| format!("covered: {e}"))?;
    if !wanted.is_subset(&covered) {
        return Err(format!("lacks {}", wanted.difference(&covered)));
    }
    let quarantined: Vec<String> = region
        .server
        .rows(
            "SELECT CONCAT(table_schema, '.', table_name, ' (', reason, ', ', COALESCE(request_error, 'asked'), ')') \
             FROM tablecast.quarantine",
        )
        .await
        .map_err(failed)?;
    if !quarantined.is_empty() {
        return Err(format!("in quarantine: {}", quarantined.join(", ")));
    }
    // A check that is taken after the table has been put right says so.
    let differ: Vec<String> = region
        .server
        .rows("SELECT CONCAT(table_schema, '.', table_name) FROM tablecast.checked WHERE differs")
        .await
        .map_err(failed)?;
    if !differ.is_empty() {
        return Err(format!("other rows than the source, by its checks: {}", differ.join(", ")));
    }
    let restoring: Vec<String> = region
        .server
        .rows(
            "SELECT CONCAT(tables, ' ', state, ': ', COALESCE(message, '')) FROM tablecast.restore \
             WHERE state NOT IN ('done', 'superseded')",
        )
        .await
        .map_err(failed)?;
    if !restoring.is_empty() {
        return Err(format!("restoring {}", restoring.join(", ")));
    }
    let left: Vec<String> = region
        .server
        .rows("SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_NAME LIKE '\\_tablecast\\_%'")
        .await
        .map_err(failed)?;
    match left.is_empty() {
        true => Ok(()),
        false => Err(format!("left over: {}", left.join(", "))),
    }
}

async fn look(world: &World, wanted: &GtidSet, is_last: bool, round: u64) -> Result<(), String> {
    let set = table_set(world)?;
    let is_in = |table: &str| {
        let schema = table.split('.').next().unwrap_or_default();
        set.contains(table) || set.contains(&format!("{schema}.*"))
    };
    counts(world).await?;
    let tables = names(world.primary()).await?;
    let ghosts: Vec<&String> = tables.iter().filter(|table| table.contains("._")).collect();
    if !ghosts.is_empty() {
        return Err(format!("the harness has left {ghosts:?} at the primary"));
    }
    let ours: BTreeSet<&String> = tables.iter().filter(|table| is_in(table)).collect();
    if world.options.sabotage && is_last {
        sabotage(world).await?;
    }
    for region in &world.regions {
        let there = names(&region.server).await?;
        // What has left the set stays, and is the region's own.
        let theirs: BTreeSet<&String> = there.iter().filter(|table| is_in(table)).collect();
        if theirs != ours {
            let differ: Vec<_> = theirs.symmetric_difference(&ours).collect();
            return Err(format!("I3: {} has other tables than the source: {differ:?}", region.name));
        }
        for table in &ours {
            same(world.primary(), region, table).await?;
            world.figures.count("checks", "tables compared, rows and definition");
        }
        one_interval(region).await?;
        let compared = region.server.value("SELECT COUNT(*) FROM tablecast.checked").await;
        let compared: Option<u64> = compared.map_err(|e| format!("{}: {e}", region.name))?;
        let name = format!("tables that {} has compared", region.name);
        world.figures.most("checks of rows", name, compared.unwrap_or_default());
    }
    let executed = wanted.to_string();
    for region in &world.regions {
        for args in [
            &["wait", "--source-gtid", &executed, "--timeout", "30s"][..],
            &["status"],
            &["apply", "--dry-run"],
        ] {
            must(world, &region.machine, args).await?;
        }
    }
    must(world, &world.source, &["verify"]).await?;
    if is_last || round.is_multiple_of(3) {
        let regions = world.regions.iter().map(|region| &*region.machine);
        let machines: Vec<_> = std::iter::once(&*world.source).chain(regions).collect();
        for args in [&["doctor"][..], &["verify", "--rows"]] {
            for machine in &machines {
                must(world, machine, args).await?;
            }
        }
    }
    Ok(())
}

async fn must(world: &World, machine: &super::programs::Machine, args: &[&str]) -> Result<(), String> {
    let ran = world.once(machine, args).await;
    let command: Vec<&str> = args.iter().take(2).copied().collect();
    let command = command.join(" ");
    world.figures.count("checks", format!("tablecast {command}"));
    match ran.ended.code {
        Some(0) => Ok(()),
        _ => Err(format!(
            "{command} on {}: {} {}\n{}",
            machine.node, ran.ended, ran.ended.document, ran.stderr
        )),
    }
}

/// The set as the bucket has it.
fn table_set(world: &World) -> Result<BTreeSet<String>, String> {
    let head = world.s3.object("global/index.json").ok_or("there is no index.json")?;
    let head: Value = serde_json::from_slice(&head).map_err(|e| format!("index.json: {e}"))?;
    let tables = head["table_set"]["tables"].as_array().cloned().unwrap_or_default();
    Ok(tables.iter().filter_map(|table| table.as_str().map(str::to_owned)).collect())
}

async fn names(server: &Server) -> Result<BTreeSet<String>, String> {
    let query = "SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME) FROM information_schema.TABLES \
                 WHERE TABLE_SCHEMA IN ('g', 'h') AND TABLE_TYPE = 'BASE TABLE'";
    let rows: Vec<String> = server.rows(query).await.map_err(|e| format!("{}: {e}", server.name))?;
    Ok(rows.into_iter().collect())
}

/// I3, I4: in the ledger each table's counter has every value from 1 to the one that it has now, once.
async fn counts(world: &World) -> Result<(), String> {
    let failed = |e: mysql_async::Error| format!("the ledger: {e}");
    let rows: Vec<String> = world.primary().rows("SELECT counts FROM g.ledger").await.map_err(failed)?;
    world.figures.most("checks", "transactions in the ledger", rows.len() as u64);
    let mut seen: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for pair in rows.iter().flat_map(|row| row.split(',')).filter(|pair| !pair.is_empty()) {
        let (table, count) = pair.split_once('=').ok_or("a strange row in the ledger")?;
        let count = count.parse().map_err(|_| format!("a strange count in the ledger: {pair}"))?;
        seen.entry(table.to_owned()).or_default().push(count);
    }
    for table in world.tables.counted() {
        let now: Option<u64> = world
            .primary()
            .value(&format!("SELECT n FROM {} WHERE id = 0", table.name))
            .await
            .map_err(|e| format!("{}: {e}", table.name))?;
        let mut counts = seen.remove(&table.name).unwrap_or_default();
        counts.sort_unstable();
        if !counts.iter().copied().eq(1..=now.unwrap_or_default()) {
            return Err(format!(
                "the primary itself has lost something: {} counts {now:?}, the ledger {} times",
                table.name,
                counts.len()
            ));
        }
    }
    Ok(())
}

/// The definition, without the counter that rows move.
async fn definition(server: &Server, table: &str) -> Result<String, String> {
    let rows: Vec<(String, String)> = server
        .rows(&format!("SHOW CREATE TABLE {table}"))
        .await
        .map_err(|e| format!("{}: {table}: {e}", server.name))?;
    let text = rows.into_iter().next().map(|(_, text)| text).unwrap_or_default();
    Ok(text.split(' ').filter(|word| !word.starts_with("AUTO_INCREMENT=")).collect::<Vec<_>>().join(" "))
}

async fn same(primary: &Server, region: &Region, table: &str) -> Result<(), String> {
    let (here, there) = (definition(primary, table).await?, definition(&region.server, table).await?);
    if here != there {
        return Err(format!(
            "I8: {table} is defined otherwise in {}:\n{there}\nat the source:\n{here}",
            region.name
        ));
    }
    let read = format!("SELECT * FROM {table} ORDER BY id");
    let rows = |server: &Server, rows: mysql_async::Result<Vec<Row>>| {
        rows.map_err(|e| format!("{}: {table}: {e}", server.name))
    };
    let here = rows(primary, primary.rows(&read).await)?;
    let there = rows(&region.server, region.server.rows(&read).await)?;
    let text = |row: Option<&Row>| row.map_or_else(|| "no row".to_owned(), shown);
    for at in 0..here.len().max(there.len()) {
        let (here, there) = (text(here.get(at)), text(there.get(at)));
        if here != there {
            return Err(format!(
                "I3, I4: {table} in {} has {there} where the source has {here}",
                region.name
            ));
        }
    }
    Ok(())
}

fn shown(row: &Row) -> String {
    let columns = row.columns_ref().iter().enumerate();
    let values = columns.map(|(at, column)| {
        let value = row.as_ref(at).map(|value| value.as_sql(false)).unwrap_or_default();
        format!("{}={value}", column.name_str())
    });
    values.collect::<Vec<_>>().join(" ")
}

/// I4: the stream's transactions that a region has executed are one interval, up to its position.
async fn one_interval(region: &Region) -> Result<(), String> {
    let failed = |e: mysql_async::Error| format!("{}: {e}", region.name);
    let rows: Vec<(String, u64)> =
        region.server.rows("SELECT stream, last_tx FROM tablecast.position").await.map_err(failed)?;
    let (stream, last) = rows.into_iter().next().ok_or_else(|| format!("{} has no position", region.name))?;
    let executed: String =
        region.server.value("SELECT @@GLOBAL.gtid_executed").await.map_err(failed)?.unwrap_or_default();
    let executed = executed.replace(['\n', ' '], "");
    let own = executed.split(',').find_map(|part| part.strip_prefix(&format!("{stream}:")));
    let own =
        own.ok_or_else(|| format!("I4: {} has executed nothing of the stream: {executed}", region.name))?;
    let end = own.rsplit('-').next().unwrap_or_default();
    if own.contains(':') || end.parse() != Ok(last) {
        return Err(format!(
            "I4: {} is at transaction {last}, and has executed {own} of the stream",
            region.name
        ));
    }
    Ok(())
}

/// One row, behind everybody's back.
async fn sabotage(world: &World) -> Result<(), String> {
    let mut random = generator(world.seed, "sabotage");
    let region = world.region(random.random_range(0..3));
    let table = &world.tables.paired.choose(&mut random).expect("a table").name;
    let change = format!("UPDATE {table} SET v = v + 1 WHERE id > 0 ORDER BY id LIMIT 1");
    let done = region.server.sql(&["SET SESSION sql_log_bin = 0", &change]).await;
    done.map_err(|e| format!("the sabotage: {e}"))?;
    world.log.say(format!("sabotage: a row of {table} in {}", region.name));
    Ok(())
}
