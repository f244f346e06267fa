//! Who has made the transactions that are shipped. Before any of another server is, the primary is asked whether it has
//! what the stream has (I3): see [`failover`].
//!
//! Only transactions of the set count, for nothing else goes to the regions: what a replica in between writes for itself, a
//! heartbeat for one, asks nobody. So this is looked at where a segment is shipped, whoever reads, once or following, and
//! however long ago the run began. The newest segment says who made what was shipped before; where other transactions
//! stand between its own, what this machine has put down does. Without either the primary is asked.
//!
//! What a source that is a replica has made itself is asked about whenever it is of the set: it was the primary once, and the new
//! one may have missed its last transactions.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::binlog::gtid::GtidSet;
use crate::error::{Error, Kind, Result};
use crate::mysql;
use crate::source::moment::{self, Moment};
use crate::source::pass::Tools;
use crate::source::{bridge, failover};
use crate::stream::{Head, Seq, StreamTx};

/// What a pass knows of those before.
pub(crate) struct Writers {
    /// The source itself.
    own: Uuid,
    last: Last,
    memory: PathBuf,
}

#[derive(Debug, PartialEq, Eq)]
enum Last {
    /// All that was shipped last.
    By(Uuid),
    /// Nobody can say any more.
    Unknown,
    /// Nothing was shipped yet: anybody of whom the stream has covered something.
    Covered,
    /// The source has several sources, of which no one has all of it.
    Anybody,
}

impl Writers {
    /// As the stream is now, and the source.
    pub(crate) fn of(tools: Tools<'_>, moment: &Moment, head: &Head) -> Writers {
        let memory = tools.config.files.cache_dir.join(format!("writer-{}", head.stream));
        let last = match moment.channels.len() {
            2.. => Last::Anybody,
            _ => last(head, || remembered(&memory)),
        };
        Writers { own: moment.uuid, last, memory }
    }

    /// Whether this server's transactions may be shipped without a question.
    fn knows(&self, writer: Uuid, head: &Head) -> bool {
        match self.last {
            Last::Anybody => true,
            _ if writer == self.own => false,
            Last::By(last) => last == writer,
            Last::Unknown => false,
            Last::Covered => all(&head.covered).contains(&writer),
        }
    }

    /// Asks about these transactions, about to be shipped, if others have made them than those before. Refused if the
    /// primary lacks one of them, or what was shipped before. False: nobody could be asked, for the source replicates from
    /// nobody.
    pub(crate) async fn vouch(&self, tools: Tools<'_>, head: &Head, kept: &GtidSet) -> Result<bool> {
        if all(kept).into_iter().all(|writer| self.knows(writer, head)) {
            return Ok(true);
        }
        let Some(primary) = bridge::at_primary(tools.config) else { return Ok(true) };
        // A source that was the primary when this run began may be a replica by now, and the other way round.
        let mut conn = mysql::connect(&tools.config.mysql).await?;
        let moment = moment::look(&mut conn, &tools.config.mysql.to_string()).await?;
        let _ = conn.disconnect().await;
        match moment.channels.len() {
            0 => return Ok(false),
            1 => {}
            _ => return Ok(true),
        }
        let own = moment.own(kept);
        if moment.feeding() == 0 && !own.is_empty() {
            let server = &tools.config.mysql;
            return Err(Error::new(
                Kind::Mysql,
                format!("{server} has made {own} itself, and its replication is stopped: is it the primary now?"),
            )
            .hint(
                "if it is: STOP REPLICA; RESET REPLICA ALL there, and name it in [primary] too. If it is not: START REPLICA; \
                 what its primary does not have is not shipped (docs/runbooks/fail-over-the-primary.md)",
            ));
        }
        failover::vouch(tools, &primary, head, kept).await.map(|()| true)
    }

    /// Entry `seq` holds what `writer` has made last; `None`: nobody was asked about it.
    pub(crate) fn shipped(&mut self, seq: Seq, writer: Option<Uuid>, head: &Head) {
        if self.last == Last::Anybody {
            return;
        }
        self.last = writer.map_or(Last::Unknown, Last::By);
        // Else the index says so.
        if last(head, || None) != self.last {
            let folder = self.memory.parent().unwrap_or(&self.memory);
            let text = format!("{} {}", seq.0, writer.unwrap_or_default());
            if let Err(cause) = fs::create_dir_all(folder).and_then(|()| fs::write(&self.memory, text)) {
                tracing::debug!("remember who made entry {}: {cause}", seq.0);
            }
        }
    }
}

/// All that have made these.
fn all(of: &GtidSet) -> BTreeSet<Uuid> {
    of.intervals().map(|(tsid, _)| tsid.uuid).collect()
}

/// Who made what the head's newest segment ends with.
fn last(head: &Head, remembered: impl FnOnce() -> Option<(Seq, Uuid)>) -> Last {
    let newest = head.entries.iter().rev().find_map(|entry| Some((entry.seq, entry.segment()?)));
    let Some((seq, segment)) = newest else {
        return if head.last_tx == StreamTx::ZERO { Last::Covered } else { Last::Unknown };
    };
    match remembered() {
        Some((of, writer)) if of == seq && writer.is_nil() => return Last::Unknown,
        Some((of, writer)) if of == seq => return Last::By(writer),
        _ => {}
    }
    // Among all that was passed over since the segment before.
    let writers = all(&segment.covered_after.difference(&segment.covered_before));
    match (writers.first(), writers.len()) {
        (Some(writer), 1) => Last::By(*writer),
        _ => Last::Unknown,
    }
}

/// Who made an entry's last transaction, nil where nobody was asked. Whatever cannot be read is as good as nothing.
fn remembered(memory: &Path) -> Option<(Seq, Uuid)> {
    let text = fs::read_to_string(memory).ok()?;
    let (seq, writer) = text.trim().split_once(' ')?;
    Some((Seq(seq.parse().ok()?), writer.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::*;
    use crate::binlog::name::TableSet;
    use crate::stream::entry::{Body, SegmentEntry};

    const A: Uuid = Uuid::from_u128(10);
    const B: Uuid = Uuid::from_u128(11);
    const OWN: Uuid = Uuid::from_u128(12);

    fn set(text: &str) -> GtidSet {
        let long = [("a:", A), ("b:", B), ("own:", OWN)];
        let text =
            long.iter().fold(text.to_owned(), |text, (short, uuid)| text.replace(short, &format!("{uuid}:")));
        text.parse().unwrap()
    }

    /// Segments of a transaction each, between these sets.
    fn head(covered: &[&str]) -> Head {
        let now: DateTime<Utc> = "2026-11-23T08:00:00Z".parse().unwrap();
        let mut head = Head::new(Uuid::from_u128(7), "apps", TableSet::parse(&["g.*"]).unwrap(), now);
        head.covered = set(covered[0]);
        for (n, pair) in covered.windows(2).enumerate() {
            let tx = StreamTx(n as u64 + 1);
            let segment = SegmentEntry::for_tests((tx, tx), "g.apps", (set(pair[0]), set(pair[1])), now);
            head.append(Body::Segment(segment), now).unwrap();
        }
        head
    }

    fn writers(head: &Head, memory: &Path) -> Writers {
        Writers { own: OWN, last: last(head, || remembered(memory)), memory: memory.to_owned() }
    }

    #[test]
    fn i3_who_made_the_newest_segment_is_known_and_whoever_else_comes_is_not() {
        let nowhere = Path::new("/nowhere");
        let head = head(&["", "a:1-5", "a:1-5,b:1-9"]);
        let writers = writers(&head, nowhere);
        assert!(writers.knows(B, &head));
        assert!(!writers.knows(A, &head), "it may have missed what the other made since");
    }

    #[test]
    fn i3_what_the_source_has_made_itself_is_never_taken_for_granted() {
        let head = head(&["", "own:1-5"]);
        assert!(!writers(&head, Path::new("/nowhere")).knows(OWN, &head));
    }

    #[test]
    fn i3_what_nobody_was_asked_about_is_remembered_until_somebody_was() {
        let folder = tempfile::tempdir().unwrap();
        let memory = folder.path().join("cache/writer");
        let by_a = head(&["", "a:1-5", "a:1-6"]);
        let mut before = writers(&by_a, &memory);
        assert!(before.knows(A, &by_a));
        before.shipped(by_a.last_seq, None, &by_a);
        assert!(!before.knows(A, &by_a) && !writers(&by_a, &memory).knows(A, &by_a));
        let later = head(&["", "a:1-5", "a:1-6", "a:1-7"]);
        before.shipped(later.last_seq, Some(A), &later);
        assert!(writers(&later, &memory).knows(A, &later));
    }

    #[test]
    fn i3_where_others_stand_between_its_own_only_what_was_put_down_says_who_made_a_segment() {
        let folder = tempfile::tempdir().unwrap();
        let memory = folder.path().join("cache/writer");
        // A replica in between writes for itself all the time.
        let before = head(&["", "a:1-5,b:1-9"]);
        let mut writers_before = writers(&before, &memory);
        assert!(!writers_before.knows(A, &before) && !writers_before.knows(B, &before));
        writers_before.shipped(before.last_seq, Some(A), &before);
        for known in [&writers_before, &writers(&before, &memory)] {
            assert!(known.knows(A, &before) && !known.knows(B, &before));
        }
        let later = head(&["", "a:1-5,b:1-9", "a:1-7,b:1-12"]);
        assert!(!writers(&later, &memory).knows(A, &later), "that is of another entry");
        fs::write(&memory, "rubbish").unwrap();
        assert!(!writers(&before, &memory).knows(A, &before));
    }

    #[test]
    fn where_nothing_was_shipped_those_are_known_of_whom_the_stream_has_covered_something() {
        let begun = head(&["a:1-5"]);
        let begun_writers = writers(&begun, Path::new("/nowhere"));
        assert!(begun_writers.knows(A, &begun) && !begun_writers.knows(B, &begun));
    }
}
