//! The table set: changed at the primary while others write, and read back from the stream.

mod changes;
mod kills;
mod kit;
mod older;
mod refusals;
mod sources;
mod whole;
