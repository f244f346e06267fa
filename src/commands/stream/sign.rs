//! `tablecast stream sign`: the index signed as it is, by a person's decision.

use crate::commands::look::{self, Tone};
use crate::commands::output::{Output, as_json};
use crate::commands::run::Run;
use crate::config::Role;
use crate::error::Result;
use crate::source::sign::{self, Was};

/// Sign the index as it is: where signing begins, or after a key was replaced
#[derive(clap::Args, Clone)]
#[command(after_help = "\
Examples:
  tablecast stream sign --dry-run     who has signed the index, and where it ends
  tablecast stream sign               with the key in [sign]; every upload signs by itself from then on
  tablecast stream sign --remove      no longer signed: first remove [trust] in every region, and [sign] here
What you sign, every region believes. docs/runbooks/sign-the-stream.md")]
pub struct Args {
    /// Take the signature away
    #[arg(long)]
    remove: bool,

    /// Also an index that a key has signed which this config does not trust, or that was changed since
    #[arg(long)]
    force: bool,

    /// Only print what would be signed
    #[arg(long)]
    dry_run: bool,
}

impl Args {
    pub async fn run(&self, run: &Run) -> Result<Output> {
        run.must_be(Role::Source, "stream sign")?;
        let options = sign::Options { remove: self.remove, force: self.force, dry_run: self.dry_run };
        let report = sign::run(&run.config, &run.clients, &options).await?;
        let was = match report.was {
            Was::Unsigned => "it was not signed".to_owned(),
            Was::Signed(key) => format!("it was signed by key {key}"),
            Was::Stranger(key) => format!("it was signed by key {key}, which this config does not trust"),
            Was::Unfit(key) => format!("it was changed after key {key} had signed it"),
        };
        let would = if report.dry_run { "would be " } else { "" };
        let what = match report.key {
            Some(key) => format!("{would}signed by key {key}"),
            None if report.was == Was::Unsigned => "not signed".to_owned(),
            None => format!("{would}no longer signed"),
        };
        let mut text = format!(
            "{}: {what}; {was}\nit ends at entry {}, chain {}",
            report.stream,
            look::number(report.last_seq.0),
            report.chain
        );
        for warning in &report.warnings {
            text.push_str(&format!("\n{} {warning}", run.look.paint(Tone::Warn, "warning:")));
        }
        Ok(Output::new(text, as_json(&report)?))
    }
}
