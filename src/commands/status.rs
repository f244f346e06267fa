//! `tablecast status`: where this role stands. What is not known is said to be unknown.

mod all;

use std::sync::Arc;
use std::time::Duration;

use super::globals::duration;
use super::look::{self, Look, Tone, UNKNOWN};
use super::output::{Output, as_json};
use super::run::Run;
use crate::config::Role;
use crate::error::{Error, Kind, Result};
use crate::failure::Failure;
use crate::region::checked::TableCheck;
use crate::region::quarantine::Quarantined;
use crate::region::restore::{Told, names};
use crate::stream::Paused;
use crate::{region, source};

/// Show where this role stands
#[derive(clap::Args, Clone)]
#[command(after_help = "\
Examples:
  tablecast status
  tablecast status --all                    every region, by the source's service, or else by the bucket
  tablecast status --json
  tablecast status --fail-if-lag 5m         for the monitoring: ends with 4 when it is more, or unknown
Ends with 3 when a table is in quarantine here (with --all, anywhere), and with the error's own code when its server
cannot be looked at. With --all, a region that is silent or cannot be read counts as one whose lag is unknown.")]
pub struct Args {
    /// Every region and the stream, and what to do next
    #[arg(long)]
    all: bool,

    /// End with 4 if the lag is more than this, or unknown
    #[arg(long, value_name = "DUR", value_parser = duration())]
    fail_if_lag: Option<Duration>,
}

impl Args {
    pub async fn run(&self, run: &Run) -> Result<Output> {
        if self.all {
            return all::run(run, self.fail_if_lag).await;
        }
        match run.config.role {
            Role::Source => self.source(run).await,
            Role::Region => self.region(run).await,
        }
    }

    async fn source(&self, run: &Run) -> Result<Output> {
        let store = run.store().await?;
        let options = source::status::Options::default();
        let status = source::status::run(&run.config, &*store, &*run.clock, &options).await?;
        let now = run.now();
        let mut facts = vec![
            ("stream", format!("{} ({})", status.stream, status.uuid)),
            ("store", status.store.clone()),
            ("complete to", look::time(status.as_of, now)),
            ("stream at", place(status.last_seq.0, status.last_tx.0)),
            ("table set", format!("version {}", status.table_set_version)),
        ];
        facts.extend(paused(run, status.paused.as_ref()));
        if let Some(refused) = &status.refused {
            let (at, error) = (look::time(refused.found_at, now), refused.error());
            let text =
                format!("{at}: upload ends with {} ({})", error.kind().exit_code(), error.kind().name());
            let text = format!("{text}\n{}\n{}", refused.why, refused.hint);
            facts.push(("last error", run.look.paint(Tone::Bad, &text)));
        } else {
            facts.extend(last_error(run, status.failure_here.as_ref()));
        }
        if let Some(owed) = status.owed() {
            facts.push(("owed", run.look.paint(Tone::Warn, &owed)));
        }
        if !status.set_changes.is_empty() {
            let changes: Vec<String> = status.set_changes.iter().map(ToString::to_string).collect();
            facts.push(("set changes", run.look.paint(Tone::Warn, &changes.join("\n"))));
        }
        match &status.source {
            Some(source) => {
                facts.push((
                    "source",
                    format!("{}, MySQL {}, a {}", source.server, source.version, source.role),
                ));
                facts.push(("not read yet", look::count(source.waiting, "transaction")));
                facts.push(("upload", running(source.uploading)));
            }
            None => {
                facts.push((
                    "source",
                    run.look.paint(Tone::Bad, &format!("{} cannot be looked at", run.config.mysql)),
                ));
                facts.push(("not read yet", UNKNOWN.to_owned()));
                facts.push(("upload", UNKNOWN.to_owned()));
            }
        }
        let text = format!("{}{}", run.look.facts(&facts), warnings(run.look, &status.warnings));
        let verdict = self.verdict(&status.stream, status.lag_seconds, status.paused.as_ref());
        let json = as_json(&status)?;
        let failure = status.failure.and_then(Arc::into_inner);
        let failure = failure.map(|error| error.during(format!("status of {}", status.stream)));
        Ok(Output::new(text, json).with_verdict(verdict.or(failure)))
    }

    async fn region(&self, run: &Run) -> Result<Output> {
        let store = run.store().await?;
        let status = region::status::run(&run.config, store, &*run.clock).await?;
        let now = run.now();
        let stream = match status.uuid {
            Some(uuid) => format!("{} ({uuid})", status.stream),
            None => format!("{} (nothing applied yet)", status.stream),
        };
        let complete_to = match (status.as_of, status.uuid) {
            (Some(as_of), _) => look::time(as_of, now),
            (None, Some(_)) => UNKNOWN.to_owned(),
            (None, None) => "nothing yet".to_owned(),
        };
        let mut facts = vec![
            ("stream", stream),
            ("store", status.store.clone()),
            ("region", format!("{}, {}", status.region, run.config.mysql)),
            ("complete to", complete_to),
            ("position", place(status.seq, status.last_tx)),
            ("to apply", behind(status.behind_entries, status.behind_transactions)),
            ("last change", status.applied_at.map_or_else(|| "never".to_owned(), |at| look::time(at, now))),
            ("apply", running(status.applying)),
        ];
        facts.extend(paused(run, status.paused.as_ref()));
        facts.extend(last_error(run, status.failure.as_ref()));
        let tables: Vec<String> = status
            .quarantined
            .iter()
            .map(|known| {
                let Quarantined { table, since_tx, at, error, .. } = known;
                format!("{table} since transaction {since_tx}, {}: {error}", look::time(*at, now))
            })
            .collect();
        if !tables.is_empty() {
            facts.push(("quarantine", run.look.paint(Tone::Bad, &tables.join("\n"))));
        }
        let drifted = status.checked.iter().filter_map(|table| {
            let found = table.drift.as_ref()?;
            let at = look::time(found.at, now);
            Some(format!("{} at transaction {}, {at}: {}", table.table, look::number(found.tx), found.drift))
        });
        let drifted: Vec<String> = drifted.collect();
        if !drifted.is_empty() {
            facts.push(("other rows", run.look.paint(Tone::Bad, &drifted.join("\n"))));
        }
        let compared: Vec<_> = status.checked.iter().filter_map(TableCheck::compared_at).collect();
        if let Some(last) = compared.iter().max() {
            let tables = look::count(compared.len() as u64, "table");
            facts.push(("rows compared", format!("{}, of {tables} so far", look::time(*last, now))));
        }
        let missed = status.checked.iter().filter_map(|table| {
            let why = table.problem.as_ref()?;
            Some(format!("{} at transaction {}: {why}", table.table, look::number(table.tx)))
        });
        let missed: Vec<String> = missed.collect();
        if !missed.is_empty() {
            facts.push(("not compared", run.look.paint(Tone::Warn, &missed.join("\n"))));
        }
        let restoring: Vec<String> = status.restoring.iter().map(|told| told.line()).collect();
        if !restoring.is_empty() {
            facts.push(("restoring", run.look.paint(Tone::Warn, &restoring.join("\n"))));
        }
        let ended = |told: &Told| {
            let at = told.finished_at.map_or_else(|| UNKNOWN.to_owned(), |at| look::time(at, now));
            format!("{at}: {}", told.line())
        };
        let restored: Vec<String> = status.restored.iter().map(ended).collect();
        if !restored.is_empty() {
            facts.push(("restored", restored.join("\n")));
        }
        if !status.left_out.is_empty() {
            let tables = names(&status.left_out);
            let why = format!(
                "{tables}: not let in by this region's list\nadd them to `tables` in [region] if this region is to \
                 have them"
            );
            facts.push(("left out", run.look.paint(Tone::Warn, &why)));
        }
        if !status.ties.is_empty() {
            let ties: Vec<String> =
                status.ties.iter().map(|tie| format!("{}\n{}", tie.why(), tie.mend())).collect();
            facts.push(("foreign keys", run.look.paint(Tone::Warn, &ties.join("\n"))));
        }
        let text = format!("{}{}", run.look.facts(&facts), warnings(run.look, &status.warnings));
        let verdict = self.verdict(&status.stream, status.lag_seconds, status.paused.as_ref());
        let verdict = verdict
            .or_else(|| crate::region::quarantine::verdict("status of", &status.stream, &status.quarantined));
        Ok(Output::new(text, as_json(&status)?).with_verdict(verdict))
    }

    fn verdict(&self, stream: &str, lag_seconds: Option<u64>, paused: Option<&Paused>) -> Option<Error> {
        let limit = self.fail_if_lag?;
        let lag = lag_seconds.map(Duration::from_secs);
        if lag.is_some_and(|lag| lag <= limit) {
            return None;
        }
        let lag = lag.map_or_else(|| UNKNOWN.to_owned(), look::duration);
        let message = format!("status of {stream}: the lag is {lag}, the limit {}", look::duration(limit));
        if let Some(paused) = paused {
            return Some(
                Error::new(Kind::Finding, format!("{message}; it is paused {paused}"))
                    .hint("`tablecast resume` ends the pause"),
            );
        }
        Some(Error::new(Kind::Finding, message).hint(
            "is upload running at the source and apply in the region? `tablecast doctor` on either side finds what \
             stands in the way",
        ))
    }
}

fn paused(run: &Run, paused: Option<&Paused>) -> Option<(&'static str, String)> {
    paused.map(|paused| ("paused", run.look.paint(Tone::Warn, &paused.to_string())))
}

fn last_error(run: &Run, failure: Option<&Failure>) -> Option<(&'static str, String)> {
    let failure = failure?;
    let text = format!("{}: {failure}", look::time(failure.at, run.now()));
    Some(("last error", run.look.paint(Tone::Bad, &text)))
}

fn place(seq: u64, tx: u64) -> String {
    match (seq, tx) {
        (0, 0) => "the beginning: no entry yet".to_owned(),
        _ => format!("entry {}, transaction {}", look::number(seq), look::number(tx)),
    }
}

fn behind(entries: impl Into<Option<u64>>, transactions: impl Into<Option<u64>>) -> String {
    match (entries.into(), transactions.into()) {
        (Some(0), _) => "nothing".to_owned(),
        (Some(entries), Some(transactions)) => {
            format!("{} in {}", look::count(transactions, "transaction"), look::count(entries, "entry"))
        }
        _ => UNKNOWN.to_owned(),
    }
}

fn running(is_running: bool) -> String {
    if is_running { "running" } else { "not running" }.to_owned()
}

fn warnings(look: Look, warnings: &[String]) -> String {
    warnings.iter().map(|warning| format!("\n{} {warning}", look.paint(Tone::Warn, "warning:"))).collect()
}
