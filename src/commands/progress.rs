//! How far a long command has come, on stderr: a bar on a terminal, else a line every 10 s; nothing with -q.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::run::Run;
use super::{look, output};

const BETWEEN_LINES: Duration = Duration::from_secs(10);

pub struct Progress {
    what: &'static str,
    total: u64,
    bar: Option<ProgressBar>,
    is_quiet: bool,
    last_line: Instant,
}

impl Progress {
    pub fn start(run: &Run, what: &'static str, total: u64) -> Self {
        let is_quiet = run.globals.quiet;
        let wants_bar = !is_quiet && !run.is_one_of_many && std::io::stderr().is_terminal();
        let bar = wants_bar.then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len}  {msg}  {eta} left");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(what);
            bar
        });
        Self { what, total, bar, is_quiet, last_line: Instant::now() }
    }

    /// `done` of the total, with a word on what it amounts to.
    pub fn step(&mut self, done: u64, amount: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(amount.to_owned());
            bar.set_position(done);
        } else if !self.is_quiet && self.last_line.elapsed() >= BETWEEN_LINES {
            self.last_line = Instant::now();
            let (done, total) = (look::number(done), look::number(self.total));
            output::print_error(&format!("{}: {done} of {total}, {amount}\n", self.what));
        }
    }

    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
