//! `GET_LOCK` on a connection of its own: a lock that ends with the process that holds it.

use std::time::Duration;

use crate::Result;
use crate::config::MysqlConfig;

/// A named lock, held until dropped or until its connection breaks: ask `verify` before what must not overlap.
pub struct Lock;

impl Lock {
    /// `Kind::Locked` when another session still holds it after `wait`.
    pub async fn acquire(_config: &MysqlConfig, _name: &str, _wait: Duration) -> Result<Lock> {
        todo!()
    }

    /// Whether this process still holds the lock; `Kind::Locked` if it was lost.
    pub async fn verify(&mut self) -> Result<()> {
        todo!()
    }

    /// Releases the lock and waits until the server has done so.
    pub async fn release(self) -> Result<()> {
        todo!()
    }
}
