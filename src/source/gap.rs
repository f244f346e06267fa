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
//! force are in force, and nothing of the rules before; where that is since the stream was complete, a warning says so.

mod copy;

use chrono::{DateTime, Utc};
use mysql_async::Conn;

use crate::binlog::gtid::GtidSet;
use crate::binlog::name::{TableName, TablePattern};
use crate::error::{Error, Kind, Result};
use crate::failpoint;
use crate::mysql::Held;
use crate::source::moment::{self, Moment};
use crate::source::pass::Tools;
use crate::source::replica_filters::{self, LeftOut};
use crate::source::tip::Tip;
use crate::source::upload::show_time;
use crate::stream::{Gap, Head};

pub(crate) use copy::may_be_dumped;

const RUNBOOK: &str = "docs/runbooks/rebuild-the-processor.md#its-filter-left-a-table-out";

/// Looks at the filters, and refuses to go on where they leave, or left, something out. `moment` was looked at before;
/// what is in `good` was executed while everything was let in. Says since when the filters are as they are.
pub(crate) async fn check(
    tools: Tools<'_>,
    lock: &mut dyn Held,
    tip: &mut Tip,
    conn: &mut Conn,
    moment: &Moment,
    good: &GtidSet,
) -> Result<Option<DateTime<Utc>>> {
    let server = tools.config.mysql.to_string();
    match look(conn, &server, &tip.head, moment).await? {
        Found::Nothing { since } => Ok(since),
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
                also: Vec::new(),
            };
            if let Some(known) = known {
                gap = joined(known, gap);
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
                write(tools, lock, tip, None).await?;
                return Ok(None);
            }
            if is_filled_by(&gap, moment) {
                tracing::info!(
                    "{server} is the primary, which sends all that the filter would have left out"
                );
                write(tools, lock, tip, None).await?;
                return Ok(None);
            }
            let known = gap.clone();
            // Up to now, for all that is known; that rows are lost may have been seen at another server before.
            if gap.is_of(moment.uuid) && !copy::begins_later(moment, &gap) {
                gap.executed.extend(&executed);
            }
            gap.lost = true;
            if gap != known {
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
        Found::Nothing { .. } => Ok(()),
        Found::Wrong { tables, since } => {
            let (found_at, executed) = (tools.clock.now(), moment.executed.clone());
            let lost = !is_unharmed(head.gap.as_ref(), &executed, &head.covered);
            let mut gap =
                Gap { server: moment.uuid, tables, since, found_at, executed, lost, also: Vec::new() };
            if let Some(known) = &head.gap {
                gap = joined(known, gap);
            }
            Err(leaves_out(&gap, &server))
        }
        Found::Mended(gap)
            if is_unharmed(Some(&gap), &moment.executed, &head.covered) || is_filled_by(&gap, moment) =>
        {
            Ok(())
        }
        Found::Mended(gap) => Err(left_out(&gap, &server)),
    }
}

/// What was `found` now, put to what is known: of the first finding, unless it is of another server. That one's copy lacks
/// rows too, and since when nobody knows: what the stream covered until then came from the first. Once rows are lost, all that was
/// executed by then may lack them: a copy that was new when nothing was lost yet is none any more.
fn joined(known: &Gap, found: Gap) -> Gap {
    let mut gap = Gap { lost: found.lost, ..known.clone() };
    gap.tables.extend(found.tables);
    gap.tables.sort();
    gap.tables.dedup();
    if !known.is_of(found.server) {
        gap.also.push(found.server);
        gap.also.sort();
        gap.lost = true;
    }
    if gap.lost {
        gap.executed.extend(&found.executed);
    }
    gap
}

/// Whether nothing was executed under a filter that left something out: all of it was before, as `good` was; or before
/// the gap was found, under which nothing had been until then, though the head may not cover all of that yet.
fn is_unharmed(gap: Option<&Gap>, executed: &GtidSet, good: &GtidSet) -> bool {
    match gap {
        None => executed.is_subset(good),
        Some(gap) => !gap.lost && executed.is_subset(&good.union(&gap.executed)),
    }
}

/// Whether the source is now the primary, which sends whatever is not covered, and nothing that was is harmed: the filter was
/// found before anything was executed under it. Of a gap with a loss nobody knows how much was covered between two looks.
fn is_filled_by(gap: &Gap, moment: &Moment) -> bool {
    !gap.lost && moment.is_primary() && !gap.is_of(moment.uuid)
}

/// What is taken on trust, where filters came into force (a restart does that too) after the time up to which the stream
/// is complete: whether others were in force before, and left something out, nobody can find out.
pub(crate) fn on_trust(
    since: Option<DateTime<Utc>>,
    moment: &Moment,
    head: &Head,
    server: &str,
) -> Option<String> {
    // A stream that has just begun at a replica that had heard nothing yet says nothing of earlier filters.
    if head.as_of == DateTime::UNIX_EPOCH {
        return None;
    }
    let since = since.filter(|since| *since > head.as_of && !moment.executed.is_subset(&head.covered))?;
    Some(format!(
        "the replication filters of {server} are as they are since {}, by a change or a restart; the stream is complete up to {}. \
         What it executed in between is taken on trust: if other filters were in force then, rows are missing ({RUNBOOK})",
        show_time(since),
        show_time(head.as_of)
    ))
}

enum Found {
    /// They let everything in, since this time, if there are any and it is told.
    Nothing { since: Option<DateTime<Utc>> },
    /// The filters leave out tables of the set now.
    Wrong { tables: Vec<TableName>, since: Option<DateTime<Utc>> },
    /// They did once, as the head says, and let everything in now.
    Mended(Gap),
}

async fn look(conn: &mut Conn, server: &str, head: &Head, moment: &Moment) -> Result<Found> {
    let mut in_force = None;
    if !moment.channels.is_empty() {
        match left_out_now(conn, server, head).await {
            Ok(LeftOut { tables, since, .. }) if !tables.is_empty() => {
                return Ok(Found::Wrong { tables, since });
            }
            Ok(LeftOut { schemas, .. }) if !schemas.is_empty() => {
                let schemas: Vec<_> = schemas.iter().map(ToString::to_string).collect();
                return Err(not_every_table(&schemas.join(", "), server));
            }
            Ok(LeftOut { since, .. }) => in_force = since,
            // Not to see them is a warning of preflight's; not to see them mended is more.
            Err(error) if error.kind() == Kind::Denied && head.gap.is_none() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(head.gap.clone().map_or(Found::Nothing { since: in_force }, Found::Mended))
}

/// Of the tables that the stream knows, those of its schema patterns too.
async fn left_out_now(conn: &mut Conn, server: &str, head: &Head) -> Result<LeftOut> {
    let known = head.definitions.iter().map(|definition| &definition.table);
    replica_filters::known_left_out(conn, server, &head.table_set.tables, known).await
}

/// For doctor, which looks at the listed ones elsewhere: what of the schema patterns is left out by name.
pub(crate) async fn of_schemas(conn: &mut Conn, server: &str, head: &Head) -> Result<()> {
    let Ok(LeftOut { mut tables, .. }) = left_out_now(conn, server, head).await else { return Ok(()) };
    tables.retain(|table| {
        head.table_set.tables.patterns().all(|pattern| *pattern != TablePattern::Table(table.clone()))
    });
    let names: Vec<_> = tables.iter().map(ToString::to_string).collect();
    match tables.is_empty() {
        true => Ok(()),
        false => Err(Error::new(
            Kind::Usage,
            format!("read {server}: its replication filters leave out {}", names.join(", ")),
        )
        .hint(format!(
            "stop its SQL thread and run `tablecast upload`, which says whether anything is lost ({RUNBOOK})"
        ))),
    }
}

/// I3: the next table of such a schema would be kept from the stream, and nobody could see it: a table that was made
/// behind the filter is in no head, and not at this server.
pub(crate) fn not_every_table(schemas: &str, server: &str) -> Error {
    Error::new(
        Kind::Usage,
        format!("read {server}: its replication filters do not let in every table of {schemas}"),
    )
    .hint(format!(
        "stop its SQL thread, CHANGE REPLICATION FILTER so that the whole schema is let in (replicate-wild-do-table = \
         'schema.%'), the same into my.cnf, start it. If the primary has a table there that this server lacks, its rows were kept \
         from the stream: `tablecast processor rebuild`, then `tablecast upload --resync` ({RUNBOOK})"
    ))
}

async fn write(tools: Tools<'_>, lock: &mut dyn Held, tip: &mut Tip, gap: Option<Gap>) -> Result<()> {
    let mut head = tip.head.clone();
    head.gap = gap;
    failpoint::hit("upload.before_gap");
    lock.verify().await?;
    tip.swap(tools.store, head).await?;
    failpoint::hit("upload.after_gap");
    Ok(())
}

fn names(tables: &[TableName]) -> String {
    tables.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The filter is still wrong.
fn leaves_out(gap: &Gap, server: &str) -> Error {
    let message = format!("read {server}: its replication filters leave out {}", names(&gap.tables));
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
        names(&gap.tables)
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
