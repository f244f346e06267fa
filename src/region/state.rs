//! `tablecast.state`: what holds for all runs of a stream in this region, whether it has a position yet or not.
//!
//! How the last run that failed ended, until one works. And a pause that somebody wants, written by `tablecast pause` and
//! `resume` without the lock of the runs, which read it at the start of each pass and before each entry.

use chrono::{DateTime, Utc};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

use super::apply::pass::region_of;
use super::position::{self, datetime, is_missing, take, time};
use crate::clock::Clock;
use crate::config::Config;
use crate::error::Kind;
use crate::failure::Failure;
use crate::stream::Paused;
use crate::stream::paused::{Change, Wanted};
use crate::{Result, mysql};

const READ: &str = include_str!("../../sql/region/state_read.sql");
const FAILURE: &str = include_str!("../../sql/region/state_failure.sql");
const WORKED: &str = include_str!("../../sql/region/state_worked.sql");
const PAUSE: &str = include_str!("../../sql/region/state_pause.sql");

/// A stream's row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// It may be over.
    pub paused: Option<Paused>,
    /// How the last run ended, if not well.
    pub failure: Option<Failure>,
}

impl State {
    /// The pause that holds now.
    pub fn pause(&self, now: DateTime<Utc>) -> Option<&Paused> {
        self.paused.as_ref().filter(|paused| !paused.is_over(now))
    }
}

/// Reads the row. A region without one, or of a version before it, is not paused and knows of no failure.
pub async fn read(conn: &mut Conn, name: &str) -> Result<State> {
    let row: Option<Row> = match conn.exec_first(READ, (name,)).await {
        Ok(row) => row,
        Err(error) if is_missing(&error) => None,
        Err(error) => return Err(mysql::error(error, &format!("read whether {name} is paused here"))),
    };
    let Some(mut row) = row else { return Ok(State::default()) };
    let paused = match time(take(&mut row, "paused_since")?)? {
        None => None,
        Some(since) => Some(Paused {
            reason: take::<Option<String>>(&mut row, "pause_reason")?.unwrap_or_default(),
            by: take::<Option<String>>(&mut row, "paused_by")?.unwrap_or_default(),
            since,
            until: time(take(&mut row, "paused_until")?)?,
        }),
    };
    let failure = match time(take(&mut row, "failed_at")?)? {
        None => None,
        Some(at) => Some(Failure::of_kind(
            Kind::of_name(&take::<Option<String>>(&mut row, "error_kind")?.unwrap_or_default()),
            take::<Option<String>>(&mut row, "failed_job")?.unwrap_or_default(),
            take::<Option<String>>(&mut row, "failed_run")?.unwrap_or_default(),
            at,
            take::<Option<String>>(&mut row, "error")?.unwrap_or_default(),
            take(&mut row, "hint")?,
        )),
    };
    Ok(State { paused, failure })
}

/// Puts down how a run has failed, on a connection of its own; whether it stands there now: a server without our tables is left
/// as it is.
pub async fn record(config: &Config, failure: &Failure) -> Result<bool> {
    let Failure { at, job, run, kind, message, hint, .. } = failure;
    let mut conn = mysql::connect(&config.mysql).await?;
    let values = (&config.stream, datetime(*at), job, run, kind, message, hint);
    let has_place = match conn.exec_drop(FAILURE, values).await {
        Ok(()) => true,
        Err(error) if is_missing(&error) => false,
        Err(error) => {
            return Err(mysql::error(error, &format!("record the last error of {}", config.stream)));
        }
    };
    let _ = conn.disconnect().await;
    Ok(has_place)
}

/// Puts down that a run has worked.
pub async fn worked(conn: &mut Conn, name: &str) -> Result<()> {
    conn.exec_drop(WORKED, (name,))
        .await
        .map_err(|error| mysql::error(error, &format!("record that the last error of {name} is over")))
}

/// Ends with `Kind::Paused` what must not be done in this region now. `command`: as it is said on the command line.
pub async fn must_run(
    conn: &mut Conn,
    name: &str,
    what: &str,
    command: &str,
    now: DateTime<Utc>,
) -> Result<()> {
    read(conn, name).await?.pause(now).map_or(Ok(()), |paused| Err(paused.refuse(what, command)))
}

/// Pauses the stream in this region, or ends its pause here. The runs' lock is not needed for it.
pub async fn change(
    config: &Config,
    clock: &dyn Clock,
    wanted: Option<&Wanted>,
    dry_run: bool,
) -> Result<Change> {
    region_of(config)?;
    let mut conn = mysql::connect(&config.mysql).await?;
    let there = read(&mut conn, &config.stream).await?;
    let mut change = Change::of(there.pause(clock.now()), wanted, clock.now());
    // A pause that is over goes with it.
    if !dry_run
        && (change.is_one() || there.paused != change.paused)
        && write_pause(&mut conn, &config.stream, change.paused.as_ref()).await?
        && position::read(&mut conn, &config.stream).await?.is_some()
    {
        change.warnings.push(
            "no version that knows pauses has applied here: an apply of the one before goes on. Update it, or stop it by hand"
                .to_owned(),
        );
    }
    let _ = conn.disconnect().await;
    Ok(change)
}

/// Puts down the pause that holds from now on, or that there is none. Says whether it is the first here.
async fn write_pause(conn: &mut Conn, name: &str, paused: Option<&Paused>) -> Result<bool> {
    let values = (
        name,
        paused.map(|paused| datetime(paused.since)),
        paused.and_then(|paused| paused.until).map(datetime),
        paused.map(|paused| &paused.by),
        paused.map(|paused| &paused.reason),
    );
    match conn.exec_drop(PAUSE, &values).await {
        // The first one here, or the first since a version before pauses.
        Err(error) if is_missing(&error) => {
            position::create(conn).await?;
            conn.exec_drop(PAUSE, &values).await.map(|()| true)
        }
        done => done.map(|()| false),
    }
    .map_err(|error| mysql::error(error, &format!("record the pause of {name}")))
}
