//! The network of a run. Between every two that talk stands a relay of ours, which can hold, delay and reset what passes. Where
//! this user may make network namespaces, every machine has its own, with a link to one bridge that can be pulled; relays and
//! the bucket stand at the bridge. Elsewhere everybody is 127.0.0.1, and there are the relays alone.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What a relay does with what passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    #[default]
    Open,
    /// Nothing passes, nothing is refused; what was sent arrives later.
    Cut,
    /// Everything arrives so much later.
    Late(Duration),
}

#[derive(Clone, Copy, Debug, Default)]
struct Orders {
    state: State,
    /// Every connection that was made before this was raised is reset.
    resets: u64,
}

pub struct Relay {
    pub name: String,
    pub address: SocketAddr,
    orders: watch::Sender<Orders>,
}

impl Relay {
    async fn start(name: String, listen: IpAddr, to: SocketAddr) -> Relay {
        let listener = TcpListener::bind((listen, 0)).await.unwrap_or_else(|e| panic!("listen: {e}"));
        let address = listener.local_addr().expect("an address");
        let (orders, heard) = watch::channel(Orders::default());
        tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                tokio::spawn(serve(client, to, heard.clone()));
            }
        });
        Relay { name, address, orders }
    }

    pub fn set(&self, state: State) {
        self.orders.send_modify(|orders| orders.state = state);
    }

    pub fn reset(&self) {
        self.orders.send_modify(|orders| orders.resets += 1);
    }
}

async fn serve(client: TcpStream, to: SocketAddr, mut orders: watch::Receiver<Orders>) {
    let resets = orders.borrow_and_update().resets;
    // A connection is made only where something passes.
    if !passes(&mut orders.clone(), resets).await {
        return reset(&client);
    }
    let Ok(server) = TcpStream::connect(to).await else { return reset(&client) };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    for end in [&client, &server] {
        // A reset, unless both sides have ended in peace.
        let _ = set_socket_linger(end, Some(Duration::ZERO));
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let there = pump(from_client, to_server, orders.clone(), resets);
    let back = pump(from_server, to_client, orders.clone(), resets);
    let reset = async { orders.wait_for(|orders| orders.resets != resets).await.is_ok() };
    tokio::select! {
        (there, back) = async { tokio::join!(there, back) } => {
            if let (Some(there), Some(back)) = (there, back) {
                for end in [there.as_ref(), back.as_ref()] {
                    let _ = set_socket_linger(end, None);
                }
            }
        }
        _ = reset => {}
    }
}

fn reset(stream: &TcpStream) {
    let _ = set_socket_linger(stream, Some(Duration::ZERO));
}

/// Waits until something passes. Not so once the connection is to be reset.
async fn passes(orders: &mut watch::Receiver<Orders>, resets: u64) -> bool {
    let open = orders.wait_for(|orders| orders.state != State::Cut || orders.resets != resets).await;
    open.is_ok_and(|orders| orders.resets == resets)
}

/// The sending half, if the other side has ended in peace.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut orders: watch::Receiver<Orders>,
    resets: u64,
) -> Option<OwnedWriteHalf> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut buffer).await.ok()?;
        let state = orders.borrow().state;
        if let State::Late(by) = state {
            tokio::time::sleep(by).await;
        }
        if !passes(&mut orders, resets).await {
            return None;
        }
        if read == 0 {
            to.shutdown().await.ok()?;
            return Some(to);
        }
        to.write_all(&buffer[..read]).await.ok()?;
    }
}

/// Network namespaces of one run; they go with it.
struct Spaces {
    prefix: String,
    net: u8,
    nodes: Mutex<BTreeMap<String, IpAddr>>,
}

pub struct Net {
    spaces: Option<Spaces>,
    relays: Mutex<BTreeMap<String, Arc<Relay>>>,
}

/// Why there are no namespaces.
pub type Why = String;

impl Net {
    /// Relays alone.
    pub fn plain() -> Net {
        Net { spaces: None, relays: Mutex::default() }
    }

    /// With namespaces, named after this process.
    pub fn with_namespaces() -> Result<Net, Why> {
        static COUNT: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let id = std::process::id();
        let prefix = format!("tc{id}-{count}");
        // Another run on this machine has other addresses, most likely; it is tried otherwise.
        let net = u8::try_from((id.wrapping_mul(7) + u32::from(count)) % 250).unwrap_or(0) + 1;
        let spaces = Spaces { prefix, net, nodes: Mutex::default() };
        spaces.make_bridge()?;
        Ok(Net { spaces: Some(spaces), relays: Mutex::default() })
    }

    pub fn has_namespaces(&self) -> bool {
        self.spaces.is_some()
    }

    /// Where relays, the bucket and this process are.
    pub fn here(&self) -> IpAddr {
        match &self.spaces {
            Some(spaces) => spaces.ip(1),
            None => Ipv4Addr::LOCALHOST.into(),
        }
    }

    /// A machine of the network, made if it is not there; where it is.
    pub fn node(&self, name: &str) -> IpAddr {
        match &self.spaces {
            Some(spaces) => spaces.node(name),
            None => Ipv4Addr::LOCALHOST.into(),
        }
    }

    /// A program on that machine.
    pub fn command(&self, node: &str, program: &std::path::Path) -> Command {
        match &self.spaces {
            Some(spaces) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", &spaces.name(node)]).arg(program);
                command
            }
            None => Command::new(program),
        }
    }

    /// Pulls the cable of a machine, or puts it back.
    pub fn plug(&self, node: &str, is_in: bool) {
        if let Some(spaces) = &self.spaces {
            let state = if is_in { "up" } else { "down" };
            if let Err(why) = ip(&["-n", &spaces.name(node), "link", "set", "eth0", state]) {
                panic!("{why}");
            }
        }
    }

    pub fn nodes(&self) -> Vec<String> {
        let Some(spaces) = &self.spaces else { return Vec::new() };
        lock(&spaces.nodes).keys().cloned().collect()
    }

    /// The relay of this name, made if it is not there.
    pub async fn relay(&self, name: &str, to: SocketAddr) -> Arc<Relay> {
        if let Some(relay) = lock(&self.relays).get(name) {
            return relay.clone();
        }
        let relay = Arc::new(Relay::start(name.to_owned(), self.here(), to).await);
        lock(&self.relays).insert(name.to_owned(), relay.clone());
        relay
    }

    pub fn relays(&self) -> Vec<Arc<Relay>> {
        lock(&self.relays).values().cloned().collect()
    }

    /// Everything passes again.
    pub fn calm(&self) {
        for relay in self.relays() {
            relay.set(State::Open);
        }
        for node in self.nodes() {
            self.plug(&node, true);
        }
    }
}

impl Spaces {
    fn ip(&self, last: u8) -> IpAddr {
        Ipv4Addr::new(10, 77, self.net, last).into()
    }

    fn name(&self, node: &str) -> String {
        format!("{}-{node}", self.prefix)
    }

    /// The names of interfaces are short.
    fn link(&self, node: &str) -> String {
        let digest = tablecast::hex::hex(&<sha2::Sha256 as sha2::Digest>::digest(self.name(node)));
        format!("tc{}", &digest[..10])
    }

    /// A bridge in a namespace of its own, with one link to this process.
    fn make_bridge(&self) -> Result<(), Why> {
        let (name, link) = (self.name("bridge"), self.link("here"));
        let address = format!("{}/24", self.ip(1));
        let steps: &[&[&str]] = &[
            &["netns", "add", &name],
            &["-n", &name, "link", "add", "br0", "type", "bridge"],
            &["-n", &name, "link", "set", "br0", "up"],
            &["link", "add", &link, "type", "veth", "peer", "name", "here", "netns", &name],
            &["-n", &name, "link", "set", "here", "master", "br0", "up"],
            &["address", "add", &address, "dev", &link],
            &["link", "set", &link, "up"],
        ];
        steps.iter().try_for_each(|step| ip(step))
    }

    fn node(&self, node: &str) -> IpAddr {
        let mut nodes = lock(&self.nodes);
        if let Some(there) = nodes.get(node) {
            return *there;
        }
        let there = self.ip(u8::try_from(nodes.len()).expect("few machines") + 10);
        let (name, link, bridge) = (self.name(node), self.link(node), self.name("bridge"));
        let address = format!("{there}/24");
        let steps: &[&[&str]] = &[
            &["netns", "add", &name],
            &["-n", &name, "link", "set", "lo", "up"],
            &["-n", &name, "link", "add", "eth0", "type", "veth", "peer", "name", &link, "netns", &bridge],
            &["-n", &bridge, "link", "set", &link, "master", "br0", "up"],
            &["-n", &name, "address", "add", &address, "dev", "eth0"],
            &["-n", &name, "link", "set", "eth0", "up"],
        ];
        for step in steps {
            ip(step).unwrap_or_else(|why| panic!("{why}"));
        }
        nodes.insert(node.to_owned(), there);
        there
    }
}

impl Drop for Spaces {
    fn drop(&mut self) {
        let nodes: Vec<String> = lock(&self.nodes).keys().cloned().collect();
        for node in nodes.iter().map(String::as_str).chain(["bridge"]) {
            let _ = ip(&["netns", "delete", &self.name(node)]);
        }
        let _ = ip(&["link", "delete", &self.link("here")]);
    }
}

fn ip(args: &[&str]) -> Result<(), Why> {
    let output = Command::new("ip").args(args).stdin(Stdio::null()).output();
    match output {
        Err(error) => Err(format!("ip {}: {error}", args.join(" "))),
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            Err(format!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
