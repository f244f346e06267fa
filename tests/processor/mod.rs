//! The binlog processor: made, lost, made again, restored from an old copy; and its primary failed over.

mod bridge;
mod by_hand;
mod config;
mod create;
mod failover;
pub mod kit;
mod migration;
mod newcomer;
mod others;
mod time;
