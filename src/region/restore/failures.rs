//! What becomes of a restore that fails: how far it is thrown back, and when it is tried again.
//!
//! Up to the RENAME a dump that does not fit costs the shadows, and what no other dump mends costs a try. From the
//! RENAME on there is only forward, and the stream waits with it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use mysql_async::Conn;

use super::engine::{BLOCKED, Engine, FIRST_PAUSE, INLINE_PATIENCE, LONGEST_BLOCKED, LONGEST_PAUSE, Pause};
use super::journal::{self, Restore, State};
use super::{needs, swap};
use crate::error::{chain, chain_and_hint};
use crate::region::apply::pass::Region;
use crate::{Error, Kind, Result};

impl Engine<'_> {
    /// Drops the shadows of a load that was cut short. They may be what has filled the disk, and then no pass would go
    /// well enough for the next attempt, which drops them too, to be made.
    pub(super) async fn clear(&self, restore: &Restore) {
        let cleared = async {
            let shapes = self.shapes(restore)?;
            self.loader(Arc::default(), false).clear(&shapes, INLINE_PATIENCE).await
        };
        if let Err(error) = cleared.await {
            tracing::debug!(restore = restore.id, %error, "shadow tables of a killed run stay for now");
        }
    }

    /// What the tables tell about a swap that was cut short: finishes it, or has it tried again.
    pub(super) async fn settle_swap(&mut self, region: &mut Region<'_>, restore: &mut Restore) -> Result<()> {
        let shapes = self.shapes(restore)?;
        // A session that was lost may still be at its RENAME. Whoever has its lock knows that it is not.
        let mut definer = self.definer(region).await?;
        if swap::has_happened(region.control(), &shapes).await? {
            tracing::info!(restore = restore.id, "finishing the swap of {}", restore.names());
            return self.finish(region, &mut definer, restore, &shapes).await;
        }
        restore.state = State::Loaded;
        journal::update(region.control(), restore).await
    }

    /// A swap that cannot be settled now. The row stays `swapping`, and the stream waits with it.
    pub(super) async fn left_swapping(
        &mut self,
        conn: &mut Conn,
        restore: &mut Restore,
        error: &Error,
    ) -> Result<()> {
        let text = chain(error);
        restore.attempts += 1;
        let pause = self.pause(restore.id, BLOCKED, LONGEST_BLOCKED);
        let what = self.with_next_try(restore, error, pause);
        restore.message = Some(format!("the stream waits for the end of its swap: {what}"));
        journal::update(conn, restore).await?;
        tracing::error!(
            restore = restore.id,
            hint = error.hint_text(),
            "the swap of {} is not at its end, and the stream waits for it: {text}; next try in {} s",
            restore.names(),
            pause.as_secs()
        );
        Ok(())
    }

    /// Puts a failure down, and when to try again.
    pub(super) async fn failed(
        &mut self,
        region: &mut Region<'_>,
        restore: &mut Restore,
        error: &Error,
    ) -> Result<()> {
        let text = chain(error);
        if matches!(restore.state, State::Swapping | State::Done) {
            // How far it has come is told by the journal and the tables; from the RENAME on there is only forward.
            let name = self.config.stream.clone();
            if let Some(current) = journal::one(region.control(), &name, restore.id).await? {
                *restore = current;
            }
            if restore.state == State::Swapping {
                tracing::warn!(restore = restore.id, "the swap of {}: {text}", restore.names());
                let before = restore.clone();
                if let Err(error) = self.settle_swap(region, restore).await {
                    ends_run(&error)?;
                    *restore = before;
                    return self.left_swapping(region.control(), restore, &error).await;
                }
            }
            if restore.state.is_final() {
                self.pauses.remove(&restore.id);
                self.has_swapped = true;
                return needs::fulfil(self, region.control(), restore).await;
            }
        }
        let loaded = restore.state == State::Loaded;
        // Shadows that are good are kept, but for what another dump mends.
        let condemned = matches!(
            error.kind(),
            Kind::Drift | Kind::Corrupt | Kind::NotFound | Kind::Definition | Kind::Gate | Kind::History
        );
        if !loaded || condemned {
            // A dump that is not what it should be is not tried again.
            if matches!(error.kind(), Kind::Corrupt | Kind::NotFound | Kind::Gate | Kind::Definition)
                || loaded
            {
                restore.entry = restore.entry.next();
            }
            restore.again();
        }
        let pause = self.back_off(restore);
        restore.message = Some(self.with_next_try(restore, error, pause));
        journal::update(region.control(), restore).await?;
        tracing::warn!(
            restore = restore.id,
            hint = error.hint_text(),
            "restore {}: {text}; next try in {} s",
            restore.names(),
            pause.as_secs()
        );
        Ok(())
    }

    /// Leaves a restore alone after one more failure. How often it has failed is in its row: neither a dump that
    /// comes, nor one that is loaded, nor another run begins the count anew.
    pub(super) fn back_off(&mut self, restore: &mut Restore) -> Duration {
        restore.attempts += 1;
        let pause = pause_after(restore.attempts);
        let failures = self.pauses.get(&restore.id).map_or(0, |pause| pause.failures);
        self.pauses.insert(restore.id, Pause { until: Instant::now() + pause, failures });
        pause
    }

    /// What is read in `status` and in the journal: what is wrong, what to do, and when it is tried again.
    pub(super) fn with_next_try(&self, restore: &Restore, error: &Error, pause: Duration) -> String {
        let times = match restore.attempts {
            1 => "once".to_owned(),
            n => format!("{n} times"),
        };
        let next = self.clock.now() + TimeDelta::from_std(pause).unwrap_or_default();
        let next = next.format("%Y-%m-%d %H:%M:%S");
        format!("{}; failed {times}, next try at {next} UTC", chain_and_hint(error))
    }

    /// Leaves a restore alone for a while that waits for others, longer each time.
    pub(super) fn pause(&mut self, id: u64, first: Duration, longest: Duration) -> Duration {
        let failures = self.pauses.get(&id).map_or(0, |pause| pause.failures);
        let pause = first.saturating_mul(1 << failures.min(8)).min(longest);
        self.pauses.insert(id, Pause { until: Instant::now() + pause, failures: failures + 1 });
        pause
    }
}

pub(super) fn pause_after(failures: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(8)).min(LONGEST_PAUSE)
}

/// The run itself is at its end with these.
pub(super) fn ends_run(error: &Error) -> Result<()> {
    match error.kind() {
        kind @ (Kind::Locked | Kind::Interrupted | Kind::Terminated) => Err(Error::new(kind, chain(error))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_from_5_seconds_to_5_minutes_and_no_further() {
        let pauses: Vec<u64> = (1..=9).map(|failures| pause_after(failures).as_secs()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!((pause_after(0), pause_after(u32::MAX)), (FIRST_PAUSE, LONGEST_PAUSE));
    }
}
