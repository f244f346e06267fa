//! What must hold in every head, read or to be written: its entries are one history without a gap, and whatever else it says is of
//! that history. A head that says otherwise is refused whole; nothing is made of a part of it.

use std::collections::BTreeSet;

use super::{Head, MAX_DUMPS, WHAT};
use crate::error::{Error, Kind, Result};
use crate::stream::document::FORMAT;
use crate::stream::dump::DumpRef;
use crate::stream::entry::{self, Entry};
use crate::stream::gap::Gap;
use crate::stream::ids::Seq;
use crate::stream::page::{self, MAX_ENTRIES};
use crate::stream::paused::Paused;
use crate::stream::refused::Refused;
use crate::stream::signature::Signature;

impl Head {
    /// Refuses a head in which something does not hold.
    pub fn validate(&self) -> Result<()> {
        let bad = |why: String| Err(Error::new(Kind::Corrupt, format!("check {WHAT}: {why}")));
        let history = |why: String| {
            Err(Error::new(Kind::History, format!("check {WHAT}: {why}"))
                .hint("restore index.json and index/ from before this happened"))
        };
        if self.format.major != FORMAT.major {
            return bad(format!("format {} is not {}", self.format.major, FORMAT.major));
        }
        if self.name.is_empty() {
            return bad("the stream has no name".into());
        }
        if self.entries.len() > MAX_ENTRIES {
            return bad(format!("{} entries, more than {MAX_ENTRIES}", self.entries.len()));
        }
        // Entries go on from the newest page, or from the stream's beginning, to last_seq, without a gap.
        if let Some(page) = &self.page {
            page.validate()?;
        }
        let start = page::start(self.stream, self.page.as_ref());
        let end = entry::run(WHAT, start, &self.entries)?;
        if end.seq != self.last_seq {
            return history(format!("it ends at entry {} and says {}", end.seq.0, self.last_seq.0));
        }
        if end.chain != self.tip {
            return history(format!(
                "the chain ends with {} at entry {}, and \"tip\" says {}",
                end.chain, end.seq.0, self.tip
            ));
        }
        if end.tx != self.last_tx {
            return history(format!(
                "its last transaction is {}, and \"last_tx\" says {}",
                end.tx.0, self.last_tx.0
            ));
        }
        // Coverage may run ahead of the newest entry, by transactions that do not travel; never behind.
        if let Some((_, newest)) = self.entries.iter().rev().find_map(Entry::covered)
            && !newest.is_subset(&self.covered)
        {
            return history(format!("it covers {}, less than its newest entry: {newest}", self.covered));
        }
        self.validate_dumps().or_else(bad)?;
        self.validate_floor().or_else(history)?;
        self.gap.iter().try_for_each(Gap::validate).or_else(bad)?;
        self.refused.iter().try_for_each(Refused::validate).or_else(bad)?;
        self.paused.iter().try_for_each(Paused::validate).or_else(bad)?;
        self.signature.iter().try_for_each(Signature::validate).or_else(bad)?;
        // The table set is numbered from 1.
        if self.table_set.version == 0 {
            return bad("the table set has version 0".into());
        }
        self.validate_set().or_else(bad)?;
        // One definition a table, of a time that the stream has reached.
        let mut seen = BTreeSet::new();
        for definition in &self.definitions {
            definition.validate(self.last_tx)?;
            if !seen.insert(&definition.table) {
                return bad(format!("two definitions of {}", definition.table));
            }
        }
        if !self.definitions.is_sorted_by(|a, b| a.table < b.table) {
            return bad("definitions are not sorted by table".into());
        }
        Ok(())
    }

    /// The set is the one that the newest change made, and the head knows of that change.
    fn validate_set(&self) -> Result<(), String> {
        let newest = self.entries.iter().rev().find(|entry| entry.tables().is_some());
        match (&self.set_changed, newest.and_then(|entry| Some((entry, entry.tables()?)))) {
            (Some(known), Some((entry, change))) => {
                if known.seq != entry.seq
                    || (known.at, &known.source_gtid) != (change.at, &change.source_gtid)
                {
                    return Err(format!("the newest change of the table set is entry {}", entry.seq.0));
                }
                if (self.table_set.version, &self.table_set.tables) != (change.version, &change.tables) {
                    return Err(format!("entry {} says another table set", entry.seq.0));
                }
            }
            (None, Some((entry, _))) => {
                return Err(format!(
                    "entry {} changes the table set, and nothing else tells of it",
                    entry.seq.0
                ));
            }
            (Some(known), None) => {
                let first = self.entries.first().map_or(self.last_seq.next(), |entry| entry.seq);
                if known.seq == Seq::ZERO || known.seq >= first || known.at > self.last_tx {
                    return Err(format!("entry {} is said to change the table set", known.seq.0));
                }
            }
            (None, None) => {}
        }
        Ok(())
    }

    /// The dumps are of this history, in its order, and none that nobody needs is among them.
    fn validate_dumps(&self) -> Result<(), String> {
        if self.dumps.len() > MAX_DUMPS {
            return Err(format!("{} dumps, more than {MAX_DUMPS}", self.dumps.len()));
        }
        if !self.dumps.is_sorted_by(|a, b| a.seq < b.seq) {
            return Err("dumps are not in the order of their entries".into());
        }
        for (at, DumpRef { seq, dump, .. }) in self.dumps.iter().enumerate() {
            let bad = |why: String| Err(format!("dump {}: {why}", dump.id));
            if let Err(why) = dump.validate() {
                return bad(why);
            }
            if *seq == Seq::ZERO || *seq > self.last_seq || self.floor.is_some_and(|floor| *seq <= floor.seq)
            {
                return bad(format!("there is no entry {}", seq.0));
            }
            if dump.at > self.last_tx || !dump.snapshot.is_subset(&self.covered) {
                return bad(format!(
                    "it holds transaction {} and {}, the stream ends with {} and covers {}",
                    dump.at.0, dump.snapshot, self.last_tx.0, self.covered
                ));
            }
            if dump.full && at > 0 {
                return bad("it is full, and dumps before it are listed".into());
            }
            let first = self.entries.first().map_or(Seq::ZERO, |entry| entry.seq);
            let entry = seq.0.checked_sub(first.0).and_then(|at| self.entries.get(usize::try_from(at).ok()?));
            if first != Seq::ZERO && *seq >= first && entry.and_then(Entry::dump) != Some(dump) {
                return bad(format!("entry {} says something else", seq.0));
            }
        }
        Ok(())
    }

    /// What is gone ends with a sealed page, or within one, and never with entries that the head still holds.
    pub(super) fn validate_floor(&self) -> Result<(), String> {
        let Some(floor) = &self.floor else { return Ok(()) };
        let bad = |why: &str| Err(format!("entries up to {} are gone, {why}", floor.seq.0));
        let Some(page) = &self.page else { return bad("and there is no page that they were in") };
        if floor.seq == Seq::ZERO || floor.seq > page.last || floor.tx > page.last_tx {
            return bad("and they are not in a page");
        }
        if floor.seq == page.last && (floor.chain, floor.tx) != (page.chain, page.last_tx) {
            return bad("and the link to their page says something else");
        }
        Ok(())
    }
}
