//! One look at the source: what it has executed, what it can no longer send, and up to which time of the
//! primary's clock everything that it has executed is complete.
//!
//! Two queries on the control connection, nothing else while all runs, so that an idle upload stays cheap. The replica's
//! state is read *before* `gtid_executed`: whatever had been received by then and is in `gtid_executed`
//! afterwards was applied. A replica whose threads stand still, or whose connection is cut, tells no time:
//! its own wall clock says nothing about what the primary has done since.

use chrono::{DateTime, Utc};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use uuid::Uuid;

use crate::binlog::gtid::GtidSet;
use crate::error::{Error, Kind, Result};
use crate::mysql;
use crate::source::primacy::Doubt;
use crate::source::standstill::{self, LastError};

/// What the source looked like at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    pub executed: GtidSet,
    pub purged: GtidSet,
    pub uuid: Uuid,
    pub gtid_mode: String,
    /// The replication channels that feed the source; none: it is a primary, unless there is a `doubt`.
    pub channels: Vec<Channel>,
    /// Up to this time `executed` is complete, if that can be known.
    pub complete_until: Option<DateTime<Utc>>,
    /// Whether the order of the source's binlog is the order of its primary, so that the commit time of the
    /// last transaction read says that everything earlier has been read too.
    pub ordered: bool,
    /// What the stream has shipped and the source does not have; filled in by whoever knows the stream.
    pub lacks: GtidSet,
    /// Why a source without a channel is not taken for the primary; filled in by `primacy`.
    pub doubt: Option<Doubt>,
}

impl Moment {
    /// A source that lacks what has been shipped tells no time: it is behind another one, who knows how far. Nor does
    /// a copy that nobody feeds.
    pub(crate) fn hold_time(&mut self) {
        if !self.lacks.is_empty() || self.doubt.is_some() {
            (self.complete_until, self.ordered) = (None, false);
        }
    }

    /// Nobody feeds it, and nothing says that it should be fed.
    pub(crate) fn is_primary(&self) -> bool {
        self.channels.is_empty() && self.doubt.is_none()
    }

    /// The channels that bring something, or try to: one that was stopped, or that a promotion has left behind, does not.
    pub(crate) fn feeding(&self) -> usize {
        self.channels.iter().filter(|channel| channel.receiver != "OFF").count()
    }

    /// What the source has executed, and what has been sent to it and waits there.
    pub(crate) fn known(&self) -> GtidSet {
        let mut known = self.executed.clone();
        self.channels.iter().for_each(|channel| known.extend(&channel.received));
        known
    }

    /// What is in `covered` under the server's own UUID and the server does not have. Nobody else makes
    /// transactions under that UUID.
    pub(crate) fn own_gone(&self, covered: &GtidSet) -> GtidSet {
        self.own(&covered.difference(&self.executed))
    }

    /// What of these the server has made itself.
    pub(crate) fn own(&self, of: &GtidSet) -> GtidSet {
        made_by(of, |writer| writer == self.uuid)
    }
}

/// Those of these that such servers have made.
pub(crate) fn made_by(of: &GtidSet, is_one: impl Fn(Uuid) -> bool) -> GtidSet {
    let mut theirs = GtidSet::new();
    for (tsid, intervals) in of.intervals().filter(|(tsid, _)| is_one(tsid.uuid)) {
        for (first, last) in intervals {
            theirs.insert_range(tsid, *first, *last);
        }
    }
    theirs
}

/// One replication channel of a source that is a replica.
#[derive(Clone, Debug)]
pub(crate) struct Channel {
    pub name: String,
    /// `ON`, `OFF` or `CONNECTING`.
    pub receiver: String,
    pub applier: String,
    received: GtidSet,
    /// The newest of the last heartbeat and the commit time of the last transaction received, in
    /// microseconds since 1970; 0: none of them yet.
    heard_us: i64,
    /// What the server says of why it does not run.
    pub error: Option<LastError>,
}

impl Channel {
    pub(crate) fn runs(&self) -> bool {
        self.receiver == "ON" && self.applier == "ON"
    }

    /// One that runs, has heard nothing, and has received this.
    #[cfg(test)]
    pub(crate) fn for_tests(received: &GtidSet) -> Channel {
        let (name, [receiver, applier]) = (String::new(), ["ON"; 2].map(str::to_owned));
        Channel { name, receiver, applier, received: received.clone(), heard_us: 0, error: None }
    }

    /// A receiver that is CONNECTING tries again by itself.
    pub(crate) fn is_stopped_by_an_error(&self) -> bool {
        self.error.is_some() && (self.receiver == "OFF" || self.applier == "OFF")
    }
}

/// `performance_schema` tables that a source which is a replica must let us read; see `preflight::grants`.
pub(crate) const REPLICATION_TABLES: [&str; 5] = [
    "replication_connection_status",
    "replication_applier_status",
    "replication_applier_filters",
    "replication_applier_status_by_worker",
    "replication_applier_status_by_coordinator",
];

/// The channel by which the members of a group, the primary among them, get what the others have written
/// (<https://dev.mysql.com/doc/refman/8.4/en/group-replication-applier-channel.html>).
const GROUP: &str = "group_replication_applier";

// The recovery channel of Group Replication exists beside the applier channel and is off in normal times.
const CHANNELS: &str = "SELECT c.CHANNEL_NAME, c.SERVICE_STATE, c.RECEIVED_TRANSACTION_SET, \
     CAST(GREATEST(UNIX_TIMESTAMP(c.LAST_HEARTBEAT_TIMESTAMP), \
       UNIX_TIMESTAMP(c.LAST_QUEUED_TRANSACTION_IMMEDIATE_COMMIT_TIMESTAMP)) * 1000000 AS SIGNED), \
     COALESCE(a.SERVICE_STATE, 'OFF') \
     FROM performance_schema.replication_connection_status c \
     LEFT JOIN performance_schema.replication_applier_status a ON a.CHANNEL_NAME = c.CHANNEL_NAME \
     WHERE c.CHANNEL_NAME <> 'group_replication_recovery'";

const MOMENT: &str = "SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED), \
     @@GLOBAL.gtid_executed, @@GLOBAL.gtid_purged, @@GLOBAL.server_uuid, @@GLOBAL.gtid_mode";

/// Looks at the source.
pub(crate) async fn look(conn: &mut Conn, server: &str) -> Result<Moment> {
    let channels = channels(conn, server).await?;
    let doing = format!("read gtid_executed at {server}");
    let row: Option<Row> = conn.query_first(MOMENT).await.map_err(|cause| mysql::error(cause, &doing))?;
    let row: (i64, String, String, String, String) = decode(row, &doing)?;
    let (now_us, executed, purged, uuid, gtid_mode) = row;
    let executed = set(&executed, &doing)?;
    let uuid = Uuid::parse_str(&uuid).map_err(|cause| {
        Error::new(Kind::Mysql, format!("{doing}: server_uuid is {uuid:?}")).caused_by(cause)
    })?;
    let complete_until = if channels.is_empty() {
        DateTime::from_timestamp_micros(now_us)
    } else {
        heard_until(&channels, &executed)
    };
    let ordered = match channels.len() {
        0 => true,
        1 => preserves_order(conn).await,
        _ => false,
    };
    Ok(Moment {
        purged: set(&purged, &doing)?,
        executed,
        uuid,
        gtid_mode,
        channels,
        complete_until,
        ordered,
        lacks: GtidSet::new(),
        doubt: None,
    })
}

/// Whether a server gets nothing from others any more: nobody feeds it; or it is written to, has applied all that it has
/// received, and its channels are stopped (a promotion leaves them) or those of its group.
pub(crate) async fn gets_no_more(conn: &mut Conn, moment: &Moment, server: &str) -> Result<bool> {
    let brings = |channel: &Channel| channel.receiver != "OFF" && channel.name != GROUP;
    if moment.channels.iter().any(brings) || !moment.known().is_subset(&moment.executed) {
        return Ok(false);
    }
    if moment.channels.is_empty() {
        return Ok(true);
    }
    let doing = format!("read read_only at {server}");
    let read_only: Option<bool> =
        conn.query_first("SELECT @@GLOBAL.read_only").await.map_err(|cause| mysql::error(cause, &doing))?;
    Ok(read_only == Some(false))
}

/// Whether a primary waits for a semi-synchronous replica before it commits what it has sent already
/// (<https://dev.mysql.com/doc/refman/8.4/en/replication-semisync-monitoring.html>).
pub(crate) async fn waits_for_replicas(conn: &mut Conn, server: &str) -> Result<bool> {
    let doing = format!("read Rpl_semi_sync_source_wait_sessions at {server}");
    // It was renamed in 8.0.26, and is there only with the plugin.
    let found: Vec<(String, String)> = conn
        .query("SHOW GLOBAL STATUS LIKE 'Rpl\\_semi\\_sync\\_%\\_wait\\_sessions'")
        .await
        .map_err(|cause| mysql::error(cause, &doing))?;
    Ok(found.iter().any(|(_, sessions)| sessions != "0"))
}

/// Only `gtid_executed`.
pub(crate) async fn executed(conn: &mut Conn, server: &str) -> Result<GtidSet> {
    let doing = format!("read gtid_executed at {server}");
    let text: Option<String> = conn
        .query_first("SELECT @@GLOBAL.gtid_executed")
        .await
        .map_err(|cause| mysql::error(cause, &doing))?;
    set(&text.unwrap_or_default(), &doing)
}

/// The time up to which a replica has everything: the slowest channel's, and none if one of them stands
/// still or has received what is not applied yet.
fn heard_until(channels: &[Channel], executed: &GtidSet) -> Option<DateTime<Utc>> {
    let complete =
        |channel: &Channel| channel.runs() && channel.heard_us > 0 && channel.received.is_subset(executed);
    if !channels.iter().all(complete) {
        return None;
    }
    let slowest = channels.iter().map(|channel| channel.heard_us).min()?;
    DateTime::from_timestamp_micros(slowest)
}

async fn channels(conn: &mut Conn, server: &str) -> Result<Vec<Channel>> {
    let doing = format!("read performance_schema.replication_connection_status at {server}");
    let rows: Vec<Row> = match conn.query(CHANNELS).await {
        Ok(rows) => rows,
        Err(cause) => {
            return Err(mysql::error(cause, &doing)
                .hint("`tablecast grants` prints the privileges that this account needs at the source"));
        }
    };
    let mut channels = Vec::new();
    for row in rows {
        let (name, receiver, received, heard_us, applier): (String, String, String, Option<i64>, String) =
            decode(Some(row), &doing)?;
        let received = set(&received, &doing)?;
        let heard_us = heard_us.unwrap_or(0);
        let mut channel = Channel { name, receiver, applier, received, heard_us, error: None };
        if !channel.runs() {
            channel.error = standstill::last_error(conn, &channel).await;
        }
        channels.push(channel);
    }
    Ok(channels)
}

/// Whether a replica commits in its primary's order. The variables were renamed in 8.0.26; where neither can
/// be read the answer is no, which costs nothing but a coarser `as_of`.
async fn preserves_order(conn: &mut Conn) -> bool {
    for prefix in ["replica", "slave"] {
        let query = format!(
            "SELECT @@GLOBAL.{prefix}_preserve_commit_order = 1 OR @@GLOBAL.{prefix}_parallel_workers <= 1"
        );
        if let Ok(Some(answer)) = conn.query_first::<bool, _>(query).await {
            return answer;
        }
    }
    false
}

fn decode<T: mysql_async::prelude::FromRow>(row: Option<Row>, doing: &str) -> Result<T> {
    let row = row.ok_or_else(|| Error::new(Kind::Mysql, format!("{doing}: no row")))?;
    mysql_async::from_row_opt(row).map_err(|cause| Error::new(Kind::Mysql, doing).caused_by(cause))
}

fn set(text: &str, doing: &str) -> Result<GtidSet> {
    text.parse().map_err(|cause: Error| cause.during(doing))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(receiver: &str, applier: &str, received: &str, heard_us: i64) -> Channel {
        Channel {
            name: String::new(),
            receiver: receiver.to_owned(),
            applier: applier.to_owned(),
            received: received.parse().expect("a set"),
            heard_us,
            error: None,
        }
    }

    const PRIMARY: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    #[test]
    fn a_replica_that_has_applied_everything_received_is_complete_until_it_last_heard_something() {
        let executed: GtidSet = format!("{PRIMARY}:1-10").parse().expect("a set");
        let caught_up = channel("ON", "ON", &format!("{PRIMARY}:1-10"), 5_000_000);
        assert_eq!(heard_until(&[caught_up], &executed), DateTime::from_timestamp_micros(5_000_000));
    }

    #[test]
    fn a_replica_that_is_stopped_cut_or_behind_tells_no_time() {
        let executed: GtidSet = format!("{PRIMARY}:1-10").parse().expect("a set");
        let received = format!("{PRIMARY}:1-10");
        let ahead = format!("{PRIMARY}:1-11");
        for silent in [
            channel("OFF", "ON", &received, 5),
            channel("CONNECTING", "ON", &received, 5),
            channel("ON", "OFF", &received, 5),
            channel("ON", "ON", &ahead, 5),
            channel("ON", "ON", &received, 0),
        ] {
            assert_eq!(heard_until(std::slice::from_ref(&silent), &executed), None, "{silent:?}");
            let healthy = channel("ON", "ON", &received, 7);
            assert_eq!(heard_until(&[healthy, silent.clone()], &executed), None, "{silent:?}");
        }
    }

    #[test]
    fn of_several_channels_the_slowest_counts() {
        let executed: GtidSet = format!("{PRIMARY}:1-10").parse().expect("a set");
        let fast = channel("ON", "ON", &format!("{PRIMARY}:1-10"), 9_000_000);
        let slow = channel("ON", "ON", &format!("{PRIMARY}:1-3"), 4_000_000);
        assert_eq!(heard_until(&[fast, slow], &executed), DateTime::from_timestamp_micros(4_000_000));
    }
}
