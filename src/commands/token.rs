//! `tablecast token`: a fresh token for the service, and the entry of the tokens file that admits it.

use std::collections::BTreeSet;

use rand::RngCore;
use serde_json::json;

use super::output::Output;
use crate::error::{Error, Kind, Result};
use crate::http::tokens::{Fresh, Scope};

/// Make a token for the HTTP service: print it once, with the entry for serve.tokens_file
#[derive(clap::Args, Clone)]
#[command(after_help = "\
Examples:
  tablecast token --region eu1                          for a region: read, dump, report
  tablecast token --name monitoring --scope read        for whoever only looks
  tablecast token --name dba --scope admin              for every region

Put the token into the region's token_file (mode 0400), the entry into the source's tokens_file. The service
takes up the changed file by itself. The token is not kept anywhere: the file has its hash only.")]
pub struct Args {
    /// The only region that the token acts for
    #[arg(long, value_name = "NAME")]
    region: Option<String>,

    /// What people call the token; stands in the log [default: the region]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// What it allows, may be repeated: read, dump, report, admin [default: read, dump and report with --region]
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<Scope>,
}

pub fn run(args: &Args) -> Result<Output> {
    if args.region.is_none() && (args.name.is_none() || args.scopes.is_empty()) {
        return Err(Error::new(Kind::Usage, "make a token: nobody knows yet whom it is for").hint(
            "--region NAME for a region; --name NAME and --scope read (or dump, report, admin) for anybody else",
        ));
    }
    let mut scopes: BTreeSet<Scope> = args.scopes.iter().copied().collect();
    if scopes.is_empty() {
        scopes = BTreeSet::from([Scope::Read, Scope::Dump, Scope::Report]);
    }
    let name = args.name.as_deref().or(args.region.as_deref()).unwrap_or_default();
    let mut random = [0; 32];
    rand::rng().fill_bytes(&mut random);
    let fresh = Fresh::make(random, name, args.region.as_deref(), &scopes)?;
    let text = format!(
        "# the token, shown this once: into the region's token_file\n{}\n\n# into the source's tokens_file\n{}",
        fresh.token,
        fresh.entry.trim_end()
    );
    Ok(Output::new(text, json!({"token": fresh.token, "entry": fresh.entry})))
}
