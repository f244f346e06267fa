//! `tablecast dump cancel`: take a request back.

use super::super::output::{Output, as_json};
use super::super::run::Run;
use crate::config::Role;
use crate::error::Result;
use crate::http::api::{Job, JobState};
use crate::http::client;
use crate::source::dump::queue;
use crate::stream::RequestId;

/// Take a request for a dump back: for this region, or at the source for all
#[derive(clap::Args, Clone)]
pub struct Args {
    /// The job's id, as `dump list` shows it
    id: RequestId,
}

impl Args {
    pub async fn run(&self, run: &Run) -> Result<Output> {
        let job = match run.config.role {
            Role::Region => client::required(&run.config, "dump cancel")?.cancel_dump(&self.id).await?,
            Role::Source => {
                let cancelled = queue::cancel(&*run.store().await?, &*run.clock, &self.id, None).await;
                Job::from(&cancelled.map_err(|error| super::no_such_job(&self.id, error))?)
            }
        };
        let text = match job.state {
            JobState::Cancelled => format!("job {} is cancelled", job.id),
            _ => format!("job {} goes on for {}", job.id, job.regions.join(", ")),
        };
        Ok(Output::new(text, as_json(&job)?))
    }
}
