//! What somebody damages in the bucket: it must be refused by whoever reads it, with nothing of it run; then it is put back, as
//! docs/runbooks/corrupt-object.md and docs/runbooks/history-lost.md say.

use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::Value;

use super::world::{Region, World};

const INDEX: &str = "global/index.json";
/// As long may it take until something new is in the stream.
const PATIENCE: Duration = Duration::from_secs(40);

/// Somebody's accident with an object; what was done to it.
fn damaged(bytes: &[u8], random: &mut StdRng) -> (&'static str, Option<Vec<u8>>) {
    let mut bytes = bytes.to_vec();
    match random.random_range(0..4) {
        0 => ("removed", None),
        1 => {
            bytes.truncate(random.random_range(0..bytes.len().max(1)));
            ("cut", Some(bytes))
        }
        2 => {
            bytes.extend_from_slice(b"more");
            ("longer", Some(bytes))
        }
        _ => {
            let at = random.random_range(0..bytes.len().max(1));
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.random_range(0..8);
            }
            ("a bit flipped", Some(bytes))
        }
    }
}

fn put(world: &World, key: &str, bytes: Option<Vec<u8>>) {
    match bytes {
        Some(bytes) => world.s3.put(key, bytes),
        None => world.s3.remove(key),
    }
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// The number of the last entry that a head lists.
fn last_seq(head: &[u8]) -> Option<u64> {
    number(&serde_json::from_slice::<Value>(head).ok()?["last_seq"])
}

async fn position(region: &Region) -> Option<(u64, u64)> {
    let rows: Vec<(u64, u64)> =
        region.server.rows("SELECT seq, last_tx FROM tablecast.position").await.ok()?;
    rows.into_iter().next()
}

/// A segment that this region has yet to read, damaged before it does.
pub async fn segment(world: &World, random: &mut StdRng) -> Option<String> {
    let region = world.region(random.random_range(0..3));
    region.apply.put_down().await;
    let done = before_it(world, region, random).await;
    region.apply.want();
    done
}

async fn before_it(world: &World, region: &Region, random: &mut StdRng) -> Option<String> {
    let (_, last_tx) = position(region).await?;
    let began = Instant::now();
    let key = loop {
        // segments/<first>-<last>-<time>…: one that is listed lies before the newest.
        let ahead = |key: &String| {
            let first = key
                .strip_prefix("global/segments/")
                .and_then(|rest| rest.split('-').next()?.parse::<u64>().ok());
            first.is_some_and(|first| first > last_tx)
        };
        let keys: Vec<String> = world.s3.keys().into_iter().filter(ahead).collect();
        if keys.len() > 1 {
            break keys[random.random_range(0..keys.len() - 1)].clone();
        }
        if began.elapsed() > PATIENCE || world.is_over() {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let intact = world.s3.object(&key)?;
    // An orphan of a killed upload is damaged without anybody's noticing.
    let is_listed =
        world.s3.object(INDEX).is_some_and(|head| contains(&head, key.trim_start_matches("global/")));
    if !is_listed {
        return None;
    }
    let (what, bytes) = damaged(&intact, random);
    // The other regions may meet it, too.
    let _expected = ["corrupt", "not_found"].map(|kind| world.expect(kind));
    put(world, &key, bytes);
    let refused = world.once(&region.machine, &["apply"]).await;
    let is_refused =
        refused.ended.code == Some(1) && ["corrupt", "not_found"].contains(&refused.ended.kind());
    if !is_refused {
        world.violation(format!(
            "I1: {key} is {what}, and apply in {} ends with {}\n{}",
            region.name, refused.ended, refused.stderr
        ));
    }
    let found = world.once(&world.source, &["verify"]).await;
    if found.ended.code != Some(4) {
        world.violation(format!("I1: {key} is {what}, and verify ends with {}", found.ended));
    }
    world.s3.put(&key, intact);
    let healed = world.once(&region.machine, &["apply"]).await;
    if ![Some(0), Some(3), Some(11)].contains(&healed.ended.code) {
        world
            .violation(format!("{key} is put back, and apply in {} ends with {}", region.name, healed.ended));
    }
    world.figures.count("heals", "an object put back");
    Some(format!("{key}: {what}, refused in {} ({}), put back", region.name, refused.ended.kind()))
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

/// index.json, while nobody of ours writes it.
pub async fn index(world: &World, random: &mut StdRng) -> Option<String> {
    put_all_down(world).await;
    let intact = world.s3.object(INDEX)?;
    let (what, bytes) = match random.random_bool(0.2) {
        true => ("something else", Some(b"<html>503 Service Unavailable</html>".to_vec())),
        false => damaged(&intact, random),
    };
    put(world, INDEX, bytes.clone());
    let mut told = Vec::new();
    let mut runs = vec![(&world.source, "upload")];
    runs.extend(world.regions.iter().map(|region| (&region.machine, "apply")));
    for (machine, verb) in runs {
        let ran = world.once(machine, &[verb]).await;
        let is_refused = matches!(
            (ran.ended.code, ran.ended.kind()),
            (Some(1), "corrupt" | "not_found") | (Some(10), "history") | (Some(13), _)
        );
        if !is_refused {
            world.violation(format!(
                "I2: index.json: {what}, and {verb} ends with {}\n{}",
                ran.ended, ran.stderr
            ));
        }
        told.push(format!("{verb} {}", ran.ended.short()));
    }
    if world.s3.object(INDEX) != bytes {
        world.violation(format!("I2: index.json: {what}, and somebody has written over it"));
    }
    world.s3.put(INDEX, intact);
    want_all(world);
    world.figures.count("heals", "index.json put back");
    Some(format!("{what}: {}; put back", told.join(", ")))
}

/// index.json as it was some entries before.
pub async fn old_index(world: &World, random: &mut StdRng) -> Option<String> {
    let region = world.region(random.random_range(0..3));
    let old = world.s3.object(INDEX)?;
    let behind = last_seq(&old)?;
    let began = Instant::now();
    while position(region).await.is_none_or(|(seq, _)| seq <= behind) {
        if began.elapsed() > PATIENCE || world.is_over() {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    put_all_down(world).await;
    let newest = world.s3.object(INDEX)?;
    world.s3.put(INDEX, old);
    for (machine, verb) in [(&region.machine, "apply"), (&world.source, "upload")] {
        let ran = world.once(machine, &[verb]).await;
        if ran.ended.code != Some(10) {
            world.violation(format!(
                "I2: index.json went back to entry {behind}, and {verb} on {} ends with {}\n{}",
                machine.name, ran.ended, ran.stderr
            ));
        }
    }
    world.s3.put(INDEX, newest);
    let healed = world.once(&region.machine, &["apply"]).await;
    if ![Some(0), Some(3)].contains(&healed.ended.code) {
        world.violation(format!(
            "index.json is put back, and apply in {} ends with {}",
            region.name, healed.ended
        ));
    }
    want_all(world);
    world.figures.count("heals", "index.json put back");
    Some(format!("to entry {behind}, refused by upload and in {}, put back", region.name))
}

/// A chunk of a dump that a region is about to restore from. Nothing of it may come into a table; another dump does.
pub async fn dump(world: &World, random: &mut StdRng) -> Option<String> {
    let region = world.region(random.random_range(0..3));
    let table = world.tables.paired.choose(random)?.name.clone();
    let before = world.s3.keys();
    region.apply.put_down().await;
    let taken = world.once_killed(&world.source, &["dump", "take", &table], Duration::from_secs(60)).await;
    let (Some(0), Some(chunk)) = (taken.ended.code, chunk_of(world, &table, &before)) else {
        region.apply.want();
        return None;
    };
    let intact = world.s3.object(&chunk)?;
    let (what, bytes) = damaged(&intact, random);
    put(world, &chunk, bytes);
    let ran = world.once_killed(&region.machine, &["restore", &table], Duration::from_secs(30)).await;
    region.apply.want();
    // Done it can be from another dump only, which somebody has taken meanwhile.
    let damaged_one = chunk.split('/').nth(2).unwrap_or_default();
    let restored = ran.ended.document["restores"].as_array().cloned().unwrap_or_default();
    let is_from_it =
        restored.iter().any(|one| one["dump"] == damaged_one && one["state"].as_str() == Some("done"));
    let is_refused = match (ran.ended.code, ran.ended.kind()) {
        (Some(0), _) => !restored.is_empty() && !is_from_it,
        (Some(1), "corrupt" | "not_found" | "store" | "mysql" | "conflict") | (Some(3), _) => !is_from_it,
        _ => ran.is_killed,
    };
    if !is_refused {
        world.violation(format!(
            "I1: {chunk} is {what}, and restore ends with {}: {}",
            ran.ended, ran.ended.document
        ));
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    // As any intact copy of it; who cannot do that takes another dump.
    if world.s3.object(&chunk).is_some() || what == "removed" {
        world.s3.put(&chunk, intact);
    }
    let told = if ran.is_killed { "waits".to_owned() } else { ran.ended.short() };
    world.figures.count("heals", "an object put back");
    Some(format!("{chunk}: {what}; restore {table} in {}: {told}; put back", region.name))
}

/// The first chunk of a table in a dump that is new. A dump may be of more: what others have asked for meanwhile.
fn chunk_of(world: &World, table: &str, before: &[String]) -> Option<String> {
    let keys = world.s3.keys().into_iter();
    let new = keys.filter(|key| key.ends_with("/manifest.json") && !before.contains(key));
    new.filter_map(|key| {
        let manifest: serde_json::Value = serde_json::from_slice(&world.s3.object(&key)?).ok()?;
        let of = manifest["tables"].as_array()?.iter().find(|of| of["table"] == table)?;
        Some(format!("global/{}", of["chunks"][0]["key"].as_str()?))
    })
    .next()
}

async fn put_all_down(world: &World) {
    world.upload.put_down().await;
    for region in &world.regions {
        region.apply.put_down().await;
    }
}

fn want_all(world: &World) {
    for program in world.programs() {
        program.want();
    }
}
