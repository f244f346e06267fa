//! `tablecast.guard`: what somebody has said with `tablecast guard`, which wins over the config, and what stands in
//! the way of the guard. A region without the row does as its config says.

use chrono::{DateTime, Utc};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use serde::{Serialize, Serializer};

use crate::config::{Config, Guard};
use crate::region::position::{datetime, is_missing, take, time};
use crate::{Error, Kind, Result, mysql};

const READ: &str = include_str!("../../../sql/region/guard_read.sql");
const WRITE: &str = include_str!("../../../sql/region/guard_write.sql");
const PROBLEM: &str = include_str!("../../../sql/region/guard_problem.sql");

/// How the guard is to be, and who says so.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Wish {
    #[serde(serialize_with = "as_name")]
    pub mode: Guard,
    /// Said by `tablecast guard`; else by the config.
    pub by_command: bool,
    pub since: Option<DateTime<Utc>>,
    pub by: Option<String>,
    pub reason: Option<String>,
    /// What the last run met.
    pub problem: Option<String>,
}

impl Wish {
    pub fn of_config(config: &Config) -> Wish {
        let mode = config.apply.guard;
        Wish { mode, by_command: false, since: None, by: None, reason: None, problem: None }
    }

    /// Grants are taken away only where somebody has asked for that: nobody expects it of a default.
    pub fn takes_grants(&self) -> bool {
        match self.mode {
            Guard::Triggers => self.by_command,
            Guard::Grants => true,
            Guard::Off => false,
        }
    }
}

/// As the config, the command line and `--json` have it.
pub fn name(mode: Guard) -> &'static str {
    match mode {
        Guard::Triggers => "triggers",
        Guard::Grants => "grants",
        Guard::Off => "off",
    }
}

fn as_name<S: Serializer>(mode: &Guard, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name(*mode))
}

/// What is wanted here now.
pub async fn wish(conn: &mut Conn, config: &Config) -> Result<Wish> {
    let doing = format!("read what the guard of {} is to be", config.stream);
    let row: Option<Row> = match conn.exec_first(READ, (&config.stream,)).await {
        Ok(row) => row,
        // Not made yet, or made by a version before the guard.
        Err(error) if is_missing(&error) => None,
        Err(error) => return Err(mysql::error(error, &doing)),
    };
    let Some(mut row) = row else { return Ok(Wish::of_config(config)) };
    let mode: Option<String> = take(&mut row, "mode")?;
    let problem = take(&mut row, "problem")?;
    let mode = match mode.as_deref() {
        None => return Ok(Wish { problem, ..Wish::of_config(config) }),
        Some("triggers") => Guard::Triggers,
        Some("grants") => Guard::Grants,
        Some("off") => Guard::Off,
        Some(other) => {
            return Err(Error::new(Kind::TooNew, format!("{doing}: mode {other:?} is not known"))
                .hint("a newer tablecast has written it: use that one"));
        }
    };
    Ok(Wish {
        mode,
        by_command: true,
        since: time(take(&mut row, "since")?)?,
        by: take(&mut row, "changed_by")?,
        reason: take(&mut row, "reason")?,
        problem,
    })
}

/// Puts down what is wanted from now on.
pub async fn write(
    conn: &mut Conn,
    stream: &str,
    mode: Guard,
    reason: Option<&str>,
    by: Option<&str>,
    now: DateTime<Utc>,
) -> Result<()> {
    conn.exec_drop(WRITE, (stream, name(mode), datetime(now), by.unwrap_or_default(), reason))
        .await
        .map_err(|error| mysql::error(error, &format!("record that the guard of {stream} is {}", name(mode))))
}

/// Puts down what stands in the way, or that nothing does.
pub async fn note_problem(conn: &mut Conn, stream: &str, problem: Option<&str>) -> Result<()> {
    conn.exec_drop(PROBLEM, (stream, problem))
        .await
        .map_err(|error| mysql::error(error, &format!("record what the guard of {stream} meets")))
}
