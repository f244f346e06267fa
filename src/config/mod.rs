//! The config file: strict TOML, one file per role.
//!
//! Owns what may stand in the file, its defaults, and the message for what may not: file, line, and the key
//! that was probably meant. Nothing here connects to anything; a password is only got when a connection is
//! made. Every failure is [`Kind::Usage`](crate::error::Kind::Usage), exit code 2.

mod document;
mod find;
mod keys;
mod load;
mod mysql;
mod show;
mod template;
#[cfg(test)]
mod tests;
mod units;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::binlog::name::TableSet;
use crate::signing::PublicKey;

pub use document::{Environment, Setting, Value};
pub use find::find;
pub use keys::{KEYS, Key};
pub use load::{WATCH, load, parse};
pub use mysql::{MysqlConfig, Password, Tls, TlsMode};
pub use template::template;
pub use units::{parse_duration, parse_size, show_duration, show_size};

/// One config file, read and checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from.
    pub path: PathBuf,
    pub role: Role,
    /// The stream's name, as people call it; its identity is the UUID in the head.
    pub stream: String,
    pub store: StoreUrl,
    pub s3: S3Config,
    /// Source role: the file with the key that signs the index; none: it is not signed.
    pub sign_key: Option<PathBuf>,
    /// Who may have signed the index; nobody: it need not be signed.
    pub trusted: Vec<PublicKey>,
    /// The source, or the region's server.
    pub mysql: MysqlConfig,
    /// Source role, where the source is a replica: the server that is written to.
    pub primary: Option<MysqlConfig>,
    /// Source role: the region that the source is in, for the messages of guards in others.
    pub source_region: Option<String>,
    pub upload: UploadConfig,
    pub dump: DumpConfig,
    /// Of the source role.
    pub check: CheckConfig,
    /// Present exactly in a region's file.
    pub region: Option<RegionConfig>,
    pub apply: ApplyConfig,
    pub serve: Option<ServeConfig>,
    pub metrics: MetricsConfig,
    pub hooks: HooksConfig,
    pub files: FilesConfig,
    /// What is not wrong but should be mended, like a password file that others may read.
    pub warnings: Vec<String>,
    /// Every key in force, for `config show`.
    pub settings: Vec<Setting>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Source,
    Region,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Source => "source",
            Role::Region => "region",
        })
    }
}

/// Where the stream lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// `prefix` without slashes at its ends; empty: the bucket's root.
    S3 {
        bucket: String,
        prefix: String,
    },
    File(PathBuf),
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreUrl::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            StoreUrl::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            StoreUrl::File(path) => write!(f, "file://{}", path.display()),
        }
    }
}

/// How the bucket is reached. Credentials come from the AWS chain (environment, profile, instance role).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S3Config {
    pub region: Option<String>,
    pub endpoint: Option<String>,
    pub path_style: bool,
    pub sse: Option<String>,
    pub sse_kms_key_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadConfig {
    /// A segment is cut when it holds so many bytes before compression.
    pub segment_bytes: u64,
    /// With `--follow`: how often what has come is shipped.
    pub interval: Duration,
    pub codec: Codec,
    /// gzip 1 to 9, zstd 1 to 19.
    pub level: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpConfig {
    /// Connections that read and write side by side.
    pub connections: usize,
    /// A chunk is cut when it holds so many bytes before compression.
    pub chunk_bytes: u64,
    pub codec: Codec,
    /// gzip 1 to 9, zstd 1 to 19.
    pub level: u32,
}

/// Checks of rows at the source, for the regions to compare theirs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckConfig {
    /// The least time from one to the next; `None`: there are none.
    pub every: Option<Duration>,
    /// How long one reads rows: so long the stream stands still.
    pub slice: Duration,
    /// The most that all of them take of the time, in percent.
    pub share: u32,
    /// Put off while more threads run at the source.
    pub max_threads_running: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    Gzip,
    Zstd,
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Codec::Gzip => "gzip",
            Codec::Zstd => "zstd",
        })
    }
}

#[derive(Clone, Debug)]
pub struct RegionConfig {
    pub name: String,
    /// What this region lets in (I6), whatever the bucket says.
    pub tables: TableSet,
    pub source_url: Option<String>,
    /// Holds the token on its first line; read again for each request.
    pub token_file: Option<PathBuf>,
    /// PEM of the authorities that may have signed the service's certificate; none: the public ones.
    pub source_ca: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyConfig {
    pub workers: usize,
    pub on_conflict: OnConflict,
    pub on_drift: OnDrift,
    pub request_dump: bool,
    /// How often a following run looks at the head while entries come.
    pub poll: Duration,
    pub guard: Guard,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConflict {
    Quarantine,
    Stop,
}

/// What is done with a table whose rows a check finds to differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDrift {
    /// It is told, and nothing else.
    Report,
    /// The table is set aside, and a dump brings it anew.
    Quarantine,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    Triggers,
    Grants,
    Off,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeConfig {
    pub listen: SocketAddr,
    /// Certificate and key, PEM. Without them `listen` is a loopback address, or `allow_plain` is set.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Something in front of the service does TLS: plain HTTP on any address.
    pub allow_plain: bool,
    /// How often the head is looked at while a region waits for news.
    pub watch: Duration,
    pub tokens_file: PathBuf,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricsConfig {
    pub textfile: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HooksConfig {
    pub on_failure: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesConfig {
    /// What makes the next run cheaper: the cached head. May be deleted at any time.
    pub cache_dir: PathBuf,
    /// Segments on their way; temporary files only, unlinked or removed by their run.
    pub spool_dir: PathBuf,
}
