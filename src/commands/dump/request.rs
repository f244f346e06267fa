//! `tablecast dump request`: a region asks the source for a dump.

use std::collections::BTreeSet;
use std::time::Duration;

use uuid::Uuid;

use super::super::globals::table;
use super::super::output::{Output, as_json};
use super::super::run::Run;
use super::{facts, rows, state, tables};
use crate::binlog::name::TableName;
use crate::config::Role;
use crate::error::{Error, Kind, Result};
use crate::http::api::{Job, JobState};
use crate::http::client::{self, Client};

/// How often a job that is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// So many looks in a row may fail: five minutes.
const PATIENCE: u32 = 150;

/// Ask the source's service for a dump of some tables
#[derive(clap::Args, Clone)]
#[command(after_help = "\
Examples:
  tablecast dump request g.apps --reason \"rows differ\"
  tablecast dump request g.apps g.partners --wait
  tablecast dump show ID                    how far it is

A job that is pending for the same tables is joined, not doubled. A dump brings nothing by itself: apply
restores it where a table is quarantined, `tablecast restore` on demand.")]
pub struct Args {
    /// Tables by name
    #[arg(value_name = "DB.T", required = true, value_parser = table())]
    tables: Vec<TableName>,

    /// Why, for the people at the source
    #[arg(long, value_name = "TEXT", default_value = "asked for by an operator")]
    reason: String,

    /// Wait until the dump is in the stream
    #[arg(long)]
    wait: bool,
}

impl Args {
    pub async fn run(&self, run: &Run) -> Result<Output> {
        run.must_be(Role::Region, "dump request")?;
        let client = client::required(&run.config, "dump request")?;
        let tables: BTreeSet<TableName> = self.tables.iter().cloned().collect();
        let lets_in = run.config.region.as_ref().map(|region| &region.tables);
        if let Some(table) = tables.iter().find(|table| lets_in.is_some_and(|set| !set.names(table))) {
            return Err(Error::new(
                Kind::Usage,
                format!("dump request: region.tables does not let {table} in"),
            )
            .hint("name a table that this region has, or add it to region.tables"));
        }
        let key = Uuid::new_v4().to_string();
        let mut job = client.request_dump(&tables, &self.reason, &key).await?;
        if self.wait {
            job = wait(run, &client, job).await?;
        }
        let verdict = verdict(&job);
        Ok(Output::new(facts(run, &job), as_json(&job)?).with_verdict(verdict))
    }
}

async fn wait(run: &Run, client: &Client, mut job: Job) -> Result<Job> {
    let id = job.id.parse()?;
    let mut failures = 0;
    while matches!(job.state, JobState::Queued | JobState::Running) {
        tracing::info!("job {} of {}: {}, {} rows", job.id, tables(&job), state(run, &job), rows(&job));
        tokio::time::sleep(LOOK_EVERY).await;
        match client.dump(&id).await {
            Ok(next) => (job, failures) = (next, 0),
            // The job goes on without us: a service that is gone for a while changes nothing.
            Err(error) if error.kind() == Kind::Failed && failures < PATIENCE => {
                failures += 1;
                tracing::debug!("job {id}: {error}");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(job)
}

fn verdict(job: &Job) -> Option<Error> {
    let hint = match job.state {
        JobState::Failed => "the source's log says more; ask again once it is mended",
        JobState::Cancelled => "somebody took it back: ask again if it is still needed",
        _ => return None,
    };
    let why = job.error.as_deref().unwrap_or("it was cancelled");
    Some(Error::new(Kind::Failed, format!("dump request: job {} brought no dump: {why}", job.id)).hint(hint))
}
