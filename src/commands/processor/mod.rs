//! `tablecast processor`: the mini-replica that the stream is read from.

mod config;
mod make;

use super::output::Output;
use super::run::Run;
use crate::binlog::name::TableSet;
use crate::error::{Error, Kind, Result};

/// The mini-replica that upload reads: its my.cnf, make it, make it again
#[derive(clap::Args, Clone)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand, Clone)]
enum Verb {
    Config(config::Args),
    Create(make::Create),
    Rebuild(make::Rebuild),
}

impl Args {
    pub async fn run(&self, run: &Run) -> Result<Output> {
        match &self.verb {
            Verb::Config(args) => args.run(run).await,
            Verb::Create(args) => args.run(run).await,
            Verb::Rebuild(args) => args.run(run).await,
        }
    }
}

/// The tables of `--table`, if there are any.
fn named(tables: &[String]) -> Result<Option<TableSet>> {
    if tables.is_empty() { Ok(None) } else { TableSet::parse(tables).map(Some) }
}

/// The set: of the stream, with what is named besides; or as named where there is no stream yet.
async fn table_set(run: &Run, tables: &[String]) -> Result<TableSet> {
    let more = named(tables)?;
    let store = run.store().await?;
    match (run.head(&*store).await, more) {
        (Ok(head), Some(more)) => Ok(head.table_set.tables.union(&more)),
        (Ok(head), None) => Ok(head.table_set.tables),
        (Err(error), Some(more)) if error.is_not_found() => Ok(more),
        (Err(error), None) if error.is_not_found() => {
            Err(Error::new(Kind::Usage, "there is no stream yet that would name the tables")
                .hint("name them: --table DB.T --table DB.T …")
                .caused_by(error))
        }
        (Err(error), _) => Err(error),
    }
}
