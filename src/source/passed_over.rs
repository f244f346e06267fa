//! The net under changes of the table set: one whose transaction is covered, and that the stream does not know.
//!
//! An upload of a version that knows nothing of changes takes the row for one of any other table, and covers it; a
//! filter that left tablecast.table_set out keeps it from the source. Nothing reads that transaction again.
//! So whoever has covered everything that a server had executed compares the newest version there with the
//! head's. Rows are only ever inserted: one that is newer than the head was passed over, and no later run will come to it.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use mysql_async::Conn;
use tokio::time::{Instant, sleep};

use crate::binlog::gtid::GtidSet;
use crate::error::{Error, Kind, Result};
use crate::source::moment;
use crate::source::set_table::{self, Version};
use crate::source::upload::{Report, show_time};
use crate::stream::Head;

/// How often a following run asks.
const EVERY: Duration = Duration::from_secs(60);
/// A row can be seen a moment before its transaction is in gtid_executed.
const TRIES: u32 = 3;
const BETWEEN: Duration = Duration::from_secs(1);
/// By so much the clock of a row may be behind its commit.
const MARGIN: TimeDelta = TimeDelta::seconds(60);

/// What a run knows of the newest version at the source.
#[derive(Default)]
pub(crate) struct Net {
    newest: u64,
    asked: Option<Instant>,
}

impl Net {
    /// Asks, if that is due. Then whatever the source had executed *afterwards* has to be covered before [`Net::hold`].
    pub(crate) async fn look(
        &mut self,
        conn: &mut Conn,
        server: &str,
        head: &Head,
        report: &mut Report,
    ) -> Result<()> {
        if self.asked.is_some_and(|asked| asked.elapsed() < EVERY) {
            return Ok(());
        }
        self.newest = match set_table::newest(conn, server, head.stream).await {
            Ok(newest) => newest,
            Err(error) if error.kind() == Kind::Denied => {
                report.warn(format!(
                    "{error}: nobody knows whether a change of the table set was passed over; `tablecast grants` prints \
                     what is missing"
                ));
                0
            }
            Err(error) => return Err(error),
        };
        self.asked = Some(Instant::now());
        Ok(())
    }

    /// Everything is covered that the source had executed when it was looked at last.
    pub(crate) async fn hold(
        &self,
        conn: &mut Conn,
        server: &str,
        head: &Head,
        covered: &GtidSet,
    ) -> Result<()> {
        if self.newest <= head.table_set.version {
            return Ok(());
        }
        for _ in 0..TRIES {
            if !moment::executed(conn, server).await?.is_subset(covered) {
                // It may be among these.
                return Ok(());
            }
            sleep(BETWEEN).await;
        }
        Err(error(server, head, self.newest))
    }
}

/// Why upload will never come to versions that a server has and the stream has not, if that is so. `executed` was read
/// behind them, the head before.
pub(crate) fn of(newer: &[Version], server: &str, head: &Head, executed: &GtidSet) -> Option<Error> {
    let made = |version: &Version| version.changed_at.parse::<DateTime<Utc>>().ok();
    let is_past = |version: &&Version| {
        executed.is_subset(&head.covered) || made(version).is_some_and(|made| made + MARGIN < head.as_of)
    };
    let newest = newer.iter().filter(is_past).map(|version| version.change.version).max()?;
    Some(error(server, head, newest))
}

fn error(server: &str, head: &Head, newest: u64) -> Error {
    Error::new(
        Kind::History,
        format!(
            "version {newest} of the table set, made at {server}, was passed over: the stream is complete until {} and has \
             version {}",
            show_time(head.as_of),
            head.table_set.version
        ),
    )
    .hint(
        "an upload of an older version does not know such changes, and a filter may have left tablecast.table_set out: bring \
         every upload to one version (a processor: `tablecast processor rebuild`), then `tablecast upload --resync` takes a \
         dump of all tables, which every region restores, and the stream goes on with that set",
    )
}
