//! Online migrations through the whole system (each part a process of its own, as in `heal`), with an application that
//! writes: what gh-ost once sent, and the real pt-online-schema-change.

mod command;
mod gh_ost;
pub mod kit;
mod pt_osc;
