//! What a run looks at before it reads: whether the source can still send what the stream lacks, and has what the stream
//! has shipped. Where not, the run ends here, with nothing changed.

use std::time::Duration;

use mysql_async::Conn;
use tokio::time::sleep;

use crate::binlog::gtid::GtidSet;
use crate::error::Result;
use crate::source::moment::{self, Moment};
use crate::source::pass::Tools;
use crate::source::upload::Report;
use crate::source::{bridge, failover, lost, preflight, primacy};
use crate::stream::Head;

/// One look at the source, and the bridge to it where it has purged what the primary can still send. Refused where
/// history is lost.
pub(super) async fn may_read(
    conn: &mut Conn,
    tools: Tools<'_>,
    head: &Head,
    report: &mut Report,
) -> Result<(Moment, Option<bridge::Bridge>)> {
    let moment = observe(conn, tools, head).await?;
    let server = tools.config.mysql.to_string();
    let bridge = bridge::plan(tools.config, &moment, head).await?;
    match &bridge {
        Some(_) => preflight::kept(&moment, head, &server)?,
        None => preflight::history(&moment, head, &server)?,
    }
    if let Some(said) = failover::check(tools, &moment, head).await? {
        report.warn(said);
    }
    Ok((moment, bridge))
}

/// One look at the source, refused if it can no longer send what the stream lacks, or lacks what the stream
/// has shipped.
pub(crate) async fn look(conn: &mut Conn, tools: Tools<'_>, head: &Head) -> Result<Moment> {
    let moment = observe(conn, tools, head).await?;
    preflight::history(&moment, head, &tools.config.mysql.to_string())?;
    Ok(moment)
}

/// One look at the source, with what it lacks of what the stream has shipped.
pub(crate) async fn observe(conn: &mut Conn, tools: Tools<'_>, head: &Head) -> Result<Moment> {
    let (config, files) = (tools.config, &tools.config.files);
    let server = config.mysql.to_string();
    let mut moment = moment::look(conn, &server).await?;
    preflight::mode(&moment, &server)?;
    let beyond = beyond(head, &moment);
    let shipped = match beyond.is_empty() {
        true => beyond,
        false => lost::shipped(tools.store, head, &beyond, &files.cache_dir, &files.spool_dir).await?,
    };
    // A transaction is in the binlog, and may have been shipped, a moment before it is in gtid_executed: with
    // a semi-synchronous replica that does not answer, ten seconds before.
    for _ in 0..12 {
        let lacks = !shipped.is_subset(&moment.executed) && moment.channels.is_empty();
        if !lacks && moment.own_gone(&head.covered).is_empty() {
            break;
        }
        sleep(Duration::from_secs(1)).await;
        moment = moment::look(conn, &server).await?;
    }
    moment.lacks = shipped.difference(&moment.executed);
    primacy::judge(config, &mut moment).await;
    Ok(moment)
}

/// Transactions that the stream covers and the source does not have (yet).
pub(crate) fn beyond(head: &Head, moment: &Moment) -> GtidSet {
    head.covered.difference(&moment.executed)
}
