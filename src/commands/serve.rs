//! `tablecast serve`: the HTTP service at the source.

use super::output::{Output, as_json};
use super::run::Run;
use crate::config::Role;
use crate::error::Result;
use crate::http;

/// Run the HTTP service at the source: regions ask for dumps and report, people look
#[derive(clap::Args, Clone)]
#[command(after_help = "\
Examples:
  tablecast token --region eu1              a token for a region, and what to add to serve.tokens_file
  tablecast serve                           as a service; SIGTERM ends it when what it works on is answered
  curl -H \"Authorization: Bearer $(cat token)\" https://source:8443/v1/status

It keeps nothing but what lies in the bucket: it may be killed at any time and may run twice.
docs/http.md describes every route, `tablecast openapi` prints the description for programs.")]
pub struct Args {}

impl Args {
    pub async fn run(&self, run: &Run) -> Result<Output> {
        run.must_be(Role::Source, "serve")?;
        http::serve::section(&run.config)?;
        let store = run.store().await?;
        let (clock, meters) = (run.clock.clone(), run.meters.clone());
        let report = http::serve::run(&run.config, store, clock, meters, run.stop.clone()).await?;
        Ok(Output::new("", as_json(&report)?))
    }
}
