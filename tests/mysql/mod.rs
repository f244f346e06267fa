//! src/mysql against real servers.

mod connections;
mod replication;
mod script;
pub mod table;
