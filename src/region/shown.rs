//! Whether this region shows transactions of the source, and waiting until it does: for who writes at the source and
//! reads here.
//!
//! One connection is kept, and made again where it breaks. A look is one row by its primary key, which is not sent
//! again while it is as it was.

use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::time::{Instant, sleep, timeout};

use super::quarantine::{self, Quarantined};
use crate::binlog::gtid::GtidSet;
use crate::config::Config;
use crate::error::chain;
use crate::{Error, Kind, Result, mysql};

const READ: &str = include_str!("../../sql/region/shown_read.sql");
/// The procedure and the function that tell the same in SQL.
const ROUTINES: &str = include_str!("../../sql/region/wait.sql");

/// The pause between two looks, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// What a look may take however little time is left.
const AT_LEAST: Duration = Duration::from_secs(5);
/// After a connection that broke.
const RECONNECT: Duration = Duration::from_millis(500);

/// How a wait ended.
#[derive(Clone, Debug)]
pub struct Shown {
    /// What of it the region does not show; empty: nothing.
    pub missing: GtidSet,
    /// Tables whose changes are passed over.
    pub quarantined: Vec<Quarantined>,
    pub waited: Duration,
}

/// SQL for a DBA to run: a procedure that waits and a function that looks, with the grants that who uses them needs.
pub fn routines() -> &'static str {
    ROUTINES
}

/// Waits until the region shows these source transactions, or does not bring them because they do not travel.
pub async fn wait(config: &Config, wanted: &GtidSet, limit: Duration) -> Result<Shown> {
    let began = Instant::now();
    let mut look = Look { config, conn: None, at: None, covered: GtidSet::new() };
    let mut pause = FIRST_PAUSE;
    let mut is_told = false;
    loop {
        let looked = look.at(wanted, limit.saturating_sub(began.elapsed())).await;
        let left = limit.saturating_sub(began.elapsed());
        match looked {
            Ok(Some(quarantined)) => {
                return Ok(Shown { missing: GtidSet::new(), quarantined, waited: began.elapsed() });
            }
            Ok(None) if !left.is_zero() => {
                sleep(pause.min(left)).await;
                pause = (pause * 3 / 2).min(LONGEST_PAUSE);
            }
            // At the first look it is the config that is wrong.
            Err(error) if look.has_worked() && error.is_transient() => {
                look.conn = None;
                if !is_told {
                    tracing::warn!("{}; connecting again", chain(&error));
                    is_told = true;
                }
                if left.is_zero() {
                    return Ok(look.in_vain(wanted, began.elapsed()).await);
                }
                sleep(RECONNECT.min(left)).await;
            }
            Ok(None) => return Ok(look.in_vain(wanted, began.elapsed()).await),
            Err(error) => return Err(error),
        }
    }
}

struct Look<'a> {
    config: &'a Config,
    conn: Option<Conn>,
    /// When the row was written that `covered` is from, as the server tells it.
    at: Option<String>,
    covered: GtidSet,
}

impl Look<'_> {
    /// The tables in quarantine, if the region shows these transactions. A server that does not answer has what is left
    /// of the time, and a little.
    async fn at(&mut self, wanted: &GtidSet, left: Duration) -> Result<Option<Vec<Quarantined>>> {
        let looking = async {
            self.read().await?;
            match wanted.difference(&self.covered).is_empty() {
                true => self.quarantined().await.map(Some),
                false => Ok(None),
            }
        };
        timeout(left.max(AT_LEAST), looking).await.unwrap_or_else(|_| {
            let message = format!("read the position of {}: no answer in time", self.config.stream);
            Err(Error::new(Kind::Mysql, message).hint("does the region's server hang?"))
        })
    }

    /// The time is over. What cannot be said beside that makes nothing else of it.
    async fn in_vain(&mut self, wanted: &GtidSet, waited: Duration) -> Shown {
        let quarantined = match self.conn {
            Some(_) => timeout(AT_LEAST, self.quarantined()).await,
            None => Ok(Ok(Vec::new())),
        };
        let quarantined = quarantined.unwrap_or_else(|_| Ok(Vec::new())).unwrap_or_else(|error| {
            tracing::debug!("{}", chain(&error));
            Vec::new()
        });
        // Where it could not be told which tables are in quarantine, all is there, and must not be said to be.
        let missing = Some(wanted.difference(&self.covered)).filter(|missing| !missing.is_empty());
        Shown { missing: missing.unwrap_or_else(|| wanted.clone()), quarantined, waited }
    }

    fn has_worked(&self) -> bool {
        self.at.is_some() || self.conn.is_some()
    }

    async fn conn(&mut self) -> Result<&mut Conn> {
        let conn = match self.conn.take() {
            Some(conn) => conn,
            None => mysql::connect(&self.config.mysql).await?,
        };
        Ok(self.conn.insert(conn))
    }

    async fn read(&mut self) -> Result<()> {
        let (name, at) = (self.config.stream.clone(), self.at.clone());
        let doing = format!("read the position of {name}");
        let read = self.conn().await?.exec_first(READ, (&name, &at, &at)).await;
        let row: Option<(String, String)> = match read {
            // Before the first apply.
            Err(mysql_async::Error::Server(error)) if NOT_THERE.contains(&error.code) => None,
            read => read.map_err(|error| mysql::error(error, &doing))?,
        };
        if let Some((covered, at)) = row {
            self.covered = covered.parse().map_err(|error: Error| error.during(doing))?;
            self.at = Some(at);
        }
        Ok(())
    }

    /// Read behind the position: a table that goes into quarantine does so before the position moves on.
    async fn quarantined(&mut self) -> Result<Vec<Quarantined>> {
        let name = self.config.stream.clone();
        quarantine::list(self.conn().await?, &name).await
    }
}

/// ER_BAD_DB_ERROR, ER_NO_SUCH_TABLE
const NOT_THERE: [u16; 2] = [1049, 1146];
