//! `apply`: replays what is new in the stream, then ends; or keeps on.
//!
//! A run holds `GET_LOCK` in the region for its whole time. Each pass reads the head with one conditional GET and
//! does nothing more when nothing is new. A following run tries again by itself after what may pass (a lost
//! connection, a store that does not answer), with a growing pause; everything else ends it.

mod advance;
mod checks;
mod comparing;
mod figures;
mod guarding;
mod isolate;
mod news;
pub(super) mod pass;
mod reports;
mod segment;
mod sets;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use mysql_async::Conn;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use self::figures::Figures;
use self::news::{Found, News, Woken};
use self::pass::Region;
use self::reports::Reporter;
use super::ask::Asker;
use super::plan::{Plan, as_text};
use super::quarantine::{self, Quarantined};
use super::restore::{self, Engine, State, Step, Told};
use crate::binlog::name::TableName;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::chain;
use crate::failure::Notice;
use crate::metrics::Meters;
use crate::store::Store;
use crate::stream::Paused;
use crate::{Error, Kind, Result};

/// How often a following run looks while a restore is under way.
const POLL_BUSY: Duration = Duration::from_millis(500);
/// The longest pause after a failure that may pass.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// So many failures of the store in a row are waited out by a run from cron that is loading a dump: some minutes.
const STORE_TRIES: u32 = 10;

/// How often a following run looks whether it is still paused.
const PAUSED_POLL: Duration = Duration::from_secs(5);

/// A restore that waits for so long is for somebody to look at: a dump is asked for, taken and fetched in less.
const LONG_WAIT: Duration = Duration::from_secs(300);

/// From so many failures in a row on a following run tells the source of them: one or two are nothing unusual.
const NEWS: u32 = 3;

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    pub follow: bool,
    /// Stop behind this stream transaction.
    pub until: Option<u64>,
    pub dry_run: bool,
    pub lock_wait: Duration,
    /// Ends the run at the next transaction boundary.
    pub stop: CancellationToken,
    /// Where the run's figures are kept.
    pub meters: Meters,
    /// Who is told while a run that follows fails and works.
    pub notice: Notice,
}

/// What a run did.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub stream: String,
    pub region: String,
    pub dry_run: bool,
    /// Ended by the token, at a transaction boundary.
    pub stopped: bool,
    /// Of the first pass that had something to do.
    pub plan: Option<Plan>,
    #[serde(serialize_with = "as_text")]
    pub entries: u64,
    /// Committed by this run.
    #[serde(serialize_with = "as_text")]
    pub transactions: u64,
    /// Found in `gtid_executed`, left by an earlier run that was cut short.
    #[serde(serialize_with = "as_text")]
    pub skipped: u64,
    #[serde(serialize_with = "as_text")]
    pub seq: u64,
    #[serde(serialize_with = "as_text")]
    pub last_tx: u64,
    pub as_of: Option<DateTime<Utc>>,
    pub lag_seconds: Option<u64>,
    /// The tables in quarantine at the run's end.
    pub quarantined: Vec<Quarantined>,
    /// Tables of the stream that the region's list does not let in.
    pub left_out: Vec<TableName>,
    /// Restores that have ended well in this run, and those under way at its end.
    pub restored: Vec<Told>,
    pub restoring: Vec<Told>,
    /// Restores that wait for something at the run's end.
    pub waiting: Vec<String>,
    pub warnings: Vec<String>,
    /// The pause that it has met last, if that was still there then.
    #[serde(skip)]
    pub(super) paused: Option<Paused>,
    #[serde(skip)]
    pub(super) figures: Figures,
}

impl Report {
    /// Exit code 3 while something of the region is not as the source has it. `command`: what was to do.
    pub fn verdict(&self, command: &str) -> Option<Error> {
        quarantine::verdict(command, &self.stream, &self.quarantined).or_else(|| {
            let first = self.waiting.first()?;
            let message = format!("{command} {}: a restore waits: {first}", self.stream);
            let hint = "every other table is up to date; the next apply goes on with it";
            Some(Error::new(Kind::Partly, message).hint(hint))
        })
    }

    /// Whether the server can be away because somebody is at work on it who has paused the stream here.
    fn is_away(&self, error: &Error, now: DateTime<Utc>) -> bool {
        error.kind() == Kind::Mysql && self.paused.as_ref().is_some_and(|paused| !paused.is_over(now))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.dry_run {
            return match &self.plan {
                Some(plan) => write!(f, "{plan}"),
                None => write!(f, "{}: nothing to apply", self.stream),
            };
        }
        write!(f, "{}: ", self.stream)?;
        match (self.transactions, self.restored.is_empty()) {
            (0, true) => write!(f, "nothing to apply")?,
            (0, false) => {}
            (n, is_all) => {
                let comma = if is_all { "" } else { ", " };
                write!(f, "applied {n} transactions from {} entries{comma}", self.entries)?;
            }
        }
        for (at, told) in self.restored.iter().enumerate() {
            write!(f, "{}restored {}", if at > 0 { ", " } else { "" }, told.line())?;
        }
        for told in &self.restoring {
            write!(f, "; restoring {}", told.line())?;
        }
        write!(f, "; at entry {}, transaction {}", self.seq, self.last_tx)?;
        if let Some(lag) = self.lag_seconds {
            write!(f, ", {lag} s behind the source")?;
        }
        Ok(())
    }
}

/// Whether another pass has something to do at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// There are more entries.
    More,
    /// Something was applied, up to the head's end.
    Applied,
    /// Nothing to run, though the head is another or was not looked at.
    Nothing,
    /// The head is as it was.
    Idle,
    /// `until` has been reached, or the token ended the pass.
    Over,
}

/// What a following run has not made good, and since when it waits for nothing but a dump.
#[derive(Debug, Default)]
struct Stands {
    waits: Option<Instant>,
}

impl Stands {
    /// After a pass that ended well. A table in quarantine is news at once; that a restore waits, only when it goes on.
    async fn tell(&mut self, report: &Report, notice: &Notice) {
        if report.quarantined.is_empty() && report.waiting.is_empty() {
            self.waits = None;
            return notice.worked().await;
        }
        let waits = *self.waits.get_or_insert_with(Instant::now);
        let is_news = !report.quarantined.is_empty() || waits.elapsed() >= LONG_WAIT;
        notice.partly(report.verdict("apply").filter(|_| is_news).as_ref()).await;
    }
}

/// What a run sees through beside the stream.
#[derive(Clone, Debug, Default)]
pub struct Until {
    /// It goes on until these restores are at their end.
    pub restores: Vec<u64>,
    /// But not longer than this.
    pub deadline: Option<Instant>,
}

/// So many restores of a run are told.
const MOST_TOLD: u64 = 100;

/// What the run has restored since `began`, and what it leaves under way.
async fn tell_restores(conn: &mut Conn, name: &str, began: DateTime<Utc>, report: &mut Report) -> Result<()> {
    let mut all = restore::recent(conn, name, MOST_TOLD).await?;
    all.reverse();
    let of_this_run = |restore: &&restore::Restore| restore.finished_at.is_some_and(|at| at >= began);
    let done = all.iter().filter(|restore| restore.state == State::Done).filter(of_this_run);
    report.restored = done.map(Told::from).collect();
    let open = all.iter().filter(|restore| !restore.state.is_final() && restore.state != State::Wanted);
    report.restoring = open.map(Told::from).collect();
    Ok(())
}

/// Replays the stream into the region, and restores what is to be restored.
pub async fn run(
    config: &Config,
    store: Arc<dyn Store>,
    clock: &dyn Clock,
    asker: Option<Arc<dyn Asker>>,
    options: &Options,
) -> Result<Report> {
    run_until(config, store, clock, asker, options, &Until::default()).await
}

/// The same, until these restores have ended.
pub async fn run_until(
    config: &Config,
    store: Arc<dyn Store>,
    clock: &dyn Clock,
    asker: Option<Arc<dyn Asker>>,
    options: &Options,
    until: &Until,
) -> Result<Report> {
    let mut report = Report {
        stream: config.stream.clone(),
        region: config.region.as_ref().map_or_else(String::new, |region| region.name.clone()),
        dry_run: options.dry_run,
        stopped: false,
        plan: None,
        entries: 0,
        transactions: 0,
        skipped: 0,
        seq: 0,
        last_tx: 0,
        as_of: None,
        lag_seconds: None,
        quarantined: Vec::new(),
        left_out: Vec::new(),
        restored: Vec::new(),
        restoring: Vec::new(),
        waiting: Vec::new(),
        warnings: Vec::new(),
        paused: None,
        figures: Figures::new(options.meters.clone()),
    };
    let mut engine = Engine::new(config, store.clone(), clock, asker.clone(), options.stop.clone())?;
    let pace = engine.pace();
    let began = clock.now();
    let mut news = News::new(asker.clone().filter(|_| options.follow), config.apply.poll);
    let mut woken = Woken::Look;
    let mut reporter = Reporter::new(asker.filter(|_| !options.dry_run));
    let mut region: Option<Region<'_>> = None;
    let mut failures = 0u32;
    let mut is_paused = false;
    let mut stands = Stands::default();
    loop {
        let passed = async {
            let region = match &mut region {
                Some(region) => region,
                None => {
                    let opened = Region::open(config, store.clone(), clock, options, &mut report).await?;
                    region.insert(opened)
                }
            };
            region.heed_pause(&mut report).await?;
            options.meters.goes_on();
            if std::mem::take(&mut is_paused) {
                tracing::info!("{} is no longer paused here: going on", config.stream);
            }
            if options.dry_run {
                return Ok::<_, Error>((region.pass(&mut report).await?, Step::default()));
            }
            engine.open(region).await?;
            let next = match engine.holds_stream(region).await? {
                true => Next::Nothing,
                // Nobody says that the head is another.
                false if woken == Woken::Nearby => {
                    region.verify_lock().await?;
                    Next::Nothing
                }
                false => {
                    let _first = pace.stream_works();
                    tokio::select! {
                        passed = region.pass(&mut report) => passed?,
                        never = reporter.lives(config, clock) => match never {},
                    }
                }
            };
            if matches!(next, Next::Nothing | Next::Idle) {
                region.rest().await;
            }
            let step = engine.step(region).await?;
            region.works().await;
            report.waiting.clone_from(&step.waiting);
            if options.follow {
                stands.tell(&report, &options.notice).await;
            }
            reporter.tell(region.control(), config, &report, clock.now()).await;
            let over = until.deadline.is_some_and(|deadline| deadline <= Instant::now())
                || (!until.restores.is_empty()
                    && restore::are_final(region.control(), &config.stream, &until.restores).await?);
            Ok((if over { Next::Over } else { next }, step))
        };
        let passed = passed.await;
        Figures::tell(&mut report);
        if passed.is_ok() {
            options.meters.worked(clock.now());
        }
        if let Ok((next, _)) = &passed
            && woken == Woken::Look
        {
            news.looked(match next {
                Next::Idle => Found::Nothing,
                Next::Nothing => Found::Head,
                Next::More | Next::Applied | Next::Over => Found::Entries,
            });
        }
        let (pause, then) = match passed {
            Ok((Next::More, _)) if !options.dry_run => {
                failures = 0;
                continue;
            }
            Ok((Next::Over, _)) => break,
            Ok((_, step)) if !options.dry_run && step.is_busy => {
                failures = 0;
                (news.poll().min(POLL_BUSY), Woken::Look)
            }
            Ok(_) if !options.follow || options.dry_run => break,
            Ok(_) => {
                failures = 0;
                match report.waiting.is_empty() {
                    true => {
                        let (pause, then) = news.pause(report.seq);
                        // What is amiss here is looked after as always.
                        (pause, if report.quarantined.is_empty() { then } else { Woken::Look })
                    }
                    // The stream may be held up here: that it has more is no news.
                    false => (news.poll(), Woken::Look),
                }
            }
            Err(error) if options.follow && error.kind() == Kind::Paused => {
                failures = 0;
                options.meters.waits_for_resume();
                // Whoever is to work on the server finds nothing of ours there.
                engine.suspend();
                if let Some(region) = region.take() {
                    region.close().await;
                }
                if !std::mem::replace(&mut is_paused, true) {
                    tracing::warn!("{error}; waiting for its end");
                }
                reporter.fails(config, &error, clock.now()).await;
                (PAUSED_POLL, Woken::Look)
            }
            Err(error) if options.follow && region.is_none() && report.is_away(&error, clock.now()) => {
                tracing::debug!(error = %chain(&error), "paused, and its server does not answer");
                (PAUSED_POLL, Woken::Look)
            }
            Err(error)
                if error.kind() == Kind::Store
                    && (options.follow || (engine.is_loading() && failures < STORE_TRIES)) =>
            {
                // Connections and lock are as they were, and so is a dump that is being loaded.
                failures += 1;
                options.meters.tried_again(error.kind());
                let pause = Duration::from_secs(1 << failures.min(5)).min(LONGEST_PAUSE);
                tracing::warn!(error = %chain(&error), "the store fails, trying again in {} s", pause.as_secs());
                options.notice.failed(&error).await;
                if failures >= NEWS {
                    reporter.fails(config, &error, clock.now()).await;
                }
                (pause, Woken::Look)
            }
            Err(error) if options.follow && error.is_transient() => {
                failures += 1;
                options.meters.tried_again(error.kind());
                let pause = Duration::from_secs(1 << failures.min(5)).min(LONGEST_PAUSE);
                tracing::warn!(error = %chain(&error), "apply failed, trying again in {} s", pause.as_secs());
                options.notice.failed(&error).await;
                if failures >= NEWS {
                    reporter.fails(config, &error, clock.now()).await;
                }
                // Connections and lock are made anew: any of them may be what broke.
                engine.suspend();
                if let Some(region) = region.take() {
                    region.close().await;
                }
                (pause, Woken::Look)
            }
            Err(error) => {
                engine.suspend();
                if let Some(region) = region.take() {
                    region.close().await;
                }
                reporter.fails(config, &error, clock.now()).await;
                return Err(error);
            }
        };
        tokio::select! {
            () = options.stop.cancelled() => {
                report.stopped = true;
                break;
            }
            () = engine.changed() => woken = Woken::Look,
            () = news.heard(), if failures == 0 && !is_paused => woken = Woken::Look,
            () = tokio::time::sleep(pause) => woken = then,
        }
    }
    engine.suspend();
    if let Some(region) = &mut region {
        reporter.close(region.control(), config, clock.now()).await;
        if !options.dry_run
            && let Err(error) = tell_restores(region.control(), &config.stream, began, &mut report).await
        {
            tracing::debug!(error = %chain(&error), "what has been restored is not told");
        }
    }
    if let Some(region) = region {
        region.close().await;
    }
    Ok(report)
}
