//! `tablecast inspect`: an entry, an object of the bucket or a file on this disk, as people can read it.
//! A segment is walked event by event, so that a giant one needs no more memory than a small one.

mod chunk;
mod document;
mod names;
mod rows;
mod segment;
mod value;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::fetch::{self, Promise};
use super::look;
use super::output::Output;
use super::run::Run;
use crate::error::{Error, Kind, Result};
use crate::stream::unpack::unpack;
use crate::stream::{Body, Codec, Entry, Index, Key, Seq};

/// Print a segment, a dump, an entry or another object as people can read it
#[derive(clap::Args, Clone)]
#[command(after_help = "\
Examples:
  tablecast inspect 4100                    the entry 4100 and its segment, checked against the index
  tablecast inspect 4100 --rows             with every row change
  tablecast inspect index.json              or a manifest, a request, a region's report
  tablecast inspect dumps/…/000000-00000000.sql.gz --rows
  tablecast inspect ./0000…binlog.gz        a file here: needs no config file")]
pub struct Args {
    /// An entry's number, a key in the bucket, or a file
    #[arg(value_name = "KEY|FILE|SEQ")]
    target: String,

    /// Every row change, decoded
    #[arg(long)]
    rows: bool,
}

impl Args {
    /// A file needs neither a config nor a store.
    pub fn file(&self) -> Option<PathBuf> {
        let path = Path::new(&self.target);
        let is_number = self.target.bytes().all(|byte| byte.is_ascii_digit());
        (!is_number && path.is_file()).then(|| path.to_owned())
    }

    pub fn run_on_file(
        &self,
        path: &Path,
        globals: &super::globals::Globals,
        look: look::Look,
    ) -> Result<Output> {
        let file = File::open(path).map_err(|cause| read_failed(path, cause))?;
        let print = segment::Print { look, json: globals.json, quiet: globals.quiet, rows: self.rows };
        open(&path.display().to_string(), file, &[], &print)
    }

    pub async fn run(&self, run: &Run) -> Result<Output> {
        run.must_be_alone("inspect")?;
        let store = run.store().await?;
        let spool = &run.config.files.spool_dir;
        let print = segment::Print {
            look: run.look,
            json: run.globals.json,
            quiet: run.globals.quiet,
            rows: self.rows,
        };
        let (name, file, entry) = if let Ok(seq) = self.target.parse::<u64>() {
            let mut index = Index::new(run.head(&*store).await?);
            let entry = index.entry(Seq(seq), &*store).await?;
            let (name, file) = match &entry.body {
                // It is all that there is.
                Body::Tables(change) => {
                    return Ok(document::tables(&entry, change, &about(&entry), run.look));
                }
                Body::Check(check) => {
                    if let Some(names) = &check.names {
                        Promise::of_names(names).download(&*store, spool).await?;
                    }
                    return Ok(document::check(&entry, check, &about(&entry), run.look));
                }
                Body::Segment(segment) => {
                    (segment.key.to_string(), Promise::of_segment(segment).download(&*store, spool).await?)
                }
                Body::Dump(dump) => {
                    (dump.manifest.to_string(), Promise::of_manifest(dump).download(&*store, spool).await?)
                }
            };
            (name, file, Some(entry))
        } else {
            let key = Key::new(&self.target).map_err(|error| error.hint(HINT))?;
            let file = fetch::object(&*store, &key, spool).await.map_err(|error| match error.kind() {
                Kind::NotFound => error.hint(HINT),
                _ => error,
            })?;
            (self.target.clone(), file, None)
        };
        let walk = move || {
            let about = entry.as_ref().map(about).unwrap_or_default();
            let file = file.reopen().map_err(|cause| read_failed(file.path(), cause))?;
            open(&name, file, &about, &print)
        };
        // Walking does not yield: on a thread of its own, a signal still ends the process.
        tokio::task::spawn_blocking(walk).await.map_err(|cause| {
            Error::new(Kind::Failed, "inspect ended by a panic: this is a bug").caused_by(cause)
        })?
    }
}

const HINT: &str =
    "name an entry's number (`tablecast stream ls`), a key below the prefix (segments/…), or a file";

fn read_failed(path: &Path, cause: std::io::Error) -> Error {
    Error::new(Kind::Failed, format!("read {}", path.display())).caused_by(cause)
}

type Fact = (&'static str, String);

fn about(entry: &Entry) -> Vec<Fact> {
    let mut facts = vec![
        ("entry", format!("{}, made {}", entry.seq.0, look::moment(entry.created_at))),
        ("chain", entry.chain.to_string()),
    ];
    if entry.tables().is_none() && entry.check().is_none_or(|check| check.names.is_some()) {
        facts.push(("checked", "size and md5 are those in the index".to_owned()));
    }
    if let Some(dump) = entry.dump() {
        let kinds = [(dump.full, "full"), (dump.mandatory, "mandatory"), (dump.resync, "resync")];
        let kinds: Vec<_> = kinds.into_iter().filter_map(|(is, name)| is.then_some(name)).collect();
        facts.push(("at", format!("transaction {}", look::number(dump.at.0))));
        facts.push(("kind", if kinds.is_empty() { "some tables".to_owned() } else { kinds.join(", ") }));
    }
    facts
}

/// Looks at the first bytes to see what it is.
fn open(name: &str, mut file: File, about: &[Fact], print: &segment::Print) -> Result<Output> {
    let failed = |cause| read_failed(Path::new(name), cause);
    let mut magic = Vec::new();
    (&mut file).take(4).read_to_end(&mut magic).map_err(failed)?;
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let input = BufReader::with_capacity(128 << 10, file);
    match magic.as_slice() {
        [0x1f, 0x8b, ..] => packed(name, size, about, print, unpack(Codec::Gzip, input)?),
        [0x28, 0xb5, 0x2f, 0xfd] => packed(name, size, about, print, unpack(Codec::Zstd, input)?),
        [0xfe, b'b', b'i', b'n'] => print.segment(name, size, about, input),
        [b'-', b'-', b' ', ..] => print.chunk(name, size, about, input),
        [b'{', ..] if size <= crate::store::DOCUMENT_LIMIT => {
            let mut bytes = Vec::new();
            let mut input = input;
            input.read_to_end(&mut bytes).map_err(failed)?;
            document::print(name, &bytes, about, print)
        }
        _ => Err(Error::new(Kind::Corrupt, format!("inspect {name}: its first bytes are {magic:02x?}"))
            .hint("a segment is a binlog file and a chunk is SQL, gzip'd or zstd'd, the rows of a check are gzip'd lines; all else is JSON")),
    }
}

/// A segment, a chunk or the rows of a check, by what is in it.
fn packed(name: &str, size: u64, about: &[Fact], print: &segment::Print, plain: impl Read) -> Result<Output> {
    let mut plain = BufReader::with_capacity(128 << 10, plain);
    let begin = plain
        .fill_buf()
        .map_err(|cause| Error::new(Kind::Corrupt, format!("inspect {name}: decompress")).caused_by(cause))?;
    match begin.first() {
        Some(b'-') => print.chunk(name, size, about, plain),
        Some(b'"') => print.names(name, size, about, plain),
        _ => print.segment(name, size, about, plain),
    }
}
