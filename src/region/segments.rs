//! Segments on their way from the bucket: downloaded ahead, size and MD5 checked before a byte is used, and
//! then read through once by the gate (I6) before anything of them runs.
//!
//! A bad segment is refused whole; those before it are applied first. Nothing here changes the region.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use futures::{FutureExt, StreamExt};
use tempfile::NamedTempFile;
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc};
use uuid::Uuid;

use super::gate::{self, Action, Gate};
use super::position::Executed;
use super::replay::LARGE;
use super::scope::Scope;
use crate::binlog::ddl::TableDdl;
use crate::binlog::event::ColumnType;
use crate::binlog::name::TableName;
use crate::binlog::segment::{Item, SegmentReader};
use crate::store::Store;
use crate::stream::unpack::unpack;
use crate::stream::{Entry, Key, Md5, SegmentEntry, Seq};
use crate::{Error, Kind, Result, failpoint};

/// How many segments wait, checked, while one is applied.
const AHEAD: usize = 2;

/// A segment on disk that has passed every check that needs no server.
pub struct Fetched {
    pub stream: Uuid,
    pub entry: Entry,
    /// What the entry says of it.
    pub segment: SegmentEntry,
    pub file: Spooled,
    pub scan: Scan,
    /// Held while one of the segments that are fetched together is read through.
    reading: Arc<Mutex<()>>,
}

/// Whether the objects of these entries are there, and as large as the index says. Reads none.
pub async fn are_there(store: &Arc<dyn Store>, entries: &[Entry]) -> Result<()> {
    let segments = entries.iter().filter_map(|entry| Some((entry.seq, entry.segment()?.clone())));
    let looks: Vec<_> =
        segments.map(|(seq, segment)| is_there(store.clone(), seq, segment).boxed()).collect();
    let mut looks = futures::stream::iter(looks).buffered(LOOKS);
    while let Some(looked) = looks.next().await {
        looked?;
    }
    Ok(())
}

async fn is_there(store: Arc<dyn Store>, seq: Seq, segment: SegmentEntry) -> Result<()> {
    let key = &segment.key;
    let looking = |error: Error| error.during(format!("look at entry {}: {key}", seq.0));
    let stat = store.stat(key).await.map_err(looking)?;
    if stat.size == segment.size {
        return Ok(());
    }
    let (is, says) = (stat.size, segment.size);
    let message = format!("look at entry {}: {key} has {is} bytes, the index says {says}", seq.0);
    Err(Error::new(Kind::Corrupt, message))
}

/// How many objects are looked at at a time.
const LOOKS: usize = 16;

impl Fetched {
    /// To be held while it is run: if it has large rows, no other is read through meanwhile.
    pub async fn alone(&self) -> Option<OwnedMutexGuard<()>> {
        match self.scan.largest.values().any(|largest| largest.bytes > LARGE as u64) {
            true => Some(self.reading.clone().lock_owned().await),
            false => None,
        }
    }

    /// The format description of its events.
    pub fn format(&self) -> Result<Vec<u8>> {
        let reader = open(&self.file, &self.segment, self.stream)?;
        Ok(reader.format_description().bytes().to_vec())
    }
}

/// What the gate learned from reading a segment through.
#[derive(Debug, Default)]
pub struct Scan {
    /// What happens to each table, in order.
    pub tables: BTreeMap<TableName, Vec<Step>>,
    /// Defaults of schemas that DDL in here builds on.
    pub schema_defaults: Vec<SchemaDefault>,
    /// The largest row event of each table, its table maps included.
    pub largest: BTreeMap<TableName, Largest>,
    /// The transactions that change each table or have DDL on it, in order.
    pub transactions: BTreeMap<TableName, Vec<u64>>,
    /// Every DDL statement, in order.
    pub ddls: Vec<DdlStep>,
}

/// What a DDL statement does to names of tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DdlStep {
    pub n: u64,
    /// Every table that it names, those first that it changes.
    pub names: Vec<TableName>,
    /// How many it changes.
    pub targets: usize,
    /// Those that are not there any more when it has run.
    pub gone: Vec<TableName>,
    /// Those that it gives another name, from and to.
    pub renames: Vec<(TableName, TableName)>,
}

/// What a segment does with one table.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Row changes in these transactions, with columns of these types.
    Rows { first: u64, last: u64, columns: Vec<ColumnType> },
    /// DDL on it.
    Ddl { n: u64 },
}

impl Scan {
    /// The DDL still to run that needs another default of its schema than the one before it did: the segment is
    /// run up to there, and then the schema is looked at again.
    pub fn changes_of_defaults(&self, executed: &Executed) -> Vec<u64> {
        let mut last: BTreeMap<&str, &str> = BTreeMap::new();
        let ahead = self.schema_defaults.iter().filter(|wanted| !executed.contains(wanted.n));
        let changes = ahead.filter(|wanted| {
            let before = last.insert(&wanted.schema, &wanted.collation);
            before.is_some_and(|before| before != wanted.collation)
        });
        changes.map(|wanted| wanted.n).collect()
    }

    /// The default that the first DDL in here needs of a schema.
    pub fn first_default(&self, schema: &str) -> Option<&str> {
        let mut wanted = self.schema_defaults.iter();
        wanted.find(|wanted| wanted.schema == schema).map(|wanted| wanted.collation.as_str())
    }

    fn rows(&mut self, n: u64, table: &TableName, columns: Vec<ColumnType>) {
        self.touched(n, table);
        let steps = match self.tables.get_mut(table) {
            Some(steps) => steps,
            None => self.tables.entry(table.clone()).or_default(),
        };
        match steps.last_mut() {
            Some(Step::Rows { last, columns: same, .. }) if *same == columns => *last = n,
            _ => steps.push(Step::Rows { first: n, last: n, columns }),
        }
    }

    fn ddl(&mut self, n: u64, ddl: TableDdl) {
        self.ddls.push(DdlStep {
            n,
            names: ddl.names().cloned().collect(),
            targets: ddl.targets.len(),
            gone: ddl.gone(),
            renames: ddl.renames(),
        });
        for table in ddl.targets {
            self.touched(n, &table);
            self.tables.entry(table).or_default().push(Step::Ddl { n });
        }
    }

    fn touched(&mut self, n: u64, table: &TableName) {
        match self.transactions.get_mut(table) {
            Some(touched) if touched.last() == Some(&n) => {}
            Some(touched) => touched.push(n),
            None => drop(self.transactions.insert(table.clone(), vec![n])),
        }
    }

    fn row_event(&mut self, n: u64, table: &TableName, bytes: u64, at: &str) {
        match self.largest.get_mut(table) {
            Some(largest) if bytes <= largest.bytes => {}
            _ => drop(self.largest.insert(table.clone(), Largest { n, bytes, at: at.to_owned() })),
        }
    }
}

/// DDL that takes a table's character set from its schema.
#[derive(Debug)]
pub struct SchemaDefault {
    pub schema: String,
    /// The schema's default at the source when the statement ran.
    pub collation: String,
    /// The transaction.
    pub n: u64,
    /// The same for messages.
    pub at: String,
}

/// The row event that needs the largest statement.
#[derive(Debug)]
pub struct Largest {
    pub n: u64,
    pub bytes: u64,
    pub at: String,
}

/// Fetches the segments of `entries` in order, a few ahead of whoever receives them; passes over other entries.
pub fn prefetch(
    store: Arc<dyn Store>,
    stream: Uuid,
    scope: Scope,
    spool_dir: &Path,
    entries: Vec<Entry>,
) -> mpsc::Receiver<Result<Fetched>> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let (spool_dir, reading) = (spool_dir.to_path_buf(), Arc::new(Mutex::new(())));
    tokio::spawn(async move {
        for entry in entries {
            let Some(segment) = entry.segment().cloned() else { continue };
            let fetched = fetch(&*store, stream, &scope, &spool_dir, entry, segment, &reading).await;
            let failed = fetched.is_err();
            if sender.send(fetched).await.is_err() || failed {
                return;
            }
        }
    });
    receiver
}

/// Brings one segment to disk, and reads it through.
pub(crate) async fn fetch(
    store: &dyn Store,
    stream: Uuid,
    scope: &Scope,
    spool_dir: &Path,
    entry: Entry,
    expected: SegmentEntry,
    reading: &Arc<Mutex<()>>,
) -> Result<Fetched> {
    let doing = || format!("read {}/{} (entry {})", store.url(), expected.key, entry.seq.0);
    let object = Promised { key: &expected.key, size: expected.size, md5: expected.md5, by: "the index" };
    let file = download(store, spool_dir, &object, &doing()).await?;
    failpoint::hit("apply.after_download");
    let (file, scope) = (Spooled::new(file)?, scope.clone());
    let alone = reading.clone().lock_owned().await;
    let scanned = tokio::task::spawn_blocking({
        let (file, segment) = (file.clone(), expected.clone());
        move || {
            let _alone = alone;
            scan(&file, &segment, stream, &scope)
        }
    });
    let scan = scanned.await.map_err(|error| Error::new(Kind::Failed, doing()).caused_by(error))?;
    let scan = scan.map_err(|error| {
        let untold = error.hint_text().is_none();
        let error = error.during(doing());
        if untold { error.hint(RESTORE) } else { error }
    })?;
    Ok(Fetched { stream, entry, segment: expected, file, scan, reading: reading.clone() })
}

/// An object as something that has been read says it is.
pub struct Promised<'a> {
    pub key: &'a Key,
    pub size: u64,
    pub md5: Md5,
    /// What says so.
    pub by: &'static str,
}

/// Brings an object to disk; not a byte of it is used before it is known to be what was promised.
pub async fn download(
    store: &dyn Store,
    spool_dir: &Path,
    object: &Promised<'_>,
    doing: &str,
) -> Result<NamedTempFile> {
    std::fs::create_dir_all(spool_dir).map_err(|error| {
        Error::new(Kind::Failed, format!("make the folder {}", spool_dir.display())).caused_by(error)
    })?;
    let file = tempfile::Builder::new().prefix(PREFIX).tempfile_in(spool_dir).map_err(|error| {
        Error::new(Kind::Failed, format!("make a temporary file in {}", spool_dir.display()))
            .hint("`spool_dir` in [files] of the config must be a folder that tablecast can write to")
            .caused_by(error)
    })?;
    let found = store.download(object.key, file.path(), object.size).await.map_err(|error| {
        let damage = error.is_not_found() || error.kind() == Kind::Corrupt;
        let error = error.during(doing.to_owned());
        if damage { error.hint(RESTORE) } else { error }
    })?;
    let differs = |what: &str, found: &str, expected: &str| {
        let message = format!("{doing}: {what} is {found}, {} says {expected}", object.by);
        Err(Error::new(Kind::Corrupt, message).hint(RESTORE))
    };
    if found.size != object.size {
        return differs("size", &found.size.to_string(), &object.size.to_string());
    }
    if found.md5 != object.md5 {
        return differs("md5", &found.md5.to_string(), &object.md5.to_string());
    }
    Ok(file)
}

const RESTORE: &str = "nothing of it was run; restore the object from a backup or an older version of it \
                       (`tablecast verify` lists every object that is not as the index says)";

/// A downloaded file without a name: it is gone with the last that holds it, also after a kill.
#[derive(Clone, Debug)]
pub struct Spooled(Arc<File>);

impl Spooled {
    fn new(file: NamedTempFile) -> Result<Spooled> {
        // The download may have put another file in the place of the one that was made.
        let again = File::open(file.path()).map_err(|error| {
            Error::new(Kind::Failed, format!("open {}", file.path().display())).caused_by(error)
        })?;
        Ok(Spooled(Arc::new(again)))
    }
}

/// Reads a file from its start, whoever else reads it.
struct FromStart {
    file: Spooled,
    at: u64,
}

impl Read for FromStart {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.0.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Removes what killed runs have left behind while they were downloading.
pub fn sweep(spool_dir: &Path, now: DateTime<Utc>) {
    const LONG_AGO: TimeDelta = TimeDelta::days(1);
    // Whatever cannot be looked at or removed does no harm.
    for file in std::fs::read_dir(spool_dir).into_iter().flatten().flatten() {
        let is_ours = file.file_name().to_string_lossy().starts_with(PREFIX);
        let modified = file.metadata().and_then(|metadata| metadata.modified()).map(DateTime::<Utc>::from);
        if is_ours && modified.is_ok_and(|modified| now - modified > LONG_AGO) {
            let _ = std::fs::remove_file(file.path());
        }
    }
}

/// What the names of the files begin with.
const PREFIX: &str = "segment-";

/// Opens a downloaded segment for reading its binlog.
pub fn open(file: &Spooled, entry: &SegmentEntry, stream: Uuid) -> Result<SegmentReader<Binlog>> {
    let file = BufReader::with_capacity(64 * 1024, FromStart { file: file.clone(), at: 0 });
    let plain = unpack(entry.codec, file)?;
    let plain = BufReader::with_capacity(64 * 1024, Exactly { inner: plain, left: entry.raw_size });
    SegmentReader::new(Box::new(plain) as Binlog, Some(stream))
}

/// The plain bytes of a segment.
pub type Binlog = Box<dyn Read + Send>;

/// Reads a stream that must have so many bytes: what is longer or shorter is damaged, not a bomb.
struct Exactly<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        if read == 0 && !buffer.is_empty() && self.left > 0 {
            return Err(wrong(&format!(
                "the binlog ends {} bytes before the size that the index says",
                self.left
            )));
        }
        self.left = self
            .left
            .checked_sub(read as u64)
            .ok_or_else(|| wrong("the binlog is longer than the index says"))?;
        Ok(read)
    }
}

/// Reads a whole segment through the gate.
pub fn scan(file: &Spooled, entry: &SegmentEntry, stream: Uuid, scope: &Scope) -> Result<Scan> {
    let mut reader = open(file, entry, stream)?;
    let mut gate = Gate::new(scope);
    let mut scan = Scan::default();
    let mut maps = StatementMaps::default();
    let (mut at, mut next) = (String::new(), entry.first_tx.0);
    while let Some(item) = reader.next()? {
        match item {
            Item::Begin(head) => {
                if head.n != next || head.depends_on >= head.n {
                    let message =
                        format!("transaction {} (after {}) where {next} is due", head.n, head.depends_on);
                    return Err(Error::new(Kind::Corrupt, message).hint(RESTORE));
                }
                gate.begin(&head);
                at = format!("stream transaction {} (source {})", head.n, head.source_gtid);
                for (schema, collation) in head.note.schema_collations {
                    gate::collation(&collation).map_err(|error| error.during(at.clone()))?;
                    scan.schema_defaults.push(SchemaDefault { schema, collation, n: head.n, at: at.clone() });
                }
                maps = StatementMaps::default();
            }
            Item::Event(event) => match gate.event(&event)? {
                Action::Map(map) => {
                    maps.add(event.bytes().len() as u64, map.table_id, &map.table);
                    scan.rows(next, &map.table, map.columns);
                }
                Action::Rows(header) => {
                    let bytes = maps.bytes + event.bytes().len() as u64;
                    if let Some(table) = maps.tables.get(&header.table_id) {
                        scan.row_event(next, table, bytes, &at);
                    }
                    maps.ended = header.ends_statement();
                }
                Action::Ddl(ddl) => scan.ddl(next, ddl.ddl),
                Action::Begin(_) | Action::Savepoint(_) | Action::Commit => {}
            },
            Item::End => {
                gate.end()?;
                next += 1;
            }
        }
    }
    if next != entry.last_tx.0 + 1 {
        let message =
            format!("the binlog ends with transaction {}, the index says {}", next - 1, entry.last_tx.0);
        return Err(Error::new(Kind::Corrupt, message).hint(RESTORE));
    }
    Ok(scan)
}

/// The table maps of the statement that is being read.
#[derive(Default)]
struct StatementMaps {
    tables: BTreeMap<u64, TableName>,
    bytes: u64,
    ended: bool,
}

impl StatementMaps {
    fn add(&mut self, bytes: u64, table_id: u64, table: &TableName) {
        if self.ended {
            *self = Self::default();
        }
        self.bytes += bytes;
        self.tables.insert(table_id, table.clone());
    }
}
