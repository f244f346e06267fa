//! What becomes of a run's failure: it is kept for `status`, and the hook is told, not more often than somebody wants to be
//! woken. And of a success: what was kept goes, and who was told of the failure is told of its end.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::hook;
use super::output::SCHEMA_VERSION;
use super::person::host;
use crate::clock::Clock;
use crate::config::{Config, Role};
use crate::error::{Error, Kind, chain};
use crate::failure::{self, Failure, Kept, Listener};
use crate::region;

/// The hook is told of the same kind of failure again after so long.
const REMIND: TimeDelta = TimeDelta::hours(1);
/// A region's server is told of the same failure again after so long.
const RECORD: TimeDelta = TimeDelta::seconds(60);
/// A run that follows and tries again by itself: one or two failures in a row are nothing unusual.
const IN_A_ROW: u32 = 3;

/// A region's server has so long to take note of a failure: it may be what has failed.
const RECORD_LIMIT: Duration = Duration::from_secs(5);
/// So many runs of this process tell their servers at once, and so long one waits for its turn.
const RECORDS: usize = 8;
const RECORD_TURN: Duration = Duration::from_secs(15);

static RECORDING: Semaphore = Semaphore::const_new(RECORDS);

/// Of one run.
pub struct Ledger(Arc<Book>);

struct Book {
    config: Config,
    clock: Arc<dyn Clock>,
    job: &'static str,
    run: String,
    path: PathBuf,
    /// The process is to end.
    stop: CancellationToken,
    /// Failures since it last worked.
    in_a_row: AtomicU32,
    /// Nothing is kept: a success has nothing to do.
    is_clean: AtomicBool,
    /// What stands though the run works, and when it was last put down.
    stands: std::sync::Mutex<Option<(String, DateTime<Utc>)>>,
    /// One at a time.
    at_work: Arc<Mutex<()>>,
}

impl Ledger {
    pub fn new(
        config: &Config,
        clock: Arc<dyn Clock>,
        job: &'static str,
        run: &str,
        stop: CancellationToken,
    ) -> Self {
        Self(Arc::new(Book {
            path: failure::file(config, job),
            config: config.clone(),
            clock,
            job,
            run: run.to_owned(),
            stop,
            in_a_row: AtomicU32::new(0),
            is_clean: AtomicBool::new(false),
            stands: std::sync::Mutex::default(),
            at_work: Arc::default(),
        }))
    }

    /// The run has ended.
    pub async fn ended(&self, failure: Option<&Error>) {
        let _one = self.0.at_work.lock().await;
        match failure {
            None => self.0.works().await,
            Some(error) if self.0.concerns(error.kind()) => self.0.note(self.0.failure(error)).await,
            Some(_) => {}
        }
    }

    /// Waits until what the run has been heard of is told.
    pub async fn settle(&self) {
        drop(self.0.at_work.lock().await);
    }

    /// Beside the run, which may hold locks, and does not wait for a hook. While it is at work nothing more is begun: what goes
    /// on will be said again. Whether it has been begun.
    fn beside<F: Future<Output = ()> + Send>(
        &self,
        tell: impl FnOnce(Arc<Book>) -> F + Send + 'static,
    ) -> bool {
        let Ok(one) = self.0.at_work.clone().try_lock_owned() else { return false };
        let book = self.0.clone();
        let task = async move {
            tell(book).await;
            drop(one);
        };
        tokio::spawn(task.in_current_span());
        true
    }
}

impl Book {
    /// Whether somebody should hear of it later. A lock, a pause and a signal are no failures, and a finding is an answer.
    fn concerns(&self, kind: Kind) -> bool {
        match kind {
            Kind::Locked | Kind::Paused | Kind::Interrupted | Kind::Terminated | Kind::Finding => false,
            _ => !failure::is_a_slip(kind, self.job),
        }
    }

    fn failure(&self, error: &Error) -> Failure {
        self.is_clean.store(false, Ordering::Relaxed);
        Failure::of(error, self.job, &self.run, self.clock.now())
    }

    async fn note(&self, failure: Failure) {
        let (now, kind) = (failure.at, failure.kind.clone());
        let before = Kept::read(&self.path).filter(|before| before.failure.at <= now);
        let (told, recorded_at) = before.map_or_else(Default::default, |before| {
            let is_same = before.failure.message == failure.message;
            (before.told, before.recorded_at.filter(|_| is_same))
        });
        let is_told = told.get(&kind).is_some_and(|told_at| now - *told_at < REMIND);
        let is_recorded = recorded_at.is_some_and(|recorded_at| now - recorded_at < RECORD);
        // Kept first: the hook may take its time, or not come back.
        let mut kept = Kept { failure, told, recorded_at };
        kept.write(&self.path);
        let failure = &kept.failure;
        let record = async { !is_recorded && self.record(failure).await };
        let tell = async { !is_told && self.tell("failed", failure).await };
        let (has_recorded, has_told) = tokio::join!(record, tell);
        // What it was told before it may have lost since.
        let was_recorded = kept.recorded_at.is_some();
        if !is_recorded {
            kept.recorded_at = has_recorded.then_some(now);
        }
        if has_told {
            kept.told.insert(kind, now);
        }
        if has_recorded || has_told || was_recorded != kept.recorded_at.is_some() {
            kept.write(&self.path);
        }
    }

    /// Whether the region's server has taken note of it.
    async fn record(&self, failure: &Failure) -> bool {
        if self.config.role != Role::Region || failure.stands_in_tables() {
            return false;
        }
        let Ok(Ok(_turn)) = timeout(RECORD_TURN, RECORDING.acquire()).await else { return false };
        match timeout(RECORD_LIMIT, region::state::record(&self.config, failure)).await {
            Ok(Ok(is_recorded)) => return is_recorded,
            Ok(Err(error)) => {
                tracing::debug!(error = %chain(&error), "the region's server does not hear of the failure");
            }
            Err(_) => tracing::debug!("the region's server does not hear of the failure in time"),
        }
        false
    }

    /// What was kept goes, and who has been told of it is told of its end.
    async fn works(&self) {
        if self.is_clean.swap(true, Ordering::Relaxed) {
            return;
        }
        let Some(kept) = Kept::read(&self.path) else { return };
        // Gone before it is told: nobody is told twice.
        match std::fs::remove_file(&self.path) {
            Ok(()) if kept.told.is_empty() => {}
            Ok(()) => drop(self.tell("recovered", &kept.failure).await),
            Err(cause) => tracing::warn!("remove {}: {cause}", self.path.display()),
        }
    }

    /// Whether the hook has been told.
    async fn tell(&self, event: &str, failure: &Failure) -> bool {
        match &self.config.hooks.on_failure {
            Some(program) => hook::run(program, &self.document(event, failure), &self.stop).await,
            None => false,
        }
    }

    fn document(&self, event: &str, failure: &Failure) -> Value {
        let config = &self.config;
        json!({
            "schema_version": SCHEMA_VERSION,
            "event": event,
            "stream": config.stream,
            "role": config.role.to_string(),
            "region": config.region.as_ref().map(|region| &region.name),
            "job": self.job,
            "run": self.run,
            "kind": failure.kind,
            "exit_code": failure.exit_code,
            "message": failure.message,
            "hint": failure.hint,
            "runbook": failure.runbook,
            "failed_at": failure.at,
            "at": self.clock.now(),
            "host": host(),
            "config": config.path.display().to_string(),
        })
    }

    /// Whether this has been put down a moment ago.
    fn is_known_to_stand(&self, text: &str) -> bool {
        let now = self.clock.now();
        let stands = self.stands.lock().unwrap_or_else(PoisonError::into_inner);
        stands.as_ref().is_some_and(|(known, at)| known == text && *at <= now && now - *at < RECORD)
    }

    fn stands(&self, text: Option<String>) {
        let now = self.clock.now();
        *self.stands.lock().unwrap_or_else(PoisonError::into_inner) = text.map(|text| (text, now));
    }
}

#[async_trait]
impl Listener for Ledger {
    async fn failed(&self, error: &Error) {
        let book = &self.0;
        book.stands(None);
        if book.in_a_row.fetch_add(1, Ordering::Relaxed) + 1 >= IN_A_ROW && book.concerns(error.kind()) {
            let failure = book.failure(error);
            self.beside(|book| async move { book.note(failure).await });
        }
    }

    async fn worked(&self) {
        let book = &self.0;
        book.in_a_row.store(0, Ordering::Relaxed);
        if !book.is_clean.load(Ordering::Relaxed) {
            book.stands(None);
            self.beside(|book| async move { book.works().await });
        }
    }

    async fn partly(&self, error: Option<&Error>) {
        let book = &self.0;
        book.in_a_row.store(0, Ordering::Relaxed);
        let Some(error) = error else { return };
        let text = chain(error);
        if !book.is_known_to_stand(&text) {
            let failure = book.failure(error);
            if self.beside(|book| async move { book.note(failure).await }) {
                book.stands(Some(text));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicI64;

    use super::*;
    use crate::clock::SystemClock;
    use crate::commands::hook::tests::script;

    /// Stands still unless moved.
    struct Still(DateTime<Utc>, AtomicI64);

    impl Clock for Still {
        fn now(&self) -> DateTime<Utc> {
            self.0 + TimeDelta::seconds(self.1.load(Ordering::Relaxed))
        }
    }

    /// A stream whose hook writes down what it is told.
    struct Desk {
        folder: tempfile::TempDir,
        config: Config,
        clock: Arc<Still>,
    }

    impl Desk {
        fn new() -> Desk {
            let folder = tempfile::tempdir().expect("a folder");
            script(folder.path(), &format!("cat >> {}/told", folder.path().display()));
            let text = format!(
                "role = \"source\"\nstream = \"apps\"\nstore = \"file://{0}\"\n[mysql]\nhost = \"h\"\n[hooks]\n\
                 on_failure = \"hook\"\n[files]\ncache_dir = \"{0}/cache\"\n",
                folder.path().display()
            );
            let path = folder.path().join("source.toml");
            std::fs::write(&path, text).expect("a config");
            let config = crate::config::load(&path).expect("it is right");
            Desk { folder, config, clock: Arc::new(Still(SystemClock.now(), AtomicI64::new(0))) }
        }

        fn ledger(&self, run: &str) -> Ledger {
            Ledger::new(&self.config, self.clock.clone(), "upload", run, CancellationToken::new())
        }

        fn later(&self, seconds: i64) {
            self.clock.1.fetch_add(seconds, Ordering::Relaxed);
        }

        fn told(&self) -> Vec<String> {
            let text = std::fs::read_to_string(self.folder.path().join("told")).unwrap_or_default();
            let documents = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
            documents.map(|told| format!("{} {}", told["event"], told["kind"]).replace('"', "")).collect()
        }
    }

    impl Ledger {
        async fn fails(&self, kind: Kind) {
            self.failed(&Error::new(kind, "write index.json: 503")).await;
            self.settle().await;
        }

        async fn goes_on(&self) {
            self.worked().await;
            self.settle().await;
        }
    }

    #[tokio::test]
    async fn a_run_that_follows_tells_at_the_third_failure_then_hourly_and_once_when_it_works() {
        let desk = Desk::new();
        let ledger = desk.ledger("0a1b2c3d");
        ledger.goes_on().await;
        ledger.fails(Kind::Store).await;
        ledger.fails(Kind::Store).await;
        assert!(desk.told().is_empty(), "one or two go by");
        for _ in 0..5 {
            ledger.fails(Kind::Store).await;
        }
        assert_eq!(desk.told(), ["failed store"]);
        desk.later(3601);
        ledger.fails(Kind::Store).await;
        assert_eq!(desk.told(), ["failed store"; 2]);
        // Another run of the same job, and another kind of failure.
        let next = desk.ledger("00000002");
        next.ended(Some(&Error::new(Kind::Store, "write index.json: 503"))).await;
        next.ended(Some(&Error::new(Kind::Locked, "held"))).await;
        assert_eq!(desk.told().len(), 2);
        next.ended(Some(&Error::new(Kind::Gate, "no"))).await;
        assert_eq!(desk.told()[2..], ["failed gate"]);
        assert_eq!(Kept::read(&next.0.path).map(|kept| kept.failure.exit_code), Some(15));
        for _ in 0..3 {
            ledger.goes_on().await;
        }
        assert_eq!(desk.told()[3..], ["recovered gate"]);
        assert_eq!(Kept::read(&next.0.path), None);
    }

    #[tokio::test]
    async fn kinds_that_take_turns_are_told_of_hourly_each() {
        let desk = Desk::new();
        for run in 0..6 {
            let kind = if run % 2 == 0 { Kind::Store } else { Kind::Mysql };
            desk.ledger("one").ended(Some(&Error::new(kind, "no answer"))).await;
            desk.later(60);
        }
        assert_eq!(desk.told(), ["failed store", "failed mysql"]);
        desk.later(3600);
        desk.ledger("one").ended(Some(&Error::new(Kind::Store, "no answer"))).await;
        desk.ledger("one").ended(None).await;
        assert_eq!(desk.told()[2..], ["failed store", "recovered store"]);
    }

    #[tokio::test]
    async fn what_stands_though_the_run_works_is_told_at_once_and_is_over_when_it_stands_no_more() {
        let desk = Desk::new();
        let ledger = desk.ledger("one");
        let stands = Error::new(Kind::Partly, "in quarantine: g.apps");
        for _ in 0..3 {
            ledger.partly(Some(&stands)).await;
            ledger.settle().await;
            desk.later(61);
        }
        assert_eq!(desk.told(), ["failed partly"]);
        // What goes by beside it, neither ends it nor makes it news.
        for _ in 0..3 {
            ledger.fails(Kind::Store).await;
        }
        ledger.partly(Some(&stands)).await;
        ledger.settle().await;
        // The run is told to end.
        ledger.ended(Some(&stands)).await;
        assert_eq!(desk.told(), ["failed partly", "failed store"]);
        ledger.goes_on().await;
        assert_eq!(desk.told()[2..], ["recovered partly"]);
    }

    #[tokio::test]
    async fn a_run_does_not_wait_for_its_hook_and_is_told_of_once_meanwhile() {
        let desk = Desk::new();
        let (folder, ledger) = (desk.folder.path(), desk.ledger("one"));
        ledger.goes_on().await;
        let text = "cat >> {0}/told; while [ ! -e {0}/go-on ]; do sleep 0.05; done";
        script(folder, &text.replace("{0}", &folder.display().to_string()));
        for _ in 0..10 {
            ledger.failed(&Error::new(Kind::Store, "503")).await;
            ledger.worked().await;
            ledger.partly(Some(&Error::new(Kind::Partly, "in quarantine: g.apps"))).await;
        }
        std::fs::write(folder.join("go-on"), "").expect("write");
        ledger.settle().await;
        assert_eq!(desk.told().len(), 1, "{:?}", desk.told());
    }
}
