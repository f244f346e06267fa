//! The program of the commit before, and this one, take turns at one bucket and in one region.

mod kills;
mod kit;
mod runbook;
mod turns;
