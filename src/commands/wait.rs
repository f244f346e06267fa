//! `tablecast wait`: until this region shows a transaction of the source. For scripts that write at the source
//! and then read here; applications do the same in SQL, by routines that this command prints.

use std::time::Duration;

use serde_json::json;

use super::globals::duration;
use super::look;
use super::output::{Output, as_json};
use super::run::Run;
use crate::binlog::gtid::GtidSet;
use crate::config::Role;
use crate::error::{Error, Kind, Result};
use crate::region::shown::{self, Shown};

/// Wait until this region shows a source transaction
#[derive(clap::Args, Clone)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["source_gtid", "print_sql"])))]
#[command(after_help = "\
Examples:
  tablecast wait --source-gtid 3e11fa47-71ca-11e1-9e33-c80aa9429562:1-77 --timeout 10s
  tablecast wait --print-sql | mysql -u root      the same for applications, in SQL

Ends with 4 when the time is over, with 3 when a table is in quarantine here, which may lack what the transaction
changed in it. Transactions that do not travel count as shown.")]
pub struct Args {
    /// The source's GTID set, as @@gtid_executed or the session tracker give it
    #[arg(long, value_name = "SET")]
    source_gtid: Option<GtidSet>,

    /// Give up after this time
    #[arg(long, value_name = "DUR", default_value = "30s", value_parser = duration())]
    timeout: Duration,

    /// Print the procedure tablecast.wait_for_source_gtid and the function tablecast.shows_source_gtid, for a DBA to run
    /// in the region
    #[arg(long)]
    print_sql: bool,
}

impl Args {
    pub async fn run(&self, run: &Run) -> Result<Output> {
        run.must_be(Role::Region, "wait")?;
        let Some(wanted) = &self.source_gtid else {
            return Ok(Output::new(shown::routines(), json!({"sql": shown::routines()})));
        };
        let Shown { missing, quarantined, waited } = shown::wait(&run.config, wanted, self.timeout).await?;
        let json = json!({
            "source_gtid": wanted,
            "missing": missing,
            "quarantined": as_json(&quarantined)?,
            "waited_seconds": waited.as_secs_f64(),
        });
        if !missing.is_empty() {
            let limit = look::duration(self.timeout);
            let verdict = Error::new(Kind::Finding, format!("wait {limit}: this region lacks {missing}"))
                .hint("`tablecast status` says how far it is behind; is apply running here, upload at the source?");
            return Ok(Output::new("", json).with_verdict(Some(verdict)));
        }
        // What it changed in one of these was passed over, for all that is known here.
        if let Some(verdict) = crate::region::quarantine::verdict(
            "wait: shown, except in tables of",
            &run.config.stream,
            &quarantined,
        ) {
            return Ok(Output::new("", json).with_verdict(Some(verdict)));
        }
        let text = format!("shown after {}", look::duration(waited));
        Ok(Output::new(text, json))
    }
}
