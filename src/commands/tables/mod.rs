//! `tablecast tables`: which tables travel, and how that is changed.

mod change;
mod list;

use super::output::Output;
use super::run::Run;
use crate::error::Result;

/// List the tables that travel; add some; remove some
#[derive(clap::Args, Clone)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand, Clone)]
enum Verb {
    List(list::Args),
    Add(change::AddArgs),
    Remove(change::RemoveArgs),
}

impl Args {
    pub async fn run(&self, run: &Run) -> Result<Output> {
        match &self.verb {
            Verb::List(args) => args.run(run).await,
            Verb::Add(args) => args.run(run).await,
            Verb::Remove(args) => args.run(run).await,
        }
    }
}
