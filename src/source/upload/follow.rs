//! `upload --follow`: reads for ever, and decides when a segment is cut.
//!
//! `upload.interval` is the least time between two cuts. What comes after a quiet time is shipped at once; what comes
//! sooner waits until the interval is over, and goes out with everything that came until then. So a source that is
//! written to now and then is as fresh as the store is fast, and a busy one costs no more than an object at each interval.

use std::time::Duration;

use mysql_async::Conn;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::{Options, learn, open_reader, take};
use crate::binlog::gtid::GtidSet;
use crate::error::{Error, Kind, Result};
use crate::source::check::Checks;
use crate::source::dump::Desk;
use crate::source::moment::{self, Moment};
use crate::source::pass::{Pass, Tools};
use crate::source::passed_over::Net;
use crate::source::primacy::Primacy;
use crate::source::{failover, gap, preflight, standstill};

/// How often the source is looked at, if the interval is shorter: each look is some queries.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often the filters of a replica are, if the interval is shorter.
const FILTERS_EVERY: Duration = Duration::from_millis(900);
/// How often it is looked at whether another server's transactions come, of the set or not.
const WRITERS_EVERY: Duration = Duration::from_secs(60);
/// How often it is said that the source stands still.
const TELL_STANDSTILL: Duration = Duration::from_secs(60);
/// After a cut, so long is left for reading at most, if the interval is shorter.
const LONGEST_BREATH: Duration = Duration::from_secs(5);
/// A run with nothing to ship has worked when it has stood for so long: the source ends a connection whose server_id another
/// client has a moment after it was made.
const STEADY: Duration = Duration::from_secs(3);
/// A segment stays open for so long at least: commits that belong together go out together.
const GATHER: Duration = Duration::from_millis(2);
const SHORTEST: Duration = Duration::from_millis(10);

/// When the segment under way is to be cut.
struct Cuts {
    every: Duration,
    /// Not before.
    next: Option<Instant>,
    /// Since when there is something to cut.
    since: Option<Instant>,
}

impl Cuts {
    /// Something is there to be cut, or is no more.
    fn note(&mut self, is_open: bool, now: Instant) {
        self.since = is_open.then(|| self.since.unwrap_or(now));
    }

    /// `None`: there is nothing to cut.
    fn due(&self) -> Option<Instant> {
        let gathered = self.since? + GATHER;
        Some(self.next.map_or(gathered, |next| gathered.max(next)))
    }

    /// One was cut and shipped. With a slow store as much time is left for reading: a source that writes faster than that
    /// is never caught up with otherwise. But a store that stood still for once does not make the next commits wait as long.
    fn cut(&mut self, began: Instant, now: Instant) {
        let breath = (now - began).min(self.every.max(LONGEST_BREATH));
        let next = (began + self.every).max(now + breath);
        (self.next, self.since) = (Some(next), None);
    }
}

/// Reads for ever; ships what has come.
pub(super) async fn follow(
    tools: Tools<'_>,
    options: &Options,
    desk: &Desk,
    conn: &mut Conn,
    pass: &mut Pass<'_>,
    (moment, net): (Moment, &mut Net),
) -> Result<()> {
    let server = tools.config.mysql.to_string();
    let mut reader = open_reader(tools, pass, true).await?;
    let every = tools.config.upload.interval.max(SHORTEST);
    let mut cuts = Cuts { every, next: None, since: None };
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watch = Watch {
        lacked: moment.lacks.clone(),
        good: pass.covered.union(&moment.executed),
        primacy: Primacy::of(&moment),
        // That has been said at the start.
        told: standstill::told(&moment, &server).map(|_| Instant::now()),
        awaited: Some(moment),
        looked: Instant::now(),
        filters: Instant::now(),
        writers: Instant::now(),
        net,
        began: Instant::now(),
        has_caught_up: false,
    };
    let puts = pass.report.puts;
    let mut checks = Checks::default();
    loop {
        // What has come in one piece, without a look at anything else.
        if let Some(incoming) = reader.ready() {
            take(pass, conn, incoming).await?;
            continue;
        }
        cuts.note(pass.is_open(), Instant::now());
        let due = cuts.due();
        let incoming = tokio::select! {
            biased;
            () = options.stop.cancelled() => return pass.finish().await,
            // Before the events: a source that writes without a pause does not put it off.
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                let began = Instant::now();
                learn(conn, &server, pass).await?;
                pass.finish().await?;
                cuts.cut(began, Instant::now());
                pass.attend(desk).await?;
                continue;
            }
            _ = tick.tick() => {
                watch.on_tick(conn, &server, pass).await?;
                pass.attend(desk).await?;
                checks.run(tools, &options.stop, conn, pass, Some(&mut reader)).await?;
                // That it has begun proves nothing: what has ended the stretch of work before this one may be further on.
                if pass.report.puts > puts || watch.stands() {
                    pass.report.worked(tools.clock.now());
                    options.notice.worked().await;
                }
                continue;
            }
            incoming = reader.next() => incoming?,
        };
        let Some(incoming) = incoming else {
            return Err(Error::new(
                Kind::Mysql,
                format!("read {server}: the source ended the binlog connection"),
            )
            .hint("the source's error log says why; another client may use the same server_id"));
        };
        take(pass, conn, incoming).await?;
    }
}

/// What a following run keeps an eye on.
struct Watch<'a> {
    /// Awaited until everything that the source had executed then has been read.
    awaited: Option<Moment>,
    /// What the stream has shipped and the source did not have when the run began.
    lacked: GtidSet,
    /// Executed before the filters were last seen to let everything in.
    good: GtidSet,
    /// When that was.
    filters: Instant,
    /// When it was seen last who made what the source executes.
    writers: Instant,
    /// When the source was looked at last.
    looked: Instant,
    /// Whether a source without a channel is the primary.
    primacy: Primacy,
    /// When it was last said that the source stands still, if it does.
    told: Option<Instant>,
    net: &'a mut Net,
    began: Instant,
    /// Once, with nothing left open.
    has_caught_up: bool,
}

impl Watch<'_> {
    /// At every interval: find out until when the stream is complete, and that it is; write down what no segment brings.
    async fn on_tick(&mut self, conn: &mut Conn, server: &str, pass: &mut Pass<'_>) -> Result<()> {
        let covered = self.awaited.take_if(|moment| moment.executed.is_subset(&pass.covered));
        let is_covered = covered.is_some();
        if let Some(moment) = covered {
            pass.complete_until(moment.complete_until);
            self.net.hold(conn, server, &pass.tip.head, &pass.covered).await?;
        }
        if self.awaited.is_none() && self.looked.elapsed() >= LOOK_EVERY {
            self.looked = Instant::now();
            self.net.look(conn, server, &pass.tip.head, pass.report).await?;
            let mut moment = moment::look(conn, server).await?;
            preflight::mode(&moment, server)?;
            if self.filters.elapsed() >= FILTERS_EVERY {
                gap::check(pass.tools, pass.lock, pass.tip, conn, &moment, &self.good).await?;
                self.good.clone_from(&moment.executed);
                self.filters = Instant::now();
            }
            if self.writers.elapsed() >= WRITERS_EVERY {
                // Without what it lacks, which this run knows of.
                if let Some(said) = failover::check(pass.tools, &moment, &pass.tip.head).await? {
                    tracing::warn!("{said}");
                }
                self.writers = Instant::now();
            }
            moment.lacks = self.lacked.difference(&moment.executed);
            self.primacy.judge(pass.tools.config, &mut moment).await;
            pass.report.backlog(moment.executed.difference(&pass.covered).count());
            moment.hold_time();
            self.tell_standstill(&moment, server);
            self.awaited = Some(moment);
        }
        if !pass.is_open() {
            learn(conn, server, pass).await?;
            pass.finish().await?;
        }
        // What is open is cut when that is due.
        self.has_caught_up |= is_covered && !pass.is_open();
        Ok(())
    }

    /// Everything that the source had executed has been read and is where it belongs, and the connections hold.
    fn stands(&self) -> bool {
        self.has_caught_up && self.began.elapsed() >= STEADY
    }

    /// A run that follows would be silent for ever: nothing comes, and nothing fails.
    fn tell_standstill(&mut self, moment: &Moment, server: &str) {
        let Some(what) = standstill::told_with_way_out(moment, server) else {
            if self.told.take().is_some() {
                tracing::info!("{server}: its replication runs again");
            }
            return;
        };
        if self.told.is_none_or(|told| told.elapsed() >= TELL_STANDSTILL) {
            tracing::warn!("{what}");
            self.told = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_change_goes_out_at_once_and_the_next_when_the_interval_is_over() {
        let every = Duration::from_secs(1);
        let began = Instant::now();
        let after = |seconds: u64| began + Duration::from_secs(seconds);
        let mut cuts = Cuts { every, next: None, since: None };
        cuts.note(false, began);
        assert_eq!(cuts.due(), None);
        cuts.note(true, began);
        cuts.note(true, began + GATHER / 2);
        assert_eq!(cuts.due(), Some(began + GATHER), "more of it puts nothing off");
        cuts.cut(began, began + GATHER);
        cuts.note(true, began + GATHER);
        assert_eq!(cuts.due(), Some(after(1)));
        cuts.note(false, after(1));
        assert_eq!(cuts.due(), None, "cut by its size meanwhile");
        cuts.note(true, after(5));
        assert_eq!(cuts.due(), Some(after(5) + GATHER), "after a quiet time");
        cuts.cut(after(6), after(9));
        cuts.note(true, after(9));
        assert_eq!(cuts.due(), Some(after(12)), "a slow store leaves time for reading");
    }

    #[test]
    fn after_a_stall_of_the_store_the_next_cut_is_not_as_far_away_as_the_stall_was_long() {
        let began = Instant::now();
        let after = |seconds: u64| began + Duration::from_secs(seconds);
        for (every, next) in [(1, 605), (30, 630)] {
            let mut cuts = Cuts { every: Duration::from_secs(every), next: None, since: None };
            cuts.cut(began, after(600));
            cuts.note(true, after(600));
            assert_eq!(cuts.due(), Some(after(next)), "every {every} s");
        }
    }
}
