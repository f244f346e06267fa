//! Statements as bytes, their results counted by the caller.
//!
//! `BINLOG`'s OK does not say that more results follow, so a client that goes by the flag stops reading in the
//! middle of a query. Here the caller says how many results its query has; the server stops at the first statement
//! that fails and answers nothing behind it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::statement::Piece;
use crate::config::MysqlConfig;
use crate::mysql::wire::{Reply, Wire, command};
use crate::{Error, Result};

/// No query is sent while more answers than this are due: nobody reads them meanwhile, and a server that cannot get rid of
/// its answers reads no more either. Each is sent by itself, and a Unix socket takes some 280 of them.
const DUE: usize = 64;
/// Fewer answers are waited for.
const MANY: usize = 16;
/// A wait that is shorter than this is not worth a timer.
const WORTH_A_REST: Duration = Duration::from_millis(4);
/// How long a connection is left alone at most, however slow the server has been.
const LONGEST_REST: Duration = Duration::from_millis(50);

/// A connection whose session is the caller's business.
pub struct RawConnection {
    wire: Wire,
    pace: Pace,
    /// How many results each query has that was sent and whose end was not read.
    begun: VecDeque<usize>,
}

/// Why a query did not run to its end.
#[derive(Debug)]
pub enum RunError {
    /// A statement failed; those before it ran, those behind it did not.
    Server {
        /// Which statement of the query, from 0.
        index: usize,
        code: u16,
        state: String,
        message: String,
    },
    /// The connection is gone. Whether the last statements ran is not known.
    Lost(Error),
}

impl RunError {
    /// By the server.
    fn is_told(&self) -> bool {
        matches!(self, RunError::Server { .. })
    }
}

impl RawConnection {
    pub async fn connect(config: &MysqlConfig) -> Result<Self> {
        Ok(Self { wire: Wire::connect(config).await?, pace: Pace::default(), begun: VecDeque::new() })
    }

    /// Runs one query. Rows are read and thrown away, and what was begun before and not finished, too.
    pub async fn run(&mut self, query: &Piece) -> Result<(), RunError> {
        self.drain().await?;
        if query.results == 0 {
            return Ok(());
        }
        self.begin(query).await?;
        self.finish(0).await
    }

    /// Sends a query, which [`finish`](Self::finish) sees to its end. The next may be sent before: the server begins with that
    /// as soon as this one is over, and also if it fails.
    pub async fn begin(&mut self, query: &Piece) -> Result<(), RunError> {
        if self.begun.iter().sum::<usize>() > DUE {
            self.finish(0).await?;
        }
        let sent = match query.is_large() {
            true => self.wire.send_blocks(command::QUERY, query.len(), query.blocks()).await,
            false => self.wire.send(command::QUERY, &query.sql).await,
        };
        if let Err(lost) = sent {
            // Why may stand in what the server has said before it hung up.
            let said = self.finish(0).await;
            return Err(said.err().filter(|error| error.is_told()).unwrap_or(RunError::Lost(lost)));
        }
        self.begun.push_back(query.results);
        Ok(())
    }

    /// Reads what those queries answer that were begun first, until no more than `but` are left. If one failed, also what the
    /// others answer, whatever that is.
    pub async fn finish(&mut self, but: usize) -> Result<(), RunError> {
        while self.begun.len() > but {
            let Some(results) = self.begun.pop_front() else { break };
            if let Err(error) = self.answers(results).await {
                if error.is_told() {
                    // It counts, also where the connection breaks now.
                    let _ = self.drain().await;
                }
                return Err(error);
            }
        }
        Ok(())
    }

    async fn drain(&mut self) -> Result<(), RunError> {
        while let Some(results) = self.begun.pop_front() {
            match self.answers(results).await {
                Ok(()) | Err(RunError::Server { .. }) => {}
                lost => return lost,
            }
        }
        Ok(())
    }

    async fn answers(&mut self, results: usize) -> Result<(), RunError> {
        let began = Instant::now();
        let rest = self.pace.rest(results);
        if let Some(rest) = rest {
            self.wire.rest(rest);
        }
        let mut had_to_wait = rest.is_none();
        for index in 0..results {
            had_to_wait |= index > 0 && !self.wire.has_input();
            match self.wire.reply().await.map_err(RunError::Lost)? {
                Reply::Error(error) => {
                    let (code, state, message) = (error.code, error.state, error.message);
                    return Err(RunError::Server { index, code, state, message });
                }
                Reply::Done(_) | Reply::Rows { .. } if index + 1 < results => self.wire.expect_more(),
                Reply::Done(_) | Reply::Rows { .. } => {}
            }
        }
        self.pace.learn(began.elapsed(), results, had_to_wait);
        Ok(())
    }

    /// Runs one SELECT and answers its first row, NULL and what is no UTF-8 as an empty text.
    pub async fn row(&mut self, query: &str) -> Result<Vec<String>, RunError> {
        self.wire.send(command::QUERY, query.as_bytes()).await.map_err(RunError::Lost)?;
        match self.wire.reply().await.map_err(RunError::Lost)? {
            Reply::Error(error) => {
                let (code, state, message) = (error.code, error.state, error.message);
                Err(RunError::Server { code, state, message, index: 0 })
            }
            Reply::Done(_) => Ok(Vec::new()),
            Reply::Rows { rows, .. } => {
                let text = |value: Option<Vec<u8>>| String::from_utf8(value.unwrap_or_default());
                let first = rows.into_iter().next().unwrap_or_default();
                Ok(first.into_iter().map(|value| text(value).unwrap_or_default()).collect())
            }
        }
    }

    /// Says good-bye, so that the server's log shows no aborted connection.
    pub async fn close(mut self) {
        // A server that is gone needs none.
        let _ = self.wire.send(command::QUIT, &[]).await;
    }
}

/// How long a statement takes of late. By it a batch is left alone until most of its answers are there: each that
/// is waited for wakes this process, and where it shares the server's processors that is a fifth of them.
#[derive(Debug, Default)]
struct Pace(Duration);

impl Pace {
    /// For how long there is no need to look for so many answers; a little less than they are expected to take.
    fn rest(&self, results: usize) -> Option<Duration> {
        let rest = self.0.saturating_mul(u32::try_from(results).unwrap_or(u32::MAX)) * 4 / 5;
        (results >= MANY && rest >= WORTH_A_REST).then_some(rest.min(LONGEST_REST))
    }

    /// Who did not have to wait after a rest has slept too long, and does not know by how much.
    fn learn(&mut self, took: Duration, results: usize, had_to_wait: bool) {
        if results < MANY {
            return;
        }
        let one = took / u32::try_from(results).unwrap_or(u32::MAX);
        self.0 = match had_to_wait {
            true => one,
            false => self.0.min(one) * 3 / 4,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_connection_rests_a_little_less_than_its_last_batch_took() {
        let mut pace = Pace::default();
        assert_eq!(pace.rest(96), None);
        pace.learn(20 * MS, 100, true);
        assert_eq!(pace.rest(100), Some(16 * MS));
        assert_eq!(pace.rest(16), None, "not worth it");
        assert_eq!(pace.rest(10_000), Some(LONGEST_REST));
    }

    /// Large pieces come one by one, and each is waited for.
    #[test]
    fn few_answers_are_waited_for_and_nothing_is_learnt_from_them() {
        let mut pace = Pace::default();
        pace.learn(100 * MS, 1, true);
        assert_eq!(pace.rest(96), None);
        pace.learn(20 * MS, 20, true);
        assert_eq!(pace.rest(1), None);
    }

    #[test]
    fn who_slept_too_long_sleeps_less_each_time_until_he_has_to_wait() {
        let mut pace = Pace::default();
        pace.learn(40 * MS, 100, true);
        let mut last = pace.rest(100).unwrap();
        for _ in 0..3 {
            pace.learn(last + MS, 100, false);
            let rest = pace.rest(100).unwrap();
            assert!(rest < last);
            last = rest;
        }
        pace.learn(12 * MS, 100, true);
        assert_eq!(pace.rest(100), Some(12 * MS * 4 / 5));
    }
}
