//! The bridge: what the source cannot send any more is read from the primary.
//!
//! A binlog processor that was made again has no binary log of what its primary committed before: its
//! `gtid_purged` is not inside what the stream covers. While the primary still has these transactions nothing is
//! lost. They are read there, through the same filter and under the same lock, which stays the one on the source; in
//! the primary's order and from the first one that the stream lacks, so that nothing comes before what it builds on.
//! It ends with the last transaction that the source has purged; the source sends the rest.
//!
//! A run that is killed on the way has shipped whole transactions, and the next one finds a shorter bridge.

use serde::Serialize;

use crate::binlog::gtid::GtidSet;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::failpoint;
use crate::mysql::{self, Held};
use crate::source::definitions::{self, Tracker};
use crate::source::moment::{self, Moment};
use crate::source::pass::{Pass, Tools};
use crate::source::preflight;
use crate::source::reader::Reader;
use crate::source::schemas::Schemas;
use crate::source::tip::Tip;
use crate::source::upload::{self, Options, Report};
use crate::source::zone::system_zone;
use crate::stream::Head;

/// What is to be read from the primary first.
#[derive(Clone, Debug, Serialize)]
pub struct Bridge {
    /// The primary.
    pub from: String,
    /// Purged at the source, and not in the stream.
    pub missing: GtidSet,
    #[serde(serialize_with = "super::upload::as_text")]
    pub missing_count: u64,
}

/// The bridge that this source needs; none if it can send everything, or if there is no primary beside it to ask.
/// `Kind::History` if the primary lacks the transactions too.
pub(crate) async fn plan(config: &Config, moment: &Moment, head: &Head) -> Result<Option<Bridge>> {
    let missing = moment.purged.difference(&head.covered);
    let Some(primary) = config.primary.as_ref().filter(|_| !missing.is_empty()) else { return Ok(None) };
    let source = &config.mysql;
    let doing = format!("read from {primary} what {source} no longer holds ({missing})");
    let mut conn = mysql::connect(primary).await.map_err(|error| error.during(&doing))?;
    let there = moment::look(&mut conn, &primary.to_string()).await.map_err(|error| error.during(&doing))?;
    let _ = conn.disconnect().await;
    if there.uuid == moment.uuid {
        return Ok(None);
    }
    let mut lost = missing.difference(&there.executed);
    lost.extend(&there.purged.difference(&head.covered));
    if !lost.is_empty() {
        return Err(Error::new(
            Kind::History,
            format!(
                "read {source}: its binary logs no longer hold {missing}, which the stream lacks, and {primary} of \
                 [primary] cannot send {lost}"
            ),
        )
        .hint(preflight::RESTART_HINT));
    }
    Ok(Some(Bridge { from: primary.to_string(), missing_count: missing.count(), missing }))
}

/// This run's config with the primary in the source's place.
pub(crate) fn at_primary(config: &Config) -> Option<Config> {
    let primary = config.primary.clone()?;
    Some(Config { mysql: primary, primary: None, ..config.clone() })
}

/// Reads and ships what is missing. False: told to stop before the end; what came whole is shipped.
pub(crate) async fn cross(
    tools: Tools<'_>,
    options: &Options,
    lock: &mut dyn Held,
    tip: &mut Tip,
    report: &mut Report,
    bridge: &Bridge,
) -> Result<bool> {
    let Some(config) = at_primary(tools.config) else { return Ok(true) };
    let source = tools.config.mysql.to_string();
    let tools = Tools { config: &config, ..tools };
    let server = config.mysql.to_string();
    tracing::warn!(
        "{source} no longer holds {} transactions that the stream lacks ({}): they are read from {server}",
        bridge.missing_count,
        bridge.missing
    );
    report.bridged(bridge);
    let mut conn = mysql::connect(&config.mysql).await?;
    let moment = upload::look(&mut conn, tools, &tip.head).await?;
    upload::prepare(&config, &mut conn, &tip.head, report).await?;
    let set = tip.head.table_set.tables.clone();
    // What becomes of definitions on the way is found out from the source afterwards.
    let tables = definitions::existing(&mut conn, &server, &set).await?;
    let tracker = Tracker::new(tables, &tip.head.definitions, tip.head.last_tx);
    let schemas = Schemas::new(&mut conn, &server, tip.head.schemas.clone()).await?;
    let zone = system_zone(&mut conn, &server).await?;
    let mut pass =
        Pass::new(tools, tip, lock, report, schemas, tracker, moment.ordered).with_system_zone(zone);
    let mut left = bridge.missing_count;
    let (stream, spool_dir) = (pass.tip.head.stream, &config.files.spool_dir);
    let mut reader = Reader::open(&config.mysql, stream, &pass.covered, false, spool_dir).await?;
    while left > 0 {
        let incoming = tokio::select! {
            biased;
            () = options.stop.cancelled() => {
                pass.finish().await?;
                return Ok(false);
            }
            incoming = reader.next() => incoming?,
        };
        let Some(incoming) = incoming else {
            let missing = bridge.missing.difference(&pass.covered);
            return Err(Error::new(
                Kind::History,
                format!(
                    "read {server}: its binary logs end without {missing}, which is in its gtid_executed"
                ),
            )
            .hint(preflight::RESTART_HINT));
        };
        if upload::take(&mut pass, &mut conn, incoming)
            .await?
            .is_some_and(|gtid| bridge.missing.contains(&gtid))
        {
            left -= 1;
        }
    }
    failpoint::hit("bridge.before_end");
    let _ = conn.disconnect().await;
    pass.cover_in_head(&bridge.missing).await?;
    failpoint::hit("bridge.after_end");
    tracing::info!("read what was missing from {server}; {source} sends the rest");
    Ok(true)
}
