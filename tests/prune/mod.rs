//! `stream prune` and what it leaves, with real servers; `verify` and `inspect` of dumps. The dumps are made by hand
//! here, so that these tests stand on the documented format alone.

mod kills;
mod kit;
mod looking;
mod rules;
