//! `tablecast tables list`: the set as the stream has it.

use crate::commands::look::{self, Tone};
use crate::commands::output::{Output, as_json};
use crate::commands::run::Run;
use crate::error::Result;
use crate::source::tables::{self, Listing};

/// List the tables that travel, and changes that are on their way
#[derive(clap::Args, Clone)]
pub struct Args {}

impl Args {
    pub async fn run(&self, run: &Run) -> Result<Output> {
        let store = run.store().await?;
        let listing = tables::list(&run.config, &*store).await?;
        Ok(Output::new(text(run, &listing), as_json(&listing)?))
    }
}

fn text(run: &Run, listing: &Listing) -> String {
    let rows = listing.tables.iter().map(|listed| {
        let mut row = vec![listed.pattern.to_string(), look::count(listed.known.len() as u64, "table")];
        row.extend(listed.let_in.map(|let_in| match let_in {
            true => "let in".to_owned(),
            false => format!("not let in by this region's list: add {} to [region] tables", listed.pattern),
        }));
        row
    });
    let header: &[&str] = match listing.tables.first().and_then(|listed| listed.let_in) {
        Some(_) => &["tables", "today", "here"],
        None => &["tables", "today"],
    };
    let mut text = format!("stream {}: version {} of the table set\n", listing.stream, listing.version);
    text.push_str(&run.look.table(header, &[], rows));
    if listing.waits_for_dump {
        text.push_str(
            "\ntables came in that hold rows: regions wait for a dump of all tables (`tablecast dump list`)",
        );
    }
    for pending in &listing.pending {
        let why = pending.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let (how, then) = match listing.passed_over {
            true => ("was passed over", ""),
            false => ("is on its way", "; `tablecast upload` records it"),
        };
        text.push_str(&format!(
            "\nversion {} {how}: {} (by {} at {}{why}){then}",
            pending.version, pending.tables, pending.changed_by, pending.changed_at
        ));
    }
    for warning in &listing.warnings {
        text.push_str(&format!("\n{} {warning}", run.look.paint(Tone::Bad, "warning:")));
    }
    text.trim_end().to_owned()
}
