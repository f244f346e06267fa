//! How a following run learns of a new head without waiting out a poll.
//!
//! Where the source's service is named, it is asked to answer when there is something new (`GET /v1/stream?after=SEQ`);
//! until it does, the bucket is left alone. Otherwise the head is looked at: soon after the last news, the less often
//! the longer nothing has come.
//!
//! The service is believed in one thing only: that it may be worth to look. What the stream holds, the head in the
//! bucket says. A service that is away, refuses, or cries wolf costs a region what it has without one; that is told
//! once, and tried again by itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::error::chain_and_hint;
use crate::region::ask::Asker;
use crate::stream::Seq;
use crate::{Error, Kind, Result};

/// The longest pause between two looks at the head. It is reached when nothing has come for twenty times as long.
const LONGEST_POLL: Duration = Duration::from_secs(5);
const SLOWLY: u32 = 20;
/// How long the service is asked to wait. Something between may cut that short: then it is asked for less.
const WAIT: Duration = Duration::from_secs(25);
const SHORTEST_WAIT: Duration = Duration::from_secs(5);
/// Pauses after failures, from the second on.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// From so many failures in a row on the service counts as away: one may be a restart.
const AWAY: u32 = 2;
/// So many times in a row it may say that there is something new where there is not.
const FALSE_ALARMS: u32 = 4;

/// What a look at the head has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Entries,
    /// The head is another, and has no entry that is new: the source tells that it is alive.
    Head,
    /// It is as it was.
    Nothing,
}

/// What ended a pause of a following run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// It is time to look at the head, or somebody says so.
    Look,
    /// The service waits for news: only what is on this machine need be looked at.
    Nearby,
}

type Asking = JoinHandle<Result<bool>>;

pub struct News {
    asker: Option<Arc<dyn Asker>>,
    poll: Duration,
    /// When something came last.
    last: Instant,
    asking: Option<(Instant, Asking)>,
    wait: Duration,
    failures: u32,
    /// Not to be asked before.
    again: Option<Instant>,
    /// That it is away has been told.
    is_told: bool,
    /// The service said that there is something new, and it has not been looked for yet.
    is_alarmed: bool,
    false_alarms: u32,
    /// How often it was left alone for that.
    wolves: u32,
}

impl News {
    pub fn new(asker: Option<Arc<dyn Asker>>, poll: Duration) -> News {
        News {
            asker,
            poll,
            last: Instant::now(),
            asking: None,
            wait: WAIT,
            failures: 0,
            again: None,
            is_told: false,
            is_alarmed: false,
            false_alarms: 0,
            wolves: 0,
        }
    }

    /// After a look at the head.
    pub fn looked(&mut self, found: Found) {
        if found == Found::Entries {
            self.last = Instant::now();
        }
        if std::mem::take(&mut self.is_alarmed) {
            if found != Found::Nothing {
                (self.false_alarms, self.wolves) = (0, 0);
                return;
            }
            self.false_alarms += 1;
            if self.false_alarms >= FALSE_ALARMS {
                self.false_alarms = 0;
                self.wolves = self.wolves.saturating_add(1);
                let why = "it says again and again that there is something new, and there is not";
                self.leave_alone(self.wolves);
                self.tell(&Error::new(Kind::Failed, why).hint(
                    "is `tablecast serve` there of this version, and of the same store? does something between keep its answers?",
                ));
            }
        }
    }

    /// Has the service tell when there is something behind `after`, unless it has been asked or is away. Says how long to
    /// pause until then, at most, and what to do after that.
    pub fn pause(&mut self, after: u64) -> (Duration, Woken) {
        let may_ask = self.again.is_none_or(|again| again <= Instant::now());
        if let Some(asker) = self.asker.as_ref().filter(|_| self.asking.is_none() && may_ask) {
            let (asker, wait) = (asker.clone(), self.wait);
            let asking = tokio::spawn(async move { asker.news(Seq(after), wait).await });
            self.asking = Some((Instant::now(), asking));
        }
        match self.asking {
            // One that has failed is asked beside the usual looks until it answers.
            Some(_) if self.failures == 0 && self.wolves == 0 => (LONGEST_POLL, Woken::Nearby),
            _ => (self.poll(), Woken::Look),
        }
    }

    /// How long to pause where nobody tells.
    pub fn poll(&self) -> Duration {
        (self.last.elapsed() / SLOWLY).clamp(self.poll, LONGEST_POLL.max(self.poll))
    }

    /// Returns when the service has answered, in whatever way; never, if it is not asked.
    pub async fn heard(&mut self) {
        let Some((since, asking)) = &mut self.asking else { return std::future::pending().await };
        let answer = asking.await;
        let waited = since.elapsed();
        self.asking = None;
        let error = match answer {
            Ok(Ok(false)) if waited < self.wait / 2 => {
                // A service that is ended does so once; asked again at once, and again, it would be without an end.
                Error::new(
                    Kind::Failed,
                    "ask the source's service: it says \"nothing new\" without waiting for it",
                )
                .hint("does something between answer in its place? is source_url the service of tablecast?")
            }
            Ok(Ok(is_new)) => {
                self.is_alarmed = is_new;
                return self.answered();
            }
            Ok(Err(error)) => error,
            Err(error) => Error::new(Kind::Failed, "ask the source's service").caused_by(error),
        };
        if waited > SHORTEST_WAIT {
            // Something between gives up sooner than the service does, or the service was ended.
            self.wait = (waited / 2).clamp(SHORTEST_WAIT, WAIT);
        }
        self.failed(&error);
    }

    fn answered(&mut self) {
        (self.failures, self.again) = (0, None);
        self.wait = (self.wait + Duration::from_secs(1)).min(WAIT);
        // What it says may be wrong.
        if self.wolves == 0 && std::mem::take(&mut self.is_told) {
            tracing::info!("the source's service answers again: it tells when there is something new");
        }
    }

    fn failed(&mut self, error: &Error) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= AWAY {
            self.leave_alone(self.failures - AWAY);
        }
        // A token or a certificate does not mend itself.
        if self.failures >= AWAY || matches!(error.kind(), Kind::Denied | Kind::Usage) {
            self.tell(error);
        }
    }

    fn leave_alone(&mut self, times: u32) {
        let pause = FIRST_PAUSE * 2u32.saturating_pow(times.min(5));
        self.again = Some(Instant::now() + pause.min(LONGEST_PAUSE));
    }

    fn tell(&mut self, error: &Error) {
        if !self.is_told {
            self.is_told = true;
            tracing::warn!(
                "the source's service does not tell when there is something new: {}. Apply goes on, and looks at the \
                 bucket every {} ms to {} s",
                chain_and_hint(error),
                self.poll.as_millis(),
                LONGEST_POLL.as_secs()
            );
        }
    }
}

impl Drop for News {
    fn drop(&mut self) {
        if let Some((_, asking)) = &self.asking {
            asking.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::binlog::name::TableName;
    use crate::region::ask::Asked;
    use crate::stream::RegionReport;

    /// Answers at once, and counts how often it is asked.
    struct Prompt {
        answer: fn() -> Result<bool>,
        asked: AtomicUsize,
    }

    #[async_trait]
    impl Asker for Prompt {
        async fn ask(&self, _: &BTreeSet<TableName>, _: &str, _: &str) -> Result<Asked> {
            Err(Error::new(Kind::Failed, "not here"))
        }

        async fn report(&self, _: &RegionReport) -> Result<()> {
            Ok(())
        }

        async fn news(&self, _: Seq, _: Duration) -> Result<bool> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            (self.answer)()
        }
    }

    const POLL: Duration = Duration::from_millis(200);

    fn of(answer: fn() -> Result<bool>) -> (Arc<Prompt>, News) {
        let prompt = Arc::new(Prompt { answer, asked: AtomicUsize::new(0) });
        (prompt.clone(), News::new(Some(prompt), POLL))
    }

    #[test]
    fn without_a_service_the_looks_become_rarer_up_to_a_bound() {
        let mut news = News::new(None, POLL);
        assert_eq!(news.pause(7), (POLL, Woken::Look));
        for (seconds, pause) in [(4, 200), (40, 2_000), (100, 5_000), (10_000, 5_000)] {
            let Some(last) = Instant::now().checked_sub(Duration::from_secs(seconds)) else { continue };
            news.last = last;
            let found = news.pause(7).0;
            assert!(found.as_millis().abs_diff(pause) < 50, "{seconds} s: {found:?}");
        }
        news.looked(Found::Head);
        assert_ne!(news.pause(7).0, POLL, "that the source is alive is no reason to look more often");
        news.looked(Found::Entries);
        assert_eq!(news.pause(7).0, POLL);
    }

    #[tokio::test]
    async fn a_service_that_fails_is_left_alone_for_longer_and_longer() {
        let (prompt, mut news) = of(|| Err(Error::new(Kind::Failed, "no answer")));
        for _ in 0..2 {
            news.pause(7);
            news.heard().await;
            news.looked(Found::Nothing);
        }
        assert!(news.is_told);
        for _ in 0..100 {
            assert_eq!(news.pause(7).1, Woken::Look);
            assert!(news.asking.is_none());
        }
        assert_eq!(prompt.asked.load(Ordering::Relaxed), 2);
        for _ in 0..20 {
            news.failed(&Error::new(Kind::Failed, "no answer"));
        }
        assert!(news.again.expect("a pause") <= Instant::now() + LONGEST_PAUSE);
    }

    #[tokio::test]
    async fn a_service_that_cries_wolf_is_not_believed_for_long() {
        let (prompt, mut news) = of(|| Ok(true));
        for _ in 0..100 {
            news.pause(7);
            if news.asking.is_some() {
                news.heard().await;
            }
            news.looked(Found::Nothing);
        }
        let asked = prompt.asked.load(Ordering::Relaxed);
        assert!(asked < 20, "{asked}");
        assert!(news.again.is_some() && news.is_told);
    }

    /// An idle stream: its head is written once a minute.
    #[tokio::test]
    async fn a_head_without_entries_is_no_false_alarm() {
        let (_, mut news) = of(|| Ok(true));
        for _ in 0..3 * FALSE_ALARMS {
            news.pause(7);
            news.heard().await;
            news.looked(Found::Head);
        }
        assert!(!news.is_told && news.again.is_none());
        assert_eq!((news.false_alarms, news.wolves), (0, 0));
        assert_eq!(news.pause(7), (LONGEST_POLL, Woken::Nearby), "the bucket is left alone as before");
    }

    #[tokio::test]
    async fn who_says_at_once_that_nothing_is_new_is_not_asked_without_an_end() {
        let (prompt, mut news) = of(|| Ok(false));
        for _ in 0..100 {
            news.pause(7);
            if news.asking.is_some() {
                news.heard().await;
            }
            news.looked(Found::Nothing);
        }
        let asked = prompt.asked.load(Ordering::Relaxed);
        assert!(asked < 20, "{asked}");
        assert!(news.again.is_some() && news.is_told);
    }

    #[tokio::test]
    async fn one_failure_is_neither_told_nor_waited_out() {
        let (_, mut news) = of(|| Err(Error::new(Kind::Failed, "a proxy gave up")));
        news.pause(7);
        news.heard().await;
        assert!(!news.is_told && news.again.is_none());
        news.pause(7);
        assert!(news.asking.is_some());
    }
}
