//! Whether a cut-over is safe: a pure judgement over the head, the regions' reports and one look at the source.

use std::collections::BTreeSet;

use chrono::{DateTime, Duration, Utc};

use super::{Leftover, Look, Migration, Migrations, Need, Progress, Reported, State};
use crate::binlog::gtid::GtidSet;
use crate::binlog::name::TableName;
use crate::mysql::{Ghost, Part, Tool};
use crate::stream::{Entry, Head, RegionReport, StreamTx};

/// A region that has not reported for so long is silent: a following one reports every minute, cron as often.
pub const SILENT_AFTER: Duration = Duration::minutes(5);
/// So many tables in quarantine are named in one reason.
const NAMED: usize = 3;

/// What is asked.
pub struct Question<'a> {
    pub look: &'a Look,
    /// What every region has to have: what the source had executed when the question was first asked.
    pub executed: &'a GtidSet,
    /// Where that is in the stream, from an earlier answer: it does not move.
    pub need: Option<Need>,
    pub head: &'a Head,
    pub reports: &'a [Reported],
    /// Regions that the operator does not wait for.
    pub ignored: &'a BTreeSet<String>,
    /// Only migrations of this table.
    pub only: Option<&'a TableName>,
    pub now: DateTime<Utc>,
}

/// Where in the stream a region has everything of `executed`; `None` as long as it is not shipped.
pub fn need(head: &Head, executed: &GtidSet) -> Option<Need> {
    if !executed.is_subset(&head.covered) {
        return None;
    }
    let covers = |entry: &&Entry| entry.covered().is_some_and(|(_, after)| executed.is_subset(after));
    // What the head covers beyond its entries does not travel.
    let newest = Need { seq: head.last_seq, last_tx: head.last_tx };
    let of = |entry: &Entry| Need { seq: entry.seq, last_tx: entry.up_to() };
    Some(head.entries.iter().find(covers).map_or(newest, of))
}

/// Answers.
pub fn judge(question: &Question<'_>) -> Migrations {
    let Question { look, executed, head, .. } = question;
    let need = question.need.or_else(|| need(head, executed));
    let wanted = |ghost: &&Ghost| question.only.is_none_or(|only| ghost.of == *only);
    let (mut migrations, mut leftovers) = (Vec::new(), Vec::new());
    for ghost in look.ghosts.iter().filter(wanted) {
        match ghost.part {
            Part::New(tool) => migrations.push(migration(question, need, ghost, tool)),
            // gh-ost's helpers go with its migration.
            Part::Changelog | Part::Old if look.ghosts.iter().any(|other| is_migration_of(other, ghost)) => {}
            Part::Changelog | Part::Old => {
                leftovers.push(Leftover { table: ghost.table.clone(), of: ghost.of.clone() });
            }
        }
    }
    Migrations {
        stream: head.name.clone(),
        server: look.server.clone(),
        executed: (*executed).clone(),
        not_shipped: executed.difference(&head.covered).count(),
        uploading: look.uploading,
        need,
        migrations,
        leftovers,
        warnings: look.warnings.clone(),
    }
}

fn is_migration_of(other: &Ghost, helper: &Ghost) -> bool {
    other.of == helper.of && matches!(other.part, Part::New(_))
}

fn migration(question: &Question<'_>, need: Option<Need>, ghost: &Ghost, tool: Tool) -> Migration {
    let mut held_up_by = question.look.blockers.clone();
    if need.is_none() {
        let missing = question.executed.difference(&question.head.covered).count();
        let upload = match question.look.uploading {
            true => "upload is at it",
            false => "no upload runs at the source: start `tablecast upload --follow`",
        };
        held_up_by.push(format!("the source: {missing} transactions are not in the stream yet; {upload}"));
        held_up_by.extend(stranded(question));
    }
    if question.reports.is_empty() {
        held_up_by.push(
            "no region has ever reported: nobody knows where they are; set source_url in their [region] and run \
             `tablecast serve` here"
                .to_owned(),
        );
    }
    let regions: Vec<Progress> =
        question.reports.iter().map(|reported| progress(question, need, ghost, reported)).collect();
    // That the stream is behind is said once.
    let is_said = |state: State| state.is_safe() || (state == State::Behind && need.is_none());
    for region in regions.iter().filter(|region| !region.ignored && !is_said(region.state)) {
        let why = region.why.as_deref().unwrap_or(region.state.name());
        held_up_by.push(format!("region {}: {why}", region.region));
    }
    Migration {
        table: ghost.of.clone(),
        ghost: ghost.table.clone(),
        tool: tool.to_string(),
        since: ghost.created_at,
        regions,
        safe: held_up_by.is_empty(),
        held_up_by,
    }
}

/// What would be waited for in vain.
fn stranded(question: &Question<'_>) -> Option<String> {
    let missing = question.executed.difference(&question.head.covered);
    let stranded = missing.intersection(&question.look.stranded);
    (!stranded.is_empty()).then(|| {
        format!(
            "the source never gets {stranded}: the primary holds it in no binary log any more, or the source made it and has \
             lost it. Does it touch no table of the set, commit it empty at the source (SET gtid_next = '…'; BEGIN; COMMIT); \
             else make the source again (docs/runbooks/stuck-migration.md)"
        )
    })
}

fn progress(question: &Question<'_>, need: Option<Need>, ghost: &Ghost, reported: &Reported) -> Progress {
    let age = question.now - reported.received_at;
    let silent = || format!("it has not reported for {} min", age.num_minutes());
    let mut progress = Progress {
        region: reported.region.clone(),
        state: State::Unknown,
        ignored: question.ignored.contains(&reported.region),
        last_tx: StreamTx::ZERO,
        behind: None,
        lag_seconds: None,
        received_at: reported.received_at,
        why: None,
    };
    let report = match &reported.report {
        Ok(report) if report.stream == question.head.stream => report,
        Ok(report) => {
            progress.why = Some(format!("it follows stream {}, which is another one", report.stream));
            return progress;
        }
        Err(error) => {
            progress.why = Some(format!("its report cannot be read: {error}"));
            return progress;
        }
    };
    let at = report.last_tx.max(report.base_tx);
    progress.last_tx = at;
    progress.behind = need.map(|need| need.last_tx.0.saturating_sub(at.0));
    progress.lag_seconds = report.lag_seconds;
    let (state, why) = if report.left_out.contains(&ghost.of) {
        (State::LeftOut, None)
    } else if age > SILENT_AFTER {
        (State::Silent, Some(silent()))
    } else if let Some(why) = quarantined(question, report, ghost) {
        (State::Quarantined, Some(why))
    } else if let Some(why) = behind(report, need, at) {
        (State::Behind, Some(why))
    } else {
        match &report.ghosts {
            Some(there) if there.contains(&ghost.table) => (State::Complete, None),
            Some(_) => (
                State::NoGhost,
                Some(format!(
                    "it has no {}: it was made from a dump in the middle of the migration. The cut-over takes {} into \
                     quarantine there, and a dump brings it back",
                    ghost.table, ghost.of
                )),
            ),
            None => (
                State::NoGhost,
                Some(format!("{} there does not tell whether {} is there", report.version, ghost.table)),
            ),
        }
    };
    (progress.state, progress.why) = (state, why);
    progress
}

/// Of the table, of its ghost, and of the table that the cut-over pushes it aside to: one statement names all three.
fn quarantined(question: &Question<'_>, report: &RegionReport, ghost: &Ghost) -> Option<String> {
    let set = &question.head.table_set.tables;
    let concerns = |table: &TableName| {
        *table == ghost.of
            || (set.ghost_of(table).as_ref() == Some(&ghost.of) && Part::of(&table.table) != Part::Changelog)
    };
    let tables: Vec<String> = report
        .quarantined
        .iter()
        .filter(|known| concerns(&known.table))
        .map(|known| known.table.to_string())
        .collect();
    if tables.is_empty() {
        return None;
    }
    let more = if tables.len() > NAMED { " and more" } else { "" };
    Some(format!(
        "in quarantine there: {}{more}; the cut-over is passed over, and a dump brings {} back",
        tables[..tables.len().min(NAMED)].join(", "),
        ghost.of
    ))
}

fn behind(report: &RegionReport, need: Option<Need>, at: StreamTx) -> Option<String> {
    let Some(need) = need else {
        return Some("the stream itself is not that far".to_owned());
    };
    if report.seq >= need.seq {
        return None;
    }
    let stopped = report
        .last_error
        .as_ref()
        .map(|error| format!("; its last run stopped: {error}"))
        .unwrap_or_default();
    Some(match need.last_tx.0.saturating_sub(at.0) {
        0 => format!("at entry {} of {}{stopped}", report.seq.0, need.seq.0),
        n => format!("behind by {n} transactions{stopped}"),
    })
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
