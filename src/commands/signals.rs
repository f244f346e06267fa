//! SIGINT and SIGTERM: the first asks the runs to end at the next safe place, a later one ends the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Kind, Result};

/// A signal to a process and its group (`timeout`, some shells) arrives twice; that is not somebody insisting.
const ONE_GESTURE: Duration = Duration::from_millis(500);

/// Which signal came, and the token that it cancels.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    pub stop: CancellationToken,
    code: Arc<AtomicU8>,
}

impl Signals {
    /// Listens from now on; `at_once` ends the process when a second signal comes.
    pub fn listen(at_once: fn(u8)) -> Result<Signals> {
        let signals = Signals::default();
        let failed = |cause| Error::new(Kind::Failed, "listen for signals").caused_by(cause);
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let heard = signals.clone();
        tokio::spawn(async move {
            let mut first: Option<Instant> = None;
            loop {
                let kind = tokio::select! {
                    _ = interrupt.recv() => Kind::Interrupted,
                    _ = terminate.recv() => Kind::Terminated,
                };
                match first {
                    Some(first) if first.elapsed() < ONE_GESTURE => continue,
                    Some(_) => at_once(kind.exit_code()),
                    None => first = Some(Instant::now()),
                }
                heard.code.store(kind.exit_code(), Ordering::SeqCst);
                tracing::info!(
                    signal = kind.name(),
                    "ending at the next transaction boundary; again ends at once"
                );
                heard.stop.cancel();
            }
        });
        Ok(signals)
    }

    /// The error that stands for the signal that came.
    pub fn heard(&self) -> Option<Error> {
        match self.code.load(Ordering::SeqCst) {
            0 => None,
            code if code == Kind::Terminated.exit_code() => {
                Some(Error::new(Kind::Terminated, "ended by SIGTERM"))
            }
            _ => Some(Error::new(Kind::Interrupted, "ended by Ctrl-C (SIGINT)")),
        }
    }
}
