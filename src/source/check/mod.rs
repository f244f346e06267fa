//! Checks: what rows are at the source at one place of the stream, for the regions to compare their own with.
//!
//! The source is read at a snapshot (as for a dump, `dump::snapshot`), the binlog up to exactly what that has, then the
//! segment is cut and the check's entry is put behind it. So a region that comes to the entry stands where the snapshot
//! did, and nothing has to be made up for.
//!
//! The stream stands still meanwhile. What that may cost is bounded: a check reads for `check.slice`, and the next one
//! comes when `check.every` is over and the share of time that checks may take is kept. It is put off while the source is
//! busy, and whenever something does not fit: no check is worth a failed upload, and none a false alarm. Where the next
//! one goes on stands in the head; if that is lost, checks begin anew with the first table.

mod slice;
mod whole;

use std::collections::BTreeSet;
use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

pub use self::whole::{Whole, run as whole};

use self::slice::{Bounds, MOST_TABLES, Place, Slice};
use crate::binlog::gtid::{Gtid, GtidSet};
use crate::binlog::name::TableName;
use crate::error::{Error, Kind, Result, chain, chain_and_hint};
use crate::failpoint;
use crate::mysql;
use crate::source::pass::{Pass, Tools};
use crate::source::reader::Reader;
use crate::source::upload;
use crate::source::{lost, migrations};
use crate::store::Body;
use crate::stream::check::KNOWN_SINCE;
use crate::stream::{CheckEntry, Checked, Head, Index, Key, Md5, NamesObject, RowKey, entry};

/// When one that was put off is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long the binlog is waited for, up to what the snapshot has.
const REACH: Duration = Duration::from_secs(2);
/// One that is put off so often in a row is for somebody to know, and goes on with the table behind.
const OFTEN: u32 = 20;

/// How often it is looked whether somebody waits for a check.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long it is taken for granted that every region knows checks.
const KNOWN_FOR: Duration = Duration::from_secs(3600);

/// Transactions that a check's snapshot does not have must not touch its tables before its entry.
pub(crate) struct Around {
    executed: GtidSet,
    tables: BTreeSet<TableName>,
    is_torn: bool,
}

impl Around {
    /// A transaction has been read that travels.
    pub(crate) fn kept(&mut self, gtid: &Gtid, tables: &BTreeSet<TableName>) {
        self.is_torn |= !self.executed.contains(gtid) && !self.tables.is_disjoint(tables);
    }
}

/// What a run remembers of its checks.
#[derive(Default)]
pub(crate) struct Checks {
    /// The next one is not tried before.
    again: Option<Instant>,
    /// How often in a row it was put off.
    put_off: u32,
    /// Tables that have been told of as not checked.
    told: BTreeSet<TableName>,
    /// When every region that has reported was seen to know checks.
    known: Option<Instant>,
    /// Whether somebody waits for a whole round, and when that was looked at.
    is_asked_for: bool,
    looked: Option<Instant>,
}

/// Whether it is time for a check, by what stands in the head.
pub(crate) fn is_due(tools: Tools<'_>, head: &Head) -> bool {
    let config = &tools.config.check;
    config.every.is_some_and(|every| is_over(tools, head, every, config.share))
}

/// Whether so much time has gone by since the last one, and its share of the time is kept.
fn is_over(tools: Tools<'_>, head: &Head, every: Duration, share: u32) -> bool {
    let Some(last) = &head.checked else { return true };
    let took = Duration::from_millis(last.took_ms);
    let pause = every.max(took.saturating_mul(100) / share.max(1));
    let since = (tools.clock.now() - last.at).to_std();
    // A clock that was set back is no reason to check never again.
    since.map_or(true, |since| since >= pause)
}

impl Checks {
    /// Takes a check if it is time, and appends it. `reader`: where the pass reads from; without one, its own is opened.
    pub(crate) async fn run(
        &mut self,
        tools: Tools<'_>,
        stop: &CancellationToken,
        conn: &mut Conn,
        pass: &mut Pass<'_>,
        reader: Option<&mut Reader>,
    ) -> Result<()> {
        let is_put_off = self.again.is_some_and(|again| again > Instant::now());
        if is_put_off || stop.is_cancelled() || !self.is_time(tools, conn, &pass.tip.head).await? {
            return Ok(());
        }
        let begin = Instant::now();
        // Before the snapshot, so that what it lacks of what has been read can be known.
        pass.ship().await?;
        let slice = match self.read(tools, conn, pass).await {
            Ok(Some(slice)) => slice,
            Ok(None) => {
                self.again = Some(Instant::now() + AGAIN);
                return Ok(());
            }
            Err(error) => {
                self.put_off(&error);
                return Ok(());
            }
        };
        failpoint::hit("check.read");
        let mut own = None;
        let reader = match reader {
            Some(reader) => reader,
            None => own.insert(upload::open_reader(tools, pass, true).await?),
        };
        let is_there = reach(stop, conn, pass, reader, &slice).await?;
        if !is_there {
            self.put_off(&Error::new(Kind::Mysql, "the stream did not come to the place of the snapshot"));
            return Ok(());
        }
        pass.ship().await?;
        self.append(tools, pass, slice, begin).await
    }

    /// By the config, or because somebody waits for all of them.
    async fn is_time(&mut self, tools: Tools<'_>, conn: &mut Conn, head: &Head) -> Result<bool> {
        if is_due(tools, head) {
            return Ok(true);
        }
        if self.looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY) {
            self.looked = Some(Instant::now());
            self.is_asked_for = whole::is_asked_for(conn, &tools.config.stream).await?;
        }
        Ok(self.is_asked_for && is_over(tools, head, Duration::ZERO, whole::SHARE))
    }

    /// `None`: not now.
    async fn read(
        &mut self,
        tools: Tools<'_>,
        conn: &mut Conn,
        pass: &mut Pass<'_>,
    ) -> Result<Option<Slice>> {
        let (config, head) = (tools.config, &pass.tip.head);
        let running = threads_running(conn, &config.mysql.to_string()).await?;
        if running > config.check.max_threads_running {
            tracing::debug!("a check is put off: {running} threads run at the source");
            return Ok(None);
        }
        self.must_be_known(tools, head).await?;
        let most = (MOST_TABLES >> self.put_off.min(5)).max(1);
        let place = match &head.checked {
            Some(last) => Place { table: last.next.clone(), after: goes_on_behind(tools, head, last).await? },
            None => Place::default(),
        };
        let bounds = Bounds { tables: most, time: config.check.slice, passes_on: self.put_off >= OFTEN };
        let slice = slice::read(config, &head.table_set.tables, &place, &bounds).await?;
        let beyond = pass.covered.difference(&slice.executed);
        if !beyond.is_empty() && !slice.ranges.is_empty() {
            let files = &config.files;
            let shipped =
                lost::shipped(tools.store, head, &beyond, &files.cache_dir, &files.spool_dir).await?;
            if !shipped.is_empty() {
                let what = format!("the snapshot lacks {shipped}, which the stream has shipped");
                return Err(Error::new(Kind::Mysql, what));
            }
        }
        for (table, why) in &slice.left {
            if self.told.insert(table.clone()) {
                tracing::warn!("{table} is not checked: {why}");
            }
        }
        Ok(Some(slice))
    }

    /// A region of a version before checks would stop at the first. All that have reported must have a newer one.
    async fn must_be_known(&mut self, tools: Tools<'_>, head: &Head) -> Result<()> {
        if self.known.is_some_and(|known| known.elapsed() < KNOWN_FOR) {
            return Ok(());
        }
        for reported in migrations::reports(tools.store, Key::REGIONS).await? {
            // What cannot be read tells nothing of the version there.
            let Ok(report) = reported.report else { continue };
            if report.stream == head.stream && report.format < KNOWN_SINCE {
                return Err(Error::new(
                    Kind::Usage,
                    format!("region {} runs {}, whose apply would stop at a check", report.region, report.version),
                )
                .hint("install this version there; of a region that is gone, `tablecast stream prune --forget-region` takes away the last report"));
            }
        }
        self.known = Some(Instant::now());
        Ok(())
    }

    /// Not this time: nothing of it is in the stream.
    fn put_off(&mut self, error: &Error) {
        self.put_off += 1;
        self.again = Some(Instant::now() + AGAIN);
        match self.put_off == OFTEN {
            true => tracing::warn!(
                "a check of rows was put off {} times in a row: {}",
                self.put_off,
                chain_and_hint(error)
            ),
            false => tracing::debug!("a check of rows is put off: {}", chain(error)),
        }
    }

    async fn append(
        &mut self,
        tools: Tools<'_>,
        pass: &mut Pass<'_>,
        slice: Slice,
        begin: Instant,
    ) -> Result<()> {
        let mut head = pass.tip.head.clone();
        let (seq, made) = (head.last_seq.next(), tools.clock.now());
        let Slice { taken_at, ranges, names, next, .. } = slice;
        let took_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (next, after) = (next.table, next.after);
        let mut appended = None;
        if !ranges.is_empty() {
            let names = match names {
                Some(bytes) => {
                    let key = Key::check(seq, made);
                    failpoint::hit("check.before_put");
                    tools.store.create(&key, Body::Bytes(&bytes)).await?;
                    failpoint::hit("check.after_put");
                    Some(NamesObject { key, size: bytes.len() as u64, md5: Md5::of(&bytes) })
                }
                None => None,
            };
            let check = CheckEntry { at: head.last_tx, checked_at: taken_at, ranges, names };
            let rows = check.rows();
            head.append(entry::Body::Check(check), made)?;
            appended = Some(rows);
        }
        // Also where nothing but tables that cannot be checked was met: the next one goes on behind them.
        let seq = head.last_seq;
        let goes_on = pass.tip.head.checked.as_ref().filter(|last| last.next.is_some());
        let since = goes_on.map_or(pass.tip.head.last_seq.next(), |last| last.since);
        head.checked = Some(Checked { seq, since, at: made, took_ms, next, after });
        failpoint::hit("check.before_append");
        pass.swap(head).await?;
        failpoint::hit("check.after_append");
        if let Some(rows) = appended {
            pass.report.checked(rows, begin.elapsed());
            let tx = pass.tip.head.last_tx;
            tracing::info!(
                "checked {rows} rows behind transaction {}, entry {}, in {took_ms} ms",
                tx.0,
                seq.0
            );
        }
        (self.put_off, self.again) = (0, None);
        Ok(())
    }
}

/// The key behind which the next slice begins. None if the table was changed since: its rows may be in another order now, or
/// have another key, so that it is read from its first row again.
async fn goes_on_behind(tools: Tools<'_>, head: &Head, last: &Checked) -> Result<Option<RowKey>> {
    let (Some(table), Some(after)) = (&last.next, &last.after) else { return Ok(None) };
    let found = match Index::new(head.clone()).entry(last.seq, tools.store).await {
        Ok(found) => found,
        // Pruned.
        Err(error) if error.kind() == Kind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let is_as_it_was =
        |check: &CheckEntry| head.definition(table).is_some_and(|definition| definition.since_tx <= check.at);
    Ok(found.check().is_some_and(is_as_it_was).then(|| after.clone()))
}

/// Reads on until everything that the snapshot has is in the stream. Whether nothing of its tables came before that it
/// does not have, and the set is as it was.
async fn reach(
    stop: &CancellationToken,
    conn: &mut Conn,
    pass: &mut Pass<'_>,
    reader: &mut Reader,
    slice: &Slice,
) -> Result<bool> {
    let wanted = slice.executed.difference(&pass.covered);
    let version = pass.tip.head.table_set.version;
    let mut left = wanted.count();
    let deadline = Instant::now() + REACH;
    pass.around = Some(Around { executed: slice.executed.clone(), tables: slice.tables(), is_torn: false });
    while left > 0 {
        let incoming = match reader.ready() {
            Some(incoming) => Some(incoming),
            None => tokio::select! {
                () = stop.cancelled() => None,
                () = sleep_until(deadline) => None,
                incoming = reader.next() => incoming?,
            },
        };
        let Some(incoming) = incoming else { break };
        if let Some(gtid) = upload::take(pass, conn, incoming).await?
            && wanted.contains(&gtid)
        {
            left -= 1;
        }
    }
    let is_torn = pass.around.take().is_none_or(|around| around.is_torn);
    Ok(left == 0 && !is_torn && version == pass.tip.head.table_set.version)
}

async fn threads_running(conn: &mut Conn, server: &str) -> Result<u64> {
    let row: Option<(String, u64)> = conn
        .query_first("SHOW GLOBAL STATUS LIKE 'Threads_running'")
        .await
        .map_err(|cause| mysql::error(cause, &format!("look how busy {server} is")))?;
    Ok(row.map_or(0, |(_, running)| running))
}
