//! Runs processes side by side on one thread. Between two decisions of the schedule exactly one of them works, until
//! it waits for the schedule again: so the same decisions lead to the same end.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use tokio::runtime::{Builder, Runtime};

use super::schedule::Choose;
use super::world::{Fate, World};
use crate::{Kind, Result};

pub(super) type Running = Pin<Box<dyn Future<Output = Result<()>>>>;

/// Something that is begun again and again, each time as the last one ended or was killed.
pub(super) struct Process {
    pub name: &'static str,
    /// One run, as the number of it goes.
    pub begin: Box<dyn Fn(usize) -> Running>,
    /// Failures that are no fault of it, in a store that keeps its promises.
    pub may_end_by: &'static [Kind],
    /// How often it may begin yet.
    pub runs_left: usize,
    runs: usize,
    running: Option<Running>,
    woken: Arc<Woken>,
    /// Whether it works beside its requests: then it is asked whether it has come on.
    pub is_many: bool,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

impl Process {
    pub fn new(
        name: &'static str,
        runs: usize,
        may_end_by: &'static [Kind],
        begin: impl Fn(usize) -> Running + 'static,
    ) -> Self {
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let begin = Box::new(begin);
        Self { name, begin, may_end_by, runs_left: runs, runs: 0, running: None, woken, is_many: false }
    }
}

pub(super) struct Engine {
    pub world: Arc<World>,
    pub processes: Vec<Process>,
    /// How much may go wrong yet.
    pub faults_left: usize,
    /// How often something does, in a hundred steps.
    pub faults: usize,
    /// How often the one goes on that went on last, in a hundred steps.
    pub sticks: usize,
    last: usize,
    /// For the product's blocking work: one thread, so that what was begun first is done first.
    runtime: Arc<Runtime>,
}

/// The runtime that the schedules of a thread share.
pub(super) fn runtime() -> Arc<Runtime> {
    let runtime = Builder::new_current_thread().max_blocking_threads(1).enable_time().build();
    Arc::new(runtime.expect("a runtime"))
}

/// What may happen next.
#[derive(Clone, Copy, Debug)]
enum Move {
    Begin(usize),
    /// The request with this id.
    Meet(u64, Fate),
    Kill(usize),
    /// What somebody has given up takes effect after all.
    Land(usize),
}

impl Engine {
    pub fn new(world: Arc<World>, runtime: Arc<Runtime>) -> Self {
        Self { world, processes: Vec::new(), faults_left: 0, faults: 0, sticks: 0, last: 0, runtime }
    }

    /// Lets the schedule decide, until nobody has anything to do, or for so many steps.
    pub fn run(&mut self, choose: &mut dyn Choose, steps: usize) {
        for _ in 0..steps {
            let Some(next) = self.decide(choose) else { return };
            self.make(next);
            if !self.world.state().judge.violations.is_empty() {
                return;
            }
        }
    }

    fn decide(&mut self, choose: &mut dyn Choose) -> Option<Move> {
        let mut moves: Vec<(usize, Move)> = Vec::new();
        for (at, process) in self.processes.iter().enumerate() {
            if process.running.is_none() && process.runs_left > 0 {
                moves.push((at, Move::Begin(at)));
            }
        }
        let state = self.world.state();
        moves.extend(state.waiting().into_iter().map(|(of, id)| (of, Move::Meet(id, Fate::Done))));
        if self.faults == 0 {
            moves.extend((0..state.in_flight.len()).map(|at| (usize::MAX, Move::Land(at))));
        }
        drop(state);
        if moves.is_empty() {
            return None;
        }
        if self.faults > 0 {
            return Some(self.by_chance(&moves, choose));
        }
        if self.faults_left > 0 {
            self.add_faults(&mut moves);
        }
        let next = moves[choose.pick(moves.len())].1;
        if !matches!(next, Move::Begin(_) | Move::Land(_) | Move::Meet(_, Fate::Done)) {
            self.faults_left -= 1;
        }
        Some(next)
    }

    /// Everything that may go wrong now: for a schedule that tries all of it.
    fn add_faults(&self, moves: &mut Vec<(usize, Move)>) {
        let state = self.world.state();
        for (_, id) in state.waiting() {
            let Some(op) = state.ops.iter().find(|op| op.id == id) else { continue };
            for fate in [Fate::Lost, Fate::Unanswered, Fate::Late, Fate::AskedAgain] {
                if state.may_meet(op, fate) {
                    moves.push((op.process, Move::Meet(op.id, fate)));
                }
            }
        }
        for (at, process) in self.processes.iter().enumerate() {
            if process.running.is_some() {
                moves.push((at, Move::Kill(at)));
            }
        }
    }

    fn by_chance(&mut self, moves: &[(usize, Move)], choose: &mut dyn Choose) -> Move {
        self.pass_time(choose);
        let sticks = choose.now_and_then(self.sticks);
        let same: Vec<Move> =
            moves.iter().filter(|(of, _)| *of == self.last && sticks).map(|(_, m)| *m).collect();
        let next = match same.as_slice() {
            [] => moves[choose.pick(moves.len())].1,
            same => same[choose.pick(same.len())],
        };
        let Move::Meet(id, _) = next else { return next };
        if self.faults_left == 0 || !choose.now_and_then(self.faults) {
            return next;
        }
        self.faults_left -= 1;
        let state = self.world.state();
        let Some(op) = state.ops.iter().find(|op| op.id == id) else { return next };
        let process = op.process;
        let all = [Fate::Lost, Fate::Unanswered, Fate::Late, Fate::AskedAgain];
        let fates: Vec<Fate> = all.into_iter().filter(|fate| state.may_meet(op, *fate)).collect();
        let at = choose.pick(fates.len() + 1);
        fates.get(at).map_or(Move::Kill(process), |fate| Move::Meet(id, *fate))
    }

    /// Time goes on by jumps, and what somebody gave up lands, or not.
    fn pass_time(&mut self, choose: &mut dyn Choose) {
        let mut state = self.world.state();
        if choose.now_and_then(25) {
            let seconds = [0, 1, 7, 70][choose.pick(4)];
            state.pass(chrono::TimeDelta::milliseconds(1 + seconds * 1_000));
        }
        if !state.in_flight.is_empty() && choose.now_and_then(20) {
            let at = choose.pick(state.in_flight.len());
            state.land(at, true);
        }
    }

    fn make(&mut self, next: Move) {
        match next {
            Move::Begin(at) => {
                self.last = at;
                self.begin(at);
            }
            Move::Kill(at) => self.kill(at),
            Move::Land(at) => self.world.state().land(at, true),
            Move::Meet(id, fate) => {
                let mut state = self.world.state();
                let Some(at) = state.ops.iter().position(|op| op.id == id) else { return };
                let process = state.ops[at].process;
                self.last = process;
                state.meet(at, fate);
                drop(state);
                self.settle(process);
            }
        }
    }

    fn begin(&mut self, at: usize) {
        let process = &mut self.processes[at];
        process.runs_left = process.runs_left.saturating_sub(1);
        process.running = Some((process.begin)(process.runs));
        process.runs += 1;
        let name = process.name;
        self.world.state().told(|| format!("process {at}: {name} begins"));
        self.settle(at);
    }

    fn kill(&mut self, at: usize) {
        let process = &mut self.processes[at];
        let name = process.name;
        let running = process.running.take();
        self.world.state().told(|| format!("process {at}: {name} is killed"));
        // Its requests go with it, and take the world's lock for that.
        drop(running);
        self.fence();
    }

    /// Lets a process work until it waits for the schedule, or ends.
    fn settle(&mut self, at: usize) {
        let runtime = self.runtime.clone();
        let _context = runtime.enter();
        loop {
            let process = &mut self.processes[at];
            let Some(running) = &mut process.running else { return };
            process.woken.0.store(false, Ordering::Release);
            let waker = Waker::from(process.woken.clone());
            let polled = running.as_mut().poll(&mut Context::from_waker(&waker));
            let (name, may_end_by, woken) = (process.name, process.may_end_by, process.woken.clone());
            match polled {
                Poll::Ready(ended) => {
                    let ended_with = process.running.take();
                    drop(ended_with);
                    let mut state = self.world.state();
                    if let Err(error) = ended
                        && !may_end_by.contains(&error.kind())
                    {
                        state.judge.wrong(format!(
                            "{name} ends by {:?}: {}",
                            error.kind(),
                            crate::error::chain(&error)
                        ));
                    }
                    state.told(|| format!("process {at}: {name} has ended"));
                    return;
                }
                Poll::Pending if woken.0.load(Ordering::Acquire) => {}
                Poll::Pending => {
                    let waits = self.world.state().ops.iter().any(|op| op.process == at);
                    if waits && !self.processes[at].is_many {
                        return;
                    }
                    // It may wait for a thread of its own: what that was doing is done behind the fence.
                    self.fence();
                    if !woken.0.load(Ordering::Acquire) {
                        return;
                    }
                }
            }
        }
    }

    /// Waits until the blocking work that has been begun is done.
    fn fence(&self) {
        let _ = self.runtime.block_on(self.runtime.spawn_blocking(|| ()));
    }

    /// Ends everybody, and everything that is under way. What somebody has given up takes effect or not.
    pub fn kill_all(&mut self, choose: &mut dyn Choose) {
        for at in 0..self.processes.len() {
            if self.processes[at].running.is_some() {
                self.kill(at);
            }
        }
        let mut state = self.world.state();
        while !state.in_flight.is_empty() {
            let last = state.in_flight.len() - 1;
            let lands = choose.now_and_then(50);
            state.land(last, lands);
        }
    }

    /// Runs one process to its end, undisturbed.
    pub fn finish(&mut self, at: usize) {
        self.begin(at);
        while self.processes[at].running.is_some() && self.world.state().judge.violations.is_empty() {
            let next = self.world.state().waiting().into_iter().find(|(process, _)| *process == at);
            let Some((_, id)) = next else {
                let name = self.processes[at].name;
                self.world.state().judge.wrong(format!("{name} waits for nothing"));
                return;
            };
            self.make(Move::Meet(id, Fate::Done));
        }
    }
}
