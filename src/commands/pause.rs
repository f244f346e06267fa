//! `tablecast pause` and `tablecast resume`: nothing goes on for a while, and everybody sees why.

use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::builder::TypedValueParser;
use serde_json::json;

use super::globals::duration;
use super::look::{self, Tone};
use super::output::Output;
use super::person::{host, person};
use super::run::Run;
use crate::config::Role;
use crate::error::{Error, Kind, Result, one_line};
use crate::stream::paused::{Change, Wanted};
use crate::stream::request::MAX_TEXT;
use crate::{region, source};

/// Let nothing go on for a while: no upload at the source, no apply in a region
///
/// At the source nothing more gets into the stream: `upload`, `dump take`, `tables add`, `tables remove` and `stream prune` end with 14, and `--follow` waits. In a region nothing more is changed in its tables by Tablecast: `apply`, `restore` and `bootstrap` end with 14, and `apply --follow` waits. What is under way ends before its next write to the stream, or behind the entry that it is at.
#[derive(clap::Args, Clone)]
#[command(after_help = "\
Examples:
  tablecast pause --reason 'moving the disks, ticket 4711' --for 2h
  tablecast pause --reason 'who deleted g.apps?' --until 2026-12-01T06:00:00Z
  tablecast pause --reason 'until Anna has looked'      until `tablecast resume`
What is paused already gets the new reason and the new end.")]
pub struct Args {
    /// Why, for everybody who meets the pause
    #[arg(long, value_name = "TEXT")]
    reason: String,

    /// It ends by itself after this time
    #[arg(long = "for", value_name = "DUR", value_parser = duration(), conflicts_with = "until")]
    length: Option<Duration>,

    /// It ends by itself then (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = time())]
    until: Option<DateTime<Utc>>,

    /// Only print what would be done
    #[arg(long)]
    dry_run: bool,
}

/// End a pause
#[derive(clap::Args, Clone)]
#[command(after_help = "\
Examples:
  tablecast resume
What waited goes on by itself; what comes from cron, at its next turn.")]
pub struct ResumeArgs {
    /// Why, for the log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    /// Only print what would be done
    #[arg(long)]
    dry_run: bool,
}

fn time() -> impl TypedValueParser<Value = DateTime<Utc>> {
    clap::builder::StringValueParser::new().try_map(|text| {
        DateTime::parse_from_rfc3339(&text)
            .map(|time| time.to_utc())
            .map_err(|error| format!("{error}; a time like 2026-12-01T06:00:00Z"))
    })
}

impl Args {
    pub async fn run(&self, run: &Run) -> Result<Output> {
        // It stands in one line of whatever shows it.
        let reason = one_line(self.reason.trim());
        let length = reason.chars().count();
        if length > MAX_TEXT {
            return Err(Error::new(
                Kind::Usage,
                format!("pause: the reason has {length} characters, more than {MAX_TEXT}"),
            )
            .hint("put the whole of it where the reason can name it: a ticket"));
        }
        if reason.is_empty() {
            return Err(Error::new(Kind::Usage, "pause: the reason is empty")
                .hint("say in --reason what others should know who meet the pause"));
        }
        let until = match (self.length, self.until) {
            (Some(length), _) => Some(after(run.now(), length)?),
            (None, until) => until,
        };
        if let Some(until) = until.filter(|until| *until <= run.now()) {
            let until = look::time(until, run.now());
            return Err(Error::new(Kind::Usage, format!("pause: {until} is over already")));
        }
        let by = person().or_else(host).unwrap_or_else(|| "somebody".to_owned());
        let wanted = Wanted { reason, by, until };
        change(run, Some(&wanted), self.dry_run).await
    }
}

impl ResumeArgs {
    pub async fn run(&self, run: &Run) -> Result<Output> {
        let output = change(run, None, self.dry_run).await?;
        if let (Some(reason), false) = (&self.reason, self.dry_run) {
            let by = person().unwrap_or_else(|| "somebody".to_owned());
            tracing::info!("resumed by {by}: {reason}");
        }
        Ok(output)
    }
}

fn after(now: DateTime<Utc>, length: Duration) -> Result<DateTime<Utc>> {
    let end = chrono::TimeDelta::from_std(length).ok().and_then(|length| now.checked_add_signed(length));
    end.ok_or_else(|| Error::new(Kind::Usage, "pause: no such time is known"))
}

async fn change(run: &Run, wanted: Option<&Wanted>, dry_run: bool) -> Result<Output> {
    let (what, change) = match run.config.role {
        Role::Source => {
            let store = run.store().await?;
            let change = source::pause::change(&run.config, &*store, &*run.clock, wanted, dry_run).await?;
            (run.config.stream.clone(), change)
        }
        Role::Region => {
            let change = region::state::change(&run.config, &*run.clock, wanted, dry_run).await?;
            let region = run.config.region.as_ref().map_or("", |region| &region.name);
            (format!("{} in {region}", run.config.stream), change)
        }
    };
    let mut text = text(run, &what, &change, dry_run);
    for warning in &change.warnings {
        text.push_str(&format!("\n{} {warning}", run.look.paint(Tone::Warn, "warning:")));
    }
    let json = json!({
        "stream": run.config.stream,
        "role": run.config.role.to_string(),
        "region": run.config.region.as_ref().map(|region| &region.name),
        "dry_run": dry_run,
        "changed": change.is_one(),
        "was": change.was,
        "paused": change.paused,
        "warnings": change.warnings,
    });
    Ok(Output::new(text, json))
}

fn text(run: &Run, what: &str, change: &Change, dry_run: bool) -> String {
    let would = if dry_run { "would be " } else { "" };
    let goes_on = match run.config.role {
        Role::Source => "what is under way ends before it writes to the stream again",
        Role::Region => "what is under way ends behind the entry that it is at",
    };
    match (&change.was, &change.paused) {
        (None, None) => format!("{what}: not paused"),
        (Some(was), None) => format!("{what}: {would}resumed; it was paused {was}"),
        (None, Some(paused)) => format!("{what}: {would}paused {paused}; {goes_on}"),
        (Some(was), Some(paused)) if was == paused => format!("{what}: paused {paused}"),
        (Some(_), Some(paused)) => format!("{what}: {would}paused {paused}; it was paused already"),
    }
}
