//! The stores: one suite for each of them (`conformance`), and what is peculiar to one.
//!
//! With `TABLECAST_TEST_S3=http://127.0.0.1:9090/tablecast-demo` the suite runs in that server's bucket instead of
//! one of our own; credentials stand in the environment. `scripts/s3 start` starts such a server.

mod conformance;
mod directory;
mod index;
mod parts;
mod s3;

use std::sync::Arc;

use aws_credential_types::Credentials;
use tablecast::config::S3Config;
use tablecast::store::{DirStore, S3Store, Store};
use uuid::Uuid;

use crate::support::s3::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};

/// Where a test's objects live: nobody else's are there.
enum Place {
    Directory(tempfile::TempDir),
    S3 { server: S3Server, prefix: String },
    Elsewhere { config: S3Config, bucket: String, prefix: String },
}

impl Place {
    fn directory() -> Self {
        Place::Directory(tempfile::tempdir().unwrap())
    }

    fn s3() -> Self {
        let prefix = Uuid::new_v4().to_string();
        match std::env::var("TABLECAST_TEST_S3") {
            Ok(url) => {
                let (endpoint, bucket) = url.rsplit_once('/').expect("http://HOST:PORT/BUCKET");
                let endpoint = endpoint.to_owned();
                let region = Some("us-east-1".into());
                let config =
                    S3Config { region, endpoint: Some(endpoint), path_style: true, ..Default::default() };
                Place::Elsewhere { config, bucket: bucket.to_owned(), prefix }
            }
            Err(_) => Place::S3 { server: S3Server::start(), prefix },
        }
    }

    /// A store of its own, as another process would have.
    async fn store(&self) -> Arc<dyn Store> {
        match self {
            Place::Directory(folder) => Arc::new(DirStore::open(&folder.path().join("store")).unwrap()),
            Place::S3 { server, prefix } => Arc::new(s3_store(server, prefix, server.config()).await),
            Place::Elsewhere { config, bucket, prefix } => {
                Arc::new(S3Store::open(bucket, prefix, config).await.unwrap())
            }
        }
    }
}

async fn s3_store(_server: &S3Server, prefix: &str, config: S3Config) -> S3Store {
    let credentials = Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "tests");
    S3Store::open_as(BUCKET, prefix, &config, Some(credentials)).await.unwrap()
}
