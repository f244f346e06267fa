//! A check of every table now, for whoever asks: `verify --rows` at the source.
//!
//! Who asks holds a lock of its own at the source's server. An upload that follows sees that, and takes one slice after
//! the other; without one, uploads are run here. Either way the slices are ordinary ones of the stream. The lock goes with
//! its connection, so nobody is left asking.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde::Serialize;
use tokio::time::sleep;

use crate::clock::Clock;
use crate::config::{CheckConfig, Config};
use crate::error::{Error, Kind, Result};
use crate::mysql::{self, Lock};
use crate::source::upload::{self, Options, as_text, seq_as_text};
use crate::store::{self, Store};
use crate::stream::{Head, Index, Seq};

/// How often the head is looked at while another upload is at work.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// The most that checks take of the time while somebody waits for them, in percent.
pub(super) const SHARE: u32 = 50;

/// What a whole round has read.
#[derive(Clone, Debug, Serialize)]
pub struct Whole {
    pub stream: String,
    /// Its first and its last entry.
    #[serde(serialize_with = "seq_as_text")]
    pub first_seq: Seq,
    #[serde(serialize_with = "seq_as_text")]
    pub last_seq: Seq,
    #[serde(serialize_with = "as_text")]
    pub checks: u64,
    #[serde(serialize_with = "as_text")]
    pub tables: u64,
    #[serde(serialize_with = "as_text")]
    pub rows: u64,
    /// When the last of them was taken.
    pub at: DateTime<Utc>,
}

fn lock_name(stream: &str) -> String {
    mysql::lock_name(&format!("tablecast:check:{stream}"))
}

/// Whether somebody waits for a whole round.
pub(super) async fn is_asked_for(conn: &mut Conn, stream: &str) -> Result<bool> {
    let holder: Option<Option<u64>> =
        conn.exec_first("SELECT IS_USED_LOCK(?)", (lock_name(stream),))
            .await
            .map_err(|cause| mysql::error(cause, "look whether somebody waits for a check of rows"))?;
    Ok(holder.flatten().is_some())
}

/// Has every table checked, and tells what was read. `told`: is handed the place that the round has come to.
pub async fn run(
    config: &Config,
    store: Arc<dyn Store>,
    clock: &dyn Clock,
    options: &Options,
    mut told: impl FnMut(&Head),
) -> Result<Option<Whole>> {
    let asks = Lock::acquire(&config.mysql, &lock_name(&config.stream), options.lock_wait).await?;
    let mut config = config.clone();
    config.check = CheckConfig { every: Some(Duration::ZERO), share: SHARE, ..config.check };
    let before = read(&*store).await?.last_seq;
    let mut pause = Duration::ZERO;
    let round = loop {
        let head = read(&*store).await?;
        told(&head);
        if let Some(checked) = head.checked.as_ref().filter(|last| last.since > before && last.next.is_none())
        {
            break Some((checked.clone(), head));
        }
        sleep(pause).await;
        if options.stop.is_cancelled() {
            break None;
        }
        let puts = match upload::run(&config, store.clone(), clock, options).await {
            Ok(report) => report.checks,
            Err(error) if error.kind() == Kind::Locked => 0,
            Err(error) => return Err(error),
        };
        pause = if puts > 0 { Duration::ZERO } else { LOOK_EVERY };
    };
    asks.release().await?;
    let Some((checked, head)) = round else { return Ok(None) };
    let mut whole = Whole {
        stream: config.stream.clone(),
        first_seq: checked.since,
        last_seq: checked.seq,
        checks: 0,
        tables: 0,
        rows: 0,
        at: checked.at,
    };
    let mut index = Index::new(head);
    let mut after = Seq(checked.since.0 - 1);
    while after < checked.seq {
        let entries = index.entries_after(after, &*store).await?;
        let Some(last) = entries.last().map(|entry| entry.seq) else { break };
        for check in entries.iter().filter(|entry| entry.seq <= checked.seq).filter_map(|entry| entry.check())
        {
            whole.checks += 1;
            whole.rows += check.rows();
            whole.tables += check.ranges.iter().filter(|range| range.after.is_none()).count() as u64;
        }
        after = last;
    }
    Ok(Some(whole))
}

async fn read(store: &dyn Store) -> Result<Head> {
    match store::head::read(store, None).await? {
        store::head::Read::Head { head, .. } => Ok(*head),
        store::head::Read::Unchanged => {
            Err(Error::new(Kind::Store, format!("read {}/index.json: unchanged since never", store.url())))
        }
    }
}
