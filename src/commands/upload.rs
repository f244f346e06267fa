//! `tablecast upload`: ship what the source has committed since the last time.

use super::look::{self, UNKNOWN};
use super::output::{Outcome, Output, as_json};
use super::run::Run;
use crate::config::Role;
use crate::error::Result;
use crate::source::upload;

/// Ship what is new at the source, then exit; or keep on
#[derive(clap::Args, Clone)]
#[command(after_help = "\
Examples:
  * * * * *  tablecast -q upload            from cron; a run that overlaps ends with 11 (locked)
  tablecast upload --follow                 as a service
  tablecast upload --dry-run                what would be read and shipped")]
pub struct Args {
    /// Keep on until a signal comes; ships what comes, at most every upload.interval
    #[arg(long, short)]
    pub follow: bool,

    /// Only print what the run would do
    #[arg(long, conflicts_with = "follow")]
    pub dry_run: bool,

    /// First dump all tables, for every region to restore: the way on when the source has purged or lost what the
    /// stream lacks, or has committed what cannot travel
    #[arg(long)]
    resync: bool,

    /// With --resync, after a filter left a table out: the source's copy has been made new by hand, and that it lacks no
    /// row is taken on your word. What it lacks, every region loses. Or, where the source has transactions that [primary]
    /// lacks: that none of them is of the set
    #[arg(long, requires = "resync")]
    trust_copy: bool,
}

impl Args {
    pub async fn run(&self, run: &Run) -> Result<Output> {
        run.must_be(Role::Source, "upload")?;
        let store = run.store().await?;
        let options = upload::Options {
            follow: self.follow,
            dry_run: self.dry_run,
            resync: self.resync,
            trust_copy: self.trust_copy,
            lock_wait: run.globals.lock_wait,
            stop: run.stop.clone(),
            meters: run.meters.clone(),
            notice: run.notice.clone(),
        };
        if self.follow && !run.is_one_of_many {
            tracing::info!("following {}: what is new goes to {}", run.config.mysql, run.config.store);
        }
        let report = upload::run(&run.config, store, &*run.clock, &options).await?;
        let outcome = match report.has_shipped() {
            _ if report.dry_run => Outcome::Done,
            true => Outcome::Shipped,
            false => Outcome::Idle,
        };
        Ok(Output::new(text(&report, run), as_json(&report)?).with_outcome(outcome))
    }
}

fn text(report: &upload::Report, run: &Run) -> String {
    if report.dry_run {
        return report.to_string();
    }
    let dumps = report.dumps.iter().map(|dump| format!("; dump {} is entry {}", dump.dump.id, dump.seq.0));
    let mut dumps: String = dumps.collect();
    if let Some(bridge) = &report.bridge {
        let read = look::count(bridge.missing_count, "transaction");
        dumps.push_str(&format!("; {read} that the source no longer holds came from {}", bridge.from));
    }
    let until = report.as_of.map_or_else(|| UNKNOWN.to_owned(), |as_of| look::time(as_of, run.now()));
    if report.segment_count == 0 {
        return format!("{}: nothing to ship; complete to {until}{dumps}", report.stream);
    }
    format!(
        "{}: shipped {} in {} ({}), up to entry {}, transaction {}; complete to {until}{dumps}",
        report.stream,
        look::count(report.kept, "transaction"),
        look::count(report.segment_count, "segment"),
        look::size(report.compressed_bytes),
        look::number(report.last_seq.0),
        look::number(report.last_tx.0),
    )
}
