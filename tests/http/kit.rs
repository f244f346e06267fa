//! A stream in a bucket without any MySQL: the service needs none.

use std::sync::Arc;

use tablecast::binlog::name::TableSet;
use tablecast::clock::{Clock, SystemClock};
use tablecast::store::{self, DirStore, S3Store, Store};
use tablecast::stream::Head;
use uuid::Uuid;

use crate::support::s3::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};

/// Where a test's objects live.
pub enum Place {
    Directory(tempfile::TempDir),
    S3(S3Server),
}

impl Place {
    pub fn directory() -> Place {
        Place::Directory(tempfile::tempdir().unwrap())
    }

    pub fn s3() -> Place {
        Place::S3(S3Server::start())
    }

    pub async fn store(&self) -> Arc<dyn Store> {
        match self {
            Place::Directory(folder) => Arc::new(DirStore::open(folder.path()).unwrap()),
            Place::S3(server) => {
                let key = aws_credential_types::Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "tests");
                Arc::new(S3Store::open_as(BUCKET, "apps", &server.config(), Some(key)).await.unwrap())
            }
        }
    }

    /// A stream of `g.*`, with nothing in it.
    pub async fn stream(&self) -> (Arc<dyn Store>, Head) {
        let store = self.store().await;
        let tables = TableSet::parse(&["g.*"]).unwrap();
        let mut head = Head::new(Uuid::new_v4(), "apps", tables, SystemClock.now());
        store::head::write(&*store, &mut head, None).await.unwrap();
        (store, head)
    }
}
