//! Where the jobs, which take dumps, and the passes, which write the index, meet. Both run side by side in one
//! upload; a dump never waits inside a pass, and a pass never waits for a dump.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use crate::binlog::gtid::GtidSet;
use crate::error::Result;
use crate::stream::{DumpEntry, Seq};

#[derive(Default)]
pub(crate) struct Desk {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// The stream whose lock is ours: set by the passes, once.
    stream: Option<Uuid>,
    /// No dump is under way and none will be: set by the jobs, once.
    is_closed: bool,
    /// The head is to cover this.
    awaited: Option<GtidSet>,
    /// To be appended, and the version of the table set that it was taken of.
    ready: Option<(DumpEntry, u64)>,
    /// What became of it.
    appended: Option<Result<Seq>>,
    /// The dump that this version of the table set owes has been asked for; when to look at it again.
    asked: Option<(u64, Instant)>,
}

impl Desk {
    /// For the passes: this process holds the lock of this stream.
    pub fn lock_taken(&self, stream: Uuid) {
        self.with(|state| state.stream = Some(stream));
    }

    /// For the passes: what the head is to cover, as soon as they have read so far.
    pub fn awaited(&self) -> Option<GtidSet> {
        self.state().awaited.clone()
    }

    /// For the passes: the head in the store covers it.
    pub fn covered(&self) {
        self.with(|state| state.awaited = None);
    }

    /// For the passes: the dump to append. It stays until they say what became of it.
    pub fn ready(&self) -> Option<(DumpEntry, u64)> {
        self.state().ready.clone()
    }

    /// For the passes: the dump has this entry now, or was refused.
    pub fn appended(&self, done: Result<Seq>) {
        self.with(|state| {
            state.ready = None;
            state.appended = Some(done);
        });
    }

    /// For the passes: whether it is time to ask for the dump that this version of the table set owes.
    pub fn may_ask(&self, version: u64) -> bool {
        self.state().asked.is_none_or(|(asked, again)| asked != version || again <= Instant::now())
    }

    /// For the passes: it has been asked for, or could not be; not to be looked at again for so long.
    pub fn asked(&self, version: u64, pause: Duration) {
        self.with(|state| state.asked = Some((version, Instant::now() + pause)));
    }

    /// For a pass that would end: whether it may.
    pub fn is_closed(&self) -> bool {
        self.state().is_closed
    }

    /// For a pass that has nothing else to do: returns when there may be something for it here.
    pub async fn work(&self) {
        self.until(|state| {
            (state.is_closed || state.awaited.is_some() || state.ready.is_some()).then_some(())
        })
        .await;
    }

    /// For the jobs: returns once the lock is held.
    pub async fn lock(&self) -> Uuid {
        self.until(|state| state.stream).await
    }

    /// For the jobs: returns once the head in the store covers this.
    pub async fn cover(&self, set: GtidSet) {
        self.with(|state| state.awaited = Some(set));
        self.until(|state| state.awaited.is_none().then_some(())).await;
    }

    /// For the jobs: has the dump appended, which was taken of this version of the table set.
    pub async fn append(&self, dump: DumpEntry, version: u64) -> Result<Seq> {
        self.with(|state| {
            state.ready = Some((dump, version));
            state.appended = None;
        });
        self.until(|state| state.appended.take()).await
    }

    /// For the jobs: takes back what has been asked for and not been done.
    pub fn withdraw(&self) {
        self.with(|state| (state.awaited, state.ready) = (None, None));
    }

    /// For the jobs: nothing more will come.
    pub fn close(&self) {
        self.with(|state| state.is_closed = true);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_waiters();
    }

    async fn until<T>(&self, ready: impl Fn(&mut State) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            if let Some(value) = ready(&mut self.state()) {
                return value;
            }
            changed.await;
        }
    }
}
