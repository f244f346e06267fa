//! The regional MySQL: preflight, position, gate, apply. Never imports `source`.
//!
//! Owns what happens in a region's server. A run under `GET_LOCK` reads the head, proves that the stream's
//! history is the one this region has followed, makes a [`plan::Plan`], and carries it out. It refuses whatever
//! is not a row change to, or table DDL on, a table that the region's own configuration lets in (I6). After a
//! failure or a kill the next run carries on: the truth about transactions is the server's `gtid_executed`.

pub mod apply;
pub mod ask;
pub mod checked;
mod definitions;
mod drift;
mod former;
mod gate;
pub mod guard;
pub(crate) mod history;
pub mod plan;
pub(crate) mod position;
pub mod preflight;
pub mod privileges;
pub mod quarantine;
mod replay;
pub mod restore;
pub mod scope;
pub(crate) mod segments;
pub mod shown;
pub mod state;
pub mod status;
pub mod ties;
