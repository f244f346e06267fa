//! `upload --resync` at a server that is only behind: what it lacks of the stream may be on its way to it.
//!
//! A resync settles what its source lacks: the regions go back to before it, and nothing ships it again (I3). That is right
//! for what a failover has lost. What a replica has received and not applied, or not received yet, would be lost by the
//! resync itself. So nothing is dumped before it is certain that nothing of it comes any more. The primary of `[primary]`
//! says so, if it lacks it too. Where none is named or it does not answer, the replica itself does, once it has applied
//! all that its own source had at the moment of the first look.

use std::time::Duration;

use chrono::{DateTime, Utc};
use mysql_async::Conn;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::binlog::gtid::GtidSet;
use crate::error::{Error, Kind, Result, chain};
use crate::mysql;
use crate::source::moment::{self, Moment};
use crate::source::pass::Tools;
use crate::source::upload::beyond;
use crate::source::{bridge, primacy};
use crate::stream::Head;

/// A replica with the server's defaults is told at least every 30 seconds that there is nothing new.
const PATIENCE: Duration = Duration::from_secs(75);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why what the source lacks is not settled.
#[derive(Debug, PartialEq, Eq)]
enum Missing {
    /// This comes as soon as the source applies it.
    Comes(GtidSet),
    /// Nobody has said whether this comes.
    Unknown(GtidSet),
}

/// Waits for what comes, and refuses the resync if it does not arrive. False: told to stop. `may_wait`: without it a look
/// must do.
pub(crate) async fn check(
    tools: Tools<'_>,
    conn: &mut Conn,
    moment: &mut Moment,
    head: &Head,
    may_wait: bool,
    stop: &CancellationToken,
) -> Result<bool> {
    let server = tools.config.mysql.to_string();
    let (began, asked_at) = (Instant::now(), tools.clock.now());
    let mut primary = None;
    loop {
        let missing = missing(moment, head);
        if missing.is_empty() {
            return Ok(true);
        }
        // One answer is enough, unless it comes from a replica.
        let there = match &mut primary {
            Some(there) if !matches!(there, Ok(Some(Primary { is_end: false, .. }))) => there,
            other => other.insert(at_primary(tools, moment).await),
        };
        let there_now = there.as_ref().ok().and_then(Option::as_ref);
        let Some(found) = judge(moment, missing, there_now, asked_at) else { return Ok(true) };
        let runs = moment.channels.iter().all(|channel| channel.runs());
        if !may_wait || !runs || moment.channels.is_empty() || began.elapsed() >= PATIENCE {
            return Err(refused(&found, &server, moment, there.as_ref().err()));
        }
        if began.elapsed() < LOOK_EVERY {
            tracing::warn!(
                "{server} lacks what the stream covers; waiting until it has applied all that comes"
            );
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(false),
            () = sleep(LOOK_EVERY) => {}
        }
        *moment = moment::look(conn, &server).await?;
        primacy::judge(tools.config, moment).await;
    }
}

/// What the stream covers and the source does not have, but for what it would have made itself.
fn missing(moment: &Moment, head: &Head) -> GtidSet {
    beyond(head, moment).difference(&moment.own_gone(&head.covered))
}

/// What the primary has said.
struct Primary {
    /// What it has executed, and what waits there.
    known: GtidSet,
    /// What it lacks now it never gets: it is no replica.
    is_end: bool,
}

/// None, if there is no other primary than the source.
async fn at_primary(tools: Tools<'_>, moment: &Moment) -> Result<Option<Primary>> {
    let Some(config) = bridge::at_primary(tools.config).filter(|_| !moment.is_primary()) else {
        return Ok(None);
    };
    let server = config.mysql.to_string();
    let mut conn = mysql::connect(&config.mysql).await?;
    let there = moment::look(&mut conn, &server).await?;
    let is_end = moment::gets_no_more(&mut conn, &there, &server).await?;
    let _ = conn.disconnect().await;
    Ok(Some(Primary { known: there.known(), is_end }))
}

/// Nothing, if nothing of it comes any more. `there`: what the primary has said. `asked_at`: when the first look was; the stream was shipped before.
fn judge(
    moment: &Moment,
    missing: GtidSet,
    there: Option<&Primary>,
    asked_at: DateTime<Utc>,
) -> Option<Missing> {
    let mut comes = moment.known();
    there.into_iter().for_each(|there| comes.extend(&there.known));
    let comes = missing.intersection(&comes);
    if !comes.is_empty() {
        return Some(Missing::Comes(comes));
    }
    // Nobody feeds it; or it has heard of everything that was there when it was asked.
    let is_told = there.is_some_and(|there| there.is_end)
        || moment.channels.is_empty()
        || moment.complete_until.is_some_and(|until| until >= asked_at);
    (!is_told).then_some(Missing::Unknown(missing))
}

fn refused(found: &Missing, server: &str, moment: &Moment, primary: Option<&Error>) -> Error {
    let (lacks, what) = match found {
        Missing::Comes(set) => (set, " and which is on its way to it"),
        Missing::Unknown(set) => (set, "; whether it still comes nobody has said"),
    };
    let asked = primary.map(|error| format!(" (asking [primary]: {})", chain(error))).unwrap_or_default();
    Error::new(
        Kind::Mysql,
        format!(
            "upload --resync at {server}: it lacks {lacks}, which the stream covers{what}{asked}: the dump would take it from \
             every region, and nothing would ship it again"
        ),
    )
    .hint(match (moment.channels.is_empty(), found) {
        (true, _) => {
            "let it replicate until it has that (a binlog processor: `tablecast processor create` carries on), or name the \
             server that has it in [mysql]; if this one is the primary now, name it in [primary] too"
        }
        (false, Missing::Unknown(_)) => {
            "name its primary in [primary], the server that is written to, so that it can be asked; or see that its threads run (SHOW REPLICA STATUS), and \
             run again. If it is the primary itself now: STOP REPLICA; RESET REPLICA ALL"
        }
        (false, _) => {
            "see that its threads run (SHOW REPLICA STATUS: Replica_IO_Running, Replica_SQL_Running, Last_Error), wait until it \
             has caught up, and run again"
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn set(text: &str) -> GtidSet {
        text.replace("old", OLD).parse().expect("a set")
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).expect("a time")
    }

    /// A replica that has executed transactions 1 to 5, and has received up to `received`.
    fn replica(received: u64, complete_until: Option<i64>) -> Moment {
        let channel = moment::Channel::for_tests(&set(&format!("old:1-{received}")));
        Moment {
            executed: set("old:1-5"),
            purged: GtidSet::new(),
            uuid: uuid::Uuid::from_u128(7),
            gtid_mode: "ON".to_owned(),
            channels: vec![channel],
            complete_until: complete_until.map(at),
            ordered: true,
            lacks: GtidSet::new(),
            doubt: None,
        }
    }

    fn primary(known: &str, is_end: bool) -> Primary {
        Primary { known: set(known), is_end }
    }

    #[test]
    fn i3_what_was_received_and_not_applied_comes() {
        let found = judge(&replica(7, None), set("old:6-9"), None, at(10));
        assert_eq!(found, Some(Missing::Comes(set("old:6-7"))));
        // Also when the primary has lost it: the replica has it all the same.
        let found = judge(&replica(7, None), set("old:6-9"), Some(&primary("old:1-5", true)), at(10));
        assert_eq!(found, Some(Missing::Comes(set("old:6-7"))));
    }

    #[test]
    fn i3_what_the_primary_has_comes_and_what_it_lacks_does_not() {
        let found = judge(&replica(5, Some(20)), set("old:6-9"), Some(&primary("old:1-8", true)), at(10));
        assert_eq!(found, Some(Missing::Comes(set("old:6-8"))));
        let found = judge(&replica(5, None), set("old:6-9"), Some(&primary("old:1-5", true)), at(10));
        assert_eq!(found, None);
        // It is a replica, and may get it yet.
        let found = judge(&replica(5, None), set("old:6-9"), Some(&primary("old:1-5", false)), at(10));
        assert_eq!(found, Some(Missing::Unknown(set("old:6-9"))));
    }

    #[test]
    fn i3_without_a_primary_to_ask_only_what_was_heard_since_the_look_settles_it() {
        let judged = |until| judge(&replica(5, until), set("old:6-9"), None, at(10));
        assert_eq!(judged(None), Some(Missing::Unknown(set("old:6-9"))));
        assert_eq!(judged(Some(9)), Some(Missing::Unknown(set("old:6-9"))));
        assert_eq!(judged(Some(10)), None);
        let alone = Moment { channels: Vec::new(), ..replica(5, None) };
        assert_eq!(judge(&alone, set("old:6-9"), None, at(10)), None);
    }
}
