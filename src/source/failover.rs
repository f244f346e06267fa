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
//!
//! What the primary lacks and may still get is no loss: it is asked again, and nothing is shipped meanwhile. That is so where it
//! is a replica itself, and of what it makes itself as long as it waits: a semi-synchronous primary sends a transaction before
//! it commits (<https://dev.mysql.com/doc/refman/8.4/en/replication-semisync.html>, AFTER_SYNC).
//!
//! A source with several channels has several sources, of which no one has all of it: nobody is asked, also while one of them
//! stands still.
//!
//! Given up: where the old primary has died and the new one has made nothing yet, what the old one made last is shipped
//! without a question. The new one's first transaction of the set tells of it then.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Deref;
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
    if there.lacks.is_empty() {
        remember(&memory, moment, head, &there);
    }
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
    let missing = there.lacks.union(&fresh.difference(&there.executed));
    has(&tools.config.mysql.to_string(), &primary.mysql.to_string(), &there, &missing)
}

/// The primary, as it was when it was asked.
struct Primary {
    /// Without channels if nothing comes to it any more.
    moment: Moment,
    /// It has sent what it has not committed yet.
    waits: bool,
}

impl Deref for Primary {
    type Target = Moment;

    fn deref(&self) -> &Moment {
        &self.moment
    }
}

/// `missing`: what the source has, or has shipped, and the primary has not.
fn has(source: &str, server: &str, there: &Primary, missing: &GtidSet) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    if !there.channels.is_empty() {
        let message = format!("{source} has {missing}, which {server} of [primary] does not have yet");
        return Err(Error::new(Kind::Mysql, message).hint(format!(
            "it replicates itself, and is asked again: it may be behind. If {server} is not the server that is written to, name that \
             one in [primary]; if it is, STOP REPLICA; RESET REPLICA ALL there, and read_only off \
             (docs/runbooks/fail-over-the-primary.md)"
        )));
    }
    let lost = match there.waits {
        true => missing.difference(&there.own(missing)),
        false => missing.clone(),
    };
    if lost.is_empty() {
        let message =
            format!("{source} has {missing}, which {server} of [primary] has made and not committed yet");
        return Err(Error::new(Kind::Mysql, message).hint(
            "it is asked again: a semi-synchronous primary sends a transaction and waits for a replica before it commits \
             (Rpl_semi_sync_source_wait_sessions)",
        ));
    }
    Err(Error::new(Kind::History, format!("{source} has {lost}, which its primary {server} does not have"))
        .hint(LOST))
}

fn asking(primary: &Config) -> String {
    format!("ask {} of [primary] whether it has what the stream has shipped", primary.mysql)
}

fn kept(there: &Moment, head: &Head, primary: &Config) -> Result<()> {
    preflight::kept(there, head, &primary.mysql.to_string())
        .map_err(|error| error.during(asking(primary)).hint(LOST))
}

const LOST: &str = "a failover or a crash lost it. (Where that server is a replica that was only stopped, START REPLICA there.) Rebuild the processor from this primary (`tablecast processor rebuild`), then `tablecast \
     upload --resync`: docs/runbooks/fail-over-the-primary.md";

/// Refuses to have a replica's copy dumped for every region that holds what its primary has lost: the next upload would be
/// refused all the same, and the regions have restored what no primary has. Says why nobody knows, if the primary cannot be
/// asked: that alone is no reason to refuse what may be due because it is down. What was not shipped yet may be of no table of
/// the set, such as a heartbeat that a server in between has written: with `trust_copy` somebody says that it is.
pub(crate) async fn may_be_dumped(
    tools: Tools<'_>,
    moment: &Moment,
    head: &Head,
    trust_copy: bool,
) -> Result<Judged> {
    if moment.channels.len() != 1 {
        return Ok(Judged::default());
    }
    let Some(config) = bridge::at_primary(tools.config) else { return Ok(Judged::default()) };
    let (source, server) = (tools.config.mysql.to_string(), config.mysql.to_string());
    let fresh = moment.executed.difference(&head.covered);
    let from_others = fresh.difference(&moment.own(&fresh));
    let there = match ask(tools, &config, head, &from_others).await {
        Ok(there) => there,
        Err(error) => {
            return Ok(Judged::with(format!(
                "whether {server} of [primary] has all that {source} has is not known: {}",
                chain(&error)
            )));
        }
    };
    preflight::own_numbers(&there, head, &server).map_err(|error| error.during("upload --resync"))?;
    let shipped = there.lacks.intersection(&moment.executed);
    // Of the set, as all that was shipped.
    has(&source, &server, &there, &shipped).map_err(|error| error.during("upload --resync"))?;
    let own = moment.own(&fresh).difference(&there.executed);
    let missing = from_others.difference(&there.executed);
    match has(&source, &server, &there, &missing) {
        Err(error) if trust_copy => Ok(Judged {
            warning: Some(format!("taken on your word to be of no table of the set: {error}")),
            not_of_the_set: writers(&missing, moment),
        }),
        Err(error) if error.kind() == Kind::History => Err(error.during("upload --resync").hint(NOT_SHIPPED)),
        // It may get there yet: then the dump can wait, and else no region may restore it.
        Err(error) => Err(error.during("upload --resync")),
        // An account that was made there, for one.
        Ok(()) if !own.is_empty() => Ok(Judged::with(format!(
            "{source} has made {own} itself, which {server} of [primary] does not have: what of them is of the set, every region \
             restores. If it was the primary once, run `tablecast processor rebuild` first"
        ))),
        Ok(()) => Ok(Judged::default()),
    }
}

/// That a copy may be dumped.
#[derive(Default)]
pub(crate) struct Judged {
    /// What nobody has proved.
    pub warning: Option<String>,
    /// Servers whose transactions somebody has vouched to be of no table of the set: the stream does not stand on them.
    pub not_of_the_set: BTreeSet<Uuid>,
}

impl Judged {
    fn with(warning: String) -> Judged {
        Judged { warning: Some(warning), ..Judged::default() }
    }
}

const NOT_SHIPPED: &str = "none of it was shipped. If a failover lost it, rebuild the processor from this primary (`tablecast processor \
     rebuild`), then try again: docs/runbooks/fail-over-the-primary.md. If none of it is of the set (what a replica in between writes for \
     itself, the history of a backup; mysqlbinlog shows it), `--trust-copy` takes your word for that";

/// One look at the primary of this config. What has been `sent` is there a moment before it is in gtid_executed: with a
/// semi-synchronous replica that does not answer, ten seconds before.
async fn ask(tools: Tools<'_>, config: &Config, head: &Head, sent: &GtidSet) -> Result<Primary> {
    let server = config.mysql.to_string();
    let mut conn = mysql::connect(&config.mysql).await?;
    let mut there = upload::observe(&mut conn, Tools { config, ..tools }, head).await?;
    for _ in 0..12 {
        if sent.is_subset(&there.executed) || !there.lacks.is_empty() {
            break;
        }
        sleep(Duration::from_secs(1)).await;
        there.executed = moment::executed(&mut conn, &server).await?;
    }
    if moment::gets_no_more(&mut conn, &there, &server).await? {
        there.channels.clear();
    }
    let waits = moment::waits_for_replicas(&mut conn, &server).await?;
    let _ = conn.disconnect().await;
    Ok(Primary { moment: there, waits })
}

/// That everything behind `until` was made by this one server, and the primary had it all.
struct Vouched {
    writer: Uuid,
    until: GtidSet,
}

/// Whether the source brings transactions of another server than those that came before. `remembered`: of the last answer.
fn comes_from_another(moment: &Moment, head: &Head, remembered: impl FnOnce() -> Option<Vouched>) -> bool {
    if moment.channels.len() > 1 {
        return false;
    }
    let Some((before, after)) = head.entries.iter().rev().find_map(Entry::covered) else {
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
    fn behind_several_channels_nobody_is_asked_and_where_nothing_was_shipped_only_of_whom_was_never_heard() {
        let by_a = head(&["", "a:1-5"], "a:1-5");
        let mut several = source("a:1-5,b:1", 2);
        assert!(!comes_from_another(&several, &by_a, || None));
        // For maintenance: what it has brought is there all the same.
        several.channels[0].receiver = "OFF".to_owned();
        assert!(!comes_from_another(&several, &by_a, || None));
        let begun = head(&[""], "a:1-5,b:1-9");
        assert!(!asks("a:1-6,b:1-9", &begun, None));
        assert!(asks("a:1-6", &head(&[""], "b:1-9"), None));
    }

    #[test]
    fn i3_what_the_primary_lacks_is_lost_unless_it_may_still_come() {
        let judged_of = |missing: &str, channels, waits| {
            let there = Primary { moment: source("a:1-4,b:1", channels), waits };
            has("the source", "its primary", &there, &set(missing)).map_err(|error| error.kind())
        };
        let judged = |missing: &str, channels| judged_of(missing, channels, true);
        assert_eq!(judged("", 0), Ok(()));
        assert_eq!(judged("a:5", 0), Err(Kind::History));
        assert_eq!(judged("a:5", 1), Err(Kind::Mysql), "it may be behind");
        // Its own: sent before it is committed.
        assert_eq!(judged("c:3", 0), Err(Kind::Mysql));
        assert_eq!(judged("a:5,c:3", 0), Err(Kind::History));
        assert_eq!(judged_of("c:3", 0, false), Err(Kind::History), "it lost it in a crash");
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
