//! The documentation says what the code does: docs/commands.md and the table of keys in
//! docs/configuration.md are made from the definitions (TABLECAST_UPDATE_DOCS=1 writes them anew), and
//! docs/exit-codes.md has a section for every kind of failure.

use std::fmt::Write;

use clap::{Arg, Command};
use tablecast::Kind;
use tablecast::config::{KEYS, Role, template};

use super::doc;

/// A file of docs/ with `content` between two lines of it.
pub fn between(name: &str, begin: &str, end: &str, content: &str) -> String {
    let file = std::fs::read_to_string(doc(name)).unwrap_or_else(|error| panic!("docs/{name}: {error}"));
    let (before, rest) = file.split_once(begin).expect("where the made part begins");
    let (_, after) = rest.split_once(end).expect("where the made part ends");
    format!("{before}{begin}{content}{end}{after}")
}

/// Compares, or writes when asked to.
#[track_caller]
pub fn hold(name: &str, expected: &str) {
    let path = doc(name);
    if std::env::var_os("TABLECAST_UPDATE_DOCS").is_some() {
        std::fs::write(&path, expected).expect("write the doc");
        return;
    }
    let is = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = is.lines().zip(expected.lines()).find(|(is, expected)| is != expected);
    assert!(
        is == expected,
        "docs/{name} is not what the code says: TABLECAST_UPDATE_DOCS=1 cargo test --test main docs openapi\n{differs:?}"
    );
}

#[test]
fn the_commands_are_documented_as_they_are() {
    let mut command = tablecast::commands::command();
    command.build();
    let mut text = "# Commands\n\n\
        Made from the program's own definitions; `tablecast COMMAND --help` says the same. \
        What a command prints goes to stdout, logs and progress to stderr. Exit codes: [exit-codes.md](exit-codes.md).\n"
        .to_owned();
    for inner in command.get_subcommands() {
        describe(&mut text, inner, "tablecast");
    }
    text.push_str("\n## Everywhere\n\n");
    arguments(&mut text, command.get_arguments().filter(|argument| argument.is_global_set()));
    text.push_str(
        "\nWith `--json` a result is one object with `schema_version` and `code` (0, or the exit code). GTIDs, \
         positions, sizes and counts are texts, because they can pass 2^53; seconds and codes are numbers. A failure \
         is one object too: `code`, `kind`, `message`, `causes`, `hint`, `runbook`. Several config files give \
         `{code, summary: {streams, idle, failed, …}, runs: [{config, code, outcome, …}]}`: [many-streams.md](many-streams.md).\n\n\
         Logs: `TABLECAST_LOG` takes a filter as tracing's EnvFilter does (`tablecast=debug`). `NO_COLOR` is \
         honoured. The first Ctrl-C or SIGTERM ends a run at the next transaction boundary, the second at once.\n",
    );
    hold("commands.md", &text);
}

fn describe(text: &mut String, command: &Command, path: &str) {
    let path = format!("{path} {}", command.get_name());
    let inner: Vec<_> = command.get_subcommands().collect();
    if !inner.is_empty() {
        inner.iter().for_each(|inner| describe(text, inner, &path));
        return;
    }
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").trim();
    let _ = write!(text, "\n## {path}\n\n{about}.\n\n    {usage}\n");
    let own =
        || command.get_arguments().filter(|argument| !argument.is_global_set() && !is_of_clap(argument));
    if own().next().is_some() {
        text.push('\n');
        arguments(text, own());
    }
    if let Some(after) = command.get_after_help() {
        let _ = write!(text, "\n```text\n{after}\n```\n");
    }
}

fn is_of_clap(argument: &Arg) -> bool {
    ["help", "version"].contains(&argument.get_id().as_str())
}

fn arguments<'a>(text: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    for argument in arguments {
        let value = || {
            let names = argument.get_value_names().into_iter().flatten();
            names.map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        let name = match (argument.get_short(), argument.get_long()) {
            (short, Some(long)) => {
                let takes = argument.get_action().takes_values();
                let short = short.map(|short| format!("-{short}, ")).unwrap_or_default();
                format!("{short}--{long}{}", if takes { format!(" {}", value()) } else { String::new() })
            }
            (_, None) => value(),
        };
        let about = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let defaults: Vec<_> =
            argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        let takes = argument.get_action().takes_values() && !argument.is_hide_default_value_set();
        let default = if takes && !defaults.is_empty() {
            format!(" (default {})", defaults.join(" "))
        } else {
            String::new()
        };
        let possible: Vec<_> = argument
            .get_possible_values()
            .iter()
            .filter(|_| argument.get_action().takes_values())
            .map(|value| format!("`{}`", value.get_name()))
            .collect();
        let possible = if possible.is_empty() { String::new() } else { format!(": {}", possible.join(", ")) };
        let _ = writeln!(text, "- `{name}`: {about}{possible}{default}");
    }
}

#[test]
fn every_key_is_documented_with_its_default() {
    let mut table = "| key | value | default | role | |\n|---|---|---|---|---|\n".to_owned();
    for key in KEYS {
        let default = if key.default.is_empty() { String::new() } else { format!("`{}`", key.default) };
        let role = match key.role {
            None => "both",
            Some(Role::Source) => "source",
            Some(Role::Region) => "region",
        };
        let about = key.about.split_whitespace().collect::<Vec<_>>().join(" ");
        let kind = key.kind.replace('|', "\\|");
        let _ = writeln!(table, "| `{}` | {kind} | {default} | {role} | {about} |", key.path);
    }
    let (begin, end) = ("<!-- keys: made from src/config/keys.rs -->\n", "<!-- end of keys -->\n");
    hold("configuration.md", &between("configuration.md", begin, end, &table));
}

#[test]
fn the_examples_in_the_documentation_are_what_init_writes() {
    let file = std::fs::read_to_string(doc("configuration.md")).expect("docs/configuration.md");
    for role in [Role::Source, Role::Region] {
        let lines = template(role).lines().filter(|line| line.starts_with('['));
        for section in lines.map(|line| line.split(']').next().unwrap_or_default()) {
            let name = section.trim_start_matches('[');
            assert!(file.contains(&format!("`[{name}]`")), "[{name}] is not explained");
        }
    }
}

#[test]
fn every_kind_of_failure_has_its_code_and_its_runbook() {
    let file = std::fs::read_to_string(doc("exit-codes.md")).expect("docs/exit-codes.md");
    for kind in Kind::ALL {
        let (name, code) = (kind.name(), kind.exit_code());
        let heading = format!("### {name}\n");
        let (_, section) = file.split_once(&heading).unwrap_or_else(|| panic!("no section {heading}"));
        assert!(section.trim_start().starts_with(&format!("Exit code {code}.")), "{name}: Exit code {code}.");
        assert!(file.contains(&format!("| {code} |")), "{code} is not in the table");
        assert_eq!(kind.runbook(), format!("docs/exit-codes.md#{name}"));
    }
}
