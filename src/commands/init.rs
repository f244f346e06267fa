//! `tablecast init`: a commented config file to begin with.

use std::io::Write;
use std::path::PathBuf;

use serde_json::json;

use super::globals::Globals;
use super::output::Output;
use crate::config::{Role, template};
use crate::error::{Error, Kind, Result};

/// Write a commented config file (refuses to overwrite)
#[derive(clap::Args, Clone)]
#[command(after_help = "\
Examples:
  tablecast init source                     writes ./tablecast.toml
  tablecast -c /etc/tablecast/eu1.toml init region")]
pub struct Args {
    /// What this machine does: read the tables, or receive them
    #[arg(value_enum)]
    role: RoleName,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum RoleName {
    Source,
    Region,
}

pub fn run(args: &Args, globals: &Globals) -> Result<Output> {
    let role = match args.role {
        RoleName::Source => Role::Source,
        RoleName::Region => Role::Region,
    };
    let path = match globals.configs.as_slice() {
        [] => PathBuf::from("tablecast.toml"),
        [path] if path.is_dir() => path.join("tablecast.toml"),
        [path] => path.clone(),
        _ => {
            return Err(Error::new(Kind::Usage, "init writes one file, but --config names several")
                .hint("name one --config FILE"));
        }
    };
    write_new(&path, template(role))?;
    let text = format!(
        "{} written, role {role}\nnext: edit it, then `tablecast config check`, `tablecast grants`, `tablecast doctor`",
        path.display()
    );
    Ok(Output::new(text, json!({"path": path.display().to_string(), "role": role.to_string()})))
}

/// Creates the file, readable by its owner only: a password may come to stand in it.
fn write_new(path: &std::path::Path, text: &str) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|cause| {
        let hint = match cause.kind() {
            std::io::ErrorKind::AlreadyExists => {
                "it is left as it is: name another with --config, or remove it first"
            }
            _ => "the folder must exist and be writable by this user",
        };
        Error::new(Kind::Usage, format!("write {}", path.display())).hint(hint).caused_by(cause)
    })
}
