//! The HTTP service and its client, over real sockets and real stores.

mod kit;
mod queue;
mod refusals;
