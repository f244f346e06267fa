//! `tablecast grants`: the least that this role's account needs, as SQL to run.

use std::collections::BTreeSet;

use serde_json::json;

use super::output::Output;
use super::run::Run;
use crate::binlog::name::TableSet;
use crate::config::{Config, Guard, Role};
use crate::error::{Error, Kind, Result};
use crate::{region, source};

/// Print the minimal GRANTs for this role, ready to run
#[derive(clap::Args, Clone)]
#[command(after_help = "\
Examples:
  tablecast grants | mysql
  tablecast grants --table g.apps           at the source, before the stream, or the table, is there
  tablecast grants --primary | mysql -h …   for the account in [primary]
  tablecast grants --processor              what `processor create` and `rebuild` need beside")]
pub struct Args {
    /// At the source: the tables, where there is no stream yet to name them
    #[arg(long = "table", short, value_name = "DB.T")]
    tables: Vec<String>,

    /// At the source: what `tables`, replication and the bridge need on the server named in [primary]
    #[arg(long)]
    primary: bool,

    /// At the source: what `processor create` and `rebuild` need, of both accounts
    #[arg(long, conflicts_with = "primary")]
    processor: bool,

    /// The host that the account connects from
    #[arg(long, value_name = "HOST", default_value = "%")]
    host: String,
}

impl Args {
    pub async fn run(&self, run: &Run) -> Result<Output> {
        let config = &run.config;
        let server = match (&config.primary, self.primary || self.processor) {
            (Some(primary), true) if self.primary => primary,
            (Some(_), true) => &config.mysql,
            (None, true) => {
                let what = format!("{} has no [primary]", config.path.display());
                return Err(Error::new(Kind::Usage, what).hint(
                    "without one the source itself is written to: `tablecast grants` prints all it needs",
                ));
            }
            (_, false) => &config.mysql,
        };
        let user = format!("{}@{}", quote(&server.user), quote(&self.host));
        let mut more = String::new();
        let grants = match config.role {
            Role::Source => {
                let tables = self.source_tables(run).await?;
                let mut grants = source::preflight::grants(&user, &tables);
                match &config.primary {
                    Some(_) if self.primary => {
                        grants.extend(source::preflight::primary_grants(&user, &tables))
                    }
                    Some(primary) if self.processor => {
                        let there = format!("{}@{}", quote(&primary.user), quote(&self.host));
                        let extra = source::processor::grants(&user, &there);
                        grants.extend(extra.on_processor);
                        more = format!(
                            "\n-- The same at the primary too, {primary}: the copy has its accounts. And there:\n{}",
                            lines(&extra.on_primary)
                        );
                    }
                    Some(_) => {
                        more =
                            "\n-- and on the primary, for `tables` and `upload`: tablecast grants --primary"
                                .to_owned();
                    }
                    // It is written to as well.
                    None => grants.extend(source::preflight::writer_grants(&user, &tables)),
                }
                let mut seen = BTreeSet::new();
                grants.retain(|grant| seen.insert(grant.clone()));
                grants
            }
            Role::Region => {
                let Some(region) = &config.region else {
                    return Err(Error::new(
                        Kind::Usage,
                        format!("{} has no [region]", config.path.display()),
                    ));
                };
                region::privileges::grants(&user, &region.tables, config.apply.guard)
            }
        };
        let text = format!(
            "-- stream {}, role {}; the account, if it is not there yet:\n\
             -- CREATE USER {user} IDENTIFIED BY '…';\n{}{more}",
            config.stream,
            config.role,
            lines(&grants)
        ) + &guard_notes(config, &user);
        Ok(Output::new(text, json!({"role": config.role.to_string(), "user": user, "grants": grants})))
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

/// What the write guard needs that is no grant, or not always wanted.
fn guard_notes(config: &Config, user: &str) -> String {
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
            notes.push_str(&format!("\n-- {grant};"));
        }
    }
    notes
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
