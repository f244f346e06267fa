//! `tablecast bootstrap`: a new region, from the newest full dump and the stream.

use std::time::Duration;

use serde_json::json;

use super::output::{Output, as_json};
use super::restore::asker;
use super::run::Run;
use crate::config::Role;
use crate::error::Result;
use crate::figures::count;
use crate::region::apply;
use crate::region::restore::bootstrap;

/// Fill a new, empty region from the newest full dump, then apply the stream to its end
///
/// Makes the databases and tables, loads them, swaps them in by one RENAME, and ends like `apply`. Refused, with the list, where tables of the stream hold rows; nothing that is there is ever replaced. A run that was cut short is carried on by the next one, or by `apply`.
#[derive(clap::Args, Clone)]
#[command(after_help = "\
Examples:
  tablecast bootstrap --dry-run             which dump, which tables, how many rows
  tablecast bootstrap                       then `tablecast apply --follow`, or from cron
The dump is the newest full one of the stream: `tablecast dump take --all-tables` at the source makes one.")]
pub struct Args {
    /// Only print what the run would do
    #[arg(long)]
    pub dry_run: bool,
}

impl Args {
    pub async fn run(&self, run: &Run) -> Result<Output> {
        run.must_be(Role::Region, "bootstrap")?;
        let store = run.store().await?;
        let lock_wait = run.globals.lock_wait;
        let plan =
            bootstrap::prepare(&run.config, store.clone(), &*run.clock, lock_wait, self.dry_run).await?;
        let plan_json = plan.as_ref().map(as_json).transpose()?;
        if self.dry_run {
            let text = plan.map_or_else(
                || "the tables are there: apply goes on with the stream".to_owned(),
                |plan| plan.to_string(),
            );
            return Ok(Output::new(text, json!({ "plan": plan_json })));
        }
        let options = apply::Options {
            follow: false,
            until: None,
            dry_run: false,
            // The lock has just been free.
            lock_wait: lock_wait.max(Duration::from_secs(5)),
            stop: run.stop.clone(),
            meters: run.meters.clone(),
            notice: Default::default(),
        };
        let report = apply::run(&run.config, store, &*run.clock, asker(run), &options).await?;
        let verdict = report.verdict("bootstrap");
        let text = match &plan {
            Some(plan) if verdict.is_none() => {
                format!(
                    "{}: {} from dump {}\n{}",
                    plan.stream,
                    count(plan.rows, "row"),
                    plan.dump,
                    super::apply::text(&report)
                )
            }
            _ => super::apply::text(&report),
        };
        Ok(Output::new(text, json!({ "plan": plan_json, "apply": as_json(&report)? })).with_verdict(verdict))
    }
}
