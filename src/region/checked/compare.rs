//! This region's rows against those that a check sums up, at one snapshot of this server.
//!
//! First the sums alone. Only where they differ are the rows read once more, each with its key, and then the check's object,
//! of which nothing is kept but the first rows that differ: whoever writes to the bucket decides how large it is.
//! Everything together may take [`LONGEST`]: nothing is applied meanwhile. What cannot be compared in that time, or does
//! not look the same here, is said to be so; that is no drift.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Drift, DriftedRow, How, MOST_ROWS};
use crate::config::MysqlConfig;
use crate::error::chain;
use crate::mysql::table::{self, KeyedScan, Range, TableKey, TableScan};
use crate::mysql::wire::Wire;
use crate::store::Store;
use crate::stream::check::read_names;
use crate::stream::unpack::unpack;
use crate::stream::{CheckedRange, Codec, NamedRow, NamesObject, RowKey, RowsChecksum};
use crate::{Error, Kind, Result};

/// How long one check may hold up what is to be applied.
pub const LONGEST: Duration = Duration::from_secs(5);

/// What the keys of this region's rows may take, where a range has to be told row by row. Whoever writes to the bucket says where a
/// range begins and ends.
const MOST_KEYS: usize = 24 << 20;

/// What comparing has shown.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Same,
    Differs(Drift),
    /// Nothing can be said, for this reason.
    Unknown(String),
}

/// Rows of one server at one moment.
pub struct Rows {
    wire: Wire,
    until: Instant,
}

impl Rows {
    /// Opens the snapshot.
    pub async fn open(config: &MysqlConfig) -> Result<Rows> {
        let until = Instant::now() + LONGEST;
        let mut wire = table::open(config).await?;
        wire.set_patience(Some(LONGEST * 2));
        let doing = format!("open a snapshot at {config}");
        wire.query(b"SET lock_wait_timeout=1, innodb_lock_wait_timeout=1", &doing).await?;
        wire.query(b"START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY", &doing).await?;
        Ok(Rows { wire, until })
    }

    /// Whether there is no time left.
    pub fn is_over(&self) -> bool {
        self.until <= Instant::now()
    }

    pub async fn close(self) {
        self.wire.close().await;
    }

    /// Compares one range. `names`: the object that tells which rows these are.
    pub async fn compare(
        &mut self,
        range: &CheckedRange,
        names: Option<(&NamesObject, &dyn Store, &Path)>,
    ) -> Result<Outcome> {
        let table = &range.table;
        let columns = match table::columns(&mut self.wire, table).await {
            Ok(columns) => columns,
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Failed) => {
                return Ok(Outcome::Unknown(chain(&error)));
            }
            Err(error) => return Err(error),
        };
        if table::digest(&columns) != range.columns {
            return Ok(Outcome::Unknown("its columns are not those that it has at the source".to_owned()));
        }
        if range.key.is_empty() {
            self.limit().await?;
            let mut scan = TableScan::open(&mut self.wire, table, &columns, &Range::all()).await?;
            let mut sum = (0, RowsChecksum::default());
            while let Some(tuple) = scan.next().await? {
                sum = (sum.0 + 1, sum.1 + RowsChecksum::of_row(tuple));
            }
            return Ok(match sum == (range.rows, range.checksum) {
                true => Outcome::Same,
                false => Outcome::Differs(Drift::of(range, sum.0)),
            });
        }
        let key = table::table_key(&mut self.wire, table).await?;
        let Some(key) = key.filter(|key| key.columns() == range.key) else {
            let text = "its rows are read by another key than at the source";
            return Ok(Outcome::Unknown(text.to_owned()));
        };
        let piece = key.piece(range.after.as_ref(), range.through.as_ref(), None)?;
        self.limit().await?;
        let mut scan = TableScan::open(&mut self.wire, table, &columns, &piece).await?;
        let mut sum = (0, RowsChecksum::default());
        while let Some(tuple) = scan.next().await? {
            sum = (sum.0 + 1, sum.1 + RowsChecksum::of_row(tuple));
        }
        if sum == (range.rows, range.checksum) {
            return Ok(Outcome::Same);
        }
        let mut drift = Drift::of(range, sum.0);
        let named = async {
            let (object, store, folder) =
                names.ok_or_else(|| Error::new(Kind::Corrupt, "no object names them"))?;
            let here = self.rows_here(range, &columns, &key, &piece).await?;
            let (until, peer) = (self.until, self.wire.peer().to_string());
            let in_time = tokio::time::timeout(left(until, &peer)?, fetch(object, store, folder)).await;
            let file = in_time.map_err(|_| too_long(&peer))??;
            tell_apart(here, (object, file), range, || left(until, &peer).map(drop))
        };
        match named.await {
            Ok(apart) => drift.name(apart),
            Err(error) => drift.unnamed = Some(chain(&error)),
        }
        Ok(Outcome::Differs(drift))
    }

    async fn rows_here(
        &mut self,
        range: &CheckedRange,
        columns: &[table::Column],
        key: &TableKey,
        piece: &Range,
    ) -> Result<BTreeMap<RowKey, u32>> {
        self.limit().await?;
        let mut scan = KeyedScan::open(&mut self.wire, &range.table, columns, key, piece).await?;
        let mut here = Here::default();
        while let Some((tuple, key)) = scan.next().await? {
            here.add(NamedRow::new(key, RowsChecksum::of_row(tuple)))?;
        }
        Ok(here.rows)
    }

    /// The server ends a statement that goes on for longer, and the connection is as good as before.
    async fn limit(&mut self) -> Result<()> {
        let left = left(self.until, self.wire.peer())?.as_millis().max(1);
        let set = format!("SET max_execution_time={left}");
        self.wire.query(set.as_bytes(), "compare rows").await.map(drop)
    }
}

/// How much time there is until then: some.
fn left(until: Instant, peer: impl std::fmt::Display) -> Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left > Duration::ZERO {
        return Ok(left);
    }
    Err(too_long(peer))
}

fn too_long(peer: impl std::fmt::Display) -> Error {
    let what = format!("compare rows at {peer}: it takes longer than {} s", LONGEST.as_secs());
    Error::new(Kind::Mysql, what).hint(SHORTER)
}

const SHORTER: &str = "a shorter check.slice at the source reads less at a time";

/// The rows of a range that are here, as long as their keys take no more than [`MOST_KEYS`].
#[derive(Default)]
struct Here {
    rows: BTreeMap<RowKey, u32>,
    bytes: usize,
}

impl Here {
    fn add(&mut self, row: NamedRow) -> Result<()> {
        // The map's own share of a row, and of each value.
        const ROW: usize = 64;
        const VALUE: usize = 40;
        self.bytes += ROW + row.key.0.iter().map(|value| VALUE + value.len()).sum::<usize>();
        if self.bytes > MOST_KEYS {
            let (rows, most) = (self.rows.len(), MOST_KEYS >> 20);
            let what =
                format!("hold the keys of a range: the first {rows} take {most} MiB, and there are more");
            return Err(Error::new(Kind::Failed, what).hint(SHORTER));
        }
        self.rows.insert(row.key, row.mark);
        Ok(())
    }
}

/// Brings a check's object to disk.
async fn fetch(object: &NamesObject, store: &dyn Store, folder: &Path) -> Result<std::fs::File> {
    let doing = format!("read {}", object.key);
    let failed =
        |cause| Error::new(Kind::Failed, format!("{doing} in {}", folder.display())).caused_by(cause);
    std::fs::create_dir_all(folder).map_err(failed)?;
    let file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    let found = store.download(&object.key, file.path(), object.size).await?;
    if (found.size, found.md5) != (object.size, object.md5) {
        let what = format!("{doing}: md5 is {}, the index says {}", found.md5, object.md5);
        return Err(Error::new(Kind::Corrupt, what));
    }
    file.reopen().map_err(failed)
}

/// These rows against the source's, out of the check's object. `go_on`: asked before each piece of that.
fn tell_apart(
    here: BTreeMap<RowKey, u32>,
    (object, file): (&NamesObject, std::fs::File),
    range: &CheckedRange,
    go_on: impl Fn() -> Result<()>,
) -> Result<Apart> {
    let plain = Asking { inner: unpack(Codec::Gzip, BufReader::new(file))?, go_on };
    let (mut apart, mut left) = (Apart::new(here), range.rows);
    read_names(object.key.as_str(), BufReader::new(plain), |table, row| {
        if *table == range.table {
            left = left.checked_sub(1).ok_or_else(|| {
                let (key, rows) = (&object.key, range.rows);
                let what = format!("read {key}: it names more rows of {table} than the {rows} of its check");
                Error::new(Kind::Corrupt, what)
            })?;
            apart.there(row);
        }
        Ok(())
    })?;
    Ok(apart)
}

/// Asks before each read whether to go on: a few bytes may unpack to what takes hours.
struct Asking<R, F> {
    inner: R,
    go_on: F,
}

impl<R: Read, F: Fn() -> Result<()>> Read for Asking<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (self.go_on)().map_err(io::Error::other)?;
        self.inner.read(buffer)
    }
}

/// Told of the source's rows one by one: those that are not this region's.
struct Apart {
    /// The rows here that nothing was told of so far.
    here: BTreeMap<RowKey, u32>,
    /// The first of those that differ, or are missing here, in the order of their bytes.
    first: BTreeMap<RowKey, How>,
    /// How many more there are of them.
    more: u64,
}

impl Apart {
    fn new(here: BTreeMap<RowKey, u32>) -> Apart {
        Apart { here, first: BTreeMap::new(), more: 0 }
    }

    /// A row at the source.
    fn there(&mut self, row: NamedRow) {
        let how = match self.here.remove(&row.key) {
            Some(found) if found == row.mark => return,
            Some(_) => How::Differs,
            None => How::Missing,
        };
        self.first.insert(row.key, how);
        if self.first.len() > MOST_ROWS {
            self.first.pop_last();
            self.more += 1;
        }
    }

    /// The first rows that differ, and how many more do.
    fn finish(self) -> (Vec<DriftedRow>, u64) {
        let row = |(key, how): (RowKey, How)| DriftedRow { key: key.to_string(), how };
        let extra = self.here.into_keys().map(|key| (key, How::Extra));
        let mut rows: Vec<DriftedRow> = self.first.into_iter().chain(extra).map(row).collect();
        let more = self.more + (rows.len() as u64).saturating_sub(MOST_ROWS as u64);
        rows.truncate(MOST_ROWS);
        (rows, more)
    }
}

impl Drift {
    fn of(range: &CheckedRange, rows_here: u64) -> Drift {
        let unnamed = range.key.is_empty().then(|| "it has no key to tell its rows by".to_owned());
        Drift {
            range: range.to_string(),
            key: range.key.join(", "),
            rows_there: range.rows,
            rows_here,
            rows: Vec::new(),
            more: 0,
            unnamed,
        }
    }

    fn name(&mut self, apart: Apart) {
        (self.rows, self.more) = apart.finish();
        if self.rows.is_empty() {
            self.unnamed = Some("no row's mark tells".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> RowKey {
        RowKey(vec![text.as_bytes().to_vec()])
    }

    fn told(here: &[(&str, u32)], there: impl IntoIterator<Item = (String, u32)>) -> (Vec<DriftedRow>, u64) {
        let mut apart = Apart::new(here.iter().map(|(text, mark)| (key(text), *mark)).collect());
        there.into_iter().for_each(|(text, mark)| apart.there(NamedRow { key: key(&text), mark }));
        assert!(apart.first.len() <= MOST_ROWS);
        apart.finish()
    }

    #[test]
    fn a_range_whose_keys_would_fill_the_memory_is_given_up() {
        let mut here = Here::default();
        let row = |n: u32| NamedRow { key: RowKey(vec![n.to_be_bytes().to_vec(), vec![7; 1000]]), mark: n };
        let held = (0..).take_while(|n| here.add(row(*n)).is_ok()).count();
        assert_eq!((held, here.rows.len()), (MOST_KEYS / 1148, MOST_KEYS / 1148));
        assert!(here.add(row(0)).is_err_and(|error| error.to_string().contains("take 24 MiB")));
    }

    #[test]
    fn rows_are_told_apart_by_key_and_mark() {
        let there = [("1", 1), ("2", 2), ("4", 4)].map(|(text, mark)| (text.to_owned(), mark));
        let found = told(&[("1", 1), ("2", 9), ("3", 3)], there);
        let row = |key: &str, how| DriftedRow { key: key.to_owned(), how };
        assert_eq!(found, (vec![row("2", How::Differs), row("4", How::Missing), row("3", How::Extra)], 0));
    }

    #[test]
    fn of_many_rows_that_differ_the_first_are_kept_and_the_others_counted() {
        let there = (0..1000).rev().map(|n| (format!("{n:04}"), 1));
        let (rows, more) = told(&[("2000", 1)], there);
        let expected: Vec<String> = (0..MOST_ROWS).map(|n| format!("{n:04}")).collect();
        assert_eq!(rows.iter().map(|row| row.key.clone()).collect::<Vec<_>>(), expected);
        assert_eq!(more, 1001 - MOST_ROWS as u64);
    }
}
