//! `tablecast processor config`: the my.cnf of the mini-replica.

use serde_json::json;

use super::super::output::Output;
use super::super::run::Run;
use crate::config::Role;
use crate::error::Result;
use crate::source::processor::my_cnf::my_cnf;
use crate::source::processor::rules::Rules;

/// Print the my.cnf of the mini-replica, with its filters
#[derive(clap::Args, Clone)]
#[command(after_help = "\
Examples:
  tablecast processor config > /etc/mysql/conf.d/tablecast.cnf
  tablecast processor config --table g.apps --table g.partners     before the stream is there
  tablecast processor config --table g.plans                       before `tablecast tables add g.plans`
Connects to the bucket only.")]
pub struct Args {
    /// The tables, where there is no stream yet to name them; else more that are about to be added
    #[arg(long = "table", short, value_name = "DB.T")]
    tables: Vec<String>,

    /// The server_id to put in; by itself one that follows from the stream's name
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    server_id: Option<u32>,
}

impl Args {
    pub async fn run(&self, run: &Run) -> Result<Output> {
        run.must_be(Role::Source, "processor config")?;
        let set = super::table_set(run, &self.tables).await?;
        let rules = Rules::of(&set)?;
        let text = my_cnf(&run.config.stream, &set.to_string(), &rules, self.server_id);
        let json = json!({"tables": set, "filters": rules.lines(), "my_cnf": text});
        Ok(Output::new(text.trim_end(), json))
    }
}
