//! `tablecast tables add` and `remove`: one row on the server that is written to.

use crate::binlog::name::TablePattern;
use crate::commands::output::{Output, as_json};
use crate::commands::run::Run;
use crate::config::Role;
use crate::error::Result;
use crate::source::tables::{self, Options, Report};
use crate::store::Store;

/// Let tables into the stream, with the rows that they hold
#[derive(clap::Args, Clone)]
#[command(after_help = "\
Examples:
  tablecast tables add g.plans --dry-run    what would come in, and whether a dump is needed
  tablecast tables add g.plans --reason 'ticket 4711'
  tablecast tables add 'h.*'                every table of a schema, now and later

A table that holds rows comes into the regions by a dump of the whole set, which upload has taken by itself; one that is
empty, or not there yet, just flows. Each region lets a table in by its own list: [region] tables.")]
pub struct AddArgs {
    #[command(flatten)]
    what: What,
}

/// Take tables out of the stream; regions keep their copies as ordinary tables
#[derive(clap::Args, Clone)]
#[command(after_help = "\
Examples:
  tablecast tables remove g.plans --dry-run
  tablecast tables remove g.plans --reason 'ticket 4712'")]
pub struct RemoveArgs {
    #[command(flatten)]
    what: What,
}

#[derive(clap::Args, Clone)]
struct What {
    /// Tables, or patterns like 'g.*'
    #[arg(value_name = "DB.T", required = true)]
    tables: Vec<String>,

    /// Why, for whoever looks at tablecast.table_set later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    /// Only print what would be changed
    #[arg(long)]
    dry_run: bool,
}

impl What {
    fn patterns(&self) -> Result<Vec<TablePattern>> {
        self.tables.iter().map(|text| text.parse()).collect()
    }

    fn options(&self) -> Options {
        Options { dry_run: self.dry_run, reason: self.reason.clone() }
    }
}

impl AddArgs {
    pub async fn run(&self, run: &Run) -> Result<Output> {
        run.must_be(Role::Source, "tables add")?;
        let store = run.store().await?;
        may_change(run, &*store, "tables add").await?;
        show(&tables::add(&run.config, &*store, &self.what.patterns()?, &self.what.options()).await?)
    }
}

impl RemoveArgs {
    pub async fn run(&self, run: &Run) -> Result<Output> {
        run.must_be(Role::Source, "tables remove")?;
        let store = run.store().await?;
        may_change(run, &*store, "tables remove").await?;
        show(&tables::remove(&run.config, &*store, &self.what.patterns()?, &self.what.options()).await?)
    }
}

/// A change would wait for the upload that does not run, and the dump that it asks for as well.
async fn may_change(run: &Run, store: &dyn Store, command: &str) -> Result<()> {
    let head = run.head(store).await?;
    head.must_run(&format!("{command} of {}", head.name), &format!("tablecast {command}"), run.now())
}

fn show(report: &Report) -> Result<Output> {
    Ok(Output::new(report.to_string(), as_json(report)?))
}
