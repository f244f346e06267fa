//! What several test modules need: real MySQL servers, and an S3 server.

#![allow(dead_code, reason = "a kit: not every helper is in use at every time")]
pub mod browser;
pub mod clock;
pub mod granted;
pub mod mysql;
pub mod s3;

use std::io::Write;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tablecast::binlog::gtid::GtidSet;
use tablecast::clock::{Clock, SystemClock};
use tablecast::stream::entry::Mark;
use tablecast::stream::{Chain, Codec, Head, Key, Md5, RegionReport, SegmentEntry, Seq, StreamTx};

/// A port of 127.0.0.1 for a server that is to come, and may go and come again. Until this process ends it is given to nobody
/// else, as no client's own port either; a server that says SO_REUSEADDR, as all of them do, gets it, and where none is, nobody
/// answers.
pub fn free_port() -> u16 {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let port = socket.local_addr().unwrap().port();
    std::mem::forget(socket);
    port
}

/// Says that a test did not try this, and why. Past cargo, which shows what a test prints only when that fails;
/// scripts/test says it again at its end.
pub fn not_tested(what: &str, why: &str) {
    let _ = std::io::stderr().write_all(format!("\nnot tested here: {what}: {why}\n").as_bytes());
}

/// Sends a process a signal. Not by the command `kill`: a bare Debian has none.
pub fn signal(pid: &str, signal: Signal) {
    let pid = pid.parse().ok().and_then(Pid::from_raw).unwrap_or_else(|| panic!("{pid} is no process"));
    kill_process(pid, signal).unwrap();
}

/// A segment of one transaction that follows what a head has, with the MD5 of this body.
pub fn segment_of(head: &Head, tx: StreamTx, covered_after: GtidSet, body: &[u8]) -> SegmentEntry {
    SegmentEntry {
        key: Key::segment(tx, tx, head.created_at, Codec::Gzip),
        size: 1,
        md5: Md5::of(body),
        raw_size: 1,
        codec: Codec::Gzip,
        first_tx: tx,
        last_tx: tx,
        count: 1,
        tables: Vec::new(),
        covered_before: head.covered.clone(),
        covered_after,
        first_commit: head.created_at,
        last_commit: head.created_at,
        definitions: Vec::new(),
    }
}

/// The report of a region that has not applied anything yet, as of now.
pub fn report_of(region: &str, stream: uuid::Uuid) -> RegionReport {
    let begin = Mark { seq: Seq::ZERO, chain: Chain::genesis(stream), tx: StreamTx::ZERO };
    let bare = RegionReport::bare(region, stream, begin, SystemClock.now());
    RegionReport { version: "tablecast test".into(), ..bare }
}

/// Runs something up to 100 times, until one run is over within `limit`: what is cheap shows that it is, sooner or
/// later, whatever else is at work on this machine.
pub fn once_within(limit: Duration, mut run: impl FnMut()) {
    let mut took = Vec::new();
    for _ in 0..100 {
        let begin = Instant::now();
        run();
        took.push(begin.elapsed());
        if took.last() <= Some(&limit) {
            return;
        }
    }
    panic!("none of 100 runs was over within {limit:?}: {took:?}");
}
