//! A primary that was put in another's place: does it have what the stream has shipped?
//!
//! Where the source is the primary itself, every look at it says so. A replica in between hides it. It has what the
//! old primary sent, the new one may not, and MySQL lets it replicate from the new one all the same
//! (<https://dev.mysql.com/doc/refman/8.4/en/replication-gtids-auto-positioning.html>: only transactions under the
//! new source's own UUID are compared). So the primary of `[primary]` is asked itself, at the two moments when it
//! matters: when transactions of a server come that the stream has never heard of, and when the source lacks what has
//! been shipped.

use std::collections::BTreeSet;

use uuid::Uuid;

use crate::binlog::gtid::GtidSet;
use crate::error::Result;
use crate::mysql;
use crate::source::moment::Moment;
use crate::source::pass::Tools;
use crate::source::{bridge, preflight, upload};
use crate::stream::Head;

/// Refuses to go on behind a replica of a primary that has another history than the regions.
pub(crate) async fn check(tools: Tools<'_>, moment: &Moment, head: &Head) -> Result<()> {
    if moment.channels.is_empty() || (moment.lacks.is_empty() && newcomers(moment, head).is_empty()) {
        return Ok(());
    }
    let Some(config) = bridge::at_primary(tools.config) else { return Ok(()) };
    let tools = Tools { config: &config, ..tools };
    let server = config.mysql.to_string();
    let asking = || format!("ask {server} of [primary] whether it has what the stream has shipped");
    let found = async {
        let mut conn = mysql::connect(&config.mysql).await?;
        let there = upload::observe(&mut conn, tools, head).await?;
        let _ = conn.disconnect().await;
        Ok(there)
    };
    let there = found.await.map_err(|error: crate::Error| {
        error.during(asking()).hint(
            "the source has transactions of a server that the stream has not met before: after a failover, name the new \
             primary in [primary] (docs/runbooks/fail-over-the-primary.md)",
        )
    })?;
    preflight::kept(&there, head, &server).map_err(|error| {
        error.during(asking()).hint(
            "the failover lost what the regions have. Rebuild the processor from this primary (`tablecast processor \
             rebuild`), then `tablecast upload --resync`: docs/runbooks/fail-over-the-primary.md",
        )
    })
}

/// Servers whose transactions the source has and the stream has never covered any of.
fn newcomers(moment: &Moment, head: &Head) -> BTreeSet<Uuid> {
    let servers = |set: &GtidSet| set.intervals().map(|(tsid, _)| tsid.uuid).collect::<BTreeSet<Uuid>>();
    let mut new = servers(&moment.executed);
    for known in servers(&head.covered) {
        new.remove(&known);
    }
    new.remove(&moment.uuid);
    new
}
