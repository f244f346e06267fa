//! The queue of requests for dumps, as it lies in the bucket. Whoever asks (`serve`, `dump take`) and whoever
//! answers (`upload`) change it from different processes, and two services may run at once; nothing is kept
//! anywhere else.
//!
//! - A request is one object, `requests/<id>.json`, changed by compare-and-swap only.
//! - There is never more than one pending request for the same tables: whoever makes one puts it, whole, into
//!   `requests/newest.json` first, by compare-and-swap against what was there when it looked at the queue, and
//!   only then makes its object. A loser looks again. Whoever finds a newest request without its object (its
//!   maker was killed, or is slow) makes the object in its place.
//! - An Idempotency-Key names one request for ever: asking again is answered with the same one, whatever has
//!   become of it. A request that was answered by another's is remembered there.
//!
//! A request that cannot be read is passed over with a warning: one damaged object must not stop dumps for all.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, TryStreamExt};
use serde_json::json;
use sha2::{Digest, Sha256};
use uuid::Uuid;

pub use super::known::Known;
use super::quiet::Quiet;
use crate::binlog::name::TableName;
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::failpoint;
use crate::hex::hex;
use crate::store::{Etag, Fetched, Store};
use crate::stream::request::{MAX_JOINED, MAX_REGIONS};
use crate::stream::{FORMAT, Head, Key, KeyKind, Request, RequestId, RequestState};

/// Who waits for a dump that an operator takes at the source.
pub const SOURCE: &str = "source";

/// Most pending requests of one region, and most that it makes in an hour: whatever it does, it costs the source no
/// more, and the queue stays short enough to be read.
pub const MAX_PENDING: usize = 100;
pub const MAX_AN_HOUR: usize = 300;

/// How often a race may be lost before it is somebody else's turn to worry.
const ATTEMPTS: u32 = 50;
/// A newest request without an object that is older than this was made, answered and pruned. Nobody is that slow
/// between two writes.
const UNMADE: TimeDelta = TimeDelta::minutes(30);

/// What somebody asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRequest {
    /// By [`RequestId::of_key`] where there is an Idempotency-Key, else random.
    pub id: RequestId,
    /// Whether it may be asked again under this id.
    pub has_key: bool,
    /// The region that waits for it, or [`SOURCE`].
    pub region: String,
    /// Empty exactly if it is about all tables.
    pub tables: BTreeSet<TableName>,
    pub all_tables: bool,
    pub mandatory: bool,
    pub reason: String,
}

impl NewRequest {
    /// A region's request for some tables. Without a key it is unlike any other.
    pub fn of_region(
        stream: Uuid,
        region: &str,
        tables: BTreeSet<TableName>,
        reason: &str,
        key: Option<&str>,
    ) -> Self {
        let id = match key {
            Some(key) => RequestId::of_key(stream, region, key),
            None => RequestId::new(Uuid::new_v4().as_u128()),
        };
        let (has_key, region, reason) = (key.is_some(), region.to_owned(), reason.to_owned());
        Self { id, has_key, region, tables, all_tables: false, mandatory: false, reason }
    }

    /// The same for whoever asks the same: how a repetition is told from another request under the same key.
    pub fn sha256(&self) -> String {
        let asked = json!([self.region, self.tables, self.all_tables, self.mandatory, self.reason]);
        hex(&Sha256::digest(asked.to_string()))
    }

    /// Whether an answer to `pending` is an answer to this, too.
    pub fn is_covered_by(&self, pending: &Request) -> bool {
        let all = pending.all_tables
            || !self.all_tables
                && self.tables.iter().all(|table| pending.tables.binary_search(table).is_ok());
        all && (pending.mandatory || !self.mandatory)
    }

    fn to_request(&self, stream: Uuid, clock: &dyn Clock) -> Request {
        let now = clock.now();
        Request {
            format: FORMAT,
            id: self.id.clone(),
            stream,
            regions: vec![self.region.clone()],
            tables: self.tables.iter().cloned().collect(),
            all_tables: self.all_tables,
            mandatory: self.mandatory,
            reason: self.reason.clone(),
            body_sha256: self.sha256(),
            joined: BTreeMap::new(),
            state: RequestState::Queued,
            attempts: 0,
            not_before: None,
            created_at: now,
            updated_at: now,
            dump: None,
            seq: None,
            at: None,
            rows: 0,
            rows_total: 0,
            bytes: 0,
            eta_seconds: None,
            error: None,
            extra: Default::default(),
        }
    }
}

/// What became of a [`NewRequest`].
#[derive(Clone, Debug, PartialEq)]
pub enum Queued {
    /// It is the last in the queue now.
    Made(Request),
    /// This one was pending, and covers it: the region waits for it now.
    Joined(Request),
    /// It was asked for before, under the same Idempotency-Key.
    Again(Request),
    /// Something else was asked for under the same Idempotency-Key. Nothing was changed.
    OtherBody(Request),
    /// The region waits for [`MAX_PENDING`] others, or has asked for [`MAX_AN_HOUR`] within an hour; this is the
    /// oldest of them. Nothing was changed.
    Full(Request),
}

impl Queued {
    /// The request that answers, whichever way it came about.
    pub fn into_request(self) -> Request {
        match self {
            Self::Made(request)
            | Self::Joined(request)
            | Self::Again(request)
            | Self::OtherBody(request)
            | Self::Full(request) => request,
        }
    }
}

/// A request, and the tag under which it can be changed; none: it is over, and nobody changes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub request: Request,
    pub etag: Option<Etag>,
}

/// One request; `Kind::NotFound` if there is none.
pub async fn read(store: &dyn Store, id: &RequestId) -> Result<(Request, Etag)> {
    match store.get(&Key::request(id), None).await? {
        Fetched::Object { bytes, etag } => Ok((Request::parse(id, &bytes)?, etag)),
        Fetched::Unchanged => {
            Err(Error::new(Kind::Store, format!("read request {id}: unchanged since never")))
        }
    }
}

/// Puts `request` in the place of the one with this tag. `Kind::Conflict`: somebody else changed it meanwhile.
pub async fn write(store: &dyn Store, request: &Request, expected: &Etag) -> Result<Etag> {
    store.swap(&Key::request(&request.id), &request.to_json()?, Some(expected)).await
}

/// How many requests are read side by side.
const READERS: usize = 16;

/// Every request of the stream, the oldest first. Costs one listing, and a read for each that is not over yet or
/// not known.
pub async fn all(store: &dyn Store, stream: Uuid, known: &Known) -> Result<Vec<Found>> {
    let listed = store.list(Key::REQUESTS).await?;
    let there: BTreeSet<RequestId> = listed
        .iter()
        .filter_map(|listed| match listed.key.parse() {
            Ok(KeyKind::Request { id }) => Some(id),
            _ => None,
        })
        .collect();
    let reading = there.iter().cloned().map(|id| find(store, id, known)).collect::<Vec<_>>();
    let read: Vec<Option<Found>> =
        futures::stream::iter(reading).buffer_unordered(READERS).try_collect().await?;
    let mut found: Vec<Found> = read.into_iter().flatten().collect();
    known.retain(&there);
    found.retain(|found| found.request.stream == stream);
    found.sort_by(|a, b| (a.request.created_at, &a.request.id).cmp(&(b.request.created_at, &b.request.id)));
    Ok(found)
}

/// A request that was listed; none: it was pruned since, or cannot be read.
async fn find(store: &dyn Store, id: RequestId, known: &Known) -> Result<Option<Found>> {
    if let Some(request) = known.get(&id) {
        return Ok(Some(Found { request, etag: None }));
    }
    match read(store, &id).await {
        Ok((request, _)) if request.state.is_final() => {
            known.learn(&request);
            Ok(Some(Found { request, etag: None }))
        }
        Ok((request, etag)) => Ok(Some(Found { request, etag: Some(etag) })),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) if is_damaged(&error) => {
            tracing::warn!("{} is passed over: {error}", Key::request(&id));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn is_damaged(error: &Error) -> bool {
    matches!(error.kind(), Kind::Corrupt | Kind::TooNew)
}

/// What to do about a new request, in view of the queue.
#[derive(Debug, PartialEq)]
enum Decision {
    Make,
    Join(Request, Etag),
    Again(Request),
    OtherBody(Request),
    Full(Request),
}

fn decide(queue: &[Found], new: &NewRequest, now: DateTime<Utc>) -> Decision {
    let asked = new.sha256();
    for found in queue {
        let request = &found.request;
        let before = match request.joined.get(&new.id) {
            Some(digest) => Some(digest),
            None => (request.id == new.id).then_some(&request.body_sha256),
        };
        match before {
            Some(before) if *before == asked => {
                let waits = request.state.is_final() || request.regions.contains(&new.region);
                return match &found.etag {
                    // It left, and comes back.
                    Some(etag) if !waits => Decision::Join(request.clone(), etag.clone()),
                    _ => Decision::Again(request.clone()),
                };
            }
            Some(_) => return Decision::OtherBody(request.clone()),
            None => {}
        }
    }
    let covers = |found: &&Found| {
        let request = &found.request;
        let has_room = request.regions.contains(&new.region) || request.regions.len() < MAX_REGIONS;
        !request.state.is_final() && new.is_covered_by(request) && has_room
    };
    if let Some(Found { request, etag: Some(etag) }) = queue.iter().find(covers) {
        return Decision::Join(request.clone(), etag.clone());
    }
    if new.region == SOURCE {
        return Decision::Make;
    }
    let of_region =
        || queue.iter().map(|found| &found.request).filter(|job| job.regions.contains(&new.region));
    let pending = of_region().filter(|job| !job.state.is_final());
    let recent = of_region().filter(|job| now - job.created_at < TimeDelta::hours(1));
    let oldest = pending.clone().next().or_else(|| recent.clone().next());
    match oldest {
        Some(oldest) if pending.count() >= MAX_PENDING || recent.count() >= MAX_AN_HOUR => {
            Decision::Full(oldest.clone())
        }
        _ => Decision::Make,
    }
}

/// Asks for a dump. At most one request for the same tables is pending, whoever asks at the same moment. A table
/// that is not in the set is `Kind::Usage`. An upload of this machine looks at the queue next time.
pub async fn queue(
    store: &dyn Store,
    head: &Head,
    clock: &dyn Clock,
    new: &NewRequest,
    known: &Known,
) -> Result<Queued> {
    check_tables(head, new)?;
    // Also where nobody waits for the answer any more.
    let _over = known.quiet().map(Quiet::over_afterwards);
    take_turn(store, head, clock, new, known).await
}

async fn take_turn(
    store: &dyn Store,
    head: &Head,
    clock: &dyn Clock,
    new: &NewRequest,
    known: &Known,
) -> Result<Queued> {
    for _ in 0..ATTEMPTS {
        let (newest, turn) = newest(store).await?;
        let mut queue = all(store, head.stream, known).await?;
        let unmade = newest.filter(|newest| {
            let is_there = queue.iter().any(|found| found.request.id == newest.id);
            newest.stream == head.stream && !is_there && clock.now() - newest.created_at < UNMADE
        });
        if let Some(unmade) = unmade {
            make(store, &unmade).await?;
            queue = all(store, head.stream, known).await?;
        }
        match decide(&queue, new, clock.now()) {
            Decision::Again(request) => return Ok(Queued::Again(request)),
            Decision::OtherBody(request) => return Ok(Queued::OtherBody(request)),
            Decision::Full(request) => return Ok(Queued::Full(request)),
            Decision::Join(mut request, etag) => {
                if join(&mut request, new, clock) {
                    match write(store, &request, &etag).await {
                        Ok(_) => {}
                        Err(error) if error.is_conflict() => continue,
                        Err(error) => return Err(error),
                    }
                }
                return Ok(Queued::Joined(request));
            }
            Decision::Make => {
                let request = new.to_request(head.stream, clock);
                let bytes = request.to_json()?;
                failpoint::hit("queue.before_turn");
                match store.swap(&Key::newest_request(), &bytes, turn.as_ref()).await {
                    Ok(_) => {}
                    Err(error) if error.is_conflict() => continue,
                    Err(error) => return Err(error),
                }
                failpoint::hit("queue.before_request");
                make(store, &request).await?;
                return Ok(Queued::Made(request));
            }
        }
    }
    Err(Error::new(
        Kind::Conflict,
        format!("queue a request for a dump: others were faster {ATTEMPTS} times"),
    )
    .hint("try again"))
}

fn check_tables(head: &Head, new: &NewRequest) -> Result<()> {
    if new.all_tables != new.tables.is_empty() {
        return Err(Error::new(Kind::Usage, "queue a request for a dump: it names no table")
            .hint("name the tables, or ask for all of them"));
    }
    let set = &head.table_set.tables;
    match new.tables.iter().find(|table| !set.names(table)) {
        Some(table) => Err(Error::new(
            Kind::Usage,
            format!("queue a request for a dump: {table} is not in the table set of stream {}", head.name),
        )
        .hint(format!("the set is {set}"))),
        None => Ok(()),
    }
}

/// Lets the region wait for a pending request; whether that changed it.
fn join(request: &mut Request, new: &NewRequest, clock: &dyn Clock) -> bool {
    let before = (request.regions.len(), request.joined.len());
    if let Err(at) = request.regions.binary_search(&new.region) {
        request.regions.insert(at, new.region.clone());
    }
    if new.has_key && request.id != new.id && request.joined.len() < MAX_JOINED {
        request.joined.insert(new.id.clone(), new.sha256());
    }
    request.updated_at = clock.now().max(request.updated_at);
    before != (request.regions.len(), request.joined.len())
}

/// The request that was queued last, and the tag of `requests/newest.json`.
async fn newest(store: &dyn Store) -> Result<(Option<Request>, Option<Etag>)> {
    match store.get(&Key::newest_request(), None).await {
        Ok(Fetched::Object { bytes, etag }) => match Request::parse_newest(&bytes) {
            Ok(request) => Ok((Some(request), Some(etag))),
            // It is only a turn to take: the next request repairs it.
            Err(error) if is_damaged(&error) => {
                tracing::warn!("{} is passed over: {error}", Key::newest_request());
                Ok((None, Some(etag)))
            }
            Err(error) => Err(error),
        },
        Ok(Fetched::Unchanged) => {
            Err(Error::new(Kind::Store, format!("read {}: unchanged since never", Key::newest_request())))
        }
        Err(error) if error.is_not_found() => Ok((None, None)),
        Err(error) => Err(error),
    }
}

/// Makes the object of a request whose turn it is. That it is there already, perhaps taken further, is as good.
async fn make(store: &dyn Store, request: &Request) -> Result<()> {
    match store.swap(&Key::request(&request.id), &request.to_json()?, None).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_conflict() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Takes a request back. Where other regions wait for it too, only `region` leaves; without a region it is over
/// for all of them. One that is cancelled already stays so. `Kind::Conflict`: it is over in another way.
/// `Kind::NotFound`: there is none, or `region` does not wait for it.
pub async fn cancel(
    store: &dyn Store,
    clock: &dyn Clock,
    id: &RequestId,
    region: Option<&str>,
) -> Result<Request> {
    for _ in 0..ATTEMPTS {
        let (mut request, etag) = read(store, id).await?;
        if region.is_some_and(|region| !request.regions.iter().any(|there| there == region)) {
            return Err(Error::new(
                Kind::NotFound,
                format!("cancel request {id}: this region does not wait for it"),
            ));
        }
        match (request.state, region) {
            (RequestState::Cancelled, _) => return Ok(request),
            (_, Some(region)) if request.regions.len() > 1 && !request.state.is_final() => {
                request.regions.retain(|there| there != region);
                request.updated_at = clock.now().max(request.updated_at);
            }
            // A request that is over in another way refuses.
            _ => request.advance(RequestState::Cancelled, clock.now())?,
        }
        match write(store, &request, &etag).await {
            Ok(_) => return Ok(request),
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::new(Kind::Store, format!("cancel request {id}: it changed {ATTEMPTS} times meanwhile"))
        .hint("try again"))
}
