//! What the runs of a process have come to: printed, counted, and the exit code.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::globals::Globals;
use super::look::{self, Look};
use super::output::{self, Outcome, Output};
use crate::error::{Error, Kind, Result};

/// By config file, in the order of the files.
pub(super) type Results = Vec<(PathBuf, Result<Output>)>;

/// So many of the failed are named in the summary.
const NAMED: usize = 20;

/// Prints every result and gives the exit code.
pub(super) fn report(globals: &Globals, stderr: Look, results: &Results) -> u8 {
    let codes: Vec<u8> = results.iter().map(|(_, result)| code_of(result)).collect();
    let code = output::exit_code(&codes);
    match results.as_slice() {
        _ if globals.json => print_json(results, code),
        [(_, result)] => print_one(globals, stderr, result),
        many => print_many(globals, stderr, many),
    }
    code
}

fn code_of(result: &Result<Output>) -> u8 {
    failure(result).map_or(0, |error| error.kind().exit_code())
}

pub(super) fn failure(result: &Result<Output>) -> Option<&Error> {
    match result {
        Ok(output) => output.verdict.as_ref(),
        Err(error) => Some(error),
    }
}

fn print_one(globals: &Globals, stderr: Look, result: &Result<Output>) {
    if let Ok(output) = result
        && !output.text.is_empty()
        && !globals.quiet
    {
        output::print(&format!("{}\n", output.text));
    }
    if let Some(error) = failure(result) {
        output::print_error(&output::failure_text(error, stderr.color));
    }
}

/// A line for each stream that something was done for, what failed with its file, and a line for all of them.
fn print_many(globals: &Globals, stderr: Look, results: &[(PathBuf, Result<Output>)]) {
    for (path, result) in results {
        if let Ok(output) = result
            && !output.text.is_empty()
            && !globals.quiet
            && (!output.is_idle() || globals.verbose > 0)
        {
            output::print(&match output.outcome {
                Outcome::Done => format!("== {}\n{}\n", path.display(), output.text),
                _ => format!("{}\n", output.text),
            });
        }
        match failure(result) {
            // Somebody wants it so; it is counted.
            Some(error) if error.kind() == Kind::Paused && globals.verbose == 0 => {}
            Some(error) if !output::is_a_signal(error) => output::print_error(&format!(
                "{}: {}",
                path.display(),
                output::failure_text(error, stderr.color)
            )),
            _ => {}
        }
    }
    // Once for all of them.
    let signal =
        results.iter().filter_map(|(_, result)| failure(result)).find(|error| output::is_a_signal(error));
    if let Some(signal) = signal {
        output::print_error(&output::failure_text(signal, stderr.color));
    }
    if !globals.quiet {
        output::print(&format!("{}\n", Summary::of(results)));
    }
}

fn print_json(results: &Results, code: u8) {
    let document = match results.as_slice() {
        [(_, Ok(output))] if output.is_printed => return,
        [(_, result)] => output::document(output::run_json(result)),
        many => {
            let runs = many.iter().map(|(path, result)| {
                let mut fields = output::run_json(result);
                fields.insert("config".to_owned(), json!(path.display().to_string()));
                fields.insert("outcome".to_owned(), json!(outcome(result)));
                Value::Object(fields)
            });
            let fields = [
                ("code".to_owned(), json!(code)),
                ("summary".to_owned(), Summary::of(many).json()),
                ("runs".to_owned(), runs.collect()),
            ];
            output::document(fields)
        }
    };
    output::print(&format!("{document}\n"));
}

/// What became of a run, in a word.
pub(super) fn outcome(result: &Result<Output>) -> &'static str {
    match (result, failure(result)) {
        (_, Some(error)) if output::is_a_signal(error) => "stopped",
        (_, Some(error)) if error.kind() == Kind::Paused => "paused",
        (Ok(output), None) => output.outcome.word(),
        _ => "failed",
    }
}

/// Many runs in one line.
struct Summary<'a> {
    streams: usize,
    /// In the order of the alphabet.
    outcomes: BTreeMap<&'static str, usize>,
    failed: Vec<(&'a Path, Kind)>,
}

impl<'a> Summary<'a> {
    fn of(results: &'a [(PathBuf, Result<Output>)]) -> Summary<'a> {
        let mut summary = Summary { streams: results.len(), outcomes: BTreeMap::new(), failed: Vec::new() };
        for (path, result) in results {
            let outcome = outcome(result);
            *summary.outcomes.entry(outcome).or_default() += 1;
            if let (Some(error), "failed") = (failure(result), outcome) {
                summary.failed.push((path, error.kind()));
            }
        }
        summary
    }

    /// Every word is there, so that nobody has to ask whether it is.
    fn json(&self) -> Value {
        let count = |outcome: &str| self.outcomes.get(outcome).copied().unwrap_or(0).to_string();
        json!({
            "streams": self.streams.to_string(),
            "idle": count("idle"),
            "shipped": count("shipped"),
            "applied": count("applied"),
            "done": count("done"),
            "stopped": count("stopped"),
            "paused": count("paused"),
            "failed": count("failed"),
        })
    }
}

impl std::fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let others = self.outcomes.iter().filter(|(outcome, _)| **outcome != "failed");
        let mut parts: Vec<String> =
            others.map(|(outcome, count)| format!("{} {outcome}", look::number(*count as u64))).collect();
        if !self.failed.is_empty() {
            let named = self.failed.iter().take(NAMED);
            let named = named.map(|(path, kind)| format!("{} ({})", path.display(), kind.name()));
            let named = named.collect::<Vec<_>>().join(", ");
            let more = match self.failed.len() - self.failed.len().min(NAMED) {
                0 => String::new(),
                more => format!(" and {} more", look::number(more as u64)),
            };
            parts.push(format!("{} failed: {named}{more}", look::number(self.failed.len() as u64)));
        }
        write!(f, "{} streams: {}", look::number(self.streams as u64), parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Vec<(PathBuf, Result<Output>)> {
        let output = |outcome| Ok(Output::new("text", json!({})).with_outcome(outcome));
        let mut results: Vec<(PathBuf, Result<Output>)> =
            (0..1180).map(|n| (PathBuf::from(format!("{n}.toml")), output(Outcome::Idle))).collect();
        results.push(("a.toml".into(), output(Outcome::Shipped)));
        results.push(("b.toml".into(), Err(Error::new(Kind::Denied, "no"))));
        results.push(("c.toml".into(), Err(Error::new(Kind::Locked, "no"))));
        results
    }

    #[test]
    fn many_runs_are_one_line_that_names_what_failed() {
        assert_eq!(
            Summary::of(&results()).to_string(),
            "1,183 streams: 1,180 idle, 1 shipped, 2 failed: b.toml (denied), c.toml (locked)"
        );
        let failed: Vec<(PathBuf, Result<Output>)> =
            (0..23).map(|n| (PathBuf::from(format!("{n}")), Err(Error::new(Kind::Mysql, "no")))).collect();
        let text = Summary::of(&failed).to_string();
        assert!(
            text.starts_with("23 streams: 23 failed: 0 (mysql), ") && text.ends_with(" and 3 more"),
            "{text}"
        );
    }

    #[test]
    fn a_signal_and_a_pause_are_no_failures_of_a_stream() {
        let stopped = Output::new("", json!({}))
            .with_outcome(Outcome::Shipped)
            .with_verdict(Some(Error::new(Kind::Terminated, "ended")));
        let mut results = results();
        results.push(("d.toml".into(), Ok(stopped)));
        results.push(("e.toml".into(), Err(Error::new(Kind::Paused, "wait"))));
        let summary = Summary::of(&results);
        assert_eq!(summary.json()["stopped"], "1");
        assert_eq!((&summary.json()["failed"], &summary.json()["paused"]), (&json!("2"), &json!("1")));
        assert_eq!(summary.json()["applied"], "0");
    }
}
