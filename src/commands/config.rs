//! `tablecast config`: is the file right, and what is in force. Connects to nothing.

use serde_json::json;

use super::hook;
use super::look::Tone;
use super::output::Output;
use super::run::Run;
use crate::error::{Result, chain_and_hint};
use crate::http;
use crate::signing::SecretKey;

/// Check the config file; print what is in force
#[derive(clap::Args, Clone)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand, Clone)]
enum Verb {
    /// Read and check the file and those it names; connects to nothing (`doctor` does)
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
            let mut warned = config.warnings.clone();
            // It may be put there later: a file that has just been written by `init` is right.
            for server in [Some(&config.mysql), config.primary.as_ref()].into_iter().flatten() {
                warned.extend(server.password.check().err().map(|error| chain_and_hint(&error)));
            }
            if let Some(path) = &config.sign_key {
                warned.extend(SecretKey::load(path).err().map(|error| chain_and_hint(&error)));
            }
            if let Some(program) = &config.hooks.on_failure {
                warned.extend(hook::check(program).err());
            }
            let warnings = warned
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
                "warnings": warned,
            });
            Output::new(text, json)
        }
        Verb::Show => {
            let text = format!("# {path}\n{}", config.to_toml().trim_end());
            Output::new(text, json!({"path": path, "config": config.to_json()}))
        }
    })
}
