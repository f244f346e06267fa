//! Large files, in parts: no request is larger than a part, several are on their way at once, and one that fails is
//! sent again alone.
//!
//! Nobody sees anything of it before the last request, which carries the condition (`If-None-Match: *`) and makes the
//! object in one step. Each part carries `Content-MD5`, and before the last request all of what was read for them is held
//! against the digest of the whole. Whatever goes wrong before, the upload is given up; what a killed process leaves is
//! given up by `stream prune` a day later (or by a lifecycle rule on the bucket, sooner).
//!
//! Not every server that honours the condition on PUT does so on that last request: moto before #9209
//! (August 2025), for one, accepts it and overwrites. MinIO does not confirm an encryption when an upload
//! is begun. So the first large file of a process is preceded by a trial on a key of its own; where that goes otherwise
//! than it must, files go in one PUT, which confirms everything itself, as long as they fit in one.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html>, and "qfacts" there for the limits;
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html> for the condition, and for errors
//! that come under a status of 200, because the server began its answer before it knew.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::Ordering;

use aws_sdk_s3::operation::upload_part::builders::UploadPartFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use chrono::{DateTime, Utc};
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use uuid::Uuid;

use super::error::{Answer, answer, error};
use super::{Body, If, Put, S3Store, TRIES, There, client, content_type, file_body, pause, time};
use crate::error::{Error, Kind, Result, chain_and_hint};
use crate::failpoint;
use crate::store::{Etag, Store};
use crate::stream::digest::Hasher;
use crate::stream::{Key, Md5};

/// An object has no more parts than this.
const MOST_PARTS: u64 = 10_000;
/// The largest object of one PUT.
pub(super) const LARGEST_PUT: u64 = 5 << 30;
/// A request to join the parts is waited for like one with so many bytes: some five minutes.
const JOINING: u64 = 16 << 20;
/// How many are on their way at once.
const AT_ONCE: usize = 3;

/// Why files do not go in parts where the trial is refused, as where only the stream's own keys may be written; and what
/// is to be done.
pub(super) const REFUSES: &str = "refuses a trial of uploads in parts on a key of probe/";
pub(super) const ALLOW: &str = "allow s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload on probe/* too, beside the \
    stream's other keys: files go in parts then, without a restart";

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

/// How the last request of an upload in parts ended.
enum Ended {
    Done(Etag),
    /// There is such an object already.
    Refused,
    /// There is no such upload: the answer to an earlier try has been lost, or somebody has given it up.
    Gone,
    /// Somebody else writes the same key: to be tried again from the beginning.
    Busy,
    /// The server knows no such condition.
    Unknown(Error),
}

/// An upload that has been begun, or why it cannot be.
enum Begun {
    Id(String),
    Not(&'static str),
}

/// A part as it was read.
struct Part {
    number: i32,
    offset: u64,
    len: u64,
    md5: Md5,
}

impl S3Store {
    /// Why files cannot go to this server in parts ("the server …"); found out once, before the first one. That somebody
    /// may not try is no word about the server: it is tried again with the next one.
    pub(super) async fn why_not_in_parts(&self) -> Result<Option<&'static str>> {
        match self.why_not_in_parts.get_or_try_init(|| self.try_parts()).await {
            // One PUT each takes nothing but the stream's own keys.
            Err(error) if error.kind() == Kind::Denied => {
                if !self.told_of_refusal.swap(true, Ordering::Relaxed) {
                    tracing::warn!("{}; large files go in one PUT each: {ALLOW}", chain_and_hint(&error));
                }
                Ok(Some(REFUSES))
            }
            found => found.copied(),
        }
    }

    /// Tries it with a few bytes on a throw-away key that exists: the last request must be refused.
    async fn try_parts(&self) -> Result<Option<&'static str>> {
        let key = Key::probe(Uuid::new_v4());
        let doing = self.doing("try an upload in parts at", key.as_str());
        let first = b"first";
        let put = self.put(&doing, &key, Body::Bytes(first), Md5::of(first), 5, If::Missing).await;
        let tried = match put {
            Ok(_) => self.try_second(&doing, &key).await,
            // There is nothing then.
            Err(error) if error.kind() == Kind::Denied => return Err(error),
            Err(error) => Err(error),
        };
        // It means nothing, and `stream prune` removes it too.
        if let Err(left) = self.delete(&key).await {
            tracing::warn!("{}", chain_and_hint(&left));
        }
        let why = tried?;
        if let Some(why) = why {
            tracing::debug!("{}: files go in one PUT each: the server {why}", self.url());
        }
        Ok(why)
    }

    async fn try_second(&self, doing: &str, key: &Key) -> Result<Option<&'static str>> {
        let id = match self.begin(doing, key).await? {
            Begun::Id(id) => id,
            Begun::Not(why) => return Ok(Some(why)),
        };
        let ended = async {
            let second = b"second";
            let (part, body) = (self.upload_part(key, &id, 1), ByteStream::from_static(second));
            let sent = part.content_md5(Md5::of(second).base64()).body(body).send().await;
            let sent = sent.map_err(|e| error(doing.to_owned(), e))?;
            let part =
                CompletedPart::builder().part_number(1).e_tag(self.etag(doing, sent.e_tag())?.as_str());
            self.complete(doing, key, &id, vec![part.build()]).await
        };
        let ended = ended.await;
        if !matches!(ended, Ok(Ended::Done(_))) {
            self.give_up(key, &id).await;
        }
        match ended? {
            Ended::Refused | Ended::Busy => Ok(None),
            Ended::Done(_) => Ok(Some("ignores If-None-Match on CompleteMultipartUpload")),
            Ended::Unknown(_) => Ok(Some("does not know If-None-Match on CompleteMultipartUpload")),
            Ended::Gone => Err(given_up(doing)),
        }
    }

    /// Makes the object that must not be there yet.
    pub(super) async fn put_in_parts(
        &self,
        doing: &str,
        key: &Key,
        path: &Path,
        (md5, size): (Md5, u64),
    ) -> Result<Put> {
        for attempt in 1.. {
            let id = match self.begin(doing, key).await? {
                Begun::Id(id) => id,
                Begun::Not(why) => {
                    let what = format!("{doing}: the server {why}, and did so a while ago");
                    return Err(Error::new(Kind::Store, what));
                }
            };
            let ended = self.all_parts(doing, key, &id, path, (md5, size)).await;
            if !matches!(ended, Ok(Ended::Done(_))) {
                self.give_up(key, &id).await;
            }
            match ended? {
                Ended::Done(etag) => return Ok(Put::Done(etag)),
                Ended::Refused => return Ok(Put::ConditionFailed),
                // What is there now tells.
                Ended::Gone => match self.there(key, md5, size).await? {
                    There::Same(etag) => return Ok(Put::Done(etag)),
                    There::Other => return Ok(Put::ConditionFailed),
                    There::Nothing => return Err(given_up(doing)),
                },
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

    async fn all_parts(
        &self,
        doing: &str,
        key: &Key,
        id: &str,
        path: &Path,
        (md5, size): (Md5, u64),
    ) -> Result<Ended> {
        let part_size = self.parts.size_for(size);
        // Read one after the other, so that the whole is digested too; sent side by side.
        let read = |number, offset, mut whole: Hasher| {
            let (file, len) = (path.to_owned(), part_size.min(size - offset));
            tokio::task::spawn_blocking(move || {
                let md5 = digest(&file, offset, len, &mut whole)?;
                Ok((Part { number, offset, len, md5 }, whole))
            })
        };
        let mut reading = read(1, 0, Hasher::default());
        let mut whole = None;
        let (mut sending, mut parts) = (FuturesOrdered::new(), Vec::new());
        loop {
            tokio::select! {
                Some(sent) = sending.next() => parts.push(sent?),
                done = &mut reading, if whole.is_none() && sending.len() < AT_ONCE => {
                    let done = done.unwrap_or_else(|e| Err(std::io::Error::other(e)));
                    let (part, so_far) = done.map_err(|e| {
                        Error::new(Kind::Failed, format!("{doing}: read {}", path.display())).caused_by(e)
                    })?;
                    let (number, end) = (part.number, part.offset + part.len);
                    sending.push_back(self.part(doing, key, id, path, part));
                    match end < size {
                        true => reading = read(number + 1, end, so_far),
                        false => whole = Some(so_far.finish()),
                    }
                }
                else => break,
            }
        }
        if let Some(read) = whole.filter(|read| *read != md5) {
            return Err(changed(doing, path, read, md5));
        }
        failpoint::hit("s3.before_complete");
        self.complete(doing, key, id, parts).await
    }

    async fn complete(&self, doing: &str, key: &Key, id: &str, parts: Vec<CompletedPart>) -> Result<Ended> {
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
            Ok(done) => Ok(Ended::Done(self.etag(doing, done.e_tag())?)),
            Err(e) => match answer(&e) {
                Answer::ConditionFailed => Ok(Ended::Refused),
                Answer::Missing => Ok(Ended::Gone),
                Answer::Busy => Ok(Ended::Busy),
                Answer::NotImplemented => Ok(Ended::Unknown(error(doing.to_owned(), e))),
                _ => Err(error(doing.to_owned(), e)),
            },
        }
    }

    async fn begin(&self, doing: &str, key: &Key) -> Result<Begun> {
        let request = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(self.path(key.as_str()))
            .content_type(content_type(key))
            .set_server_side_encryption(self.sse.clone())
            .set_ssekms_key_id(self.sse_kms_key_id.clone());
        let begun = match request.send().await {
            Ok(begun) => begun,
            Err(e) => {
                return match answer(&e) {
                    Answer::NotImplemented | Answer::NotAllowed => {
                        Ok(Begun::Not("knows no uploads in parts"))
                    }
                    _ => Err(error(doing.to_owned(), e)),
                };
            }
        };
        let Some(id) = begun.upload_id() else {
            return Err(Error::new(Kind::Store, format!("{doing}: the server's answer has no upload id")));
        };
        // Before anything is sent in the clear.
        let (with, by) = (begun.server_side_encryption(), begun.ssekms_key_id());
        let confirmed = self.confirm_encryption(doing, with, by);
        if confirmed.is_err() {
            self.give_up(key, id).await;
        }
        match confirmed {
            Ok(()) => Ok(Begun::Id(id.to_owned())),
            // MinIO says it with the answer to PUT only.
            Err(_) if with.is_none() => {
                Ok(Begun::Not("does not confirm the encryption of an upload in parts"))
            }
            Err(error) => Err(error),
        }
    }

    fn upload_part(&self, key: &Key, id: &str, number: i32) -> UploadPartFluentBuilder {
        let (bucket, path) = (&self.bucket, self.path(key.as_str()));
        self.client.upload_part().bucket(bucket).key(path).upload_id(id).part_number(number)
    }

    async fn part(&self, doing: &str, key: &Key, id: &str, path: &Path, part: Part) -> Result<CompletedPart> {
        let Part { number, offset, len, md5 } = part;
        let request = self
            .upload_part(key, id, number)
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

    /// What this cannot give up, a later prune will. Whether it is gone.
    async fn give_up(&self, key: &Key, id: &str) -> bool {
        let request = self
            .client
            .abort_multipart_upload()
            .bucket(&self.bucket)
            .key(self.path(key.as_str()))
            .upload_id(id);
        match request.send().await {
            Ok(_) => true,
            Err(e) if answer(&e) == Answer::Missing => true,
            Err(e) => {
                let left = error(self.doing("give up the upload of", key.as_str()), e);
                tracing::warn!(
                    "{left}; its parts stay until `stream prune`, or a rule of the bucket, removes them"
                );
                false
            }
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
                    given_up += u64::from(self.give_up(&key, id).await);
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

fn given_up(doing: &str) -> Error {
    let what = format!("{doing}: its upload in parts was given up by somebody else before it was complete");
    Error::new(Kind::Store, what)
        .hint("a lifecycle rule of the bucket, or another program that cleans up there?")
}

fn changed(doing: &str, path: &Path, read: Md5, written: Md5) -> Error {
    let what = format!("{doing}: {} reads as md5 {read}, and {written} was written", path.display());
    Error::new(Kind::Corrupt, what)
        .hint("something changes files there (files.spool_dir), or the disk or the memory of this machine is failing")
}

/// Of a piece of a file; the digest of all before it goes on over it.
fn digest(path: &Path, offset: u64, len: u64, whole: &mut Hasher) -> std::io::Result<Md5> {
    let mut hasher = Hasher::default();
    let file = std::fs::File::open(path)?;
    let mut buffer = vec![0; 128 << 10];
    let mut at = 0;
    while at < len {
        let want = (len - at).min(buffer.len() as u64) as usize;
        file.read_exact_at(&mut buffer[..want], offset + at)?;
        hasher.update(&buffer[..want]);
        whole.update(&buffer[..want]);
        at += want as u64;
    }
    Ok(hasher.finish())
}
