//! Connections to MySQL: options and TLS, what an error means, named locks, privileges, ghost tables, and the
//! binlog connection.
//!
//! Two clients live here. `connect` gives a `mysql_async` connection for control statements, its session put
//! into a fixed state. `wire` speaks the protocol itself, for the binlog connection (bounded memory, nothing
//! unpacked behind our back) and for raw statements. Neither retries: the caller decides.

mod blockers;
mod connect;
mod errors;
mod ghosts;
mod lock;
mod privileges;
pub mod replication;
mod server;
pub mod table;
mod tls;
pub mod wire;

pub use blockers::blockers;
pub use connect::connect;
pub use errors::{error, lacks_connections, lacks_room, server_error};
pub use ghosts::{Ghost, Part, Tool, ghosts};
pub use lock::{Held, Lock, lock_name};
pub use mysql_async::{Conn, prelude};
pub use privileges::{Privileges, by_name, literal, whole_schema};
pub use replication::{Incoming, ReplicationStream};
pub use server::{
    BinaryLogStatus, ReplicaStatus, Server, binary_log_status, is_view, max_user_connections, replica_status,
    server,
};
