//! Restoring tables from dumps, beside the stream that goes on.
//!
//! A restore is a row of `tablecast.restore` (`journal`); whoever wants one writes it: a quarantine, `restore`, a
//! mandatory dump in the stream, `bootstrap`. The [`Engine`] in apply's loop carries them out, one after the other:
//! chooses a dump or asks for one (`choose`), loads it into shadow tables in a task of its own (`load`), replays
//! onto them what the stream has done since (`catch_up`), and swaps between two passes (`swap`). Tables that are not part of a
//! restore notice nothing of it.
//!
//! Whatever is killed: the next run finds the row and the tables, and finishes or begins again.

mod begin;
pub mod bootstrap;
mod bring_in;
pub mod catch_up;
mod choose;
mod engine;
mod failures;
mod journal;
mod leave;
mod load;
mod mandatory;
mod needs;
mod pace;
mod server;
mod shape;
mod swap;
mod sweep;
mod wish;
mod work;

pub use engine::{Engine, Step};
pub use journal::{Restore, State, Why, done, names, open_ones, recent};
pub use leave::{Changed, brought, follow_set};
pub use mandatory::meets;
pub use wish::{Options, Report, Told, are_final, run};
