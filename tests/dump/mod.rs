//! Dumps at the source: taken beside the stream, exact, and none the worse for a kill.

mod at;
mod ddl;
mod kills;
pub mod kit;
mod requests;
mod resync;
mod stream_goes_on;
mod take;
mod taking;
