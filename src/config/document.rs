//! A TOML text as a flat list of known keys with their lines, `${VAR}` expanded; what is wrong is collected, so
//! that one look at the message mends the whole file.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys;
use super::units::{parse_duration, parse_size};
use crate::error::{Error, Kind, Result};

/// Looks up an environment variable; the tests hand in their own.
pub type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// A key as it is in force.
#[derive(Clone, Debug)]
pub struct Setting {
    pub path: &'static str,
    pub value: Value,
    /// The line it stands on; none: the default.
    pub line: Option<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(String),
    Number(u64),
    Flag(bool),
    List(Vec<String>),
    /// A secret: only that there is one.
    Redacted,
}

struct Found {
    value: Value,
    line: usize,
    expanded: bool,
}

struct Problem {
    line: Option<usize>,
    message: String,
    hint: Option<String>,
}

pub struct Document {
    path: PathBuf,
    found: BTreeMap<&'static str, Found>,
    /// Sections that were written, with the line of the first mention.
    sections: BTreeMap<String, usize>,
    problems: Vec<Problem>,
    settings: Vec<Setting>,
}

impl Document {
    pub fn parse(path: &Path, text: &str, environment: Environment<'_>) -> Result<Document> {
        let table = DeTable::parse(text).map_err(|cause| {
            let line = cause.span().map_or(1, |span| line_of(text, span));
            Error::new(
                Kind::Usage,
                format!("{}:{line}: {}", path.display(), cause.message().replace('\n', ", ")),
            )
            .hint("the file is not valid TOML; text values stand in double quotes")
        })?;
        let mut document = Document {
            path: path.to_owned(),
            found: BTreeMap::new(),
            sections: BTreeMap::new(),
            problems: Vec::new(),
            settings: Vec::new(),
        };
        document.collect("", table.get_ref(), text, environment);
        Ok(document)
    }

    fn collect(&mut self, section: &str, table: &DeTable<'_>, text: &str, environment: Environment<'_>) {
        for (name, value) in table {
            let path = match section {
                "" => name.get_ref().to_string(),
                _ => format!("{section}.{}", name.get_ref()),
            };
            let line = line_of(text, name.span());
            if let (DeValue::Table(inner), true) = (value.get_ref(), keys::is_section(&path)) {
                self.sections.entry(path.clone()).or_insert(line);
                self.collect(&path, inner, text, environment);
            } else if let Some(key) = keys::find(&path) {
                match read(value, environment) {
                    Ok((value, expanded)) => {
                        self.found.insert(key.path, Found { value, line, expanded });
                    }
                    Err((message, hint)) => {
                        self.problem(Some(line), format!("`{path}`: {message}"), Some(hint))
                    }
                }
            } else if keys::is_section(&path) {
                let message = format!("`{path}` is a section, not a value");
                self.problem(Some(line), message, Some(format!("write [{path}] on a line of its own")));
            } else {
                let what = if value.get_ref().is_table() { "section" } else { "key" };
                let hint = match keys::nearest(&path) {
                    Some(near) => format!("did you mean {near}?"),
                    None => "`tablecast config show` lists every key; docs/configuration.md explains them"
                        .to_owned(),
                };
                self.problem(Some(line), format!("unknown {what} `{path}`"), Some(hint));
            }
        }
    }

    pub fn problem(&mut self, line: Option<usize>, message: String, hint: Option<String>) {
        self.problems.push(Problem { line, message, hint });
    }

    /// A problem with the value of a key that was written, or that is missing.
    pub fn refuse(&mut self, path: &'static str, message: impl std::fmt::Display, hint: impl Into<String>) {
        let line = self.line(path);
        self.problem(line, format!("`{path}`: {message}"), Some(hint.into()));
    }

    pub fn line(&self, path: &str) -> Option<usize> {
        self.found.get(path).map(|found| found.line)
    }

    /// The line of a section that was written.
    pub fn section(&self, name: &str) -> Option<usize> {
        self.sections.get(name).copied()
    }

    /// Whether the key's text came from the environment, at least in part.
    pub fn is_expanded(&self, path: &str) -> bool {
        self.found.get(path).is_some_and(|found| found.expanded)
    }

    pub fn text(&mut self, path: &'static str) -> Option<String> {
        let key = keys::find(path)?;
        let default = (!key.default.is_empty()).then(|| key.default.to_owned());
        let (value, line) = match self.found.get(path) {
            Some(Found { value: Value::Text(text), line, .. }) if text.is_empty() => {
                let line = *line;
                self.problem(
                    Some(line),
                    format!("`{path}` is empty"),
                    Some("give it a value, or leave it out".into()),
                );
                return default;
            }
            Some(Found { value: Value::Text(text), line, .. }) => (Some(text.clone()), Some(*line)),
            Some(_) => {
                self.wrong_type(path, "text", "\"…\"");
                return default;
            }
            None => (default, None),
        };
        if let Some(text) = &value {
            let value = if key.secret { Value::Redacted } else { Value::Text(text.clone()) };
            self.settings.push(Setting { path, value, line });
        }
        value
    }

    /// Records what is in force where the default depends on other keys or on the environment.
    pub fn in_force(&mut self, path: &'static str, value: &dyn std::fmt::Display) {
        let line = self.line(path);
        self.settings.retain(|setting| setting.path != path);
        self.settings.push(Setting { path, value: Value::Text(value.to_string()), line });
    }

    /// A path; a relative one starts at the config file's folder.
    pub fn path(&mut self, path: &'static str) -> Option<PathBuf> {
        let text = self.text(path)?;
        let folder = self.path.parent().unwrap_or(Path::new(""));
        Some(folder.join(text))
    }

    pub fn required(&mut self, path: &'static str, example: &str) -> String {
        let is_written = self.found.contains_key(path);
        let text = self.text(path);
        if text.is_none() && !is_written {
            self.problem(None, format!("`{path}` is missing"), Some(format!("write {example}")));
        }
        text.unwrap_or_default()
    }

    pub fn number(&mut self, path: &'static str, within: std::ops::RangeInclusive<u64>) -> u64 {
        let default = keys::find(path).and_then(|key| key.default.parse().ok()).unwrap_or(*within.start());
        self.number_or(path, within, default)
    }

    /// A number whose default depends on something else.
    pub fn number_or(
        &mut self,
        path: &'static str,
        within: std::ops::RangeInclusive<u64>,
        default: u64,
    ) -> u64 {
        let number = match self.found.get(path).map(|found| &found.value) {
            None => default,
            Some(Value::Number(number)) if within.contains(number) => *number,
            Some(Value::Number(number)) => {
                let message = format!("{number} is not between {} and {}", within.start(), within.end());
                self.refuse(path, message, format!("the default is {default}"));
                default
            }
            Some(_) => {
                self.wrong_type(path, "a number", &default.to_string());
                default
            }
        };
        self.settings.push(Setting { path, value: Value::Number(number), line: self.line(path) });
        number
    }

    pub fn flag(&mut self, path: &'static str) -> bool {
        let default = keys::find(path).is_some_and(|key| key.default == "true");
        let flag = match self.found.get(path).map(|found| &found.value) {
            None => default,
            Some(Value::Flag(flag)) => *flag,
            Some(_) => {
                self.wrong_type(path, "true or false", &default.to_string());
                default
            }
        };
        self.settings.push(Setting { path, value: Value::Flag(flag), line: self.line(path) });
        flag
    }

    pub fn list(&mut self, path: &'static str) -> Vec<String> {
        let list = match self.found.get(path).map(|found| &found.value) {
            None => return Vec::new(),
            Some(Value::List(list)) => list.clone(),
            Some(_) => {
                self.wrong_type(path, "a list of texts", "[\"g.apps\", \"g.partners\"]");
                return Vec::new();
            }
        };
        self.settings.push(Setting { path, value: Value::List(list.clone()), line: self.line(path) });
        list
    }

    pub fn duration(&mut self, path: &'static str, at_least: Duration) -> Duration {
        match self.measured(path, parse_duration) {
            Some(duration) if duration >= at_least => duration,
            Some(duration) => {
                let (is, least) = (super::show_duration(duration), super::show_duration(at_least));
                self.refuse(path, format!("{is} is less than {least}"), format!("write {least} or more"));
                at_least
            }
            None => at_least,
        }
    }

    pub fn size(&mut self, path: &'static str, within: std::ops::RangeInclusive<u64>) -> u64 {
        let Some(size) = self.measured(path, parse_size) else { return *within.start() };
        if !within.contains(&size) {
            let (low, high) = (super::show_size(*within.start()), super::show_size(*within.end()));
            self.refuse(path, format!("is not between {low} and {high}"), "the default is 64MiB");
        }
        size
    }

    fn measured<T>(&mut self, path: &'static str, parse: fn(&str) -> Result<T>) -> Option<T> {
        let text = self.text(path)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(error) => {
                let hint = error.hint_text().unwrap_or_default().to_owned();
                self.refuse(path, &error, hint);
                None
            }
        }
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&mut self, path: &'static str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(path)?;
        let chosen = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if chosen.is_none() {
            let list: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            self.refuse(
                path,
                format!("{text:?} is none of its values"),
                format!("write {}", list.join(" or ")),
            );
        }
        chosen
    }

    fn wrong_type(&mut self, path: &'static str, wanted: &str, example: &str) {
        let name = path.rsplit('.').next().unwrap_or(path);
        self.refuse(path, format!("is not {wanted}"), format!("write {name} = {example}"));
    }

    /// The settings in force, or everything that is wrong with the file.
    pub fn finish(mut self) -> Result<Vec<Setting>> {
        if self.problems.is_empty() {
            return Ok(self.settings);
        }
        self.problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
        let file = self.path.display();
        let single = self.problems.len() == 1;
        let lines = self.problems.iter().map(|problem| {
            let place = problem.line.map_or(format!("{file}"), |line| format!("{file}:{line}"));
            match &problem.hint {
                Some(hint) if !single => format!("{place}: {} ({hint})", problem.message),
                _ => format!("{place}: {}", problem.message),
            }
        });
        let message = lines.collect::<Vec<_>>().join("\n");
        let hint = match self.problems.as_slice() {
            [only] => only.hint.clone().unwrap_or_default(),
            many => format!("{} things to mend; then `tablecast config check`", many.len()),
        };
        Err(Error::new(Kind::Usage, message).hint(hint))
    }
}

fn line_of(text: &str, span: Range<usize>) -> usize {
    let end = span.start.min(text.len());
    text.as_bytes()[..end].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// A value of one of the kinds that the config knows; what is wrong with it and a hint otherwise.
fn read(
    value: &Spanned<DeValue<'_>>,
    environment: Environment<'_>,
) -> Result<(Value, bool), (String, String)> {
    match value.get_ref() {
        DeValue::String(text) => {
            expand(text, environment).map(|(text, expanded)| (Value::Text(text), expanded))
        }
        DeValue::Boolean(flag) => Ok((Value::Flag(*flag), false)),
        DeValue::Integer(number) => match u64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Ok((Value::Number(number), false)),
            Err(_) => Err((
                format!("{} is not a whole number from 0", number.as_str()),
                "write it in digits".into(),
            )),
        },
        DeValue::Array(items) => {
            let mut list = Vec::new();
            for item in items.iter() {
                match item.get_ref().as_str() {
                    Some(text) => list.push(expand(text, environment)?.0),
                    None => {
                        return Err((
                            "the list holds something that is no text".into(),
                            "write [\"…\", \"…\"]".into(),
                        ));
                    }
                }
            }
            Ok((Value::List(list), false))
        }
        other => Err((
            format!("a {} has no meaning here", other.type_str()),
            "text stands in double quotes; durations and sizes too: \"5m\", \"64MiB\"".into(),
        )),
    }
}

/// Replaces `${VAR}`; `$${` stands for `${` itself. True if something was replaced.
fn expand(text: &str, environment: Environment<'_>) -> Result<(String, bool), (String, String)> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut expanded = false;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at - 1]);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let name_on = &rest[at + 2..];
        let Some(end) = name_on.find('}') else {
            return Err((
                "`${` is never closed".into(),
                "write ${VAR}, or $${ for the characters themselves".into(),
            ));
        };
        let name = &name_on[..end];
        match environment(name) {
            Some(value) => out.push_str(&value),
            None => {
                return Err((
                    format!("the environment variable {name} is not set"),
                    format!(
                        "set {name} for this process (systemd: EnvironmentFile=), or write the value itself"
                    ),
                ));
            }
        }
        expanded = true;
        rest = &name_on[end + 1..];
    }
    out.push_str(rest);
    Ok((out, expanded))
}
