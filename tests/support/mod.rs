//! What several test modules need: real MySQL servers, and an S3 server.

#![allow(dead_code, reason = "a kit: not every helper is in use at every time")]
pub mod mysql;
pub mod s3;

use rustix::process::{Pid, Signal, kill_process};

/// Sends a process a signal. Not by the command `kill`: a bare Debian has none.
pub fn signal(pid: &str, signal: Signal) {
    let pid = pid.parse().ok().and_then(Pid::from_raw).unwrap_or_else(|| panic!("{pid} is no process"));
    kill_process(pid, signal).unwrap();
}
