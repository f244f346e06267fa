//! The HTTP service and its client, over real sockets and real stores.

mod client;
pub mod kit;
mod load;
mod openapi;
mod page;
mod parser;
mod queue;
mod refusals;
mod scene;
mod service;
mod status_all;
mod whole;
