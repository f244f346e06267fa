//! The operator's day: what is paused, what failed last, whom a failure wakes, and what logs say; the built program on
//! real servers.

mod failures;
mod hooks;
pub mod kit;
mod logs;
mod pause;
mod privileges;
mod secrets;
