//! `tablecast dump`: requests for dumps, from a region over HTTP and at the source straight from the bucket.

mod cancel;
mod list;
mod request;
mod show;
mod take;

use super::look::{self, Tone};
use super::output::Output;
use super::run::Run;
use crate::config::Role;
use crate::error::{Error, Kind, Result};
use crate::http::api::{Job, JobState};
use crate::http::client;
use crate::source::dump::queue::{self, Known};
use crate::stream::RequestId;

/// Ask for dumps, and see what becomes of them
#[derive(clap::Args, Clone)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand, Clone)]
enum Verb {
    Take(take::Args),
    Request(request::Args),
    List(list::Args),
    Show(show::Args),
    Cancel(cancel::Args),
}

impl Args {
    /// Whether this is a run that takes a dump.
    pub fn takes(&self) -> bool {
        matches!(&self.verb, Verb::Take(args) if !args.dry_run)
    }

    pub async fn run(&self, run: &Run) -> Result<Output> {
        match &self.verb {
            Verb::Take(args) => args.run(run).await,
            Verb::Request(args) => args.run(run).await,
            Verb::List(args) => args.run(run).await,
            Verb::Show(args) => args.run(run).await,
            Verb::Cancel(args) => args.run(run).await,
        }
    }
}

/// One job: in a region as the service tells it, at the source as it lies in the bucket.
async fn job(run: &Run, id: &RequestId) -> Result<Job> {
    match run.config.role {
        Role::Region => client::required(&run.config, "dump show")?.dump(id).await,
        Role::Source => match queue::read(&*run.store().await?, id).await {
            Ok((request, _)) => Ok(Job::from(&request)),
            Err(error) => Err(no_such_job(id, error)),
        },
    }
}

/// A job that is not there is told as that, not as an object.
fn no_such_job(id: &RequestId, error: Error) -> Error {
    match error.is_not_found() {
        true => Error::new(Kind::NotFound, format!("there is no job {id}"))
            .hint("`tablecast dump list` shows those there are; `tablecast stream prune` removes old ones"),
        false => error,
    }
}

/// Every job, the newest first.
async fn jobs(run: &Run) -> Result<Vec<Job>> {
    match run.config.role {
        Role::Region => Ok(client::required(&run.config, "dump list")?.dumps().await?.dumps),
        Role::Source => {
            let store = run.store().await?;
            let stream = run.head(&*store).await?.stream;
            let found =
                queue::all(&*store, stream, &Known::load(&*store, &run.config.files.cache_dir)).await?;
            Ok(found.iter().rev().map(|found| Job::from(&found.request)).collect())
        }
    }
}

fn state(run: &Run, job: &Job) -> String {
    let (tone, name) = match job.state {
        JobState::Queued => (Tone::Warn, "queued"),
        JobState::Running => (Tone::Warn, "running"),
        JobState::Uploaded => (Tone::Good, "uploaded"),
        JobState::Failed => (Tone::Bad, "failed"),
        JobState::Cancelled => (Tone::Dim, "cancelled"),
    };
    run.look.paint(tone, name)
}

fn tables(job: &Job) -> String {
    match job.all_tables {
        true => "all of the set".to_owned(),
        false => job.tables.join(", "),
    }
}

/// Rows so far, with the estimate of all of them where there is one.
fn rows(job: &Job) -> String {
    match (job.state, job.rows_total) {
        (JobState::Queued, _) => "-".to_owned(),
        (JobState::Running, total) if total > job.rows => {
            format!("{} of about {}", look::number(job.rows), look::number(total))
        }
        _ => look::number(job.rows),
    }
}

/// A job for people.
fn facts(run: &Run, job: &Job) -> String {
    let now = run.now();
    let mut facts = vec![
        ("job", job.id.clone()),
        ("state", state(run, job)),
        ("tables", tables(job)),
        ("waiting", job.regions.join(", ")),
        ("reason", job.reason.clone()),
        ("asked", look::time(job.created_at, now)),
        ("changed", look::time(job.updated_at, now)),
        ("rows", rows(job)),
        ("size", look::size(job.bytes)),
    ];
    if job.mandatory {
        facts.push(("mandatory", "every region restores it".to_owned()));
    }
    if let Some(eta) = job.eta_seconds {
        facts.push(("left", format!("about {}", look::duration(std::time::Duration::from_secs(eta)))));
    }
    if let Some(at) = job.not_before.filter(|at| *at > now && job.state == JobState::Queued) {
        facts.push(("not before", look::time(at, now)));
    }
    if let Some(dump) = &job.dump {
        facts.push(("dump", dump.clone()));
    }
    if let (Some(seq), Some(at)) = (job.seq, job.at) {
        let place = format!("entry {}, the state after transaction {}", look::number(seq), look::number(at));
        facts.push(("in stream", place));
    }
    if let Some(error) = &job.error {
        facts.push(("error", run.look.paint(Tone::Bad, error)));
    }
    facts.retain(|(_, value)| !value.is_empty());
    run.look.facts(&facts)
}
