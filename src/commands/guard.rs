//! `tablecast guard`: local writes to the tables of the set are refused in a region.

use std::collections::{BTreeMap, BTreeSet};

use super::look::{self, Tone};
use super::output::{Output, as_json};
use super::person::person;
use super::run::Run;
use crate::config::{Guard, Role};
use crate::error::{Error, Kind, Result};
use crate::region::guard::{self, Grantee, GuardReport, What};

/// Refuse local writes to the tables in a region, or look who could still write
#[derive(clap::Args, Clone)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand, Clone)]
enum Verb {
    On(On),
    Off(Off),
    Status(Status),
}

/// Refuse local writes from now on, whatever the config says
#[derive(clap::Args, Clone)]
#[command(after_help = "\
Examples:
  tablecast guard on                        triggers; ALTER, DROP, INDEX and TRIGGER on single tables are revoked
  tablecast guard on --mode grants          no triggers: INSERT, UPDATE and DELETE are revoked, too
  tablecast guard on --dry-run              the statements
Ends with 3, or 12 where a privilege is missing, if not all of it could be done: `apply` goes on trying.")]
struct On {
    /// How: by triggers, or by revoking grants; default: as the config says
    #[arg(long, value_name = "MODE", value_enum)]
    mode: Option<Mode>,

    /// Why, for those who ask later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    /// Only print what would be done
    #[arg(long)]
    dry_run: bool,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Mode {
    Triggers,
    Grants,
}

/// Let local writes through: drops the triggers, gives back what was revoked
#[derive(clap::Args, Clone)]
#[command(after_help = "\
Examples:
  tablecast guard off --reason \"copying g.apps by hand\"
It stays off until `tablecast guard on`. Rows that are written here differ from the source's: the next change of them puts the table
into quarantine.")]
struct Off {
    /// Why, for those who ask later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    /// Only print what would be done
    #[arg(long)]
    dry_run: bool,
}

/// Show which tables are guarded, and every account that could still change them
#[derive(clap::Args, Clone)]
#[command(after_help = "\
Examples:
  tablecast guard status
  tablecast guard status --json
Ends with 4 if the guard is by triggers and a table is without.")]
struct Status {}

impl Args {
    pub async fn run(&self, run: &Run) -> Result<Output> {
        match &self.verb {
            Verb::On(args) => {
                run.must_be(Role::Region, "guard on")?;
                let mode = match (args.mode, run.config.apply.guard) {
                    (Some(Mode::Grants), _) | (None, Guard::Grants) => Guard::Grants,
                    _ => Guard::Triggers,
                };
                change(run, mode, &args.reason, args.dry_run).await
            }
            Verb::Off(args) => {
                run.must_be(Role::Region, "guard off")?;
                change(run, Guard::Off, &args.reason, args.dry_run).await
            }
            Verb::Status(_) => status(run).await,
        }
    }
}

async fn change(run: &Run, mode: Guard, reason: &Option<String>, dry_run: bool) -> Result<Output> {
    let (reason, lock_wait) = (reason.clone(), run.globals.lock_wait);
    let options =
        guard::Options { mode, reason, by: person().map(|who| format!("{who}, as ")), dry_run, lock_wait };
    let store = match run.store().await {
        Ok(store) => Some(store),
        Err(_) if mode == Guard::Off => None,
        Err(error) => return Err(error),
    };
    let report = guard::change(&run.config, store.as_deref(), &*run.clock, &options).await?;
    let mut text = report.to_string();
    for warning in &report.warnings {
        text.push_str(&format!("\n{} {warning}", run.look.paint(Tone::Warn, "warning:")));
    }
    let verdict = (!report.problems.is_empty()).then(|| {
        let kind = report.kind.filter(|kind| *kind == Kind::Denied).unwrap_or(Kind::Partly);
        let message = format!("guard {}: {}", report.stream, report.problems.join("; "));
        Error::new(kind, message).hint(
            "what could be done is done, and apply goes on trying; `tablecast guard status` shows how it stands",
        )
    });
    Ok(Output::new(text, as_json(&report)?).with_verdict(verdict))
}

async fn status(run: &Run) -> Result<Output> {
    run.must_be(Role::Region, "guard status")?;
    let store = run.store().await.ok();
    let report = guard::status(&run.config, store.as_deref()).await?;
    let bare = report.bare();
    let verdict = (!bare.is_empty()).then(|| {
        let tables = bare.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Error::new(
            Kind::Finding,
            format!("guard of {}: local writes are not refused on {tables}", report.stream),
        )
        .hint("`tablecast guard on` sets it now, or says what stands in the way; docs/guard.md")
    });
    Ok(Output::new(text(run, &report), as_json(&report)?).with_verdict(verdict))
}

fn text(run: &Run, report: &GuardReport) -> String {
    let wish = &report.wish;
    let mut mode = guard::name(wish.mode).to_owned();
    match (wish.by_command, wish.since) {
        (true, Some(since)) => {
            let by = wish.by.as_deref().unwrap_or(look::UNKNOWN);
            mode.push_str(&format!(", by `tablecast guard` as {by}, {}", look::time(since, run.now())));
        }
        _ => mode.push_str(", as the config says"),
    }
    if let Some(reason) = &wish.reason {
        mode.push_str(&format!(": {reason}"));
    }
    let mut facts = vec![
        ("stream", report.stream.clone()),
        ("region", format!("{}, {}", report.region, run.config.mysql)),
        ("guard", mode),
    ];
    if let Some(region) = &report.source_region {
        facts.push(("written in", region.clone()));
    }
    facts.push(("tables", tables(run, report)));
    if let Some(problem) = &wish.problem {
        facts.push(("problem", run.look.paint(Tone::Bad, problem)));
    }
    if !report.pending.is_empty() {
        facts.push((
            "to do",
            format!("{}, by the next apply", look::count(report.pending.len() as u64, "statement")),
        ));
    }
    if !report.taken.is_empty() {
        let taken = report.taken.iter().map(|taken| format!("{};", taken.grant)).collect::<Vec<_>>();
        facts.push(("taken", format!("`guard off` gives back:\n{}", taken.join("\n"))));
    }
    facts.push(("Tablecast is", format!("{} (not among those below)", report.own_account)));
    let mut text = run.look.facts(&facts);
    text.push_str(&openings(run, report));
    text.push_str(&by_definers(run, report));
    if !report.unseen.is_empty() {
        text.push_str(&format!(
            "\nNot all that acts as its definer can be seen by this account, for want of a privilege: {}.",
            report.unseen.join(", ")
        ));
    }
    for warning in &report.warnings {
        text.push_str(&format!("\n{} {warning}", run.look.paint(Tone::Warn, "warning:")));
    }
    text
}

fn tables(run: &Run, report: &GuardReport) -> String {
    let all = look::count(report.tables.len() as u64, "table");
    if report.wish.mode != Guard::Triggers {
        return all;
    }
    let bare = report.bare();
    if bare.is_empty() {
        return format!("{all}, local INSERT, UPDATE and DELETE are refused on each");
    }
    let names = bare.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    format!("{all}; {}", run.look.paint(Tone::Bad, &format!("not guarded: {names}")))
}

fn openings(run: &Run, report: &GuardReport) -> String {
    let Some(openings) = &report.openings else { return String::new() };
    let leads_nowhere = report.by_definers.as_ref().is_none_or(Vec::is_empty);
    if openings.is_empty() {
        if !leads_nowhere {
            return String::new();
        }
        return "\n\nNobody else could change these tables.".to_owned();
    }
    let is_administrator = |account: &Grantee| {
        let administers = |name: &String| ADMINISTERS.contains(&name.as_str());
        openings.iter().any(|opening| {
            opening.account == *account && opening.on == "*.*" && opening.privileges.iter().any(administers)
        })
    };
    let mut by_account: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut administrators: BTreeSet<String> = BTreeSet::new();
    for opening in openings {
        if is_administrator(&opening.account) {
            administrators.insert(opening.account.to_string());
            continue;
        }
        let locked = if opening.locked { " (locked)" } else { "" };
        let lines = by_account.entry(format!("{}{locked}", opening.account)).or_default();
        let by = opening.by.as_ref().map(|by| format!(", {by}")).unwrap_or_default();
        lines.push(format!(
            "  {} ON {}{by}: {}\n    {} {};",
            opening.privileges.join(", "),
            opening.on,
            opening.allows.join("; "),
            run.look.paint(Tone::Dim, "close:"),
            opening.close.replace("; ", ";\n           ")
        ));
    }
    let mut text = String::new();
    if !by_account.is_empty() {
        text.push_str(&format!(
            "\n\n{} could still change these tables, or give {} the right to:",
            look::count(by_account.len() as u64, "account"),
            if by_account.len() == 1 { "itself" } else { "themselves" }
        ));
    }
    let revokes = !by_account.is_empty();
    for (account, lines) in by_account {
        text.push_str(&format!("\n{}\n{}", run.look.paint(Tone::Strong, &account), lines.join("\n")));
    }
    if revokes {
        text.push_str(
            "\nA REVOKE on *.* or on a schema takes the privilege for all tables there: GRANT what an account needs for others first.",
        );
    }
    if !administrators.is_empty() {
        let names: Vec<String> = administrators.into_iter().collect();
        text.push_str(&format!(
            "\n\nAdministrators of this server, who can do anything (CREATE USER, SUPER or ROLE_ADMIN on *.*): {}\n\
             To close one could lock you out; --json has the statements.",
            names.join(", ")
        ));
    }
    text
}

/// Who has one of these on everything administers the server: no statement that takes it is to be run by the way.
const ADMINISTERS: [&str; 3] = ["CREATE USER", "SUPER", "ROLE_ADMIN"];

/// So many of one definer are listed, and so many accounts of each.
const SHOWN: usize = 10;

/// What acts as somebody who gets past the guard. What can only be used by accounts that get past it anyway is counted.
fn by_definers(run: &Run, report: &GuardReport) -> String {
    let Some(all) = report.by_definers.as_ref().filter(|all| !all.is_empty()) else { return String::new() };
    let named: BTreeSet<&Grantee> =
        report.openings.iter().flatten().map(|opening| &opening.account).collect();
    let mut groups: BTreeMap<&Grantee, Vec<String>> = BTreeMap::new();
    let mut others = 0u64;
    for one in all {
        let users: Vec<String> =
            one.users.iter().filter(|user| !named.contains(user)).map(ToString::to_string).collect();
        let who = match (one.what, users.len()) {
            (What::Event, _) => "runs by itself".to_owned(),
            (_, 0) => {
                others += 1;
                continue;
            }
            (_, n) if n > SHOWN => {
                format!("can be used by {} and {} more", users[..SHOWN].join(", "), n - SHOWN)
            }
            _ => format!("can be used by {}", users.join(", ")),
        };
        let close = run.look.paint(Tone::Dim, "close:");
        let line = format!("  {} {}: {who}\n    {close} {};", one.what, one.name, one.close);
        groups.entry(&one.definer).or_default().push(line);
    }
    let mut text = String::new();
    if !groups.is_empty() {
        text.push_str("\n\nThese act as an account that could, whatever they do now; whoever uses one may do what it can:");
    }
    for (definer, lines) in groups {
        let definer = run.look.paint(Tone::Strong, &format!("as {definer}"));
        text.push_str(&format!("\n{definer}\n{}", lines[..lines.len().min(SHOWN)].join("\n")));
        if lines.len() > SHOWN {
            text.push_str(&format!("\n  and {} more: --json has them all", lines.len() - SHOWN));
        }
    }
    if others > 0 {
        text.push_str(&format!(
            "\n{} more that act so can only be used by accounts named above: --json has them.",
            look::number(others)
        ));
    }
    text
}
