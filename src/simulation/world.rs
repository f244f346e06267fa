//! What the processes of a simulation share: the bucket, a clock, the source, and every request that waits for its
//! turn. Nothing goes on here by itself: a request is carried out when the schedule says so.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use chrono::{DateTime, TimeDelta, Utc};
use xxhash_rust::xxh3::xxh3_128;

use super::judge::Judge;
use super::source::Source;
use crate::clock::Clock;
use crate::store::{Etag, Fetched, Listed, Stat};
use crate::stream::{Key, Md5};
use crate::{Error, Kind, Result};

/// What a process asks for.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    Get(Key, Option<Etag>),
    Create(Key, Arc<[u8]>),
    Swap(Key, Arc<[u8]>, Option<Etag>),
    Stat(Key),
    List(String),
    Delete(Key),
    /// A step outside the bucket: a commit in a region, a look whether the lock is held.
    Step(&'static str),
}

impl Asked {
    fn order(&self) -> (u8, &str) {
        match self {
            Asked::Get(key, _) => (0, key.as_str()),
            Asked::Create(key, _) => (1, key.as_str()),
            Asked::Swap(key, ..) => (2, key.as_str()),
            Asked::Stat(key) => (3, key.as_str()),
            Asked::List(prefix) => (4, prefix),
            Asked::Delete(key) => (5, key.as_str()),
            Asked::Step(what) => (6, what),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Answer {
    Got(Fetched),
    Tag(Etag),
    Stat(Stat),
    Listed(Vec<Listed>),
    Done,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is carried out and answered.
    Done,
    /// It never arrived.
    Lost,
    /// It took effect, and its answer was lost.
    Unanswered,
    /// It is given up, and may yet take effect.
    Late,
    /// A swap that took effect, whose answer is lost, and which is asked again later, as the trait says.
    AskedAgain,
}

/// What a store does that breaks its promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    No,
    /// If-Match is not looked at.
    SwapsBlindly,
    /// If-None-Match is not looked at.
    CreatesOver,
    /// Success is said before anything is kept, and now and then nothing is.
    Forgets,
    /// A read may give the head before the newest.
    StaleHead,
    /// Of what is written, the end may be missing.
    CutsOff,
}

struct Object {
    bytes: Arc<[u8]>,
    modified: DateTime<Utc>,
}

pub(super) struct Op {
    pub id: u64,
    pub process: usize,
    pub asked: Asked,
    /// It took effect, and is going to be asked again.
    taken: bool,
    answer: Option<Result<Answer>>,
    waker: Option<Waker>,
}

pub(super) struct State {
    pub now: DateTime<Utc>,
    objects: BTreeMap<Key, Object>,
    pub ops: Vec<Op>,
    /// Requests of those who gave up, or were killed.
    pub in_flight: Vec<Asked>,
    next: u64,
    dumps: u32,
    pub judge: Judge,
    pub source: Source,
    pub broken: Broken,
    before: Option<Arc<[u8]>>,
    pub writes: u64,
    /// What happened, if it is to be told.
    pub trace: Option<Vec<String>>,
}

/// All that is simulated.
pub(super) struct World {
    state: Mutex<State>,
    /// Steps outside the bucket are no steps: a small schedule has enough of the others.
    pub is_coarse: bool,
}

impl World {
    pub fn new(is_coarse: bool, broken: Broken, is_told: bool) -> Arc<Self> {
        let state = State {
            now: DateTime::from_timestamp(1_700_000_000, 0).expect("a time"),
            objects: BTreeMap::new(),
            ops: Vec::new(),
            in_flight: Vec::new(),
            next: 0,
            dumps: 0,
            judge: Judge::default(),
            source: Source::default(),
            broken,
            before: None,
            writes: 0,
            trace: is_told.then(Vec::new),
        };
        Arc::new(Self { state: Mutex::new(state), is_coarse })
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks, and waits until the schedule has let it happen.
    pub fn ask(self: &Arc<Self>, process: usize, asked: Asked) -> Asking {
        Asking { world: self.clone(), process, asked: Some(asked), id: None }
    }

    /// A step outside the bucket.
    pub async fn step(self: &Arc<Self>, process: usize, what: &'static str) -> Result<()> {
        if !self.is_coarse {
            self.ask(process, Asked::Step(what)).await?;
        }
        Ok(())
    }
}

impl Clock for World {
    fn now(&self) -> DateTime<Utc> {
        self.state().now
    }
}

impl State {
    pub fn told(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(what());
        }
    }

    pub fn pass(&mut self, time: TimeDelta) {
        self.now += time;
    }

    /// Another number each time.
    pub fn random(&mut self) -> u32 {
        self.dumps += 1;
        self.dumps
    }

    /// Who waits, in an order that does not depend on which of a process's threads was faster.
    pub fn waiting(&self) -> Vec<(usize, u64)> {
        let mut ops: Vec<&Op> = self.ops.iter().collect();
        ops.sort_by_key(|op| (op.process, op.asked.order()));
        ops.iter().map(|op| (op.process, op.id)).collect()
    }

    pub fn keys(&self) -> Vec<Key> {
        self.objects.keys().cloned().collect()
    }

    /// Whether the waiting request may be failed or lost in this way.
    pub fn may_meet(&self, op: &Op, fate: Fate) -> bool {
        match (&op.asked, fate) {
            (_, Fate::Done) => true,
            _ if op.taken => false,
            (_, Fate::Lost) => true,
            (Asked::Swap(..), Fate::AskedAgain) => true,
            (Asked::Create(..) | Asked::Swap(..) | Asked::Delete(_), Fate::Unanswered | Fate::Late) => true,
            _ => false,
        }
    }

    /// Lets the request happen in this way.
    pub fn meet(&mut self, at: usize, fate: Fate) {
        let asked = self.ops[at].asked.clone();
        let process = self.ops[at].process;
        let lost = || Err(Error::new(Kind::Store, "simulated: no answer"));
        let answer = match fate {
            Fate::Done if self.ops[at].taken => self.asked_again(&asked),
            Fate::Done => self.carry_out(&asked),
            Fate::Lost if matches!(asked, Asked::Step("lock")) => {
                Err(Error::new(Kind::Locked, "simulated: the lock is no longer ours"))
            }
            Fate::Lost => lost(),
            Fate::Unanswered => {
                let _ = self.carry_out(&asked);
                lost()
            }
            Fate::Late => {
                self.in_flight.push(asked.clone());
                lost()
            }
            Fate::AskedAgain => {
                let answer = self.carry_out(&asked);
                if answer.is_ok() {
                    self.ops[at].taken = true;
                    self.told(|| format!("process {process}: {} took effect", shown(&asked)));
                    return;
                }
                answer
            }
        };
        self.told(|| {
            let end = match &answer {
                Ok(_) => "done".to_owned(),
                Err(error) => error.to_string(),
            };
            format!("process {process}: {} ({fate:?}): {end}", shown(&asked))
        });
        let op = &mut self.ops[at];
        op.answer = Some(answer);
        if let Some(waker) = op.waker.take() {
            waker.wake();
        }
    }

    /// What somebody had given up takes effect, or never does.
    pub fn land(&mut self, at: usize, takes_effect: bool) {
        let asked = self.in_flight.swap_remove(at);
        if takes_effect {
            let done = self.carry_out(&asked).is_ok();
            self.told(|| format!("nobody waits any more: {}: {done}", shown(&asked)));
        }
    }

    /// A swap whose first answer was lost: by its bytes it is known again, unless somebody else has swapped since.
    fn asked_again(&self, asked: &Asked) -> Result<Answer> {
        let Asked::Swap(key, bytes, _) = asked else { return Ok(Answer::Done) };
        match self.objects.get(key) {
            Some(object) if object.bytes == *bytes => Ok(Answer::Tag(tag(bytes))),
            _ => Err(conflict(key)),
        }
    }

    fn carry_out(&mut self, asked: &Asked) -> Result<Answer> {
        match asked {
            Asked::Get(key, unless) => {
                let object = self.objects.get(key).ok_or_else(|| not_found(key))?;
                // Not always: a reader that never sees the newest goes nowhere.
                let is_stale =
                    self.broken == Broken::StaleHead && *key == Key::head() && self.next.is_multiple_of(3);
                let stale = self.before.as_ref().filter(|_| is_stale);
                let bytes = stale.unwrap_or(&object.bytes);
                let etag = tag(bytes);
                if unless.as_ref() == Some(&etag) {
                    return Ok(Answer::Got(Fetched::Unchanged));
                }
                Ok(Answer::Got(Fetched::Object { bytes: bytes.to_vec(), etag }))
            }
            Asked::Create(key, bytes) => match self.objects.get(key) {
                Some(object) if object.bytes != *bytes && self.broken != Broken::CreatesOver => {
                    Err(conflict(key))
                }
                Some(object) if object.bytes == *bytes => Ok(Answer::Tag(tag(bytes))),
                _ => {
                    self.put(key, bytes);
                    Ok(Answer::Tag(tag(bytes)))
                }
            },
            Asked::Swap(key, bytes, expected) => {
                let there = self.objects.get(key).map(|object| tag(&object.bytes));
                if there != *expected && self.broken != Broken::SwapsBlindly {
                    return Err(conflict(key));
                }
                self.put(key, bytes);
                Ok(Answer::Tag(tag(bytes)))
            }
            Asked::Stat(key) => {
                let object = self.objects.get(key).ok_or_else(|| not_found(key))?;
                Ok(Answer::Stat(Stat {
                    size: object.bytes.len() as u64,
                    etag: tag(&object.bytes),
                    md5: Some(Md5::of(&object.bytes)),
                    modified: object.modified,
                }))
            }
            Asked::List(prefix) => {
                let all = self.objects.iter().filter(|(key, _)| key.as_str().starts_with(prefix.as_str()));
                let listed = |(key, object): (&Key, &Object)| Listed {
                    key: key.clone(),
                    size: object.bytes.len() as u64,
                    modified: object.modified,
                };
                Ok(Answer::Listed(all.map(listed).collect()))
            }
            Asked::Delete(key) => {
                if self.objects.remove(key).is_some() {
                    self.writes += 1;
                    self.judge.deleted(key);
                }
                Ok(Answer::Done)
            }
            Asked::Step(_) => Ok(Answer::Done),
        }
    }

    fn put(&mut self, key: &Key, bytes: &Arc<[u8]>) {
        self.writes += 1;
        let is_head = *key == Key::head();
        let kept: Arc<[u8]> = match self.broken {
            Broken::Forgets if !is_head && self.writes.is_multiple_of(3) => return,
            Broken::CutsOff if !is_head && self.writes.is_multiple_of(3) => bytes[..bytes.len() / 2].into(),
            _ => bytes.clone(),
        };
        let modified = self.now;
        let before = self.objects.insert(key.clone(), Object { bytes: kept, modified });
        if !is_head && before.is_some() && self.judge.needs(key).is_some() {
            self.judge.wrong(format!("I1: {key} was overwritten, and is listed"));
        }
        if is_head {
            self.before = before.map(|object| object.bytes);
            let objects = &self.objects;
            let there = |key: &Key| objects.get(key).map(|object| &*object.bytes);
            self.judge.head(bytes, &there, &self.source, self.now);
        }
    }
}

/// A tag is made of the content: a state that comes back has the tag that it had.
fn tag(bytes: &[u8]) -> Etag {
    Etag::new(format!("{:032x}", xxh3_128(bytes)))
}

fn conflict(key: &Key) -> Error {
    Error::new(Kind::Conflict, format!("write {key}: somebody else wrote meanwhile"))
}

fn not_found(key: &Key) -> Error {
    Error::new(Kind::NotFound, format!("read {key}: there is no such object"))
}

fn shown(asked: &Asked) -> String {
    match asked {
        Asked::Get(key, None) => format!("get {key}"),
        Asked::Get(key, Some(_)) => format!("get {key} unless unchanged"),
        Asked::Create(key, _) => format!("create {key}"),
        Asked::Swap(key, ..) => format!("swap {key}"),
        Asked::Stat(key) => format!("stat {key}"),
        Asked::List(prefix) => format!("list {prefix}"),
        Asked::Delete(key) => format!("delete {key}"),
        Asked::Step(what) => (*what).to_owned(),
    }
}

/// A request until it is answered.
pub(super) struct Asking {
    world: Arc<World>,
    process: usize,
    asked: Option<Asked>,
    id: Option<u64>,
}

impl Future for Asking {
    type Output = Result<Answer>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let world = self.world.clone();
        let mut state = world.state();
        if let Some(asked) = self.asked.take() {
            let id = state.next;
            state.next += 1;
            let (process, waker) = (self.process, Some(context.waker().clone()));
            state.ops.push(Op { id, process, asked, taken: false, answer: None, waker });
            self.id = Some(id);
            return Poll::Pending;
        }
        let Some(at) = state.ops.iter().position(|op| Some(op.id) == self.id) else { return Poll::Pending };
        match state.ops[at].answer.take() {
            Some(answer) => {
                state.ops.remove(at);
                self.id = None;
                Poll::Ready(answer)
            }
            None => {
                state.ops[at].waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Nobody waits for it any more: its process was killed, or gave it up. What it would write may yet be written.
impl Drop for Asking {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let mut state = self.world.state();
        let Some(at) = state.ops.iter().position(|op| op.id == id) else { return };
        let op = state.ops.remove(at);
        let writes = matches!(op.asked, Asked::Create(..) | Asked::Swap(..) | Asked::Delete(_));
        if writes && !op.taken && op.answer.is_none() {
            state.in_flight.push(op.asked);
        }
    }
}
