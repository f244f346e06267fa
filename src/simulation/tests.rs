//! Schedules by the thousand, small ones without exception, and stores that break their word.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::TimeDelta;

use super::actors::{Pruning, Run};
use super::region::Region;
use super::scene::{Scene, Stage, Way};
use super::schedule::{Choose, EveryWay, Walk};
use super::source::What;
use super::world::Broken;

const HONEST: Way = Way { broken: Broken::No, is_coarse: false, is_told: false, segment_bytes: 1 };

fn number(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")),
        Err(_) => otherwise,
    }
}

/// What a walk of this seed comes across.
fn walk(stage: &Stage, seed: u64, broken: Broken, is_told: bool) -> (Vec<String>, Vec<String>) {
    let mut walk = Walk::new(seed);
    let choose: &mut dyn Choose = &mut walk;
    let segment_bytes = [1, 900, 1 << 20][choose.pick(3)];
    let mut scene =
        Scene::new(stage, Way { broken, is_coarse: choose.now_and_then(50), is_told, segment_bytes });
    scene.engine.sticks = [0, 50, 90][choose.pick(3)];
    cast(&mut scene, choose);
    let starts: Vec<usize> = scene.engine.processes.iter().map(|process| process.runs_left).collect();
    let epochs = 1 + choose.pick(3);
    for epoch in 0..epochs {
        if epoch > 0 {
            scene.engine.kill_all(choose);
            scene.engine.world.state().pass(TimeDelta::days(2));
            loses(&scene, choose);
            for (process, runs) in scene.engine.processes.iter_mut().zip(&starts) {
                process.runs_left = *runs;
            }
        }
        scene.engine.faults = [1, 5, 20][choose.pick(3)];
        scene.engine.faults_left = choose.pick(8);
        let steps = 40 + choose.pick(120);
        scene.engine.run(choose, steps);
        if !scene.violations().is_empty() {
            break;
        }
    }
    if scene.violations().is_empty() {
        scene.closes(choose);
    }
    let trace = scene.engine.world.state().trace.take().unwrap_or_default();
    (scene.violations(), trace)
}

/// Who takes part.
fn cast(scene: &mut Scene, choose: &mut dyn Choose) {
    let mut commits = Vec::new();
    let mut has_set = false;
    for _ in 0..1 + choose.pick(6) {
        let what = match choose.pick(8) {
            0 => What::Foreign,
            1 if !has_set => What::Set { version: 0, has_more: false },
            _ => What::Rows,
        };
        has_set |= matches!(what, What::Set { .. });
        commits.push((what, choose.now_and_then(15)));
    }
    scene.commits(1, commits);
    scene.uploads("upload", 0, runs(choose));
    if choose.now_and_then(70) {
        scene.uploads("another upload", 1, runs(choose));
    }
    if choose.now_and_then(60) {
        let keep = Duration::from_secs([0, 3_600, 2 * 86_400][choose.pick(3)]);
        let keep_entries = 1 + choose.pick(3) as u64;
        scene.prunes(2, Pruning { keep, keep_entries, without_reports: choose.now_and_then(50) });
    }
    if choose.now_and_then(20) {
        scene.pauses(1);
    }
    scene.region(3, Region::new("eu", false, true));
    if choose.now_and_then(60) {
        scene.region(2, Region::new("us", true, true));
    }
    if choose.now_and_then(30) {
        // It tells nobody where it is, and comes back from long ago.
        scene.region(1, Region::new("ap", choose.now_and_then(30), false));
    }
}

fn runs(choose: &mut dyn Choose) -> Vec<Run> {
    let run = |_| Run {
        dumps: choose.now_and_then(30),
        is_mandatory: choose.now_and_then(30),
        lacks: choose.now_and_then(20).then(|| 1 + choose.pick(5) as u64),
    };
    (0..3).map(run).collect()
}

/// The source loses what nobody has read yet.
fn loses(scene: &Scene, choose: &mut dyn Choose) {
    if !choose.now_and_then(25) {
        return;
    }
    let mut state = scene.engine.world.state();
    let covered = state.judge.head.as_ref().map(|head| head.covered.clone()).unwrap_or_default();
    let unread = state.source.behind(&covered);
    if !unread.is_empty() {
        let lost = unread[choose.pick(unread.len())].number;
        state.told(|| format!("the source loses transaction {lost}"));
        state.source.purge(lost);
    }
}

/// Runs the walks of these seeds on every core; returns the first that went wrong.
fn walks(first: u64, count: u64, broken: Broken) -> Option<(u64, Vec<String>)> {
    let next = AtomicU64::new(0);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let stage = Stage::new();
        let mut found: Option<(u64, Vec<String>)> = None;
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                return found;
            }
            let seed = first + at;
            let (violations, _) = walk(&stage, seed, broken, false);
            if !violations.is_empty() {
                next.store(count, Ordering::Relaxed);
                found = Some((seed, violations));
            }
        }
    };
    let found = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        let found = threads.into_iter().map(|thread| thread.join().expect("a walk that panics"));
        found.collect::<Vec<_>>()
    });
    found.into_iter().flatten().min()
}

/// The end of the story of one seed.
fn story(seed: u64) -> String {
    let (_, trace) = walk(&Stage::new(), seed, Broken::No, true);
    let from = trace.len().saturating_sub(150);
    trace[from..].join("\n")
}

#[test]
fn i1_i2_i3_i4_i5_i7_hold_whatever_the_order_of_uploads_prunes_pauses_resyncs_and_regions() {
    let (first, count) = (number("TABLECAST_SEED", 1), number("TABLECAST_SCHEDULES", 150));
    let begin = std::time::Instant::now();
    if let Some((seed, violations)) = walks(first, count, Broken::No) {
        panic!(
            "{}\nafter:\n{}\nagain: TABLECAST_SEED={seed} TABLECAST_SCHEDULES=1 scripts/test --unit simulation",
            violations.join("\n"),
            story(seed)
        );
    }
    let rate = count as f64 / begin.elapsed().as_secs_f64();
    println!("{count} schedules from seed {first}: {rate:.0} a second");
}

#[test]
fn the_same_seed_leads_the_same_way() {
    let stage = Stage::new();
    for seed in 1..20 {
        let told = [(); 2].map(|()| walk(&stage, seed, Broken::No, true).1);
        let differs = told[0].iter().zip(&told[1]).find(|(one, other)| one != other);
        assert!(told[0] == told[1], "seed {seed}: {differs:?}");
        assert!(told[0].len() > 10, "seed {seed}: {:?}", told[0]);
    }
}

/// Every way in which these can meet, with one fault at most; `most`: how many are tried unless more are asked for.
fn every_way(most: u64, cast: impl Fn(&mut Scene)) {
    let stage = Stage::new();
    let most = number("TABLECAST_WAYS", most);
    let mut ways = EveryWay::default();
    let (mut count, begin) = (0, std::time::Instant::now());
    let ended = loop {
        let mut scene = Scene::new(&stage, Way { is_coarse: true, ..HONEST });
        scene.engine.faults_left = 1;
        cast(&mut scene);
        scene.engine.run(&mut ways, 1_000);
        if scene.violations().is_empty() {
            scene.closes(&mut ways);
        }
        count += 1;
        let violations = scene.violations();
        assert!(violations.is_empty(), "{}\nby way {count}: {}", violations.join("\n"), ways.taken());
        if !ways.advance() {
            break "all there are";
        }
        if count == most {
            break "more are left";
        }
    };
    println!("{count} ways, {ended}: {:.0} a second", count as f64 / begin.elapsed().as_secs_f64());
}

fn commit(scene: &mut Scene, count: usize) {
    let commits = scene.commits(0, vec![(What::Rows, false); count]);
    scene.engine.finish(commits);
}

#[test]
fn i3_every_way_in_which_two_uploads_can_meet() {
    every_way(120, |scene| {
        commit(scene, 1);
        scene.uploads("upload", 0, vec![Run::default()]);
        scene.uploads("another upload", 1, vec![Run::default()]);
    });
}

#[test]
fn i1_every_way_in_which_an_upload_and_a_prune_can_meet() {
    every_way(120, |scene| {
        commit(scene, 6);
        let dump = scene.uploads("a dump", 1, vec![Run { dumps: true, ..Run::default() }]);
        scene.engine.finish(dump);
        commit(scene, 1);
        scene.uploads("upload", 0, vec![Run::default()]);
        let keep = Duration::ZERO;
        scene.prunes(1, Pruning { keep, keep_entries: 1, without_reports: true });
    });
}

#[test]
fn i2_every_way_in_which_an_upload_and_a_region_can_meet() {
    every_way(120, |scene| {
        commit(scene, 1);
        scene.uploads("upload", 0, vec![Run::default()]);
        scene.region(2, Region::new("eu", false, false));
    });
}

#[test]
fn every_way_in_which_an_upload_and_a_pause_can_meet() {
    every_way(120, |scene| {
        commit(scene, 1);
        scene.uploads("upload", 0, vec![Run::default()]);
        scene.pauses(1);
    });
}

/// A server of which another was made under the same GTIDs, or that does not heed what it is told.
#[test]
fn i3_what_the_source_sends_again_is_refused() {
    let stage = Stage::new();
    let mut scene = Scene::new(&stage, HONEST);
    commit(&mut scene, 2);
    let upload = scene.uploads("upload", 0, vec![Run::default()]);
    scene.engine.finish(upload);
    scene.engine.world.state().source.sends_again = true;
    commit(&mut scene, 1);
    scene.engine.finish(upload);
    let violations = scene.violations();
    let is_refused = |told: &String| told.starts_with("upload ends by History") && told.contains("again");
    assert!(violations.len() == 1 && violations.iter().all(is_refused), "{violations:?}");
}

/// A store that does not keep what the trait promises must be seen: else nothing above proves anything.
fn is_seen(broken: Broken, by: &[&str]) {
    let (_, violations) = walks(1, 2_000, broken).unwrap_or_else(|| panic!("{broken:?}: nobody notices"));
    let told = violations.join("\n");
    assert!(by.iter().any(|by| told.contains(by)), "{broken:?}: {told}");
}

#[test]
fn i2_a_store_that_ignores_if_match_is_seen() {
    is_seen(Broken::SwapsBlindly, &["I2", "I3", "paused", "History"]);
}

#[test]
fn i1_a_store_that_ignores_if_none_match_is_seen() {
    is_seen(Broken::CreatesOver, &["I1"]);
}

#[test]
fn i1_a_store_that_says_done_and_forgets_is_seen() {
    is_seen(Broken::Forgets, &["I1", "NotFound"]);
}

#[test]
fn i1_a_store_that_keeps_the_beginning_of_what_it_is_given_is_seen() {
    is_seen(Broken::CutsOff, &["I1", "Corrupt"]);
}

#[test]
fn i2_a_head_of_before_is_refused_by_regions() {
    is_seen(Broken::StaleHead, &["the index went back", "I7"]);
}
