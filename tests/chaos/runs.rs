//! One run after another: makes the world, lets everybody loose on it, checks at quiet moments and at the end, and tells.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::json;

use super::figures::Figures;
use super::net::Net;
use super::options::Options;
use super::world::World;
use super::{check, ddl, faults, operator, reader, workload};

/// No fault and no operation takes so long.
const STUCK: Duration = Duration::from_secs(400);

/// What a run has come to.
pub struct Outcome {
    pub seed: u64,
    pub violations: Vec<String>,
    pub figures: Figures,
    pub folder: PathBuf,
    pub took: Duration,
}

pub fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(all(options))
}

async fn all(options: Options) -> ExitCode {
    let first = options.seed.unwrap_or_else(|| rand::random_range(1..1_000_000));
    let total = Figures::default();
    let (mut runs, mut found) = (Vec::new(), false);
    for seed in first..first + options.seeds {
        match run(&options, seed).await {
            Err(why) => {
                eprintln!("seed {seed}: the run could not be set up: {why}");
                return ExitCode::from(2);
            }
            Ok(outcome) => {
                total.take_in(&outcome.figures);
                runs.push(json!({
                    "seed": seed,
                    "seconds": outcome.took.as_secs(),
                    "violations": outcome.violations,
                    "figures": outcome.figures.json(),
                }));
                if !outcome.violations.is_empty() {
                    found = true;
                    println!(
                        "\nseed {seed}: {} violations; the same again: {}",
                        outcome.violations.len(),
                        options.command(seed)
                    );
                    for violation in &outcome.violations {
                        println!("  {violation}");
                    }
                    println!("  logs: {}", outcome.folder.display());
                    break;
                }
            }
        }
    }
    println!("\n{}", total.table());
    println!(
        "{} runs from seed {first} on: {}",
        runs.len(),
        if found { "VIOLATIONS" } else { "no violation" }
    );
    if let Some(path) = &options.json {
        let document =
            json!({ "schema_version": 1, "runs": runs, "figures": total.json(), "violations": found });
        if let Err(error) = std::fs::write(path, format!("{document:#}\n")) {
            eprintln!("{}: {error}", path.display());
            return ExitCode::from(2);
        }
    }
    ExitCode::from(u8::from(found))
}

/// One run. `Err`: it could not be set up, which says nothing of Tablecast.
pub async fn run(options: &Options, seed: u64) -> Result<Outcome, String> {
    let began = Instant::now();
    let parent = options.folder.clone().unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::Builder::new()
        .prefix(&format!("tablecast-chaos-{seed}-"))
        .tempdir_in(&parent)
        .map_err(|e| format!("{}: {e}", parent.display()))?;
    let (net, why) = match options.no_namespaces {
        true => (Net::plain(), Some("--no-namespaces".to_owned())),
        false => match Net::with_namespaces() {
            Ok(net) => (net, None),
            Err(why) => (Net::plain(), Some(why)),
        },
    };
    let world = World::new(options, seed, folder.path(), net).await?;
    world.log.say(format!("seed {seed}: {}", options.command(seed)));
    match why {
        None => world.log.say("every machine has a network namespace of its own"),
        Some(why) => {
            world.log.say(format!("no network namespaces ({why}): relays alone cut, delay and reset"))
        }
    }
    let ends = tokio::spawn(ends_by_signal(world.clone()));
    let everybody = let_loose(&world);
    let checked = attack(&world).await;
    if let Err(why) = checked {
        if world.violations().is_empty() {
            world.violation(why);
        } else {
            world.log.say(why);
        }
    }
    world.is_over.store(true, Ordering::Release);
    if !world.violations().is_empty() {
        post_mortem(&world).await;
    }
    for task in everybody {
        if let Err(error) = tokio::time::timeout(STUCK, task).await.unwrap_or(Ok(()))
            && error.is_panic()
        {
            world.violation(format!("the harness has panicked: {error}"));
        }
    }
    // Faults that are under way undo what they did.
    let _ = tokio::time::timeout(STUCK, world.quiet.write()).await;
    for program in world.programs() {
        program.stop().await;
    }
    world.is_ended.store(true, Ordering::Release);
    let is_interrupted = ends.is_finished();
    ends.abort();
    if is_interrupted {
        return Err("ended by a signal".into());
    }
    let is_kept = options.keep || !world.violations().is_empty();
    let folder = if is_kept { folder.keep() } else { folder.path().to_owned() };
    // Servers and namespaces go with the last who knows of them.
    let mut left = 100;
    while Arc::strong_count(&world) > 1 && left > 0 {
        left -= 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let outcome = Outcome {
        seed,
        violations: world.violations(),
        figures: world.figures.taken(),
        folder,
        took: began.elapsed(),
    };
    Ok(outcome)
}

/// Ctrl-C ends a run in good order: programs and servers go with it.
async fn ends_by_signal(world: Arc<World>) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    world.log.say("a signal: coming to an end");
    world.is_over.store(true, Ordering::Release);
}

fn let_loose(world: &Arc<World>) -> Vec<tokio::task::JoinHandle<()>> {
    let mut everybody: Vec<_> =
        (0..world.options.writers).map(|at| tokio::spawn(workload::writer(world.clone(), at))).collect();
    everybody.extend((0..world.regions.len()).map(|at| tokio::spawn(reader::reader(world.clone(), at))));
    everybody.push(tokio::spawn(ddl::alterer(world.clone())));
    everybody.push(tokio::spawn(ddl::migrator(world.clone())));
    everybody.push(tokio::spawn(operator::operator(world.clone())));
    everybody.push(tokio::spawn(faults::conductor(world.clone())));
    everybody
}

/// Until the time is over or something is found.
async fn attack(world: &Arc<World>) -> Result<(), String> {
    let end = Instant::now() + world.options.length();
    for round in 1.. {
        world.is_calm.store(false, Ordering::Release);
        let until = end.min(Instant::now() + Duration::from_secs(world.options.quiet_every));
        while Instant::now() < until && !world.is_over() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        if world.is_over() {
            return Ok(());
        }
        let guard = tokio::time::timeout(STUCK, world.quiet.clone().write_owned()).await;
        let Ok(guard) = guard else { return Err("a fault or an operation does not end".into()) };
        let is_last = Instant::now() >= end;
        check::at_peace(world, round, is_last).await?;
        if is_last {
            // Whoever waits for it finds that it is over.
            world.is_over.store(true, Ordering::Release);
            return Ok(());
        }
        drop(guard);
    }
    Ok(())
}

/// What people will want to know, into the log.
async fn post_mortem(world: &World) {
    for region in &world.regions {
        for table in ["position", "quarantine", "restore", "state"] {
            let rows: Vec<mysql_async::Row> =
                region.server.rows(&format!("SELECT * FROM tablecast.{table}")).await.unwrap_or_default();
            for row in rows {
                world.log.note(format!("{} tablecast.{table}: {row:?}", region.name));
            }
        }
    }
    for server in world.servers() {
        world.log.note(format!(
            "{}: {:?}\n{}",
            server.name,
            server.replication_errors().await,
            server.last_words()
        ));
    }
    for key in world.s3.keys() {
        if let Some(bytes) = world.s3.object(&key) {
            let path = world.path("bucket").join(&key);
            let _ = path.parent().map(std::fs::create_dir_all);
            let _ = std::fs::write(path, bytes);
        }
    }
}
