//! `apply` end to end: a source, a directory as the bucket, regions; real servers, the built program.

mod cost;
mod crafted;
pub mod forge;
mod forged_index;
mod happy;
mod kills;
pub mod kit;
mod refusals;
mod zones;
