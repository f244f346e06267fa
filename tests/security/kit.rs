//! What somebody has who may write to a bucket and holds no key: this program's own code to forge with, and a real S3 server
//! to put things in. And the machine of the region that reads them: its files, its MySQL server and how much memory a run has
//! had are looked at from outside.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use sha2::{Digest, Sha256};
use tablecast::stream::{Body, Chain, Codec, DumpEntry, Head, Manifest, Md5};

use crate::apply::kit::Stream;
use crate::ops::kit::{Ran, at_source, command};
use crate::support::granted;
use crate::support::mysql::Server;
use crate::support::s3::{BUCKET, S3Server};

/// What most runs that meet something hostile may have of memory at any time, in KiB: 64 MiB, the program itself included.
pub const LITTLE: u64 = 64 << 10;

/// A bucket that is not to be trusted, and the machine of a region that reads it.
pub struct Site {
    s3: S3Server,
    /// `own` is the region's; the rest is what nobody has any business with.
    machine: tempfile::TempDir,
}

/// All that nobody may change who writes to the bucket.
#[derive(Debug, PartialEq)]
pub struct Outside {
    server: Vec<String>,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

/// A run, and the most memory that it had at once, in KiB.
pub struct Watched {
    pub ran: Ran,
    pub peak: u64,
}

impl Watched {
    /// It has ended so, and has had no more than this.
    #[track_caller]
    pub fn within(self, most: u64, code: i32, says: &[&str]) -> Ran {
        assert!(self.peak < most, "{} KiB of {most}: {:?}", self.peak, self.ran);
        self.ran.ends(code, says)
    }
}

impl Site {
    pub fn new() -> Site {
        let site = Site { s3: S3Server::start(), machine: tempfile::tempdir().unwrap() };
        for folder in ["own/home", "own/tmp", "etc"] {
            std::fs::create_dir_all(site.path(folder)).unwrap();
        }
        for file in ["secret", "own/secret", "own/home/secret", "etc/passwd"] {
            std::fs::write(site.path(file), "root:x:0:0").unwrap();
        }
        site
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.machine.path().join(name)
    }

    /// Puts everything that lies in the stream's folder into the bucket, and takes out what does not.
    pub fn put(&self, stream: &Stream) {
        let (root, mut there) = (stream.bucket(), BTreeMap::new());
        files(&root, &mut there);
        for key in self.s3.keys() {
            self.s3.remove(&key);
        }
        for (path, bytes) in there {
            let name = path.strip_prefix(&root).unwrap().display().to_string();
            self.s3.put(&format!("{}/{name}", stream.schema), bytes);
        }
    }

    /// An object of any name whatsoever, beside those of the stream.
    pub fn put_object(&self, name: &str, bytes: Vec<u8>) {
        self.s3.put(name, bytes);
    }

    /// The config of a region on this machine, with the S3 server as its store.
    pub fn config(&self, stream: &Stream, region: &Server, tables: &[&str]) -> PathBuf {
        let text = std::fs::read_to_string(stream.region_file(region, granted::USER, tables)).unwrap();
        let line = |line: &str| match line.split_once(" = ").map(|(name, _)| name) {
            Some("store") => format!("store = \"s3://{BUCKET}/{}\"\n", stream.schema),
            Some(name @ ("cache_dir" | "spool_dir")) => {
                format!("{name} = \"{}\"\n", self.path("own").join(name).display())
            }
            _ => format!("{line}\n"),
        };
        let text: String = text.lines().map(line).collect();
        let endpoint = self.s3.endpoint();
        let s3 = format!("[s3]\nregion = \"us-east-1\"\nendpoint = \"{endpoint}\"\npath_style = true\n");
        let path = self.path("own/tablecast.toml");
        std::fs::write(&path, text + &s3).unwrap();
        path
    }

    /// Runs `tablecast` there.
    pub fn run(&self, config: &Path, line: &str) -> Ran {
        self.watch(config, line).ran
    }

    pub fn watch(&self, config: &Path, line: &str) -> Watched {
        let mut command = command(config, &line.split_whitespace().collect::<Vec<_>>());
        command.envs(self.s3.env()).env("HOME", self.path("own/home")).env("TMPDIR", self.path("own/tmp"));
        command.current_dir(self.path("own/home"));
        watch(command)
    }

    pub async fn outside(&self, region: &Server) -> Outside {
        let mut all = BTreeMap::new();
        files(self.machine.path(), &mut all);
        // What is kept and fetched, under names of the program's own.
        all.retain(|path, _| {
            let folder = |name: &str| path.starts_with(self.path("own").join(name));
            !folder("cache_dir") && !folder("spool_dir") && !path.ends_with("tablecast.toml")
        });
        Outside { server: everything(region).await, files: all }
    }
}

/// Runs it, and looks at its high-water mark until it is gone. That never falls: what a bomb takes is seen whenever one looks.
/// A run may be over before anybody could, and has unpacked nothing then.
fn watch(mut command: Command) -> Watched {
    let begun = Instant::now();
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let looking = std::thread::spawn(move || {
        let mut peak = 0;
        loop {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            // Whoever has ended has no memory.
            let Some(line) = line else { return peak };
            peak = line.trim().trim_end_matches(" kB").parse().unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let output = child.wait_with_output().unwrap();
    let ran = Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    let (peak, took) = (looking.join().unwrap(), begun.elapsed());
    assert!(peak > 0 || took < Duration::from_millis(500), "nobody looked for {took:?}: {ran:?}");
    Watched { ran, peak }
}

/// Every file below a folder.
pub fn files(folder: &Path, all: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, all),
            false => drop(all.insert(path.clone(), std::fs::read(&path).unwrap())),
        }
    }
}

/// Everything of a server that nobody may change who has no business there: accounts and what they may, schemas, tables,
/// programs, settings, files, and rows of the schema `victim`.
async fn everything(server: &Server) -> Vec<String> {
    const OWN: &str = "'tablecast', 'performance_schema', 'information_schema', 'sys'";
    let mut all = Vec::new();
    for query in [
        "SELECT CONCAT_WS(' ', user, host, plugin, authentication_string, account_locked) FROM mysql.user ORDER BY 1".to_owned(),
        "SELECT CONCAT_WS(' ', grantee, privilege_type) FROM information_schema.user_privileges ORDER BY 1".to_owned(),
        "SELECT CONCAT_WS(' ', schema_name, default_collation_name) FROM information_schema.schemata WHERE schema_name <> \
         'tablecast' ORDER BY 1"
            .to_owned(),
        format!(
            "SELECT CONCAT_WS(' ', table_schema, table_name, engine, create_options, table_comment) FROM \
             information_schema.tables WHERE table_schema NOT IN ({OWN}) AND table_name NOT LIKE '\\_tablecast\\_%' ORDER BY 1"
        ),
        format!(
            "SELECT CONCAT_WS(' ', table_schema, table_name, column_name, column_type, column_default) FROM \
             information_schema.columns WHERE table_schema NOT IN ({OWN}, 'mysql') AND table_name NOT LIKE \
             '\\_tablecast\\_%' ORDER BY 1"
        ),
        "SELECT CONCAT_WS(' ', routine_schema, routine_name) FROM information_schema.routines WHERE routine_schema <> 'sys' \
         ORDER BY 1"
            .to_owned(),
        "SELECT CONCAT_WS(' ', trigger_schema, trigger_name) FROM information_schema.triggers WHERE trigger_schema <> 'sys' \
         ORDER BY 1"
            .to_owned(),
        "SELECT CONCAT_WS(' ', event_schema, event_name) FROM information_schema.events ORDER BY 1".to_owned(),
        "SELECT CONCAT_WS(' ', variable_name, variable_value) FROM performance_schema.global_variables WHERE variable_name IN \
         ('read_only', 'super_read_only', 'sql_mode', 'local_infile', 'general_log', 'init_connect', 'time_zone', \
         'event_scheduler', 'sql_log_bin') ORDER BY 1"
            .to_owned(),
    ] {
        all.extend(server.rows::<String>(&query).await);
    }
    all.push(format!("{:?}", server.checksum("victim.t").await));
    let folder: String = server.value("SELECT @@datadir").await;
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        names.push(entry.unwrap().file_name().to_string_lossy().into_owned());
    }
    // The server's own logs come and go.
    names.retain(|name| !["binlog", "#", "ib", "undo", "tablecast"].iter().any(|own| name.starts_with(own)));
    names.sort();
    all.extend(names);
    all
}

/// A new region of this stream's, and somebody else's schema beside it.
pub async fn new_region(schema: &str) -> Server {
    let region = Server::start(&[]);
    region.sql(&format!("CREATE DATABASE {schema}")).await;
    make_victim(&region).await;
    region
}

/// A schema of somebody else's, with rows.
pub async fn make_victim(region: &Server) {
    let own = "CREATE TABLE victim.t (id INT PRIMARY KEY, s TEXT); INSERT INTO victim.t VALUES (1, 'x')";
    region.sql(&format!("CREATE DATABASE victim; {own}")).await;
}

/// The region forgets what was tried: no restore waits for another try.
pub async fn anew(region: &Server, schema: &str) {
    region
        .sql(&format!("DROP DATABASE IF EXISTS tablecast; DROP DATABASE {schema}; CREATE DATABASE {schema}"))
        .await;
}

/// A document's bytes up to its seal, with a seal that fits.
pub fn sealed(mut text: Vec<u8>) -> Vec<u8> {
    let seal: String = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
    text.extend(format!("\"sha256\":\"{seal}\"}}\n").into_bytes());
    text
}

/// A document whose members were changed as JSON.
pub fn changed(document: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(document).unwrap();
    value.as_object_mut().unwrap().remove("sha256");
    change(&mut value);
    let text = value.to_string();
    sealed(format!("{},\n", &text[..text.len() - 1]).into_bytes())
}

/// The text that the chain is made over: members in the order of their names.
fn canonical(value: &Value) -> String {
    let list = |items: Vec<String>| items.join(",");
    match value {
        Value::Array(items) => format!("[{}]", list(items.iter().map(canonical).collect())),
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| name.as_bytes());
            let member = |(name, value): (&String, &Value)| {
                format!("{}:{}", Value::from(name.as_str()), canonical(value))
            };
            format!("{{{}}}", list(members.into_iter().map(member).collect()))
        }
        plain => plain.to_string(),
    }
}

/// An index with one more entry, whatever that says: number, chain, tip and seal are as they should be.
pub fn with_entry(head: &Head, mut entry: Value) -> Vec<u8> {
    let seq = head.last_seq.0 + 1;
    let members = entry.as_object_mut().unwrap();
    members.remove("chain");
    members.entry("seq").or_insert(seq.into());
    let next = Sha256::new().chain_update(head.tip.0).chain_update(canonical(&entry)).finalize();
    let chain = Chain(next.into());
    entry["chain"] = chain.to_string().into();
    changed(&head.to_json().unwrap(), |index| {
        index["tip"] = chain.to_string().into();
        index["last_seq"] = seq.into();
        for (of_head, of_entry) in [("last_tx", "last_tx"), ("covered", "covered_after")] {
            if let Some(value) = entry.get(of_entry) {
                index[of_head] = value.clone();
            }
        }
        index["entries"].as_array_mut().unwrap().push(entry);
    })
}

/// A stream with one full dump of its table `apps`, whose index, manifest and rows a forger writes anew.
pub struct Dumped {
    pub stream: Stream,
    pub head: Head,
    pub dump: DumpEntry,
    pub manifest: Manifest,
    /// The only chunk, decompressed.
    pub rows: Vec<u8>,
}

impl Dumped {
    pub async fn of(schema: &'static str) -> Dumped {
        let apps = "CREATE TABLE @.apps (id INT PRIMARY KEY, name VARCHAR(80)) COLLATE utf8mb4_0900_ai_ci; \
                    INSERT INTO @.apps VALUES (1, 'one'), (2, 'two')";
        let stream = Stream::of_set(schema, apps, &["@.apps"]).await;
        at_source(&stream, &["dump", "take", "--all-tables"]).ends(0, &[]);
        let head = Head::parse(&std::fs::read(stream.bucket().join("index.json")).unwrap()).unwrap();
        let dump = head.full_dump().unwrap().dump.clone();
        let read = |key: &str| std::fs::read(stream.bucket().join(key)).unwrap();
        let manifest = Manifest::parse(&dump.id, &read(dump.manifest.as_str())).unwrap();
        let chunk = &manifest.tables[0].chunks[0];
        let packed = read(chunk.key.as_str());
        let mut rows = Vec::new();
        match chunk.codec {
            Codec::Zstd => rows = zstd::decode_all(&*packed).unwrap(),
            Codec::Gzip => {
                std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(&*packed), &mut rows)
                    .map(drop)
                    .unwrap()
            }
        }
        Dumped { stream, head, dump, manifest, rows }
    }

    /// Puts an index there that vouches for this manifest.
    pub fn publish(&self, manifest: &Manifest) {
        self.publish_bytes(&manifest.to_json().unwrap());
    }

    /// The same for any bytes in the manifest's place.
    pub fn publish_bytes(&self, manifest: &[u8]) {
        let bucket = self.stream.bucket();
        std::fs::write(bucket.join(self.dump.manifest.as_str()), manifest).unwrap();
        let dump = DumpEntry { size: manifest.len() as u64, md5: Md5::of(manifest), ..self.dump.clone() };
        let old = &self.head;
        let mut head = Head::new(old.stream, old.name.clone(), old.table_set.tables.clone(), old.created_at);
        head.schemas.clone_from(&old.schemas);
        head.definitions.clone_from(&old.definitions);
        (head.covered, head.as_of) = (old.covered.clone(), old.as_of);
        head.append(Body::Dump(dump), old.as_of).unwrap();
        std::fs::write(bucket.join("index.json"), head.to_json().unwrap()).unwrap();
    }

    /// The manifest with this object in the place of its only chunk, said to be so large when it is unpacked, with
    /// statements as long as that at most.
    pub fn with_chunk(&self, object: &[u8], raw_size: u64, statement: u64) -> Manifest {
        let mut manifest = self.manifest.clone();
        let table = &mut manifest.tables[0];
        let chunk = &mut table.chunks[0];
        (chunk.size, chunk.md5) = (object.len() as u64, Md5::of(object));
        (chunk.raw_size, chunk.largest_statement, table.largest_statement) = (raw_size, statement, statement);
        std::fs::write(self.stream.bucket().join(chunk.key.as_str()), object).unwrap();
        manifest
    }

    /// The same with another text in the place of its rows.
    pub fn with_rows(&self, rows: &[u8]) -> Manifest {
        let object = self.pack(rows);
        self.with_chunk(&object, rows.len() as u64, rows.len() as u64)
    }

    /// Compressed as the chunk is.
    pub fn pack(&self, plain: &[u8]) -> Vec<u8> {
        pack(self.manifest.tables[0].chunks[0].codec, plain)
    }
}

/// A whole object of these bytes. Several behind each other are one, too.
pub fn pack(codec: Codec, plain: &[u8]) -> Vec<u8> {
    match codec {
        Codec::Zstd => zstd::encode_all(plain, 1).unwrap(),
        Codec::Gzip => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut out, plain).unwrap();
            out.finish().unwrap()
        }
    }
}

/// `start`, and behind it so many MiB of one byte: hardly more than a thousandth of that to hold.
pub fn bomb(codec: Codec, start: &[u8], byte: u8, mib: usize) -> Vec<u8> {
    const PIECE: usize = 16;
    let piece = pack(codec, &vec![byte; PIECE << 20]);
    assert_eq!(mib % PIECE, 0);
    let mut object = pack(codec, start);
    for _ in 0..mib / PIECE {
        object.extend_from_slice(&piece);
    }
    object
}
