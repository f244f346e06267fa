//! S3, and servers that speak its protocol, as a store.
//!
//! - Every PUT carries `Content-MD5` and a condition: `If-None-Match: *` to create, `If-Match` to swap.
//! - An answer that got lost is not guessed at. The SDK sends the request again, the condition of the second
//!   one fails on what the first one did, and then what is there is compared with what we meant to write.
//! - With `s3.sse` set, a PUT whose answer does not confirm the encryption is an error, and what was created
//!   by it is removed again.
//! - A file of more than 32 MiB goes in parts, and its condition comes with the last request (`multipart`); at a server
//!   that does not do that as it must, in one PUT like the others.
//!
//! Time limits and repetitions are in `client`, the meaning of refusals in `error`.

mod client;
mod error;
mod multipart;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::Credentials;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::put_object::PutObjectError;
use aws_sdk_s3::primitives::{ByteStream, DateTime as S3Time, Length};
use aws_sdk_s3::types::ServerSideEncryption;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::io::AsyncWriteExt;
use tokio::sync::OnceCell;

pub use self::client::Clients;
use self::error::{Answer, answer, error};
use super::{Body, DOCUMENT_LIMIT, Download, Etag, Fetched, Listed, Stat, Store};
use crate::config::S3Config;
use crate::error::{Error, Kind, Result};
use crate::stream::digest::Hasher;
use crate::stream::{Key, Md5};

/// How much of a file is read at once on its way.
const PIECE: usize = 128 * 1024;

/// How often a body that broke off, or a key that is being written by somebody else, is tried again.
const TRIES: u32 = 4;

/// A store in a bucket.
#[derive(Clone, Debug)]
pub struct S3Store {
    client: Client,
    bucket: String,
    prefix: String,
    sse: Option<ServerSideEncryption>,
    sse_kms_key_id: Option<String>,
    parts: multipart::Parts,
    why_not_in_parts: Arc<OnceCell<Option<&'static str>>>,
    told_of_refusal: Arc<AtomicBool>,
}

/// The condition of a PUT.
#[derive(Clone, Copy)]
enum If<'a> {
    Missing,
    Tag(&'a Etag),
}

enum Put {
    Done(Etag),
    ConditionFailed,
}

/// What is there where something was to be written.
enum There {
    Same(Etag),
    Other,
    Nothing,
}

impl S3Store {
    /// The store in `bucket` under `prefix`, with credentials from the AWS chain.
    pub async fn open(bucket: &str, prefix: &str, config: &S3Config) -> Result<Self> {
        Self::open_as(bucket, prefix, config, None).await
    }

    /// The same, with these credentials if any are given.
    pub async fn open_as(
        bucket: &str,
        prefix: &str,
        config: &S3Config,
        credentials: Option<Credentials>,
    ) -> Result<Self> {
        crate::tls::use_our_provider();
        Ok(Self::through(client::client(config, credentials).await, bucket, prefix, config))
    }

    /// The same as [`Self::open`], through the client that others of this process use.
    pub async fn open_with(bucket: &str, prefix: &str, config: &S3Config, clients: &Clients) -> Result<Self> {
        crate::tls::use_our_provider();
        Ok(Self::through(clients.get(config).await, bucket, prefix, config))
    }

    fn through(client: Client, bucket: &str, prefix: &str, config: &S3Config) -> Self {
        Self {
            client,
            bucket: bucket.to_owned(),
            prefix: prefix.trim_matches('/').to_owned(),
            sse: config.sse.as_deref().map(ServerSideEncryption::from),
            sse_kms_key_id: config.sse_kms_key_id.clone(),
            parts: multipart::Parts::default(),
            why_not_in_parts: Arc::default(),
            told_of_refusal: Arc::default(),
        }
    }

    /// The same store, with files of more than `from` bytes in parts of `size`: the tests' are small.
    #[doc(hidden)]
    pub fn with_parts(mut self, from: u64, size: u64) -> Self {
        self.parts = multipart::Parts { from, size };
        self
    }

    fn path(&self, key: &str) -> String {
        if self.prefix.is_empty() { key.to_owned() } else { format!("{}/{key}", self.prefix) }
    }

    fn doing(&self, what: &str, key: &str) -> String {
        format!("{what} {}/{key}", self.url())
    }

    async fn put(
        &self,
        doing: &str,
        key: &Key,
        body: Body<'_>,
        md5: Md5,
        size: u64,
        only: If<'_>,
    ) -> Result<Put> {
        for attempt in 1.. {
            let body = match body {
                Body::Bytes(bytes) => ByteStream::from(bytes.to_vec()),
                Body::File(path) | Body::Packed { path, .. } => file_body(doing, path, 0, size).await?,
            };
            let mut request = self
                .client
                .put_object()
                .bucket(&self.bucket)
                .key(self.path(key.as_str()))
                .content_length(i64::try_from(size).unwrap_or(i64::MAX))
                .content_md5(md5.base64())
                .content_type(content_type(key))
                .set_server_side_encryption(self.sse.clone())
                .set_ssekms_key_id(self.sse_kms_key_id.clone())
                .body(body);
            request = match only {
                If::Missing => request.if_none_match("*"),
                If::Tag(etag) => request.if_match(etag.as_str()),
            };
            let limits = aws_sdk_s3::config::Builder::new().timeout_config(client::timeouts(size));
            match request.customize().config_override(limits).send().await {
                Ok(done) => {
                    let confirmed =
                        self.confirm_encryption(doing, done.server_side_encryption(), done.ssekms_key_id());
                    if let (Err(e), If::Missing) = (&confirmed, only)
                        && let Err(left) = self.delete(key).await
                    {
                        tracing::error!("{e}; it could not be removed again: {left:?}");
                    }
                    confirmed?;
                    return Ok(Put::Done(self.etag(doing, done.e_tag())?));
                }
                Err(e) => match answer(&e) {
                    Answer::ConditionFailed => return Ok(Put::ConditionFailed),
                    // Amazon's answer to If-Match on a key that is not there.
                    Answer::Missing if matches!(only, If::Tag(_)) => return Ok(Put::ConditionFailed),
                    Answer::Busy if attempt < TRIES => pause(attempt).await,
                    Answer::NotImplemented => return Err(unconditional(doing, e)),
                    _ => return Err(error(doing.to_owned(), e)),
                },
            }
        }
        unreachable!("the last attempt returns")
    }

    /// A file as an object that must not be there yet.
    async fn put_file(&self, doing: &str, key: &Key, path: &Path, md5: Md5, size: u64) -> Result<Put> {
        if size > self.parts.from {
            match self.why_not_in_parts().await? {
                None => return self.put_in_parts(doing, key, path, (md5, size)).await,
                Some(why) if size > multipart::LARGEST_PUT => {
                    let what = format!("{doing}: {size} bytes, one PUT takes 5 GiB, and the server {why}");
                    let hint = match why {
                        multipart::REFUSES => multipart::ALLOW.to_owned(),
                        _ => {
                            "use an S3 server that takes such files in parts, under If-None-Match".to_owned()
                        }
                    };
                    return Err(Error::new(Kind::Denied, what).hint(hint));
                }
                Some(_) => {}
            }
        }
        self.put(doing, key, Body::Packed { path, md5, size }, md5, size, If::Missing).await
    }

    /// What the config wants encrypted must be said to be encrypted.
    fn confirm_encryption(
        &self,
        doing: &str,
        with: Option<&ServerSideEncryption>,
        by: Option<&str>,
    ) -> Result<()> {
        let Some(wanted) = &self.sse else { return Ok(()) };
        // A key is asked for by id, alias or ARN, and confirmed by ARN; an alias cannot be compared.
        let key_fits = match (&self.sse_kms_key_id, by) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(wanted), Some(by)) => {
                wanted == by || wanted.contains("alias/") || by.ends_with(&format!(":key/{wanted}"))
            }
        };
        if with == Some(wanted) && key_fits {
            return Ok(());
        }
        let found = match (with, by) {
            (None, _) => "nothing".to_owned(),
            (Some(with), None) => with.to_string(),
            (Some(with), Some(by)) => format!("{with} with key {by}"),
        };
        Err(Error::new(
            Kind::Denied,
            format!(
                "{doing}: the config wants {wanted}{}, and the server confirms {found}",
                self.sse_kms_key_id.iter().map(|key| format!(" with key {key}")).collect::<String>()
            ),
        )
        .hint("use a server that encrypts, or take `s3.sse` and `s3.sse_kms_key_id` out of the config"))
    }

    fn etag(&self, doing: &str, etag: Option<&str>) -> Result<Etag> {
        etag.map(Etag::new)
            .ok_or_else(|| Error::new(Kind::Store, format!("{doing}: the server's answer has no ETag")))
    }

    /// Whether the object that is there has exactly this content, and its tag. One request, so that all it is
    /// judged by belongs to one state of an object that others may be writing.
    async fn there(&self, key: &Key, md5: Md5, size: u64) -> Result<There> {
        let doing = self.doing("compare", key.as_str());
        let request = self.client.get_object().bucket(&self.bucket).key(self.path(key.as_str()));
        let there = match request.send().await {
            Ok(there) => there,
            Err(e) if answer(&e) == Answer::Missing => return Ok(There::Nothing),
            Err(e) => return Err(error(doing, e)),
        };
        if there.content_length() != i64::try_from(size).ok() {
            return Ok(There::Other);
        }
        let etag = self.etag(&doing, there.e_tag())?;
        let encrypted =
            self.confirm_encryption(&doing, there.server_side_encryption(), there.ssekms_key_id());
        // A tag may be the MD5 or anything else: only that it is equal says something.
        if md5_of(&etag) != Some(md5) {
            let mut incoming = Incoming::new(&doing, there, size);
            let mut hasher = Hasher::default();
            while let Some(bytes) = incoming.next().await? {
                hasher.update(&bytes);
            }
            if hasher.finish() != md5 {
                return Ok(There::Other);
            }
        }
        encrypted?;
        Ok(There::Same(etag))
    }

    async fn send_get(&self, doing: &str, key: &Key) -> Result<GetObjectOutput> {
        let request = self.client.get_object().bucket(&self.bucket).key(self.path(key.as_str()));
        request.send().await.map_err(|e| error(doing.to_owned(), e))
    }

    async fn read(&self, doing: &str, output: GetObjectOutput) -> Result<Vec<u8>> {
        let mut incoming = Incoming::new(doing, output, DOCUMENT_LIMIT);
        let mut bytes = Vec::new();
        while let Some(piece) = incoming.next().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    async fn write(&self, doing: &str, output: GetObjectOutput, to: &Path, limit: u64) -> Result<Download> {
        let local = |e| Error::new(Kind::Failed, format!("{doing}: write {}", to.display())).caused_by(e);
        let mut file = tokio::fs::File::create(to).await.map_err(local)?;
        let mut incoming = Incoming::new(doing, output, limit);
        let mut hasher = Hasher::default();
        while let Some(bytes) = incoming.next().await? {
            hasher.update(&bytes);
            file.write_all(&bytes).await.map_err(local)?;
        }
        file.flush().await.map_err(local)?;
        Ok(Download { size: hasher.size(), md5: hasher.finish() })
    }
}

/// A body as it comes in, piece by piece: never more than the limit, and an error if it breaks off.
struct Incoming<'a> {
    doing: &'a str,
    body: ByteStream,
    promised: Option<u64>,
    limit: u64,
    size: u64,
}

impl<'a> Incoming<'a> {
    fn new(doing: &'a str, output: GetObjectOutput, limit: u64) -> Self {
        let promised = output.content_length().and_then(|n| u64::try_from(n).ok());
        Self { doing, body: output.body, promised, limit, size: 0 }
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        let (doing, at) = (self.doing, self.size);
        let broke_off = || Error::new(Kind::Store, format!("{doing}: the answer broke off after {at} bytes"));
        // What is announced to be too large is not read at all.
        let mut coming = self.promised.unwrap_or(0);
        let mut piece = None;
        if coming <= self.limit {
            match self.body.next().await {
                Some(bytes) => {
                    let bytes = bytes.map_err(|e| broke_off().caused_by(e))?;
                    self.size += bytes.len() as u64;
                    coming = self.size;
                    piece = Some(bytes);
                }
                None if self.promised.is_some_and(|promised| promised != at) => return Err(broke_off()),
                None => {}
            }
        }
        if coming > self.limit {
            return Err(Error::new(
                Kind::Corrupt,
                format!("{doing}: it has {coming} bytes or more, {} were expected", self.limit),
            ));
        }
        Ok(piece)
    }
}

/// So many bytes of a file from this one on; read again when a request is sent again.
async fn file_body(doing: &str, path: &Path, offset: u64, len: u64) -> Result<ByteStream> {
    let body =
        ByteStream::read_from().path(path).offset(offset).length(Length::Exact(len)).buffer_size(PIECE);
    body.build()
        .await
        .map_err(|e| Error::new(Kind::Failed, format!("{doing}: read {}", path.display())).caused_by(e))
}

async fn pause(attempt: u32) {
    tokio::time::sleep(Duration::from_millis(100) * 2u32.pow(attempt)).await;
}

fn unconditional(doing: &str, cause: aws_sdk_s3::error::SdkError<PutObjectError>) -> Error {
    Error::new(Kind::Denied, format!("{doing}: the server does not know conditional writes"))
        .hint("use an S3 server that knows If-Match and If-None-Match on PUT")
        .caused_by(cause)
}

fn content_type(key: &Key) -> &'static str {
    if key.as_str().ends_with(".json") { "application/json" } else { "application/octet-stream" }
}

/// The MD5 that a tag is, if it has the form of one.
fn md5_of(etag: &Etag) -> Option<Md5> {
    etag.as_str().trim_matches('"').parse().ok()
}

fn time(time: Option<&S3Time>) -> DateTime<Utc> {
    time.and_then(|time| DateTime::from_timestamp(time.secs(), time.subsec_nanos())).unwrap_or_default()
}

#[async_trait]
impl Store for S3Store {
    fn url(&self) -> String {
        if self.prefix.is_empty() {
            format!("s3://{}", self.bucket)
        } else {
            format!("s3://{}/{}", self.bucket, self.prefix)
        }
    }

    async fn get(&self, key: &Key, unless: Option<&Etag>) -> Result<Fetched> {
        let doing = self.doing("read", key.as_str());
        for attempt in 1.. {
            let request = self.client.get_object().bucket(&self.bucket).key(self.path(key.as_str()));
            let request = request.set_if_none_match(unless.map(|etag| etag.as_str().to_owned()));
            let output = match request.send().await {
                Ok(output) => output,
                Err(e) if unless.is_some() && answer(&e) == Answer::NotModified => {
                    return Ok(Fetched::Unchanged);
                }
                Err(e) => return Err(error(doing, e)),
            };
            let etag = self.etag(&doing, output.e_tag())?;
            match self.read(&doing, output).await {
                // A server that does not know If-None-Match sends it again.
                Ok(_) if unless == Some(&etag) => return Ok(Fetched::Unchanged),
                Ok(bytes) => return Ok(Fetched::Object { bytes, etag }),
                Err(e) if e.is_transient() && attempt < TRIES => pause(attempt).await,
                Err(e) => return Err(e),
            }
        }
        unreachable!("the last attempt returns")
    }

    async fn download(&self, key: &Key, to: &Path, limit: u64) -> Result<Download> {
        let doing = self.doing("read", key.as_str());
        for attempt in 1.. {
            let output = self.send_get(&doing, key).await?;
            match self.write(&doing, output, to, limit).await {
                Err(e) if e.is_transient() && attempt < TRIES => pause(attempt).await,
                done => return done,
            }
        }
        unreachable!("the last attempt returns")
    }

    async fn create(&self, key: &Key, body: Body<'_>) -> Result<Etag> {
        let doing = self.doing("create", key.as_str());
        let (put, md5, size) = match body {
            Body::Bytes(bytes) => {
                let (md5, size) = (Md5::of(bytes), bytes.len() as u64);
                (self.put(&doing, key, body, md5, size, If::Missing).await?, md5, size)
            }
            Body::File(path) => {
                let file = path.to_owned();
                let digest = tokio::task::spawn_blocking(move || Md5::of_reader(std::fs::File::open(file)?));
                let (md5, size) =
                    digest.await.unwrap_or_else(|e| Err(std::io::Error::other(e))).map_err(|e| {
                        Error::new(Kind::Failed, format!("{doing}: read {}", path.display())).caused_by(e)
                    })?;
                (self.put_file(&doing, key, path, md5, size).await?, md5, size)
            }
            Body::Packed { path, md5, size } => {
                (self.put_file(&doing, key, path, md5, size).await?, md5, size)
            }
        };
        match put {
            Put::Done(etag) => Ok(etag),
            Put::ConditionFailed => match self.there(key, md5, size).await? {
                There::Same(etag) => Ok(etag),
                There::Other => {
                    let what = format!("{doing}: it is there already, with other content");
                    Err(Error::new(Kind::Conflict, what))
                }
                There::Nothing => Err(Error::new(
                    Kind::Store,
                    format!("{doing}: it was there already, and is not any more"),
                )),
            },
        }
    }

    async fn swap(&self, key: &Key, bytes: &[u8], expected: Option<&Etag>) -> Result<Etag> {
        let doing = self.doing("swap", key.as_str());
        let (md5, size) = (Md5::of(bytes), bytes.len() as u64);
        let only = expected.map_or(If::Missing, If::Tag);
        match self.put(&doing, key, Body::Bytes(bytes), md5, size, only).await? {
            Put::Done(etag) => Ok(etag),
            Put::ConditionFailed => match self.there(key, md5, size).await? {
                There::Same(etag) => Ok(etag),
                There::Other | There::Nothing => {
                    Err(Error::new(Kind::Conflict, format!("{doing}: somebody else wrote it meanwhile")))
                }
            },
        }
    }

    async fn stat(&self, key: &Key) -> Result<Stat> {
        let doing = self.doing("look at", key.as_str());
        let head = self.client.head_object().bucket(&self.bucket).key(self.path(key.as_str()));
        let there = head.send().await.map_err(|e| error(doing.clone(), e))?;
        let etag = self.etag(&doing, there.e_tag())?;
        Ok(Stat {
            size: there.content_length().and_then(|n| u64::try_from(n).ok()).unwrap_or_default(),
            md5: md5_of(&etag),
            etag,
            modified: time(there.last_modified()),
        })
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        let root = self.path("");
        let mut pages = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(self.path(prefix))
            .into_paginator()
            .send();
        let mut listed = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|e| error(self.doing("list", prefix), e))?;
            for object in page.contents() {
                let Some(Ok(key)) = object.key().and_then(|key| key.strip_prefix(&root)).map(Key::new) else {
                    continue;
                };
                listed.push(Listed {
                    key,
                    size: object.size().and_then(|n| u64::try_from(n).ok()).unwrap_or_default(),
                    modified: time(object.last_modified()),
                });
            }
        }
        // Amazon lists in this order; not every server does.
        listed.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(listed)
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let request = self.client.delete_object().bucket(&self.bucket).key(self.path(key.as_str()));
        match request.send().await {
            Ok(_) => Ok(()),
            Err(e) if answer(&e) == Answer::Missing => Ok(()),
            Err(e) => Err(error(self.doing("delete", key.as_str()), e)),
        }
    }

    async fn whole_files_only(&self) -> Result<Option<&'static str>> {
        self.why_not_in_parts().await
    }

    async fn give_up_unfinished(&self, before: DateTime<Utc>) -> Result<u64> {
        self.give_up_parts(before).await
    }
}
