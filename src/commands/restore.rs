//! `tablecast restore`: tables of this region as the source has them, from a dump.

use std::sync::Arc;
use std::time::Duration;

use super::globals::table;
use super::output::{Output, as_json};
use super::run::Run;
use crate::binlog::name::TableName;
use crate::config::{Role, parse_duration};
use crate::error::{Error, Kind, Result};
use crate::region::ask::Asker;
use crate::region::restore;

/// Restore tables of this region from the newest dump that fits, or ask for one
///
/// Tables that foreign keys tie to the ones that are named are restored with them. Everything else goes on; works beside a running `apply --follow`, which then carries the restore out.
#[derive(clap::Args, Clone)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["tables", "all"])))]
#[command(after_help = "\
Examples:
  tablecast restore g.apps
  tablecast restore --all --timeout 2h      every table of the stream, in one step
  tablecast restore g.apps --dry-run        which dump it would use
Ends with 3 when not every table is restored in the end.")]
pub struct Args {
    /// The tables
    #[arg(value_name = "DB.T", value_parser = table())]
    tables: Vec<TableName>,

    /// Every table of the stream
    #[arg(long)]
    all: bool,

    /// Only print what the run would do
    #[arg(long)]
    pub dry_run: bool,

    /// How long to wait; the restore stays wanted after that, and the next apply goes on with it
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

impl Args {
    pub async fn run(&self, run: &Run) -> Result<Output> {
        run.must_be(Role::Region, "restore")?;
        let options = restore::Options {
            tables: self.tables.clone(),
            all: self.all,
            dry_run: self.dry_run,
            timeout: self.timeout,
            stop: run.stop.clone(),
            meters: run.meters.clone(),
        };
        let report = restore::run(&run.config, run.store().await?, &*run.clock, asker(run), &options).await?;
        let verdict = (!report.is_done()).then(|| {
            Error::new(Kind::Partly, format!("restore: not every table of {} is restored yet", report.stream))
                .hint("it stays wanted, and apply goes on with it; `tablecast status` shows how it stands")
        });
        Ok(Output::new(report.to_string(), as_json(&report)?).with_verdict(verdict))
    }
}

/// The way to the source's service, if the config names one.
pub fn asker(run: &Run) -> Option<Arc<dyn Asker>> {
    crate::http::client::of(&run.config).map(|client| Arc::new(client) as Arc<dyn Asker>)
}
