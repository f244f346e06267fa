//! `tablecast.state`: what holds for all runs of a stream in this region, whether it has a position yet or not.
//!
//! A pause that somebody wants, written by `tablecast pause` and `resume` without the lock of the runs, which read it at the
//! start of each pass and before each entry.

use chrono::{DateTime, Utc};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

use super::position::{self, datetime, is_missing, take, time};
use crate::stream::Paused;
use crate::{Result, mysql};

const READ: &str = include_str!("../../sql/region/state_read.sql");
const PAUSE: &str = include_str!("../../sql/region/state_pause.sql");

/// A stream's row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// It may be over.
    pub paused: Option<Paused>,
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
    Ok(State { paused })
}

/// Puts down the pause that holds from now on, or that there is none.
pub async fn write_pause(conn: &mut Conn, name: &str, paused: Option<&Paused>) -> Result<()> {
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
            conn.exec_drop(PAUSE, &values).await
        }
        done => done,
    }
    .map_err(|error| mysql::error(error, &format!("record the pause of {name}")))
}
