//! The source MySQL: preflight, `stream init`, upload, status. Never imports `region`.
//!
//! Reads the source's binlog, and nothing else of its data; writes nothing to it. Whatever a run needs to know
//! it reads from the head and from the source, so a run that was killed leaves nothing to mend.

mod definitions;
pub mod dump;
pub mod init;
mod lost;
pub mod migrations;
mod moment;
mod packer;
mod pass;
pub mod preflight;
pub mod prune;
mod reader;
mod replica_filters;
mod resync;
mod schemas;
pub mod status;
mod tip;
pub mod upload;
mod zone;
