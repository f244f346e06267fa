//! Who runs Tablecast: dumps, restores, tables that come and go, history that is let go of, and looks at how things stand.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rand::seq::IndexedRandom;

use super::options::generator;
use super::tables::NAMED;
use super::world::World;

pub async fn operator(world: Arc<World>) {
    let mut random = generator(world.seed, "operator");
    while !world.is_over() {
        tokio::time::sleep(Duration::from_millis(random.random_range(2000..9000))).await;
        let _quiet = world.quiet.read().await;
        let _beside = world.alone.read().await;
        if world.is_over() {
            return;
        }
        let region = world.region(random.random_range(0..world.regions.len()));
        let table = world.tables.paired.choose(&mut random).expect("a table").name.clone();
        let other = world.tables.paired.choose(&mut random).expect("a table").name.clone();
        let named = format!("h.x{}", random.random_range(0..NAMED));
        let verb = if random.random() { "add" } else { "remove" };
        let source = &world.source;
        let (name, machine, args): (&str, _, Vec<&str>) = match random.random_range(0..20) {
            0..2 => {
                ("dump take --all-tables", source, vec!["dump", "take", "--all-tables", "--timeout", "60s"])
            }
            2..4 => ("dump take", source, vec!["dump", "take", &table, "--timeout", "60s"]),
            4 => (
                "dump take --mandatory",
                source,
                vec!["dump", "take", "--all-tables", "--mandatory", "--timeout", "60s"],
            ),
            5..7 => ("dump request", &region.machine, vec!["dump", "request", &table, &other]),
            7..10 => ("restore", &region.machine, vec!["restore", &table]),
            10 => ("restore --all", &region.machine, vec!["restore", "--all"]),
            11..15 => ("tables add|remove", source, vec!["tables", verb, &named]),
            15..17 => {
                ("stream prune", source, vec!["stream", "prune", "--keep", "20s", "--keep-entries", "20"])
            }
            17 => ("status", &region.machine, vec!["status"]),
            18 => ("verify --quick", source, vec!["verify", "--quick"]),
            _ => ("doctor", &region.machine, vec!["doctor"]),
        };
        let after = Duration::from_secs(25);
        let ran = world.once_killed(machine, &args, after).await;
        if ran.is_killed {
            // It waited for what faults kept from it.
            world.figures.count("operations", format!("{name}: given up after 25 s"));
            continue;
        }
        world.figures.count("operations", format!("{name}: {}", ran.ended.short()));
        // A refusal of `tables` (it is in already, it is the last one), and what a check finds while faults are at work.
        let may_find = ["status", "verify --quick", "doctor"].contains(&name) && ran.ended.code == Some(4);
        let is_refused = name == "tables add|remove" && ran.ended.code == Some(2);
        // A dump that failed, or a request that was refused by the service.
        let has_failed = ran.ended.code == Some(1)
            && ["dump", "tables", "restore"].iter().any(|verb| name.starts_with(verb));
        if !may_find && !is_refused && !has_failed {
            world.judge(
                &format!("{name} {}", ran.stderr.lines().last().unwrap_or_default()),
                &ran.ended,
                false,
            );
        }
    }
}
