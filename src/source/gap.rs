//! What the source's own filter may have kept from the stream: found, remembered in the head, and not passed over.
//!
//! A mini-replica that leaves out a table of the set executes the transactions all the same. To cover them would lose
//! their rows for good, with nothing to show for it. So every look at a replica is also one at its filters. What
//! leaves out a table of the set is written into the head at once, under the lock, by compare-and-swap, and nothing more is
//! covered: by this run, by the next one, on whatever machine. A filter that is mended does not bring the rows back,
//! neither to the stream nor to that server's copy of the table: only a resync goes on, from a copy that is whole. There is one
//! exception: nothing was executed from before the filter was wrong until after it was right.
//!
//! What cannot be known: whether a filter was wrong and right again between two looks. The server tells since when the rules in
//! force are in force, and nothing of the rules before.

use chrono::{DateTime, Utc};
use mysql_async::Conn;
use uuid::Uuid;

use crate::binlog::gtid::GtidSet;
use crate::binlog::name::TableName;
use crate::error::{Error, Kind, Result};
use crate::failpoint;
use crate::mysql::Lock;
use crate::source::moment::{self, Moment};
use crate::source::pass::Tools;
use crate::source::replica_filters;
use crate::source::tip::Tip;
use crate::source::upload::show_time;
use crate::stream::{Gap, Head};

const RUNBOOK: &str = "docs/runbooks/rebuild-the-processor.md#its-filter-left-a-table-out";

/// Looks at the filters, and refuses to go on where they leave, or left, something out. `moment` was looked at before;
/// what is in `good` was executed while everything was let in.
pub(crate) async fn check(
    tools: Tools<'_>,
    lock: &mut Lock,
    tip: &mut Tip,
    conn: &mut Conn,
    moment: &Moment,
    good: &GtidSet,
) -> Result<()> {
    let server = tools.config.mysql.to_string();
    match look(conn, &server, &tip.head, moment).await? {
        Found::Nothing => Ok(()),
        Found::Wrong { tables, since } => {
            let known = tip.head.gap.as_ref();
            let lost = !is_unharmed(known, &moment.executed, good);
            let mut gap = Gap {
                server: moment.uuid,
                tables,
                since,
                found_at: tools.clock.now(),
                executed: moment.executed.clone(),
                lost,
            };
            if let Some(known) = known {
                gap = Gap { tables: gap.tables, lost, ..known.clone() };
                gap.tables.extend(known.tables.iter().cloned());
                gap.tables.sort();
                gap.tables.dedup();
            }
            if known != Some(&gap) {
                write(tools, lock, tip, Some(gap.clone())).await?;
            }
            Err(leaves_out(&gap, &server))
        }
        Found::Mended(mut gap) => {
            // Whatever was executed under the old filter is in it: the SQL thread stood still when that was changed.
            let executed = moment::executed(conn, &server).await?;
            if is_unharmed(Some(&gap), &executed, &tip.head.covered) {
                tracing::info!("the filter of {server} is mended, and nothing was executed meanwhile");
                return write(tools, lock, tip, None).await;
            }
            if !gap.lost {
                gap.lost = true;
                write(tools, lock, tip, Some(gap.clone())).await?;
            }
            Err(left_out(&gap, &server))
        }
    }
}

/// What [`check`] would refuse, with nothing written.
pub(crate) async fn would_refuse(
    tools: Tools<'_>,
    conn: &mut Conn,
    head: &Head,
    moment: &Moment,
) -> Result<()> {
    let server = tools.config.mysql.to_string();
    match look(conn, &server, head, moment).await? {
        Found::Nothing => Ok(()),
        Found::Wrong { tables, since } => {
            let (found_at, executed) = (tools.clock.now(), moment.executed.clone());
            let lost = !is_unharmed(head.gap.as_ref(), &executed, &head.covered);
            let gap = Gap { server: moment.uuid, tables, since, found_at, executed, lost };
            Err(leaves_out(&gap, &server))
        }
        Found::Mended(gap) if is_unharmed(Some(&gap), &moment.executed, &head.covered) => Ok(()),
        Found::Mended(gap) => Err(left_out(&gap, &server)),
    }
}

/// Whether nothing was executed under a filter that left something out: all of it was before, as `good` was; or before
/// the gap was found, under which nothing had been until then, though the head may not cover all of that yet.
fn is_unharmed(gap: Option<&Gap>, executed: &GtidSet, good: &GtidSet) -> bool {
    match gap {
        None => executed.is_subset(good),
        Some(gap) => !gap.lost && executed.is_subset(&good.union(&gap.executed)),
    }
}

enum Found {
    Nothing,
    /// The filters leave out tables of the set now.
    Wrong {
        tables: Vec<TableName>,
        since: Option<DateTime<Utc>>,
    },
    /// They did once, as the head says, and let everything in now.
    Mended(Gap),
}

async fn look(conn: &mut Conn, server: &str, head: &Head, moment: &Moment) -> Result<Found> {
    if !moment.channels.is_empty() {
        match replica_filters::listed_left_out(conn, server, &head.table_set.tables).await {
            Ok((tables, _)) if tables.is_empty() => {}
            Ok((tables, since)) => return Ok(Found::Wrong { tables, since }),
            // Not to see them is a warning of preflight's; not to see them mended is more.
            Err(error) if error.kind() == Kind::Denied && head.gap.is_none() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(head.gap.clone().map_or(Found::Nothing, Found::Mended))
}

async fn write(tools: Tools<'_>, lock: &mut Lock, tip: &mut Tip, gap: Option<Gap>) -> Result<()> {
    let mut head = tip.head.clone();
    head.gap = gap;
    failpoint::hit("upload.before_gap");
    lock.verify().await?;
    tip.swap(tools.store, head).await?;
    failpoint::hit("upload.after_gap");
    Ok(())
}

/// I3: a resync takes its dump from this server, whose own copy lacks what its filter left out. It has a new copy if its
/// binary logs begin behind the finding: so a CLONE leaves it, and so does a load with SET GTID_PURGED.
pub(crate) fn has_new_copy(moment: &Moment, head: &Head, server: &str) -> Result<()> {
    let Some(gap) = head.gap.as_ref().filter(|gap| gap.server == moment.uuid) else { return Ok(()) };
    // What the old one had made itself a new one does not have.
    let others = without_own(&gap.executed, gap.server);
    if is_unharmed(Some(gap), &moment.executed, &head.covered) || others.is_subset(&moment.purged) {
        return Ok(());
    }
    Err(Error::new(
        Kind::History,
        format!("upload --resync: the copy of {} at {server} lacks what its filter left out, and every region would get it", names(gap)),
    )
    .hint(format!(
        "`tablecast processor rebuild` first. Where the tables were copied from the primary by hand: PURGE BINARY LOGS at \
         {server} up to the log of now, whose older ones are those of the wrong filter ({RUNBOOK})"
    )))
}

fn without_own(set: &GtidSet, own: Uuid) -> GtidSet {
    let mut others = GtidSet::new();
    for (tsid, intervals) in set.intervals().filter(|(tsid, _)| tsid.uuid != own) {
        intervals.iter().for_each(|(first, last)| others.insert_range(tsid, *first, *last));
    }
    others
}

fn names(gap: &Gap) -> String {
    gap.tables.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The filter is still wrong.
fn leaves_out(gap: &Gap, server: &str) -> Error {
    let message = format!("read {server}: its replication filters leave out {}", names(gap));
    match gap.lost {
        false => Error::new(Kind::Usage, message).hint(format!(
            "nothing is lost as long as it executes nothing: stop its SQL thread, CHANGE REPLICATION FILTER so that they are let \
             in, put the same into my.cnf (`tablecast processor config` prints it), start it ({RUNBOOK})"
        )),
        true => Error::new(Kind::History, format!("{message}, and what it has executed since is lost to the stream"))
            .hint(format!(
                "so {}. Mend its my.cnf (`tablecast processor config`), then `tablecast processor rebuild`, because its own \
                 copy lacks the same rows, then `tablecast upload --resync`: {RUNBOOK}",
                since(gap)
            )),
    }
}

/// It is right again, and was wrong.
fn left_out(gap: &Gap, server: &str) -> Error {
    let message = format!(
        "read {server}: a replication filter left out {}, and what was executed meanwhile is lost to the stream",
        names(gap)
    );
    Error::new(Kind::History, message).hint(format!(
        "so {}. To mend the filter does not bring the rows back: `tablecast processor rebuild`, because that server's own \
         copy lacks them too, then `tablecast upload --resync`: {RUNBOOK}",
        since(gap)
    ))
}

/// What stands in a head, for people; whether the filter is mended by now is another question.
pub(crate) fn told(gap: &Gap, server: &str) -> Error {
    if gap.lost { left_out(gap, server) } else { leaves_out(gap, server) }
}

fn since(gap: &Gap) -> String {
    let found = show_time(gap.found_at);
    match gap.since {
        Some(since) => format!("it was at least since {}, and upload found it at {found}", show_time(since)),
        None => format!("upload found it at {found}"),
    }
}
