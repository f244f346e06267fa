//! Restoring from dumps, end to end: real servers, real dumps, drift made by hand, kills; and the steps by
//! themselves, from a state made by hand.

mod bootstrap;
mod catch_up;
mod ghosts;
mod happy;
mod kills;
pub mod kit;
mod room;
mod waiting;
mod whole;
