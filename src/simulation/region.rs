//! A region: a position, and the rows that its tables hold. What it reads and what it refuses is the product's own
//! code; MySQL's part, a commit with its GTID and the position behind it, is two steps between which it may be killed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Mutex as Turn;

use super::actors::Own;
use super::judge::read_rows;
use crate::binlog::gtid::{GtidSet, Tsid};
use crate::binlog::name::{TableName, TableSet};
use crate::binlog::segment::Item;
use crate::clock::Clock;
use crate::http::regions::put;
use crate::region::history;
use crate::region::position::{Executed, Position};
use crate::region::restore::{Restore, Why, bootstrap};
use crate::region::scope::Scope;
use crate::region::segments::{self, Promised};
use crate::store::{self, Store, head::Read};
use crate::stream::entry::Mark;
use crate::stream::{DumpEntry, Entry, Head, Index, Manifest, RegionReport, Seq, StreamTx};
use crate::{Error, Kind, Result};

/// What its server keeps.
#[derive(Default)]
pub(super) struct Db {
    pub position: Option<Position>,
    /// `gtid_executed`, without what came with a dump.
    executed: BTreeSet<u64>,
    pub rows: BTreeSet<u64>,
    /// Its position lies before the floor: its tables come from a dump again.
    must_begin_again: bool,
}

#[derive(Clone)]
pub(super) struct Region {
    pub name: &'static str,
    db: Arc<Mutex<Db>>,
    /// It makes its tables by a dump, if there is one, in place of reading all of the stream.
    pub bootstraps: bool,
    /// It tells how far it is.
    pub reports: bool,
}

impl Region {
    pub fn new(name: &'static str, bootstraps: bool, reports: bool) -> Self {
        Self { name, db: Arc::default(), bootstraps, reports }
    }

    pub fn db(&self) -> MutexGuard<'_, Db> {
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it stands.
    pub fn seq(&self) -> Seq {
        self.db().position.as_ref().map_or(Seq::ZERO, |position| position.seq)
    }
}

fn list() -> TableSet {
    TableSet::parse(&["g.apps", "g.more"]).expect("a set")
}

/// One run of `apply`.
pub(super) async fn applies(own: Own, region: Region) -> Result<()> {
    for _ in 0..20 {
        match pass(&own, &region).await {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            // What follows its position is gone; it may have been told while prune was at work.
            Err(error) if region.seq() < own.world.state().judge.floor() => {
                region.db().must_begin_again = true;
                return match error.kind() {
                    Kind::History | Kind::NotFound | Kind::Store => Ok(()),
                    _ => Err(error),
                };
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Applies what one object of the index has. False: there is nothing new.
async fn pass(own: &Own, region: &Region) -> Result<bool> {
    let bucket = own.bucket();
    let url = bucket.url();
    let (position, executed, again) = {
        let db = region.db();
        (db.position.clone(), db.executed.clone(), db.must_begin_again)
    };
    let unless = position.as_ref().and_then(|at| at.head_etag.clone()).filter(|_| !again);
    let (head, etag) = match store::head::read(&bucket, unless.as_ref()).await? {
        Read::Unchanged => return Ok(false),
        Read::Head { head, etag } => (*head, etag),
    };
    history::check_name("apps", &head, &url)?;
    let stream = head.stream;
    let mut index = Index::new(head);
    let position = match position.filter(|_| !again) {
        Some(position) => position,
        None => match begins(own, region, &mut index, again).await? {
            Some(position) => position,
            None => return Ok(false),
        },
    };
    let mut gtids = GtidSet::new();
    executed.iter().for_each(|&n| gtids.insert_range(&Tsid::untagged(stream), n, n));
    let done = Executed::of(stream, &gtids).with_base(position.base_tx);
    history::check_position("apps", &position, &done)?;
    index.check_position(position.stream, position.seq, &position.chain, &bucket as &dyn Store).await?;
    history::check_end("apps", &done, index.head())?;
    let entries = index.entries_after(position.seq, &bucket as &dyn Store).await?;
    history::check_server("apps", &gtids, &entries)?;
    let is_end = entries.last().is_none_or(|last| last.seq == index.head().last_seq);
    for entry in &entries {
        apply(own, region, entry, index.head()).await?;
        own.world.step(own.process, "position").await?;
        let mut db = region.db();
        if let Some(at) = &mut db.position {
            (at.seq, at.chain) = (entry.seq, entry.chain);
            at.last_tx = at.last_tx.max(entry.up_to());
        }
    }
    if is_end && let Some(at) = &mut region.db().position {
        at.head_etag = Some(etag);
    }
    if region.reports {
        let report = report(own, region);
        if let Some(report) = report {
            put(&bucket, &report).await?;
        }
    }
    Ok(!is_end)
}

/// Where a region stands that has nothing yet: at the stream's beginning, or in the state of a dump.
async fn begins(own: &Own, region: &Region, index: &mut Index, again: bool) -> Result<Option<Position>> {
    let bucket = own.bucket();
    let head = index.head();
    let (now, url) = (own.world.now(), bucket.url());
    if head.floor.is_none() && !again && !(region.bootstraps && head.full_dump().is_some()) {
        let position = Position::start(head.stream, url, GtidSet::new(), &list(), now);
        region.db().position = Some(position.clone());
        return Ok(Some(position));
    }
    let Some(full) = head.full_dump().cloned() else { return Ok(None) };
    let rows = match loads(own, &full.dump).await {
        Ok(rows) => rows,
        // Another has taken its place meanwhile.
        Err(error)
            if error.is_not_found() && own.world.state().judge.needs(&full.dump.manifest).is_none() =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let mut restore = Restore::new(Why::Bootstrap, BTreeSet::from([TableName::new("g", "apps")]), now);
    restore.entry = full.seq;
    let position = bootstrap::position(index, &bucket as &dyn Store, &restore, url, &list(), now).await?;
    own.world.step(own.process, "swap").await?;
    let mut db = region.db();
    // Also where it has run a part of the stream: what is before the floor, the dump has.
    if let Some(gone) = db.rows.difference(&rows).next() {
        own.world.state().judge.wrong(format!("I5: {} loses the row of {gone}", region.name));
    }
    db.rows = rows;
    db.executed.retain(|n| *n <= position.base_tx.0);
    db.must_begin_again = false;
    db.position = Some(position.clone());
    Ok(Some(position))
}

async fn apply(own: &Own, region: &Region, entry: &Entry, head: &Head) -> Result<()> {
    if let Some(segment) = entry.segment() {
        let bucket = own.bucket();
        let scope = Scope::of(&list(), head);
        let (spool, turn) = (&own.config.files.spool_dir, Arc::new(Turn::new(())));
        let fetched =
            segments::fetch(&bucket, head.stream, &scope, spool, entry.clone(), segment.clone(), &turn)
                .await?;
        let mut reader = segments::open(&fetched.file, segment, head.stream)?;
        while let Some(item) = reader.next()? {
            let Item::Begin(begin) = item else { continue };
            let is_done = {
                let db = region.db();
                let base = db.position.as_ref().map_or(StreamTx::ZERO, |position| position.base_tx);
                begin.n <= base.0 || db.executed.contains(&begin.n)
            };
            if is_done {
                continue;
            }
            own.world.step(own.process, "commit in a region").await?;
            let mut db = region.db();
            let due = db
                .executed
                .last()
                .copied()
                .unwrap_or(0)
                .max(db.position.as_ref().map_or(0, |position| position.base_tx.0))
                + 1;
            let mut state = own.world.state();
            if begin.n != due {
                state.judge.wrong(format!("I4: {} runs {} where {due} is due", region.name, begin.n));
            }
            let number = begin.source_gtid.number;
            state.judge.applied(region.name, StreamTx(begin.n), number);
            if !db.rows.insert(number) && !state.judge.by_dump.contains(&number) {
                state.judge.wrong(format!("I4: {} runs source transaction {number} twice", region.name));
            }
            db.executed.insert(begin.n);
        }
    }
    if let Some(dump) = entry.dump().filter(|dump| dump.mandatory || dump.resync) {
        restores(own, region, dump).await?;
    }
    Ok(())
}

/// What every region is told to restore: the dump's rows, and what came behind its state.
async fn restores(own: &Own, region: &Region, dump: &DumpEntry) -> Result<()> {
    let mut rows = loads(own, dump).await?;
    own.world.step(own.process, "swap").await?;
    let mut db = region.db();
    let mut state = own.world.state();
    let up_to =
        db.position.as_ref().map_or(StreamTx::ZERO, |position| position.last_tx.max(position.base_tx));
    let from = usize::try_from(dump.at.0).unwrap_or(usize::MAX);
    let to = usize::try_from(up_to.0).unwrap_or(usize::MAX);
    rows.extend(state.judge.stream.iter().take(to).skip(from));
    if let Some(gone) = db.rows.difference(&rows).next() {
        state.judge.wrong(format!("I5: {} loses the row of {gone} by dump {}", region.name, dump.id));
    }
    db.rows = rows;
    Ok(())
}

/// The rows of a dump, each object as its entry and its manifest say.
async fn loads(own: &Own, dump: &DumpEntry) -> Result<BTreeSet<u64>> {
    let (bucket, spool) = (own.bucket(), &own.config.files.spool_dir);
    let read = async |object: Promised<'_>| {
        let file = segments::download(&bucket, spool, &object, "restore").await?;
        std::fs::read(file.path()).map_err(|e| Error::new(Kind::Failed, "read a download").caused_by(e))
    };
    let manifest = Promised { key: &dump.manifest, size: dump.size, md5: dump.md5, by: "the index" };
    let manifest = Manifest::parse(&dump.id, &read(manifest).await?)?;
    let mut rows = BTreeSet::new();
    for chunk in manifest.tables.iter().flat_map(|table| &table.chunks) {
        let chunk = Promised { key: &chunk.key, size: chunk.size, md5: chunk.md5, by: "the manifest" };
        rows.extend(read_rows(&read(chunk).await?));
    }
    Ok(rows)
}

fn report(own: &Own, region: &Region) -> Option<RegionReport> {
    let at = region.db().position.clone()?;
    let mark = Mark { seq: at.seq, chain: at.chain, tx: at.last_tx };
    let bare = RegionReport::bare(region.name, at.stream, mark, own.world.now());
    Some(RegionReport { base_tx: at.base_tx, ..bare })
}
