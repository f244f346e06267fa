//! Everything of one run: servers, network, bucket, programs, what is known of the tables, and what has been found.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Pid;
use sha2::{Digest, Sha256};

use super::faults::{self, Fault};
use super::figures::Figures;
use super::log::Log;
use super::net::Net;
use super::options::Options;
use super::programs::{Ended, Machine, OneShot, Program, one_shot};
use super::servers::Server;
use super::tables::{self, Tables};
use crate::support::clock::Clock;
use crate::support::free_port;
use crate::support::granted::{self, USER};
use crate::support::s3::{BUCKET, S3Server};

const TOKEN: &str = "a-token-that-only-a-test-would-use";
/// Longer than any single run takes, whatever happens to it.
const LIMIT: Duration = Duration::from_secs(240);
/// A follower's bound, for a program that is built as people run it: one that leaks comes there.
const MEMORY_KIB: u64 = 64 << 10;

pub struct Region {
    pub name: &'static str,
    pub server: Server,
    pub machine: Arc<Machine>,
    pub apply: Arc<Program>,
    /// Tables that somebody has changed here, on purpose, and that have not been seen to be healed: what is read of them
    /// says nothing.
    pub tainted: Mutex<BTreeSet<String>>,
}

impl Region {
    pub fn taint(&self, table: &str) {
        lock(&self.tainted).insert(table.to_owned());
    }

    pub fn is_tainted(&self, table: &str) -> bool {
        lock(&self.tainted).contains(table)
    }
}

pub struct World {
    pub options: Options,
    pub seed: u64,
    folder: PathBuf,
    pub log: Log,
    pub figures: Figures,
    pub net: Arc<Net>,
    pub s3: S3Server,
    /// The server that is written to, and one that stands by: which of the two, says `primary`.
    pair: [Server; 2],
    primary: AtomicUsize,
    pub processor: Server,
    pub regions: Vec<Region>,
    pub source: Arc<Machine>,
    pub upload: Arc<Program>,
    pub serve: Arc<Program>,
    pub clocks: BTreeMap<String, Clock>,
    pub tables: Tables,
    /// Nobody writes, migrates or disturbs anything while it is held for writing.
    pub quiet: Arc<tokio::sync::RwLock<()>>,
    /// Held for writing by a fault that asserts what comes of it.
    pub alone: tokio::sync::RwLock<()>,
    /// Of the bucket: one at a time.
    pub weather: tokio::sync::Mutex<()>,
    /// The programs of each machine have a small disk of their own.
    pub has_small_disks: bool,
    /// Everything goes well: no program may end.
    pub is_calm: AtomicBool,
    /// Kinds of failure that are to be expected, besides what any fault may bring: how many ask for each.
    expected: Mutex<BTreeMap<&'static str, usize>>,
    pub is_over: AtomicBool,
    /// Nobody starts a program again.
    pub is_ended: AtomicBool,
    violations: Mutex<Vec<String>>,
    serve_port: u16,
}

/// A kind of failure that is to be expected as long as this is there.
pub struct Expected<'a>(&'a World, &'static str);

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        *lock(&self.0.expected).entry(self.1).or_default() -= 1;
    }
}

const REGIONS: [&str; 3] = ["eu", "ap", "us"];

impl World {
    /// Makes everything and starts it. `Err`: the machine does not let us.
    pub async fn new(options: &Options, seed: u64, folder: &Path, net: Net) -> Result<Arc<World>, String> {
        let net = Arc::new(net);
        let log = Log::new(&folder.join("chaos.log"), options.quiet);
        let server = |name: &str, more: &[String]| Server::new(&net, name, more);
        let pair = [server("primary-a", &[]), server("primary-b", &[])];
        let here = net.here();
        let listener = std::net::TcpListener::bind((here, 0)).map_err(|e| format!("listen: {e}"))?;
        let s3_address = listener.local_addr().map_err(|e| format!("listen: {e}"))?;
        let s3 = S3Server::start_on(listener);
        let mut clocks = BTreeMap::new();
        let mut machine = |name: &str| {
            let clock = Clock::of_the_machine();
            clocks.insert(name.to_owned(), clock);
            let node = format!("{name}-run");
            net.node(&node);
            let cache = folder.join(format!("cache-{name}"));
            std::fs::create_dir(&cache).expect("a folder");
            Arc::new(Machine {
                node,
                config: folder.join(format!("{name}.toml")),
                cache,
                name: name.to_owned(),
            })
        };
        let source = machine("source");
        let regions: Vec<Region> = REGIONS
            .into_iter()
            .take(options.regions.into())
            .map(|name| {
                let machine = machine(name);
                let apply =
                    Program::new(&format!("apply-{name}"), &machine, &["apply", "--follow", "--json"]);
                Region { name, server: server(name, &[]), machine, apply, tainted: Mutex::default() }
            })
            .collect();
        let machines = || regions.iter().map(|region| &region.machine).chain([&source]);
        let wants_disks = options.faults().contains(&Fault::DiskFull);
        let has_small_disks = wants_disks && machines().all(|machine| faults::small_disk(machine));
        let my_cnf = format!("--defaults-file={}", folder.join("processor.cnf").display());
        let processor = server("processor", &[my_cnf]);
        let serve_port = if net.has_namespaces() { 8443 } else { free_port() };
        let world = World {
            upload: Program::new("upload", &source, &["upload", "--follow", "--json"]),
            serve: Program::new("serve", &source, &["serve", "--json"]),
            options: options.clone(),
            seed,
            folder: folder.to_owned(),
            log,
            figures: Figures::default(),
            s3,
            pair,
            primary: AtomicUsize::new(0),
            processor,
            regions,
            source,
            clocks,
            tables: Tables::new(),
            quiet: Arc::default(),
            alone: tokio::sync::RwLock::new(()),
            weather: tokio::sync::Mutex::new(()),
            has_small_disks,
            is_calm: AtomicBool::new(true),
            expected: Mutex::default(),
            is_over: AtomicBool::new(false),
            is_ended: AtomicBool::new(false),
            violations: Mutex::default(),
            serve_port,
            net: net.clone(),
        };
        world.relays(s3_address).await;
        world.configure();
        world.set_up().await?;
        let world = Arc::new(world);
        for program in world.programs() {
            program.want();
            tokio::spawn(program.clone().supervise(world.clone()));
        }
        Ok(world)
    }

    async fn relays(&self, s3: SocketAddr) {
        let serve = SocketAddr::new(self.net.node(&self.source.node), self.serve_port);
        let mut relays = vec![
            ("source-s3".to_owned(), s3),
            ("source-processor".to_owned(), self.processor.address()),
            ("to-primary-a".to_owned(), self.pair[0].address()),
            ("to-primary-b".to_owned(), self.pair[1].address()),
            ("between-primary-a".to_owned(), self.pair[0].address()),
            ("between-primary-b".to_owned(), self.pair[1].address()),
        ];
        for region in &self.regions {
            relays.push((format!("{}-s3", region.name), s3));
            relays.push((format!("{}-mysql", region.name), region.server.address()));
            relays.push((format!("{}-serve", region.name), serve));
        }
        for (name, to) in relays {
            self.net.relay(&name, to).await;
        }
    }

    pub fn relay(&self, name: &str) -> SocketAddr {
        let found = self.net.relays().into_iter().find(|relay| relay.name == name);
        found.unwrap_or_else(|| panic!("no relay {name}")).address
    }

    /// Writes every config file as things are now.
    pub fn configure(&self) {
        let store = |machine: &str| {
            format!(
                "stream = \"chaos\"\nstore = \"s3://{BUCKET}/global\"\n\n[s3]\nregion = \"us-east-1\"\n\
                 endpoint = \"http://{}\"\npath_style = true\n",
                self.relay(&format!("{machine}-s3"))
            )
        };
        let mysql = |section: &str, at: SocketAddr| {
            format!(
                "[{section}]\nhost = \"{}\"\nport = {}\nuser = \"{USER}\"\ntls = {{ mode = \"off\" }}\n",
                at.ip(),
                at.port()
            )
        };
        let listen = SocketAddr::new(self.net.node(&self.source.node), self.serve_port);
        // What is changed on purpose, to be found by the harness, must not be found and healed before.
        let checks = match self.options.sabotage {
            true => "",
            false => "[check]\nevery = \"2s\"\nslice = \"50ms\"\nshare = 10\nmax_threads_running = 1000\n",
        };
        let own = format!(
            "[serve]\nlisten = \"{listen}\"\nallow_plain = true\ntokens_file = \"{}\"\n[upload]\n\
             interval = \"250ms\"\nsegment_bytes = \"256KiB\"\n[dump]\nchunk_bytes = \"64KiB\"\n\
             {checks}",
            self.path("tokens.toml").display()
        );
        let source = self.relay("source-processor");
        let primary = self.relay(&format!("to-{}", self.primary().name));
        let text = format!(
            "role = \"source\"\n{}{}{}{own}",
            store("source"),
            mysql("mysql", source),
            mysql("primary", primary)
        );
        self.write("source.toml", &text);
        let mut tokens = String::new();
        for (at, region) in self.regions.iter().enumerate() {
            // What a check finds is brought anew in one, and only told in the other.
            let on_drift = ["quarantine", "report"][at % 2];
            let (name, token) = (region.name, format!("{TOKEN}-{}", region.name));
            let hash = tablecast::hex::hex(&Sha256::digest(&token));
            tokens += &format!(
                "[[token]]\nname = \"{name}\"\nregion = \"{name}\"\nsha256 = \"{hash}\"\n\
                 scopes = [\"read\", \"dump\", \"report\"]\n"
            );
            self.write(&format!("{name}.token"), &token);
            let own = format!(
                "[region]\nname = \"{name}\"\ntables = [\"g.*\", \"h.*\"]\nsource_url = \"http://{}\"\n\
                 token_file = \"{}\"\n[apply]\nguard = \"off\"\non_drift = \"{on_drift}\"\n",
                self.relay(&format!("{name}-serve")),
                self.path(&format!("{name}.token")).display()
            );
            let at = self.relay(&format!("{name}-mysql"));
            let text = format!("role = \"region\"\n{}{}{own}", store(name), mysql("mysql", at));
            self.write(&format!("{name}.toml"), &text);
        }
        self.write("tokens.toml", &tokens);
    }

    async fn set_up(&self) -> Result<(), String> {
        let mine = |what: &str| {
            let what = what.to_owned();
            move |e: mysql_async::Error| format!("{what}: {e}")
        };
        let printed = {
            let args = [
                "processor",
                "config",
                "--table",
                "g.*",
                "--table",
                "h.x0",
                "--table",
                "h.x1",
                "--table",
                "h.x2",
            ];
            let output = self.command(&self.source, &args).output().map_err(|e| e.to_string())?;
            if !output.status.success() {
                return Err(format!("processor config: {}", String::from_utf8_lossy(&output.stderr)));
            }
            output.stdout
        };
        std::fs::write(self.path("processor.cnf"), printed).map_err(|e| e.to_string())?;
        let servers: Vec<&Server> = self.servers();
        let started = std::thread::scope(|scope| {
            let started: Vec<_> = servers.iter().map(|server| scope.spawn(move || server.start())).collect();
            started.into_iter().map(|one| one.join().expect("no panic")).collect::<Vec<_>>()
        });
        started.into_iter().collect::<Result<Vec<()>, String>>()?;
        let [a, b] = &self.pair;
        let mut may: Vec<(&Server, Vec<String>)> = Vec::new();
        // The processor will be a copy of the primary, and have its accounts.
        let there = self.grants(&self.source, &[&["--primary"], &["--primary", "--processor"]])?;
        may.extend([a, b].map(|server| (server, there.clone())));
        may.push((&self.processor, self.grants(&self.source, &[&[], &["--processor"]])?));
        for region in &self.regions {
            may.push((&region.server, self.grants(&region.machine, &[&[]])?));
        }
        for (server, grants) in may {
            let mut statements = vec![
                "SET sql_log_bin = 0",
                "SET @was = @@GLOBAL.super_read_only",
                "SET GLOBAL super_read_only = OFF",
            ];
            if self.net.has_namespaces() {
                // The harness itself, which is not on the server's machine then.
                statements.push("CREATE USER IF NOT EXISTS root@'%'");
                statements.push("GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION");
            }
            statements.extend(grants.iter().map(String::as_str));
            statements.push("SET GLOBAL super_read_only = @was");
            // Over the socket of the machine, where root is known.
            server.as_root(&statements)?;
        }
        b.replicate_from(self.relay("between-primary-a")).await.map_err(mine("primary-b replicates"))?;
        b.sql(&["SET GLOBAL super_read_only = ON"]).await.map_err(mine("primary-b"))?;
        self.processor
            .replicate_from(self.relay("to-primary-a"))
            .await
            .map_err(mine("the processor replicates"))?;
        let made = tables::setup();
        a.sql(&made.iter().map(String::as_str).collect::<Vec<_>>()).await.map_err(mine("make the tables"))?;
        self.caught_up(&self.processor).await?;
        let init = ["stream", "init", "--table", "g.*", "--table", "h.x0"];
        for args in [&init[..], &["dump", "take", "--all-tables"]] {
            self.must(&self.source, args).await?;
        }
        for region in &self.regions {
            self.must(&region.machine, &["bootstrap"]).await?;
        }
        Ok(())
    }

    /// The account of the programs, with what `tablecast grants` prints for each of these.
    fn grants(&self, machine: &Machine, kinds: &[&[&str]]) -> Result<Vec<String>, String> {
        let mut all = vec![format!("CREATE USER IF NOT EXISTS '{USER}'@'%'")];
        for kind in kinds {
            let args = [&["grants", "--table", "g.*", "--table", "h.*"], *kind].concat();
            let output = self.command(machine, &args).output().map_err(|e| e.to_string())?;
            if !output.status.success() {
                return Err(format!("{args:?}: {}", String::from_utf8_lossy(&output.stderr)));
            }
            all.extend(granted::statements(&String::from_utf8_lossy(&output.stdout)));
        }
        Ok(all)
    }

    async fn must(&self, machine: &Machine, args: &[&str]) -> Result<(), String> {
        let ran = self.once(machine, args).await;
        match ran.ended.code {
            Some(0) => Ok(()),
            _ => Err(format!("{args:?}: {}\n{}", ran.ended, ran.stderr)),
        }
    }

    /// Waits until a replica has what the primary has now.
    pub async fn caught_up(&self, replica: &Server) -> Result<(), String> {
        let began = std::time::Instant::now();
        let wanted = self.primary().executed().await.map_err(|e| format!("ask the primary: {e}"))?;
        loop {
            if replica.executed().await.is_ok_and(|executed| wanted.is_subset(&executed)) {
                return Ok(());
            }
            if began.elapsed() > Duration::from_secs(120) {
                let errors = replica.replication_errors().await;
                return Err(format!("{} does not catch up with the primary: {errors:?}", replica.name));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("write a file");
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(self.path(name), private).expect("its mode");
    }

    pub fn primary(&self) -> &Server {
        &self.pair[self.primary.load(Ordering::Acquire)]
    }

    /// The one that is not.
    pub fn standby(&self) -> &Server {
        &self.pair[1 - self.primary.load(Ordering::Acquire)]
    }

    pub fn promote(&self) {
        self.primary.fetch_xor(1, Ordering::AcqRel);
    }

    pub fn servers(&self) -> Vec<&Server> {
        let regions = self.regions.iter().map(|region| &region.server);
        self.pair.iter().chain([&self.processor]).chain(regions).collect()
    }

    pub fn programs(&self) -> Vec<&Arc<Program>> {
        [&self.upload, &self.serve]
            .into_iter()
            .chain(self.regions.iter().map(|region| &region.apply))
            .collect()
    }

    pub fn machines(&self) -> Vec<&Arc<Machine>> {
        [&self.source].into_iter().chain(self.regions.iter().map(|region| &region.machine)).collect()
    }

    pub fn clock(&self, machine: &Machine) -> &Clock {
        &self.clocks[&machine.name]
    }

    /// `tablecast` on a machine, as people run it there.
    pub fn command(&self, machine: &Machine, args: &[&str]) -> Command {
        let mut command = self.net.command(&machine.node, &self.options.program());
        command
            .arg("-c")
            .arg(&machine.config)
            .args(args)
            .current_dir(&self.folder)
            .env("TABLECAST_CACHE_DIR", &machine.cache)
            .env("RUST_BACKTRACE", "1")
            .env("NO_COLOR", "1")
            .envs(self.s3.env())
            .envs(self.clock(machine).env())
            .stdin(Stdio::null());
        command
    }

    /// A single run to its end, with `--json`.
    pub async fn once(&self, machine: &Machine, args: &[&str]) -> OneShot {
        let args = [args, &["--json"]].concat();
        one_shot(self, machine, &args, None, LIMIT).await
    }

    /// The same, killed after this time.
    pub async fn once_killed(&self, machine: &Machine, args: &[&str], after: Duration) -> OneShot {
        let args = [args, &["--json"]].concat();
        one_shot(self, machine, &args, Some(after), LIMIT).await
    }

    /// As long as what this returns is there, runs may end with a failure of this kind.
    pub fn expect(&self, kind: &'static str) -> Expected<'_> {
        *lock(&self.expected).entry(kind).or_default() += 1;
        Expected(self, kind)
    }

    /// Whether a run may have ended like this.
    pub fn judge(&self, name: &str, ended: &Ended, is_service: bool) {
        let is_expected = lock(&self.expected).get(ended.kind()).is_some_and(|n| *n > 0);
        let may = if is_expected {
            true
        } else if self.is_calm.load(Ordering::Acquire) {
            !is_service && ended.code == Some(0)
        } else {
            match (ended.code, ended.kind()) {
                (Some(0), _) => !is_service,
                // What faults of servers, store and network bring.
                (Some(1), "store" | "mysql" | "conflict") => true,
                // What only a full disk brings.
                (Some(1), "failed") => {
                    ended.message().contains("No space left") || ended.message().contains("os error 28")
                }
                // A table in quarantine, a restore that waits; another run at work.
                (Some(3 | 11), _) => true,
                (Some(130 | 143), _) => false,
                _ => false,
            }
        };
        if !may {
            let when = if self.is_calm.load(Ordering::Acquire) { " in a quiet time" } else { "" };
            self.violation(format!("{name} has ended{when} with what nothing explains: {ended}"));
        }
    }

    /// How much memory a process has had.
    pub fn memory(&self, name: &str, pid: Option<Pid>) {
        let Some(pid) = pid else { return };
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap_or_default();
        let value = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB"));
        let Some(kib) = value.and_then(|value| value.trim().parse::<u64>().ok()) else { return };
        let before = self.figures.get("memory (KiB)", name);
        if kib > before + 512 {
            self.log.note(format!("memory: {name} {kib} KiB"));
        }
        self.figures.most("memory (KiB)", name, kib);
        let is_release = self.options.program.is_some();
        if is_release && name != "serve" && kib > MEMORY_KIB && before <= MEMORY_KIB {
            self.violation(format!("{name} has taken {kib} KiB of memory"));
        }
    }

    /// An invariant is broken, or something that must work does not: the run is over.
    pub fn violation(&self, what: impl Into<String>) {
        let what = what.into();
        self.log.say(format!("VIOLATION {what}"));
        lock(&self.violations).push(what);
        self.is_over.store(true, Ordering::Release);
    }

    pub fn violations(&self) -> Vec<String> {
        lock(&self.violations).clone()
    }

    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// One of them, whatever the number.
    pub fn region(&self, at: usize) -> &Region {
        &self.regions[at % self.regions.len()]
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for machine in self.machines() {
            faults::take_away_disk(machine);
        }
    }
}

pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
