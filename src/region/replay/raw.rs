//! Statements as bytes, their results counted by the caller.
//!
//! `BINLOG`'s OK does not say that more results follow, so a client that goes by the flag stops reading in the
//! middle of a query. Here the caller says how many results its query has; the server stops at the first statement
//! that fails and answers nothing behind it.

use std::time::{Duration, Instant};

use crate::config::MysqlConfig;
use crate::mysql::wire::{Reply, Wire, command};
use crate::{Error, Result};

const WORTH_A_REST: Duration = Duration::from_millis(4);
const LONGEST: Duration = Duration::from_millis(50);

/// A connection whose session is the caller's business.
pub struct RawConnection {
    wire: Wire,
    /// How long an answer takes to come, of late.
    pace: Duration,
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

impl RawConnection {
    pub async fn connect(config: &MysqlConfig) -> Result<Self> {
        Ok(Self { wire: Wire::connect(config).await?, pace: Duration::ZERO })
    }

    /// Runs one query of `results` statements. Rows are read and thrown away.
    pub async fn run(&mut self, query: &[u8], results: usize) -> Result<(), RunError> {
        if results == 0 {
            return Ok(());
        }
        self.wire.send(command::QUERY, query).await.map_err(RunError::Lost)?;
        let began = Instant::now();
        let rest = self.pace * results as u32;
        let rested = rest >= WORTH_A_REST;
        if rested {
            self.wire.rest(rest.min(LONGEST));
        }
        let mut first_look = 0;
        for index in 0..results {
            if index > 0 && first_look == 0 && !self.wire.has_input() {
                first_look = index;
            }
            match self.wire.reply().await.map_err(RunError::Lost)? {
                Reply::Error(error) => {
                    let (code, state, message) = (error.code, error.state, error.message);
                    return Err(RunError::Server { index, code, state, message });
                }
                Reply::Done(_) | Reply::Rows { .. } if index + 1 < results => self.wire.expect_more(),
                Reply::Done(_) | Reply::Rows { .. } => {}
            }
        }
        self.pace = self.paced(began.elapsed() / results as u32, rested && first_look == 0);
        Ok(())
    }

    fn paced(&self, took: Duration, overslept: bool) -> Duration {
        match overslept {
            true => self.pace.min(took) * 3 / 4,
            false => took * 4 / 5,
        }
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
