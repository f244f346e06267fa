//! The one test binary: real MySQL servers (scripts/mysql), S3 over a real socket, the built `tablecast`.
//!
//! `cargo test --features failpoints --test main` runs all of it; scripts/test prepares the machine first.

mod apply;
mod chaos;
mod cli;
mod conformance;
mod ddl_against_server;
mod drift;
mod dump;
mod formats;
mod freshness;
mod fuzz;
mod guard;
mod heal;
mod http;
mod many;
mod metrics;
mod migrations;
mod mutations;
mod mysql;
mod ops;
mod package;
mod processor;
mod prune;
mod quarantine;
mod region_tables;
mod restore;
mod runbooks;
mod security;
mod store;
mod support;
mod tables;
mod upgrade;
mod upload;
