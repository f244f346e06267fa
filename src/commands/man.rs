//! `tablecast man`: the manual pages, one a command, made from the same definition as `--help`.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::output::Output;
use crate::error::{Error, Kind, Result};

/// Write the manual pages to a folder
#[derive(clap::Args, Clone)]
#[command(after_help = "\
Example:
  tablecast man /usr/local/share/man/man1")]
pub struct Args {
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

pub fn run(args: &Args) -> Result<Output> {
    let failed = |what: &Path, cause: std::io::Error| {
        Error::new(Kind::Failed, format!("write {}", what.display())).caused_by(cause)
    };
    std::fs::create_dir_all(&args.folder).map_err(|cause| failed(&args.folder, cause))?;
    let mut command = super::command();
    command.build();
    let mut files = Vec::new();
    pages(&command, &mut |name, page| {
        let path = args.folder.join(name);
        std::fs::write(&path, page).map_err(|cause| failed(&path, cause))?;
        files.push(path.display().to_string());
        Ok(())
    })?;
    let text =
        format!("{} written to {}", super::look::count(files.len() as u64, "page"), args.folder.display());
    Ok(Output::new(text, json!({"files": files})))
}

fn pages(command: &clap::Command, write: &mut impl FnMut(String, &[u8]) -> Result<()>) -> Result<()> {
    let mut page = Vec::new();
    let manual = clap_mangen::Man::new(command.clone());
    manual
        .render(&mut page)
        .map_err(|cause| Error::new(Kind::Failed, "render a manual page").caused_by(cause))?;
    write(manual.get_filename(), &page)?;
    command.get_subcommands().filter(|inner| !inner.is_hide_set()).try_for_each(|inner| pages(inner, write))
}
