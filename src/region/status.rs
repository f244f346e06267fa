//! Where a region stands in the stream.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde::Serialize;
use uuid::Uuid;

use super::apply::pass::{lock_name, region_of, seconds_since};
use super::checked::{self, TableCheck};
use super::guard::{self, Wish};
use super::history;
use super::position::{self, Executed, Position};
use super::quarantine::{self, Quarantined};
use super::restore::{self, Told};
use super::scope::{self, Scope, left_out};
use super::state::{self, State};
use super::ties::{self, Tie};
use crate::binlog::name::TableName;
use crate::clock::Clock;
use crate::config::{Config, Guard};
use crate::error::chain;
use crate::failure::{self, Failure, Kept};
use crate::store::head::Read;
use crate::store::{self, Store};
use crate::stream::{Index, Paused};
use crate::{Result, mysql};

/// A region's state, read without changing anything.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    pub stream: String,
    pub region: String,
    pub store: String,
    pub uuid: Option<Uuid>,
    #[serde(serialize_with = "super::plan::as_text")]
    pub seq: u64,
    #[serde(serialize_with = "super::plan::as_text")]
    pub last_tx: u64,
    /// What the stream has beyond; `None` if its head could not be read.
    pub behind_entries: Option<u64>,
    pub behind_transactions: Option<u64>,
    /// The source's time up to which this region is complete.
    pub as_of: Option<DateTime<Utc>>,
    pub lag_seconds: Option<u64>,
    pub applied_at: Option<DateTime<Utc>>,
    /// An `apply` holds the lock now.
    pub applying: bool,
    /// Somebody wants nothing applied here for a while.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    pub last_error: Option<String>,
    pub last_error_at: Option<DateTime<Utc>>,
    /// What that error means, and what is to be done.
    pub failure: Option<Failure>,
    /// Tables whose changes are passed over.
    pub quarantined: Vec<Quarantined>,
    /// What checks have shown of each table; empty if there was none.
    pub checked: Vec<TableCheck>,
    /// Tables of the stream that the region's list does not let in.
    pub left_out: Vec<TableName>,
    /// Foreign keys between what the region follows and what it does not.
    pub ties: Vec<Tie>,
    /// Restores that are wanted or under way, oldest first.
    pub restoring: Vec<Told>,
    /// The last ones that have ended, newest first.
    pub restored: Vec<Told>,
    pub warnings: Vec<String>,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}: entry {}, transaction {}", self.stream, self.region, self.seq, self.last_tx)?;
        match (self.behind_entries, self.behind_transactions) {
            (Some(0), _) => write!(f, ", nothing to apply")?,
            (Some(entries), Some(n)) => write!(f, ", {n} transactions in {entries} entries to apply")?,
            _ => write!(f, ", the stream cannot be read")?,
        }
        if let Some(lag) = self.lag_seconds {
            write!(f, ", {lag} s behind the source")?;
        }
        if let Some(paused) = &self.paused {
            write!(f, ", paused {paused}")?;
        }
        if self.applying {
            write!(f, ", apply is running")?;
        }
        for known in &self.quarantined {
            write!(
                f,
                "\nin quarantine: {} since transaction {}: {}",
                known.table, known.since_tx, known.error
            )?;
        }
        for table in &self.checked {
            if let Some(found) = &table.drift {
                write!(
                    f,
                    "\nother rows than the source: {} at transaction {}: {}",
                    table.table, found.tx, found.drift
                )?;
            }
        }
        if !self.left_out.is_empty() {
            write!(f, "\nnot let in by this region's list: {}", restore::names(&self.left_out))?;
        }
        for tie in &self.ties {
            write!(f, "\n{tie}")?;
        }
        for told in &self.restoring {
            write!(f, "\nrestoring: {}", told.line())?;
        }
        if let Some(error) = &self.last_error {
            write!(f, "\nlast error: {error}")?;
        }
        Ok(())
    }
}

/// What holds for all runs here, and what the last one failed with, if it did. Changes nothing.
pub async fn standing(conn: &mut Conn, config: &Config) -> Result<(State, Option<Failure>)> {
    let at = position::read(conn, &config.stream).await?;
    let state = state::read(conn, &config.stream).await?;
    let failure = last_failure(config, &state, at.as_ref());
    Ok((state, failure))
}

/// The newer of what the server was told last and what this machine has kept for itself.
fn last_failure(config: &Config, state: &State, at: Option<&Position>) -> Option<Failure> {
    let applied_at = at.map(|at| at.applied_at);
    let untold = ["apply", "bootstrap"].into_iter().filter_map(|job| untold(config, job, applied_at));
    untold.chain(state.failure.clone()).max_by_key(|failure| failure.at)
}

/// What a run of `job` has failed with since `applied_at` where the server could not be told: it has none of our tables yet,
/// or takes no writes.
fn untold(config: &Config, job: &str, applied_at: Option<DateTime<Utc>>) -> Option<Failure> {
    let kept = Kept::read(&failure::file(config, job))?;
    let is_told = kept.recorded_at.is_some() || kept.failure.stands_in_tables();
    let is_over = applied_at.is_some_and(|applied_at| applied_at >= kept.failure.at);
    (!is_told && !is_over).then_some(kept.failure)
}

/// Reads where the region stands and what the stream has beyond. Takes no lock and changes nothing.
pub async fn run(config: &Config, store: Arc<dyn Store>, clock: &dyn Clock) -> Result<Status> {
    let region = region_of(config)?;
    let mut conn = mysql::connect(&config.mysql).await?;
    let at = position::read(&mut conn, &config.stream).await?;
    let holder: Option<Option<u64>> = conn
        .exec_first("SELECT IS_USED_LOCK(?)", (lock_name(config),))
        .await
        .map_err(|error| mysql::error(error, "look at the lock"))?;
    let state = state::read(&mut conn, &config.stream).await?;
    let last_failure = last_failure(config, &state, at.as_ref());
    let gtids = position::gtid_executed(&mut conn).await?;
    let quarantined = quarantine::list(&mut conn, &config.stream).await?;
    let checked = checked::list(&mut conn, &config.stream).await?;
    let wish = guard::wish(&mut conn, config).await?;
    let mut warnings = guard_warnings(&wish);
    let restoring = restore::open_ones(&mut conn, &config.stream).await?;
    let past = restore::recent(&mut conn, &config.stream, LOOKED_AT).await?;
    let restored =
        past.iter().filter(|restore| restore.state.is_final()).take(PAST).map(Told::from).collect();
    let restoring = restoring.iter().map(Told::from).collect();
    let head = match store::head::read(&*store, None).await {
        Ok(Read::Head { head, .. }) => Some(*head),
        Ok(Read::Unchanged) => None,
        // Where this region stands is worth telling even so.
        Err(error) => {
            warnings.push(chain(&error));
            None
        }
    };
    let (seq, last_tx) = at.as_ref().map_or((0, 0), |at| (at.seq.0, at.last_tx.0));
    let mut behind = (None, None);
    if let Some(head) = &head {
        // Another stream's numbers say nothing of this one.
        history::check_name(&config.stream, head, &store.url())?;
    }
    let list = &region.tables;
    let scope = head.as_ref().map_or_else(|| Scope::of_list(list), |head| Scope::of(list, head));
    let ties = ties::look(&mut conn, &scope).await?;
    let mut not_let_in = at.as_ref().map(|at| at.left_out.clone()).unwrap_or_default();
    if let Some(head) = head {
        not_let_in = left_out(&region.tables, &head);
        let unknown = scope::unknown(&region.tables, &head);
        if !unknown.is_empty() {
            let unknown: Vec<String> = unknown.iter().map(ToString::to_string).collect();
            warnings.push(format!(
                "{}: named in `tables` of [region], and the stream has no such table",
                unknown.join(", ")
            ));
        }
        if let Some(at) = &at
            && wish.problem.is_none()
        {
            let bare = guard::bare_tables(&mut conn, config, &wish, &head, at.seq).await?;
            if !bare.is_empty() {
                let names = restore::names(bare.iter());
                warnings.push(format!(
                    "write guard: local writes to {names} are not refused; the next `tablecast apply` sets the guard"
                ));
            }
        }
        behind = (head.last_seq.0.checked_sub(seq), head.last_tx.0.checked_sub(last_tx));
        let base = at.as_ref().map(|at| at.base_tx).unwrap_or_default();
        let executed = Executed::of(head.stream, &gtids).with_base(base);
        let mut index = Index::new(head);
        if let Some(at) = &at {
            if let Err(error) = history::check_position(&config.stream, at, &executed) {
                warnings.push(chain(&error));
            }
            if let Err(error) = index.check_position(at.stream, at.seq, &at.chain, &*store).await {
                warnings.push(chain(&error));
            }
        }
        let checked =
            history::check_index(&mut conn, &config.stream, at.as_ref(), &executed, index.head()).await;
        if let Err(error) = checked {
            warnings.push(chain(&error));
        }
    }
    let as_of = at.as_ref().and_then(|at| at.as_of).filter(|as_of| *as_of != DateTime::UNIX_EPOCH);
    Ok(Status {
        stream: config.stream.clone(),
        region: region.name.clone(),
        store: store.url(),
        uuid: at.as_ref().map(|at| at.stream),
        seq,
        last_tx,
        behind_entries: behind.0,
        behind_transactions: behind.1,
        as_of,
        lag_seconds: as_of.map(|as_of| seconds_since(as_of, clock.now())),
        applied_at: at.as_ref().map(|at| at.applied_at),
        applying: holder.flatten().is_some(),
        paused: state.pause(clock.now()).cloned(),
        last_error: last_failure.as_ref().map(|failure| failure.message.clone()),
        last_error_at: last_failure.as_ref().map(|failure| failure.at),
        failure: last_failure,
        quarantined,
        checked,
        left_out: not_let_in,
        ties,
        restoring,
        restored,
        warnings,
    })
}

/// What a reader should know of the write guard: that it is off by hand, or not as it should be.
fn guard_warnings(wish: &Wish) -> Vec<String> {
    let mut warnings = Vec::new();
    if wish.by_command && wish.mode == Guard::Off {
        let by = wish.by.as_deref().unwrap_or("somebody");
        let why = wish.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        warnings.push(format!("the write guard was turned off by {by}{why}; `tablecast guard on` ends that"));
    }
    warnings.extend(wish.problem.as_ref().map(|problem| format!("write guard: {problem}")));
    warnings
}

/// How many restores of the past are told.
const PAST: usize = 3;
/// Among how many they are looked for.
const LOOKED_AT: u64 = 50;
