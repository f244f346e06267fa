//! Every key that may stand in a config file: its kind, its default, what it is for. The parser refuses what
//! is not listed here, `config show` prints in this order, and a test holds docs/configuration.md to it.

/// One key, by its whole path: `upload.segment_bytes`.
#[derive(Debug)]
pub struct Key {
    pub path: &'static str,
    /// What is written: text, path, number, flag, list, duration, size, or the words that may be chosen.
    pub kind: &'static str,
    /// As it would be written; empty: nothing is in force without the key.
    pub default: &'static str,
    /// The only role that knows the key's section.
    pub role: Option<super::Role>,
    pub about: &'static str,
    /// Never printed.
    pub secret: bool,
}

use super::Role::{Region, Source};

const fn key(path: &'static str, kind: &'static str, default: &'static str, about: &'static str) -> Key {
    Key { path, kind, default, role: None, about, secret: false }
}

const fn source(path: &'static str, kind: &'static str, default: &'static str, about: &'static str) -> Key {
    Key { path, kind, default, role: Some(Source), about, secret: false }
}

const fn region(path: &'static str, kind: &'static str, default: &'static str, about: &'static str) -> Key {
    Key { path, kind, default, role: Some(Region), about, secret: false }
}

const fn secret(key: Key) -> Key {
    Key { secret: true, ..key }
}

pub const LEVEL: &str = "gzip 1 to 9 (default 6), zstd 1 to 19 (default 1)";
const TLS_DEFAULT: &str = "off for a socket or a loopback address, verify with a ca, else require";

pub static KEYS: &[Key] = &[
    key("role", "source | region", "", "what this file sets up; required"),
    key("stream", "text", "", "the stream's name in logs, locks and metrics; required"),
    key("store", "URL", "", "s3://BUCKET/PREFIX or file:///FOLDER; required"),
    key("s3.region", "text", "", "AWS region; without it the AWS chain decides"),
    key("s3.endpoint", "URL", "", "another server that speaks S3"),
    key("s3.path_style", "flag", "false", "http://host/bucket/key instead of http://bucket.host/key"),
    key(
        "s3.sse",
        "text",
        "",
        "server-side encryption, AES256 or aws:kms; fails closed if the server does not honour it",
    ),
    key("s3.sse_kms_key_id", "text", "", "the KMS key for sse = \"aws:kms\""),
    source(
        "sign.key_file",
        "path",
        "",
        "signs the index with the key in this file, which `tablecast key` makes; must not be readable by others",
    ),
    key(
        "trust.public_keys",
        "list",
        "",
        "the index must be signed by one of these keys (`tablecast key --show` prints them); none: it need not be signed",
    ),
    key("mysql.host", "text", "", "the source, or the region's server; host or socket is required"),
    key("mysql.port", "number", "3306", "TCP port"),
    key("mysql.socket", "path", "", "Unix socket, instead of host"),
    key("mysql.user", "text", "tablecast", "the account; `tablecast grants` prints what it needs"),
    secret(key(
        "mysql.password",
        "text",
        "",
        "best as ${VAR}; a file that holds the password itself must not be readable by others",
    )),
    key("mysql.password_file", "path", "", "a file with the password on its first line"),
    key("mysql.password_command", "text", "", "run by sh -c; prints the password on its first line"),
    key("mysql.tls.mode", "off | require | verify", "", TLS_DEFAULT),
    key("mysql.tls.ca", "path", "", "PEM of the trusted authorities; without it the public ones"),
    source(
        "source.region",
        "text",
        "",
        "where the source is: guards in other regions name it to those they refuse",
    ),
    source(
        "primary.host",
        "text",
        "",
        "where the source is a replica: the server that is written to. For `tables` and `processor`; upload reads there what \
         the source has purged, and asks it after a failover",
    ),
    source("primary.port", "number", "3306", "TCP port"),
    source("primary.socket", "path", "", "Unix socket, instead of host"),
    source("primary.user", "text", "tablecast", "the account"),
    secret(source("primary.password", "text", "", "as in [mysql]")),
    source("primary.password_file", "path", "", "as in [mysql]"),
    source("primary.password_command", "text", "", "as in [mysql]"),
    source("primary.tls.mode", "off | require | verify", "", TLS_DEFAULT),
    source("primary.tls.ca", "path", "", "as in [mysql]"),
    source("upload.segment_bytes", "size", "64MiB", "a segment is cut at so many bytes before compression"),
    source(
        "upload.interval",
        "duration",
        "1s",
        "with --follow: the least time between two segments; what comes after a quiet time is shipped at once",
    ),
    source("upload.codec", "gzip | zstd", "gzip", "compression of segments"),
    source("upload.level", "number", "", LEVEL),
    source("dump.connections", "number", "4", "connections that read and write a dump side by side"),
    source(
        "dump.chunk_bytes",
        "size",
        "8MiB",
        "an object of a dump is cut at so many bytes before compression",
    ),
    source("dump.codec", "gzip | zstd", "zstd", "compression of dumps"),
    source("dump.level", "number", "", LEVEL),
    source(
        "check.every",
        "duration",
        "",
        "the least time between two checks of rows, which regions compare their own with; without it there are none (drift.md)",
    ),
    source(
        "check.slice",
        "duration",
        "200ms",
        "so long a check reads rows, and the stream stands still; at most 5s",
    ),
    source("check.share", "number", "1", "the most that checks take of the time, in percent"),
    source(
        "check.max_threads_running",
        "number",
        "32",
        "a check is put off while more threads run at the source",
    ),
    region("region.name", "text", "", "this region, in reports and requests; required"),
    region(
        "region.tables",
        "list",
        "",
        "the tables that this region lets in, names or patterns like g.*; required",
    ),
    region("region.source_url", "URL", "", "the source's service, for dump requests and reports"),
    region("region.token_file", "path", "", "a file with the token for source_url on its first line"),
    region(
        "region.source_ca",
        "path",
        "",
        "PEM of the authorities trusted for source_url; without it the public ones",
    ),
    region(
        "apply.workers",
        "number",
        "4",
        "connections that transactions run on; up to twice as many while there is work, 8 times where commits are synced",
    ),
    region(
        "apply.on_conflict",
        "quarantine | stop",
        "quarantine",
        "what to do with a table whose rows have drifted",
    ),
    region(
        "apply.on_drift",
        "report | quarantine",
        "report",
        "what to do with a table whose rows a check finds to differ (drift.md)",
    ),
    region(
        "apply.poll",
        "duration",
        "200ms",
        "with --follow: how often the head is looked at while entries come; up to 5 s once they do not (freshness.md)",
    ),
    region("apply.request_dump", "flag", "true", "ask the source for a dump of a quarantined table"),
    region(
        "apply.guard",
        "triggers | grants | off",
        "triggers",
        "how local writes to the tables are refused; `tablecast guard` overrides it (guard.md)",
    ),
    source("serve.listen", "text", "127.0.0.1:8443", "address and port of the HTTP service"),
    source("serve.tls.cert", "path", "", "certificate chain, PEM"),
    source("serve.tls.key", "path", "", "private key, PEM"),
    source("serve.allow_plain", "flag", "false", "plain HTTP on any address: something in front does TLS"),
    source(
        "serve.watch",
        "duration",
        "100ms",
        "while a region waits for news: how often the head is looked at; the less often the longer nothing comes, up to every 2 s",
    ),
    source("serve.tokens_file", "path", "", "hashed tokens with their regions and scopes; required"),
    key(
        "metrics.textfile",
        "path",
        "",
        "Prometheus text file, NAME.prom, or a folder with `/` at its end; replaced after each run and twice a minute (metrics.md)",
    ),
    key(
        "hooks.on_failure",
        "path",
        "",
        "run when a run fails, with the failure as JSON on its standard input",
    ),
    key(
        "files.cache_dir",
        "path",
        "",
        "what makes the next run cheaper; TABLECAST_CACHE_DIR overrides. \
         Default: $XDG_CACHE_HOME/tablecast, else ~/.cache/tablecast; /var/cache/tablecast for root",
    ),
    key("files.spool_dir", "path", "", "room for segments on their way. Default: spool inside cache_dir"),
];

/// The key with exactly this path.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// Whether keys live below this path: `mysql`, `mysql.tls`.
pub fn is_section(path: &str) -> bool {
    KEYS.iter().any(|key| key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// What was probably meant by an unknown path: its own section first, then the same name elsewhere.
pub fn nearest(path: &str) -> Option<String> {
    let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
    let here = children(section).max_by(|a, b| likeness(a, name).total_cmp(&likeness(b, name)));
    if let Some(here) = here.filter(|candidate| likeness(candidate, name) > 0.75) {
        return Some(if section.is_empty() {
            format!("`{here}`")
        } else {
            format!("`{here}` in [{section}]")
        });
    }
    let elsewhere = KEYS.iter().filter_map(|key| {
        let (home, last) = key.path.rsplit_once('.').unwrap_or(("", key.path));
        (last == name).then_some((home, last))
    });
    elsewhere.map(|(home, last)| place(home, last)).next()
}

fn place(section: &str, name: &str) -> String {
    if section.is_empty() {
        format!("`{name}` at the top of the file")
    } else {
        format!("`{name}` in [{section}]")
    }
}

fn children(section: &str) -> impl Iterator<Item = &'static str> {
    let inside = move |key: &'static Key| match section {
        "" => Some(key.path),
        _ => key.path.strip_prefix(section)?.strip_prefix('.'),
    };
    KEYS.iter().filter_map(inside).map(|rest| rest.split_once('.').map_or(rest, |(first, _)| first))
}

fn likeness(a: &str, b: &str) -> f64 {
    strsim::jaro_winkler(a, b)
}
