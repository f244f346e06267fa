//! The flags that every command knows.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::{ArgAction, Args, ValueEnum};

use crate::binlog::name::TableName;

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Everywhere")]
pub struct Globals {
    /// Config file, or a folder of them; may be repeated: one run per file, side by side [default: tablecast.toml]
    #[arg(
        long = "config",
        short = 'c',
        value_name = "FILE",
        global = true,
        env = "TABLECAST_CONFIG",
        hide_env_values = true
    )]
    pub configs: Vec<PathBuf>,

    /// Of several config files: so many runs at work at once. One that waits for a server that hangs does not count; with
    /// --follow only those that begin do
    #[arg(long, value_name = "N", default_value = "32", global = true, value_parser = jobs())]
    pub jobs: usize,

    /// Print one JSON document, with a schema_version, instead of text
    #[arg(long, global = true)]
    pub json: bool,

    /// No results and no logs but errors
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub quiet: bool,

    /// More logs; twice for still more
    #[arg(long, short, global = true, action = ArgAction::Count)]
    pub verbose: u8,

    /// How logs are written to stderr
    #[arg(
        long,
        value_name = "FORMAT",
        value_enum,
        default_value = "text",
        global = true,
        hide_possible_values = true
    )]
    pub log_format: LogFormat,

    /// No colour, also on a terminal (as does NO_COLOR)
    #[arg(long, global = true)]
    pub no_color: bool,

    /// How long to wait for a lock that another run holds
    #[arg(long, value_name = "DUR", default_value = "0s", global = true, value_parser = duration())]
    pub lock_wait: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

fn jobs() -> impl TypedValueParser<Value = usize> {
    clap::value_parser!(u16).range(1..=1000).map(usize::from)
}

/// Reads `g.apps`; what is wrong with another text is said with the form that is wanted.
pub fn table() -> impl TypedValueParser<Value = TableName> {
    clap::builder::StringValueParser::new().try_map(|text| {
        text.parse::<TableName>()
            .map_err(|error| format!("{error}; {}", error.hint_text().unwrap_or_default()))
    })
}

/// Reads `5m` on the command line as in the config.
pub fn duration() -> impl TypedValueParser<Value = Duration> {
    clap::builder::StringValueParser::new().try_map(|text| {
        crate::config::parse_duration(&text)
            .map_err(|error| format!("{error}; {}", error.hint_text().unwrap_or_default()))
    })
}
