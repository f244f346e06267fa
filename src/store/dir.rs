//! A directory as a store.
use super::*;
pub struct DirStore;
impl DirStore {
    pub fn open(_root: &Path) -> Result<Self> {
        todo!()
    }
}
#[async_trait]
impl Store for DirStore {
    fn url(&self) -> String {
        todo!()
    }
    async fn get(&self, _key: &Key, _unless: Option<&Etag>) -> Result<Fetched> {
        todo!()
    }
    async fn download(&self, _key: &Key, _to: &Path, _limit: u64) -> Result<Download> {
        todo!()
    }
    async fn create(&self, _key: &Key, _body: Body<'_>) -> Result<Etag> {
        todo!()
    }
    async fn swap(&self, _key: &Key, _bytes: &[u8], _expected: Option<&Etag>) -> Result<Etag> {
        todo!()
    }
    async fn stat(&self, _key: &Key) -> Result<Stat> {
        todo!()
    }
    async fn list(&self, _prefix: &str) -> Result<Vec<Listed>> {
        todo!()
    }
    async fn delete(&self, _key: &Key) -> Result<()> {
        todo!()
    }
}
