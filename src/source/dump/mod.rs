//! Dumps at the source: the requests for them, and taking one beside the stream.
//!
//! `queue` is what others ask for, in the bucket. The upload that holds the stream's lock answers: `jobs` takes up
//! what is due and tells how far it is, `runner` takes one dump (`snapshot`, then `chunks`), `place` finds the stream
//! transaction whose state it holds, and the upload's next pass appends the entry (`desk`), so that the index has
//! one writer.

mod chunks;
mod desk;
mod jobs;
mod known;
mod place;
pub mod queue;
mod quiet;
mod runner;
pub(crate) mod snapshot;

pub(crate) use chunks::Progress;
pub(crate) use desk::Desk;
pub(crate) use jobs::Jobs;
#[cfg(test)]
pub(crate) use place::{Place, find as place};
pub(crate) use runner::{InnodbTable, Order, Outcome, Written, innodb_tables, shows_waits, take};
pub use runner::{Plan, PlannedTable, Wanted, plan};

use crate::error::{Error, Kind, Result};
use crate::failpoint;
use crate::mysql::Held;
use crate::source::pass::Tools;
use crate::source::tip::Tip;
use crate::source::upload::Report;
use crate::stream::entry::Body;

/// Between two passes: tells a dump that the stream has come so far, and appends one that is complete. What is
/// shipped meanwhile does not matter: its place in the stream is its `at`, not its entry's.
pub(crate) async fn attend(
    tools: Tools<'_>,
    desk: &Desk,
    lock: &mut dyn Held,
    tip: &mut Tip,
    report: &mut Report,
) -> Result<()> {
    if desk.awaited().is_some_and(|awaited| awaited.is_subset(&tip.head.covered)) {
        desk.covered();
    }
    let Some((dump, version)) = desk.ready() else { return Ok(()) };
    // Appended by a swap whose answer was lost.
    if let Some(there) = tip.head.dump(&dump.id) {
        desk.appended(Ok(there.seq));
        return Ok(());
    }
    let newest = tip.head.table_set.version;
    if newest != version {
        let what = format!(
            "append dump {}: the table set has come from version {version} to {newest} meanwhile",
            dump.id
        );
        desk.appended(Err(Error::new(Kind::Conflict, what)));
        return Ok(());
    }
    let mut head = tip.head.clone();
    let seq = match head.append(Body::Dump(dump.clone()), tools.clock.now()) {
        Ok(entry) => entry.seq,
        Err(refused) => {
            desk.appended(Err(refused));
            return Ok(());
        }
    };
    failpoint::hit("dump.before_append");
    lock.verify().await?;
    tip.swap(tools.store, head).await?;
    failpoint::hit("dump.after_append");
    report.head_written(&tip.head);
    report.dumped(seq, dump);
    desk.appended(Ok(seq));
    Ok(())
}
