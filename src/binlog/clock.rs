//! The logical clock: from the source's, which counts in one binlog file, to the stream's, which counts for ever.
//!
//! A server lets a transaction start when every one with a sequence number up to its `last_committed` has
//! committed ("Replication and Binary Logging Options", `replica_parallel_type`). The same in a stream: a
//! transaction may start when every stream transaction up to `depends_on` has committed. Where the source's
//! clock is not known (another file, a resumed upload, too long ago) the answer is one that is surely late enough.

use std::collections::VecDeque;

/// A transaction's place in the source's binlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceClock {
    /// Which file, counted by the filter from the start of the run.
    pub file: u64,
    pub last_committed: u64,
    pub sequence_number: u64,
}

/// How many transactions of a file are remembered one by one.
const WINDOW: usize = 1 << 16;

/// Knows the kept transactions of the current file.
#[derive(Clone, Debug)]
pub struct Clock {
    file: u64,
    /// (sequence number at the source, number in the stream), both rising.
    kept: VecDeque<(u64, u64)>,
    /// Everything up to here is before all of `kept`.
    before: u64,
    last: u64,
}

impl Clock {
    /// `last_tx`: the last transaction that the stream has.
    pub fn new(last_tx: u64) -> Clock {
        Clock { file: 0, kept: VecDeque::new(), before: last_tx, last: last_tx }
    }

    /// Takes the next kept transaction of the source, which becomes the next of the stream. Returns the stream
    /// transaction that it must not start before.
    pub fn next(&mut self, at: &SourceClock) -> u64 {
        let n = self.last + 1;
        if at.file != self.file {
            self.file = at.file;
            self.kept.clear();
            self.before = self.last;
        }
        let rises = self.kept.back().is_none_or(|&(sequence, _)| sequence < at.sequence_number);
        let known = at.sequence_number > at.last_committed && rises;
        let depends_on = match known {
            // A server that does not tell its clock, or counts anew: everything before.
            false => {
                self.kept.clear();
                self.before = n;
                self.last
            }
            true => {
                let up_to = self.kept.partition_point(|&(sequence, _)| sequence <= at.last_committed);
                let found = up_to.checked_sub(1).and_then(|i| self.kept.get(i));
                let depends_on = found.map_or(self.before, |&(_, n)| n);
                self.kept.push_back((at.sequence_number, n));
                depends_on
            }
        };
        if self.kept.len() > WINDOW
            && let Some((_, evicted)) = self.kept.pop_front()
        {
            self.before = evicted;
        }
        self.last = n;
        depends_on
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(file: u64, last_committed: u64, sequence_number: u64) -> SourceClock {
        SourceClock { file, last_committed, sequence_number }
    }

    #[test]
    fn transactions_that_ran_side_by_side_at_the_source_may_do_so_in_a_region() {
        let mut clock = Clock::new(0);
        let answers = [at(1, 0, 1), at(1, 1, 2), at(1, 1, 3), at(1, 2, 4)].map(|at| clock.next(&at));
        assert_eq!(answers, [0, 1, 1, 2]);
    }

    #[test]
    fn i4_a_dependency_on_a_transaction_that_was_filtered_out_becomes_one_on_the_kept_ones_before_it() {
        let mut clock = Clock::new(10);
        // 5 is kept as 11; 6 and 7 are foreign; 8 waits for 7, so also for 5.
        assert_eq!(clock.next(&at(1, 4, 5)), 10);
        assert_eq!(clock.next(&at(1, 7, 8)), 11);
        assert_eq!(clock.next(&at(1, 4, 9)), 10);
    }

    #[test]
    fn i4_a_transaction_of_a_new_file_waits_for_everything_of_the_files_before() {
        let mut clock = Clock::new(0);
        clock.next(&at(1, 0, 1));
        clock.next(&at(1, 0, 2));
        assert_eq!(clock.next(&at(2, 0, 1)), 2);
        assert_eq!(clock.next(&at(2, 0, 2)), 2);
        assert_eq!(clock.next(&at(2, 1, 3)), 3);
    }

    #[test]
    fn i4_a_source_that_tells_no_clock_is_replayed_one_by_one() {
        let mut clock = Clock::new(0);
        let answers = [at(1, 0, 1), at(1, 0, 0), at(1, 0, 0), at(1, 0, 7)].map(|at| clock.next(&at));
        assert_eq!(answers, [0, 1, 2, 3]);
    }

    #[test]
    fn i4_what_is_too_long_ago_to_be_remembered_is_waited_for() {
        let mut clock = Clock::new(0);
        for sequence in 1..=WINDOW as u64 + 10 {
            clock.next(&at(1, 0, sequence));
        }
        assert_eq!(clock.next(&at(1, 3, WINDOW as u64 + 11)), 10);
    }
}
