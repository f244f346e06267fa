//! What the bytes of a binlog mean: events, GTID sets, statements and the tables they name, the filter,
//! segments. No sockets and no clock; every byte that comes in is checked for length and checksum before
//! anything parses it, and what cannot be understood is an error, never a guess and never a panic.

pub mod charset;
pub mod clock;
pub mod ddl;
pub mod event;
pub mod filter;
pub mod gtid;
pub mod name;
pub mod note;
pub mod query;
pub mod rows;
pub mod segment;
pub mod session;
pub mod spool;
pub mod transaction;
mod wire;
