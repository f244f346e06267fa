//! The write guard: local writes are refused, the stream is not, and who gets past is named.

mod accounts;
mod definers;
mod grants;
mod kit;
mod migrations;
mod triggers;
