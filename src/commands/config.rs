//! `tablecast config`: is the file right, and what is in force. Connects to nothing.

use serde_json::json;

use super::look::Tone;
use super::output::Output;
use super::run::Run;
use crate::error::Result;
use crate::http;

/// Check the config file; print what is in force
#[derive(clap::Args, Clone)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand, Clone)]
enum Verb {
    /// Read and check the file, with what [serve] names; connects to nothing (`doctor` does)
    Check,
    /// Print every key that is in force, defaults included, secrets redacted
    Show,
}

pub fn run(args: &Args, run: &Run) -> Result<Output> {
    let config = &run.config;
    let path = config.path.display().to_string();
    Ok(match args.verb {
        Verb::Check => {
            // What the service reads from other files is part of whether this file can be used.
            if let Some(serve) = &config.serve {
                http::serve::files(serve)?;
            }
            let warnings = config
                .warnings
                .iter()
                .map(|warning| format!("\n{} {warning}", run.look.paint(Tone::Warn, "warning:")));
            let text = format!(
                "{path}: {} role {}, stream {}, store {}{}",
                run.look.paint(Tone::Good, "ok:"),
                config.role,
                config.stream,
                config.store,
                warnings.collect::<String>()
            );
            let json = json!({
                "path": path,
                "role": config.role.to_string(),
                "stream": config.stream,
                "store": config.store.to_string(),
                "warnings": config.warnings,
            });
            Output::new(text, json)
        }
        Verb::Show => {
            let text = format!("# {path}\n{}", config.to_toml().trim_end());
            Output::new(
                text,
                json!({"path": path, "config": config.to_json(), "not_used_yet": config.unused()}),
            )
        }
    })
}
