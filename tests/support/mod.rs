//! What several test modules need: real MySQL servers, and an S3 server.

#![allow(dead_code, reason = "a kit: not every helper is in use at every time")]
pub mod mysql;
pub mod s3;
