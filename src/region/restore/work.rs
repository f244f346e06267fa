//! The task that loads beside the passes: rows, then the stream for as long as it takes to come near its end.

use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::sync::watch;

use super::catch_up::{CatchUp, Caught};
use super::choose;
use super::journal::{self, Restore};
use super::load::Loader;
use super::shape::Shape;
use super::swap;
use crate::store::head::Read;
use crate::store::{self, Fetched, Store};
use crate::stream::{DumpRef, Index, Manifest, Md5, StreamTx};
use crate::{Error, Kind, Result, failpoint, mysql};

/// So often it follows a stream that goes on before it leaves the rest to the swap.
const ROUNDS: u32 = 20;

/// What the task does.
pub struct Work {
    pub restore: Restore,
    pub loader: Loader,
    pub catch_up: CatchUp,
    pub shapes: Vec<Shape>,
    /// `None`: it is loaded.
    pub manifest: Option<Manifest>,
    pub at: watch::Receiver<StreamTx>,
    pub now: chrono::DateTime<chrono::Utc>,
}

impl Work {
    pub async fn run(mut self) -> Result<Caught> {
        let mut conn = mysql::connect(&self.loader.config).await?;
        if let Some(manifest) = self.manifest.take() {
            let started = Instant::now();
            if let Err(error) = self.loader.run(&manifest, &self.restore.plan).await {
                // They may be what has filled the disk. What is left is dropped by the next attempt.
                if let Err(error) = self.loader.give_up(&self.shapes).await {
                    tracing::debug!(%error, "could not drop the shadow tables");
                }
                return Err(error);
            }
            let (id, at) = (self.restore.id, self.restore.at);
            let rows = self.loader.rows.load(Ordering::Relaxed);
            let took = chrono::TimeDelta::from_std(started.elapsed()).unwrap_or_default();
            journal::loaded(&mut conn, id, at, rows, self.now + took).await?;
            failpoint::hit("restore.loaded");
            tracing::info!(
                restore = id,
                rows,
                "loaded {} in {:.1} s",
                self.restore.names(),
                started.elapsed().as_secs_f64()
            );
            self.restore.until = at;
        } else if swap::checks_in_the_way(&mut conn, &self.shapes).await?.is_empty() {
            self.loader.add_checks(&self.shapes).await?;
        }
        for _ in 0..ROUNDS {
            let at = *self.at.borrow_and_update();
            if at <= self.restore.until {
                break;
            }
            let mut index = Index::new(match store::head::read(&*self.loader.store, None).await? {
                Read::Head { head, .. } => *head,
                Read::Unchanged => break,
            });
            let dump = (self.restore.entry, self.restore.at);
            let entries = choose::entries_behind(&mut index, &*self.loader.store, dump, at).await?;
            let from = self.restore.until;
            match self.catch_up.run(&entries, from, at).await? {
                Caught::UpTo(n) if n < at.0 => break,
                Caught::UpTo(n) => self.restore.until = StreamTx(n),
                found @ Caught::Ddl { .. } => return Ok(found),
            }
        }
        Ok(Caught::UpTo(self.restore.until.0))
    }
}

/// The manifest of a dump, as the index promises it.
pub async fn manifest(store: &dyn Store, reference: &DumpRef) -> Result<Manifest> {
    let dump = &reference.dump;
    let doing = || format!("read {}/{} (entry {})", store.url(), dump.manifest, reference.seq.0);
    let bytes = match store.get(&dump.manifest, None).await.map_err(|error| error.during(doing()))? {
        Fetched::Object { bytes, .. } => bytes,
        Fetched::Unchanged => Vec::new(),
    };
    let md5 = Md5::of(&bytes);
    if bytes.len() as u64 != dump.size || md5 != dump.md5 {
        return Err(Error::new(
            Kind::Corrupt,
            format!(
                "{}: {} bytes with md5 {md5}, the index says {} with {}",
                doing(),
                bytes.len(),
                dump.size,
                dump.md5
            ),
        ));
    }
    Manifest::parse(&dump.id, &bytes)
}
