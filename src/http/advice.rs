//! What is wrong, in a sentence, and what to do next: for the page and for `status --all`, which say the same.
//!
//! A pure judgement over what is known. What is not known is no trouble of its own, unless somebody has to find out.

use chrono::{DateTime, TimeDelta, Utc};

use super::api::{Failure, Job, JobState, Migrations, Paused, QuarantinedTable, Region, RegionState, Status};
use super::regions::BEHIND_AFTER;
use crate::figures::{count, duration, moment, shell};

/// A dump that has not moved for so long is looked after.
const STUCK_AFTER: TimeDelta = TimeDelta::minutes(10);
/// Two clocks that differ by more are named: a report is on its way for seconds.
const SKEW: TimeDelta = TimeDelta::seconds(60);
/// A source's time so far in the future is a wrong clock, here or there.
const AHEAD: TimeDelta = TimeDelta::seconds(5);
/// So many tables are named in one sentence.
const NAMED: usize = 3;

/// The page about pausing is no runbook, and lies one folder above them.
pub const PAUSE: &str = "pause";
const TRY: &str = "In the region: `tablecast doctor` tries every precondition and says what mends each.";

const BY_ITSELF: &str = "Nothing to do for that. Who wrote there? `tablecast guard status` in the region.";

/// How bad it is; the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Readers see old rows, or nobody knows whether they do: somebody has to act.
    Bad,
    /// It may become bad.
    Warn,
    /// Good to know; it goes by itself, or hurts nobody.
    Note,
}

/// A trouble, and the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    pub weight: Weight,
    /// The region that it is about; absent: the source, or the whole stream.
    pub region: Option<String>,
    /// What is.
    pub what: String,
    /// What to do next; commands stand in backquotes.
    pub next: String,
    /// A page of docs/runbooks, without `.md`; or [`PAUSE`].
    pub runbook: &'static str,
    /// A heading of it.
    pub section: Option<&'static str>,
}

impl Advice {
    fn new(
        weight: Weight,
        what: impl Into<String>,
        next: impl Into<String>,
        runbook: &'static str,
    ) -> Advice {
        Advice { weight, region: None, what: what.into(), next: next.into(), runbook, section: None }
    }

    fn of(mut self, region: &str) -> Advice {
        self.region = Some(region.to_owned());
        self
    }

    fn section(mut self, section: &'static str) -> Advice {
        self.section = Some(section);
        self
    }

    /// `docs/runbooks/lagging-region.md#upload-does-not-run`.
    pub fn file(&self) -> String {
        let folder = if self.runbook == PAUSE { "docs" } else { "docs/runbooks" };
        let section = self.section.map(|section| format!("#{section}")).unwrap_or_default();
        format!("{folder}/{}.md{section}", self.runbook)
    }

    /// `lagging-region#upload-does-not-run`.
    pub fn page(&self) -> String {
        match self.section {
            Some(section) => format!("{}#{section}", self.runbook),
            None => self.runbook.to_owned(),
        }
    }
}

/// Everything that is wrong, the worst first. `migrations`: what the source's MySQL told, where it was asked and answered.
pub fn of(status: &Status, migrations: Option<&Migrations>, now: DateTime<Utc>) -> Vec<Advice> {
    let mut all = source(status, migrations, now);
    all.extend(status.regions.iter().flat_map(|region| of_region(region, status, now)));
    for there in &status.unreadable {
        let what =
            format!("Nobody knows how {} is: its last report cannot be read: {}", there.region, there.error);
        let next = "An object that was damaged mends itself with the region's next report; a newer version there \
                    needs this one to be upgraded first. In the region: `tablecast status`.";
        all.push(Advice::new(Weight::Bad, what, next, "silent-region").of(&there.region));
    }
    all.extend(status.pending.iter().filter_map(|job| dump(job, now)));
    all.extend(migrations.iter().flat_map(|there| there.migrations.iter()).filter(|one| !one.safe).map(|one| {
        let what = format!("The migration of {} must not cut over yet: {}", one.table, one.held_up_by.join("; "));
        let next = format!(
            "Its hook waits for this by itself. `tablecast migrations {}` at the source goes through the regions.",
            shell(&one.table)
        );
        Advice::new(Weight::Note, what, next, "stuck-migration")
    }));
    all.sort_by_key(|advice| advice.weight);
    all
}

/// The worst there is about one region, or `None`: nothing.
pub fn worst<'a>(all: &'a [Advice], region: &str) -> Option<&'a Advice> {
    all.iter().find(|advice| advice.region.as_deref() == Some(region))
}

/// The stream's own state in a word, and whether it is good.
pub fn stream_state(status: &Status, now: DateTime<Utc>) -> (&'static str, Option<Weight>) {
    let stream = &status.stream;
    match stream.as_of {
        _ if stream.refused.is_some() => ("stopped", Some(Weight::Bad)),
        _ if stream.paused.is_some() => ("paused", Some(Weight::Warn)),
        _ if stream.gap.as_ref().is_some_and(|gap| gap.lost) => ("incomplete", Some(Weight::Bad)),
        None => ("unknown", Some(Weight::Warn)),
        Some(as_of) if now - as_of > BEHIND_AFTER => ("standing still", Some(Weight::Bad)),
        Some(_) => ("ok", None),
    }
}

fn source(status: &Status, migrations: Option<&Migrations>, now: DateTime<Utc>) -> Vec<Advice> {
    let stream = &status.stream;
    let mut all = Vec::new();
    if let Some(refused) = &stream.refused {
        let what = format!(
            "Upload has stopped since {}, in front of a transaction that must not travel: {}",
            moment(refused.found_at),
            refused.why
        );
        all.push(Advice::new(Weight::Bad, what, refused.hint.clone(), "gate-refusal"));
    }
    if let Some(paused) = &stream.paused {
        let next =
            "`tablecast resume` at the source, when it is time. Until then no region gets anything new.";
        all.push(Advice::new(Weight::Warn, pause("Upload", paused), next, PAUSE));
    }
    if let Some(gap) = &stream.gap {
        let what = format!("The source's replication filter leaves out {}", named(&gap.tables));
        let (weight, next) = match gap.lost {
            true => (
                Weight::Bad,
                "Rows may be missing in every region. `tablecast doctor` at the source says what mends it.",
            ),
            false => (
                Weight::Warn,
                "Nothing is lost yet. `tablecast doctor` at the source has the statement that mends it.",
            ),
        };
        let advice =
            Advice::new(weight, what, next, "rebuild-the-processor").section("its-filter-left-a-table-out");
        all.push(advice);
    }
    match stream.as_of {
        None => all.push(Advice::new(
            Weight::Warn,
            "Nobody has told yet up to when the stream is complete",
            "The first `tablecast upload` at the source does.",
            "lagging-region",
        )),
        Some(as_of) if as_of - now > AHEAD => all.push(Advice::new(
            Weight::Warn,
            format!(
                "The source's clock is {} ahead of the service's: every lag here is wrong by as much",
                span(as_of - now)
            ),
            "`timedatectl` on both machines.",
            "clock-skew",
        )),
        Some(as_of) if now - as_of > BEHIND_AFTER && stream.refused.is_none() && stream.paused.is_none() => {
            all.push(standing_still(now - as_of, migrations.map(|there| there.uploading)));
        }
        Some(_) => {}
    }
    for warning in
        migrations.iter().flat_map(|there| &there.warnings).filter(|warning| warning.contains("stands still"))
    {
        let advice = Advice::new(
            Weight::Bad,
            warning.clone(),
            "`tablecast doctor` at the source has the way out.",
            "lagging-region",
        );
        all.push(advice.section("the-sources-replication-stands-still"));
    }
    if stream.owes_dump {
        all.push(Advice::new(
            Weight::Note,
            "Tables with rows came into the set, and no region has them before the dump of all tables that follows",
            "Upload takes it by itself; below it stands among the dumps.",
            "stuck-dump",
        ));
    }
    if stream.last_seq > 0 && !stream.dumps.iter().any(|dump| dump.full) {
        all.push(Advice::new(
            Weight::Note,
            "There is no full dump in the stream: a new region cannot be made",
            "`tablecast dump take --all-tables` at the source.",
            "rebuild-a-region",
        ));
    }
    all
}

fn standing_still(behind: TimeDelta, uploading: Option<bool>) -> Advice {
    let what = format!(
        "The stream stands still: it is complete to {} ago, and no region can be fresher",
        span(behind)
    );
    let advice = |next| Advice::new(Weight::Bad, what, next, "lagging-region");
    match uploading {
        Some(false) => {
            let next = "Upload is not running: `systemctl status tablecast-upload-follow.service` at the source, then \
                        `tablecast upload` by hand.";
            advice(next).section("upload-does-not-run")
        }
        Some(true) => {
            advice("Upload is running: `tablecast status` at the source says what it still has to read.")
        }
        None => advice(
            "At the source: is `tablecast upload` running? `tablecast status` and `tablecast doctor` say what is in its way.",
        ),
    }
}

fn of_region(region: &Region, status: &Status, now: DateTime<Utc>) -> Vec<Advice> {
    let report = &region.report;
    let name = &report.region;
    let mut all = Vec::new();
    if region.state == RegionState::Silent {
        let what =
            format!("{name} has been silent for {}: nobody knows how it is", seconds(region.age_seconds));
        let next = "It may be down, or cannot reach the service. In the region: `tablecast status`, then `tablecast doctor`.";
        all.push(Advice::new(Weight::Bad, what, next, "silent-region"));
        return all.into_iter().map(|advice| advice.of(name)).collect();
    }
    if report.stream != status.stream.stream {
        let what = format!("{name} follows another stream, {}", report.stream);
        let next = "`store` in its config and in the source's name two places: `tablecast config show` on both sides.";
        all.push(Advice::new(Weight::Bad, what, next, "silent-region"));
    }
    if let Some(paused) = &report.paused {
        let next = "`tablecast resume` in the region, when it is time. Until then it stays as it is.";
        all.push(Advice::new(Weight::Warn, pause(&format!("Apply in {name}"), paused), next, PAUSE));
    }
    if let Some(error) = &report.last_error {
        let what = format!("The last run in {name} failed: {error}");
        let (next, runbook) = match &report.failure {
            Some(Failure { hint: Some(hint), kind, .. }) => (hint.clone(), runbook(kind)),
            Some(Failure { kind, .. }) => (TRY.to_owned(), runbook(kind)),
            None => (TRY.to_owned(), "stopped-on-an-error"),
        };
        all.push(Advice::new(Weight::Bad, what, next, runbook));
    }
    all.extend(quarantine(region, status));
    all.extend(drift(region, status, now));
    if region.state == RegionState::Behind || is_behind(region, now) && report.last_error.is_none() {
        let lag = report.as_of.map_or_else(|| "an unknown time".to_owned(), |as_of| span(now - as_of));
        let entries = region
            .behind_entries
            .map_or_else(|| "an unknown number of entries".to_owned(), |n| count(n, "entry"));
        let what = format!("{name} is {lag} behind the source, with {entries} to apply");
        let next = "Is `tablecast apply` running there? `tablecast status` in the region says how far it is and what is in its way.";
        all.push(Advice::new(Weight::Warn, what, next, "lagging-region"));
    }
    let skew = report.reported_at - region.received_at;
    if skew.abs() > SKEW {
        let (by, which) = (span(skew.abs()), if skew > TimeDelta::zero() { "ahead" } else { "behind" });
        let what = format!("The clock of {name} is about {by} {which}: its own lag is wrong by as much");
        all.push(Advice::new(Weight::Warn, what, "`timedatectl` there.", "clock-skew"));
    }
    all.into_iter().map(|advice| advice.of(name)).collect()
}

/// The page for a kind of failure, as `--json` names it.
fn runbook(kind: &str) -> &'static str {
    match kind {
        "history" => "history-lost",
        "gate" => "gate-refusal",
        "store" => "s3-outage",
        "corrupt" | "not_found" => "corrupt-object",
        "format_too_new" => "upgrade-and-rollback",
        _ => "stopped-on-an-error",
    }
}

/// Who has paused it, why and how long.
fn pause(what: &str, paused: &Paused) -> String {
    let until = paused
        .until
        .map_or_else(|| "until somebody resumes it".to_owned(), |until| format!("until {}", moment(until)));
    format!("{what} is paused by {} since {}, {until}: {}", paused.by, moment(paused.since), paused.reason)
}

/// It has entries to apply, whatever else is the matter with it.
fn is_behind(region: &Region, now: DateTime<Utc>) -> bool {
    let is_old = region.report.as_of.is_none_or(|as_of| now - as_of > BEHIND_AFTER);
    is_old && region.behind_entries.is_some_and(|entries| entries > 0) && region.report.paused.is_none()
}

/// What becomes of the tables in quarantine: on their way back, or in need of somebody.
fn quarantine(region: &Region, status: &Status) -> Vec<Advice> {
    let name = &region.report.region;
    let mut all = Vec::new();
    let restored = |table: &QuarantinedTable| {
        region.report.restoring.iter().any(|there| there.tables.contains(&table.table))
    };
    let asked = |table: &QuarantinedTable| {
        let covers = |job: &&Job| job.all_tables || job.tables.contains(&table.table);
        status.pending.iter().filter(|job| job.regions.contains(name)).find(covers)
    };
    let (mut back, mut waits, mut lost) = (Vec::new(), Vec::new(), Vec::new());
    for table in &region.report.quarantined {
        match (restored(table), asked(table)) {
            (true, _) => back.push(table.table.clone()),
            (false, Some(_)) => waits.push(table.table.clone()),
            (false, None) => lost.push(table.table.clone()),
        }
    }
    if !lost.is_empty() {
        let tables: Vec<String> = lost.iter().map(|table| shell(table)).collect();
        let what = format!(
            "{} in quarantine in {name}: {} stale, and no dump is asked for",
            are(&lost),
            if lost.len() == 1 { "it grows" } else { "they grow" }
        );
        let next = format!(
            "In the region: `tablecast quarantine list` says why; `tablecast restore {}` asks for a dump and brings back what it holds.",
            tables.join(" ")
        );
        all.push(Advice::new(Weight::Bad, what, next, "quarantined-table").section("mend"));
    }
    if !waits.is_empty() {
        let what = format!("{} in quarantine in {name}, waiting for a dump that is asked for", are(&waits));
        let next = BY_ITSELF;
        all.push(Advice::new(Weight::Warn, what, next, "quarantined-table"));
    }
    if !back.is_empty() {
        let what = format!("{} being restored in {name}", are(&back));
        let next = BY_ITSELF;
        all.push(Advice::new(Weight::Warn, what, next, "quarantined-table"));
    }
    all
}

/// Tables whose rows are not the source's, and that nobody brings anew.
fn drift(region: &Region, status: &Status, now: DateTime<Utc>) -> Option<Advice> {
    let report = &region.report;
    let set_aside = |table: &String| {
        report.quarantined.iter().any(|there| there.table == *table)
            || report.restoring.iter().any(|there| there.tables.contains(table))
            || status.pending.iter().any(|job| {
                job.regions.contains(&report.region) && (job.all_tables || job.tables.contains(table))
            })
    };
    let open: Vec<_> = report.drifted.iter().filter(|there| !set_aside(&there.table)).collect();
    let first = open.first()?;
    let tables: Vec<String> = open.iter().map(|there| there.table.clone()).collect();
    let what = format!(
        "Rows of {} in {} are not those of the source, found {} ago at transaction {}: {}",
        named(&tables),
        report.region,
        span(now - first.found_at),
        first.at_tx,
        first.what
    );
    let tables: Vec<String> = tables.iter().map(|table| shell(table)).collect();
    let next = format!(
        "In the region: `tablecast restore {}` brings them anew. Who wrote there? `tablecast guard status`.",
        tables.join(" ")
    );
    Some(Advice::new(Weight::Bad, what, next, "drifted-table"))
}

fn dump(job: &Job, now: DateTime<Utc>) -> Option<Advice> {
    let (age, still) = (now - job.created_at, now - job.updated_at);
    let tables = if job.all_tables { "all tables".to_owned() } else { named(&job.tables) };
    let about = |what: String, next: &str| Some(Advice::new(Weight::Warn, what, next, "stuck-dump"));
    match (job.state, &job.error) {
        (JobState::Queued, Some(error)) => about(
            format!("The dump of {tables} failed and is tried again: {error}"),
            "What the error says; `tablecast dump show` has when it is tried next.",
        ),
        (JobState::Queued, None) if age > STUCK_AFTER => about(
            format!("The dump of {tables} has been waiting for {}", span(age)),
            "Upload takes it: is it running at the source? `tablecast status` there tells.",
        ),
        (JobState::Running, _) if still > STUCK_AFTER => about(
            format!("The dump of {tables} has not moved for {}", span(still)),
            "The log of upload at the source, and `SHOW PROCESSLIST` there.",
        ),
        _ => None,
    }
}

/// `g.a is`, `g.a, g.b are`.
fn are(tables: &[String]) -> String {
    format!("{} {}", named(tables), if tables.len() == 1 { "is" } else { "are" })
}

fn named(tables: &[String]) -> String {
    let first = tables.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match tables.len().saturating_sub(NAMED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

fn seconds(seconds: u64) -> String {
    duration(std::time::Duration::from_secs(seconds))
}

fn span(delta: TimeDelta) -> String {
    duration(delta.to_std().unwrap_or_default())
}
