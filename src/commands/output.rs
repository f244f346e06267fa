//! What a command hands back, and how it reaches stdout: text for people or one JSON document. A reader that
//! hangs up (`| head`) ends the printing, never the process.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use crate::error::{Error, Kind};

/// The version of everything printed by `--json`; it grows when a field changes its meaning or goes.
pub const SCHEMA_VERSION: u32 = 1;

/// A command's result.
pub struct Output {
    /// For people; no newline at its end. Empty: nothing to say.
    pub text: String,
    /// For programs: an object.
    pub json: Value,
    /// The command has printed everything while it ran.
    pub is_printed: bool,
    /// What the result means for the exit code, where the command worked but found something.
    pub verdict: Option<Error>,
    pub outcome: Outcome,
}

/// What a run of many is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There was nothing to do.
    Idle,
    Shipped,
    Applied,
    /// Of commands that do not come again every minute.
    Done,
}

impl Outcome {
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Idle => "idle",
            Outcome::Shipped => "shipped",
            Outcome::Applied => "applied",
            Outcome::Done => "done",
        }
    }
}

impl Output {
    pub fn new(text: impl Into<String>, json: Value) -> Self {
        Self { text: text.into(), json, is_printed: false, verdict: None, outcome: Outcome::Done }
    }

    /// For a command that has printed its result while it ran.
    pub fn printed() -> Self {
        Self { is_printed: true, ..Self::new("", Value::Null) }
    }

    pub fn with_verdict(mut self, verdict: Option<Error>) -> Self {
        self.verdict = verdict;
        self
    }

    pub fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }

    pub fn is_idle(&self) -> bool {
        self.outcome == Outcome::Idle && self.verdict.is_none()
    }

    /// Without what nobody will see.
    pub fn emptied(self) -> Self {
        Self { text: String::new(), json: Value::Null, ..self }
    }
}

/// Writes to stdout; false once nobody reads any more.
pub fn print(text: &str) -> bool {
    let mut out = io::stdout().lock();
    still_read(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// Writes to stderr; a closed one is no reason to panic.
pub fn print_error(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// A buffered stdout for results that are printed while they are made.
pub struct Page {
    out: io::BufWriter<io::Stdout>,
}

impl Page {
    pub fn new() -> Self {
        Self { out: io::BufWriter::with_capacity(64 << 10, io::stdout()) }
    }

    /// False once nobody reads any more: the command may stop there.
    #[must_use]
    pub fn line(&mut self, line: &str) -> bool {
        still_read(self.out.write_all(line.as_bytes()).and_then(|()| self.out.write_all(b"\n")))
    }

    #[must_use]
    pub fn text(&mut self, text: &str) -> bool {
        still_read(self.out.write_all(text.as_bytes()))
    }

    pub fn finish(mut self) {
        still_read(self.out.flush());
    }
}

impl Default for Page {
    fn default() -> Self {
        Self::new()
    }
}

/// A full disk or a closed descriptor behind stdout is not worth losing the exit code for: it ends the printing.
fn still_read(result: io::Result<()>) -> bool {
    match result {
        Ok(()) => true,
        Err(error) => {
            if error.kind() != io::ErrorKind::BrokenPipe {
                tracing::warn!("write to stdout: {error}");
            }
            false
        }
    }
}

/// A failure for people: message, causes, hint.
pub fn failure_text(error: &Error, color: bool) -> String {
    let (red, dim, plain) = if color { ("\x1b[1;31m", "\x1b[2m", "\x1b[0m") } else { ("", "", "") };
    // Whoever has ended it knows.
    let mut text =
        if is_a_signal(error) { format!("{error}\n") } else { format!("{red}error:{plain} {error}\n") };
    let mut cause = std::error::Error::source(error);
    let mut said = error.to_string();
    while let Some(inner) = cause {
        let message = inner.to_string();
        if !said.contains(&message) {
            text.push_str(&format!("  {dim}because:{plain} {message}\n"));
        }
        said = message;
        cause = inner.source();
    }
    match error.hint_text() {
        Some(hint) => text.push_str(&format!("hint: {hint}\n")),
        None if is_a_signal(error) => {}
        None => text.push_str(&format!("hint: see {}\n", error.kind().runbook())),
    }
    text
}

pub fn is_a_signal(error: &Error) -> bool {
    matches!(error.kind(), Kind::Interrupted | Kind::Terminated)
}

/// The fields of a failure in `--json`.
pub fn failure_json(error: &Error) -> Map<String, Value> {
    let mut causes = Vec::new();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        causes.push(inner.to_string());
        cause = inner.source();
    }
    let fields = [
        ("code", json!(error.kind().exit_code())),
        ("kind", json!(error.kind().name())),
        ("message", json!(error.to_string())),
        ("causes", json!(causes)),
        ("hint", json!(error.hint_text())),
        ("runbook", json!(error.kind().runbook())),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// An object with `schema_version` first.
pub fn document(fields: impl IntoIterator<Item = (String, Value)>) -> String {
    // serde_json keeps a map sorted by key; the version and the code are what a reader looks for first.
    let fields: Vec<_> = fields.into_iter().filter(|(name, _)| name != "schema_version").collect();
    let mut text = format!("{{\"schema_version\":{SCHEMA_VERSION}");
    for (name, value) in fields {
        text.push_str(&format!(",{}:{value}", Value::String(name)));
    }
    text.push('}');
    text
}

/// The fields of one run: the result's, then the verdict's or failure's. A success has `code` 0.
pub fn run_json(result: &Result<Output, Error>) -> Map<String, Value> {
    let mut fields = Map::new();
    let failure = match result {
        Ok(output) => {
            match &output.json {
                Value::Object(object) => fields.extend(object.clone()),
                Value::Null => {}
                other => drop(fields.insert("result".to_owned(), other.clone())),
            }
            output.verdict.as_ref()
        }
        Err(error) => Some(error),
    };
    match failure {
        Some(error) => fields.extend(failure_json(error)),
        None => drop(fields.insert("code".to_owned(), json!(0))),
    }
    fields
}

/// Positions, transaction numbers, sizes and counts can pass 2^53, where readers of JSON lose digits: they
/// are texts. Seconds, codes and versions stay numbers.
pub fn big_numbers_as_texts(value: Value) -> Value {
    fn walk(name: &str, value: Value) -> Value {
        let stays =
            name.ends_with("_seconds") || ["code", "schema_version", "major", "minor"].contains(&name);
        match value {
            Value::Number(number) if !stays && (number.is_u64() || number.is_i64()) => {
                json!(number.to_string())
            }
            Value::Array(items) => items.into_iter().map(|item| walk(name, item)).collect(),
            Value::Object(object) => Value::Object(
                object.into_iter().map(|(name, value)| (name.clone(), walk(&name, value))).collect(),
            ),
            other => other,
        }
    }
    walk("", value)
}

/// A report as JSON.
pub fn as_json(report: &impl serde::Serialize) -> Result<Value, Error> {
    let value = serde_json::to_value(report)
        .map_err(|cause| Error::new(Kind::Failed, "write the report as JSON").caused_by(cause))?;
    Ok(big_numbers_as_texts(value))
}

/// The exit code of all runs: the only one's; else 0, or 3 when some failed, or what all of them failed with. A run
/// that a signal ended has not failed, and one that is paused does not count beside others.
pub fn exit_code(codes: &[u8]) -> u8 {
    let paused = Kind::Paused.exit_code();
    let others: Vec<u8> = codes.iter().copied().filter(|code| *code != paused).collect();
    match if others.is_empty() { codes } else { &others } {
        [] => 0,
        [first, rest @ ..] if rest.iter().all(|code| code == first) => *first,
        codes if codes.iter().any(|code| [0, 130, 143].contains(code)) => Kind::Partly.exit_code(),
        _ => Kind::Failed.exit_code(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_run_decides_alone_and_several_share_one_code() {
        assert_eq!(exit_code(&[0]), 0);
        assert_eq!(exit_code(&[11]), 11);
        assert_eq!(exit_code(&[0, 0]), 0);
        assert_eq!(exit_code(&[0, 11]), 3);
        assert_eq!(exit_code(&[12, 12]), 12);
        assert_eq!(exit_code(&[12, 11]), 1);
        assert_eq!(exit_code(&[143, 143]), 143);
        assert_eq!(exit_code(&[143, 12]), 3);
        assert_eq!(exit_code(&[14, 14]), 14);
        assert_eq!(exit_code(&[0, 14, 0]), 0);
        assert_eq!(exit_code(&[14, 12]), 12);
    }

    #[test]
    fn a_failure_says_message_causes_and_hint() {
        let error = Error::new(Kind::Store, "connect to 10.0.0.1: refused")
            .hint("start it")
            .during("read index.json");
        assert_eq!(
            failure_text(&error, false),
            "error: read index.json\n  because: connect to 10.0.0.1: refused\nhint: start it\n"
        );
        let json = failure_json(&error);
        assert_eq!(json["code"], 1);
        assert_eq!(json["kind"], "store");
        assert_eq!(json["causes"][0], "connect to 10.0.0.1: refused");
        assert!(json["runbook"].as_str().is_some_and(|runbook| runbook.ends_with("#store")));
    }

    #[test]
    fn numbers_that_can_grow_are_texts_in_json() {
        let value = json!({"seq": 18446744073709551615u64, "lag_seconds": 3, "ids": [1, 2], "ratio": 0.5});
        let expected =
            json!({"seq": "18446744073709551615", "lag_seconds": 3, "ids": ["1", "2"], "ratio": 0.5});
        assert_eq!(big_numbers_as_texts(value), expected);
    }

    #[test]
    fn every_document_starts_with_its_schema_version() {
        let run = run_json(&Ok(Output::new("", json!({"a": 1}))));
        assert_eq!(document(run), r#"{"schema_version":1,"a":1,"code":0}"#);
    }
}
