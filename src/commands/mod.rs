//! The command line: one verb a file, each arguments and then a call. Here is what they share: parsing, one
//! run per config file side by side, signals, printing, the exit code.

mod apply;
mod bootstrap;
mod completions;
mod config;
mod doctor;
mod dump;
mod fetch;
mod globals;
mod grants;
mod guard;
mod init;
mod inspect;
mod logging;
mod look;
mod man;
mod migrations;
mod openapi;
mod output;
mod processor;
mod progress;
mod quarantine;
mod restore;
mod run;
mod serve;
mod signals;
mod status;
mod stream;
mod tables;
mod token;
mod upload;
mod verify;
mod wait;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{CommandFactory, Parser, Subcommand};
use serde_json::json;
use tracing::Instrument;

use crate::clock::SystemClock;
use crate::error::{Error, Kind, Result};
use globals::Globals;
use look::Look;
use output::Output;
use run::Run;
use signals::Signals;

/// Keeps chosen MySQL tables identical in every region, through a bucket.
#[derive(Parser)]
#[command(
    name = "tablecast",
    version,
    propagate_version = false,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = EXAMPLES
)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    globals: Globals,
}

const EXAMPLES: &str = "\
Examples:
  tablecast init source                     write tablecast.toml, then edit it
  tablecast doctor                          is everything in place?
  tablecast stream init --table g.apps      begin a stream
  tablecast upload                          at the source, from cron
  tablecast apply                           in each region, from cron
  tablecast status --fail-if-lag 5m         for the monitoring

Exit codes: 0 done · 1 failed · 2 usage or config · 3 partly · 4 finding · 10 history · 11 locked
            12 refused by MySQL or S3 · 13 format too new · 15 refused by the gate · 130/143 signal";

#[derive(Subcommand, Clone)]
enum Verb {
    Init(init::Args),
    Config(config::Args),
    Doctor(doctor::Args),
    Grants(grants::Args),
    Stream(stream::Args),
    Tables(tables::Args),
    Upload(upload::Args),
    Apply(apply::Args),
    Restore(restore::Args),
    Bootstrap(bootstrap::Args),
    Status(status::Args),
    Quarantine(quarantine::Args),
    Guard(guard::Args),
    Verify(verify::Args),
    Inspect(inspect::Args),
    Wait(wait::Args),
    Dump(dump::Args),
    Migrations(migrations::Args),
    Processor(processor::Args),
    Serve(serve::Args),
    Token(token::Args),
    Openapi(openapi::Args),
    Completions(completions::Args),
    Man(man::Args),
}

impl Verb {
    fn follows(&self) -> bool {
        match self {
            Verb::Upload(args) => args.follow,
            Verb::Apply(args) => args.follow,
            Verb::Serve(_) => true,
            _ => false,
        }
    }

    /// Ends by itself at a safe place when asked to; the others are simply dropped.
    fn ends_by_itself(&self) -> bool {
        matches!(
            self,
            Verb::Upload(_) | Verb::Apply(_) | Verb::Restore(_) | Verb::Bootstrap(_) | Verb::Serve(_)
        )
    }

    /// The verbs that need no config file.
    fn run_alone(&self, globals: &Globals, look: Look) -> Option<Result<Output>> {
        match self {
            Verb::Init(args) => Some(init::run(args, globals)),
            Verb::Completions(args) => Some(completions::run(args)),
            Verb::Man(args) => Some(man::run(args)),
            Verb::Token(args) => Some(token::run(args)),
            Verb::Openapi(args) => Some(openapi::run(args)),
            Verb::Inspect(args) => args.file().map(|path| args.run_on_file(&path, globals, look)),
            _ => None,
        }
    }

    async fn run(&self, run: &Run) -> Result<Output> {
        match self {
            Verb::Config(args) => config::run(args, run),
            Verb::Doctor(args) => args.run(run).await,
            Verb::Grants(args) => args.run(run).await,
            Verb::Stream(args) => args.run(run).await,
            Verb::Tables(args) => args.run(run).await,
            Verb::Upload(args) => args.run(run).await,
            Verb::Apply(args) => args.run(run).await,
            Verb::Restore(args) => args.run(run).await,
            Verb::Bootstrap(args) => args.run(run).await,
            Verb::Status(args) => args.run(run).await,
            Verb::Quarantine(args) => args.run(run).await,
            Verb::Guard(args) => args.run(run).await,
            Verb::Verify(args) => args.run(run).await,
            Verb::Inspect(args) => args.run(run).await,
            Verb::Wait(args) => args.run(run).await,
            Verb::Dump(args) => args.run(run).await,
            Verb::Migrations(args) => args.run(run).await,
            Verb::Processor(args) => args.run(run).await,
            Verb::Serve(args) => args.run(run).await,
            Verb::Init(_) | Verb::Completions(_) | Verb::Man(_) | Verb::Token(_) | Verb::Openapi(_) => {
                Ok(Output::printed())
            }
        }
    }
}

/// The whole program; the process's exit code.
pub fn main() -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse_arguments(&error),
    };
    let color = |is_terminal: bool| {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        is_terminal
            && !cli.globals.no_color
            && !unwanted
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
    };
    let look = Look { color: color(std::io::stdout().is_terminal()) };
    let stderr = Look { color: color(std::io::stderr().is_terminal()) };
    logging::start(&cli.globals, cli.verb.follows(), stderr.color);
    if let Some(result) = cli.verb.run_alone(&cli.globals, look) {
        return report(&cli.globals, stderr, vec![(PathBuf::new(), result)]);
    }
    let paths = match crate::config::find(&cli.globals.configs) {
        Ok(paths) => paths,
        Err(error) => return report(&cli.globals, stderr, vec![(PathBuf::new(), Err(error))]),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    let results = match runtime {
        Ok(runtime) => {
            let results =
                runtime.block_on(run_all(cli.verb.clone(), Arc::new(cli.globals.clone()), paths, look));
            // A name look-up that hangs in a thread must not keep a finished run from ending.
            runtime.shutdown_background();
            results
        }
        Err(cause) => Err(Error::new(Kind::Failed, "start the runtime").caused_by(cause)),
    };
    report(&cli.globals, stderr, results.unwrap_or_else(|error| vec![(PathBuf::new(), Err(error))]))
}

type Results = Vec<(PathBuf, Result<Output>)>;

/// One run per file, side by side; the results in the order of the files.
async fn run_all(verb: Verb, globals: Arc<Globals>, paths: Vec<PathBuf>, look: Look) -> Result<Results> {
    #[allow(clippy::disallowed_methods)] // The operator's second Ctrl-C: this is main's own business.
    let signals = Signals::listen(|code| std::process::exit(code.into()))?;
    let is_one_of_many = paths.len() > 1;
    let mut tasks = Vec::new();
    for path in paths {
        let (verb, globals, signals) = (verb.clone(), globals.clone(), signals.clone());
        let file = path.clone();
        // Side by side, the logs say whose they are.
        let span = match is_one_of_many {
            true => tracing::error_span!("run", config = %path.display()),
            false => tracing::Span::none(),
        };
        let run = async move {
            let config = crate::config::load(&file)?;
            for warning in &config.warnings {
                tracing::warn!("{warning}");
            }
            let stop = signals.stop.clone();
            let run = Run { config, globals, clock: Arc::new(SystemClock), stop, look, is_one_of_many };
            let ends_by_itself = verb.ends_by_itself();
            tokio::select! {
                result = verb.run(&run) => result,
                () = signals.stop.cancelled(), if !ends_by_itself => Ok(Output::new("", json!({}))),
            }
        };
        tasks.push((path, tokio::spawn(run.instrument(span))));
    }
    let mut results = Vec::new();
    for (path, task) in tasks {
        let result = match task.await {
            Ok(result) => result,
            Err(cause) => {
                Err(Error::new(Kind::Failed, "the run ended by a panic: this is a bug").caused_by(cause))
            }
        };
        // A run that failed for a reason of its own keeps it; a signal explains the others.
        let result = match (result, signals.heard()) {
            (Ok(output), Some(signal)) => Ok(output.with_verdict(Some(signal))),
            (result, _) => result,
        };
        results.push((path, result));
    }
    Ok(results)
}

/// Prints every result and gives the exit code.
fn report(globals: &Globals, stderr: Look, results: Results) -> u8 {
    let code_of = |result: &Result<Output>| match result {
        Ok(output) => output.verdict.as_ref().map_or(0, |verdict| verdict.kind().exit_code()),
        Err(error) => error.kind().exit_code(),
    };
    let codes: Vec<u8> = results.iter().map(|(_, result)| code_of(result)).collect();
    let code = output::exit_code(&codes);
    if globals.json {
        print_json(&results, code);
        return code;
    }
    let many = results.len() > 1;
    for (path, result) in &results {
        let place = if many { format!("{}: ", path.display()) } else { String::new() };
        let failure = match result {
            Ok(output) => {
                if !output.text.is_empty() && !globals.quiet {
                    let heading = if many { format!("== {}\n", path.display()) } else { String::new() };
                    output::print(&format!("{heading}{}\n", output.text));
                }
                output.verdict.as_ref()
            }
            Err(error) => Some(error),
        };
        if let Some(error) = failure {
            output::print_error(&format!("{place}{}", output::failure_text(error, stderr.color)));
        }
    }
    code
}

fn print_json(results: &Results, code: u8) {
    let document = match results.as_slice() {
        [(_, Ok(output))] if output.is_printed => return,
        [(_, result)] => output::document(output::run_json(result)),
        many => {
            let runs = many.iter().map(|(path, result)| {
                let mut fields = output::run_json(result);
                fields.insert("config".to_owned(), json!(path.display().to_string()));
                serde_json::Value::Object(fields)
            });
            let fields = [("code".to_owned(), json!(code)), ("runs".to_owned(), runs.collect())];
            output::document(fields)
        }
    };
    output::print(&format!("{document}\n"));
}

/// `--help` and `--version` are no errors; a wrong argument is exit code 2, with `--json` one object as well.
fn refuse_arguments(error: &clap::Error) -> u8 {
    if !error.use_stderr() {
        let text = if std::io::stdout().is_terminal() {
            error.render().ansi().to_string()
        } else {
            error.render().to_string()
        };
        output::print(&text);
        return 0;
    }
    let wants_json = std::env::args_os().any(|argument| argument == "--json");
    if wants_json {
        let text = error.render().to_string();
        let message = text.split("\n\n").next().unwrap_or(&text).trim().trim_start_matches("error: ");
        let failure = Error::new(Kind::Usage, message)
            .hint("`tablecast --help` and `tablecast COMMAND --help` explain");
        output::print(&format!("{}\n", output::document(output::failure_json(&failure))));
    } else {
        let _ = error.print();
    }
    Kind::Usage.exit_code()
}

/// The definition of the whole command line, for completions, man pages and the check of the documentation.
pub fn command() -> clap::Command {
    Cli::command()
}
