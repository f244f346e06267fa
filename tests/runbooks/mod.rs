//! Runbooks, followed to the letter: something is really broken, the page's alert goes off by the figures of real runs,
//! `status` names it, the page's own commands mend it, and the alert is over.

mod alert;
mod by_hand;
mod disk;
mod errors;
pub mod kit;
mod machines;
mod migration;
mod mini;
mod pages;
mod processor;
mod regions;
mod secrets;
mod set;
mod signing;
mod stream;
mod tables;
mod transactions;
mod world;
