//! What the source's newest round has read of each table, and why a region has not compared that.
//!
//! A round goes through the tables by name. While one is under way, the tables that it has not come to are judged by the one
//! before. Of a table counts what was read from its first row to its last, each slice behind the one before: of the others the
//! source has told nothing, and a region is not blamed for them.

use std::collections::BTreeMap;

use super::TableCheck;
use crate::Result;
use crate::binlog::name::TableName;
use crate::region::quarantine::Quarantined;
use crate::region::restore::Restore;
use crate::stream::{CheckEntry, Checked, CheckedRange, Entry, Index, PageLoader, RowKey, Seq, StreamTx};

/// A table as a whole, as the source has read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Covered {
    /// The entry of its first slice, and the transaction that this is behind.
    pub since: Seq,
    pub at: StreamTx,
}

/// What the source has read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rounds {
    /// From the first row to the last.
    pub whole: BTreeMap<TableName, Covered>,
    /// The newest round is under way, and the one before is known from its first slice to its last.
    pub knows_the_one_before: bool,
    /// The newest round's first entries were pruned: of what these had read nothing is known.
    pub is_pruned: bool,
}

/// What the newest round has read, and where that one is under way, the one before.
pub async fn covered(
    index: &mut Index,
    checked: &Checked,
    pages: &(impl PageLoader + ?Sized),
) -> Result<Rounds> {
    let floor = index.head().floor.map_or(Seq::ZERO, |floor| floor.seq);
    let before = Seq(checked.since.0.saturating_sub(1)).max(floor);
    let mut newest = Vec::new();
    let mut after = before;
    while after < checked.seq {
        let entries = index.entries_after(after, pages).await?;
        let Some(last) = entries.last().map(|entry| entry.seq) else { break };
        newest.extend(checks(&entries, checked.seq));
        after = last;
    }
    // Newest first.
    let mut earlier = Vec::new();
    let mut end = before;
    let mut knows_the_one_before = false;
    while checked.next.is_some() && end > floor {
        index.entry(end, pages).await?;
        let of_head = || index.head().entries.first().map_or(end, |entry| entry.seq);
        let first = index.page_of(end).map_or_else(of_head, |link| link.first);
        let from = Seq(first.0.saturating_sub(1)).max(floor);
        let entries = index.entries_after(from, pages).await?;
        let mut is_whole = false;
        for check in checks(&entries, end).into_iter().rev() {
            is_whole = earlier.last().is_some_and(|later| !goes_on(&check, later));
            if is_whole {
                break;
            }
            earlier.push(check);
        }
        // There was none before it.
        let is_first = from == Seq::ZERO && !earlier.is_empty();
        knows_the_one_before = is_whole || is_first;
        if knows_the_one_before || from >= end {
            break;
        }
        end = from;
    }
    let whole = of_checks(earlier.iter().rev().chain(&newest));
    Ok(Rounds { whole, knows_the_one_before, is_pruned: floor >= checked.since })
}

type Check = (Seq, CheckEntry);

fn checks(entries: &[Entry], through: Seq) -> Vec<Check> {
    let known = entries.iter().filter(|entry| entry.seq <= through);
    known.filter_map(|entry| Some((entry.seq, entry.check()?.clone()))).collect()
}

/// Whether a check is of the same round as the one before it. A table that was changed is begun anew in the middle of one.
fn goes_on((_, earlier): &Check, (_, later): &Check) -> bool {
    match (earlier.ranges.last(), later.ranges.first()) {
        (Some(last), Some(first)) => {
            last.table < first.table || (last.table == first.table && last.through.is_some())
        }
        _ => true,
    }
}

/// Oldest first.
fn of_checks<'c>(checks: impl Iterator<Item = &'c Check>) -> BTreeMap<TableName, Covered> {
    let mut open: BTreeMap<&TableName, (Covered, &RowKey, &CheckedRange)> = BTreeMap::new();
    let mut whole = BTreeMap::new();
    for (seq, check) in checks {
        for range in &check.ranges {
            // By another key the rows are in another order.
            let goes_on = open.remove(&range.table).filter(|(_, through, before)| {
                range.after.as_ref() == Some(through)
                    && (&range.key, range.columns) == (&before.key, before.columns)
            });
            let covered = match (&range.after, goes_on) {
                (None, _) => Covered { since: *seq, at: check.at },
                (Some(_), Some((covered, ..))) => covered,
                (Some(_), None) => continue,
            };
            match &range.through {
                Some(through) => drop(open.insert(&range.table, (covered, through, range))),
                None => drop(whole.insert(range.table.clone(), covered)),
            }
        }
    }
    whole
}

/// What keeps tables of a region from being compared.
pub struct Standing {
    pub quarantined: Vec<Quarantined>,
    pub restoring: Vec<Restore>,
    /// The state up to here came with a dump.
    pub base: StreamTx,
}

impl Standing {
    /// Why what the source has read of the table is not compared; `None`: it is.
    pub fn why_not(&self, table: &TableName, covered: Covered, known: Option<&TableCheck>) -> Option<String> {
        if let Some(held) = self.quarantined.iter().find(|held| held.table == *table) {
            let (reason, since) = (held.reason.name(), held.since_tx);
            return Some(format!("in quarantine since transaction {since} ({reason})"));
        }
        if let Some(restore) = self.restoring.iter().find(|restore| restore.tables.contains(table)) {
            return Some(format!("being restored (restore {}: {})", restore.id, restore.state));
        }
        if known.is_some_and(|known| known.is_compared_since(covered.since)) {
            return None;
        }
        let missed = known.and_then(|known| known.missed.as_ref());
        if let Some(missed) = missed.filter(|missed| missed.seq >= covered.since.0) {
            return Some(missed.why.clone());
        }
        let (at, base) = (covered.at.0, self.base.0);
        Some(match at <= base {
            true => format!(
                "its rows came with a dump of transaction {base}, which was taken behind the check at transaction {at}"
            ),
            false => format!("no check of entry {} or later was compared here", covered.since.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::*;
    use crate::region::checked::compare::Outcome;
    use crate::region::quarantine::Reason;
    use crate::region::restore::Why;
    use crate::stream::tests::{Bucket, at, empty, run, segment};
    use crate::stream::{Body, Key, Md5, NamesObject, RowsChecksum};

    fn key(text: &str) -> Option<RowKey> {
        Some(RowKey(vec![text.into()])).filter(|_| !text.is_empty())
    }

    fn table(name: &str) -> TableName {
        TableName::new("g", name)
    }

    /// One slice a check, `("a", "", "7")`: of g.a from its first row up to 7.
    fn check(seq: u64, (name, after, through): (&str, &str, &str)) -> Check {
        let range = CheckedRange {
            table: table(name),
            columns: Md5::of(b""),
            key: vec!["id".into()],
            after: key(after),
            through: key(through),
            rows: 1,
            checksum: RowsChecksum(1),
        };
        let ranges = vec![range];
        let at = StreamTx(10 * seq);
        (Seq(seq), CheckEntry { at, checked_at: DateTime::<Utc>::UNIX_EPOCH, ranges, names: None })
    }

    fn told(slices: &[(&str, &str, &str)]) -> Vec<(String, u64, u64)> {
        let checks: Vec<Check> = (1..).zip(slices).map(|(seq, slice)| check(seq, *slice)).collect();
        let whole = of_checks(checks.iter()).into_iter();
        whole.map(|(table, covered)| (table.table, covered.since.0, covered.at.0)).collect()
    }

    #[test]
    fn a_table_counts_once_it_was_read_from_its_first_row_to_its_last() {
        let all = told(&[("a", "", "5"), ("a", "5", "9"), ("a", "9", ""), ("b", "", "")]);
        assert_eq!(all, [("a".to_owned(), 1, 10), ("b".to_owned(), 4, 40)]);
        assert_eq!(told(&[("a", "", "5"), ("a", "6", "")]), []);
        assert_eq!(told(&[("a", "5", "")]), []);
        // The newer one is not at its end.
        assert_eq!(told(&[("a", "", ""), ("a", "", "5")]), [("a".to_owned(), 1, 10)]);
    }

    #[test]
    fn slices_by_another_key_make_no_whole() {
        let mut checks = [check(1, ("a", "", "5")), check(2, ("a", "5", ""))];
        assert_eq!(of_checks(checks.iter()).len(), 1);
        checks[1].1.ranges[0].key = vec!["code".into()];
        assert_eq!(of_checks(checks.iter()).len(), 0);
    }

    #[test]
    fn a_round_ends_where_the_tables_begin_again() {
        let goes_on = |before, behind| goes_on(&check(1, before), &check(2, behind));
        assert!(goes_on(("a", "", "5"), ("a", "5", "")) && goes_on(("a", "", ""), ("b", "", "")));
        assert!(!goes_on(("b", "", ""), ("a", "", "")) && !goes_on(("a", "", ""), ("a", "", "")));
        // Altered in between.
        assert!(goes_on(("a", "", "5"), ("a", "", "")));
    }

    /// What is found in the index of a stream with these slices as its entries, the newest round beginning at entry `since`.
    fn found(slices: &[(&str, String, String)], since: u64, is_under_way: bool) -> Vec<(String, u64)> {
        let (mut head, mut bucket) = (empty(), Bucket::default());
        head.append(segment(&head, 1), at(0)).unwrap();
        for (table, after, through) in slices {
            let seq = head.last_seq.next();
            let names = NamesObject { key: Key::check(seq, at(seq.0)), size: 1, md5: Md5::of(b"") };
            let (_, one) = check(seq.0, (table, after, through));
            head.append(Body::Check(CheckEntry { at: head.last_tx, names: Some(names), ..one }), at(seq.0))
                .unwrap();
            bucket.seal(&mut head);
        }
        let next = is_under_way.then(|| table("b"));
        let (seq, since) = (head.last_seq, Seq(since));
        let checked = Checked { seq, since, at: at(0), took_ms: 1, next, after: None };
        let rounds = run(covered(&mut Index::new(head), &checked, &bucket)).unwrap();
        rounds.whole.into_iter().map(|(table, covered)| (table.table, covered.since.0)).collect()
    }

    /// One table in `count` slices, from its first row to its last.
    fn in_slices(table: &str, count: u64) -> impl Iterator<Item = (&str, String, String)> {
        let bound = move |at: u64| if at == 0 || at == count { String::new() } else { format!("{at:05}") };
        (0..count).map(move |at| (table, bound(at), bound(at + 1)))
    }

    #[test]
    fn a_round_is_found_through_sealed_pages_and_the_one_before_only_while_one_is_under_way() {
        // Entry 1 is a segment. A round of long ago knew a table more.
        let old = in_slices("a", 1).chain(in_slices("z", 1));
        let before = in_slices("a", 900).chain(in_slices("b", 700));
        let newest = in_slices("a", 1_100);
        let slices: Vec<_> = old.chain(before).chain(newest).collect();
        let (before, newest) = (4, 4 + 900 + 700);
        let told = |all: &[(&str, u64)]| -> Vec<(String, u64)> {
            all.iter().map(|(table, since)| ((*table).to_owned(), *since)).collect()
        };
        assert_eq!(found(&slices, newest, true), told(&[("a", newest), ("b", before + 900)]));
        assert_eq!(found(&slices, newest, false), told(&[("a", newest)]));
        // The newest has not come to the end of its first table.
        let part = &slices[..slices.len() - 1];
        assert_eq!(found(part, newest, true), told(&[("a", before), ("b", before + 900)]));
    }

    fn compared(seq: u64, outcome: &Outcome) -> TableCheck {
        let (seq, check) = check(seq, ("a", "", ""));
        TableCheck::after(None, (seq, &check), &check.ranges[0], outcome, DateTime::<Utc>::UNIX_EPOCH)
    }

    #[test]
    fn a_table_that_was_not_compared_says_why() {
        let now = DateTime::<Utc>::UNIX_EPOCH;
        let (covered, a) = (Covered { since: Seq(7), at: StreamTx(70) }, table("a"));
        let mut standing = Standing { quarantined: vec![], restoring: vec![], base: StreamTx::ZERO };
        let why = |standing: &Standing, known: Option<&TableCheck>| standing.why_not(&a, covered, known);
        assert_eq!(why(&standing, Some(&compared(7, &Outcome::Same))), None);
        assert_eq!(why(&standing, Some(&compared(8, &Outcome::Same))), None);
        // The same transaction as that of the newest round, and an older entry.
        let mut old = compared(6, &Outcome::Same);
        if let Some(same) = &mut old.same {
            (same.since_tx, same.tx) = (70, 70);
        }
        assert!(why(&standing, Some(&old)).is_some_and(|why| why.contains("entry 7 or later")));
        let missed = compared(7, &Outcome::Unknown("given up".into()));
        assert_eq!(why(&standing, Some(&missed)).as_deref(), Some("given up"));
        let missed = compared(6, &Outcome::Unknown("given up".into()));
        assert!(why(&standing, Some(&missed)).is_some_and(|why| why.contains("entry 7 or later")));
        standing.base = StreamTx(70);
        assert!(why(&standing, None).is_some_and(|why| why.contains("dump of transaction 70")));
        standing.restoring = vec![Restore::new(Why::Asked, [a.clone()].into(), now)];
        assert!(why(&standing, Some(&old)).is_some_and(|why| why.starts_with("being restored")));
        let held = Quarantined::new(a.clone(), Reason::Conflict, 65, "duplicate".into(), now);
        standing.quarantined = vec![held];
        let text = why(&standing, Some(&old));
        assert_eq!(text.as_deref(), Some("in quarantine since transaction 65 (conflict)"));
    }
}
