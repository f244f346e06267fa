//! `tablecast grants`: the least that this role's account needs, as SQL to run.

use serde_json::json;

use super::output::Output;
use super::run::Run;
use crate::binlog::name::TableSet;
use crate::config::Role;
use crate::error::{Error, Kind, Result};
use crate::{region, source};

/// Print the minimal GRANTs for this role, ready to run
#[derive(clap::Args, Clone)]
#[command(after_help = "\
Examples:
  tablecast grants | mysql
  tablecast grants --table g.apps           at the source, before the stream is there")]
pub struct Args {
    /// At the source: the tables, where there is no stream yet to name them
    #[arg(long = "table", short, value_name = "DB.T")]
    tables: Vec<String>,

    /// The host that the account connects from
    #[arg(long, value_name = "HOST", default_value = "%")]
    host: String,
}

impl Args {
    pub async fn run(&self, run: &Run) -> Result<Output> {
        let config = &run.config;
        let user = format!("{}@{}", quote(&config.mysql.user), quote(&self.host));
        let grants = match config.role {
            Role::Source => source::preflight::grants(&user, &self.source_tables(run).await?),
            Role::Region => {
                let Some(region) = &config.region else {
                    return Err(Error::new(
                        Kind::Usage,
                        format!("{} has no [region]", config.path.display()),
                    ));
                };
                region::preflight::grants(&user, &region.tables)
            }
        };
        let lines = grants.iter().map(|grant| format!("{grant};\n"));
        let text = format!(
            "-- stream {}, role {}; the account, if it is not there yet:\n\
             -- CREATE USER {user} IDENTIFIED BY '…';\n{}",
            config.stream,
            config.role,
            lines.collect::<String>().trim_end()
        );
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

/// A user or host name as SQL, whatever the session's sql_mode: quotes doubled, no backslash escapes possible
/// in account names that MySQL takes.
fn quote(name: &str) -> String {
    format!("'{}'", name.replace('\'', "''"))
}
