//! The HTTP service and its client, over real sockets and real stores.

mod client;
pub mod kit;
mod load;
mod openapi;
mod parser;
mod queue;
mod refusals;
mod service;
mod whole;
