//! `tablecast stream`: make the stream, look at its index, prune and sign it.

mod init;
pub(super) mod ls;
mod prune;
mod show;
mod sign;

use super::output::Output;
use super::run::Run;
use crate::error::Result;

/// Make the stream; show its head and its entries; delete what nobody needs any more
#[derive(clap::Args, Clone)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand, Clone)]
enum Verb {
    Init(init::Args),
    Show(show::Args),
    Ls(ls::Args),
    Prune(prune::Args),
    Sign(sign::Args),
}

impl Args {
    /// Whether this is a run that deletes what nobody needs.
    pub fn prunes(&self) -> bool {
        matches!(&self.verb, Verb::Prune(args) if !args.dry_run)
    }

    pub async fn run(&self, run: &Run) -> Result<Output> {
        match &self.verb {
            Verb::Init(args) => args.run(run).await,
            Verb::Show(args) => args.run(run).await,
            Verb::Ls(args) => args.run(run).await,
            Verb::Prune(args) => args.run(run).await,
            Verb::Sign(args) => args.run(run).await,
        }
    }
}
