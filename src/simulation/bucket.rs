//! The simulated store as one process sees it: it keeps what the trait promises, and whatever else may happen to a
//! request, happens.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use super::world::{Answer, Asked, World};
use crate::mysql::Held;
use crate::store::{Body, Download, Etag, Fetched, Listed, Stat, Store};
use crate::stream::{Key, Md5};
use crate::{Error, Kind, Result};

pub(super) struct Bucket {
    pub world: Arc<World>,
    pub process: usize,
}

impl Bucket {
    async fn ask(&self, asked: Asked) -> Result<Answer> {
        self.world.ask(self.process, asked).await
    }
}

fn other() -> Error {
    Error::new(Kind::Failed, "simulated: an answer to something else")
}

#[async_trait]
impl Store for Bucket {
    fn url(&self) -> String {
        "s3://simulated/apps".to_owned()
    }

    async fn get(&self, key: &Key, unless: Option<&Etag>) -> Result<Fetched> {
        match self.ask(Asked::Get(key.clone(), unless.cloned())).await? {
            Answer::Got(fetched) => Ok(fetched),
            _ => Err(other()),
        }
    }

    async fn download(&self, key: &Key, to: &Path, limit: u64) -> Result<Download> {
        let Answer::Got(Fetched::Object { bytes, .. }) = self.ask(Asked::Get(key.clone(), None)).await?
        else {
            return Err(other());
        };
        if bytes.len() as u64 > limit {
            return Err(Error::new(Kind::Corrupt, format!("read {key}: it is larger than expected")));
        }
        std::fs::write(to, &bytes).map_err(|e| Error::new(Kind::Failed, "write a download").caused_by(e))?;
        Ok(Download { size: bytes.len() as u64, md5: Md5::of(&bytes) })
    }

    async fn create(&self, key: &Key, body: Body<'_>) -> Result<Etag> {
        let bytes: Arc<[u8]> = match body {
            Body::Bytes(bytes) => bytes.into(),
            Body::File(path) | Body::Packed { path, .. } => std::fs::read(path)
                .map_err(|e| Error::new(Kind::Failed, "read what is to be uploaded").caused_by(e))?
                .into(),
        };
        match self.ask(Asked::Create(key.clone(), bytes)).await? {
            Answer::Tag(etag) => Ok(etag),
            _ => Err(other()),
        }
    }

    async fn swap(&self, key: &Key, bytes: &[u8], expected: Option<&Etag>) -> Result<Etag> {
        match self.ask(Asked::Swap(key.clone(), bytes.into(), expected.cloned())).await? {
            Answer::Tag(etag) => Ok(etag),
            _ => Err(other()),
        }
    }

    async fn stat(&self, key: &Key) -> Result<Stat> {
        match self.ask(Asked::Stat(key.clone())).await? {
            Answer::Stat(stat) => Ok(stat),
            _ => Err(other()),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        match self.ask(Asked::List(prefix.to_owned())).await? {
            Answer::Listed(listed) => Ok(listed),
            _ => Err(other()),
        }
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.ask(Asked::Delete(key.clone())).await.map(drop)
    }
}

/// A lock that keeps nobody apart: everybody believes to hold it.
pub(super) struct NoLock {
    pub world: Arc<World>,
    pub process: usize,
}

#[async_trait]
impl Held for NoLock {
    async fn verify(&mut self) -> Result<()> {
        self.world.step(self.process, "lock").await
    }
}
