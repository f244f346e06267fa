//! What MySQL's errors mean to us: refused, drifted, or just an error.

use crate::{Error, Kind};

/// The error for a failed `doing`, e.g. `read SHOW CREATE TABLE of g.apps`.
pub fn error(cause: mysql_async::Error, doing: &str) -> Error {
    Error::new(Kind::Mysql, doing).caused_by(cause)
}

/// The same for a server error that our own client received.
pub fn server_error(_code: u16, _state: &str, _message: &str, _doing: &str) -> Error {
    todo!()
}
