//! The command line: one verb a file, each arguments and then a call. Here is what they share: parsing, the runs of the
//! config files side by side (`side_by_side`), signals, printing and the exit code (`results`).

mod again;
mod apply;
mod bootstrap;
mod claims;
mod completions;
mod config;
mod core_dump;
mod doctor;
mod dump;
mod fetch;
mod globals;
mod grants;
mod guard;
mod hook;
mod init;
mod inspect;
mod key;
mod ledger;
mod logging;
mod look;
mod man;
mod memory;
mod metered;
mod migrations;
mod open_files;
mod openapi;
mod output;
mod pause;
mod person;
mod processor;
mod progress;
mod quarantine;
mod restore;
mod results;
mod run;
mod serve;
mod side_by_side;
mod signals;
mod slots;
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
use futures::FutureExt;
use futures::future::{BoxFuture, ready};

use crate::error::{Error, Kind, Result};
use claims::Purpose;
use globals::Globals;
use look::Look;
use output::Output;
use results::report;
use run::Run;

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
            12 refused by MySQL or S3 · 13 format too new · 14 paused · 15 refused by the gate · 130/143 signal";

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
    Pause(pause::Args),
    Resume(pause::ResumeArgs),
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
    Key(key::Args),
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

    /// What the config files are read for.
    fn purpose(&self) -> Purpose {
        match self {
            Verb::Config(_) => Purpose::Checks,
            Verb::Doctor(_)
            | Verb::Grants(_)
            | Verb::Status(_)
            | Verb::Verify(_)
            | Verb::Inspect(_)
            | Verb::Migrations(_)
            | Verb::Wait(_)
            | Verb::Pause(_)
            | Verb::Resume(_) => Purpose::Looks,
            _ => Purpose::Locks,
        }
    }

    /// What its runs are called in the metrics file: those that change something, and `verify`.
    fn metered_as(&self) -> Option<&'static str> {
        match self {
            Verb::Upload(args) => (!args.dry_run).then_some("upload"),
            Verb::Apply(args) => (!args.dry_run).then_some("apply"),
            Verb::Restore(args) => (!args.dry_run).then_some("restore"),
            Verb::Bootstrap(args) => (!args.dry_run).then_some("bootstrap"),
            Verb::Verify(_) => Some("verify"),
            Verb::Stream(args) => args.prunes().then_some("prune"),
            Verb::Dump(args) => args.takes().then_some("dump"),
            _ => None,
        }
    }

    /// What logs call it, and hooks: a job that has figures as they do.
    fn name(&self) -> &'static str {
        match self {
            Verb::Init(_) => "init",
            Verb::Config(_) => "config",
            Verb::Doctor(_) => "doctor",
            Verb::Grants(_) => "grants",
            Verb::Stream(args) if args.prunes() => "prune",
            Verb::Stream(_) => "stream",
            Verb::Tables(_) => "tables",
            Verb::Upload(_) => "upload",
            Verb::Apply(_) => "apply",
            Verb::Restore(_) => "restore",
            Verb::Bootstrap(_) => "bootstrap",
            Verb::Status(_) => "status",
            Verb::Pause(_) => "pause",
            Verb::Resume(_) => "resume",
            Verb::Quarantine(_) => "quarantine",
            Verb::Guard(_) => "guard",
            Verb::Verify(_) => "verify",
            Verb::Inspect(_) => "inspect",
            Verb::Wait(_) => "wait",
            Verb::Dump(_) => "dump",
            Verb::Migrations(_) => "migrations",
            Verb::Processor(_) => "processor",
            Verb::Serve(_) => "serve",
            Verb::Token(_) => "token",
            Verb::Key(_) => "key",
            Verb::Openapi(_) => "openapi",
            Verb::Completions(_) => "completions",
            Verb::Man(_) => "man",
        }
    }

    /// The job that this is a run of, if its failure is worth waking somebody: what comes from timers and services, or is as
    /// large. Not what only looks, and no dry run.
    fn job(&self) -> Option<&'static str> {
        match self {
            Verb::Serve(_) => Some(self.name()),
            Verb::Verify(_) => None,
            _ => self.metered_as(),
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
            Verb::Key(args) => Some(key::run(args)),
            Verb::Openapi(args) => Some(openapi::run(args)),
            Verb::Inspect(args) => args.file().map(|path| args.run_on_file(&path, globals, look)),
            _ => None,
        }
    }

    /// Each in a box: of 1,200 runs side by side none should be as large as the largest of all commands.
    fn run<'a>(&'a self, run: &'a Run) -> BoxFuture<'a, Result<Output>> {
        match self {
            Verb::Config(args) => ready(config::run(args, run)).boxed(),
            Verb::Doctor(args) => args.run(run).boxed(),
            Verb::Grants(args) => args.run(run).boxed(),
            Verb::Stream(args) => args.run(run).boxed(),
            Verb::Tables(args) => args.run(run).boxed(),
            Verb::Upload(args) => args.run(run).boxed(),
            Verb::Apply(args) => args.run(run).boxed(),
            Verb::Restore(args) => args.run(run).boxed(),
            Verb::Bootstrap(args) => args.run(run).boxed(),
            Verb::Status(args) => args.run(run).boxed(),
            Verb::Pause(args) => args.run(run).boxed(),
            Verb::Resume(args) => args.run(run).boxed(),
            Verb::Quarantine(args) => args.run(run).boxed(),
            Verb::Guard(args) => args.run(run).boxed(),
            Verb::Verify(args) => args.run(run).boxed(),
            Verb::Inspect(args) => args.run(run).boxed(),
            Verb::Wait(args) => args.run(run).boxed(),
            Verb::Dump(args) => args.run(run).boxed(),
            Verb::Migrations(args) => args.run(run).boxed(),
            Verb::Processor(args) => args.run(run).boxed(),
            Verb::Serve(args) => args.run(run).boxed(),
            Verb::Init(_)
            | Verb::Completions(_)
            | Verb::Man(_)
            | Verb::Token(_)
            | Verb::Key(_)
            | Verb::Openapi(_) => ready(Ok(Output::printed())).boxed(),
        }
    }
}

/// The whole program; the process's exit code.
pub fn main() -> u8 {
    core_dump::forbid();
    memory::share_arenas();
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
        return report(&cli.globals, stderr, &vec![(PathBuf::new(), result)]);
    }
    let paths = match crate::config::find(&cli.globals.configs) {
        Ok(paths) => paths,
        Err(error) => return report(&cli.globals, stderr, &vec![(PathBuf::new(), Err(error))]),
    };
    open_files::raise_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    let results = match runtime {
        Ok(runtime) => {
            let results = runtime.block_on(side_by_side::run_all(
                cli.verb.clone(),
                Arc::new(cli.globals.clone()),
                paths,
                look,
            ));
            // A name look-up that hangs in a thread must not keep a finished run from ending.
            runtime.shutdown_background();
            results
        }
        Err(cause) => Err(Error::new(Kind::Failed, "start the runtime").caused_by(cause)),
    };
    report(&cli.globals, stderr, &results.unwrap_or_else(|error| vec![(PathBuf::new(), Err(error))]))
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
