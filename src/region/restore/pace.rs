//! Who goes first: the stream, or a restore that loads beside it.
//!
//! Loading keeps every core of a small server busy. While a pass of apply is at work, all loading connections but the
//! first stand still between two statements, so healthy tables stay as fresh as they are without a restore; the
//! first goes on, so a stream that is never idle cannot starve a restore. What cannot stand still (the check of the rows,
//! the keys) keeps to one core then: `Loader::is_beside`.

use tokio::sync::watch;

/// Whether the stream is at work.
#[derive(Debug)]
pub struct Pace {
    at_work: watch::Sender<bool>,
}

/// The stream is at work as long as this lives.
pub struct AtWork<'a>(&'a Pace);

impl Default for Pace {
    fn default() -> Self {
        Self { at_work: watch::Sender::new(false) }
    }
}

impl Pace {
    /// A pass begins.
    pub fn stream_works(&self) -> AtWork<'_> {
        self.at_work.send_replace(true);
        AtWork(self)
    }

    /// Resolves when loading connection `number` may send its next statement.
    pub async fn turn(&self, number: usize) {
        if number > 0 {
            // The sender lives as long as `self`, so this cannot fail.
            let _ = self.at_work.subscribe().wait_for(|at_work| !at_work).await;
        }
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.at_work.send_replace(false);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn while_the_stream_works_only_the_first_connection_goes_on() {
        let pace = Pace::default();
        pace.turn(3).await;
        let at_work = pace.stream_works();
        pace.turn(0).await;
        let waits = tokio::time::timeout(Duration::from_millis(20), pace.turn(1)).await;
        assert!(waits.is_err(), "the second connection did not wait");
        let (_, ()) = tokio::join!(pace.turn(1), async { drop(at_work) });
    }
}
