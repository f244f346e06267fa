//! Restoring tables.

pub mod catch_up;
