//! The source MySQL: preflight, `stream init`, upload, status. Never imports `region`.
//!
//! Reads the source's binlog, and for dumps its tables. The only thing that is ever written is a row in
//! `tablecast.table_set` on the primary, by `stream init` and `tables`. Whatever a run needs to know
//! it reads from the head and from the source, so a run that was killed leaves nothing to mend.

mod behind;
pub(crate) mod bridge;
pub mod check;
pub(crate) mod definitions;
pub mod dump;
mod failover;
pub mod figures;
mod fitness;
mod gap;
pub mod init;
pub(crate) mod lost;
pub mod migrations;
mod moment;
mod owed;
mod packer;
pub(crate) mod pass;
mod passed_over;
pub mod pause;
pub mod preflight;
mod primacy;
pub mod processor;
pub mod prune;
mod reader;
mod replica_filters;
pub(crate) mod resync;
pub(crate) mod schemas;
pub(crate) mod set_change;
pub(crate) mod set_table;
pub mod sign;
pub(crate) mod standstill;
pub mod status;
pub mod tables;
pub(crate) mod tip;
pub mod upload;
mod writers;
mod zone;
