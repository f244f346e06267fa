//! Whether what this region has run and what the index says can be one history (I2, I4, I5).
//!
//! The truth about transactions is the server's `gtid_executed`; the position is what was known of the index
//! when they ran. Where they disagree, nothing is run: exit code 10.

use mysql_async::Conn;

use super::position::{self, Executed, Position};
use crate::binlog::gtid::GtidSet;
use crate::stream::{Entry, Head};
use crate::{Error, Kind, Result};

pub use crate::store::head::check_name;

/// The position must not be ahead of what the server has committed.
pub fn check_position(name: &str, position: &Position, executed: &Executed) -> Result<()> {
    if executed.is_complete_to(position.last_tx.0) {
        return Ok(());
    }
    Err(history(format!(
        "check the position of {name}: it is at transaction {}, and gtid_executed lacks {}:{}",
        position.last_tx.0,
        position.stream,
        executed.complete_to() + 1
    ))
    .hint(
        "gtid_executed was reset, or the server was restored without it: rebuild this region from a copy of the \
         tables, with tablecast.position and gtid_purged from the same moment",
    ))
}

/// What the server has said to be committed, it must have under the stream's GTIDs.
pub fn check_run(name: &str, entry: &Entry, to: u64, executed: &Executed) -> Result<()> {
    if executed.is_complete_to(to) {
        return Ok(());
    }
    Err(history(format!(
        "apply entry {} of {name}: this server has answered that everything up to transaction {to} is committed, and its \
         gtid_executed lacks transaction {}",
        entry.seq.0,
        executed.complete_to() + 1
    ))
    .hint(
        "gtid_executed was reset meanwhile, or a commit left no GTID in it; the position was not moved. What has been run \
         is not known any more, and would run twice: docs/runbooks/rebuild-a-region.md",
    ))
}

/// The server must not have committed what the index does not hold.
pub fn check_end(name: &str, executed: &Executed, head: &Head) -> Result<()> {
    if executed.last() <= head.last_tx.0 {
        return Ok(());
    }
    Err(history(format!(
        "check {name}: the index ends with transaction {}, and this server has run {}:{}",
        head.last_tx.0,
        head.stream,
        executed.last()
    ))
    .hint("somebody put back an older index.json: restore the newest version of it; until then nothing is applied"))
}

/// The same, and without a position it must have committed nothing.
pub async fn check_index(
    conn: &mut Conn,
    name: &str,
    position: Option<&Position>,
    executed: &Executed,
    head: &Head,
) -> Result<()> {
    check_end(name, executed, head)?;
    if position.is_none() && executed.last() > 0 {
        let hint = match position::other_names(conn, head.stream).await?.as_slice() {
            [other] => format!(
                "`stream` in the config was {other:?} when this server was brought here: put that back, or let the row go by the \
                 new name: UPDATE tablecast.position SET name = '{}' WHERE stream = '{}'",
                name.replace('\'', "''"),
                head.stream
            ),
            _ => "the row is lost, and with it how far this region has come: put it back from a backup of this server or from one \
                  of its replicas, as it was at that transaction; or make this region anew: docs/runbooks/rebuild-a-region.md"
                .to_owned(),
        };
        return Err(history(format!(
            "check {name}: this server has run transactions up to {}:{}, and tablecast.position has no row for it",
            head.stream,
            executed.last()
        ))
        .hint(hint));
    }
    Ok(())
}

/// The server must not be the source itself, nor a copy of it that goes on with it: what the entries bring is there
/// already, under the source's own GTIDs, and running it once more would undo what came after it (I5).
pub fn check_server(name: &str, executed: &GtidSet, entries: &[Entry]) -> Result<()> {
    let mut segments = entries.iter().filter_map(|entry| Some((entry, entry.segment()?)));
    let Some((first, begin)) = segments.next() else { return Ok(()) };
    let (_, end) = segments.next_back().unwrap_or((first, begin));
    let ahead = end.covered_after.difference(&begin.covered_before);
    let there = ahead.intersection(executed);
    if there.is_empty() {
        return Ok(());
    }
    Err(history(format!(
        "check {name}: this server has run what entry {} and those behind it bring, under the source's GTIDs: {there}",
        first.seq.0
    ))
    .hint(
        "this is the stream's source or a replica of it, and no region: [mysql] in the config must name the region's \
         own server",
    ))
}

fn history(message: String) -> Error {
    Error::new(Kind::History, message)
}
