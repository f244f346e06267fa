//! Whether the copy of the tables at a server may be dumped for every region, once a filter has left one out (I3).
//!
//! That copy may lack the rows too, and no set of GTIDs tells: what a CLONE or a load has put in the place of the old
//! binary logs looks as what their expiry leaves behind. So a new copy is only believed that can be proven: the server
//! is a CLONE of the primary (`performance_schema.clone_status`, which outlives restarts), its binary logs hold all that it
//! has executed since, and the first of that was committed when its filters were as they are now. Every CHANGE
//! REPLICATION FILTER and every restart sets `ACTIVE_SINCE` anew, one that takes a rule away too (seen at 8.4), and there is
//! none while the SQL thread runs. Nothing of what earlier runs have seen is needed, so nothing that they did not see
//! can mislead. Everything else is the word of whoever runs `upload --resync --trust-copy`.

use chrono::{DateTime, Utc};
use mysql_async::Conn;
use uuid::Uuid;

use super::{Found, RUNBOOK, is_unharmed, look, names, on_trust};
use crate::binlog::event::{Checksum, Event, GtidEvent, kind};
use crate::binlog::gtid::GtidSet;
use crate::error::{Error, Kind, Result, chain};
use crate::mysql::{self, Incoming};
use crate::source::moment::{self, Moment};
use crate::source::pass::Tools;
use crate::source::processor;
use crate::source::reader::Reader;
use crate::source::replica_filters;
use crate::source::upload::show_time;
use crate::stream::{Gap, Head};

/// Refuses a resync whose dump may lack rows. Asked, where a gap is known, of the servers that had the filter, and of every one that
/// is not the primary and has filters: one my.cnf serves many, and whether another's was right all the time no run has
/// seen. `trusts`: somebody says that the copy is new. Says what is taken on trust.
pub(crate) async fn may_be_dumped(
    tools: Tools<'_>,
    conn: &mut Conn,
    moment: &Moment,
    head: &Head,
    trusts: bool,
) -> Result<Option<String>> {
    let server = tools.config.mysql.to_string();
    let since = match look(conn, &server, head, moment).await? {
        Found::Wrong { tables, .. } => return Err(leaves_out_now(&names(&tables), &server)),
        Found::Nothing { since } => since,
        Found::Mended(_) => None,
    };
    let Some(gap) = &head.gap else {
        let Some(said) = on_trust(since, moment, head, &server) else { return Ok(None) };
        // A copy that is new for another reason is as good.
        let is_proven = matches!(unproven(tools, conn, moment, None).await, Ok(None));
        return Ok((!is_proven).then_some(said));
    };
    if !is_suspect(conn, moment, Some(gap), &server).await?
        // Of another server's copy that says nothing.
        || (gap.is_of(moment.uuid) && is_unharmed(Some(gap), &moment.executed, &head.covered))
    {
        return Ok(None);
    }
    let Some(why) = unproven(tools, conn, moment, Some(gap)).await? else { return Ok(None) };
    if !trusts || !begins_behind(moment, gap) {
        return Err(refused(gap, &server, &why));
    }
    let since = match replica_filters::unchanged_since(conn, &server).await? {
        Some(since) => format!("are as they are since {}", show_time(since)),
        None => "do not tell since when they are as they are".to_owned(),
    };
    Ok(Some(format!(
        "the copy of {} at {server} is taken on trust: {why}. Its gtid_purged is {}, its filters {since} ({RUNBOOK})",
        names(&gap.tables),
        moment.purged
    )))
}

/// Whether rows may be missing there for all that is known: it had the filter, or has one.
async fn is_suspect(conn: &mut Conn, moment: &Moment, gap: Option<&Gap>, server: &str) -> Result<bool> {
    Ok(gap.is_some_and(|gap| gap.is_of(moment.uuid))
        || (!moment.is_primary()
            && (moment.channels.is_empty() || replica_filters::has_any(conn, server).await?)))
}

/// Why nothing proves that the copy is newer than every loss; nothing, if something does.
async fn unproven(
    tools: Tools<'_>,
    conn: &mut Conn,
    moment: &Moment,
    gap: Option<&Gap>,
) -> Result<Option<String>> {
    let server = tools.config.mysql.to_string();
    let clone = match processor::clone_status(conn, &server).await {
        Ok(Some(clone)) if clone.state == "Completed" => clone,
        Ok(_) => return Ok(Some("it was not made by CLONE, so nothing proves that it is new".into())),
        Err(error) if error.kind() == Kind::Denied => {
            return Ok(Some(format!("whether it is a new CLONE cannot be seen: {}", chain(&error))));
        }
        Err(error) => return Err(error),
    };
    // What it commits itself passes by no filter.
    let others = |set| without_own(set, |uuid| uuid == moment.uuid);
    if !others(&moment.purged).is_subset(&clone.executed) {
        let why = "its binary logs no longer hold all that it has executed since its CLONE, so nobody can see by which filters";
        return Ok(Some(why.into()));
    }
    let since_clone = others(&moment.executed).difference(&clone.executed);
    if !since_clone.is_empty() {
        let Some(since) = replica_filters::unchanged_since(conn, &server).await? else {
            return Ok(Some(
                "it has executed transactions since its CLONE, and does not tell by which filters".into(),
            ));
        };
        let first = first_commit(tools, moment, &since_clone).await?;
        if first.is_none_or(|first| first < since) {
            return Ok(Some(format!(
                "its filters are as they are since {}, by a change or a restart, and what it has executed since its CLONE is older",
                show_time(since)
            )));
        }
    }
    donor_in_doubt(tools, &clone.source, gap).await
}

/// When the server committed the first of these, by its own clock. Nothing that came before is sent.
async fn first_commit(tools: Tools<'_>, moment: &Moment, wanted: &GtidSet) -> Result<Option<DateTime<Utc>>> {
    let config = tools.config;
    let before = moment.executed.difference(wanted);
    // By the server's own number, so that an upload that reads there is not cut off: a dry run has no lock.
    let mut reader =
        Reader::open(&config.mysql, moment.uuid, &before, false, &config.files.spool_dir).await?;
    while let Some(incoming) = reader.next().await? {
        let Incoming::Event { bytes, crc } = incoming else { continue };
        let event = Event::from_bytes(bytes, if crc { Checksum::Crc32 } else { Checksum::None })?;
        if matches!(event.kind(), kind::GTID | kind::GTID_TAGGED) {
            let us = GtidEvent::parse(&event)?.immediate_commit_us;
            return Ok(i64::try_from(us).ok().and_then(DateTime::from_timestamp_micros));
        }
    }
    Ok(None)
}

/// Why the server that it was copied from may lack the rows too; nothing, if it is the primary of the config and does not.
async fn donor_in_doubt(tools: Tools<'_>, source: &str, gap: Option<&Gap>) -> Result<Option<String>> {
    let Some(primary) = &tools.config.primary else {
        return Ok(Some(format!("it is a CLONE of {source}, and no [primary] says that this has all rows")));
    };
    if processor::clone_source(primary).is_ok_and(|named| named == source) {
        let asked = async {
            let mut conn = mysql::connect(primary).await?;
            let name = primary.to_string();
            let moment = moment::look(&mut conn, &name).await?;
            let is_suspect = is_suspect(&mut conn, &moment, gap, &name).await;
            let _ = conn.disconnect().await;
            is_suspect
        };
        return Ok(match asked.await {
            Ok(false) => None,
            Ok(true) => Some(format!("it is a CLONE of {source}, which may lack them too")),
            Err(error) => {
                Some(format!("it is a CLONE of {source}, which cannot be asked: {}", chain(&error)))
            }
        });
    }
    Ok(Some(format!("it is a CLONE of {source}, and [primary] is {primary}")))
}

/// Whether the binary logs begin behind the finding, without which nobody's word is taken. Where nothing was lost by then, the copy may
/// have been new already: then they must begin later, for what was lost since is in those of that copy.
fn begins_behind(moment: &Moment, gap: &Gap) -> bool {
    let (executed, purged) = without_ours(moment, gap);
    executed.is_subset(&purged) && (gap.lost || !purged.is_subset(&executed))
}

/// Whether they begin later than anything that is known of it.
pub(super) fn begins_later(moment: &Moment, gap: &Gap) -> bool {
    let (executed, purged) = without_ours(moment, gap);
    executed.is_subset(&purged) && !purged.is_subset(&executed)
}

/// What they had made themselves a new copy does not have.
fn without_ours(moment: &Moment, gap: &Gap) -> (GtidSet, GtidSet) {
    let others = |set| without_own(set, |uuid| gap.is_of(uuid) || uuid == moment.uuid);
    (others(&gap.executed), others(&moment.purged))
}

fn without_own(set: &GtidSet, is_own: impl Fn(Uuid) -> bool) -> GtidSet {
    let mut others = GtidSet::new();
    for (tsid, intervals) in set.intervals().filter(|(tsid, _)| !is_own(tsid.uuid)) {
        intervals.iter().for_each(|(first, last)| others.insert_range(tsid, *first, *last));
    }
    others
}

fn leaves_out_now(tables: &str, server: &str) -> Error {
    let message = format!(
        "upload --resync: the replication filters of {server} leave out {tables}, so its copy lacks rows"
    );
    Error::new(Kind::Usage, message).hint(format!(
        "run `tablecast upload`, which says whether anything is lost; mend the filter there and in its my.cnf (`tablecast processor \
         config` prints it): {RUNBOOK}"
    ))
}

fn refused(gap: &Gap, server: &str, why: &str) -> Error {
    Error::new(
        Kind::History,
        format!(
            "upload --resync: the copy of {} at {server} lacks what its filter left out, as far as can be known, and every region would get \
             it; {why}",
            names(&gap.tables)
        ),
    )
    .hint(format!(
        "`tablecast processor rebuild` first (again, if that server was restarted or its filters were changed since), or name the primary \
         or a replica without filters in [mysql]. Where the tables were loaded or copied from the primary by hand: PURGE BINARY LOGS at \
         {server} up to the log of now, then `tablecast upload --resync --trust-copy`, which takes your word for it ({RUNBOOK})"
    ))
}
