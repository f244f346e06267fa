//! What several test modules need: real servers.

#![allow(dead_code, reason = "a kit: not every helper is in use at every time")]
pub mod mysql;
