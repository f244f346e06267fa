//! `tablecast completions`: a shell's completion script on stdout.

use super::output::{self, Output};
use crate::error::Result;

/// Print a completion script for a shell
#[derive(clap::Args, Clone)]
#[command(after_help = "\
Example:
  mkdir -p ~/.local/share/bash-completion/completions
  tablecast completions bash > ~/.local/share/bash-completion/completions/tablecast")]
pub struct Args {
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

pub fn run(args: &Args) -> Result<Output> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "tablecast", &mut script);
    output::print(&String::from_utf8_lossy(&script));
    Ok(Output::printed())
}
