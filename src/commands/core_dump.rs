//! No core files: one would hold what the process holds, passwords, keys and rows, in a folder that nobody thinks of.
//!
//! The soft limit, which whoever hunts a crash raises again for the running process: `prlimit --core=unlimited --pid PID`.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub(super) fn forbid() {
    let limit = getrlimit(Resource::Core);
    // To lower it is refused to nobody.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), ..limit });
}
