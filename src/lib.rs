//! Tablecast keeps a chosen set of MySQL tables identical in every region, through an object store.
//!
//! Dependencies point one way: `commands` → `http` → `source` | `region` → `store` → `stream` → `binlog`.
//! `mysql` (connections) and `config` serve `source` and `region`; those two never import each other. `metrics` (figures
//! for Prometheus) serves all from `store` on; `signing` (keys) all from `config` on.

pub mod binlog;
pub mod clock;
pub mod commands;
pub mod config;
pub mod error;
pub mod failpoint;
pub mod failure;
pub mod figures;
pub mod hex;
pub mod http;
pub mod metrics;
pub mod mysql;
pub mod region;
pub mod signing;
#[cfg(test)]
mod simulation;
pub mod source;
pub mod store;
pub mod stream;
pub mod tls;

pub use error::{Error, Kind, Result};
