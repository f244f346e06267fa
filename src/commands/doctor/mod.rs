//! `tablecast doctor`: every precondition of this role, tried for real. Each finding says what it breaks and
//! the SQL or setting that mends it. Changes nothing but a probe object, which it removes again.

mod machine;
mod mysql;
mod service;
mod standing;
mod store;

use serde_json::json;

use super::look::{self, Look, Tone};
use super::output::Output;
use super::run::Run;
use crate::config::Role;
use crate::error::{Error, Kind, Result};

/// Try every precondition of this role; say what mends each finding
#[derive(clap::Args, Clone)]
#[command(after_help = "\
Examples:
  tablecast doctor
  tablecast doctor --json
Ends with 4 when a check failed.")]
pub struct Args {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Warning,
    Failed,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Warning => "warning",
            Outcome::Failed => "failed",
        }
    }
}

/// One precondition, tried.
struct Check {
    name: String,
    outcome: Outcome,
    message: String,
    /// What mends it.
    hint: Option<String>,
    /// What goes wrong meanwhile.
    breaks: Option<String>,
}

impl Check {
    fn passed(name: &str, message: impl Into<String>) -> Check {
        let (name, message) = (name.to_owned(), message.into());
        Check { name, outcome: Outcome::Passed, message, hint: None, breaks: None }
    }

    fn finding(
        name: &str,
        outcome: Outcome,
        message: impl Into<String>,
        breaks: impl Into<String>,
        hint: impl Into<String>,
    ) -> Check {
        let (name, message) = (name.to_owned(), message.into());
        Check { name, outcome, message, hint: Some(hint.into()), breaks: Some(breaks.into()) }
    }

    /// A step that failed, with its causes in one line.
    fn failed(run: &Run, name: &str, error: &Error) -> Check {
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            message.push_str(&format!(": {inner}"));
            cause = inner.source();
        }
        Check {
            name: name.to_owned(),
            outcome: Outcome::Failed,
            message,
            hint: Some(mend(error.hint_text(), error.kind())),
            breaks: Some(ends_with(run, error.kind())),
        }
    }
}

/// What the role's job does when it meets this.
fn ends_with(run: &Run, kind: Kind) -> String {
    let job = match run.config.role {
        Role::Source => "upload",
        Role::Region => "apply",
    };
    format!("`tablecast {job}` ends with {} ({})", kind.exit_code(), kind.name())
}

/// The hint of an error; without one, the page that says what to do.
fn mend(hint: Option<&str>, kind: Kind) -> String {
    hint.map_or_else(|| format!("see {}", kind.runbook()), str::to_owned)
}

impl Args {
    pub async fn run(&self, run: &Run) -> Result<Output> {
        let mut checks = machine::checks(run);
        let (store, head) = store::checks(run, &mut checks).await;
        mysql::checks(run, store.as_deref(), head.as_ref(), &mut checks).await?;
        service::checks(run, head.as_ref(), &mut checks).await;
        Ok(report(run, &checks))
    }
}

fn report(run: &Run, checks: &[Check]) -> Output {
    let failed = checks.iter().filter(|check| check.outcome == Outcome::Failed).count();
    let warnings = checks.iter().filter(|check| check.outcome == Outcome::Warning).count();
    let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    let mut text: String = checks.iter().map(|check| line(run.look, check, width)).collect();
    let summary = match (failed, warnings) {
        (0, 0) => format!("all {} checks passed", checks.len()),
        (0, warnings) => format!("{}; nothing stands in the way", look::count(warnings as u64, "warning")),
        (failed, 0) => format!("{} failed", look::count(failed as u64, "check")),
        (failed, warnings) => {
            format!(
                "{} failed, {}",
                look::count(failed as u64, "check"),
                look::count(warnings as u64, "warning")
            )
        }
    };
    text.push_str(&format!("\n{} of stream {}: {summary}", run.config.role, run.config.stream));
    let verdict = (failed > 0).then(|| {
        Error::new(Kind::Finding, format!("doctor: {}", look::count(failed as u64, "finding")))
            .hint("each finding above says what mends it; then run `tablecast doctor` again")
    });
    let list = checks.iter().map(|check| {
        json!({
            "name": check.name,
            "outcome": check.outcome.name(),
            "message": check.message,
            "breaks": check.breaks,
            "hint": check.hint,
        })
    });
    let json = json!({
        "role": run.config.role.to_string(),
        "stream": run.config.stream,
        "checks": list.collect::<Vec<_>>(),
        "failed": failed.to_string(),
        "warnings": warnings.to_string(),
    });
    Output::new(text, json).with_verdict(verdict)
}

fn line(look: Look, check: &Check, width: usize) -> String {
    let (mark, tone) = match check.outcome {
        Outcome::Passed => ("ok  ", Tone::Good),
        Outcome::Warning => ("warn", Tone::Warn),
        Outcome::Failed => ("FAIL", Tone::Bad),
    };
    let indent = " ".repeat(width + 8);
    let message = check.message.replace('\n', &format!("\n{indent}"));
    let mut text = format!("{}  {:<width$}  {message}\n", look.paint(tone, mark), check.name);
    if check.outcome != Outcome::Passed {
        let details = [("breaks", &check.breaks), ("mend", &check.hint)];
        for (label, detail) in details {
            if let Some(detail) = detail {
                let detail = detail.replace('\n', &format!("\n{indent}"));
                text.push_str(&format!("{indent}{} {detail}\n", look.paint(Tone::Dim, &format!("{label}:"))));
            }
        }
    }
    text
}
