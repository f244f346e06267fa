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

use super::catch_up::{CatchUp, Caught};
use super::choose::{self, Wanted};
use super::failures::{ends_run, pause_after};
use super::journal::{self, Planned, Restore, State, Why};
use super::load::Loader;
use super::shape::{Shape, shapes};
use super::swap;
use super::work::{Work, manifest};
use super::{needs, server};
use crate::binlog::name::TableName;
use crate::clock::Clock;
use crate::config::{Config, RegionConfig};
use crate::region::apply::pass::{Region, region_of};
use crate::region::ask::{Asked, Asker};
use crate::region::position::{self, Executed};
use crate::region::quarantine::{self, Quarantined, Reason};
use crate::store::head::Read;
use crate::store::{self, Etag, Store};
use crate::stream::{Entry, Head, Index, Manifest, StreamTx};
use crate::{Error, Kind, Result, failpoint, mysql};

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
    stop: CancellationToken,
    running: Option<Running>,
    /// Restores that are to be left alone for a while.
    pub(super) pauses: BTreeMap<u64, Pause>,
    head: Option<(Etag, Head)>,
    pub(super) changed: Arc<Notify>,
    /// The source is being asked, by restore.
    pub(super) asks: BTreeMap<u64, JoinHandle<Result<Asked>>>,
    is_open: bool,
    /// Something has been swapped in since the last look: another pass will see it.
    pub(super) has_swapped: bool,
}

/// The task that loads.
struct Running {
    id: u64,
    task: JoinHandle<Result<Caught>>,
    rows: Arc<AtomicU64>,
    at: watch::Sender<StreamTx>,
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
}

/// A dump in the stream that every region has to take: put down before the position passes it. Whether the entry
/// may be passed now; not a resync that has not been restored.
pub async fn meets(conn: &mut Conn, name: &str, entry: &Entry, clock: &dyn Clock) -> Result<bool> {
    let Some(dump) = entry.dump().filter(|dump| dump.mandatory || dump.resync) else { return Ok(true) };
    // What has been restored from this dump or a later one, a bootstrap too, has what it brings. The transactions that
    // they stand at do not tell: what the source has lost has no number.
    let is_there = |restore: &Restore| {
        restore.entry >= entry.seq
            && (restore.why == Why::Bootstrap
                || dump.tables.iter().all(|table| restore.tables.contains(table)))
    };
    if journal::done(conn, name, entry.seq).await?.iter().any(is_there) {
        return Ok(true);
    }
    let there = journal::of_entry(conn, name, entry.seq).await?;
    if there.iter().any(|restore| restore.state == State::Done) {
        return Ok(true);
    }
    if there.is_empty() {
        let why = if dump.resync { Why::Resync } else { Why::Mandatory };
        let mut restore = Restore::new(why, dump.tables.iter().cloned().collect(), clock.now());
        restore.entry = entry.seq;
        restore.id = journal::insert(conn, name, &restore).await?;
        tracing::info!(restore = restore.id, dump = %dump.id, "entry {} is a dump for every region", entry.seq.0);
    }
    Ok(!dump.resync)
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
            has_swapped: false,
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
        if open.is_empty() || position::read(region.control(), &name).await?.is_some() {
            return Ok(false);
        }
        Ok(open.iter().any(|restore| restore.why == Why::Bootstrap))
    }

    /// After a pass that went well.
    pub async fn step(&mut self, region: &mut Region<'_>) -> Result<Step> {
        let name = self.config.stream.clone();
        let conn = region.control();
        let open = journal::open_ones(conn, &name).await?;
        let quarantined = quarantine::list(conn, &name).await?;
        if open.is_empty() && quarantined.is_empty() && self.running.is_none() {
            return Ok(Step::default());
        }
        let at = match position::read(conn, &name).await? {
            Some(position) => {
                let gtids = position::gtid_executed(conn).await?;
                let executed = Executed::of(position.stream, &gtids).with_base(position.base_tx);
                StreamTx(executed.complete_to())
            }
            None if open.iter().any(|restore| restore.why == Why::Bootstrap) => StreamTx::ZERO,
            None => return Ok(Step::default()),
        };
        let standing = Standing { at };
        self.refresh_head().await?;
        self.settle(region, &open).await?;
        let mut open = needs::note(self, region.control(), &quarantined).await?;
        self.make_way(region.control(), at, &mut open).await?;
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

    /// Looks for a dump, and begins to load it.
    async fn begin(
        &mut self,
        region: &mut Region<'_>,
        standing: &Standing,
        quarantined: &[Quarantined],
        restore: &mut Restore,
    ) -> Result<()> {
        let mut index = self.index()?;
        let since = quarantined.iter().filter(|table| restore.tables.contains(&table.table));
        let since = since.map(|table| StreamTx(table.since_tx.saturating_sub(1))).min();
        let for_all = matches!(restore.why, Why::Mandatory | Why::Resync | Why::Bootstrap);
        let wanted = Wanted {
            tables: &restore.tables,
            entry: restore.entry,
            at: standing.at,
            since,
            for_all,
            // The position comes with it: it has to be all there is.
            full: matches!(restore.why, Why::Resync | Why::Bootstrap),
        };
        let Some(chosen) = choose::choose(&mut index, &*self.store, &wanted).await? else {
            return needs::ask(self, region.control(), restore).await;
        };
        let manifest = manifest(&*self.store, &chosen).await?;
        if for_all && chosen.dump.full {
            // A newer one than it was begun for may hold others.
            restore.tables = chosen.dump.tables.iter().cloned().collect();
        }
        restore.plan = planned(&manifest, &restore.tables)?;
        let shapes = self.shapes(restore)?;
        let known = self.head().map(|head| head.definitions.clone()).unwrap_or_default();
        let conn = region.control();
        let found = swap::hindrances(conn, &self.region.tables, &known, &shapes).await?;
        if !found.is_empty() {
            return Err(swap::refused(&restore.tables, &found));
        }
        self.hold(region, standing, restore, &shapes).await?;
        restore.state = State::Loading;
        restore.entry = chosen.seq;
        restore.dump = Some(chosen.dump.id.clone());
        (restore.at, restore.rows, restore.message) = (chosen.dump.at, 0, None);
        restore.rows_total =
            restore.tables.iter().filter_map(|table| manifest.table(table)).map(|t| t.rows).sum();
        restore.started_at = Some(self.clock.now());
        journal::update(region.control(), restore).await?;
        failpoint::hit("restore.begun");
        tracing::info!(
            restore = restore.id,
            dump = %chosen.dump.id,
            at = chosen.dump.at.0,
            "restoring {} ({} rows)",
            restore.names(),
            restore.rows_total
        );
        let catch_up = self.catch_up(region, restore, &shapes).await?;
        self.spawn(restore, Some(manifest), shapes, catch_up, standing.at);
        Ok(())
    }

    /// A CHECK with a name of its own can be in one table of a schema only: the table gives it up, and what the stream
    /// brings for it from now on waits for the restore.
    async fn hold(
        &self,
        region: &mut Region<'_>,
        standing: &Standing,
        restore: &Restore,
        shapes: &[Shape],
    ) -> Result<()> {
        let checks = swap::checks_in_the_way(region.control(), shapes).await?;
        if checks.is_empty() {
            return Ok(());
        }
        let next = standing.at.0 + 1;
        let held: Vec<Quarantined> = restore
            .tables
            .iter()
            .map(|table| {
                let error = format!("restore {} has taken its CHECK constraints away", restore.id);
                Quarantined::new(table.clone(), Reason::Held, next, error, self.clock.now())
            })
            .collect();
        region.verify_lock().await?;
        quarantine::add(region.control(), &self.config.stream, &held).await?;
        failpoint::hit("restore.held");
        let mut definer = self.definer(region).await?;
        swap::drop_checks(&mut definer, &checks).await
    }

    pub(super) async fn definer(&self, region: &mut Region<'_>) -> Result<Conn> {
        let server = mysql::server(region.control()).await?;
        server::definer(&self.config.mysql, &self.config.stream, server.version, "swap", INLINE_PATIENCE)
            .await
    }

    pub(super) async fn catch_up(
        &self,
        region: &mut Region<'_>,
        restore: &Restore,
        shapes: &[Shape],
    ) -> Result<CatchUp> {
        let Some(head) = self.head() else {
            return Err(Error::new(Kind::Store, "read the stream's head: there is none yet"));
        };
        let id = restore.id;
        Ok(CatchUp {
            config: self.config.mysql.clone(),
            server: mysql::server(region.control()).await?,
            stream: head.stream,
            store: self.store.clone(),
            spool_dir: self.config.files.spool_dir.clone(),
            tables: self.region.tables.clone(),
            targets: shapes.iter().map(|shape| (shape.table.clone(), shape.shadow.clone())).collect(),
            lock: server::lock_name(&self.config.stream, "catch-up"),
            patience: server::PATIENCE,
            record: Arc::new(move |n| journal::until(id, n)),
            stop: self.stop.clone(),
        })
    }

    pub(super) fn loader(&self, rows: Arc<AtomicU64>) -> Loader {
        Loader {
            stream: self.config.stream.clone(),
            config: self.config.mysql.clone(),
            store: self.store.clone(),
            spool_dir: self.config.files.spool_dir.clone(),
            connections: self.config.apply.workers,
            tables: self.region.tables.clone(),
            rows,
        }
    }

    /// Starts the task: loads, unless that is done, and follows the stream for a while.
    pub(super) fn spawn(
        &mut self,
        restore: &Restore,
        manifest: Option<Manifest>,
        shapes: Vec<Shape>,
        catch_up: CatchUp,
        at: StreamTx,
    ) {
        let rows = Arc::new(AtomicU64::new(0));
        let (sender, at) = watch::channel(at);
        let work = Work {
            restore: restore.clone(),
            loader: self.loader(rows.clone()),
            catch_up,
            shapes,
            manifest,
            at,
            now: self.clock.now(),
        };
        let changed = self.changed.clone();
        let task = tokio::spawn(async move {
            let ended = work.run().await;
            changed.notify_one();
            ended
        });
        self.running = Some(Running { id: restore.id, task, rows, at: sender });
    }
}

/// What is to be done to each table. A table that the region shall lose is one that the manifest says is gone.
fn planned(manifest: &Manifest, tables: &BTreeSet<TableName>) -> Result<Vec<Planned>> {
    let of = |table: &TableName| {
        let create_table = manifest.table(table).map(|dumped| dumped.create_table.clone());
        if create_table.is_none() && !manifest.absent.contains(table) {
            return Err(Error::new(
                Kind::Corrupt,
                format!("read the manifest of dump {}: it says nothing about {table}", manifest.id),
            ));
        }
        Ok(Planned { table: table.clone(), create_table })
    };
    tables.iter().map(of).collect()
}

fn waiting(restore: &Restore) -> String {
    match &restore.message {
        Some(message) => format!("{}: {message}", restore.names()),
        None => format!("{}: waits for a dump", restore.names()),
    }
}
