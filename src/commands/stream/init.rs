//! `tablecast stream init`: the stream's UUID, its table set and where it begins, in the first index.

use crate::binlog::gtid::GtidSet;
use crate::binlog::name::TableSet;
use crate::commands::output::{Output, as_json};
use crate::commands::run::Run;
use crate::config::Role;
use crate::error::Result;
use crate::source::init;

/// Make the stream: UUID, table set, first index
#[derive(clap::Args, Clone)]
#[command(after_help = "\
Examples:
  tablecast stream init --table g.apps --table g.partners
  tablecast stream init --table 'g.*' --dry-run
  tablecast stream init --table g.apps --source-gtid 3e11fa47-…:1-77    begin at a copy's GTID set")]
pub struct Args {
    /// A table that travels, or a pattern like 'g.*'; may be repeated
    #[arg(long = "table", short, value_name = "DB.T", required = true)]
    tables: Vec<String>,

    /// Begin at this GTID set of the source instead of now: that of a copy which the regions get
    #[arg(long, value_name = "SET")]
    source_gtid: Option<GtidSet>,

    /// Only print what would be made
    #[arg(long)]
    dry_run: bool,
}

impl Args {
    pub async fn run(&self, run: &Run) -> Result<Output> {
        run.must_be(Role::Source, "stream init")?;
        let options = init::Options {
            tables: TableSet::parse(&self.tables)?,
            covered: self.source_gtid.clone(),
            dry_run: self.dry_run,
            lock_wait: run.globals.lock_wait,
        };
        let store = run.store().await?;
        let report = init::run(&run.config, &*store, &*run.clock, &options).await?;
        let text = match report.dry_run {
            true => report.to_string(),
            false if report.plan.tables_with_rows.is_empty() => {
                format!("{report}\nnext: `tablecast upload` here, `tablecast apply` in each region")
            }
            false => format!(
                "{report}\nnext: `tablecast dump take --all-tables` here, then `tablecast bootstrap` in each region"
            ),
        };
        Ok(Output::new(text, as_json(&report)?))
    }
}
