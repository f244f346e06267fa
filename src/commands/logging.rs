//! Logs: to stderr, as text or JSON lines. Results never go here, and logs never to stdout.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::clock::{Clock, SystemClock};

use super::globals::{Globals, LogFormat};

/// Starts logging. A following process says what it does; a one-shot run only what is worth a mail from cron.
pub fn start(globals: &Globals, follows: bool, color: bool) {
    let own = match (globals.quiet, globals.verbose, follows) {
        (true, ..) => "error",
        (false, 0, false) => "warn",
        (false, 0, true) | (false, 1, false) => "info",
        (false, 1, true) | (false, 2, _) => "debug",
        (false, ..) => "trace",
    };
    let others = if globals.verbose > 2 { "info" } else { "error" };
    let default = format!("{others},tablecast={own}");
    let filter = std::env::var("TABLECAST_LOG").ok().and_then(|text| EnvFilter::try_new(text).ok());
    let filter = filter.unwrap_or_else(|| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(color)
        .with_timer(Utc);
    // A second start (tests run commands in one process) changes nothing.
    let _ = match globals.log_format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}

struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        write!(writer, "{}", SystemClock.now().format("%Y-%m-%dT%H:%M:%S%.3fZ"))
    }
}
