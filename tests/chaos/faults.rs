//! The faults, each of which undoes what it did; and who injects them, in an order that is drawn from the seed.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tokio::sync::Semaphore;

use super::bucket;
use super::net::State;
use super::options::generator;
use super::programs::Machine;
use super::servers::Server;
use super::world::World;
use crate::support::s3::Weather;

/// What goes wrong. The names are those of `--only` and `--without`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// kill -9 of the following upload
    KillUpload,
    /// kill -9 of a region's following apply
    KillApply,
    /// kill -9 of the service
    KillServe,
    /// kill -9 of `restore` in the middle of its work
    KillRestore,
    /// kill -9 of a mysqld, which is started again seconds later
    KillMysqld,
    /// nothing passes between two machines
    Cut,
    /// everything between two machines arrives later
    Late,
    /// connections between two machines are reset
    Reset,
    /// a machine's link is down (as root only)
    Unplug,
    /// S3 answers 500, 503, 429, slowly, half, or not at all after the work is done
    Store,
    /// S3 gives the index as it was before the last change
    StaleHead,
    /// the disk of a machine's programs is full (as root only)
    DiskFull,
    /// the clock of a machine's programs is minutes off
    Clock,
    /// the same by hours, which S3 refuses
    FarClock,
    /// two uploads, or two applies of a region, at once
    TwoAtOnce,
    /// somebody changes a table in a region
    Drift,
    /// the processor is copied anew from the primary, and the copying killed
    Rebuild,
    /// the primary is killed, and the server beside it takes its place
    Failover,
    /// a segment is damaged, cut or removed before a region has read it
    DamagedSegment,
    /// index.json is damaged
    DamagedIndex,
    /// index.json is put back as it was some entries before
    OldIndex,
    /// a chunk of a dump is damaged before a region restores from it
    DamagedDump,
}

/// So many faults at a time.
const AT_ONCE: usize = 3;

impl Fault {
    pub fn all() -> Vec<Fault> {
        Fault::value_variants().to_vec()
    }

    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// It wants the network, the bucket and the servers for itself, because it asserts what comes of it.
    fn is_alone(self) -> bool {
        use Fault::*;
        matches!(self, Rebuild | Failover | DamagedSegment | DamagedIndex | OldIndex | DamagedDump)
    }

    /// How often it is drawn, compared with others.
    fn weight(self) -> u32 {
        match self {
            _ if self.is_alone() => 1,
            Fault::KillServe | Fault::FarClock | Fault::TwoAtOnce => 3,
            Fault::Drift | Fault::StaleHead => 4,
            _ => 6,
        }
    }

    /// Why it is left out here.
    fn cannot(self, world: &World) -> Option<&'static str> {
        match self {
            Fault::Unplug if !world.net.has_namespaces() => Some("there are no network namespaces"),
            Fault::DiskFull if !world.has_small_disks => Some("no file system can be mounted"),
            _ => None,
        }
    }
}

/// Injects faults until the run is over.
pub async fn conductor(world: Arc<World>) {
    let mut random = generator(world.seed, "faults");
    let mut faults = world.options.faults();
    faults.retain(|fault| {
        let why = fault.cannot(&world);
        if let Some(why) = why {
            world.log.say(format!("not tried here: {}: {why}", fault.name()));
        }
        why.is_none()
    });
    if faults.is_empty() {
        return;
    }
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    while !world.is_over() {
        tokio::time::sleep(Duration::from_millis(random.random_range(100..1500))).await;
        let fault = *faults.choose_weighted(&mut random, |fault| fault.weight()).expect("a fault");
        let own = generator(random.random(), "one fault");
        let slot = slots.clone().acquire_owned().await.expect("open");
        let quiet = world.quiet.clone().read_owned().await;
        if world.is_over() {
            break;
        }
        let world = world.clone();
        let work = async move {
            let _held = (slot, quiet);
            if fault.is_alone() {
                let _alone = world.alone.write().await;
                inject(&world, fault, own).await;
            } else {
                let _beside = world.alone.read().await;
                inject(&world, fault, own).await;
            }
        };
        tokio::spawn(work);
    }
}

async fn inject(world: &World, fault: Fault, mut random: StdRng) {
    if world.is_over() {
        return;
    }
    let done = match fault {
        Fault::KillUpload => kill(world, &[0], &mut random).await,
        Fault::KillServe => kill(world, &[1], &mut random).await,
        Fault::KillApply => {
            let applies: Vec<usize> = (2..world.programs().len()).collect();
            kill(world, &applies, &mut random).await
        }
        Fault::KillRestore => kill_restore(world, &mut random).await,
        Fault::KillMysqld => kill_mysqld(world, &mut random).await,
        Fault::Cut | Fault::Late | Fault::Reset => between(world, fault, &mut random).await,
        Fault::Unplug => unplug(world, &mut random).await,
        Fault::Store => store(world, &mut random).await,
        Fault::StaleHead => stale_head(world, &mut random).await,
        Fault::DiskFull => disk_full(world, &mut random).await,
        Fault::Clock => clock(world, &mut random, 1..600).await,
        Fault::FarClock => {
            let _denied = world.expect("denied");
            let done = clock(world, &mut random, 1_200..200_000).await;
            // What was refused a moment ago ends a moment later, over a slow connection many.
            tokio::time::sleep(Duration::from_secs(15)).await;
            done
        }
        Fault::TwoAtOnce => two_at_once(world, &mut random).await,
        Fault::Drift => drift(world, &mut random).await,
        Fault::Rebuild => rebuild(world, &mut random).await,
        Fault::Failover => failover(world).await,
        Fault::DamagedSegment => bucket::segment(world, &mut random).await,
        Fault::DamagedIndex => bucket::index(world, &mut random).await,
        Fault::OldIndex => bucket::old_index(world, &mut random).await,
        Fault::DamagedDump => bucket::dump(world, &mut random).await,
    };
    match done {
        Some(what) => {
            world.figures.count("faults", fault.name());
            world.log.say(format!("{}: {what}", fault.name()));
        }
        None => world.log.note(format!("{}: nothing was there for it", fault.name())),
    }
}

fn some(random: &mut StdRng, milliseconds: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(random.random_range(milliseconds))
}

async fn kill(world: &World, of: &[usize], random: &mut StdRng) -> Option<String> {
    let program = world.programs()[*of.choose(random)?].clone();
    let times = random.random_range(1..4);
    let mut killed = 0;
    for _ in 0..times {
        killed += u32::from(program.kill9());
        tokio::time::sleep(some(random, 0..2500)).await;
    }
    world.figures.add("kills", program.name.clone(), killed.into());
    Some(format!("{} killed {killed} times", program.name))
}

async fn kill_restore(world: &World, random: &mut StdRng) -> Option<String> {
    let region = world.region(random.random_range(0..3));
    let table = world.tables.paired.choose(random)?.name.clone();
    // Nobody else does its work.
    region.apply.put_down().await;
    let mut killed = 0;
    for _ in 0..random.random_range(1..3) {
        let ran = world.once_killed(&region.machine, &["restore", &table], some(random, 50..3000)).await;
        killed += u32::from(ran.is_killed);
        if !ran.is_killed && ran.ended.code != Some(1) {
            world.judge("restore", &ran.ended, false);
        }
    }
    region.apply.want();
    world.figures.add("kills", format!("restore-{}", region.name), killed.into());
    Some(format!("restore {table} in {} killed {killed} times", region.name))
}

async fn kill_mysqld(world: &World, random: &mut StdRng) -> Option<String> {
    let server = *world.servers().choose(random)?;
    let away = some(random, 0..4000);
    server.kill9_aside().await;
    tokio::time::sleep(away).await;
    begin_again(world, server).await;
    world.figures.count("kills", format!("mysqld {}", server.name));
    Some(format!("{}, away for {} ms and what it took to start", server.name, away.as_millis()))
}

/// Starts a server that is down, as what it is now.
async fn begin_again(world: &World, server: &Server) {
    if let Err(why) = server.start_aside().await {
        world.violation(format!(
            "the harness cannot start {} again: {why}\n{}",
            server.name,
            server.last_words()
        ));
        return;
    }
    if server.name == world.standby().name {
        // It stood in no my.cnf.
        let _ = server.sql(&["SET GLOBAL super_read_only = ON"]).await;
    }
}

async fn between(world: &World, fault: Fault, random: &mut StdRng) -> Option<String> {
    let relays = world.net.relays();
    let relay = relays.choose(random)?;
    let (time, by) = (some(random, 500..14_000), some(random, 20..800));
    let what = match fault {
        Fault::Cut => {
            relay.set(State::Cut);
            tokio::time::sleep(time).await;
            relay.set(State::Open);
            if random.random() {
                relay.reset();
            }
            format!("for {} ms", time.as_millis())
        }
        Fault::Late => {
            relay.set(State::Late(by));
            tokio::time::sleep(time).await;
            relay.set(State::Open);
            format!("by {} ms, for {} ms", by.as_millis(), time.as_millis())
        }
        _ => {
            let times = random.random_range(1..6);
            for _ in 0..times {
                relay.reset();
                tokio::time::sleep(some(random, 20..900)).await;
            }
            format!("{times} times")
        }
    };
    Some(format!("{}, {what}", relay.name))
}

async fn unplug(world: &World, random: &mut StdRng) -> Option<String> {
    let node = world.net.nodes().choose(random)?.clone();
    let time = some(random, 500..9000);
    world.net.plug(&node, false);
    tokio::time::sleep(time).await;
    world.net.plug(&node, true);
    Some(format!("{node}, for {} ms", time.as_millis()))
}

async fn store(world: &World, random: &mut StdRng) -> Option<String> {
    let _only = world.weather.lock().await;
    let time = some(random, 1000..15_000);
    let mut of = |of: u32| if random.random() { random.random_range(0..=of) } else { 0 };
    let weather = Weather {
        errors: 50 + of(450),
        truncated: of(300),
        unanswered: of(400),
        slow: of(800),
        stale: 0,
        slow_for: Duration::from_millis(2000),
        seed: random.random(),
    };
    under(world, weather, time).await;
    Some(format!("{weather:?}, for {} ms", time.as_millis()))
}

async fn under(world: &World, weather: Weather, time: Duration) {
    world.s3.weather(weather);
    tokio::time::sleep(time).await;
    world.s3.weather(Weather::default());
    let done = world.s3.weathered();
    for (name, count) in [
        ("500, 503, 429", done.errors),
        ("body cut", done.truncated),
        ("no answer to a write that was done", done.unanswered),
        ("an older index.json", done.stale),
        ("slow", done.slow),
    ] {
        world.figures.add("S3 requests gone wrong", name, count);
    }
}

/// A run that has failed tells the source's service so before it ends, which takes ten seconds where that is cut off.
const LAST_REPORT: Duration = Duration::from_secs(13);

async fn stale_head(world: &World, random: &mut StdRng) -> Option<String> {
    let _only = world.weather.lock().await;
    // "The index went back": refused, and for people to look at.
    let _history = world.expect("history");
    let time = some(random, 1000..10_000);
    let weather =
        Weather { stale: random.random_range(50..600), seed: random.random(), ..Weather::default() };
    under(world, weather, time).await;
    for _ in 0..LAST_REPORT.as_secs() {
        tokio::time::sleep(Duration::from_secs(1)).await;
        for program in world.programs() {
            if program.held() == Some(10) {
                world.figures.count("heals", "started again after an index that went back");
                program.want();
            }
        }
    }
    Some(format!("{} of 1000, for {} ms", weather.stale, time.as_millis()))
}

async fn disk_full(world: &World, random: &mut StdRng) -> Option<String> {
    let machine = (*world.machines().choose(random)?).clone();
    let ballast = machine.cache.join("ballast");
    let (time, left) = (some(random, 1000..8000), random.random_range(0..3) * 4096);
    fill(&ballast, left);
    tokio::time::sleep(time).await;
    let _ = std::fs::remove_file(&ballast);
    Some(format!("of {}'s programs, for {} ms", machine.name, time.as_millis()))
}

/// Writes until there is no room but this.
fn fill(ballast: &Path, left: u64) {
    use std::io::Write as _;
    let Ok(mut file) = std::fs::File::create(ballast) else { return };
    let block = [0; 4096];
    while file.write_all(&block).is_ok() {}
    let length = file.metadata().map(|file| file.len()).unwrap_or_default();
    let _ = file.set_len(length.saturating_sub(left));
}

/// Mounts a small disk for a machine's programs. False: this user may not.
pub fn small_disk(machine: &Machine) -> bool {
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(&machine.cache).output();
    mounted.is_ok_and(|output| output.status.success())
}

pub fn take_away_disk(machine: &Machine) {
    let _ = Command::new("umount").arg("-l").arg(&machine.cache).output();
}

async fn clock(world: &World, random: &mut StdRng, seconds: std::ops::Range<i64>) -> Option<String> {
    let machine = (*world.machines().choose(random)?).clone();
    let by = random.random_range(seconds) * if random.random() { 1 } else { -1 };
    let time = some(random, 2000..12_000);
    world.clock(&machine).put(by * 1_000_000_000);
    tokio::time::sleep(time).await;
    world.clock(&machine).put(0);
    Some(format!("{}'s programs by {by} s, for {} ms", machine.name, time.as_millis()))
}

async fn two_at_once(world: &World, random: &mut StdRng) -> Option<String> {
    let region = world.region(random.random_range(0..3));
    let (machine, args, service) = match random.random() {
        true => (&world.source, ["upload"], &world.upload),
        false => (&region.machine, ["apply"], &region.apply),
    };
    // Beside the one that follows, or in its place.
    let alone = random.random_bool(0.6);
    if alone {
        service.put_down().await;
    }
    let limit = Duration::from_secs(60);
    let ran = tokio::join!(
        world.once_killed(machine, &args, limit),
        world.once_killed(machine, &args, limit),
        world.once_killed(machine, &args, some(random, 100..4000)),
    );
    service.want();
    for (ran, is_to_be_killed) in [(ran.0, false), (ran.1, false), (ran.2, true)] {
        if ran.is_killed && !is_to_be_killed {
            world.figures.count("operations", format!("{} once: given up after 60 s", args[0]));
        } else if !ran.is_killed {
            world.figures.count("operations", format!("{} once: {}", args[0], ran.ended.short()));
            world.judge(&format!("{} once", args[0]), &ran.ended, false);
        }
    }
    Some(format!("three times {} on {}", args[0], machine.name))
}

async fn drift(world: &World, random: &mut StdRng) -> Option<String> {
    let region = world.region(random.random_range(0..3));
    let table = world.tables.paired.choose(random)?;
    let name = &table.name;
    region.taint(name);
    let near = random.random_range(1..=table.greatest_id());
    let (what, statement) = match random.random_range(0..7) {
        0..3 => ("a row deleted", format!("DELETE FROM {name} WHERE id >= {near} ORDER BY id LIMIT 1")),
        3 => ("emptied", format!("DELETE FROM {name} WHERE id > 0")),
        4 => ("dropped", format!("DROP TABLE IF EXISTS {name}")),
        5 => ("a column added", format!("ALTER TABLE {name} ADD COLUMN of_somebody INT NOT NULL FIRST")),
        _ => (
            "an index dropped or a column widened",
            format!("ALTER TABLE {name} MODIFY COLUMN bal BIGINT NOT NULL DEFAULT 0"),
        ),
    };
    let done = region
        .server
        .sql(&[
            "SET SESSION sql_log_bin = 0, lock_wait_timeout = 5, innodb_lock_wait_timeout = 5",
            &statement,
        ])
        .await;
    match done {
        Ok(()) => Some(format!("{name} in {}: {what}", region.name)),
        Err(_) => None,
    }
}

/// `processor rebuild`, as the runbook says; what restarts mysqld after CLONE is there.
async fn rebuild(world: &World, random: &mut StdRng) -> Option<String> {
    let over = tokio_util::sync::CancellationToken::new();
    let keeps = async {
        while !over.is_cancelled() {
            if let Err(why) = world.processor.revive_aside().await {
                world.log.say(format!("the processor does not start: {why}"));
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    let kills = random.random_range(0..3);
    let after: Vec<Duration> = (0..kills).map(|_| some(random, 200..9000)).collect();
    let copies = async {
        let mut killed = 0;
        for after in after {
            killed +=
                u32::from(world.once_killed(&world.source, &["processor", "rebuild"], after).await.is_killed);
        }
        let mut last = None;
        for _ in 0..3 {
            // What supervises it may be starting it, with the copy that a killed run has left.
            let mut left = 200;
            while world.processor.connect().await.is_err() && left > 0 {
                left -= 1;
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            let ran = world.once(&world.source, &["processor", "rebuild"]).await;
            world.figures.count("operations", format!("processor rebuild: {}", ran.ended.short()));
            let is_done = ran.ended.code == Some(0);
            last = Some(ran);
            if is_done {
                break;
            }
            // The page says: killed or cut off, run it again.
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        over.cancel();
        (killed, last)
    };
    let ((), (killed, last)) = tokio::join!(keeps, copies);
    let last = last?;
    if last.ended.code != Some(0) {
        world.violation(format!("processor rebuild does not work: {}\n{}", last.ended, last.stderr));
    }
    Some(format!("by CLONE, killed {killed} times"))
}

/// As the runbook says: the old primary writes no more, the new one has everything, then the old one is lost; later it comes
/// back beside the new one.
async fn failover(world: &World) -> Option<String> {
    // Who changes the table set meets a server that is no primary any more.
    let _refused = world.expect("denied");
    let (old, new) = (world.primary(), world.standby());
    old.sql(&["SET GLOBAL super_read_only = ON"]).await.ok()?;
    if let Err(why) = world.caught_up(new).await {
        world.log.say(format!("no failover: {why}"));
        let _ = old.sql(&["SET GLOBAL super_read_only = OFF", "SET GLOBAL read_only = OFF"]).await;
        return None;
    }
    old.kill9_aside().await;
    let promote = [
        "STOP REPLICA",
        "RESET REPLICA ALL",
        "SET GLOBAL super_read_only = OFF",
        "SET GLOBAL read_only = OFF",
    ];
    if let Err(why) = new.sql(&promote).await {
        world.violation(format!("the harness cannot promote {}: {why}", new.name));
        return None;
    }
    world.promote();
    world.configure();
    world.upload.stop().await;
    world.serve.stop().await;
    world.upload.want();
    world.serve.want();
    let steps = async {
        world
            .processor
            .replicate_from(world.relay(&format!("to-{}", new.name)))
            .await
            .map_err(|e| e.to_string())?;
        begin_again(world, old).await;
        old.replicate_from(world.relay(&format!("between-{}", new.name))).await.map_err(|e| e.to_string())
    };
    if let Err(why) = steps.await {
        world.violation(format!("the harness cannot fail over to {}: {why}", new.name));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    Some(format!("from {} to {}", old.name, new.name))
}
