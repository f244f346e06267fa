//! Dumps at the source: the requests for them.

pub mod queue;
