//! Checks of rows: what differs in a region is found and named, and what does not is left in peace.

mod calm;
mod found;
mod heal;
mod kills;
pub mod kit;
mod verify;
