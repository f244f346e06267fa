//! `tablecast grants`: the least that this role's account needs, as SQL to run.

use std::collections::BTreeSet;

use serde_json::json;

use super::output::Output;
use super::run::Run;
use crate::binlog::name::TableSet;
use crate::config::{Config, Guard, MysqlConfig, Role};
use crate::error::{Error, Kind, Result};
use crate::mysql::by_name;
use crate::{region, source};

/// Print the minimal GRANTs for this role, ready to run
#[derive(clap::Args, Clone)]
#[command(after_help = "\
Examples:
  tablecast grants | mysql
  tablecast grants --table g.apps           at the source, before the stream is there; a table must be
  tablecast grants --primary | mysql -h …   for the account in [primary]
  tablecast grants --primary --processor    at the primary, for `processor create` and `rebuild`: both accounts
  tablecast grants --processor              at the processor, for `processor create`: no table need be there
  tablecast grants --partial-revokes        for a server that has partial_revokes=ON")]
pub struct Args {
    /// At the source: the tables, where there is no stream yet to name them
    #[arg(long = "table", short, value_name = "DB.T")]
    tables: Vec<String>,

    /// At the source: what `tables`, replication and the bridge need on the server named in `[primary]`
    #[arg(long)]
    primary: bool,

    /// At the source: what `processor create` and `rebuild` need on the processor; with --primary, on the primary
    #[arg(long)]
    processor: bool,

    /// For a server with partial_revokes=ON, where `\_` in a schema's name does not stand for `_`
    #[arg(long)]
    partial_revokes: bool,

    /// The host that the account connects from
    #[arg(long, value_name = "HOST", default_value = "%")]
    host: String,
}

impl Args {
    pub async fn run(&self, run: &Run) -> Result<Output> {
        let config = &run.config;
        let account = |server: &MysqlConfig| format!("{}@{}", quote(&server.user), quote(&self.host));
        let user = account(&config.mysql);
        let printed = match (config.role, &config.primary) {
            (_, None) if self.primary || self.processor => {
                let what = format!("{} has no [primary]", config.path.display());
                return Err(Error::new(Kind::Usage, what).hint(
                    "without one the source itself is written to: `tablecast grants` prints all it needs",
                ));
            }
            (Role::Source, Some(primary)) if self.processor => {
                let there = account(primary);
                let extra = source::processor::grants(&user, &there);
                match self.primary {
                    false => on_processor(config, user, extra.on_processor),
                    true => {
                        let tables = self.source_tables(run).await?;
                        let mut grants = source::preflight::grants(&user, &tables);
                        grants.extend(extra.on_processor);
                        grants.extend(source::preflight::grants(&there, &tables));
                        grants.extend(source::preflight::primary_grants(&there, &tables));
                        grants.extend(extra.on_primary);
                        on_primary(primary, user, &there, once_each(grants))
                    }
                }
            }
            (Role::Source, Some(primary)) if self.primary => {
                let (user, tables) = (account(primary), self.source_tables(run).await?);
                let mut grants = source::preflight::grants(&user, &tables);
                grants.extend(source::preflight::primary_grants(&user, &tables));
                Printed::new(user, once_each(grants))
            }
            (Role::Source, primary) => {
                let tables = self.source_tables(run).await?;
                let mut grants = source::preflight::grants(&user, &tables);
                // The source is written to as well, where no primary is named.
                if primary.is_none() {
                    grants.extend(source::preflight::writer_grants(&user, &tables));
                }
                let mut printed = Printed::new(user, once_each(grants));
                if primary.is_some() {
                    printed.last = "-- and on the primary, for `tables` and `upload`: tablecast grants --primary\n\
                         -- Is this a binlog processor? Its accounts are the primary's: tablecast grants --primary --processor, there"
                        .to_owned();
                }
                printed
            }
            (Role::Region, _) => {
                let Some(region) = &config.region else {
                    return Err(Error::new(
                        Kind::Usage,
                        format!("{} has no [region]", config.path.display()),
                    ));
                };
                let grants = region::privileges::grants(&user, &region.tables, config.apply.guard);
                Printed::new(user, grants)
            }
        };
        let Printed { user, first, create, mut grants, last } = printed;
        if self.partial_revokes {
            grants.iter_mut().for_each(|grant| *grant = by_name(grant));
        }
        let mut text = vec![format!(
            "-- stream {}, role {}; the account, if it is not there yet:",
            config.stream, config.role
        )];
        text.splice(0..0, first);
        if grants.iter().any(|grant| by_name(grant) != *grant) {
            text.push(
                "-- Where SELECT @@partial_revokes is 1: tablecast grants --partial-revokes".to_owned(),
            );
        }
        text.extend(create.iter().map(|user| format!("-- CREATE USER {user} IDENTIFIED BY '…';")));
        text.push(lines(&grants));
        text.extend((!last.is_empty()).then_some(last));
        let text = text.join("\n") + &self.guard_notes(config, &user);
        Ok(Output::new(text, json!({"role": config.role.to_string(), "user": user, "grants": grants})))
    }

    /// What the write guard needs that is no grant, or not always wanted.
    fn guard_notes(&self, config: &Config, user: &str) -> String {
        let Some(region) = config.region.as_ref().filter(|_| config.apply.guard != Guard::Off) else {
            return String::new();
        };
        let mut notes = String::new();
        if config.apply.guard == Guard::Triggers {
            notes.push_str(
            "\n-- The write guard makes triggers, which a server with a binlog allows to SUPER alone, unless:\n\
             -- SET PERSIST log_bin_trust_function_creators = 1;\n\
             -- `tablecast guard on` also takes ALTER, DROP, INDEX and TRIGGER on single tables from accounts; for that:",
        );
            for grant in region::guard::may_take(user, &region.tables) {
                let grant = if self.partial_revokes { by_name(&grant) } else { grant };
                notes.push_str(&format!("\n-- {grant};"));
            }
        }
        notes
    }

    async fn source_tables(&self, run: &Run) -> Result<TableSet> {
        if !self.tables.is_empty() {
            return TableSet::parse(&self.tables);
        }
        let store = run.store().await?;
        match run.head(&*store).await {
            Ok(head) => Ok(head.table_set.tables),
            Err(error) if error.is_not_found() => {
                Err(Error::new(Kind::Usage, "there is no stream yet that would name the tables")
                    .hint("tablecast grants --table DB.T --table DB.T …")
                    .caused_by(error))
            }
            Err(error) => Err(error),
        }
    }
}

/// What is printed, from the top.
struct Printed {
    user: String,
    first: Vec<String>,
    /// The accounts that must be there.
    create: Vec<String>,
    grants: Vec<String>,
    last: String,
}

impl Printed {
    fn new(user: String, grants: Vec<String>) -> Printed {
        Printed { create: vec![user.clone()], user, first: Vec::new(), grants, last: String::new() }
    }
}

/// To be run as it is printed on a server that has nothing yet, and whose my.cnf makes it read-only: no table is named.
fn on_processor(config: &Config, user: String, grants: Vec<String>) -> Printed {
    let first = vec![
        format!(
            "-- For the processor, {}: run it there as an administrator, before `tablecast processor create`.",
            config.mysql
        ),
        "-- Rights on tables come with the copy: first, at the primary, tablecast grants --primary --processor".to_owned(),
        "SET @was = @@GLOBAL.super_read_only; SET GLOBAL super_read_only = OFF; SET sql_log_bin = 0;".to_owned(),
    ];
    Printed { first, last: "SET GLOBAL super_read_only = @was;".to_owned(), ..Printed::new(user, grants) }
}

/// Of both accounts: the processor will have the primary's.
fn on_primary(primary: &MysqlConfig, user: String, there: &str, grants: Vec<String>) -> Printed {
    let first = vec![
        format!("-- For the primary, {primary}: run it there as an administrator, before `tablecast processor create` or"),
        "-- `rebuild`. The copy has its accounts, that of [mysql] with the same password too. The tables must be there."
            .to_owned(),
    ];
    let create = once_each(vec![user.clone(), there.to_owned()]);
    Printed { first, create, ..Printed::new(user, grants) }
}

fn once_each(mut texts: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    texts.retain(|text| seen.insert(text.clone()));
    texts
}

fn lines(grants: &[String]) -> String {
    let lines: Vec<String> = grants.iter().map(|grant| format!("{grant};")).collect();
    lines.join("\n")
}

/// A user or host name as SQL, whatever the session's sql_mode: quotes doubled, no backslash escapes possible
/// in account names that MySQL takes.
fn quote(name: &str) -> String {
    format!("'{}'", name.replace('\'', "''"))
}
