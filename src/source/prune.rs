//! `stream prune`: delete what nobody needs any more. What that is, [`stream::prune`](crate::stream::prune) says.
//!
//! It works beside a running upload, following ones included: the head is written by compare-and-swap, and whoever
//! loses begins again from the newest one. A lock of its own keeps two prunes apart. Killed at any instant it leaves
//! objects that no head lists; the next run finds and removes them.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, TryStreamExt};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::failpoint;
use crate::mysql::{Held, Lock, lock_name};
use crate::store::head::Read;
use crate::store::{self, Etag, Fetched, Store};
use crate::stream::entry::Mark;
use crate::stream::prune::{Doomed, Object, Plan, Planner, REQUEST_AGE, Rules};
use crate::stream::{
    Chain, DumpRef, Head, Index, Key, KeyKind, Manifest, RegionReport, Request, RequestId, Seq, StreamTx,
};

#[derive(Clone, Debug)]
pub struct Options {
    /// Entries younger than this stay.
    pub keep: Duration,
    /// So many of the newest entries stay.
    pub keep_entries: u64,
    /// Go on though no region has told how far it is.
    pub without_reports: bool,
    /// Regions that will not come back: they hold nothing any more, and their reports go.
    pub forget: Vec<String>,
    /// Only say what would be done.
    pub dry_run: bool,
    /// How long another prune may go on holding the lock.
    pub lock_wait: Duration,
    /// Ends the run between two objects.
    pub stop: CancellationToken,
}

/// What was to be done, and what was done of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub stream: String,
    pub store: String,
    pub dry_run: bool,
    pub last_seq: Seq,
    pub plan: Plan,
    /// Regions whose reports go.
    pub forget: Vec<String>,
    pub deleted: u64,
    pub deleted_bytes: u64,
    /// Ended by a signal before it was done; the next run goes on.
    pub stopped: bool,
}

/// How often a swap may be lost in a row.
const CONFLICTS: u32 = 10;
/// An upload that is not finished after so long never will be: a segment takes minutes.
const UNFINISHED_AGE: TimeDelta = TimeDelta::days(1);
/// How many objects are deleted or read at a time.
const AT_ONCE: usize = 16;

/// Deletes what nobody needs any more.
pub async fn run(config: &Config, store: &dyn Store, clock: &dyn Clock, options: &Options) -> Result<Report> {
    if options.dry_run {
        return write_plan(config, store, clock, options, None).await;
    }
    let name = lock_name(&format!("tablecast:prune:{}", config.stream));
    let mut lock = Lock::acquire(&config.mysql, &name, options.lock_wait).await?;
    let report = under_lock(config, store, clock, options, &mut lock).await?;
    lock.release().await?;
    Ok(report)
}

/// The same for whoever holds the lock: the head first, then the objects.
pub(crate) async fn under_lock(
    config: &Config,
    store: &dyn Store,
    clock: &dyn Clock,
    options: &Options,
    lock: &mut dyn Held,
) -> Result<Report> {
    let mut report = write_plan(config, store, clock, options, Some(lock)).await?;
    carry_out(store, clock, options, &mut report).await?;
    Ok(report)
}

/// Makes the plan, and writes the head that it wants; without a lock, only the plan.
async fn write_plan(
    config: &Config,
    store: &dyn Store,
    clock: &dyn Clock,
    options: &Options,
    mut lock: Option<&mut dyn Held>,
) -> Result<Report> {
    for attempt in 1.. {
        let (head, etag) = read_head(config, store).await?;
        head.must_run(&format!("prune {}", config.stream), "tablecast stream prune", clock.now())?;
        let planned = plan(store, clock, options, &head).await?;
        let plan = &planned.plan;
        if let (Some(head), Some(lock)) = (&plan.head, &mut lock) {
            failpoint::hit("prune.before_head_swap");
            lock.verify().await?;
            match store::head::write(store, &mut head.clone(), Some(&etag)).await {
                Ok(_) => failpoint::hit("prune.after_head_swap"),
                // An upload has shipped meanwhile.
                Err(error) if error.is_conflict() && attempt < CONFLICTS => continue,
                Err(error) => return Err(error),
            }
        }
        return Ok(Report { last_seq: head.last_seq, stream: config.stream.clone(), ..planned });
    }
    Err(Error::new(Kind::Conflict, format!("prune {}: lost every swap", store.url())))
}

async fn read_head(config: &Config, store: &dyn Store) -> Result<(Head, Etag)> {
    let Read::Head { head, etag } = store::head::read(store, None).await? else {
        let message = format!("read {}/{}: unchanged since never", store.url(), Key::head());
        return Err(Error::new(Kind::Store, message));
    };
    store::head::check_name(&config.stream, &head, &store.url())?;
    Ok((*head, etag))
}

async fn plan(store: &dyn Store, clock: &dyn Clock, options: &Options, head: &Head) -> Result<Report> {
    // Listed before the index is walked: what is made meanwhile is not looked at.
    let objects: Vec<Object> = store
        .list("")
        .await?
        .into_iter()
        .map(|listed| Object { key: listed.key, size: listed.size, modified: listed.modified })
        .collect();
    let mut reports = reports(store, head, options, &objects).await?;
    let known: Vec<String> = reports.iter().map(|report| report.region.clone()).collect();
    if let Some(unknown) = options.forget.iter().find(|name| !known.contains(name)) {
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(Error::new(
            Kind::NotFound,
            format!("forget region {unknown}: it has not reported; those that have: {known}"),
        )
        .hint("correct the name; a region that has never reported holds nothing back"));
    }
    reports.retain(|report| !options.forget.contains(&report.region));
    if reports.is_empty() && head.full_dump().is_some() && !options.without_reports {
        return Err(Error::new(
            Kind::Usage,
            format!("prune {}: no region has reported how far it is, so any of them may need anything", store.url()),
        )
        .hint(
            "have the regions report (`source_url` in [region] of their config, `tablecast serve` here), or give \
             --no-reports: a region that is behind what is pruned has to be restored from the newest full dump",
        ));
    }
    went_back(store, head, &reports).await?;
    if let Some(full) = head.full_dump() {
        check_whole(store, full, &objects).await?;
    }
    let now = clock.now();
    let keep = TimeDelta::from_std(options.keep).unwrap_or(TimeDelta::MAX);
    let newest = objects.iter().map(|object| object.modified).max().unwrap_or(now);
    let rules = Rules { now, newest, keep: keep.min(FOR_EVER), keep_entries: options.keep_entries };
    let mut planner = Planner::new(head, rules, &reports);
    walk(store, head, &mut planner).await?;
    let over = over(store, now, &objects).await?;
    Ok(Report {
        stream: head.name.clone(),
        store: store.url(),
        dry_run: options.dry_run,
        last_seq: head.last_seq,
        plan: planner.finish(&objects, &over)?,
        forget: options.forget.clone(),
        deleted: 0,
        deleted_bytes: 0,
        stopped: false,
    })
}

/// The history may only rest on a dump that is there: a region could be made from nothing else any more.
async fn check_whole(store: &dyn Store, full: &DumpRef, objects: &[Object]) -> Result<()> {
    let dump = &full.dump;
    let there: HashMap<&Key, u64> = objects.iter().map(|object| (&object.key, object.size)).collect();
    let lacks = |key: &Key, size: u64| {
        let found = match there.get(key) {
            Some(found) if *found == size => return Ok(()),
            Some(found) => format!("it has {found} bytes, the index says {size}"),
            None => "it is gone".to_owned(),
        };
        Err(Error::new(
            Kind::Finding,
            format!(
                "prune {}: the newest full dump is not whole: {key}: {found}; nothing was deleted",
                store.url()
            ),
        )
        .hint(
            "take another one: `tablecast dump take --all-tables`; `tablecast verify` looks at every object",
        ))
    };
    lacks(&dump.manifest, dump.size)?;
    let Fetched::Object { bytes, .. } = store.get(&dump.manifest, None).await? else {
        return lacks(&dump.manifest, 0);
    };
    let manifest = Manifest::parse(&dump.id, &bytes)?;
    for chunk in manifest.tables.iter().flat_map(|table| &table.chunks) {
        lacks(&chunk.key, chunk.size)?;
    }
    Ok(())
}

/// Longer than any stream; times stay within what can be computed with.
const FOR_EVER: TimeDelta = TimeDelta::days(365 * 100);

/// Shows the planner every page behind the floor, oldest first.
async fn walk(store: &dyn Store, head: &Head, planner: &mut Planner<'_>) -> Result<()> {
    let begin = head.floor.map_or(Seq::ZERO, |floor| floor.seq);
    let Some(newest) = &head.page else { return Ok(()) };
    let mut index = Index::new(head.clone());
    let mut at = begin;
    while at < newest.last {
        let entries = index.entries_after(at, store).await?;
        let (Some(last), Some(link)) = (entries.last(), index.page_of(at.next())) else { break };
        planner.page(&link.key, &entries);
        at = last.seq;
    }
    Ok(())
}

/// What the regions told last. One that cannot be read would be held against nobody: it ends the run.
async fn reports(
    store: &dyn Store,
    head: &Head,
    options: &Options,
    objects: &[Object],
) -> Result<Vec<RegionReport>> {
    let names = objects.iter().filter_map(|object| match object.key.parse() {
        Ok(KeyKind::Region { name }) => Some(name),
        _ => None,
    });
    let mut reports = Vec::new();
    for name in names {
        let forget =
            format!("let the region report again, or give --forget-region {name} if it will not come back");
        let key = Key::region(&name)?;
        let Fetched::Object { bytes, .. } = store.get(&key, None).await? else { continue };
        let mut report = match RegionReport::parse(&name, &bytes) {
            Ok(report) => report,
            Err(error) if options.forget.contains(&name) => {
                tracing::debug!("{error}");
                let now = DateTime::UNIX_EPOCH;
                unreadable(&name, head, now)
            }
            Err(error) => return Err(error.hint(forget)),
        };
        if report.stream != head.stream {
            tracing::warn!(
                "region {name} follows stream {}, this one is {}: it holds back everything; {forget}",
                report.stream,
                head.stream
            );
            report.seq = Seq::ZERO;
        }
        reports.push(report);
    }
    Ok(reports)
}

/// Refuses an index that lacks what a region has applied, or has other entries in its place: what the right one names would
/// count as left by killed runs.
async fn went_back(store: &dyn Store, head: &Head, reports: &[RegionReport]) -> Result<()> {
    let mut head = Cow::Borrowed(head);
    if reports.iter().any(|report| report.seq > head.last_seq)
        // A region may have applied, and told, what was shipped since the head was read.
        && let Read::Head { head: now, .. } = store::head::read(store, None).await?
    {
        head = Cow::Owned(*now);
    }
    let refused = |report: &RegionReport, what: String| {
        let (region, seq) = (&report.region, report.seq.0);
        let message = format!(
            "prune {}: the index went back: it {what}, and region {region} has applied entry {seq}",
            store.url()
        );
        Err(Error::new(Kind::History, message).hint(format!(
            "somebody put back an older index.json: restore the newest version of it (docs/runbooks/history-lost.md). If it is lost \
             for good, build that region again, or give --forget-region {region}"
        )))
    };
    let floor = head.floor.map_or(Seq::ZERO, |floor| floor.seq);
    let mut index = Index::new(head.clone().into_owned());
    // The newest first: pages are read backwards, once.
    let mut reports: Vec<&RegionReport> =
        reports.iter().filter(|report| report.stream == head.stream && report.seq >= floor).collect();
    reports.sort_by_key(|report| std::cmp::Reverse(report.seq));
    for report in reports {
        if report.seq > head.last_seq {
            return refused(report, format!("ends at entry {}", head.last_seq.0));
        }
        let there = index.chain_at(report.seq, store).await?;
        if there != report.chain {
            return refused(report, format!("has chain {there} there, not {}", report.chain));
        }
    }
    Ok(())
}

/// Stands for a report that is forgotten without having been understood.
fn unreadable(name: &str, head: &Head, at: DateTime<Utc>) -> RegionReport {
    let begin = Mark { seq: Seq::ZERO, chain: Chain::genesis(head.stream), tx: StreamTx::ZERO };
    RegionReport::bare(name, head.stream, begin, at)
}

/// Requests that have been over for long.
async fn over(store: &dyn Store, now: DateTime<Utc>, objects: &[Object]) -> Result<HashSet<Key>> {
    let old = objects.iter().filter(|object| object.modified + REQUEST_AGE < now);
    let requests = old.filter_map(|object| match object.key.parse() {
        Ok(KeyKind::Request { id }) => Some((id, object.key.clone())),
        _ => None,
    });
    // Made before they run: a stream that borrows while it makes them is more than the compiler follows.
    let read: Vec<_> = requests.map(|(id, key)| if_over(store, now, id, key)).collect();
    let found: Vec<Option<Key>> = futures::stream::iter(read).buffer_unordered(AT_ONCE).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// The key, if the request there has been over for long.
async fn if_over(store: &dyn Store, now: DateTime<Utc>, id: RequestId, key: Key) -> Result<Option<Key>> {
    let bytes = match store.get(&key, None).await {
        Ok(Fetched::Object { bytes, .. }) => bytes,
        Ok(Fetched::Unchanged) => return Ok(None),
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    match Request::parse(&id, &bytes) {
        Ok(request) => {
            let is_over = request.state.is_final() && request.updated_at + REQUEST_AGE < now;
            Ok(is_over.then_some(key))
        }
        Err(error) => {
            tracing::warn!("{error}; it is left where it is");
            Ok(None)
        }
    }
}

async fn delete(store: &dyn Store, doomed: Doomed) -> Result<u64> {
    store.delete(&doomed.key).await?;
    failpoint::hit("prune.after_delete");
    tracing::debug!("deleted {}: {}", doomed.key, doomed.why);
    Ok(doomed.size)
}

/// What killed uploads have left unfinished. It costs room and nothing else, and may need rights of its own: no reason
/// to fail.
async fn give_up_unfinished(store: &dyn Store, clock: &dyn Clock) {
    match store.give_up_unfinished(clock.now() - UNFINISHED_AGE).await {
        Ok(0) => {}
        Ok(count) => tracing::info!("gave up {count} unfinished uploads of killed runs"),
        Err(error) => tracing::warn!(
            "{error}: unfinished uploads of killed runs stay; it takes s3:ListBucketMultipartUploads and \
             s3:AbortMultipartUpload, or a rule of the bucket (AbortIncompleteMultipartUpload)"
        ),
    }
}

/// Deletes what the plan names, and then the reports of the forgotten: a run that is killed before can be repeated
/// as it was given.
async fn carry_out(
    store: &dyn Store,
    clock: &dyn Clock,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    // Manifests first, so that nobody begins with half a dump.
    let (first, rest): (Vec<Doomed>, Vec<Doomed>) = report
        .plan
        .delete
        .iter()
        .cloned()
        .partition(|doomed| matches!(doomed.key.parse(), Ok(KeyKind::Manifest { .. })));
    let (mut deleted, mut bytes) = (0, 0);
    'all: for group in [first, rest] {
        let deletes: Vec<_> = group.into_iter().map(|doomed| delete(store, doomed)).collect();
        let mut deletes = futures::stream::iter(deletes).buffer_unordered(AT_ONCE);
        while let Some(size) = deletes.next().await {
            deleted += 1;
            bytes += size?;
            if options.stop.is_cancelled() {
                report.stopped = true;
                break 'all;
            }
        }
    }
    (report.deleted, report.deleted_bytes) = (deleted, bytes);
    if !report.stopped {
        give_up_unfinished(store, clock).await;
    }
    if !report.stopped {
        for name in &options.forget {
            failpoint::hit("prune.before_forget");
            store.delete(&Key::region(name)?).await?;
        }
    }
    Ok(())
}
