//! This region's rows against those that a check sums up, at one snapshot of this server.
//!
//! First the sums alone. Only where they differ is the check's object read, and the rows once more, each with its key.
//! Everything together may take [`LONGEST`]: nothing is applied meanwhile. What cannot be compared in that time, or does
//! not look the same here, is said to be so; that is no drift.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Drift, DriftedRow, How, MOST_ROWS};
use crate::config::MysqlConfig;
use crate::error::chain;
use crate::mysql::table::{self, KeyedScan, Range, TableKey, TableScan};
use crate::mysql::wire::Wire;
use crate::store::Store;
use crate::stream::check::read_names;
use crate::stream::{CheckedRange, NamedRow, NamesObject, RowKey, RowsChecksum};
use crate::{Error, Kind, Result};

/// How long one check may hold up what is to be applied.
pub const LONGEST: Duration = Duration::from_secs(5);

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
            let there = rows_there(object, range, store, folder).await?;
            let here = self.rows_here(range, &columns, &key, &piece).await?;
            Ok::<_, Error>(tell_apart(there, here))
        };
        match named.await {
            Ok(rows) => drift.name(rows),
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
        let mut rows = BTreeMap::new();
        while let Some((tuple, key)) = scan.next().await? {
            let NamedRow { key, mark } = NamedRow::new(key, RowsChecksum::of_row(tuple));
            rows.insert(key, mark);
        }
        Ok(rows)
    }

    /// The server ends a statement that goes on for longer, and the connection is as good as before.
    async fn limit(&mut self) -> Result<()> {
        let left = self.until.saturating_duration_since(Instant::now()).as_millis();
        if left == 0 {
            let what =
                format!("compare rows at {}: it takes longer than {} s", self.wire.peer(), LONGEST.as_secs());
            return Err(Error::new(Kind::Mysql, what)
                .hint("a shorter check.slice at the source reads less at a time"));
        }
        let set = format!("SET max_execution_time={left}");
        self.wire.query(set.as_bytes(), "compare rows").await.map(drop)
    }
}

/// The source's rows of this range, out of the check's object.
async fn rows_there(
    object: &NamesObject,
    range: &CheckedRange,
    store: &dyn Store,
    folder: &Path,
) -> Result<BTreeMap<RowKey, u32>> {
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
    let plain = flate2::bufread::MultiGzDecoder::new(BufReader::new(file.reopen().map_err(failed)?));
    let mut rows = BTreeMap::new();
    read_names(object.key.as_str(), BufReader::new(plain), |table, row| {
        if *table == range.table {
            rows.insert(row.key, row.mark);
        }
        Ok(())
    })?;
    Ok(rows)
}

/// Rows of one that are not those of the other, in the order of their bytes.
fn tell_apart(there: BTreeMap<RowKey, u32>, mut here: BTreeMap<RowKey, u32>) -> Vec<DriftedRow> {
    let mut rows = Vec::new();
    for (key, mark) in there {
        match here.remove(&key) {
            Some(found) if found == mark => {}
            Some(_) => rows.push(DriftedRow { key: key.to_string(), how: How::Differs }),
            None => rows.push(DriftedRow { key: key.to_string(), how: How::Missing }),
        }
    }
    rows.extend(here.into_keys().map(|key| DriftedRow { key: key.to_string(), how: How::Extra }));
    rows
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

    fn name(&mut self, mut rows: Vec<DriftedRow>) {
        if rows.is_empty() {
            self.unnamed = Some("no row's mark tells".to_owned());
        }
        self.more = (rows.len() as u64).saturating_sub(MOST_ROWS as u64);
        rows.truncate(MOST_ROWS);
        self.rows = rows;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_told_apart_by_key_and_mark() {
        let rows = |all: &[(&str, u32)]| {
            all.iter().map(|(key, mark)| (RowKey(vec![key.as_bytes().to_vec()]), *mark)).collect()
        };
        let found = tell_apart(rows(&[("1", 1), ("2", 2), ("4", 4)]), rows(&[("1", 1), ("2", 9), ("3", 3)]));
        let row = |key: &str, how| DriftedRow { key: key.to_owned(), how };
        assert_eq!(found, [row("2", How::Differs), row("4", How::Missing), row("3", How::Extra)]);
    }
}
