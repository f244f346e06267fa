//! `tablecast dump show`: one job.

use super::super::output::{Output, as_json};
use super::super::run::Run;
use super::{facts, job};
use crate::error::Result;
use crate::stream::RequestId;

/// Show a request for a dump, and what has become of it
#[derive(clap::Args, Clone)]
pub struct Args {
    /// The job's id, as `dump list` shows it
    id: RequestId,
}

impl Args {
    pub async fn run(&self, run: &Run) -> Result<Output> {
        let job = job(run, &self.id).await?;
        Ok(Output::new(facts(run, &job), as_json(&job)?))
    }
}
