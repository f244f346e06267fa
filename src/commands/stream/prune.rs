//! `tablecast stream prune`: delete what nobody needs any more.

use std::time::Duration;

use crate::commands::globals::duration;
use crate::commands::look::{self, Tone};
use crate::commands::output::{Output, as_json};
use crate::commands::run::Run;
use crate::config::{Role, show_duration};
use crate::error::Result;
use crate::source::prune::{self, Report};
use crate::stream::Key;
use crate::stream::prune::{Hold, Plan, Reason, Why};

/// Delete what no region and no new region needs any more
#[derive(clap::Args, Clone)]
#[command(after_help = "\
History goes up to the newest full dump, the slowest region's report, or what --keep says, whichever comes first.
Without a full dump no history goes: `tablecast dump take --all-tables` makes one.
It works beside a running upload.

Examples:
  tablecast stream prune --dry-run          every object that would go, and what keeps the others
  tablecast stream prune --keep 30d
  tablecast stream prune --forget-region ap1    a region that will not come back")]
pub struct Args {
    /// Entries younger than this stay, with all that they name
    #[arg(long, value_name = "DUR", default_value = "7d", value_parser = duration())]
    keep: Duration,

    /// So many of the newest entries stay, whatever their age
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
    keep_entries: u64,

    /// Prune though no region has reported how far it is
    #[arg(long)]
    no_reports: bool,

    /// A region that will not come back: its report goes, and holds nothing any more; may be repeated
    #[arg(long = "forget-region", value_name = "NAME")]
    forget: Vec<String>,

    /// Only print what would go
    #[arg(long)]
    pub dry_run: bool,
}

impl Args {
    pub async fn run(&self, run: &Run) -> Result<Output> {
        run.must_be(Role::Source, "stream prune")?;
        let options = prune::Options {
            keep: self.keep,
            keep_entries: self.keep_entries,
            without_reports: self.no_reports,
            forget: self.forget.clone(),
            dry_run: self.dry_run,
            lock_wait: run.globals.lock_wait,
            stop: run.stop.clone(),
        };
        let store = run.store().await?;
        let report = prune::run(&run.config, &*store, &*run.clock, &options).await?;
        Ok(Output::new(text(&report, run), as_json(&report)?))
    }
}

fn text(report: &Report, run: &Run) -> String {
    let plan = &report.plan;
    let mut lines = Vec::new();
    if report.dry_run {
        lines.extend(
            plan.delete
                .iter()
                .map(|doomed| format!("delete {} ({}): {}", doomed.key, look::size(doomed.size), doomed.why)),
        );
        lines.extend(report.forget.iter().map(|name| format!("forget region {name}")));
    }
    lines.push(history(report, run));
    if plan.lacks_full_dump && report.last_seq.0 > 0 {
        let hint = run.look.paint(Tone::Dim, "hint:");
        lines.push(format!(
            "{hint} `tablecast dump take --all-tables` makes one, and a prune some days later goes up to it"
        ));
    } else {
        let holds = plan.holds.iter().filter(|hold| hold.up_to < report.last_seq);
        lines.extend(holds.take(5).map(|hold| held(hold, run)));
    }
    lines.extend(objects(plan, report.dry_run));
    if !report.dry_run {
        lines.extend(report.forget.iter().map(|name| format!("region {name} is forgotten")));
    }
    if report.stopped {
        lines.push(format!(
            "stopped after {} of {}; the next run goes on",
            look::number(report.deleted),
            look::count(plan.delete.len() as u64, "object")
        ));
    }
    lines.join("\n")
}

fn history(report: &Report, run: &Run) -> String {
    let (plan, stream) = (&report.plan, &report.stream);
    let goes = if report.dry_run { "would go" } else { "are gone" };
    match (plan.floor, plan.floor_before) {
        (Some(floor), _) => format!(
            "{stream}: {} up to entry {} (transaction {}) {goes}; it begins with entry {} now",
            look::count(plan.entries, "entry"),
            look::number(floor.seq.0),
            look::number(floor.tx.0),
            look::number(floor.seq.0 + 1),
        ),
        (None, _) if plan.lacks_full_dump && report.last_seq.0 > 0 => format!(
            "{stream}: {} there is no full dump that a new region could begin with",
            run.look.paint(Tone::Warn, "no history goes:")
        ),
        (None, None) => format!("{stream}: no history goes; it begins with entry 1"),
        (None, Some(floor)) => {
            format!("{stream}: no history goes; it begins with entry {}", look::number(floor.seq.0 + 1))
        }
    }
}

/// What keeps the entries behind `hold.up_to`.
fn held(hold: &Hold, run: &Run) -> String {
    let why = match &hold.why {
        Why::Tail { entries } => format!("the newest {} stay (--keep-entries)", look::number(*entries)),
        Why::Age { keep_seconds } => {
            let keep = Duration::from_secs(u64::try_from(*keep_seconds).unwrap_or(0));
            format!("younger than {} (--keep)", show_duration(keep))
        }
        Why::Region { name, reported_at } => format!(
            "region {name} needs them: it has come to entry {}, as it told {}",
            look::number(hold.up_to.0),
            look::time(*reported_at, run.now())
        ),
        Why::Dump { id, restoring: true, .. } => format!("a region restores dump {id}"),
        Why::Dump { id, superseded: true, .. } => {
            format!("dump {id} has a newer full one in its place, but a region may have begun with it")
        }
        Why::Dump { id, full: true, .. } => format!("the newest full dump, {id}, and what is behind it"),
        Why::Dump { id, .. } => format!("dump {id}, and what is behind it"),
    };
    format!("  from entry {} on: {why}", look::number(hold.up_to.0 + 1))
}

/// What goes, by kind.
fn objects(plan: &Plan, dry_run: bool) -> Vec<String> {
    let kinds = [
        (Reason::BeforeFloor, Key::SEGMENTS, "segment", "before the floor"),
        (Reason::BeforeFloor, Key::PAGES, "page", "before the floor"),
        (Reason::BeforeFloor, Key::DUMPS, "object", "of dumps before the floor"),
        (Reason::BeforeFloor, Key::CHECKS, "object", "of checks before the floor"),
        (Reason::Superseded, Key::DUMPS, "object", "of dumps superseded by a newer full one"),
        (Reason::Orphan, Key::SEGMENTS, "segment", "that no entry names"),
        (Reason::Orphan, Key::PAGES, "page", "that is linked from nowhere"),
        (Reason::Orphan, Key::DUMPS, "object", "of dumps that no entry names"),
        (Reason::Orphan, Key::CHECKS, "object", "of checks that no entry names"),
        (Reason::Orphan, Key::PROBES, "object", "left by a probe"),
        (Reason::Over, Key::REQUESTS, "request", "long over"),
    ];
    let verb = if dry_run { "would delete" } else { "deleted" };
    let lines = kinds.into_iter().filter_map(|(why, prefix, what, which)| {
        let (count, bytes) = plan.total(why, prefix);
        (count > 0).then(|| format!("{verb} {} {which} ({})", look::count(count, what), look::size(bytes)))
    });
    let mut lines: Vec<String> = lines.collect();
    if lines.is_empty() {
        lines.push(format!("{verb} nothing"));
    }
    lines
}
