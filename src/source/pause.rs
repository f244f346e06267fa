//! A pause of the source: a member of the head, put there by compare-and-swap.
//!
//! So it holds for uploads on whatever machine, the source's server need not be up for it, and nobody reads anything more
//! than before to see it. An upload that is at work loses its next swap, reads the head again and finds the pause: nothing
//! gets into the stream behind it.

use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::store::head::Read;
use crate::store::{self, Store};
use crate::stream::paused::{Change, KNOWN_SINCE, Wanted};

/// How often a swap may be lost in a row: uploads that are at work win some.
const CONFLICTS: u32 = 20;

/// Pauses the stream, or ends its pause.
pub async fn change(
    config: &Config,
    store: &dyn Store,
    clock: &dyn Clock,
    wanted: Option<&Wanted>,
    dry_run: bool,
) -> Result<Change> {
    for attempt in 1.. {
        let Read::Head { mut head, etag } = store::head::read(store, None).await? else {
            break;
        };
        store::head::check_name(&config.stream, &head, &store.url())?;
        let mut change = Change::of(head.pause(clock.now()), wanted, clock.now());
        if wanted.is_some() && head.format < KNOWN_SINCE {
            change.warnings.push(format!(
                "{} wrote the stream last, in format {}.{}, and does not know pauses: an upload of that version goes on. \
                 Update it, or stop it by hand",
                head.writer, head.format.major, head.format.minor
            ));
        }
        // A pause that is over goes with it.
        if dry_run || (!change.is_one() && head.paused == change.paused) {
            return Ok(change);
        }
        head.paused.clone_from(&change.paused);
        match store::head::write(store, &mut head, Some(&etag)).await {
            Ok(_) => return Ok(change),
            Err(error) if error.is_conflict() && attempt < CONFLICTS => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::new(Kind::Store, format!("read {}/index.json: unchanged since never", store.url())))
}
