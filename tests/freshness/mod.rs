//! Following: how soon something new is shipped, told and shown, what that costs in requests, and waiting for it.

mod follow;
pub mod kit;
mod service;
mod wait;
