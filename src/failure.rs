//! How runs fail, for those who look later and elsewhere: what is kept of a failure, and who is told while a run that
//! follows goes on.
//!
//! A failure is kept on the machine that met it, one file for each job of a stream in `files.cache_dir`: neither bucket nor MySQL
//! need be reachable for that, and they are what most failures are about. A region keeps it in its server as well
//! (`tablecast.state`), where every machine can read it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::Config;
use crate::error::{Error, Kind, chain, one_line};
use crate::hex::hex;
use crate::stream::ReportedFailure;

/// What is kept of the error that a run ended with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The clock of the machine that ran it.
    pub at: DateTime<Utc>,
    /// The command.
    pub job: String,
    /// The run's id, as its log lines have it.
    pub run: String,
    /// As in `--json`.
    pub kind: String,
    pub exit_code: u8,
    /// With its causes, on one line.
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The page that says what to do.
    pub runbook: String,
}

/// Of a text in a report: it is no place for whole statements.
const MAX_TEXT: usize = 1000;

impl Failure {
    pub fn of(error: &Error, job: &str, run: &str, at: DateTime<Utc>) -> Self {
        let hint = error.hint_text().map(str::to_owned);
        // MySQL's messages quote statements as they were written.
        let message = one_line(&chain(error));
        Self::of_kind(error.kind(), job.to_owned(), run.to_owned(), at, message, hint)
    }

    pub fn of_kind(
        kind: Kind,
        job: String,
        run: String,
        at: DateTime<Utc>,
        message: String,
        hint: Option<String>,
    ) -> Self {
        let (exit_code, runbook) = (kind.exit_code(), kind.runbook());
        Self { at, job, run, kind: kind.name().to_owned(), exit_code, message, hint, runbook }
    }

    /// A newer program may know more of them.
    pub fn kind(&self) -> Kind {
        Kind::of_name(&self.kind)
    }

    /// A quarantine, which a region keeps in tables of its own and tells apart from a run's failure.
    pub fn stands_in_tables(&self) -> bool {
        self.kind == Kind::Partly.name()
    }

    /// As a region's report has it; the message stands beside it.
    pub fn reported(&self) -> ReportedFailure {
        ReportedFailure {
            at: self.at,
            job: self.job.clone(),
            kind: self.kind.clone(),
            exit_code: self.exit_code,
            hint: self.hint.as_ref().map(|hint| hint.chars().take(MAX_TEXT).collect()),
            runbook: self.runbook.clone(),
        }
    }
}

/// Whether somebody typed something wrong, which is said to them: nobody else need hear of it.
pub fn is_a_slip(kind: Kind, job: &str) -> bool {
    matches!(kind, Kind::Usage | Kind::NotFound) && ["restore", "dump"].contains(&job)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { job, kind, exit_code, message, hint, runbook, .. } = self;
        write!(f, "{job} ended with {exit_code} ({kind})\n{message}")?;
        if let Some(hint) = hint {
            write!(f, "\nhint: {hint}")?;
        }
        write!(f, "\nsee {runbook}")
    }
}

/// A failure on this machine that no success has followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    #[serde(flatten)]
    pub failure: Failure,
    /// When the hook was last told, by kind: of all that has failed since it last worked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub told: BTreeMap<String, DateTime<Utc>>,
    /// When this message was last put down in the region's server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded_at: Option<DateTime<Utc>>,
}

/// Where the last failure of a job is kept on this machine.
pub fn file(config: &Config, job: &str) -> PathBuf {
    let region = config.region.as_ref().map_or("", |region| &region.name);
    let of = format!("{}\n{}\n{}\n{region}", config.store, config.stream, config.role);
    let job = job.replace(' ', "-");
    config.files.cache_dir.join(format!("failure-{job}-{}.json", hex(&Sha256::digest(of)[..16])))
}

impl Kept {
    /// None too if nobody can read what is there: it is no more than a note.
    pub fn read(path: &Path) -> Option<Kept> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    pub fn write(&self, path: &Path) {
        let written = serde_json::to_vec(self).map_err(std::io::Error::other).and_then(|json| {
            std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
            // One name, so that a killed run leaves nothing that piles up.
            let new = path.with_extension("new");
            put(&new, &json).and_then(|()| std::fs::rename(&new, path)).inspect_err(|_| {
                // A disk that is full is not left fuller.
                let _ = std::fs::remove_file(&new);
            })
        });
        if let Err(cause) = written {
            let path = path.display();
            tracing::warn!(
                "keep the failure in {path}: {cause}; who has been told of it is not known to the next run"
            );
        }
    }
}

/// Messages of MySQL may quote what stands in statements and rows: for this user only.
fn put(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(bytes)
}

/// Who is told while a run that follows fails, tries again, and works. No call keeps the run waiting.
#[async_trait]
pub trait Listener: Send + Sync {
    /// It tries again by itself.
    async fn failed(&self, error: &Error);
    /// It has done what there was to do. Called again and again: costs nothing where nothing had failed.
    async fn worked(&self);
    /// It has done what could be done, and this stands, if it is for somebody. Called again and again, too.
    async fn partly(&self, error: Option<&Error>);
}

/// The listener of a run, if it has one.
#[derive(Clone, Default)]
pub struct Notice(Option<Arc<dyn Listener>>);

impl Notice {
    pub fn to(listener: Arc<dyn Listener>) -> Self {
        Self(Some(listener))
    }

    pub async fn failed(&self, error: &Error) {
        if let Some(listener) = &self.0 {
            listener.failed(error).await;
        }
    }

    pub async fn worked(&self) {
        if let Some(listener) = &self.0 {
            listener.worked().await;
        }
    }

    pub async fn partly(&self, error: Option<&Error>) {
        if let Some(listener) = &self.0 {
            listener.partly(error).await;
        }
    }
}

impl fmt::Debug for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Notice" } else { "no Notice" })
    }
}
