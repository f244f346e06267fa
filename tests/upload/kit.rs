//! A stream of one test: its config, its bucket (a directory), and what is found in there.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use tablecast::Result;
use tablecast::binlog::gtid::{Gtid, GtidSet, Tsid};
use tablecast::binlog::name::TableSet;
use tablecast::binlog::segment::{Item, SegmentReader};
use tablecast::clock::SystemClock;
use tablecast::config::{self, Config};
use tablecast::source::{init, upload};
use tablecast::store::{self, Store};
use tablecast::stream::entry::{Body, SegmentEntry};
use tablecast::stream::{Codec, Entry, Head, Index, Md5, Seq};
use tempfile::TempDir;

use crate::support::granted::{self, Access, USER};
use crate::support::mysql::Server;
use crate::support::s3::S3Server;
use crate::support::segment_of;

pub struct Stream {
    folder: TempDir,
    access: Access,
    pub config: Config,
    pub store: Arc<dyn Store>,
}

impl Stream {
    /// A stream of these tables of `server`, made and empty. `more`: further lines of its config.
    pub async fn make(server: &Server, tables: &[&str], more: &str) -> Stream {
        Self::make_by(Access::of(tables), server, tables, more).await
    }

    pub async fn make_by(access: Access, server: &Server, tables: &[&str], more: &str) -> Stream {
        let stream = Stream::plan_by(access, server, more).await;
        stream.init(tables).await.expect("make the stream");
        stream
    }

    /// A config whose accounts have what is granted for these tables, which must be there, and nothing in the bucket.
    pub async fn plan(server: &Server, tables: &[&str], more: &str) -> Stream {
        Self::plan_by(Access::of(tables), server, more).await
    }

    pub async fn plan_by(access: Access, server: &Server, more: &str) -> Stream {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("bucket")).expect("a bucket");
        let store = format!("file://{}", folder.path().join("bucket").display());
        let text = config_text(server, &store, folder.path().to_str().expect("a path"), more);
        let config = write_config(folder.path(), &text, &access);
        let store = store::open(&config).await.expect("a store");
        Stream { folder, access, config, store }
    }

    /// The same stream, read from another server from now on; the config file is not changed.
    pub fn read_from(&mut self, server: &Server) {
        let beside = self.folder.path().join("beside.toml");
        let text = std::fs::read_to_string(self.folder.path().join(PLAIN)).expect("a config");
        let begin = text.find("[mysql]").expect("a section [mysql]");
        let (before, rest) = text.split_at(begin);
        let port = rest.lines().find(|line| line.starts_with("port = ")).expect("a port");
        let rest = rest.replacen(port, &format!("port = {}", server.port), 1);
        let text = self.access.config(&format!("{before}{rest}"), &beside);
        std::fs::write(&beside, text).expect("write the config");
        self.config.mysql = config::load(&beside).expect("a config").mysql;
    }

    /// What is granted for these tables, too.
    pub fn grant(&self, tables: &[&str]) {
        granted::more(&self.file(), tables);
    }

    /// The same, and so does the built program. `more`: further lines of its config.
    pub fn configure(&mut self, server: &Server, more: &str) {
        let (store, folder) = (self.config.store.to_string(), self.folder.path());
        let text = config_text(server, &store, folder.to_str().expect("a path"), more);
        self.config = write_config(folder, &text, &self.access);
    }

    pub async fn init(&self, tables: &[&str]) -> Result<init::Report> {
        let options = init::Options {
            tables: TableSet::parse(tables).expect("a table set"),
            covered: None,
            dry_run: false,
            lock_wait: Duration::ZERO,
        };
        init::run(&self.config, &*self.store, &SystemClock, &options).await
    }

    pub async fn upload(&self) -> Result<upload::Report> {
        upload::run(&self.config, self.store.clone(), &SystemClock, &once()).await
    }

    pub async fn resync(&self) -> Result<upload::Report> {
        let options = upload::Options { resync: true, ..once() };
        upload::run(&self.config, self.store.clone(), &SystemClock, &options).await
    }

    /// The word of somebody who has made the copy new by hand.
    pub async fn resync_on_trust(&self) -> Result<upload::Report> {
        let options = upload::Options { resync: true, trust_copy: true, ..once() };
        upload::run(&self.config, self.store.clone(), &SystemClock, &options).await
    }

    /// The built program, with this stream's config.
    pub fn program(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tablecast"));
        command.args(args).env("TABLECAST_CONFIG", self.folder.path().join("source.toml"));
        command
    }

    /// Runs the program; `failpoints` as in `TABLECAST_FAILPOINTS`.
    pub fn run(&self, args: &[&str], failpoints: &str) -> Output {
        self.program(args).env("TABLECAST_FAILPOINTS", failpoints).output().expect("run tablecast")
    }

    /// Changes the config file that the program reads; the account stands there as [`USER`].
    pub fn reconfigure(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.folder.path().join(PLAIN)).expect("a config");
        assert!(text.contains(from), "{text}");
        write_config(self.folder.path(), &text.replace(from, to), &self.access);
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("source.toml")
    }

    pub fn spool_dir(&self) -> PathBuf {
        self.config.files.spool_dir.clone()
    }

    pub async fn head(&self) -> Head {
        match store::head::read(&*self.store, None).await.expect("a head") {
            store::head::Read::Head { head, .. } => *head,
            store::head::Read::Unchanged => panic!("unchanged from nothing"),
        }
    }

    /// Puts entries into the head whose segments never were, as a long past of the stream, when it read a server
    /// with this UUID.
    pub async fn pretend(&self, server: &str, count: u64) {
        let Ok(store::head::Read::Head { mut head, etag }) = store::head::read(&*self.store, None).await
        else {
            panic!("no head")
        };
        let server = Tsid::untagged(server.parse().expect("a UUID"));
        for n in 1..=count {
            let mut covered_after = head.covered.clone();
            covered_after.insert_range(&server, n, n);
            let tx = head.last_tx.next();
            let segment = segment_of(&head, tx, covered_after, b"");
            let now = head.created_at;
            head.append(Body::Segment(segment), now).expect("it follows");
        }
        store::head::write(&*self.store, &mut head, Some(&etag)).await.expect("a head");
    }

    /// Every entry, sealed pages included.
    pub async fn entries(&self) -> Vec<Entry> {
        let mut index = Index::new(self.head().await);
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let after = entries.last().map_or(Seq::ZERO, |entry| entry.seq);
            let more = index.entries_after(after, &*self.store).await.expect("entries");
            if more.is_empty() {
                return entries;
            }
            entries.extend(more);
        }
    }

    /// The source GTIDs of everything in the stream, in its order. Whatever is looked at on the way must be
    /// sound: objects as the index says (I1), transactions numbered without a gap (I3), files that the server's
    /// own mysqlbinlog accepts.
    pub async fn shipped(&self) -> Vec<Gtid> {
        let stream = self.head().await.stream;
        let mut all: Vec<Gtid> = Vec::new();
        for entry in self.entries().await {
            let Some(segment) = entry.segment() else { continue };
            let bytes = self.segment(segment).await;
            let mut reader = SegmentReader::new(&bytes[..], Some(stream)).expect("a segment");
            while let Some(item) = reader.next().expect("a sound segment") {
                let Item::Begin(transaction) = item else { continue };
                assert_eq!(transaction.n, all.len() as u64 + 1, "I3: dense");
                all.push(transaction.source_gtid);
            }
            assert_eq!(all.len() as u64, segment.last_tx.0);
            for gtid in &all[segment.first_tx.0 as usize - 1..] {
                assert!(segment.covered_after.contains(gtid) && !segment.covered_before.contains(gtid));
            }
        }
        all
    }

    /// A segment's binlog, checked against its entry.
    pub async fn segment(&self, segment: &SegmentEntry) -> Vec<u8> {
        let file = self.folder.path().join("downloaded");
        self.store.download(&segment.key, &file, segment.size).await.expect("I1: the object is there");
        let packed = std::fs::read(&file).expect("what was downloaded");
        assert_eq!(
            (Md5::of(&packed), packed.len() as u64),
            (segment.md5, segment.size),
            "I1: {}",
            segment.key
        );
        let mut bytes = Vec::new();
        match segment.codec {
            Codec::Gzip => MultiGzDecoder::new(&packed[..]).read_to_end(&mut bytes).expect("gzip"),
            Codec::Zstd => {
                zstd::Decoder::new(&packed[..]).expect("zstd").read_to_end(&mut bytes).expect("zstd")
            }
        };
        assert_eq!(bytes.len() as u64, segment.raw_size);
        bytes
    }

    /// I3: the stream holds exactly the transactions `ours`, each once, and covers what the source executed.
    pub async fn holds_exactly(&self, ours: &GtidSet, executed: &GtidSet) {
        let shipped = self.shipped().await;
        let mut set = GtidSet::new();
        for gtid in &shipped {
            assert!(!set.contains(gtid), "I3: {gtid} is in the stream twice");
            set.insert(gtid);
        }
        assert_eq!(set.difference(ours).to_string(), "", "in the stream, and not of the set");
        assert_eq!(ours.difference(&set).to_string(), "", "of the set, and not in the stream");
        let covered = self.head().await.covered;
        assert_eq!(executed.difference(&covered).to_string(), "", "executed, and not covered");
    }
}

/// A stream in an S3 bucket, made and used by the built program.
pub struct Bucket {
    pub s3: S3Server,
    pub folder: TempDir,
}

impl Bucket {
    pub fn make(server: &Server, table: &str) -> Bucket {
        Self::make_with(server, table, "")
    }

    /// `more`: further lines of its config.
    pub fn make_with(server: &Server, table: &str, more: &str) -> Bucket {
        let (s3, folder) = (S3Server::start(), tempfile::tempdir().expect("a folder"));
        let store = format!("s3://{}/apps", crate::support::s3::BUCKET);
        let more = format!(
            "[s3]\nregion = \"us-east-1\"\nendpoint = \"{}\"\npath_style = true\n{more}",
            s3.endpoint()
        );
        let path = folder.path().to_str().expect("a path").to_owned();
        let text = config_text(server, &store, &path, &more);
        write_config(folder.path(), &text, &Access::of(&[table]));
        let bucket = Bucket { s3, folder };
        bucket.succeeds(&["stream", "init", "--table", table]);
        bucket
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.run_armed(args, "")
    }

    /// `failpoints` as in `TABLECAST_FAILPOINTS`.
    pub fn run_armed(&self, args: &[&str], failpoints: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tablecast"));
        command.args(args).envs(self.s3.env()).env("TABLECAST_FAILPOINTS", failpoints);
        command.env("TABLECAST_CONFIG", self.folder.path().join("source.toml"));
        command.output().expect("run tablecast")
    }

    pub fn succeeds(&self, args: &[&str]) {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

pub fn once() -> upload::Options {
    waiting(Duration::ZERO)
}

/// One run, which waits so long for another to end.
pub fn waiting(lock_wait: Duration) -> upload::Options {
    upload::Options {
        follow: false,
        dry_run: false,
        resync: false,
        trust_copy: false,
        lock_wait,
        stop: Default::default(),
        meters: Default::default(),
        notice: Default::default(),
    }
}

/// The config file as it is with [`USER`] in it.
const PLAIN: &str = "plain";

fn write_config(folder: &std::path::Path, text: &str, access: &Access) -> Config {
    let path = folder.join("source.toml");
    std::fs::write(folder.join(PLAIN), text).expect("write the config");
    std::fs::write(&path, access.config(text, &path)).expect("write the config");
    config::load(&path).expect("a config")
}

fn config_text(server: &Server, store: &str, folder: &str, more: &str) -> String {
    let port = server.port;
    // Each test has a stream name of its own: the lock on a shared server goes by it.
    let name = folder.rsplit('/').next().unwrap_or_default().trim_start_matches('.');
    format!(
        "role = \"source\"\nstream = \"test-{name}\"\nstore = \"{store}\"\n\
         [mysql]\nhost = \"127.0.0.1\"\nport = {port}\nuser = \"{USER}\"\ntls = {{ mode = \"off\" }}\n\
         [files]\ncache_dir = \"{folder}/cache\"\nspool_dir = \"{folder}/spool\"\n{more}\n"
    )
}

/// The transactions of the set are told from the others by their GTIDs' tag.
pub const OURS: &str = "SET gtid_next = 'AUTOMATIC:ours'; ";

/// Those of `executed` that carry the tag.
pub fn ours(executed: &GtidSet) -> GtidSet {
    let mut ours = GtidSet::new();
    for (tsid, intervals) in executed.intervals() {
        if tsid.tag.as_ref().is_some_and(|tag| tag.as_str() == "ours") {
            intervals.iter().for_each(|&(first, last)| ours.insert_range(tsid, first, last));
        }
    }
    ours
}
