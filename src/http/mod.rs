//! The HTTP service at the source, and the region's client of it.
//!
//! Regions ask for dumps and report where they stand; people and programs read how things are. All state lies in
//! the bucket: the service keeps nothing, may be killed at any time, and may run twice. It never writes to MySQL,
//! which it reads for `/v1/migrations` only, and never to the index.
//!
//! What it does not let in: a request without a valid token (but for liveness, readiness and the API's
//! description), one for another region than the token's, one that is too large, too slow or too frequent. Every
//! refusal is a problem document.

pub mod advice;
pub mod api;
mod auth;
pub mod body;
pub mod client;
pub mod dumps;
mod health;
mod limits;
pub mod listen;
mod metrics;
mod migrations;
pub mod openapi;
pub mod overview;
mod page;
mod peers;
pub mod problem;
pub(crate) mod regions;
pub mod serve;
mod service;
mod stream;
pub mod tokens;
mod watched;
mod watcher;
