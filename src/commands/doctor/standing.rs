//! What keeps runs from working though every precondition holds: a pause, and what the last run has failed with.

use super::super::run::Run;
use super::{Check, Outcome, ends_with, mend};
use crate::config::Role;
use crate::error::{Kind, Result};
use crate::failure::Failure;
use crate::stream::{Head, Paused};
use crate::{mysql, region, source};

pub const LAST_RUN: &str = "last run";

pub async fn checks(run: &Run, head: Option<&Head>, checks: &mut Vec<Check>) -> Result<()> {
    let (config, now) = (&run.config, run.clock.now());
    let (paused, failure) = match config.role {
        Role::Source => {
            let paused = head.and_then(|head| head.pause(now)).cloned();
            (paused, source::status::last_failure(config, head))
        }
        Role::Region => {
            let mut conn = mysql::connect(&config.mysql).await?;
            let (state, failure) = region::status::standing(&mut conn, config).await?;
            let _ = conn.disconnect().await;
            (state.pause(now).cloned(), failure)
        }
    };
    checks.extend(paused.map(|paused| of_pause(run, &paused)));
    checks.extend(failure.map(|failure| of_failure(&failure)));
    Ok(())
}

fn of_pause(run: &Run, paused: &Paused) -> Check {
    Check::finding(
        "pause",
        Outcome::Warning,
        format!("paused {paused}"),
        ends_with(run, Kind::Paused),
        "tablecast resume",
    )
}

fn of_failure(failure: &Failure) -> Check {
    let Failure { job, exit_code, kind, message, hint, .. } = failure;
    // What the other checks have just tried for themselves may be well again.
    let is_tried =
        matches!(failure.kind(), Kind::Denied | Kind::Mysql | Kind::Store | Kind::TooNew | Kind::Usage);
    let hint = hint.as_deref().map_or_else(|| mend(None, failure.kind()), str::to_owned);
    Check::finding(
        LAST_RUN,
        if is_tried { Outcome::Warning } else { Outcome::Failed },
        format!("the last `tablecast {job}` ended with {exit_code}: {message}"),
        format!("`tablecast {job}` ended with {exit_code} ({kind}); this stands until one works"),
        hint,
    )
}
