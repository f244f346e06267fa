//! A source that is a replica and stands still: nothing new reaches the stream through it. Which error stopped it, in the
//! server's own words, and the way out.

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::error::Kind;
use crate::mysql;
use crate::source::moment::{Channel, Moment};
use crate::source::preflight::Check;

/// What `doctor` calls it.
pub(crate) const NAME: &str = "replication";
/// What a failure means: upload has nothing to refuse, and ends with 0.
pub(crate) const BREAKS: &str = "nothing new reaches the stream, though `tablecast upload` ends with 0";

/// Why a channel stands still.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LastError {
    pub number: u32,
    pub message: String,
}

/// The server's last error of a channel that does not run. An account that may not read it is told less, not refused: the
/// worker's own words stand in `performance_schema` alone, those of SHOW REPLICA STATUS may only point there
/// (<https://dev.mysql.com/doc/refman/8.4/en/performance-schema-replication-applier-status-by-worker-table.html>).
pub(crate) async fn last_error(conn: &mut Conn, channel: &Channel) -> Option<LastError> {
    let mut tables = Vec::new();
    if channel.applier != "ON" {
        tables.extend(["replication_applier_status_by_worker", "replication_applier_status_by_coordinator"]);
    }
    if channel.receiver != "ON" {
        tables.push("replication_connection_status");
    }
    for table in tables {
        let query = format!(
            "SELECT LAST_ERROR_NUMBER, LAST_ERROR_MESSAGE FROM performance_schema.{table} \
             WHERE CHANNEL_NAME = ? AND LAST_ERROR_NUMBER <> 0 ORDER BY LAST_ERROR_TIMESTAMP DESC LIMIT 1"
        );
        if let Ok(Some((number, message))) = conn.exec_first(query, (&channel.name,)).await {
            return Some(LastError { number, message });
        }
    }
    let status = mysql::replica_status(conn).await.ok()?;
    let status = status.into_iter().find(|status| status.channel == channel.name)?;
    let errors =
        [(status.last_sql_errno, status.last_sql_error), (status.last_io_errno, status.last_io_error)];
    let (number, message) = errors.into_iter().find(|(number, _)| *number != 0)?;
    Some(LastError { number, message })
}

fn standing(moment: &Moment) -> Option<&Channel> {
    moment.channels.iter().find(|channel| !channel.runs())
}

/// What is to be said of a source whose own replication stands still.
pub(crate) fn told(moment: &Moment, server: &str) -> Option<String> {
    let channel = standing(moment)?;
    let error = match &channel.error {
        Some(LastError { number, message }) => format!(": error {number}: {message}"),
        None => String::new(),
    };
    Some(format!(
        "{server}: replication channel {:?} stands still (receiver {}, applier {}), so nothing new comes and as_of stands \
         still too{error}",
        channel.name, channel.receiver, channel.applier
    ))
}

/// The same with the way out, for a log.
pub(crate) fn told_with_way_out(moment: &Moment, server: &str) -> Option<String> {
    Some(format!("{}; {}", told(moment, server)?, way_out(standing(moment)?)))
}

fn way_out(channel: &Channel) -> &'static str {
    match channel.error.as_ref().map(|error| error.number) {
        // ER_XA_REPLICATION_FILTERS
        Some(3898) => {
            "an XA transaction stops every filtered replica, and START REPLICA stops at it again: `tablecast processor \
             rebuild` makes the processor anew, behind it. Where applications go on using XA: a full replica as [mysql] \
             (docs/processor.md)"
        }
        // ER_MASTER_FATAL_ERROR_READING_BINLOG, as the receiver has it and as it is since 8.0.
        Some(1236 | 13114) => {
            "the primary does not send what this server asks for, most often because it has purged it: `tablecast \
             processor rebuild`"
        }
        // ER_NO_SUCH_TABLE, ER_BAD_TABLE_ERROR, ER_BAD_DB_ERROR
        Some(1146 | 1051 | 1049) => {
            "its filters let in what it does not have: `tablecast processor config` into its my.cnf, restart, START \
             REPLICA; if it stops again, `tablecast processor rebuild` (docs/runbooks/rebuild-the-processor.md)"
        }
        Some(_) => {
            "mend that, and START REPLICA; a binlog processor is made anew by `tablecast processor rebuild`"
        }
        None => {
            "SHOW REPLICA STATUS says more; START REPLICA. If this server is the primary now: RESET REPLICA ALL"
        }
    }
}

/// What `doctor` says of it. Stopped by an error, it does not go on by itself.
pub(crate) fn check(moment: &Moment, server: &str) -> Check {
    if let Some(doubt) = &moment.doubt {
        return Check::warning(NAME, doubt.what.clone(), doubt.hint);
    }
    match (standing(moment), told(moment, server)) {
        (Some(channel), Some(what)) if channel.is_stopped_by_an_error() => {
            Check::failed(NAME, Kind::Mysql, what, way_out(channel))
        }
        (Some(channel), Some(what)) => Check::warning(NAME, what, way_out(channel)),
        _ if moment.channels.is_empty() => Check::passed(NAME, "the source is a primary"),
        _ => Check::passed(NAME, "the source is a replica and its threads run"),
    }
}
