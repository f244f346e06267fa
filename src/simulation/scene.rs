//! A stream with everybody who works on it: what takes part, in what order things go wrong, and how it must end.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::actors::{self, Own, Pruning, Run};
use super::engine::{Engine, Process, Running, runtime};
use super::region::{self, Region};
use super::schedule::Choose;
use super::source::What;
use super::world::{Broken, World};
use crate::Kind;
use crate::binlog::name::TableSet;
use crate::config::{self, Config};
use crate::store;
use crate::stream::Head;
use crate::stream::page::SEALING;

const UPLOAD_ENDS: &[Kind] = &[Kind::Store, Kind::Conflict, Kind::Locked, Kind::Paused, Kind::Mysql];
const PRUNE_ENDS: &[Kind] = &[Kind::Store, Kind::Conflict, Kind::Locked, Kind::Paused, Kind::Usage];
const OTHER_ENDS: &[Kind] = &[Kind::Store, Kind::Conflict];
const REGION_ENDS: &[Kind] = &[Kind::Store];

/// What the schedules of one thread are run with.
pub(super) struct Stage {
    folder: tempfile::TempDir,
    runtime: Arc<Runtime>,
    configs: RefCell<HashMap<(&'static str, u64), Arc<Config>>>,
}

impl Stage {
    pub fn new() -> Self {
        // So many small files come and go that a disk would be what is measured.
        let memory = Path::new("/dev/shm");
        let folder = match memory.is_dir() {
            true => tempfile::tempdir_in(memory),
            false => tempfile::tempdir(),
        };
        // As in life, what goes into a page has stood in a head before: no run adds so many entries at once.
        SEALING.set(Some((6, 2)));
        Self { folder: folder.expect("a folder"), runtime: runtime(), configs: RefCell::default() }
    }

    fn config(&self, name: &'static str, segment_bytes: u64) -> Arc<Config> {
        let mut known = self.configs.borrow_mut();
        known.entry((name, segment_bytes)).or_insert_with(|| self.read_config(name, segment_bytes)).clone()
    }

    fn read_config(&self, name: &str, segment_bytes: u64) -> Arc<Config> {
        let folder = self.folder.path();
        let text = format!(
            "role = \"source\"\nstream = \"apps\"\nstore = \"file:///nowhere\"\n[mysql]\nhost = \"10.0.0.5\"\n\
             [files]\ncache_dir = \"{0}/{name}\"\nspool_dir = \"{0}/spool\"\n",
            folder.display()
        );
        let mut config = config::parse(Path::new("/etc/simulated.toml"), &text, &|_| None).expect("a config");
        config.upload.segment_bytes = segment_bytes;
        // As of two versions of the program, or of two configs: the same transactions, other bytes.
        config.upload.level = if name == "b" { 9 } else { 1 };
        Arc::new(config)
    }

    fn clear(&self) {
        let folder = self.folder.path();
        for name in ["a", "b", "other", "spool"] {
            let _ = std::fs::remove_dir_all(folder.join(name));
        }
        std::fs::create_dir_all(folder.join("spool")).expect("a folder");
    }
}

/// Who takes part, by its place in the engine.
pub(super) struct Scene {
    pub engine: Engine,
    pub regions: Vec<(usize, Region)>,
    configs: [Arc<Config>; 3],
}

/// How a schedule is to go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub broken: Broken,
    pub is_coarse: bool,
    pub is_told: bool,
    /// Raw bytes after which a segment is shipped.
    pub segment_bytes: u64,
}

impl Scene {
    /// A stream that holds nothing yet, and nobody at it.
    pub fn new(stage: &Stage, way: Way) -> Self {
        stage.clear();
        let world = World::new(way.is_coarse, way.broken, way.is_told);
        let configs = ["a", "b", "other"].map(|name| stage.config(name, way.segment_bytes));
        let mut scene =
            Self { engine: Engine::new(world, stage.runtime.clone()), regions: Vec::new(), configs };
        scene.add("stream init", 2, 0, &[], move |own, _| {
            Box::pin(async move {
                let set = TableSet::parse(&["g.apps"])?;
                let now = crate::clock::Clock::now(&*own.world);
                let mut head = Head::new(Uuid::from_u128(0x57), "apps", set, now);
                store::head::write(&own.bucket(), &mut head, None).await.map(drop)
            })
        });
        scene.engine.finish(0);
        scene
    }

    fn add(
        &mut self,
        name: &'static str,
        config: usize,
        runs: usize,
        ends: &'static [Kind],
        begin: impl Fn(Own, usize) -> Running + 'static,
    ) -> usize {
        let process = self.engine.processes.len();
        let own = Own { world: self.engine.world.clone(), process, config: self.configs[config].clone() };
        self.engine.processes.push(Process::new(name, runs, ends, move |run| begin(own.clone(), run)));
        process
    }

    /// An upload that runs so often, each time in the next of these ways. `cache`: 0 or 1.
    pub fn uploads(&mut self, name: &'static str, cache: usize, runs: Vec<Run>) -> usize {
        let many = runs.iter().any(|run| run.dumps);
        let count = runs.len();
        let at = self.add(name, cache, count, UPLOAD_ENDS, move |own, run| {
            Box::pin(actors::uploads(own, runs[run % runs.len()]))
        });
        self.engine.processes[at].is_many = many;
        at
    }

    pub fn prunes(&mut self, runs: usize, how: Pruning) -> usize {
        self.add("prune", 2, runs, PRUNE_ENDS, move |own, _| Box::pin(actors::prunes(own, how)))
    }

    pub fn pauses(&mut self, runs: usize) -> usize {
        self.add("pause", 2, runs, OTHER_ENDS, |own, _| Box::pin(actors::pauses(own)))
    }

    pub fn resumes(&mut self) -> usize {
        self.add("resume", 2, 0, OTHER_ENDS, |own, _| Box::pin(actors::resumes(own)))
    }

    pub fn commits(&mut self, runs: usize, what: Vec<(What, bool)>) -> usize {
        self.add("the source", 2, runs, OTHER_ENDS, move |own, _| {
            Box::pin(actors::commits(own, what.clone()))
        })
    }

    pub fn region(&mut self, runs: usize, region: Region) -> usize {
        let (name, its) = (region.name, region.clone());
        let at =
            self.add(name, 2, runs, REGION_ENDS, move |own, _| Box::pin(region::applies(own, its.clone())));
        self.regions.push((at, region));
        at
    }

    /// What went wrong so far.
    pub fn violations(&self) -> Vec<String> {
        self.engine.world.state().judge.violations.clone()
    }

    /// I7: everybody was killed, and nothing fails any more. Whoever runs now comes to the end, has nothing left to do
    /// then, and prune leaves nothing that nobody needs.
    pub fn closes(&mut self, choose: &mut dyn Choose) {
        self.engine.kill_all(choose);
        self.engine.faults_left = 0;
        let resume = self.resumes();
        let upload = self.uploads("the last upload", 0, vec![Run::default()]);
        let dump = self.uploads("the last dump", 1, vec![Run { dumps: true, ..Run::default() }]);
        let pruning = Pruning { keep: Duration::from_secs(3_600), keep_entries: 1, without_reports: true };
        let prune = self.prunes(0, pruning);
        let last = self.commits(0, vec![(What::Rows, false)]);
        self.engine.finish(resume);
        self.engine.finish(dump);
        self.everybody(upload);
        self.is_idle(upload, "an upload that has nothing to ship");
        // What killed runs have left is old by now, and something younger says so.
        self.engine.world.state().pass(TimeDelta::days(3));
        self.engine.finish(last);
        self.everybody(upload);
        self.engine.finish(prune);
        self.is_idle(prune, "a prune behind another");
        self.everybody(upload);
        let mut state = self.engine.world.state();
        let keys = state.keys();
        for orphan in state.judge.orphans(&keys) {
            state.judge.wrong(format!("I7: nobody needs {orphan}, and prune has left it"));
        }
    }

    fn is_idle(&mut self, process: usize, what: &str) {
        let before = self.engine.world.state().writes;
        self.engine.finish(process);
        let mut state = self.engine.world.state();
        if state.writes != before {
            let count = state.writes - before;
            state.judge.wrong(format!("I7: {what} writes {count} times"));
        }
    }

    /// The upload and every region run to their end, and are there then.
    fn everybody(&mut self, upload: usize) {
        self.engine.finish(upload);
        for (at, region) in self.regions.clone() {
            for _ in 0..3 {
                self.engine.finish(at);
            }
            let mut state = self.engine.world.state();
            let (executed, end) =
                (state.source.executed(), state.judge.head.as_ref().map(|head| head.last_seq));
            let wanted: BTreeSet<u64> = state.source.rows_in(&executed).into_iter().collect();
            if Some(region.seq()) != end {
                let seq = region.seq().0;
                state.judge.wrong(format!("I7: {} is at entry {seq}, the stream at {end:?}", region.name));
            }
            if region.db().rows != wanted {
                let rows = region.db().rows.clone();
                state
                    .judge
                    .wrong(format!("I3: {} has the rows {rows:?}, the source {wanted:?}", region.name));
            }
        }
    }
}
