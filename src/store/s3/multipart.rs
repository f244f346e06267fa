//! Large files, in parts: no request is larger than a part, several are on their way at once, and one that fails is
//! sent again alone.
//!
//! A server that knows no condition on that last request gets the file in one PUT, as long as it fits in one.
//!
//! Nobody sees anything of it before the last request, which carries the condition (`If-None-Match: *`) and makes the
//! object in one step. Each part carries `Content-MD5`. Whatever goes wrong before, the upload is given up; what a
//! killed process leaves is given up by `stream prune` a day later (or by a lifecycle rule on the bucket, sooner).
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html>, and "qfacts" there for the limits;
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html> for the condition.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt, stream};

use super::error::{Answer, answer, error};
use super::{Put, S3Store, TRIES, client, content_type, file_body, pause, time};
use crate::error::{Error, Kind, Result};
use crate::failpoint;
use crate::stream::digest::Hasher;
use crate::stream::{Key, Md5};

/// An object has no more parts than this.
const MOST_PARTS: u64 = 10_000;
/// The largest object of one PUT.
const LARGEST_PUT: u64 = 5 << 30;
/// A request to join the parts is waited for like one with so many bytes: some five minutes.
const JOINING: u64 = 16 << 20;
/// How many are on their way at once.
const AT_ONCE: usize = 3;

/// How files are cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    /// Larger files go in parts.
    pub from: u64,
    pub size: u64,
}

impl Default for Parts {
    fn default() -> Self {
        Self { from: 32 << 20, size: 16 << 20 }
    }
}

impl Parts {
    /// How large each part is of a file of so many bytes; the last may be smaller.
    fn size_for(self, size: u64) -> u64 {
        self.size.max(size.div_ceil(MOST_PARTS))
    }
}

/// How an upload in parts ended.
enum Ended {
    Put(Put),
    /// Somebody else writes the same key: to be tried again from the beginning.
    Busy,
    /// The server knows no such condition.
    Unknown(Error),
}

impl S3Store {
    /// Makes the object that must not be there yet. None: this server does it with one PUT only.
    pub(super) async fn put_in_parts(
        &self,
        doing: &str,
        key: &Key,
        path: &Path,
        size: u64,
    ) -> Result<Option<Put>> {
        for attempt in 1.. {
            let id = self.begin(doing, key).await?;
            let done = self.all_parts(doing, key, &id, path, size).await;
            if !matches!(done, Ok(Ended::Put(Put::Done(_)))) {
                self.give_up(key, &id).await;
            }
            match done? {
                Ended::Put(put) => return Ok(Some(put)),
                Ended::Unknown(_) if size <= LARGEST_PUT => return Ok(None),
                Ended::Unknown(error) => return Err(error),
                Ended::Busy if attempt < TRIES => pause(attempt).await,
                Ended::Busy => {
                    let what = format!("{doing}: somebody else goes on writing it");
                    return Err(Error::new(Kind::Store, what));
                }
            }
        }
        unreachable!("the last attempt returns")
    }

    async fn all_parts(&self, doing: &str, key: &Key, id: &str, path: &Path, size: u64) -> Result<Ended> {
        let part_size = self.parts.size_for(size);
        let parts = (0..size.div_ceil(part_size)).map(|at| {
            let offset = at * part_size;
            self.part(doing, key, id, path, (at as i32 + 1, offset, part_size.min(size - offset)))
        });
        let parts: Vec<CompletedPart> = stream::iter(parts).buffered(AT_ONCE).try_collect().await?;
        failpoint::hit("s3.before_complete");
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(self.path(key.as_str()))
            .upload_id(id)
            .if_none_match("*")
            .multipart_upload(parts);
        // The server may take minutes to join the parts, however small the request is.
        let limits = aws_sdk_s3::config::Builder::new().timeout_config(client::timeouts(JOINING));
        match request.customize().config_override(limits).send().await {
            Ok(done) => Ok(Ended::Put(Put::Done(self.etag(doing, done.e_tag())?))),
            Err(e) => match answer(&e) {
                // The upload is gone when the answer to an earlier try has been lost: what is there now tells.
                Answer::ConditionFailed | Answer::Missing => Ok(Ended::Put(Put::ConditionFailed)),
                Answer::Busy => Ok(Ended::Busy),
                Answer::NotImplemented => Ok(Ended::Unknown(error(doing.to_owned(), e))),
                _ => Err(error(doing.to_owned(), e)),
            },
        }
    }

    async fn begin(&self, doing: &str, key: &Key) -> Result<String> {
        let request = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(self.path(key.as_str()))
            .content_type(content_type(key))
            .set_server_side_encryption(self.sse.clone())
            .set_ssekms_key_id(self.sse_kms_key_id.clone());
        let begun = request.send().await.map_err(|e| error(doing.to_owned(), e))?;
        let Some(id) = begun.upload_id() else {
            return Err(Error::new(Kind::Store, format!("{doing}: the server's answer has no upload id")));
        };
        // Before anything is sent in the clear.
        let confirmed = self.confirm_encryption(doing, begun.server_side_encryption(), begun.ssekms_key_id());
        if confirmed.is_err() {
            self.give_up(key, id).await;
        }
        confirmed.map(|()| id.to_owned())
    }

    async fn part(
        &self,
        doing: &str,
        key: &Key,
        id: &str,
        path: &Path,
        (number, offset, len): (i32, u64, u64),
    ) -> Result<CompletedPart> {
        let file = path.to_owned();
        let digest = tokio::task::spawn_blocking(move || digest(file, offset, len)).await;
        let md5 = digest.unwrap_or_else(|e| Err(std::io::Error::other(e))).map_err(|e| {
            Error::new(Kind::Failed, format!("{doing}: read {}", path.display())).caused_by(e)
        })?;
        let request = self
            .client
            .upload_part()
            .bucket(&self.bucket)
            .key(self.path(key.as_str()))
            .upload_id(id)
            .part_number(number)
            .content_length(i64::try_from(len).unwrap_or(i64::MAX))
            .content_md5(md5.base64())
            .body(file_body(doing, path, offset, len).await?);
        let limits = aws_sdk_s3::config::Builder::new().timeout_config(client::timeouts(len));
        let sent = request.customize().config_override(limits).send().await;
        let sent = sent.map_err(|e| error(format!("{doing}: part {number}"), e))?;
        failpoint::hit("s3.after_part");
        let etag = self.etag(doing, sent.e_tag())?;
        Ok(CompletedPart::builder().part_number(number).e_tag(etag.as_str()).build())
    }

    /// What this cannot give up, a later prune will.
    async fn give_up(&self, key: &Key, id: &str) {
        let request = self
            .client
            .abort_multipart_upload()
            .bucket(&self.bucket)
            .key(self.path(key.as_str()))
            .upload_id(id);
        if let Err(e) = request.send().await
            && answer(&e) != Answer::Missing
        {
            let left = error(self.doing("give up the upload of", key.as_str()), e);
            tracing::warn!(
                "{left}; its parts stay until `stream prune`, or a rule of the bucket, removes them"
            );
        }
    }

    /// Gives up every upload under the prefix that was begun before that time.
    pub(super) async fn give_up_parts(&self, before: DateTime<Utc>) -> Result<u64> {
        let doing = || self.doing("list the unfinished uploads of", "");
        let root = self.path("");
        let mut given_up = 0;
        let (mut key_marker, mut id_marker) = (None, None);
        loop {
            let request = self
                .client
                .list_multipart_uploads()
                .bucket(&self.bucket)
                .prefix(&root)
                .set_key_marker(key_marker.take())
                .set_upload_id_marker(id_marker.take());
            let page = request.send().await.map_err(|e| error(doing(), e))?;
            for upload in page.uploads() {
                let key = upload.key().and_then(|key| key.strip_prefix(&root)).map(Key::new);
                // Another program's, in a bucket that is shared, are none of our business.
                if let (Some(Ok(key)), Some(id), Some(begun)) = (key, upload.upload_id(), upload.initiated())
                    && key.parse().is_ok()
                    && time(Some(begun)) < before
                {
                    self.give_up(&key, id).await;
                    given_up += 1;
                }
            }
            (key_marker, id_marker) =
                (page.next_key_marker().map(str::to_owned), page.next_upload_id_marker().map(str::to_owned));
            if page.is_truncated() != Some(true) || key_marker.is_none() {
                return Ok(given_up);
            }
        }
    }
}

fn digest(path: PathBuf, offset: u64, len: u64) -> std::io::Result<Md5> {
    let mut hasher = Hasher::default();
    let file = std::fs::File::open(path)?;
    let mut buffer = vec![0; 128 << 10];
    let mut at = 0;
    while at < len {
        let want = (len - at).min(buffer.len() as u64) as usize;
        file.read_exact_at(&mut buffer[..want], offset + at)?;
        hasher.update(&buffer[..want]);
        at += want as u64;
    }
    Ok(hasher.finish())
}
