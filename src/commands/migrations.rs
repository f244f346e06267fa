//! `tablecast migrations`: online migrations in flight, how far every region is, and whether the cut-over is safe
//! everywhere. `--wait-safe` is for the tools' hooks (scripts/hooks).

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::json;
use tokio::time::Instant;

use super::globals::{duration, table};
use super::look::{self, Tone, UNKNOWN};
use super::output::{Output, as_json};
use super::run::Run;
use crate::binlog::gtid::GtidSet;
use crate::binlog::name::TableName;
use crate::config::Role;
use crate::error::{Error, Kind, Result, chain};
use crate::mysql::Ghost;
use crate::source::migrations::{self, Migration, Migrations, Need, Question, State};
use crate::store::Store;
use crate::stream::{Head, Key};

/// How often it is looked.
const POLL: Duration = Duration::from_secs(1);
/// How often who holds it up is told while waiting.
const TELL: Duration = Duration::from_secs(10);

/// Show online migrations in flight, and whether their cut-over is safe in every region
#[derive(clap::Args, Clone)]
#[command(after_help = "\
Examples:
  tablecast migrations
  tablecast migrations g.apps --wait-safe --timeout 10m     before the cut-over: docs/migrations.md has the hooks

Safe: every region that has ever reported has all that the source (the primary, if [primary] names it) had executed
when the command began, has the ghost table, and has neither it nor its table in quarantine. --wait-safe ends with 0
then, and with 4 when the time is over. A table outside the stream's set does not travel: nothing is waited for.")]
pub struct Args {
    /// Only migrations of this table
    #[arg(value_parser = table())]
    table: Option<TableName>,

    /// Wait until the table's cut-over is safe
    #[arg(long, requires = "table")]
    wait_safe: bool,

    /// Give up after this time [default: never]
    #[arg(long, value_name = "DUR", requires = "wait_safe", value_parser = duration())]
    timeout: Option<Duration>,

    /// A region that need not be safe; may be repeated
    #[arg(long, value_name = "NAME")]
    ignore_region: Vec<String>,
}

/// What is waited for, as first seen.
struct Goal {
    executed: GtidSet,
    need: Option<Need>,
    /// The ghosts that are meant: one, unless an earlier migration has left another. Others, or one that is altered
    /// meanwhile, are another goal.
    ghosts: Vec<Ghost>,
}

impl Args {
    pub async fn run(&self, run: &Run) -> Result<Output> {
        run.must_be(Role::Source, "migrations")?;
        let ignored: BTreeSet<String> = self.ignore_region.iter().cloned().collect();
        let began = Instant::now();
        let store = run.store().await?;
        let head = run.head(&*store).await?;
        if let Some(output) = self.outside(run, &head).await? {
            return Ok(output);
        }
        let (mut goal, mut told): (Option<Goal>, Option<Instant>) = (None, None);
        loop {
            let (answer, blockers) = match self.ask(run, &*store, &ignored, &mut goal).await {
                Ok(answer) if !self.wait_safe => {
                    return Ok(Output::new(text(run, &answer), as_json(&answer)?));
                }
                Ok(answer) => {
                    let blockers = self.blockers(&answer);
                    (as_json(&answer)?, blockers)
                }
                // Once it has gone well, what may pass is waited for: hours may hang on this wait.
                Err(error) if goal.is_some() && error.is_transient() => (json!({}), vec![chain(&error)]),
                Err(error) => return Err(error),
            };
            let waited = began.elapsed();
            if blockers.is_empty() {
                let text = format!(
                    "{}: the cut-over is safe in every region (after {})",
                    self.name(),
                    look::duration(waited)
                );
                return Ok(Output::new(text, answer));
            }
            if self.timeout.is_some_and(|timeout| waited >= timeout) {
                return Ok(Output::new("", answer).with_verdict(Some(self.late(&blockers))));
            }
            if told.is_none_or(|told| told.elapsed() >= TELL) {
                told = Some(Instant::now());
                tracing::warn!("the cut-over of {} is not safe yet: {}", self.name(), blockers.join("; "));
            }
            let left = self.timeout.map_or(POLL, |timeout| timeout.saturating_sub(waited));
            tokio::time::sleep(POLL.min(left)).await;
        }
    }

    /// Looks at everything once. `goal`: what is waited for, from one look to the next.
    async fn ask(
        &self,
        run: &Run,
        store: &dyn Store,
        ignored: &BTreeSet<String>,
        goal: &mut Option<Goal>,
    ) -> Result<Migrations> {
        // The source first: what it has executed by then is in the head, or is not shipped.
        let set = run.head(store).await?.table_set.tables;
        let look = migrations::look(&run.config, &set).await?;
        let head = run.head(store).await?;
        if self.wait_safe && goal.is_none() {
            look.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        }
        let reports = migrations::reports(store, Key::REGIONS).await?;
        migrations::check_ignored(ignored, &reports)?;
        let ghosts: Vec<Ghost> = look.ghosts.iter().filter(|ghost| self.is_meant(ghost)).cloned().collect();
        let kept = goal.take().filter(|goal| goal.ghosts == ghosts);
        let aim = kept.unwrap_or_else(|| Goal { executed: look.executed.clone(), need: None, ghosts });
        let answer = migrations::judge(&Question {
            look: &look,
            executed: &aim.executed,
            need: aim.need,
            head: &head,
            reports: &reports,
            ignored,
            only: self.table.as_ref(),
            now: run.now(),
        });
        *goal = Some(Goal { need: answer.need, ..aim });
        Ok(answer)
    }

    fn name(&self) -> String {
        self.table.as_ref().map_or_else(String::new, ToString::to_string)
    }

    fn is_meant(&self, ghost: &Ghost) -> bool {
        self.table.as_ref() == Some(&ghost.of) && matches!(ghost.part, crate::mysql::Part::New(_))
    }

    /// A table that does not travel: whoever asks for it, a hook that runs for every migration, need not wait. One
    /// that nobody has is misspelt.
    async fn outside(&self, run: &Run, head: &Head) -> Result<Option<Output>> {
        let Some(table) = self.table.as_ref().filter(|table| !head.table_set.tables.names(table)) else {
            return Ok(None);
        };
        if !migrations::exists(&run.config, table).await? {
            return Err(Error::new(Kind::NotFound, format!("migrations of {table}: there is no such table"))
                .hint(
                    "names are compared with their case; on a mini-replica, which lacks the tables that do not travel, \
                     set [primary] in the config",
                ));
        }
        let text = format!("{table} is not in the table set of stream {}: it does not travel", head.name);
        let json = json!({"stream": head.name, "table": table, "in_set": false, "migrations": []});
        Ok(Some(Output::new(text, json)))
    }

    /// Why the table's cut-over must wait.
    fn blockers(&self, answer: &Migrations) -> Vec<String> {
        if answer.migrations.is_empty() {
            return vec![format!("{} has no ghost table of {}", answer.server, self.name())];
        }
        let all: BTreeSet<&String> =
            answer.migrations.iter().flat_map(|migration| &migration.held_up_by).collect();
        all.into_iter().cloned().collect()
    }

    fn late(&self, blockers: &[String]) -> Error {
        let waited = look::duration(self.timeout.unwrap_or_default());
        let message =
            format!("wait {waited} for {}: the cut-over is not safe: {}", self.name(), blockers.join("; "));
        Error::new(Kind::Finding, message).hint(
            "docs/runbooks/stuck-migration.md goes through the reasons; --ignore-region NAME leaves a region out, whose copy \
             a dump mends afterwards",
        )
    }
}

fn text(run: &Run, answer: &Migrations) -> String {
    let mut parts: Vec<String> =
        answer.migrations.iter().map(|migration| one(run, migration, run.now())).collect();
    if parts.is_empty() {
        parts.push(format!("no migration in flight at {}", answer.server));
    }
    for leftover in &answer.leftovers {
        parts.push(format!(
            "left behind: {} (of {}); a DROP TABLE at the source drops it everywhere",
            leftover.table, leftover.of
        ));
    }
    if answer.not_shipped > 0 && answer.migrations.is_empty() {
        parts.push(format!("not in the stream yet: {}", look::count(answer.not_shipped, "transaction")));
    }
    for warning in &answer.warnings {
        parts.push(run.look.paint(Tone::Warn, &format!("warning: {warning}")));
    }
    parts.join("\n\n")
}

fn one(run: &Run, migration: &Migration, now: DateTime<Utc>) -> String {
    let since = migration.since.map_or_else(|| UNKNOWN.to_owned(), |since| look::time(since, now));
    let rows = migration.regions.iter().map(|region| {
        let state = match region.ignored {
            true => format!("{} (ignored)", region.state.name()),
            false => region.state.name().to_owned(),
        };
        vec![
            region.region.clone(),
            state,
            match region.state {
                State::Unknown => UNKNOWN.to_owned(),
                _ => look::number(region.last_tx.0),
            },
            region.behind.map_or_else(|| UNKNOWN.to_owned(), look::number),
            region
                .lag_seconds
                .map_or_else(|| UNKNOWN.to_owned(), |lag| look::duration(Duration::from_secs(lag))),
            look::time(region.received_at, now),
        ]
    });
    let table = run.look.table(&["region", "state", "at", "behind", "lag", "reported"], &[2, 3], rows);
    let heading = format!("{}: {}, into {} since {since}", migration.table, migration.tool, migration.ghost);
    let verdict = match migration.safe {
        true => run.look.paint(Tone::Good, "cut-over: safe in every region"),
        false => format!(
            "{}\n  {}",
            run.look.paint(Tone::Bad, "cut-over: NOT safe"),
            migration.held_up_by.join("\n  ")
        ),
    };
    format!("{}\n{table}\n{verdict}", run.look.paint(Tone::Strong, &heading))
}
