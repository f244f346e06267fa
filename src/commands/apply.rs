//! `tablecast apply`: replay what is new in the stream into this region's server.

use std::time::Duration;

use super::look;
use super::output::{Outcome, Output, as_json};
use super::restore::asker;
use super::run::Run;
use crate::config::Role;
use crate::error::Result;
use crate::region::apply;

/// Replay what is new in the stream, then exit; or keep on
#[derive(clap::Args, Clone)]
#[command(after_help = "\
Examples:
  * * * * *  tablecast -q apply             from cron; a run that overlaps ends with 11 (locked)
  tablecast apply --follow                  as a service
  tablecast apply --until 4711              stop behind that stream transaction
  tablecast apply --dry-run                 what would be applied
Ends with 3 when a table is in quarantine: every other table has been brought up to date.")]
pub struct Args {
    /// Keep on until a signal comes
    #[arg(long, short)]
    pub follow: bool,

    /// Stop behind this stream transaction
    #[arg(long, value_name = "N", value_parser = crate::figures::parse)]
    until: Option<u64>,

    /// Only print what the run would do
    #[arg(long, conflicts_with = "follow")]
    pub dry_run: bool,
}

impl Args {
    pub async fn run(&self, run: &Run) -> Result<Output> {
        run.must_be(Role::Region, "apply")?;
        let store = run.store().await?;
        let options = apply::Options {
            follow: self.follow,
            until: self.until,
            dry_run: self.dry_run,
            lock_wait: run.globals.lock_wait,
            stop: run.stop.clone(),
            meters: run.meters.clone(),
            notice: run.notice.clone(),
        };
        if self.follow && !run.is_one_of_many {
            tracing::info!("following {}: what is new goes to {}", run.config.store, run.config.mysql);
        }
        let report = apply::run(&run.config, store, &*run.clock, asker(run), &options).await?;
        let verdict = report.verdict("apply").filter(|_| !report.dry_run);
        let is_idle = report.entries == 0 && report.restored.is_empty() && report.restoring.is_empty();
        let outcome = match is_idle {
            _ if report.dry_run => Outcome::Done,
            true => Outcome::Idle,
            false => Outcome::Applied,
        };
        Ok(Output::new(text(&report), as_json(&report)?).with_verdict(verdict).with_outcome(outcome))
    }
}

pub fn text(report: &apply::Report) -> String {
    if report.dry_run {
        return report.to_string();
    }
    let at = format!("entry {}, transaction {}", look::number(report.seq), look::number(report.last_tx));
    let lag = match report.lag_seconds {
        Some(lag) => format!("; {} behind the source", look::duration(Duration::from_secs(lag))),
        None => "; how far behind the source is unknown".to_owned(),
    };
    let mut done = Vec::new();
    if report.transactions > 0 {
        let entries =
            if report.entries == 1 { "1 entry".to_owned() } else { look::count(report.entries, "entry") };
        done.push(format!("applied {} from {entries}", look::count(report.transactions, "transaction")));
    }
    done.extend(report.restored.iter().map(|told| format!("restored {}", told.line())));
    if done.is_empty() {
        done.push("nothing to apply".to_owned());
    }
    let restoring: String =
        report.restoring.iter().map(|told| format!("; restoring {}", told.line())).collect();
    format!("{}: {}; at {at}{lag}{restoring}", report.stream, done.join(", "))
}
