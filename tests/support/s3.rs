//! An S3 server in the test process, over a real socket: signatures, `Content-MD5` and the conditions of
//! reads and writes are checked as Amazon does it. It counts what it is asked, and can be told to behave like
//! worse servers: ignore conditions in silence, fail, answer nothing after it has done the work.
//!
//! s3s-fs is not used: it checks the conditions apart from the write, `Content-MD5` only after it, and no
//! condition of a GET.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use futures::{StreamExt, stream};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use s3s::auth::SimpleAuth;
use s3s::dto::*;
use s3s::service::S3ServiceBuilder;
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use tablecast::clock::{Clock, SystemClock};
use tablecast::config::S3Config;
use tablecast::stream::Md5;

pub const ACCESS_KEY: &str = "tablecast-tests";
pub const SECRET_KEY: &str = "not-a-secret";
pub const BUCKET: &str = "acme-global";

/// A running server with one empty bucket; it ends with the test process.
#[derive(Clone)]
pub struct S3Server {
    address: SocketAddr,
    bucket: Bucket,
}

/// One request that got past the signature check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// `"GetObject"`, `"HeadObject"`, `"PutObject"`, `"DeleteObject"`, `"ListObjectsV2"`, and of uploads in parts
    /// `"CreateMultipartUpload"`, `"UploadPart"`, `"CompleteMultipartUpload"`, `"AbortMultipartUpload"`,
    /// `"ListMultipartUploads"`.
    pub kind: &'static str,
    pub key: String,
    /// Whether it carried If-Match or If-None-Match.
    pub conditional: bool,
    /// Whether it had `Content-MD5`.
    pub md5: bool,
}

/// What goes wrong with a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This status and code, nothing done.
    Error(u16, S3ErrorCode),
    /// A GET's body ends in the middle, and with it the connection.
    Truncated,
    /// The request is carried out, and the connection closed without an answer.
    NoAnswer,
    /// The body of a PUT arrives damaged.
    Damaged,
    /// None: this request goes well, the next may not.
    Nothing,
}

/// How the server is worse than Amazon's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manners {
    /// If-Match and If-None-Match are accepted and ignored.
    pub ignores_conditions: bool,
    /// ETags are not the MD5 (as with SSE-KMS).
    pub opaque_etags: bool,
    /// Encryption, when asked for, is done and confirmed with this key; else the headers are ignored.
    pub encrypts: Option<&'static str>,
    /// That is confirmed with a PUT, and not when an upload in parts is begun (MinIO).
    pub confirms_puts_only: bool,
    /// A write with a condition is answered with 501.
    pub no_conditional_writes: bool,
    /// If-None-Match on CompleteMultipartUpload is accepted and ignored (moto before #9209).
    pub completes_over: bool,
}

/// What goes wrong by chance: so many of a thousand requests, each drawn from the seed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    pub seed: u64,
    /// Answered with 500, 503 or 429, nothing done.
    pub errors: u32,
    /// Of those that read an object: the body ends in the middle.
    pub truncated: u32,
    /// Of those that write: carried out, and the connection closed without an answer.
    pub unanswered: u32,
    /// Of those that read the head: it is the one before the newest.
    pub stale: u32,
    /// Wait for up to `slow_for` before they are begun.
    pub slow: u32,
    pub slow_for: Duration,
}

/// What has gone wrong by chance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weathered {
    pub errors: u64,
    pub truncated: u64,
    pub unanswered: u64,
    pub stale: u64,
    pub slow: u64,
}

#[derive(Clone, Default)]
struct Bucket(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Object>,
    /// Uploads in parts that nobody has completed, by their ids.
    uploads: BTreeMap<String, Upload>,
    asked: Vec<Asked>,
    faults: VecDeque<(&'static str, Fault)>,
    broken: Option<(&'static str, &'static str)>,
    manners: Manners,
    writes: u64,
    /// The answer to the request in work is to be lost.
    lose_answer: bool,
    /// None: this machine's.
    clock: Option<Arc<dyn Clock>>,
    weather: Option<(Weather, StdRng)>,
    weathered: Weathered,
    /// The head before the newest one.
    former: BTreeMap<String, Object>,
}

#[derive(Clone)]
struct Object {
    bytes: Bytes,
    etag: String,
    modified: std::time::SystemTime,
    sse: Option<(ServerSideEncryption, Option<String>)>,
}

struct Upload {
    key: String,
    begun: std::time::SystemTime,
    parts: BTreeMap<i32, Bytes>,
    sse: Option<(ServerSideEncryption, Option<String>)>,
}

impl S3Server {
    /// Starts a server on a free port of 127.0.0.1, on a thread of its own.
    pub fn start() -> Self {
        Self::start_on(std::net::TcpListener::bind("127.0.0.1:0").expect("a free port"))
    }

    pub fn start_on(listener: std::net::TcpListener) -> Self {
        listener.set_nonblocking(true).expect("a socket that tokio can use");
        let address = listener.local_addr().expect("an address");
        let bucket = Bucket::default();
        let server = Self { address, bucket: bucket.clone() };
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(serve(listener, bucket));
        });
        server
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The `[s3]` section that leads here.
    pub fn config(&self) -> S3Config {
        S3Config {
            region: Some("us-east-1".into()),
            endpoint: Some(self.endpoint()),
            path_style: true,
            ..S3Config::default()
        }
    }

    /// What a process that is to use this server needs in its environment.
    pub fn env(&self) -> [(&'static str, &'static str); 4] {
        [
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("AWS_CONFIG_FILE", "/dev/null"),
        ]
    }

    /// The next requests of this kind go wrong like this, one fault each.
    pub fn fail(&self, kind: &'static str, faults: impl IntoIterator<Item = Fault>) {
        self.bucket.state().faults.extend(faults.into_iter().map(|fault| (kind, fault)));
    }

    /// From now on requests of this kind (empty: all) for keys that hold this text are answered with 503.
    pub fn break_down(&self, kind: &'static str, text: &'static str) {
        self.bucket.state().broken = Some((kind, text));
    }

    pub fn mend(&self) {
        self.bucket.state().broken = None;
    }

    /// From now on it goes by this clock. Requests signed by that or by this machine's are taken.
    pub fn go_by(&self, clock: Arc<dyn Clock>) {
        self.bucket.state().clock = Some(clock);
    }

    /// No more of the faults that were ordered.
    pub fn forget_faults(&self) {
        self.bucket.state().faults.clear();
    }

    /// Whether every fault that was ordered has happened.
    pub fn faults_are_over(&self) -> bool {
        self.bucket.state().faults.is_empty()
    }

    /// From now on this goes wrong by chance; nothing with `Weather::default()`.
    pub fn weather(&self, weather: Weather) {
        let is_calm = Weather { seed: weather.seed, ..Weather::default() } == weather;
        let weather = (!is_calm).then(|| (weather, StdRng::seed_from_u64(weather.seed)));
        self.bucket.state().weather = weather;
    }

    /// What has gone wrong by chance since the last call.
    pub fn weathered(&self) -> Weathered {
        std::mem::take(&mut self.bucket.state().weathered)
    }

    pub fn behave(&self, manners: Manners) {
        self.bucket.state().manners = manners;
    }

    /// What was asked since the last call.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.bucket.state().asked)
    }

    /// The names of all objects in the bucket.
    pub fn keys(&self) -> Vec<String> {
        self.bucket.state().objects.keys().cloned().collect()
    }

    /// The keys of uploads in parts that are neither completed nor given up.
    pub fn unfinished(&self) -> Vec<String> {
        self.bucket.state().uploads.values().map(|upload| upload.key.clone()).collect()
    }

    pub fn object(&self, key: &str) -> Option<Vec<u8>> {
        self.bucket.state().objects.get(key).map(|object| object.bytes.to_vec())
    }

    /// Puts an object there behind everybody's back. What was there before is no version that a stale read gives.
    pub fn put(&self, key: &str, bytes: impl Into<Bytes>) {
        let mut state = self.bucket.state();
        let former = state.former.get(key).cloned();
        state.put(key, bytes.into(), None);
        match former {
            Some(former) => drop(state.former.insert(key.to_owned(), former)),
            None => drop(state.former.remove(key)),
        }
    }

    pub fn remove(&self, key: &str) {
        self.bucket.state().objects.remove(key);
    }
}

async fn serve(listener: std::net::TcpListener, bucket: Bucket) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("the listener");
    let service = {
        let mut builder = S3ServiceBuilder::new(bucket.clone());
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        builder.set_config(Arc::new(bucket.clone()));
        builder.build()
    };
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let (service, bucket) = (service.clone(), bucket.clone());
        let answer = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let (service, bucket) = (service.clone(), bucket.clone());
            async move {
                let pause = bucket.state().pause();
                if let Some(pause) = pause {
                    tokio::time::sleep(pause).await;
                }
                let answer = service.call(request.map(s3s::Body::from)).await.map_err(io::Error::other)?;
                if std::mem::take(&mut bucket.state().lose_answer) {
                    return Err(io::Error::other("the answer is lost"));
                }
                Ok(answer)
            }
        });
        tokio::spawn(async move {
            let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), answer).await;
        });
    }
}

impl Bucket {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic while the state is held")
    }

    /// Notes the request, and the fault that it is to meet.
    fn ask(
        &self,
        kind: &'static str,
        bucket: &str,
        key: &str,
        asked: (bool, bool),
    ) -> S3Result<Option<Fault>> {
        let mut state = self.state();
        state.asked.push(Asked { kind, key: key.to_owned(), conditional: asked.0, md5: asked.1 });
        if state.broken.is_some_and(|(of, text)| kind.starts_with(of) && key.contains(text)) {
            return Err(s3_error!(ServiceUnavailable));
        }
        let at = state.faults.iter().position(|(of, _)| *of == kind);
        let fault = at.and_then(|at| state.faults.remove(at)).map(|(_, fault)| fault);
        let fault = fault.or_else(|| state.chance(kind));
        match fault {
            Some(Fault::Error(status, code)) => {
                let mut error = S3Error::new(code);
                error.set_status_code(hyper::StatusCode::from_u16(status).expect("a status"));
                Err(error)
            }
            _ if bucket != BUCKET => Err(s3_error!(NoSuchBucket)),
            fault => {
                state.lose_answer = matches!(fault, Some(Fault::NoAnswer));
                Ok(fault)
            }
        }
    }
}

impl State {
    /// How long a request waits before it is begun.
    fn pause(&mut self) -> Option<Duration> {
        let (weather, random) = self.weather.as_mut()?;
        if !happens(random, weather.slow) {
            return None;
        }
        self.weathered.slow += 1;
        Some(weather.slow_for.mul_f64(random.random_range(0.0..=1.0)))
    }

    /// What goes wrong with a request by chance.
    fn chance(&mut self, kind: &str) -> Option<Fault> {
        let (weather, random) = self.weather.as_mut()?;
        let errors = [
            (500, S3ErrorCode::InternalError),
            (503, S3ErrorCode::SlowDown),
            (503, S3ErrorCode::ServiceUnavailable),
            (429, S3ErrorCode::SlowDown),
        ];
        if happens(random, weather.errors) {
            self.weathered.errors += 1;
            let (status, code) = errors[random.random_range(0..errors.len())].clone();
            return Some(Fault::Error(status, code));
        }
        if kind == "GetObject" && happens(random, weather.truncated) {
            self.weathered.truncated += 1;
            return Some(Fault::Truncated);
        }
        let writes = ["PutObject", "UploadPart", "CompleteMultipartUpload", "DeleteObject"];
        if writes.contains(&kind) && happens(random, weather.unanswered) {
            self.weathered.unanswered += 1;
            return Some(Fault::NoAnswer);
        }
        None
    }

    /// The head before the newest one, if that is what a reader gets by chance.
    fn stale(&mut self, key: &str) -> Option<Object> {
        let (weather, random) = self.weather.as_mut()?;
        let former = self.former.get(key)?;
        let is_stale = happens(random, weather.stale);
        is_stale.then(|| {
            self.weathered.stale += 1;
            former.clone()
        })
    }

    fn now(&self) -> std::time::SystemTime {
        self.clock.as_ref().map_or_else(|| SystemClock.now(), |clock| clock.now()).into()
    }

    fn put(
        &mut self,
        key: &str,
        bytes: Bytes,
        sse: Option<(ServerSideEncryption, Option<String>)>,
    ) -> String {
        self.writes += 1;
        let etag = if self.manners.opaque_etags {
            format!("opaque-{}", self.writes)
        } else {
            Md5::of(&bytes).to_string()
        };
        let object = Object { bytes, etag: etag.clone(), modified: self.now(), sse };
        let former = self.objects.insert(key.to_owned(), object);
        if let Some(former) = former.filter(|_| key.ends_with("index.json")) {
            self.former.insert(key.to_owned(), former);
        }
        etag
    }

    fn check(
        &self,
        key: &str,
        if_match: Option<ETagCondition>,
        if_none_match: Option<ETagCondition>,
    ) -> S3Result<()> {
        if self.manners.ignores_conditions {
            return Ok(());
        }
        let etag = self.objects.get(key).map(|object| object.etag.as_str());
        if if_match.is_some() && etag.is_none() {
            return Err(s3_error!(NoSuchKey));
        }
        if if_none_match.is_some_and(|condition| fits(&condition, etag))
            || if_match.is_some_and(|condition| !fits(&condition, etag))
        {
            return Err(s3_error!(PreconditionFailed));
        }
        Ok(())
    }

    fn encryption(
        &self,
        asked: Option<ServerSideEncryption>,
    ) -> Option<(ServerSideEncryption, Option<String>)> {
        let arn = |key| format!("arn:aws:kms:us-east-1:1:key/{key}");
        asked.zip(self.manners.encrypts).map(|(with, key)| (with, Some(arn(key))))
    }

    fn upload(&mut self, id: &str) -> S3Result<&mut Upload> {
        self.uploads.get_mut(id).ok_or_else(|| s3_error!(NoSuchUpload))
    }

    fn object(&self, key: &str) -> S3Result<Object> {
        self.objects.get(key).cloned().ok_or_else(|| s3_error!(NoSuchKey))
    }
}

/// A body as it came, and as it was to come.
async fn arrived(
    body: Option<StreamingBlob>,
    md5: Option<String>,
    fault: Option<Fault>,
) -> S3Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut body = body.ok_or_else(|| s3_error!(IncompleteBody))?;
    while let Some(piece) = body.next().await {
        bytes.extend_from_slice(
            &piece.map_err(|e| S3Error::with_message(S3ErrorCode::IncompleteBody, e.to_string()))?,
        );
    }
    if let (Some(Fault::Damaged), Some(byte)) = (fault, bytes.first_mut()) {
        *byte ^= 1;
    }
    if let Some(promised) = md5 {
        let promised = base64::engine::general_purpose::STANDARD.decode(promised);
        if promised.map_err(|e| s3_error!(e, InvalidDigest))? != Md5::of(&bytes).0 {
            return Err(s3_error!(BadDigest));
        }
    }
    Ok(bytes)
}

/// So many times of a thousand.
fn happens(random: &mut StdRng, of_thousand: u32) -> bool {
    of_thousand > 0 && random.random_range(0..1000) < of_thousand
}

fn fits(condition: &ETagCondition, etag: Option<&str>) -> bool {
    match (condition, etag) {
        (ETagCondition::Any, etag) => etag.is_some(),
        (ETagCondition::ETag(wanted), Some(etag)) => wanted.value() == etag,
        (ETagCondition::ETag(_), None) => false,
    }
}

impl s3s::config::S3ConfigProvider for Bucket {
    fn snapshot(&self) -> Arc<s3s::config::S3Config> {
        let mut config = s3s::config::S3Config::default();
        let here = SystemClock.now();
        let ahead = self.state().clock.as_ref().map_or(0, |clock| (clock.now() - here).num_seconds());
        config.presigned_url_max_skew_time_secs += u32::try_from(ahead).unwrap_or(0);
        Arc::new(config)
    }
}

#[async_trait::async_trait]
impl S3 for Bucket {
    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        let conditional = input.if_match.is_some() || input.if_none_match.is_some();
        let fault =
            self.ask("PutObject", &input.bucket, &input.key, (conditional, input.content_md5.is_some()))?;
        let bytes = arrived(input.body, input.content_md5, fault).await?;
        let mut state = self.state();
        if conditional && state.manners.no_conditional_writes {
            return Err(s3_error!(NotImplemented, "A header you provided implies functionality..."));
        }
        state.check(&input.key, input.if_match, input.if_none_match)?;
        let sse = state.encryption(input.server_side_encryption);
        let etag = state.put(&input.key, bytes.into(), sse.clone());
        let (with, key) = sse.map_or((None, None), |(with, key)| (Some(with), key));
        Ok(S3Response::new(PutObjectOutput {
            e_tag: Some(ETag::Strong(etag)),
            server_side_encryption: with,
            ssekms_key_id: key,
            ..Default::default()
        }))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let conditional = input.if_match.is_some() || input.if_none_match.is_some();
        let fault = self.ask("GetObject", &input.bucket, &input.key, (conditional, false))?;
        let object = {
            let mut state = self.state();
            match state.stale(&input.key) {
                Some(former) => former,
                None => state.object(&input.key)?,
            }
        };
        if input.if_none_match.is_some_and(|condition| fits(&condition, Some(&object.etag))) {
            return Err(s3_error!(NotModified));
        }
        let size = object.bytes.len();
        let (with, key) = object.sse.map_or((None, None), |(with, key)| (Some(with), key));
        let body = if matches!(fault, Some(Fault::Truncated)) {
            let half = object.bytes.slice(..size / 2);
            StreamingBlob::wrap(stream::iter([Ok(half), Err(io::Error::other("the body is cut"))]))
        } else {
            StreamingBlob::wrap(stream::iter([Ok::<_, Infallible>(object.bytes)]))
        };
        Ok(S3Response::new(GetObjectOutput {
            body: Some(body),
            content_length: Some(size as i64),
            e_tag: Some(ETag::Strong(object.etag)),
            last_modified: Some(object.modified.into()),
            server_side_encryption: with,
            ssekms_key_id: key,
            ..Default::default()
        }))
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        self.ask("HeadObject", &input.bucket, &input.key, (false, false))?;
        let object = self.state().object(&input.key)?;
        let (with, key) = object.sse.map_or((None, None), |(with, key)| (Some(with), key));
        Ok(S3Response::new(HeadObjectOutput {
            content_length: Some(object.bytes.len() as i64),
            e_tag: Some(ETag::Strong(object.etag)),
            last_modified: Some(object.modified.into()),
            server_side_encryption: with,
            ssekms_key_id: key,
            ..Default::default()
        }))
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = request.input;
        self.ask("DeleteObject", &input.bucket, &input.key, (false, false))?;
        self.state().objects.remove(&input.key);
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = request.input;
        self.ask("CreateMultipartUpload", &input.bucket, &input.key, (false, false))?;
        let mut state = self.state();
        state.writes += 1;
        let id = format!("upload-{}", state.writes);
        let sse = state.encryption(input.server_side_encryption);
        let upload =
            Upload { key: input.key.clone(), begun: state.now(), parts: BTreeMap::new(), sse: sse.clone() };
        state.uploads.insert(id.clone(), upload);
        let told = sse.filter(|_| !state.manners.confirms_puts_only);
        let (with, key) = told.map_or((None, None), |(with, key)| (Some(with), key));
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            server_side_encryption: with,
            ssekms_key_id: key,
            ..Default::default()
        }))
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let input = request.input;
        let fault =
            self.ask("UploadPart", &input.bucket, &input.key, (false, input.content_md5.is_some()))?;
        let bytes = arrived(input.body, input.content_md5, fault).await?;
        let etag = ETag::Strong(Md5::of(&bytes).to_string());
        self.state().upload(&input.upload_id)?.parts.insert(input.part_number, bytes.into());
        Ok(S3Response::new(UploadPartOutput { e_tag: Some(etag), ..Default::default() }))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        let conditional = input.if_match.is_some() || input.if_none_match.is_some();
        self.ask("CompleteMultipartUpload", &input.bucket, &input.key, (conditional, false))?;
        let mut state = self.state();
        if !state.manners.completes_over {
            state.check(&input.key, input.if_match, input.if_none_match)?;
        }
        let upload = state.upload(&input.upload_id)?;
        let mut bytes = Vec::new();
        let wanted = input.multipart_upload.and_then(|wanted| wanted.parts).unwrap_or_default();
        for part in &wanted {
            let there = upload.parts.get(&part.part_number.unwrap_or_default());
            let there = there.ok_or_else(|| s3_error!(InvalidPart))?;
            if part.e_tag.as_ref().map(|etag| etag.value()) != Some(&Md5::of(there).to_string()) {
                return Err(s3_error!(InvalidPart));
            }
            bytes.extend_from_slice(there);
        }
        let sse = upload.sse.clone();
        state.uploads.remove(&input.upload_id);
        state.put(&input.key, bytes.into(), sse);
        // As Amazon's: no MD5 of anything.
        let object = state.objects.get_mut(&input.key).expect("it has just been put");
        object.etag = format!("{}-{}", object.etag, wanted.len());
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(ETag::Strong(object.etag.clone())),
            ..Default::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = request.input;
        self.ask("AbortMultipartUpload", &input.bucket, &input.key, (false, false))?;
        let mut state = self.state();
        state.upload(&input.upload_id)?;
        state.uploads.remove(&input.upload_id);
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    /// Pages of one.
    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = request.input;
        let prefix = input.prefix.unwrap_or_default();
        self.ask("ListMultipartUploads", &input.bucket, &prefix, (false, false))?;
        let after = (input.key_marker.unwrap_or_default(), input.upload_id_marker.unwrap_or_default());
        let state = self.state();
        let mut all: Vec<(String, String, std::time::SystemTime)> = state
            .uploads
            .iter()
            .map(|(id, upload)| (upload.key.clone(), id.clone(), upload.begun))
            .filter(|(key, id, _)| key.starts_with(&prefix) && (key, id) > (&after.0, &after.1))
            .collect();
        all.sort();
        let more = all.len() > 1;
        let first = all.into_iter().next();
        Ok(S3Response::new(ListMultipartUploadsOutput {
            is_truncated: Some(more),
            next_key_marker: first.as_ref().filter(|_| more).map(|(key, ..)| key.clone()),
            next_upload_id_marker: first.as_ref().filter(|_| more).map(|(_, id, _)| id.clone()),
            uploads: Some(
                first
                    .into_iter()
                    .map(|(key, id, begun)| MultipartUpload {
                        key: Some(key),
                        upload_id: Some(id),
                        initiated: Some(begun.into()),
                        ..Default::default()
                    })
                    .collect(),
            ),
            ..Default::default()
        }))
    }

    /// Pages of three, so that every test with more objects reads several.
    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let prefix = input.prefix.unwrap_or_default();
        self.ask("ListObjectsV2", &input.bucket, &prefix, (false, false))?;
        let after = input.continuation_token.unwrap_or_default();
        let state = self.state();
        let mut rest = state.objects.iter().filter(|(key, _)| key.starts_with(&prefix) && **key > after);
        let contents: Vec<_> = rest
            .by_ref()
            .take(3)
            .map(|(key, object)| s3s::dto::Object {
                key: Some(key.clone()),
                size: Some(object.bytes.len() as i64),
                e_tag: Some(ETag::Strong(object.etag.clone())),
                last_modified: Some(object.modified.into()),
                ..Default::default()
            })
            .collect();
        let more = rest.next().is_some();
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: Some(prefix),
            key_count: Some(contents.len() as i32),
            max_keys: Some(3),
            is_truncated: Some(more),
            next_continuation_token: contents.last().filter(|_| more).and_then(|last| last.key.clone()),
            contents: Some(contents),
            ..Default::default()
        }))
    }
}
