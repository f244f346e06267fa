//! The binlog processor: made, lost, made again, restored from an old copy; and its primary failed over.

mod bridge;
mod config;
mod create;
mod failover;
mod kit;
mod migration;
