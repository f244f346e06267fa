//! `tablecast processor create` and `rebuild`.

use std::sync::Arc;

use super::super::output::{Output, as_json};
use super::super::run::Run;
use crate::config::Role;
use crate::error::{Error, Kind, Result};
use crate::source::preflight::Outcome;
use crate::source::processor::{self, Options, Report};

/// Make the mini-replica at `[mysql]` from the primary, by CLONE
#[derive(clap::Args, Clone)]
#[command(after_help = "\
Examples:
  tablecast processor create --dry-run      what would be done
  tablecast processor create                the server of [mysql] is empty, with the my.cnf of `processor config`
  tablecast processor create --loaded       its data was loaded by hand: filters, replication, checks

CLONE drops everything that the server of [mysql] holds, its accounts too: it has those of the primary afterwards.
mysqld restarts at its end; where nothing supervises it, it stops, and this waits until somebody has started it.
Killed at any step: run it again, it carries on.")]
pub struct Create {
    /// The tables, where there is no stream yet to name them; else more that are about to be added
    #[arg(long = "table", short, value_name = "DB.T")]
    tables: Vec<String>,

    /// Drop what the server of `[mysql]` holds, whatever it is; with --loaded only what the filters leave out
    #[arg(long)]
    replace: bool,

    /// The data is there, loaded by mysqldump or restored, with its GTID_PURGED: no CLONE
    #[arg(long)]
    loaded: bool,

    /// Only print what would be done
    #[arg(long)]
    dry_run: bool,
}

/// Make the mini-replica again, after a loss or for another table set
#[derive(clap::Args, Clone)]
#[command(after_help = "\
Examples:
  tablecast processor rebuild --dry-run
  tablecast processor rebuild
  tablecast processor rebuild --table g.plans   before `tablecast tables add g.plans`

First the old one's last transactions are shipped, if it still runs, and the primary is asked whether it still has
everything that the stream lacks: upload reads from it what the new one will not have. Else it ends with 10 (history)
before anything is dropped. Then as `create`.")]
pub struct Rebuild {
    /// A table that is about to be added to the stream's set; may be repeated
    #[arg(long = "table", short, value_name = "DB.T")]
    tables: Vec<String>,

    /// Drop what the server of `[mysql]` holds, also if it is no filtered replica of the primary
    #[arg(long)]
    replace: bool,

    /// Only print what would be done
    #[arg(long)]
    dry_run: bool,
}

impl Create {
    pub async fn run(&self, run: &Run) -> Result<Output> {
        run.must_be(Role::Source, "processor create")?;
        let options = Options {
            tables: super::named(&self.tables)?,
            rebuild: false,
            replace: self.replace,
            loaded: self.loaded,
            dry_run: self.dry_run,
            lock_wait: run.globals.lock_wait,
            stop: run.stop.clone(),
        };
        make(run, &options).await
    }
}

impl Rebuild {
    pub async fn run(&self, run: &Run) -> Result<Output> {
        run.must_be(Role::Source, "processor rebuild")?;
        let options = Options {
            tables: super::named(&self.tables)?,
            rebuild: true,
            replace: self.replace,
            loaded: false,
            dry_run: self.dry_run,
            lock_wait: run.globals.lock_wait,
            stop: run.stop.clone(),
        };
        make(run, &options).await
    }
}

async fn make(run: &Run, options: &Options) -> Result<Output> {
    let mut report = processor::run(&run.config, run.store().await?, &*run.clock, options).await?;
    let failure = report.failure.take().and_then(Arc::into_inner);
    let failed = report.checks.iter().filter(|check| check.outcome == Outcome::Failed).count();
    let verdict = failure.or_else(|| {
        (failed > 0).then(|| {
            Error::new(
                Kind::Finding,
                format!("{}: the processor is made, and {failed} checks failed", report.stream),
            )
            .hint("`tablecast doctor` says what mends them")
        })
    });
    Ok(Output::new(text(&report), as_json(&report)?).with_verdict(verdict))
}

fn text(report: &Report) -> String {
    if let Some(by_hand) = &report.by_hand {
        return format!("# {}\n{}", by_hand.why, by_hand.commands.join("\n"));
    }
    let plan = &report.plan;
    let mut lines = vec![match report.dry_run {
        true => format!("{}: would make {} from {}:", report.stream, plan.processor, plan.primary),
        false => format!("{}: {} is made from {}:", report.stream, plan.processor, plan.primary),
    }];
    lines.extend(plan.steps.iter().enumerate().map(|(n, step)| format!("  {}. {step}", n + 1)));
    for check in report.checks.iter().filter(|check| check.outcome != Outcome::Passed) {
        let name = if check.outcome == Outcome::Failed { "FAIL" } else { "warn" };
        let hint = check.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
        lines.push(format!("{name}  {}: {}{hint}", check.name, check.message));
    }
    if report.dry_run {
        lines.extend(report.warnings.iter().map(|warning| format!("warning: {warning}")));
    } else {
        lines.push(match report.has_stream {
            true => "next: `tablecast upload`; `tablecast status` says where it stands".to_owned(),
            false => {
                "next: `tablecast stream init`, with the same --table; there is no stream yet".to_owned()
            }
        });
    }
    lines.join("\n")
}
