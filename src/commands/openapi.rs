//! `tablecast openapi`: the service's description for programs.

use super::output::{self, Output};
use crate::error::{Error, Kind, Result};
use crate::http;

/// Print the OpenAPI 3.1 description of the HTTP service
#[derive(clap::Args, Clone)]
pub struct Args {}

pub fn run(_: &Args) -> Result<Output> {
    let text = serde_json::to_string_pretty(&http::openapi::document())
        .map_err(|cause| Error::new(Kind::Failed, "write the description as JSON").caused_by(cause))?;
    output::print(&format!("{text}\n"));
    Ok(Output::printed())
}
