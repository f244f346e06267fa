//! docs/security.md, tried: what somebody can do who writes to the bucket, or has an account here.

mod maps;
mod page;
mod secrets;
mod signing;
