//! The write guard: in a region the tables of the set are read. Who writes to one there is refused with a message that
//! says where it is written, by BEFORE triggers or by taking the privileges.
//!
//! Apply is not refused: row events fire no triggers. Triggers do not stop TRUNCATE, DROP, RENAME and ALTER, nor
//! somebody who may drop triggers: such privileges are taken where they are on single tables (`taken`), and who has
//! them otherwise is told, with the statement that closes it (`accounts`), and what acts as one of those (`definers`).
//!
//! The guard never stops apply, a restore or a migration. What cannot be set is told and tried again.

pub mod accounts;
mod check;
mod command;
mod definers;
mod grantee;
mod keep;
mod plan;
mod read;
mod row;
mod taken;
mod trigger;

pub use accounts::Opening;
pub use check::{checks, grants, may_take};
pub use command::{Change, GuardReport, Options, Table, bare_tables, change, seems_bare, status};
pub use definers::{ByDefiner, What};
pub use grantee::Grantee;
pub use keep::{Dress, Kept, Problem, keep, lift};
pub use plan::Scope;
pub use row::{Wish, name, wish};
pub use trigger::PREFIX;
