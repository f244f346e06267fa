//! Room for the connections of many streams: a process may mostly have 1,024 files and sockets open, and raise that
//! itself.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one. Where that is refused things stay as they are, and what lacks a socket says so.
pub(super) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::debug!(
            "raise the limit of open files from {:?} to {:?}: {error}",
            limit.current,
            limit.maximum
        );
    }
}
