//! `GET_LOCK` on a connection of its own: a lock that ends with the process that holds it, however it ends.
//!
//! The server forgets the lock when the connection breaks. A small task pings every minute and the session's
//! `wait_timeout` is five: a machine that vanishes without a word holds the lock no longer than that, instead
//! of until the kernel's TCP keepalive gives up.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::{connect, error};
use crate::config::MysqlConfig;
use crate::hex::hex;
use crate::{Error, Kind, Result};

/// The longest name that GET_LOCK takes, in characters.
const MAX_NAME: usize = 64;
const PING_EVERY: Duration = Duration::from_secs(60);
const SERVER_FORGETS_AFTER_SECS: u32 = 300;

/// What keeps others from a piece of work for as long as it is held.
#[async_trait]
pub trait Held: Send + Sync {
    /// Whether it is still held; `Kind::Locked` if it was lost. To be asked before what must not overlap.
    async fn verify(&mut self) -> Result<()>;
}

/// A named lock, held until dropped or until its connection breaks: ask `verify` before what must not overlap.
pub struct Lock {
    conn: Arc<Mutex<Conn>>,
    pings: JoinHandle<()>,
    name: String,
    at: String,
}

impl Lock {
    /// `Kind::Locked` when another session still holds it after `wait` (whole seconds, rounded up; at least one,
    /// because the server may take a moment to notice that a killed run's connection is gone).
    pub async fn acquire(config: &MysqlConfig, name: &str, wait: Duration) -> Result<Lock> {
        let name = lock_name(name);
        let at = config.to_string();
        let doing = format!("take lock '{name}' at {at}");
        let mut conn = connect(config).await?;
        conn.query_drop(format!("SET wait_timeout={SERVER_FORGETS_AFTER_SECS}"))
            .await
            .map_err(|e| error(e, &doing))?;
        let seconds = (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1);
        let got: Option<Option<i64>> =
            conn.exec_first("SELECT GET_LOCK(?, ?)", (&name, seconds)).await.map_err(|e| error(e, &doing))?;
        if got.flatten() != Some(1) {
            let holder: Option<Option<u64>> =
                conn.exec_first("SELECT IS_USED_LOCK(?)", (&name,)).await.map_err(|e| error(e, &doing))?;
            let holder = holder.flatten().map(|id| format!(" (connection {id})")).unwrap_or_default();
            return Err(Error::new(Kind::Locked, format!("{doing}: another run holds it{holder}")).hint(
                "nothing to do if a run is at work; its connection can be looked up in the server's processlist",
            ));
        }
        let conn = Arc::new(Mutex::new(conn));
        let pings = tokio::spawn(ping(conn.clone()));
        Ok(Lock { conn, pings, name, at })
    }

    /// Releases the lock and waits until the server has done so.
    pub async fn release(self) -> Result<()> {
        let doing = format!("release lock '{}' at {}", self.name, self.at);
        let mut conn = self.conn.lock().await;
        conn.exec_drop("DO RELEASE_LOCK(?)", (&self.name,)).await.map_err(|e| error(e, &doing))
    }
}

#[async_trait]
impl Held for Lock {
    async fn verify(&mut self) -> Result<()> {
        let doing = format!("verify lock '{}' at {}", self.name, self.at);
        let held: Option<Option<i64>> = self
            .conn
            .lock()
            .await
            .exec_first("SELECT IS_USED_LOCK(?) = CONNECTION_ID()", (&self.name,))
            .await
            .map_err(|e| error(e, &doing))?;
        if held.flatten() == Some(1) {
            return Ok(());
        }
        Err(Error::new(Kind::Locked, format!("{doing}: it is no longer ours")).hint(
            "its connection was cut or killed, and another run may have started: this one stops, the next carries on",
        ))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.pings.abort();
    }
}

/// Keeps the connection from being idle. A failure is not handled here: `verify` meets it.
async fn ping(conn: Arc<Mutex<Conn>>) {
    loop {
        tokio::time::sleep(PING_EVERY).await;
        if conn.lock().await.ping().await.is_err() {
            return;
        }
    }
}

/// The name as GET_LOCK takes it: itself, or, if it is too long, its beginning and a hash of all of it. Whoever
/// asks for a lock by name asks for this one.
pub fn lock_name(name: &str) -> String {
    if name.chars().count() <= MAX_NAME {
        return name.to_owned();
    }
    let hash = hex(&Sha256::digest(name.as_bytes())[..16]);
    let head: String = name.chars().take(MAX_NAME - hash.len() - 1).collect();
    format!("{head}-{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_cut_to_what_get_lock_takes_and_stays_distinct() {
        let one = lock_name(&format!("tablecast:{}1", "é".repeat(80)));
        let two = lock_name(&format!("tablecast:{}2", "é".repeat(80)));
        assert_eq!(one.chars().count(), MAX_NAME);
        assert_ne!(one, two);
        assert_eq!(lock_name("tablecast:apps"), "tablecast:apps");
    }
}
