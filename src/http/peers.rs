//! How many connections there are, and whose: nobody gets so many that others get none.
//!
//! An address has a share of what is served at once; what it opens beyond waits, and beyond that is closed. So
//! a host that opens connections without an end, or never ends its requests, is in its own way only. A network
//! of IPv6 (/64) counts as one address: whoever has it has all of it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// Connections that are served at once; of one address.
pub const SERVED: usize = 512;
pub const SERVED_PER_PEER: usize = 128;
/// Open connections, waiting ones included; of one address. Fewer where the process may open fewer files.
const OPEN: u64 = 4_096;
const OPEN_PER_PEER: usize = 2_400;
/// How long a connection waits to be served.
const WAIT: Duration = Duration::from_secs(20);
/// How often it is said that somebody has too many.
const WARN_EVERY: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub struct Peers(Arc<Shared>);

struct Shared {
    open: Arc<Semaphore>,
    served: Arc<Semaphore>,
    /// Who waits for news: half of the connections at most.
    idle: Arc<Semaphore>,
    peers: Mutex<HashMap<IpAddr, Peer>>,
    warned: Mutex<Option<Instant>>,
    waiting: AtomicUsize,
}

struct Peer {
    open: usize,
    served: Arc<Semaphore>,
}

/// An open connection of somebody; given back when dropped.
pub struct Open {
    shared: Arc<Shared>,
    peer: IpAddr,
    served: Arc<Semaphore>,
    _room: OwnedSemaphorePermit,
}

/// The right to be served.
pub struct Served {
    _of_peer: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Peers {
    /// Lets this process open as many files as it may.
    pub fn new() -> Peers {
        let limit = getrlimit(Resource::Nofile);
        let wanted = limit.maximum.map_or(OPEN * 2, |most| most.min(OPEN * 2));
        if limit.current.is_some_and(|current| current < wanted) {
            // Fewer files are enough for fewer connections.
            let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
        }
        let files = getrlimit(Resource::Nofile).current.unwrap_or(OPEN * 2);
        // The store's connections and the log are files, too.
        let open = usize::try_from(files.saturating_sub(128).clamp(32, OPEN)).unwrap_or(SERVED);
        Peers(Arc::new(Shared {
            open: Arc::new(Semaphore::new(open)),
            served: Arc::new(Semaphore::new(SERVED)),
            idle: Arc::new(Semaphore::new(open / 2)),
            peers: Mutex::default(),
            warned: Mutex::default(),
            waiting: AtomicUsize::new(0),
        }))
    }

    /// Waits until there is room for one more.
    pub async fn room(&self) -> Option<OwnedSemaphorePermit> {
        self.0.open.clone().acquire_owned().await.ok()
    }

    /// A connection from this address; none: it has too many, this one is to be closed.
    pub fn open(&self, address: IpAddr, room: OwnedSemaphorePermit) -> Option<Open> {
        let peer = network(address);
        let served = {
            let mut peers = self.0.peers();
            let there = peers
                .entry(peer)
                .or_insert_with(|| Peer { open: 0, served: Arc::new(Semaphore::new(SERVED_PER_PEER)) });
            if there.open >= OPEN_PER_PEER {
                drop(peers);
                self.warn(peer, "has too many connections: more are closed");
                return None;
            }
            there.open += 1;
            there.served.clone()
        };
        Some(Open { shared: self.0.clone(), peer, served, _room: room })
    }

    fn warn(&self, peer: IpAddr, what: &str) {
        let mut warned = self.0.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            *warned = Some(Instant::now());
            tracing::warn!("{peer} {what}");
        }
    }

    /// Whether somebody waits: then no connection is kept for later.
    pub fn are_waiting(&self) -> bool {
        self.0.waiting.load(Ordering::Relaxed) > 0
    }
}

impl Default for Peers {
    fn default() -> Self {
        Self::new()
    }
}

impl Open {
    /// Waits for this connection's turn; none: it took too long.
    pub async fn served(&self, peers: &Peers) -> Option<Served> {
        if self.served.available_permits() == 0 {
            peers.warn(self.peer, "has more connections than are served at once: more wait");
        }
        let _waiting = Waiting::begin(self.shared.clone());
        let both = async {
            let of_peer = self.served.clone().acquire_owned().await.ok()?;
            let of_all = self.shared.served.clone().acquire_owned().await.ok()?;
            Some(Served { _of_peer: of_peer, _of_all: of_all })
        };
        tokio::time::timeout(WAIT, both).await.ok().flatten()
    }
}

/// A connection's place among those that are served. Who only waits for news gives it up meanwhile: a thousand regions may
/// wait, and none of them keeps anybody from being served.
pub struct Seat {
    open: Open,
    peers: Peers,
    served: Mutex<Option<Served>>,
    /// The connection is about to end: nobody is to wait on it any longer.
    pub ending: CancellationToken,
}

impl Seat {
    pub fn new(open: Open, peers: Peers) -> Seat {
        Seat { open, peers, served: Mutex::new(None), ending: CancellationToken::new() }
    }

    /// Takes the place, if it is not taken: waits for its turn. False: that took too long.
    pub async fn sit(&self) -> bool {
        if self.place().is_some() {
            return true;
        }
        let served = self.open.served(&self.peers).await;
        let is_served = served.is_some();
        *self.place() = served;
        is_served
    }

    /// Gives the place up until the next request. `None`: too many wait already.
    pub fn wait(&self) -> Option<OwnedSemaphorePermit> {
        let idle = self.peers.0.idle.clone().try_acquire_owned().ok()?;
        self.place().take();
        Some(idle)
    }

    fn place(&self) -> MutexGuard<'_, Option<Served>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut peers = self.shared.peers();
        if let Some(there) = peers.get_mut(&self.peer) {
            there.open -= 1;
            if there.open == 0 {
                peers.remove(&self.peer);
            }
        }
    }
}

/// Counts whoever waits, also when they give up.
struct Waiting(Arc<Shared>);

impl Waiting {
    fn begin(shared: Arc<Shared>) -> Waiting {
        shared.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(shared)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    fn peers(&self) -> MutexGuard<'_, HashMap<IpAddr, Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What counts as one: an address of IPv4, a /64 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_address_cannot_take_what_others_need() {
        let peers = Peers::new();
        let (wild, calm): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let mut held = Vec::new();
        for _ in 0..SERVED_PER_PEER {
            let open = peers.open(wild, peers.room().await.unwrap()).expect("its share");
            held.push((open.served(&peers).await.expect("its share"), open));
        }
        let more = peers.open(wild, peers.room().await.unwrap()).expect("it may wait");
        let waits = tokio::time::timeout(Duration::from_millis(50), more.served(&peers)).await;
        assert!(waits.is_err());
        assert!(!peers.are_waiting(), "who gave up does not wait");
        let other = peers.open(calm, peers.room().await.unwrap()).expect("another address");
        assert!(other.served(&peers).await.is_some());
        drop(held.pop());
        assert!(more.served(&peers).await.is_some());
        drop((held, more, other));
        assert!(peers.0.peers().is_empty(), "nothing is remembered of those who went");
    }

    #[tokio::test]
    async fn who_waits_for_news_takes_no_place_from_others() {
        let peers = Peers::new();
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let mut waiting = Vec::new();
        for _ in 0..SERVED_PER_PEER + 50 {
            let seat =
                Seat::new(peers.open(address, peers.room().await.unwrap()).expect("room"), peers.clone());
            assert!(seat.sit().await && seat.sit().await);
            waiting.push((seat.wait().expect("it may wait"), seat));
        }
        // One of them asks for something else.
        assert!(waiting[0].1.sit().await);
        drop(waiting);
        assert!(peers.0.peers().is_empty());
    }

    #[test]
    fn a_network_of_ipv6_is_one() {
        let of = |text: &str| network(text.parse().expect("an address"));
        assert_eq!(of("2001:db8:1:2::7"), of("2001:db8:1:2:ffff::1"));
        assert_ne!(of("2001:db8:1:2::7"), of("2001:db8:1:3::7"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
