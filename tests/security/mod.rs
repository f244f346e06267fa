//! docs/security.md, tried: what somebody can do who writes to the bucket, holds a token, or has an account here.

mod bombs;
mod commands;
mod dumps;
mod kit;
mod maps;
mod names;
mod page;
mod secrets;
mod signing;
mod tokens;
