//! How much the service lets itself be asked: by one token, by all of them, and by those who have none.
//!
//! The token's own limit is looked at first and is far below the common one: a region that runs wild runs into
//! its own limit, and the others do not notice. Wrong tokens have a limit of their own, so that they can neither be
//! tried out at speed nor use up what the right ones need.
//!
//! Who waits for news asks as often as the stream moves, and costs the store nothing: that is counted apart.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, NotUntil, Quota, RateLimiter};

use super::problem::Problem;

const fn number(number: u32) -> NonZeroU32 {
    match NonZeroU32::new(number) {
        Some(number) => number,
        None => NonZeroU32::MIN,
    }
}

/// Requests of one token: so many a second, and at once.
pub const PER_TOKEN: (NonZeroU32, NonZeroU32) = (number(20), number(60));
/// Requests with any token.
pub const TOTAL: (NonZeroU32, NonZeroU32) = (number(200), number(400));
/// Requests without a valid token.
pub const WRONG: (NonZeroU32, NonZeroU32) = (number(20), number(100));

/// Requests of one token that wait for news: they may come at each segment.
pub const NEWS_PER_TOKEN: (NonZeroU32, NonZeroU32) = (number(40), number(120));
/// And with any token.
pub const NEWS: (NonZeroU32, NonZeroU32) = (number(4_000), number(8_000));
/// So many of one token wait at once: a region has one, and the rest of one whose connection broke.
pub const WAITING_PER_TOKEN: usize = 16;

/// Tokens come and go with the file; the limits of those that went are forgotten from this number on.
const MANY_TOKENS: usize = 1_000;

pub struct Limits {
    per_token: DefaultKeyedRateLimiter<String>,
    total: DefaultDirectRateLimiter,
    wrong: DefaultDirectRateLimiter,
    news_per_token: DefaultKeyedRateLimiter<String>,
    news: DefaultDirectRateLimiter,
    waiting: Mutex<HashMap<String, usize>>,
    clock: DefaultClock,
}

fn quota((rate, burst): (NonZeroU32, NonZeroU32)) -> Quota {
    Quota::per_second(rate).allow_burst(burst)
}

impl Limits {
    pub fn new() -> Limits {
        Limits {
            per_token: RateLimiter::keyed(quota(PER_TOKEN)),
            total: RateLimiter::direct(quota(TOTAL)),
            wrong: RateLimiter::direct(quota(WRONG)),
            news_per_token: RateLimiter::keyed(quota(NEWS_PER_TOKEN)),
            news: RateLimiter::direct(quota(NEWS)),
            waiting: Mutex::default(),
            clock: DefaultClock::default(),
        }
    }

    /// Counts a request with the token of this name.
    pub fn token(&self, name: &str) -> Result<(), Problem> {
        let says = ["this token has asked too often", "the service is asked too often"];
        self.count(&self.per_token, &self.total, name, says)
    }

    /// Counts a request for news with the token of this name.
    pub fn news(&self, name: &str) -> Result<(), Problem> {
        let says = ["this token asks for news too often", "the service is asked for news too often"];
        self.count(&self.news_per_token, &self.news, name, says)
    }

    /// One more of this token, and of all; what each says when it is too much.
    fn count(
        &self,
        per_token: &DefaultKeyedRateLimiter<String>,
        total: &DefaultDirectRateLimiter,
        name: &str,
        [by_token, by_all]: [&'static str; 2],
    ) -> Result<(), Problem> {
        if per_token.len() > MANY_TOKENS {
            per_token.retain_recent();
        }
        per_token.check_key(&name.to_owned()).map_err(|until| self.refuse(&until, by_token))?;
        total.check().map_err(|until| self.refuse(&until, by_all))
    }

    /// One more request of this token that waits; as long as the answer is kept.
    pub fn wait(&self, name: &str) -> Result<Waiting<'_>, Problem> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.entry(name.to_owned()).or_insert(0);
        if *count >= WAITING_PER_TOKEN {
            let why = format!("{WAITING_PER_TOKEN} requests with this token wait already");
            return Err(Problem::new("too-many-requests", why).hint("one is enough").retry_after(5));
        }
        *count += 1;
        Ok(Waiting { limits: self, name: name.to_owned() })
    }

    /// Counts a request without a valid token.
    pub fn wrong(&self) -> Result<(), Problem> {
        self.wrong
            .check()
            .map_err(|until| self.refuse(&until, "too many requests came without a valid token"))
    }

    fn refuse(&self, until: &NotUntil<<DefaultClock as Clock>::Instant>, why: &str) -> Problem {
        let wait = until.wait_time_from(self.clock.now());
        // Rounded up: whoever comes back then is let in.
        let seconds = (wait + Duration::from_millis(999)).as_secs().max(1);
        Problem::new("too-many-requests", why)
            .hint(format!("wait {seconds} s, as Retry-After says"))
            .retry_after(seconds)
    }
}

/// A request that waits.
pub struct Waiting<'a> {
    limits: &'a Limits,
    name: String,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self.limits.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = waiting.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.name);
            }
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_runs_wild_leaves_the_others_alone() {
        let limits = Limits::new();
        let let_in = (0..1_000).filter(|_| limits.token("wild").is_ok()).count();
        assert!((60..100).contains(&let_in), "{let_in}");
        for _ in 0..60 {
            limits.token("calm").expect("another token");
        }
        let refused = limits.token("wild").expect_err("too many");
        assert_eq!(refused.status, 429);
        assert!((0..1_000).filter(|_| limits.wrong().is_ok()).count() < 150);
        assert!(limits.token("calmer").is_ok());
    }

    #[test]
    fn who_waits_for_news_does_not_use_up_what_other_requests_need() {
        let limits = Limits::new();
        assert!((0..1_000).filter(|_| limits.news("wild").is_ok()).count() >= 120);
        assert!(limits.token("wild").is_ok() && limits.news("calm").is_ok());
        let held: Vec<_> = (0..WAITING_PER_TOKEN).map(|_| limits.wait("wild").expect("one more")).collect();
        assert_eq!(limits.wait("wild").err().expect("too many").status, 429);
        assert!(limits.wait("calm").is_ok());
        drop(held);
        assert!(limits.wait("wild").is_ok() && limits.waiting.lock().expect("no panic").is_empty());
    }
}
