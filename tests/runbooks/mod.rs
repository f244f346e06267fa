//! Runbooks, followed to the letter: something is really broken, the page's alert goes off by the figures of real runs,
//! `status` names it, the page's own commands mend it, and the alert is over.

mod alert;
mod by_hand;
mod disk;
pub mod kit;
mod machines;
mod migration;
mod mini;
mod pages;
mod processor;
mod secrets;
mod set;
mod tables;
mod transactions;
