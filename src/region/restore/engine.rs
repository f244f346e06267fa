//! The part of restoring that stands in apply's loop: after every pass it looks at what is wanted, what is under way
//! and what is ready, and does the next thing that does not keep the stream waiting.
//!
//! Loading and most of the catching up happen in a task of their own. Inline, with no pass running, are only the last
//! of the catching up and the swap. What fails is written into the restore's row and tried again after a while; it
//! ends no run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mysql_async::Conn;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::catch_up::Caught;
use super::failures::{ends_run, pause_after};
use super::journal::{self, Restore, State, Why};
use super::needs;
use super::pace::Pace;
use super::shape::{Shape, shapes};
use crate::binlog::name::TableName;
use crate::clock::Clock;
use crate::config::{Config, RegionConfig};
use crate::region::apply::pass::{Region, region_of};
use crate::region::ask::{Asked, Asker};
use crate::region::position::{self, Executed};
use crate::region::quarantine::{self, Quarantined};
use crate::region::scope::Scope;
use crate::store::head::Read;
use crate::store::{self, Etag, Store};
use crate::stream::{Head, Index, Seq, StreamTx};
use crate::{Error, Kind, Result};

/// How often the source is asked how a request stands.
pub(super) const ASK_EVERY: Duration = Duration::from_secs(10);
/// Pauses after failures: the first, and the longest.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(5);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// After more failures than these, a new run does not begin before the pause is over either.
const AT_ONCE: u32 = 3;
/// Pauses between two tries of a RENAME that somebody blocks.
pub(super) const BLOCKED: Duration = Duration::from_secs(2);
pub(super) const LONGEST_BLOCKED: Duration = Duration::from_secs(30);
/// How long a swap waits for a connection of a killed run, in seconds: the stream waits with it.
pub(super) const INLINE_PATIENCE: u32 = 5;
/// As much of the stream, compressed, is caught up inline, while no pass runs.
pub(super) const INLINE: u64 = 256 << 10;

/// Restores of one region, as apply's loop holds them.
pub struct Engine<'a> {
    pub(super) config: &'a Config,
    pub(super) region: &'a RegionConfig,
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: &'a dyn Clock,
    pub(super) asker: Option<Arc<dyn Asker>>,
    /// Ends the run.
    pub(super) stop: CancellationToken,
    pub(super) running: Option<Running>,
    /// Restores that are to be left alone for a while.
    pub(super) pauses: BTreeMap<u64, Pause>,
    head: Option<(Etag, Head)>,
    pub(super) changed: Arc<Notify>,
    /// The source is being asked, by restore.
    pub(super) asks: BTreeMap<u64, JoinHandle<Result<Asked>>>,
    is_open: bool,
    /// Shadows may be left of what was given up.
    pub(super) must_sweep: bool,
    /// Something has been swapped in since the last look: another pass will see it.
    pub(super) has_swapped: bool,
    pub(super) pace: Arc<Pace>,
}

/// The task that loads.
pub(super) struct Running {
    pub id: u64,
    pub task: JoinHandle<Result<Caught>>,
    pub rows: Arc<AtomicU64>,
    pub at: watch::Sender<StreamTx>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) struct Pause {
    pub until: Instant,
    pub failures: u32,
}

/// How things stand after a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Something goes on, or is about to: look again soon.
    pub is_busy: bool,
    /// Restores that wait: for a dump, for the source, for somebody.
    pub waiting: Vec<String>,
}

/// Where the region is when no pass runs.
pub(super) struct Standing {
    /// Everything up to here is there.
    pub at: StreamTx,
    /// The last entry.
    pub seq: Seq,
}

impl<'a> Engine<'a> {
    pub fn new(
        config: &'a Config,
        store: Arc<dyn Store>,
        clock: &'a dyn Clock,
        asker: Option<Arc<dyn Asker>>,
        stop: CancellationToken,
    ) -> Result<Engine<'a>> {
        Ok(Engine {
            config,
            region: region_of(config)?,
            store,
            clock,
            asker,
            stop,
            running: None,
            pauses: BTreeMap::new(),
            head: None,
            changed: Arc::new(Notify::new()),
            asks: BTreeMap::new(),
            is_open: false,
            must_sweep: true,
            has_swapped: false,
            pace: Arc::default(),
        })
    }

    /// Before the first pass, under the lock of apply: finishes a swap that was cut short, and gives up loads that
    /// were. Nothing of the stream may run before.
    pub async fn open(&mut self, region: &mut Region<'_>) -> Result<()> {
        if self.is_open {
            return Ok(());
        }
        let name = self.config.stream.clone();
        for mut restore in journal::open_ones(region.control(), &name).await? {
            match restore.state {
                State::Loading => {
                    self.clear(&restore).await;
                    restore.again();
                    restore.message = Some("the run that loaded it was ended: it begins again".to_owned());
                    journal::update(region.control(), &restore).await?;
                }
                State::Swapping => {
                    if let Err(error) = self.settle_swap(region, &mut restore).await {
                        ends_run(&error)?;
                        self.left_swapping(region.control(), &mut restore, &error).await?;
                    }
                }
                // Runs from cron keep from loading again and again what never fits, too.
                State::Wanted if restore.attempts > AT_ONCE && !self.pauses.contains_key(&restore.id) => {
                    let pause = pause_after(restore.attempts);
                    let since =
                        restore.started_at.map(|at| (self.clock.now() - at).to_std().unwrap_or_default());
                    let left = since.map_or(Duration::ZERO, |since| pause.saturating_sub(since));
                    let until = Instant::now() + left;
                    self.pauses.insert(restore.id, Pause { until, failures: 0 });
                }
                _ => {}
            }
        }
        self.is_open = true;
        Ok(())
    }

    /// The lock of apply is given up: nothing goes on without it.
    pub fn suspend(&mut self) {
        self.running = None;
        self.is_open = false;
    }

    /// Who goes first, the stream or what is being loaded.
    pub fn pace(&self) -> Arc<Pace> {
        self.pace.clone()
    }

    /// Whether a dump is being loaded.
    pub fn is_loading(&self) -> bool {
        self.running.is_some()
    }

    /// Resolves when there may be something to do before the next poll.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Whether nothing of the stream may run now: the region is about to be made from a dump, or a swap is between
    /// its RENAME and its end. What the stream has for the new tables would be passed over for their quarantine.
    pub async fn holds_stream(&mut self, region: &mut Region<'_>) -> Result<bool> {
        let name = self.config.stream.clone();
        let open = journal::open_ones(region.control(), &name).await?;
        if open.iter().any(|restore| restore.state == State::Swapping) {
            return Ok(true);
        }
        if open.is_empty() {
            return Ok(false);
        }
        let is_open = |why: Why| open.iter().any(|restore| restore.why == why);
        match position::read(region.control(), &name).await? {
            None => Ok(is_open(Why::Bootstrap)),
            // Behind the floor there is nothing to apply, and the restore brings another position.
            Some(at) if is_open(Why::Resync) => {
                self.refresh_head().await?;
                Ok(self.head().is_some_and(|head| head.is_behind_floor(at.seq)))
            }
            Some(_) => Ok(false),
        }
    }

    /// After a pass that went well.
    pub async fn step(&mut self, region: &mut Region<'_>) -> Result<Step> {
        let name = self.config.stream.clone();
        let conn = region.control();
        let open = journal::open_ones(conn, &name).await?;
        let quarantined = quarantine::list(conn, &name).await?;
        self.must_sweep |= std::mem::take(&mut region.has_given_up);
        if self.running.as_ref().is_some_and(|running| !open.iter().any(|open| open.id == running.id)) {
            self.running = None;
        }
        self.sweep(region, &open).await?;
        let conn = region.control();
        if open.is_empty() && quarantined.is_empty() && self.running.is_none() {
            return Ok(Step::default());
        }
        let (at, seq) = match position::read(conn, &name).await? {
            Some(position) => {
                let gtids = position::gtid_executed(conn).await?;
                let executed = Executed::of(position.stream, &gtids).with_base(position.base_tx);
                (StreamTx(executed.complete_to()), position.seq)
            }
            None if open.iter().any(|restore| restore.why == Why::Bootstrap) => (StreamTx::ZERO, Seq::ZERO),
            None => return Ok(Step::default()),
        };
        let standing = Standing { at, seq };
        self.refresh_head().await?;
        self.settle(region, &open).await?;
        let mut open = needs::note(self, region.control(), &standing, &quarantined).await?;
        self.make_way(region.control(), at, &mut open).await?;
        // What a change of the lists has given up, or has begin again, is not loaded any further.
        let is_wanted = |id: u64| open.iter().any(|open| open.id == id && open.state != State::Wanted);
        if self.running.as_ref().is_some_and(|running| !is_wanted(running.id)) {
            self.running = None;
        }
        let mut step = Step::default();
        let claims: Vec<(u64, BTreeSet<TableName>)> = open
            .iter()
            .filter(|restore| matches!(restore.state, State::Loading | State::Loaded | State::Swapping))
            .map(|restore| (restore.id, restore.tables.clone()))
            .collect();
        for restore in open {
            // Shadows are named by their table: two restores of one table would load into, and swap in, each other's.
            // One for every region may turn out to hold more tables than it was begun for.
            let may_grow = matches!(restore.why, Why::Mandatory | Why::Resync);
            let is_claimed = |(id, tables): &(u64, BTreeSet<TableName>)| {
                *id != restore.id && (may_grow || !tables.is_disjoint(&restore.tables))
            };
            if restore.state == State::Wanted && claims.iter().any(is_claimed) {
                step.waiting.push(format!("{}: waits for another restore of it to end", restore.names()));
                continue;
            }
            self.advance(region, &standing, &quarantined, restore, &mut step).await?;
        }
        step.is_busy |= self.running.is_some() || !self.asks.is_empty();
        if std::mem::take(&mut self.has_swapped) {
            // The stream may go on, or the run may end: at once, not at the next poll.
            step.is_busy = true;
            self.changed.notify_one();
        }
        Ok(step)
    }

    /// A resync holds the stream and waits for the restores that are under way; one of them whose dump is further than
    /// the region would wait for the stream. It begins again, behind the resync.
    async fn make_way(&mut self, conn: &mut Conn, at: StreamTx, open: &mut [Restore]) -> Result<()> {
        if !open.iter().any(|restore| restore.why == Why::Resync && restore.state == State::Wanted) {
            return Ok(());
        }
        for restore in open.iter_mut().filter(|restore| {
            restore.state == State::Loaded
                && restore.at > at
                && !matches!(restore.why, Why::Resync | Why::Bootstrap)
        }) {
            restore.again();
            restore.message = Some("makes way for a resync of all tables".to_owned());
            journal::update(conn, restore).await?;
        }
        Ok(())
    }

    pub(super) fn head(&self) -> Option<&Head> {
        self.head.as_ref().map(|(_, head)| head)
    }

    /// By the newest head that has been read.
    pub(super) fn scope(&self) -> Scope {
        let list = &self.region.tables;
        self.head().map_or_else(|| Scope::of_list(list), |head| Scope::of(list, head))
    }

    pub(super) async fn refresh_head(&mut self) -> Result<()> {
        let known = self.head.as_ref().map(|(etag, _)| etag.clone());
        if let Read::Head { head, etag } = store::head::read(&*self.store, known.as_ref()).await? {
            self.head = Some((etag, *head));
        }
        Ok(())
    }

    pub(super) fn index(&self) -> Result<Index> {
        match self.head() {
            Some(head) => Ok(Index::new(head.clone())),
            None => Err(Error::new(Kind::Store, "read the stream's head: there is none yet")),
        }
    }

    /// The next thing for one restore.
    async fn advance(
        &mut self,
        region: &mut Region<'_>,
        standing: &Standing,
        quarantined: &[Quarantined],
        mut restore: Restore,
        step: &mut Step,
    ) -> Result<()> {
        if let Some(running) = self.running.as_ref().filter(|running| running.id == restore.id) {
            running.at.send_replace(standing.at);
            let rows = running.rows.load(Ordering::Relaxed);
            if restore.state == State::Loading && rows != restore.rows {
                journal::progress(region.control(), restore.id, rows).await?;
            }
            return Ok(());
        }
        // The stream waits for what is between RENAME and end: it does not wait for another's rows.
        let is_swapping = restore.state == State::Swapping;
        if self.is_paused(restore.id) || (self.running.is_some() && !is_swapping) {
            self.tell(&restore, step);
            return Ok(());
        }
        let done = match restore.state {
            State::Swapping => self.settle_swap(region, &mut restore).await,
            State::Loaded => self.bring_in(region, standing, &mut restore).await,
            _ => self.begin(region, standing, quarantined, &mut restore).await,
        };
        if let Err(error) = done {
            ends_run(&error)?;
            self.failed(region, &mut restore, &error).await?;
        }
        self.tell(&restore, step);
        Ok(())
    }

    fn is_paused(&self, id: u64) -> bool {
        self.pauses.get(&id).is_some_and(|pause| pause.until > Instant::now())
    }

    /// A run from cron does not stay for what is left alone for a while: the next one goes on with it.
    fn tell(&self, restore: &Restore, step: &mut Step) {
        let (open, is_paused) = (!restore.state.is_final(), self.is_paused(restore.id));
        step.is_busy |= open && restore.state != State::Wanted && !is_paused;
        if restore.state == State::Wanted || (open && is_paused) {
            step.waiting.push(waiting(restore));
        }
    }

    /// Takes note of how the task ended.
    async fn settle(&mut self, region: &mut Region<'_>, open: &[Restore]) -> Result<()> {
        if !self.running.as_ref().is_some_and(|running| running.task.is_finished()) {
            return Ok(());
        }
        let Some(mut running) = self.running.take() else { return Ok(()) };
        let ended = (&mut running.task).await;
        let Some(restore) = open.iter().find(|restore| restore.id == running.id) else { return Ok(()) };
        // The task writes `loaded` itself.
        let current = journal::one(region.control(), &self.config.stream, restore.id).await?;
        let mut restore = current.unwrap_or_else(|| restore.clone());
        let ended =
            ended.unwrap_or_else(|error| Err(Error::new(Kind::Failed, "load a dump").caused_by(error)));
        match ended {
            Ok(Caught::UpTo(_)) => Ok(()),
            Ok(Caught::Ddl { n, table }) => {
                self.does_not_fit(region.control(), &mut restore, n, &table.to_string()).await
            }
            Err(error) => self.failed(region, &mut restore, &error).await,
        }
    }

    pub(super) async fn does_not_fit(
        &mut self,
        conn: &mut Conn,
        restore: &mut Restore,
        n: u64,
        table: &str,
    ) -> Result<()> {
        let dump = restore.dump.as_ref().map(ToString::to_string).unwrap_or_default();
        let message = format!(
            "dump {dump} does not fit: stream transaction {n}, which this region has passed, defines {table} anew; \
             a newer dump is needed"
        );
        tracing::info!(restore = restore.id, "{message}");
        restore.entry = restore.entry.next();
        restore.again();
        // The first time the next dump may be there already.
        match restore.attempts {
            0 => restore.attempts = 1,
            _ => drop(self.back_off(restore)),
        }
        restore.message = Some(message);
        journal::update(conn, restore).await
    }

    pub(super) fn shapes(&self, restore: &Restore) -> Result<Vec<Shape>> {
        shapes(&self.region.tables, &restore.plan, true)
    }
}

fn waiting(restore: &Restore) -> String {
    match &restore.message {
        Some(message) => format!("{}: {message}", restore.names()),
        None => format!("{}: waits for a dump", restore.names()),
    }
}
