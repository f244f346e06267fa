//! Dividing a table into ranges of its key, so that several connections can read it.
//!
//! Ranges are a partition of all possible keys, whatever the table holds: the first and the last are open, and one
//! begins where another ends, compared by the server in the column's own collation. So they need not be of the same
//! moment as the rows, and statistics that are wrong make ranges of unequal size and nothing worse. Integers are
//! divided by value, and once more where the server estimates many rows; other keys are walked.

use super::key::{Key, key};
use super::scan::rows;
use crate::binlog::name::{TableName, quote};
use crate::mysql::wire::{Reply, Wire};
use crate::{Error, Kind, Result};

/// How finely to divide.
#[derive(Clone, Copy, Debug)]
pub struct Ranging {
    /// Readers that shall have something to do.
    pub connections: usize,
    /// About how many bytes of rows one range shall have.
    pub bytes: u64,
}

impl Default for Ranging {
    fn default() -> Self {
        Self { connections: 4, bytes: 32 << 20 }
    }
}

/// The rows from one key to below another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// What follows the table's name in a SELECT.
    clause: String,
}

impl Range {
    /// The whole table.
    pub fn all() -> Range {
        Range::default()
    }

    pub(super) fn of(clause: String) -> Range {
        Range { clause }
    }

    pub(super) fn clause(&self) -> &str {
        &self.clause
    }
}

/// Most ranges of one table: above it they get larger.
const MOST: u64 = 4_096;
/// Fewer rows than this are not worth a range of their own.
const FEW: u64 = 2_000;

/// Divides `table`. A table without a usable key is one range.
pub async fn ranges(wire: &mut Wire, table: &TableName, ranging: &Ranging) -> Result<Vec<Range>> {
    let Some(key) = key(wire, table).await? else { return Ok(vec![Range::all()]) };
    let (estimate, row_bytes) = size(wire, table).await?;
    let by_size = estimate.saturating_mul(row_bytes) / ranging.bytes.max(1);
    let by_readers = (ranging.connections as u64 * 4).min(estimate / FEW);
    let pieces = by_size.max(by_readers).clamp(1, MOST);
    let rows_each = (estimate / pieces).max(FEW);
    let bounds = match key.is_integer() {
        true => divide(wire, table, &key, pieces, rows_each, ranging).await?,
        false => None,
    };
    let bounds = match bounds {
        Some(bounds) => bounds,
        None => walk(wire, table, &key, rows_each).await?,
    };
    Ok(between(&key, &bounds))
}

/// About how many rows there are, and their length.
async fn size(wire: &mut Wire, table: &TableName) -> Result<(u64, u64)> {
    let doing = format!("estimate the size of {table} at {}", wire.peer());
    let query = format!(
        "SELECT COALESCE(TABLE_ROWS, 0), GREATEST(COALESCE(AVG_ROW_LENGTH, 0), 1) FROM information_schema.TABLES \
         WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
        super::column::text_literal(&table.schema),
        super::column::text_literal(&table.table)
    );
    let found = rows(wire, &query, &doing).await?;
    let number = |at: usize| found.first()?.get(at)?.as_ref()?.parse().ok();
    Ok((number(0).unwrap_or(0), number(1).unwrap_or(1)))
}

/// A bound: one literal for each part of the key, or for its first part alone.
type Bound = Vec<String>;

/// Bounds of equal distance between the smallest and the largest value of the key's first column; `None`: most rows
/// have the same value there.
async fn divide(
    wire: &mut Wire,
    table: &TableName,
    key: &Key,
    pieces: u64,
    rows_each: u64,
    ranging: &Ranging,
) -> Result<Option<Vec<Bound>>> {
    let doing = format!("find the smallest and the largest key of {table} at {}", wire.peer());
    let first = quote(&key.parts[0].column);
    let query = format!("SELECT MIN({first}), MAX({first}) FROM {}", table.quoted());
    let found = rows(wire, &query, &doing).await?;
    let number = |at: usize| found.first()?.get(at)?.as_ref()?.parse::<i128>().ok();
    let (Some(low), Some(high)) = (number(0), number(1)) else { return Ok(Some(Vec::new())) };
    // Statistics of a table that has just been filled say that it is empty; where the keys themselves say that
    // there may be more, ranges that turn out empty cost nothing.
    let span = high - low + 1;
    let for_readers = (ranging.connections as i128 * 4).min(span / i128::from(FEW));
    let wanted = i128::from(pieces).max(for_readers);
    let pieces = wanted.min(span);
    let mut pending = Vec::new();
    let step = |n: i128| low + span * n / pieces;
    for n in (0..pieces).rev() {
        pending.push((step(n), step(n + 1)));
    }
    let mut bounds = Vec::new();
    let mut splits = MOST;
    while let Some((from, to)) = pending.pop() {
        // Most keys of a sparse table may stand in one piece. The estimate dives into the index, which costs
        // little, and never says more than half of the table.
        let can_split = to - from > 1;
        if wanted > 1 && splits > 0 && (can_split || key.parts.len() > 1) {
            let clause = between_integers(&first, from, to);
            if estimate(wire, table, key, &clause).await? > rows_each.saturating_mul(2) {
                if !can_split {
                    return Ok(None);
                }
                splits -= 1;
                let middle = from + (to - from) / 2;
                pending.push((middle, to));
                pending.push((from, middle));
                continue;
            }
        }
        bounds.push(vec![to.to_string()]);
    }
    // The last piece is open at its end.
    bounds.pop();
    bounds.dedup();
    Ok(Some(bounds))
}

fn between_integers(column: &str, from: i128, to: i128) -> String {
    format!("{column} >= {from} AND {column} < {to}")
}

/// The rows that the optimizer expects. Not with FORCE INDEX: it would not look into the index (since 8.0).
async fn estimate(wire: &mut Wire, table: &TableName, key: &Key, clause: &str) -> Result<u64> {
    let doing = format!("estimate rows of {table} at {}", wire.peer());
    let query = format!(
        "EXPLAIN FORMAT=TRADITIONAL SELECT 1 FROM {} USE INDEX ({}) WHERE {clause}",
        table.quoted(),
        quote(&key.name)
    );
    let found = rows(wire, &query, &doing).await?;
    // id, select_type, table, partitions, type, possible_keys, key, key_len, ref, rows, filtered, Extra
    Ok(found.first().and_then(|row| row.get(9)?.as_ref()?.parse().ok()).unwrap_or(0))
}

/// Every so many rows the key that stands there.
async fn walk(wire: &mut Wire, table: &TableName, key: &Key, rows_each: u64) -> Result<Vec<Bound>> {
    let doing = format!("walk over the keys of {table} at {}", wire.peer());
    let mut bounds: Vec<Bound> = Vec::new();
    loop {
        let filter =
            bounds.last().map(|bound| format!(" WHERE {}", at_least(key, bound))).unwrap_or_default();
        let query = format!(
            "SELECT {list} FROM {} FORCE INDEX ({}){filter} ORDER BY {list} LIMIT 1 OFFSET {rows_each}",
            table.quoted(),
            quote(&key.name),
            list = key.list()
        );
        let Reply::Rows { rows, .. } = wire.query(query.as_bytes(), &doing).await? else { break };
        let Some(row) = rows.first() else { break };
        let literals = key.parts.iter().zip(row).map(|(part, value)| part.literal(value.as_deref()?));
        let bound = literals.collect::<Option<Bound>>().ok_or_else(|| {
            Error::new(Kind::Failed, format!("{doing}: a key value is not what its type can hold"))
        })?;
        // It cannot be, and would go on for ever.
        if bounds.last() == Some(&bound) || bounds.len() as u64 >= 2 * MOST {
            break;
        }
        bounds.push(bound);
    }
    Ok(bounds)
}

/// The ranges that these bounds, in the key's order, divide all keys into.
fn between(key: &Key, bounds: &[Bound]) -> Vec<Range> {
    if bounds.is_empty() {
        return vec![Range::all()];
    }
    let force = format!(" FORCE INDEX ({}) WHERE ", quote(&key.name));
    let mut ranges = Vec::with_capacity(bounds.len() + 1);
    ranges.push(Range { clause: format!("{force}{}", below(key, &bounds[0])) });
    for pair in bounds.windows(2) {
        let clause = format!("{force}{} AND {}", at_least(key, &pair[0]), below(key, &pair[1]));
        ranges.push(Range { clause });
    }
    ranges.push(Range { clause: format!("{force}{}", at_least(key, &bounds[bounds.len() - 1])) });
    ranges
}

/// `(a, b) >= (x, y)`, written so that the optimizer makes a range of the index of it: MySQL does not of a row
/// constructor.
fn at_least(key: &Key, bound: &[String]) -> String {
    compare(key, bound, ">", ">=")
}

fn below(key: &Key, bound: &[String]) -> String {
    compare(key, bound, "<", "<")
}

pub(super) fn compare(key: &Key, bound: &[String], strict: &str, last: &str) -> String {
    let mut clause = String::new();
    for (at, (part, literal)) in key.parts.iter().zip(bound).enumerate().rev() {
        let column = quote(&part.column);
        clause = match at + 1 == bound.len() {
            true => format!("{column} {last} {literal}"),
            false => format!("({column} {strict}= {literal} AND ({column} {strict} {literal} OR {clause}))"),
        };
    }
    clause
}
