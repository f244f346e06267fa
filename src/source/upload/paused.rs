//! A stream that is paused, before a run and while it follows.

use std::time::Duration;

use tokio::time::sleep;

use super::Options;
use crate::error::{Error, Kind, Result, chain};
use crate::source::pass::Tools;
use crate::source::tip::Tip;
use crate::stream::Head;

/// How often a following run looks whether it is still paused.
const PAUSED_POLL: Duration = Duration::from_secs(5);

/// Nothing gets into a stream that is paused.
pub(super) fn must_run(tools: Tools<'_>, head: &Head) -> Result<()> {
    head.must_run(&format!("upload {}", tools.config.stream), "tablecast upload", tools.clock.now())
}

/// The same with a head that this run is going to continue: a pause that is over goes with the next one.
pub(crate) fn go_on(tools: Tools<'_>, tip: &mut Tip) -> Result<()> {
    must_run(tools, &tip.head)?;
    tip.head.paused = None;
    Ok(())
}

/// That the stream is paused, rather than that its source does not answer: whoever has paused it may be at work there.
pub(super) async fn or_paused(tools: Tools<'_>, error: Error) -> Error {
    if error.kind() != Kind::Mysql {
        return error;
    }
    match Tip::load(tools.store, &tools.config.files.cache_dir).await {
        Ok(tip) => must_run(tools, &tip.head).err().unwrap_or(error),
        Err(_) => error,
    }
}

/// Without the lock and the source's server, which somebody may be working on. False: it was told to end.
pub(super) async fn wait_for_resume(tools: Tools<'_>, options: &Options) -> Result<bool> {
    let mut told = None;
    loop {
        tokio::select! {
            () = options.stop.cancelled() => return Ok(false),
            () = sleep(PAUSED_POLL) => {}
        }
        match Tip::load(tools.store, &tools.config.files.cache_dir).await {
            Ok(tip) if must_run(tools, &tip.head).is_err() => told = None,
            Ok(_) => return Ok(true),
            Err(error) if !error.is_transient() => return Err(error),
            Err(error) => {
                let text = chain(&error);
                if told.as_ref() != Some(&text) {
                    tracing::warn!("{text}; still waiting for the end of the pause");
                    told = Some(text);
                }
            }
        }
    }
}
