//! What becomes of a run's failure: it is kept for `status`, and the hook is told, not more often than somebody wants to be
//! woken. And of a success: what was kept goes, and who was told of the failure is told of its end.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use async_trait::async_trait;
use chrono::TimeDelta;
use serde_json::{Value, json};
use tokio::sync::Mutex;

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

/// Of one run.
pub struct Ledger {
    config: Config,
    clock: Arc<dyn Clock>,
    job: &'static str,
    run: String,
    path: PathBuf,
    /// Failures since it last worked.
    in_a_row: AtomicU32,
    /// Nothing is kept: a success has nothing to do.
    is_clean: AtomicBool,
    /// One at a time.
    at_work: Mutex<()>,
}

impl Ledger {
    pub fn new(config: &Config, clock: Arc<dyn Clock>, job: &'static str, run: &str) -> Self {
        Self {
            path: failure::file(config, job),
            config: config.clone(),
            clock,
            job,
            run: run.to_owned(),
            in_a_row: AtomicU32::new(0),
            is_clean: AtomicBool::new(false),
            at_work: Mutex::new(()),
        }
    }

    /// The run has ended.
    pub async fn ended(&self, failure: Option<&Error>) {
        match failure {
            None => self.worked().await,
            Some(error) => self.note(error).await,
        }
    }

    /// Whether somebody should hear of it later. A lock, a pause and a signal are no failures, and a finding is an answer. What
    /// somebody has typed wrong is said to them.
    fn concerns(&self, kind: Kind) -> bool {
        match kind {
            Kind::Locked | Kind::Paused | Kind::Interrupted | Kind::Terminated | Kind::Finding => false,
            Kind::Usage | Kind::NotFound => !["restore", "dump"].contains(&self.job),
            _ => true,
        }
    }

    async fn note(&self, error: &Error) {
        if !self.concerns(error.kind()) {
            return;
        }
        let _one = self.at_work.lock().await;
        self.is_clean.store(false, Ordering::Relaxed);
        let now = self.clock.now();
        let failure = Failure::of(error, self.job, &self.run, now);
        let before = Kept::read(&self.path).filter(|before| before.failure.at <= now);
        let told = before.as_ref().filter(|before| before.failure.kind == failure.kind);
        let told_at = told.and_then(|told| told.told_at).filter(|told_at| now - *told_at < REMIND);
        // Kept first: the hook may take its time, or not come back.
        Kept { failure: failure.clone(), told_at }.write(&self.path);
        let is_known = before.is_some_and(|before| {
            before.failure.message == failure.message && now - before.failure.at < RECORD
        });
        // A quarantine stands in tables of its own.
        if self.config.role == Role::Region
            && failure.kind != Kind::Partly.name()
            && !is_known
            && let Err(error) = region::state::record(&self.config, &failure).await
        {
            tracing::debug!(error = %chain(&error), "the region's server does not hear of the failure");
        }
        if told_at.is_none() && self.tell("failed", &failure).await {
            Kept { failure, told_at: Some(now) }.write(&self.path);
        }
    }

    /// Whether the hook has been told.
    async fn tell(&self, event: &str, failure: &Failure) -> bool {
        match &self.config.hooks.on_failure {
            Some(program) => hook::run(program, &self.document(event, failure)).await,
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
}

#[async_trait]
impl Listener for Ledger {
    async fn failed(&self, error: &Error) {
        if self.in_a_row.fetch_add(1, Ordering::Relaxed) + 1 >= IN_A_ROW {
            self.note(error).await;
        }
    }

    async fn worked(&self) {
        self.in_a_row.store(0, Ordering::Relaxed);
        if self.is_clean.load(Ordering::Relaxed) {
            return;
        }
        let _one = self.at_work.lock().await;
        if let Some(kept) = Kept::read(&self.path) {
            // Gone before it is told: nobody is told twice.
            if let Err(cause) = std::fs::remove_file(&self.path) {
                tracing::warn!("remove {}: {cause}", self.path.display());
            }
            if kept.told_at.is_some() {
                self.tell("recovered", &kept.failure).await;
            }
        }
        self.is_clean.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::AtomicI64;

    use chrono::{DateTime, Utc};

    use super::*;
    use crate::clock::SystemClock;

    /// Stands still unless moved.
    struct Still(DateTime<Utc>, AtomicI64);

    impl Clock for Still {
        fn now(&self) -> DateTime<Utc> {
            self.0 + TimeDelta::seconds(self.1.load(Ordering::Relaxed))
        }
    }

    #[tokio::test]
    async fn a_run_that_follows_tells_at_the_third_failure_then_hourly_and_once_when_it_works() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("hook"), format!("#!/bin/sh\ncat >> {}\n", at("told").display())).expect("a hook");
        std::fs::set_permissions(at("hook"), std::fs::Permissions::from_mode(0o700)).expect("chmod");
        let text = format!(
            "role = \"source\"\nstream = \"apps\"\nstore = \"file://{0}\"\n[mysql]\nhost = \"h\"\n[hooks]\n\
             on_failure = \"hook\"\n[files]\ncache_dir = \"{0}/cache\"\n",
            folder.path().display()
        );
        std::fs::write(at("source.toml"), text).expect("a config");
        let config = crate::config::load(&at("source.toml")).expect("it is right");
        let clock = Arc::new(Still(SystemClock.now(), AtomicI64::new(0)));
        let ledger = Ledger::new(&config, clock.clone(), "upload", "0a1b2c3d");
        let told = || -> Vec<String> {
            let text = std::fs::read_to_string(at("told")).unwrap_or_default();
            let documents = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
            documents.map(|told| format!("{} {}", told["event"], told["kind"]).replace('"', "")).collect()
        };
        let error = || Error::new(Kind::Store, "write index.json: 503");
        ledger.worked().await;
        ledger.failed(&error()).await;
        ledger.failed(&error()).await;
        assert!(told().is_empty(), "one or two go by");
        for _ in 0..5 {
            ledger.failed(&error()).await;
        }
        assert_eq!(told(), ["failed store"]);
        clock.1.store(3601, Ordering::Relaxed);
        ledger.failed(&error()).await;
        assert_eq!(told(), ["failed store"; 2]);
        // Another run of the same job, and another kind of failure.
        let next = Ledger::new(&config, clock.clone(), "upload", "00000002");
        next.ended(Some(&error())).await;
        next.ended(Some(&Error::new(Kind::Locked, "held"))).await;
        assert_eq!(told().len(), 2);
        next.ended(Some(&Error::new(Kind::Gate, "no"))).await;
        assert_eq!(told()[2..], ["failed gate"]);
        assert_eq!(Kept::read(&next.path).map(|kept| kept.failure.exit_code), Some(15));
        for _ in 0..3 {
            ledger.worked().await;
        }
        assert_eq!(told()[3..], ["recovered gate"]);
        assert_eq!(Kept::read(&next.path), None);
    }
}
