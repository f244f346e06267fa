//! A primary that was put in another's place: does it have what the stream has shipped?
//!
//! Where the source is the primary itself, every look at it says so. A replica in between hides it. It has what the
//! old primary sent, the new one may not, and MySQL lets it replicate from the new one all the same
//! (<https://dev.mysql.com/doc/refman/8.4/en/replication-gtids-auto-positioning.html>: only transactions under the
//! new source's own UUID are compared). So the primary of `[primary]` is asked itself:
//!
//! - before transactions of the set are shipped that another server has made than those before them (`writers`), and when
//!   the source lacks what has been shipped: nothing goes on without an answer
//! - before a resync, for every region restores what the source has then
//! - when the source executes any transaction of another server, so that a loss is known before the next change of the set: who
//!   cannot be asked then is only told of
//!
//! Who made the transactions before stands in the newest segment. Where that holds several servers' the primary is asked
//! until there is one of a single server's, or an answer that is remembered on this machine; a server that the stream has
//! known for long is asked like any other, for it may have missed what others made since.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use tokio::time::sleep;
use uuid::Uuid;

use crate::binlog::gtid::GtidSet;
use crate::config::Config;
use crate::error::{Error, Kind, Result, chain};
use crate::mysql;
use crate::source::moment::{self, Moment};
use crate::source::pass::Tools;
use crate::source::{bridge, preflight, upload};
use crate::stream::Head;
use crate::stream::entry::Entry;

/// Refuses to go on behind a replica of a primary that has another history than the regions. Says what nobody knows, if
/// the primary cannot be asked and nothing depends on it yet.
pub(crate) async fn check(tools: Tools<'_>, moment: &Moment, head: &Head) -> Result<Option<String>> {
    if moment.channels.is_empty() {
        return Ok(None);
    }
    let memory = tools.config.files.cache_dir.join(format!("primary-{}", head.stream));
    if moment.lacks.is_empty() && !comes_from_another(moment, head, || remembered(&memory)) {
        return Ok(None);
    }
    let Some(config) = bridge::at_primary(tools.config) else { return Ok(None) };
    let there = match ask(tools, &config, head, &GtidSet::new()).await {
        Ok(there) => there,
        Err(error) if moment.lacks.is_empty() => {
            return Ok(Some(format!(
                "{} has transactions of another server than before, and {} of [primary] cannot be asked whether it has what the \
                 stream has shipped; none of them that is of the set is shipped before: {}",
                tools.config.mysql,
                config.mysql,
                chain(&error)
            )));
        }
        Err(error) => {
            return Err(error.during(asking(&config)).hint(
                "the source lacks what the stream has shipped, and only its primary can say whether that is still to come: after a \
                 failover, name the new primary in [primary] (docs/runbooks/fail-over-the-primary.md)",
            ));
        }
    };
    kept(&there, head, &config)?;
    remember(&memory, moment, head, &there);
    Ok(None)
}

/// Refuses to ship transactions (`fresh`) of another server than those before, unless the primary has them, and all that
/// was shipped.
pub(crate) async fn vouch(tools: Tools<'_>, primary: &Config, head: &Head, fresh: &GtidSet) -> Result<()> {
    let there = ask(tools, primary, head, fresh).await.map_err(|error| {
        error.during(asking(primary)).hint(
            "the source has transactions of another server than before: after a failover, name the new \
             primary in [primary] (docs/runbooks/fail-over-the-primary.md)",
        )
    })?;
    kept(&there, head, primary)?;
    let lost = fresh.difference(&there.executed);
    // One that is a replica itself may get it yet.
    if lost.is_empty() || !there.channels.is_empty() {
        return Ok(());
    }
    Err(does_not_have(&tools.config.mysql.to_string(), &lost, primary))
}

fn asking(primary: &Config) -> String {
    format!("ask {} of [primary] whether it has what the stream has shipped", primary.mysql)
}

fn kept(there: &Moment, head: &Head, primary: &Config) -> Result<()> {
    preflight::kept(there, head, &primary.mysql.to_string())
        .map_err(|error| error.during(asking(primary)).hint(LOST))
}

fn does_not_have(source: &str, lost: &GtidSet, primary: &Config) -> Error {
    let server = primary.mysql.to_string();
    Error::new(Kind::History, format!("{source} has {lost}, which its primary {server} does not have"))
        .hint(LOST)
}

const LOST: &str = "a failover lost it. Rebuild the processor from this primary (`tablecast processor rebuild`), then `tablecast \
     upload --resync`: docs/runbooks/fail-over-the-primary.md";

/// Refuses to have a replica's copy dumped for every region that holds what its primary has lost: the next upload would be
/// refused all the same, and the regions have restored what no primary has. Says why nobody knows, if the primary cannot be
/// asked: that alone is no reason to refuse what may be due because it is down.
pub(crate) async fn may_be_dumped(tools: Tools<'_>, moment: &Moment, head: &Head) -> Result<Option<String>> {
    // Several sources at once: no one of them has all of it, whoever is asked.
    let ([_], Some(config)) = (moment.channels.as_slice(), bridge::at_primary(tools.config)) else {
        return Ok(None);
    };
    let (source, server) = (tools.config.mysql.to_string(), config.mysql.to_string());
    let there = match ask(tools, &config, head, &unshipped(moment, head)).await {
        Ok(there) => there,
        Err(error) => {
            return Ok(Some(format!(
                "whether {server} of [primary] has all that {source} has is not known: {}",
                chain(&error)
            )));
        }
    };
    let lost = lost_there(moment, head, &there);
    // One that is a replica itself may get it yet.
    if lost.is_empty() || !there.channels.is_empty() {
        return Ok(None);
    }
    Err(does_not_have(&source, &lost, &config).during("upload --resync"))
}

/// One look at the primary of this config. What has been `sent` is there a moment before it is in gtid_executed: with a
/// semi-synchronous replica that does not answer, ten seconds before.
async fn ask(tools: Tools<'_>, config: &Config, head: &Head, sent: &GtidSet) -> Result<Moment> {
    let mut conn = mysql::connect(&config.mysql).await?;
    let mut there = upload::observe(&mut conn, Tools { config, ..tools }, head).await?;
    for _ in 0..12 {
        if sent.is_subset(&there.executed) || !there.lacks.is_empty() {
            break;
        }
        sleep(Duration::from_secs(1)).await;
        there.executed = moment::executed(&mut conn, &config.mysql.to_string()).await?;
    }
    let _ = conn.disconnect().await;
    Ok(there)
}

/// What the source has got from its primary and the stream does not cover yet.
fn unshipped(moment: &Moment, head: &Head) -> GtidSet {
    let fresh = moment.executed.difference(&head.covered);
    fresh.difference(&moment.own(&fresh))
}

/// What the source has, shipped or not yet, and its primary has not.
fn lost_there(moment: &Moment, head: &Head, there: &Moment) -> GtidSet {
    let unshipped = unshipped(moment, head).difference(&there.executed);
    there.lacks.intersection(&moment.executed).union(&unshipped)
}

/// That everything behind `until` was made by this one server, and the primary had it all.
struct Vouched {
    writer: Uuid,
    until: GtidSet,
}

/// Whether the source brings transactions of another server than those that came before. `remembered`: of the last answer.
fn comes_from_another(moment: &Moment, head: &Head, remembered: impl FnOnce() -> Option<Vouched>) -> bool {
    let newest = head.entries.iter().rev().find_map(Entry::covered);
    // Several sources at once: no one of them has all of it, whoever is asked.
    let (Some((before, after)), [_]) = (newest, moment.channels.as_slice()) else {
        return !newcomers(moment, head).is_empty();
    };
    if writers(&moment.executed.difference(&head.covered), moment).is_empty() {
        return false;
    }
    let all = head.covered.union(&moment.executed);
    let vouches = |vouched: &Vouched| {
        writers(&all.difference(&vouched.until), moment).iter().all(|writer| *writer == vouched.writer)
    };
    let shipped = only(&writers(&after.difference(before), moment))
        .map(|writer| Vouched { writer, until: before.clone() });
    !shipped.is_some_and(|vouched| vouches(&vouched))
        && !remembered().is_some_and(|vouched| vouches(&vouched))
}

/// Servers that have made these transactions, but for the source itself.
fn writers(of: &GtidSet, moment: &Moment) -> BTreeSet<Uuid> {
    let all = of.intervals().map(|(tsid, _)| tsid.uuid);
    all.filter(|writer| *writer != moment.uuid).collect()
}

fn only(writers: &BTreeSet<Uuid>) -> Option<Uuid> {
    writers.first().copied().filter(|_| writers.len() == 1)
}

/// Writes down that the primary, asked `there`, has what the source has, if that is so. What it lacks and was not shipped
/// yet is looked at when it is: then it is known whether it is of the set.
fn remember(memory: &Path, moment: &Moment, head: &Head, there: &Moment) {
    let fresh = moment.executed.difference(&head.covered);
    let Some(writer) = only(&writers(&fresh, moment)) else { return };
    let in_question = fresh.difference(&there.executed);
    if !writers(&in_question, moment).is_empty() {
        return;
    }
    let text = format!("{writer} {}", head.covered.union(&moment.executed));
    let folder = memory.parent().unwrap_or(Path::new("."));
    if let Err(cause) = fs::create_dir_all(folder).and_then(|()| fs::write(memory, text)) {
        tracing::debug!("remember who was asked in {}: {cause}", memory.display());
    }
}

/// Whatever cannot be read is as good as nothing: the primary is asked again.
fn remembered(memory: &Path) -> Option<Vouched> {
    let text = fs::read_to_string(memory).ok()?;
    let (writer, until) = text.trim().split_once(' ')?;
    Some(Vouched { writer: writer.parse().ok()?, until: until.parse().ok()? })
}

/// Servers whose transactions the source has and the stream has never covered any of.
fn newcomers(moment: &Moment, head: &Head) -> BTreeSet<Uuid> {
    let mut new = writers(&moment.executed, moment);
    for known in writers(&head.covered, moment) {
        new.remove(&known);
    }
    new
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::*;
    use crate::binlog::name::TableSet;
    use crate::source::moment::Channel;
    use crate::stream::StreamTx;
    use crate::stream::entry::{Body, SegmentEntry};

    const SERVERS: [(&str, &str); 3] = [
        ("a:", "3e11fa47-71ca-11e1-9e33-00000000000a:"),
        ("b:", "3e11fa47-71ca-11e1-9e33-00000000000b:"),
        ("c:", "3e11fa47-71ca-11e1-9e33-00000000000c:"),
    ];

    fn set(text: &str) -> GtidSet {
        let long = SERVERS.iter().fold(text.to_owned(), |text, (short, long)| text.replace(short, long));
        long.parse().unwrap()
    }

    /// Segments of a transaction each, between these sets; afterwards the stream has covered the last.
    fn head(covered: &[&str], last: &str) -> Head {
        let now: DateTime<Utc> = "2026-11-22T08:00:00Z".parse().unwrap();
        let mut head = Head::new(Uuid::from_u128(7), "apps", TableSet::parse(&["g.*"]).unwrap(), now);
        for (n, pair) in covered.windows(2).enumerate() {
            let tx = StreamTx(n as u64 + 1);
            let segment = SegmentEntry::for_tests((tx, tx), "g.apps", (set(pair[0]), set(pair[1])), now);
            head.append(Body::Segment(segment), now).unwrap();
        }
        head.covered = set(last);
        head
    }

    /// Server c, which replicates by so many channels.
    fn source(executed: &str, channels: usize) -> Moment {
        Moment {
            executed: set(executed),
            purged: GtidSet::new(),
            uuid: Uuid::parse_str(SERVERS[2].1.trim_end_matches(':')).unwrap(),
            gtid_mode: "ON".to_owned(),
            channels: vec![Channel::for_tests(&GtidSet::new()); channels],
            complete_until: None,
            ordered: true,
            lacks: GtidSet::new(),
            doubt: None,
        }
    }

    fn asks(executed: &str, head: &Head, remembered: Option<(&str, &str)>) -> bool {
        let vouched = remembered.map(|(writer, until)| Vouched {
            writer: writers(&set(writer), &source("", 1)).first().copied().unwrap(),
            until: set(until),
        });
        comes_from_another(&source(executed, 1), head, || vouched)
    }

    #[test]
    fn i3_the_primary_is_asked_whenever_another_server_makes_the_transactions_however_long_it_is_known() {
        let by_a = head(&["", "a:1-5"], "a:1-5");
        assert!(!asks("a:1-5", &by_a, None), "nothing new");
        assert!(!asks("a:1-9", &by_a, None));
        assert!(!asks("a:1-9,c:1-3", &by_a, None), "what the source makes itself is its own");
        assert!(asks("a:1-5,b:1", &by_a, None));
        let by_b = head(&["", "a:1-5", "a:1-5,b:1-9"], "a:1-5,b:1-9");
        assert!(!asks("a:1-5,b:1-12", &by_b, None));
        assert!(asks("a:1-6,b:1-9", &by_b, None), "back to one that the stream knows");
    }

    #[test]
    fn i3_where_the_newest_segment_is_of_several_only_an_answer_settles_it() {
        let both = head(&["", "a:1-5,b:1-9"], "a:1-5,b:1-9");
        assert!(asks("a:1-5,b:1-12", &both, None));
        assert!(asks("a:1-6,b:1-9", &both, None));
        assert!(!asks("a:1-5,b:1-12", &both, Some(("b:1", "a:1-5,b:1-10"))));
        assert!(asks("a:1-6,b:1-12", &both, Some(("b:1", "a:1-5,b:1-10"))));
        // Of an old time, before the other came.
        assert!(asks("a:1-6,b:1-9", &both, Some(("a:1", "a:1-4"))));
        // Shipped by one; the other has made nothing of the set since.
        let passed_over = head(&["", "a:1-5"], "a:1-5,b:1-20");
        assert!(asks("a:1-5,b:1-21", &passed_over, None));
        assert!(!asks("a:1-5,b:1-21", &passed_over, Some(("b:1", "a:1-5,b:1-3"))));
    }

    #[test]
    fn with_several_channels_or_nothing_shipped_only_servers_that_were_never_heard_of_matter() {
        let by_b = head(&["", "a:1-5", "a:1-5,b:1-9"], "a:1-5,b:1-9");
        assert!(!comes_from_another(&source("a:1-6,b:1-9", 2), &by_b, || None));
        let begun = head(&[""], "a:1-5,b:1-9");
        assert!(!asks("a:1-6,b:1-9", &begun, None));
        assert!(asks("a:1-6", &head(&[""], "b:1-9"), None));
    }

    #[test]
    fn i3_a_copy_with_what_the_primary_has_lost_is_known_by_what_was_shipped_and_by_what_was_not() {
        let head = head(&["", "a:1-5"], "a:1-5");
        let lost = |executed, there: &str, lacks| {
            let there = Moment { lacks: set(lacks), ..source(there, 0) };
            lost_there(&source(executed, 1), &head, &there)
        };
        // What the source has made itself its primary never gets.
        assert_eq!(lost("a:1-7,c:1-3", "a:1-9", ""), GtidSet::new());
        assert_eq!(lost("a:1-7,c:1-3", "a:1-6,b:1", ""), set("a:7"));
        assert_eq!(lost("a:1-7", "a:1-4,b:1", "a:5"), set("a:5-7"));
        // Shipped, and lost there too: the source's copy does not have it either.
        assert_eq!(lost("a:1-4", "a:1-4,b:1", "a:5"), GtidSet::new());
    }

    #[test]
    fn i3_an_answer_is_remembered_only_if_the_primary_had_all_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let memory = folder.path().join("cache/primary");
        let (head, seen) = (head(&["", "a:1-5"], "a:1-5"), source("a:1-5,b:1-3,c:1", 1));
        remember(&memory, &seen, &head, &source("a:1-5,b:1-2", 0));
        assert!(remembered(&memory).is_none());
        remember(&memory, &seen, &head, &source("a:1-5,b:1-4", 0));
        let vouched = remembered(&memory).unwrap();
        assert_eq!(vouched.until, set("a:1-5,b:1-3,c:1"));
        assert_eq!(writers(&set("b:1"), &seen), [vouched.writer].into());
        fs::write(&memory, "rubbish").unwrap();
        assert!(remembered(&memory).is_none());
    }
}
