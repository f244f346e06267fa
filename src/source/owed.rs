//! The dump that a change of the table set owes to the regions: tables came in that hold rows, and no region has
//! those. It is asked for like any other dump, by the upload itself, all tables and for every region.
//!
//! The head remembers the debt until such a dump is in the index, so it does not matter where a run is killed. The
//! request's name follows from the version of the set: asking again asks for the same dump.

use std::time::Duration;

use chrono::TimeDelta;

use crate::error::{Result, chain};
use crate::failpoint;
use crate::source::dump::Desk;
use crate::source::dump::queue::{self, Known, NewRequest, SOURCE};
use crate::source::pass::Tools;
use crate::stream::{Head, RequestId, RequestState};

/// How soon a dump that failed is asked for anew, and how often a following run looks whether that is due.
const AGAIN: TimeDelta = TimeDelta::minutes(10);
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// After a store that did not answer.
const RETRY: Duration = Duration::from_secs(10);

/// Asks for the dump, if one is owed and none is asked for. Never fails a pass: the stream is worth more.
pub(crate) async fn ask(tools: Tools<'_>, desk: &Desk, head: &Head) {
    if !owes(head) || !desk.may_ask(head.table_set.version) {
        return;
    }
    let done = queue_it(tools, head).await;
    let pause = if done.is_ok() { LOOK_EVERY } else { RETRY };
    desk.asked(head.table_set.version, pause);
    if let Err(error) = done {
        tracing::warn!("the dump that the new table set needs cannot be asked for now: {}", chain(&error));
    }
}

/// Whether regions wait for a dump because of tables that came in.
pub(crate) fn owes(head: &Head) -> bool {
    head.set_changed.as_ref().is_some_and(|changed| changed.owes_dump)
}

async fn queue_it(tools: Tools<'_>, head: &Head) -> Result<()> {
    let version = head.table_set.version;
    let known = Known::fresh(tools.store, &tools.config.files.cache_dir);
    for attempt in 1..=u32::MAX {
        let new = NewRequest {
            id: RequestId::of_key(head.stream, SOURCE, &format!("tables {version} {attempt}")),
            has_key: true,
            region: SOURCE.to_owned(),
            tables: Default::default(),
            all_tables: true,
            mandatory: true,
            reason: format!("version {version} of the table set brought in tables that hold rows"),
        };
        failpoint::hit("upload.before_owed_request");
        let request = queue::queue(tools.store, head, tools.clock, &new, &known).await?.into_request();
        failpoint::hit("upload.after_owed_request");
        let age = tools.clock.now() - request.updated_at;
        match request.state {
            RequestState::Queued | RequestState::Running => {
                tracing::info!("version {version} of the table set needs a dump: request {}", request.id);
                return Ok(());
            }
            RequestState::Failed | RequestState::Cancelled if age < AGAIN => {
                tracing::warn!(
                    "version {version} of the table set needs a dump of all tables, and request {} is {}: {}",
                    request.id,
                    request.state,
                    request.error.as_deref().unwrap_or("no reason given")
                );
                return Ok(());
            }
            // It is over, and what it brought was not what is owed: one of before the change.
            RequestState::Uploaded | RequestState::Failed | RequestState::Cancelled => {}
        }
    }
    Ok(())
}
