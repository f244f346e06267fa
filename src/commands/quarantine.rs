//! `tablecast quarantine`: which tables of this region are passed over, and the way back by hand.

use serde_json::json;

use super::globals::table;
use super::look;
use super::output::{Output, as_json};
use super::run::Run;
use crate::binlog::name::TableName;
use crate::config::Role;
use crate::error::Result;
use crate::mysql;
use crate::region::quarantine::{self, Quarantined, Reason, release};

/// Show the tables in quarantine; release one by hand
#[derive(clap::Args, Clone)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand, Clone)]
enum Verb {
    List(List),
    Release(Release),
}

/// Show the tables whose changes are passed over: since when, why, what is done about it
#[derive(clap::Args, Clone)]
#[command(after_help = "\
Examples:
  tablecast quarantine list
  tablecast quarantine list --json")]
struct List {}

/// End a table's quarantine without a restore
#[derive(clap::Args, Clone)]
#[command(after_help = "\
Examples:
  tablecast quarantine release g.apps             after its definition was mended, with nothing passed over
  tablecast quarantine release g.apps --force     after its rows were copied by hand, as of this region's position
Ends with 4 if changes were passed over and --force is not given.")]
struct Release {
    /// The tables
    #[arg(required = true, value_name = "DB.T", value_parser = table())]
    tables: Vec<TableName>,

    /// Also if changes were passed over: the table goes on without them
    #[arg(long)]
    force: bool,

    /// Only print what would be released
    #[arg(long)]
    dry_run: bool,
}

impl Args {
    pub async fn run(&self, run: &Run) -> Result<Output> {
        match &self.verb {
            Verb::List(_) => list(run).await,
            Verb::Release(args) => args.run(run).await,
        }
    }
}

async fn list(run: &Run) -> Result<Output> {
    run.must_be(Role::Region, "quarantine list")?;
    let mut conn = mysql::connect(&run.config.mysql).await?;
    let tables = quarantine::list(&mut conn, &run.config.stream).await?;
    let text = match tables.as_slice() {
        [] => "no table is in quarantine".to_owned(),
        tables => tables.iter().map(|known| describe(run, known)).collect::<Vec<_>>().join("\n\n"),
    };
    let region = run.config.region.as_ref().map(|region| region.name.as_str());
    let json = json!({ "stream": run.config.stream, "region": region, "quarantined": as_json(&tables)? });
    Ok(Output::new(text, json))
}

fn describe(run: &Run, known: &Quarantined) -> String {
    let since = match &known.source_gtid {
        Some(gtid) => format!("transaction {} (source {gtid})", look::number(known.since_tx)),
        None => format!("transaction {}", look::number(known.since_tx)),
    };
    let facts = run.look.facts(&[
        ("since", look::time(known.at, run.now())),
        ("from", since),
        ("why", format!("{}: {}", known.reason, known.error)),
        ("passed over", look::count(known.passed_over, "transaction")),
        ("what is done", doing(run, known)),
    ]);
    format!(
        "{}\n  {}",
        run.look.paint(look::Tone::Strong, &known.table.to_string()),
        facts.replace('\n', "\n  ")
    )
}

/// What brings the table back.
fn doing(run: &Run, known: &Quarantined) -> String {
    if let Some(error) = &known.request_error {
        return format!(
            "the source was asked for a dump, and did not answer ({}): {error}",
            look::count(known.request_attempts.into(), "attempt")
        );
    }
    if let Some(request) = &known.request {
        let at = known.requested_at.map_or_else(|| look::UNKNOWN.to_owned(), |at| look::time(at, run.now()));
        return format!("dump {request} was asked for {at}; `tablecast dump show {request}` follows it");
    }
    if known.reason == Reason::Added {
        return "waits for the dump of the whole set, which `upload` at the source takes by itself"
            .to_owned();
    }
    if known.reason == Reason::Own {
        return format!("waits for you: DROP or RENAME it, or `tablecast restore {}`", known.table);
    }
    let asks = run.config.region.as_ref().is_some_and(|region| region.source_url.is_some());
    match asks && run.config.apply.request_dump {
        true => "waits: `tablecast apply` uses a dump that fits, or asks the source for one".to_owned(),
        false => format!(
            "waits: `tablecast apply` uses a dump that fits, and nobody asks for one here; `tablecast dump take {}` \
             at the source makes one",
            known.table
        ),
    }
}

impl Release {
    async fn run(&self, run: &Run) -> Result<Output> {
        run.must_be(Role::Region, "quarantine release")?;
        let options = release::Options {
            tables: self.tables.clone(),
            force: self.force,
            dry_run: self.dry_run,
            lock_wait: run.globals.lock_wait,
        };
        let released = release::release(&run.config, &options).await?;
        let verb = if released.dry_run { "would release" } else { "released" };
        let mut lines: Vec<String> = released
            .released
            .iter()
            .map(|known| match known.passed_over {
                0 => format!("{verb} {}: nothing of it was passed over", known.table),
                n => format!(
                    "{verb} {}: it goes on without what {} changed in it",
                    known.table,
                    look::count(n, "transaction")
                ),
            })
            .collect();
        if !released.quarantined.is_empty() {
            lines.push(format!("still in quarantine: {}", names(&released.quarantined)));
        }
        Ok(Output::new(lines.join("\n"), as_json(&released)?))
    }
}

fn names(tables: &[Quarantined]) -> String {
    tables.iter().map(|known| known.table.to_string()).collect::<Vec<_>>().join(", ")
}
