//! What a region tells the source's service of itself: after a pass that changed something, once a minute, also in the
//! midst of a pass that takes long, and when a run fails.
//!
//! Each report goes out in a task of its own. Whether it arrives makes no difference to the region.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use mysql_async::Conn;
use tokio::task::JoinHandle;

use super::Report;
use super::pass::seconds_since;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{chain, chain_and_hint};
use crate::failure::Failure;
use crate::region::ask::Asker;
use crate::region::checked::{self, TableCheck};
use crate::region::restore::{self, State};
use crate::region::{position, quarantine, state};
use crate::stream::{FORMAT, RegionReport, ReportedDrift, ReportedQuarantine, ReportedRestore, StreamTx};
use crate::{Error, Kind, Result, failpoint, mysql};

/// A region that has nothing to do still lives.
const EVERY: Duration = Duration::from_secs(60);
/// A busy one is not heard more often than this.
const AT_MOST_EVERY: Duration = Duration::from_secs(2);
/// How long the last report of a run is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of a text, in characters: a report is no place for whole statements.
const MAX_TEXT: usize = 1000;

/// Sends reports.
pub struct Reporter {
    asker: Option<Arc<dyn Asker>>,
    sent: Option<Instant>,
    /// What the last one told: entries, transactions, tables in quarantine, restores.
    told: (u64, u64, usize, usize),
    /// The last one told of a failure, or of a pause.
    has_failed: bool,
    /// Its service does not take them, and that has been said.
    is_refused: Arc<AtomicBool>,
    task: Option<JoinHandle<()>>,
}

impl Reporter {
    pub fn new(asker: Option<Arc<dyn Asker>>) -> Reporter {
        let is_refused = Arc::new(AtomicBool::new(false));
        Reporter { asker, sent: None, told: (0, 0, 0, 0), has_failed: false, is_refused, task: None }
    }

    /// Sends a report if there is something to tell, or it is time.
    pub async fn tell(&mut self, conn: &mut Conn, config: &Config, report: &Report, now: DateTime<Utc>) {
        let told = (report.entries, report.transactions, report.quarantined.len(), report.waiting.len());
        let since = self.sent.map(|sent| sent.elapsed());
        let is_due = match since {
            None => true,
            Some(since) => {
                since >= EVERY || ((told != self.told || self.has_failed) && since >= AT_MOST_EVERY)
            }
        };
        if is_due {
            self.send(conn, config, None, now).await;
            self.told = told;
        }
    }

    /// Once a minute as long as a pass goes on, which may be hours: a long catch-up, one large entry, one slow DDL. On a
    /// connection of its own, for the moment that it takes. Where it stands is what the region's server says; whether it
    /// gets on is for others to judge. May be dropped at any point.
    pub async fn lives(&mut self, config: &Config, clock: &dyn Clock) -> Infallible {
        if self.asker.is_none() {
            return std::future::pending().await;
        }
        let mut next = Instant::now() + EVERY;
        if failpoint::reach("apply.report_is_due").is_err() {
            next = Instant::now();
        }
        loop {
            tokio::time::sleep_until(next.into()).await;
            next = Instant::now() + EVERY;
            let told = async {
                let mut conn = mysql::connect(&config.mysql).await?;
                self.send(&mut conn, config, None, clock.now()).await;
                // Said goodbye to, the server does not note an aborted connection.
                let _ = conn.disconnect().await;
                Ok::<_, Error>(())
            };
            match tokio::time::timeout(PATIENCE, told).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(error = %chain(&error), "no report in the midst of a pass"),
                Err(_) => tracing::debug!("no report in the midst of a pass in time"),
            }
        }
    }

    /// Tells that the run fails with this, or is paused, on a connection of its own: the run's may be what broke. Once a minute, and
    /// no longer than [`PATIENCE`]. Another run's lock is no failure.
    pub async fn fails(&mut self, config: &Config, error: &Error, now: DateTime<Utc>) {
        let is_told = self.has_failed && self.sent.is_some_and(|sent| sent.elapsed() < EVERY);
        if self.asker.is_none() || error.kind() == Kind::Locked || is_told {
            return;
        }
        let failure = (error.kind() != Kind::Paused).then(|| Failure::of(error, "apply", "", now));
        let told = async {
            self.settle().await;
            let mut conn = mysql::connect(&config.mysql).await?;
            self.send(&mut conn, config, failure.as_ref(), now).await;
            self.settle().await;
            self.has_failed = true;
            Ok::<_, Error>(())
        };
        match tokio::time::timeout(PATIENCE, told).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(error = %chain(&error), "the source's service is not told of the failure")
            }
            Err(_) => tracing::debug!("the source's service is not told of the failure in time"),
        }
    }

    /// Waits for the report that is under way.
    async fn settle(&mut self) {
        if let Some(task) = self.task.take() {
            let _ = tokio::time::timeout(PATIENCE, task).await;
        }
    }

    /// The last report of a run.
    pub async fn close(&mut self, conn: &mut Conn, config: &Config, now: DateTime<Utc>) {
        self.settle().await;
        self.send(conn, config, None, now).await;
        self.settle().await;
    }

    async fn send(
        &mut self,
        conn: &mut Conn,
        config: &Config,
        failure: Option<&Failure>,
        now: DateTime<Utc>,
    ) {
        let Some(asker) = self.asker.clone() else { return };
        // One at a time: a service that hangs does not gather them.
        if self.task.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        self.sent = Some(Instant::now());
        let report = match build(conn, config, now).await {
            Ok(Some(report)) => {
                let last_error = failure.map(|failure| short(&failure.message)).or(report.last_error);
                let failure = failure.map(Failure::reported).or(report.failure);
                RegionReport { last_error, failure, ..report }
            }
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(error = %chain(&error), "no report");
                return;
            }
        };
        self.has_failed = failure.is_some();
        let is_refused = self.is_refused.clone();
        self.task = Some(tokio::spawn(async move {
            match asker.report(&report).await {
                Ok(()) => is_refused.store(false, Ordering::Relaxed),
                // A service that is away comes back; a token or a certificate does not mend itself.
                Err(error) if matches!(error.kind(), Kind::Denied | Kind::Usage | Kind::NotFound) => {
                    if !is_refused.swap(true, Ordering::Relaxed) {
                        tracing::warn!(
                            "the source's service does not take this region's report: {}. Apply goes on, and the source \
                             does not see this region",
                            chain_and_hint(&error)
                        );
                    }
                }
                Err(error) => {
                    tracing::debug!(error = %chain(&error), "the source's service does not take this region's report");
                }
            }
        }));
    }
}

async fn build(conn: &mut Conn, config: &Config, now: DateTime<Utc>) -> Result<Option<RegionReport>, Error> {
    let name = &config.stream;
    let Some(region) = &config.region else { return Ok(None) };
    let Some(at) = position::read(conn, name).await? else { return Ok(None) };
    let state = state::read(conn, name).await?;
    let mut quarantined: Vec<ReportedQuarantine> = quarantine::list(conn, name)
        .await?
        .into_iter()
        .map(|table| ReportedQuarantine {
            table: table.table,
            since_tx: StreamTx(table.since_tx),
            since: table.at,
            error: short(&table.error),
        })
        .collect();
    quarantined.sort_by(|a, b| a.table.cmp(&b.table));
    let checked = checked::list(conn, name).await?;
    let drifted = checked.iter().filter_map(|table| {
        let found = table.drift.as_ref()?;
        let (at_tx, what) = (StreamTx(found.tx), short(&found.drift.to_string()));
        Some(ReportedDrift { table: table.table.clone(), at_tx, found_at: found.at, what })
    });
    let ghosts = mysql::ghosts(conn, &config.mysql.to_string(), &region.tables).await?;
    let open = restore::open_ones(conn, name).await?;
    let restoring = open.into_iter().filter(|restore| restore.state != State::Wanted).filter_map(|restore| {
        Some(ReportedRestore {
            tables: restore.tables.iter().cloned().collect(),
            dump: restore.dump.clone()?,
            state: restore.state.to_string(),
            rows: restore.rows,
            rows_total: restore.rows_total,
        })
    });
    Ok(Some(RegionReport {
        format: FORMAT,
        region: region.name.clone(),
        stream: at.stream,
        seq: at.seq,
        chain: at.chain,
        last_tx: at.last_tx,
        base_tx: at.base_tx,
        as_of: at.as_of,
        lag_seconds: at.as_of.map(|as_of| seconds_since(as_of, now)),
        quarantined,
        restoring: restoring.collect(),
        ghosts: Some(ghosts.into_iter().map(|ghost| ghost.table).collect()),
        left_out: at.left_out,
        checked_at: checked.iter().filter_map(TableCheck::compared_at).max(),
        drifted: drifted.collect(),
        last_error: state.failure.as_ref().map(|failure| short(&failure.message)),
        failure: state.failure.as_ref().map(Failure::reported),
        // One that nobody could read would cost the region its whole report.
        paused: state.pause(now).filter(|paused| paused.validate().is_ok()).cloned(),
        version: format!("tablecast {}", env!("CARGO_PKG_VERSION")),
        reported_at: now,
        extra: serde_json::Map::new(),
    }))
}

fn short(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}
