//! `stream init` and `upload` on real servers: what arrives in the bucket, and what does not.

mod cost;
mod filters;
mod init;
mod kills;
pub mod kit;
mod large;
mod refusals;
mod sources;
