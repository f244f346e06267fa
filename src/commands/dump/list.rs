//! `tablecast dump list`: the jobs, the newest first.

use serde_json::json;

use super::super::look;
use super::super::output::{Output, as_json};
use super::super::run::Run;
use super::{jobs, rows, state, tables};
use crate::error::Result;

/// List requests for dumps, the newest first
#[derive(clap::Args, Clone)]
pub struct Args {}

impl Args {
    pub async fn run(&self, run: &Run) -> Result<Output> {
        let jobs = jobs(run).await?;
        let json = json!({"dumps": as_json(&jobs)?});
        if jobs.is_empty() {
            return Ok(Output::new("no request for a dump", json));
        }
        let now = run.now();
        let lines = jobs.iter().map(|job| {
            vec![
                job.id.clone(),
                state(run, job),
                tables(job),
                job.regions.join(", "),
                rows(job),
                look::time(job.created_at, now),
            ]
        });
        let text = run.look.table(&["job", "state", "tables", "for", "rows", "asked"], &[4], lines);
        Ok(Output::new(text, json))
    }
}
