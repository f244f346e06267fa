//! What becomes of a processor at its next restart.
//!
//! Filters that CHANGE REPLICATION FILTER has set end with the server; then those of its my.cnf hold. If they leave
//! out a table of the set its rows pass by for good, and their GTIDs count as executed all the same.

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::rules::Rules;
use crate::binlog::name::TableSet;
use crate::error::{Error, Kind, Result};
use crate::mysql;
use crate::source::preflight::Check;
use crate::source::replica_filters::{self, ForNew};

const NAME: &str = "restart";
const AS_PRINTED: &str = "put the output of `tablecast processor config` into its my.cnf before it restarts";

/// Nothing to say of a server that is no filtered replica.
pub(crate) async fn check(conn: &mut Conn, server: &str, set: &TableSet) -> Option<Check> {
    match look(conn, server, set).await {
        Ok(found) => found,
        Err(error) => Some(Check::warning(
            NAME,
            format!("whether {server} comes back as it is cannot be seen: {error}"),
            "`tablecast grants --processor` prints the privileges that this account needs",
        )),
    }
}

async fn look(conn: &mut Conn, server: &str, set: &TableSet) -> Result<Option<Check>> {
    if !replica_filters::has_any(conn, server).await? {
        return Ok(None);
    }
    let ForNew { configured, is_overridden, .. } = replica_filters::of_new_channels(conn, server).await?;
    // A set that no filter can hold has no processor of ours.
    let missing = Rules::of(set).map(|rules| rules.missing_lines(&configured)).unwrap_or_default();
    if is_overridden || configured.is_empty() {
        return Ok(Some(Check::warning(NAME, until_restart(server), AS_PRINTED)));
    }
    if !missing.is_empty() {
        return Ok(Some(Check::warning(
            NAME,
            format!(
                "after its next restart {server} filters by its my.cnf, which leaves out what the set needs: rows \
                 that pass by then are lost to the stream. Missing: {}",
                some(&missing, ", ")
            ),
            AS_PRINTED,
        )));
    }
    let skips: Vec<(String, String)> = conn
        .query("SHOW GLOBAL VARIABLES WHERE Variable_name IN ('skip_replica_start', 'skip_slave_start')")
        .await
        .map_err(|cause| mysql::error(cause, &format!("read skip_replica_start at {server}")))?;
    if skips.iter().any(|(_, value)| value == "ON") {
        return Ok(Some(Check::warning(
            NAME,
            format!("{server} does not replicate after its next restart: skip_replica_start is ON"),
            "take skip_replica_start out of its my.cnf; its filters stand there, so it may begin by itself",
        )));
    }
    Ok(Some(Check::passed(NAME, "it goes on by itself, with the filters of its my.cnf")))
}

/// What is to be said of filters that CHANGE REPLICATION FILTER has set.
pub(super) fn until_restart(server: &str) -> String {
    format!(
        "the filters of {server} hold until it restarts. If its my.cnf has none, it stops then at the first row of a \
         table that it does not have (1146); if it has others, rows that they leave out are lost to the stream"
    )
}

/// Refuses a my.cnf whose filters would take the place of those that are set now, at the next restart. Where the server
/// does not show them any more, this is asked again behind its restart.
pub(super) fn my_cnf(rules: &Rules, found: &ForNew, server: &str, is_copied: bool) -> Result<()> {
    let missing = rules.missing_lines(&found.configured);
    if found.is_overridden || found.configured.is_empty() || missing.is_empty() {
        return Ok(());
    }
    let so_far = match is_copied {
        true => "the copy is there, and replication has not begun",
        false => "nothing has been changed",
    };
    Err(Error::new(
        Kind::Usage,
        format!(
            "make the processor {server}: it would filter by its my.cnf after the next restart, and rows that pass by \
             then are lost to the stream. These lines are missing there:\n  {}",
            some(&missing, "\n  ")
        ),
    )
    .hint(format!(
        "put the output of `tablecast processor config` (with the same --table) into its my.cnf, in the place of the \
         replicate-* lines there, restart mysqld, and run this again; {so_far}"
    )))
}

/// The first of them.
fn some(lines: &[String], between: &str) -> String {
    const MANY: usize = 30;
    let shown = lines.iter().take(MANY).cloned().collect::<Vec<_>>().join(between);
    match lines.len().saturating_sub(MANY) {
        0 => shown,
        more => format!("{shown}{between}… and {more} more"),
    }
}
