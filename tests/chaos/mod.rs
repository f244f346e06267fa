//! A machine that attacks the invariants I1 to I8: real servers, real programs, a real S3 protocol, faults in random
//! order, and checks that may not fail. docs/reliability.md says what it does; `scripts/chaos` runs it.
//!
//! Everything that decides (which statement, which fault, when) is drawn from generators that come of one printed seed. How
//! fast the machine is, is not: the same seed makes the same plan, and no more than that.

#![allow(dead_code, reason = "two programs are built of it: the tests use less of it than scripts/chaos")]

mod bucket;
mod check;
mod ddl;
mod faults;
mod figures;
mod log;
mod migrate;
mod net;
mod operator;
mod options;
mod programs;
mod reader;
pub mod runs;
mod servers;
mod short;
mod tables;
mod workload;
mod world;

pub use options::Options;
