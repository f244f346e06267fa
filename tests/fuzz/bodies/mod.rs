//! What each fuzz target does with the bytes that it is given. Nothing here looks at an answer for its own sake: what must
//! hold, whatever the bytes are, is asserted. No body touches a network or needs a server.

mod chunk;
mod config;
mod ddl;
mod events;
mod gtids;
mod http;
mod index;
mod manifest;
mod names;
mod sealed;
mod segment;

use tablecast::{Error, Kind};

pub use chunk::chunk;
pub use config::config;
pub use ddl::ddl;
pub use events::events;
pub use gtids::gtids;
pub use http::http;
pub use index::index;
pub use manifest::manifest;
pub use segment::segment;

/// What a target does with bytes.
type Body = fn(&[u8]);

/// Every target, by the name of its file and of its corpus.
#[allow(dead_code, reason = "each target takes one of them, the plain test all")]
pub const TARGETS: [(&str, Body); 9] = [
    ("events", events),
    ("gtids", gtids),
    ("ddl", ddl),
    ("segment", segment),
    ("index", index),
    ("manifest", manifest),
    ("chunk", chunk),
    ("http", http),
    ("config", config),
];

/// What is wrong with an object of the bucket is told as such: never as a fault of whoever runs a command, nor as one
/// that goes away by itself.
fn is_of_the_bucket(error: &Error) {
    let kinds = [Kind::Corrupt, Kind::History, Kind::TooNew];
    assert!(kinds.contains(&error.kind()), "{:?}: {error}", error.kind());
}
