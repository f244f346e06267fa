//! From the text of a config file to a [`Config`]: which keys a role needs, what the values must be.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;

use super::document::{Document, Environment};
use super::*;
use crate::error::{Error, Kind, Result};

/// Reads and checks one file.
pub fn load(path: &Path) -> Result<Config> {
    let text = std::fs::read_to_string(path).map_err(|cause| {
        let hint = match cause.kind() {
            std::io::ErrorKind::NotFound => {
                "`tablecast init source` or `tablecast init region` writes one; --config or TABLECAST_CONFIG names another"
            }
            _ => "the file must be readable by this user, and UTF-8",
        };
        Error::new(Kind::Usage, format!("read config {}", path.display())).hint(hint).caused_by(cause)
    })?;
    parse(path, &text, &|name| std::env::var(name).ok())
}

/// Checks the text of a file; relative paths in it start at `path`'s folder.
pub fn parse(path: &Path, text: &str, environment: Environment<'_>) -> Result<Config> {
    let mut document = Document::parse(path, text, environment)?;
    let d = &mut document;
    d.required("role", "role = \"source\" or role = \"region\"");
    let role = match d.line("role") {
        Some(_) => d.choice("role", &[("source", Role::Source), ("region", Role::Region)]),
        None => None,
    };
    let stream = d.required("stream", "stream = \"apps\"");
    check_name(d, "stream", &stream);
    let store = store(d);
    let s3 = s3(d, &store);
    if let Some(role) = role {
        refuse_other_role(d, role);
    }
    let mysql = mysql(d, &MYSQL);
    let is_source = role != Some(Role::Region);
    let is_region = role != Some(Role::Source);
    let primary = (is_source && d.section("primary").is_some()).then(|| self::mysql(d, &PRIMARY));
    let config = Config {
        path: path.to_owned(),
        role: role.unwrap_or(Role::Source),
        stream,
        store,
        s3,
        sign_key: if is_source { sign_key(d) } else { None },
        trusted: trusted(d),
        mysql,
        primary,
        source_region: if is_source { source_region(d) } else { None },
        upload: if is_source { upload(d) } else { UploadConfig::default() },
        dump: if is_source { dump(d) } else { DumpConfig::default() },
        check: if is_source { check(d) } else { CheckConfig::default() },
        region: if role == Some(Role::Region) { region(d) } else { None },
        apply: if is_region { apply(d) } else { ApplyConfig::default() },
        serve: if is_source && d.section("serve").is_some() { Some(serve(d)) } else { None },
        metrics: MetricsConfig { textfile: textfile(d) },
        hooks: HooksConfig { on_failure: d.path("hooks.on_failure") },
        files: files(d, environment),
        warnings: Vec::new(),
        settings: Vec::new(),
    };
    let has_literal_password = ["mysql.password", "primary.password"]
        .into_iter()
        .any(|key| d.line(key).is_some() && !d.is_expanded(key));
    let mut warnings = permission_warnings(&config, has_literal_password);
    warnings.extend(asking_warnings(&config));
    Ok(Config { warnings, settings: document.finish()?, ..config })
}

/// A key that only the other role knows is a mistake: the file is probably not the one that was meant.
fn refuse_other_role(d: &mut Document, role: Role) {
    for section in ["source", "sign", "primary", "upload", "dump", "check", "serve", "region", "apply"] {
        let inside = |key: &&keys::Key| key.path.starts_with(&format!("{section}."));
        let home = keys::KEYS.iter().find(inside).and_then(|key| key.role);
        if let (Some(line), Some(home)) = (d.section(section), home.filter(|home| *home != role)) {
            let message = format!("[{section}] belongs to a {home}'s file; this one has role = \"{role}\"");
            d.problem(Some(line), message, Some(format!("remove [{section}], or change the role")));
        }
    }
}

/// node_exporter reads no file of another name.
fn textfile(d: &mut Document) -> Option<PathBuf> {
    let path = d.path("metrics.textfile")?;
    let bytes = path.as_os_str().as_encoded_bytes();
    if !bytes.ends_with(b"/") && path.extension().is_none_or(|extension| extension != "prom") {
        let what = format!("{} is no metrics file: nobody would read it", path.display());
        d.refuse("metrics.textfile", what, "end it in .prom, or in `/` if it is a folder");
    }
    Some(path)
}

fn sign_key(d: &mut Document) -> Option<PathBuf> {
    let section = d.section("sign");
    let path = d.path("sign.key_file");
    // Who writes the section wants the index signed: never unsigned for want of a line.
    if let (Some(line), None) = (section, &path) {
        let hint = "write in [sign] key_file = \"/etc/tablecast/sign.key\"; `tablecast key FILE` makes it";
        d.problem(Some(line), "[sign] names no key".into(), Some(hint.into()));
    }
    path
}

fn trusted(d: &mut Document) -> Vec<PublicKey> {
    let (section, written) = (d.section("trust"), d.line("trust.public_keys"));
    let texts = d.list("trust.public_keys");
    if let (Some(line), true) = (written.or(section), texts.is_empty()) {
        let hint = "`tablecast key --show FILE` at the source prints what belongs there; without [trust] every index is believed";
        d.problem(Some(line), "[trust] names no key: no index would be believed".into(), Some(hint.into()));
    }
    let mut keys = Vec::new();
    for (n, text) in texts.iter().enumerate() {
        match text.parse::<PublicKey>() {
            Ok(key) => keys.push(key),
            Err(error) => {
                let hint = error.hint_text().unwrap_or_default().to_owned();
                d.refuse("trust.public_keys", format!("key {}: {error}", n + 1), hint);
            }
        }
    }
    keys
}

fn source_region(d: &mut Document) -> Option<String> {
    let name = d.text("source.region")?;
    check_name(d, "source.region", &name);
    Some(name)
}

fn check_name(d: &mut Document, path: &'static str, name: &str) {
    let fits = name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    if !fits {
        d.refuse(
            path,
            format!("{name:?} is not a name"),
            "letters, digits, `_`, `-` and `.`, at most 64 of them",
        );
    }
}

fn store(d: &mut Document) -> StoreUrl {
    let url = d.required("store", "store = \"s3://BUCKET/PREFIX\" or store = \"file:///FOLDER\"");
    let parsed = match (url.strip_prefix("s3://"), url.strip_prefix("file://")) {
        (Some(rest), _) => {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let prefix = prefix.trim_matches('/');
            let fits = !bucket.is_empty() && !prefix.split('/').any(|part| part == ".." || part == ".");
            fits.then(|| StoreUrl::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
        }
        (_, Some(folder)) => folder.starts_with('/').then(|| StoreUrl::File(PathBuf::from(folder))),
        (None, None) => None,
    };
    if names_a_user(&url) {
        refuse_user(d, "store");
    }
    parsed.unwrap_or_else(|| {
        if !url.is_empty() && !names_a_user(&url) {
            let hint =
                "write s3://BUCKET/PREFIX, or file:// and an absolute folder: file:///srv/tablecast/apps";
            d.refuse("store", format!("{url:?} is not a store"), hint);
        }
        StoreUrl::File(PathBuf::new())
    })
}

fn s3(d: &mut Document, store: &StoreUrl) -> S3Config {
    if let (StoreUrl::File(_), Some(line)) = (store, d.section("s3"))
        && d.line("store").is_some()
    {
        let message = "[s3] has no meaning for a store in a folder".to_owned();
        d.problem(Some(line), message, Some("remove [s3], or write store = \"s3://BUCKET/PREFIX\"".into()));
    }
    if matches!(store, StoreUrl::File(_)) && d.section("s3").is_none() {
        return S3Config::default();
    }
    let s3 = S3Config {
        region: d.text("s3.region"),
        endpoint: d.text("s3.endpoint"),
        path_style: d.flag("s3.path_style"),
        sse: d.text("s3.sse"),
        sse_kms_key_id: d.text("s3.sse_kms_key_id"),
    };
    if let Some(sse) = s3.sse.as_deref().filter(|sse| !["AES256", "aws:kms", "aws:kms:dsse"].contains(sse)) {
        d.refuse(
            "s3.sse",
            format!("{sse:?} is none of its values"),
            "write \"AES256\", \"aws:kms\" or \"aws:kms:dsse\"",
        );
    }
    if s3.sse_kms_key_id.is_some() && !s3.sse.as_deref().is_some_and(|sse| sse.starts_with("aws:kms")) {
        d.refuse(
            "s3.sse_kms_key_id",
            "has no meaning without sse = \"aws:kms\"",
            "write sse = \"aws:kms\" beside it",
        );
    }
    if let Some(endpoint) = &s3.endpoint {
        check_url(d, "s3.endpoint", endpoint);
    }
    s3
}

/// `https://user:password@host`, also where a `/` in the password ends what looks like the host. No bucket and no service
/// needs an `@`, and a `:` stands before a port only.
fn names_a_user(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match scheme {
        "file" => false,
        "s3" => host.contains(['@', ':']),
        // An address of version 6 stands in brackets.
        _ => {
            let behind = host.rsplit_once(']').map_or(host, |(_, behind)| behind);
            let port = behind.rsplit_once(':').map_or("", |(_, port)| port);
            rest.contains('@') || !port.chars().all(|digit| digit.is_ascii_digit())
        }
    }
}

/// Without the URL: this message is logged as well.
fn refuse_user(d: &mut Document, path: &'static str) {
    d.refuse(
        path,
        "there is a user name or a password in it",
        "remove what stands before the @: URLs are shown and logged, and no place for a secret",
    );
}

fn check_url(d: &mut Document, path: &'static str, url: &str) {
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    if names_a_user(url) {
        refuse_user(d, path);
    } else if host.is_none_or(str::is_empty) {
        d.refuse(path, format!("{url:?} is not a URL"), "it starts with http:// or https://");
    }
}

/// The paths of one server's keys.
struct ServerKeys {
    section: &'static str,
    host: &'static str,
    port: &'static str,
    socket: &'static str,
    user: &'static str,
    password: &'static str,
    password_file: &'static str,
    password_command: &'static str,
    tls_mode: &'static str,
    tls_ca: &'static str,
}

macro_rules! server_keys {
    ($section:literal) => {
        ServerKeys {
            section: $section,
            host: concat!($section, ".host"),
            port: concat!($section, ".port"),
            socket: concat!($section, ".socket"),
            user: concat!($section, ".user"),
            password: concat!($section, ".password"),
            password_file: concat!($section, ".password_file"),
            password_command: concat!($section, ".password_command"),
            tls_mode: concat!($section, ".tls.mode"),
            tls_ca: concat!($section, ".tls.ca"),
        }
    };
}

static MYSQL: ServerKeys = server_keys!("mysql");
static PRIMARY: ServerKeys = server_keys!("primary");

fn mysql(d: &mut Document, keys: &ServerKeys) -> MysqlConfig {
    let host = d.text(keys.host);
    let port = u16::try_from(d.number(keys.port, 1..=65535)).unwrap_or(3306);
    let socket = d.path(keys.socket);
    let section = keys.section;
    match (&host, &socket) {
        (None, None) => {
            let line = d.section(section);
            let hint =
                format!("write in [{section}] host = \"127.0.0.1\" or socket = \"/run/mysqld/mysqld.sock\"");
            d.problem(line, format!("[{section}] names no server"), Some(hint));
        }
        (Some(_), Some(_)) => d.refuse(keys.socket, "stands beside a host", "keep one of the two"),
        _ => {}
    }
    let user = d.text(keys.user).unwrap_or_default();
    let password = password(d, keys);
    let ca = d.path(keys.tls_ca);
    let words = [("off", TlsMode::Off), ("require", TlsMode::Require), ("verify", TlsMode::Verify)];
    let mode = d.choice(keys.tls_mode, &words).unwrap_or(match &host {
        None => TlsMode::Off,
        Some(_) if ca.is_some() => TlsMode::Verify,
        Some(host) if is_loopback(host) => TlsMode::Off,
        Some(_) => TlsMode::Require,
    });
    d.in_force(keys.tls_mode, &mode);
    if ca.is_some() && mode != TlsMode::Verify {
        d.refuse(keys.tls_ca, format!("is not used with mode = \"{mode}\""), "write mode = \"verify\"");
    }
    MysqlConfig { host, port, socket, user, password, tls: Tls { mode, ca } }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn password(d: &mut Document, keys: &ServerKeys) -> Password {
    let given: Vec<_> = [keys.password, keys.password_file, keys.password_command]
        .into_iter()
        .filter(|key| d.line(key).is_some())
        .collect();
    if let [_, second, ..] = given.as_slice() {
        let others = given.iter().filter(|key| *key != second).map(|key| format!("`{key}`"));
        let others = others.collect::<Vec<_>>().join(" and ");
        d.refuse(second, format!("stands beside {others}"), "keep one of them");
    }
    if let Some(value) = d.text(keys.password) {
        // A variable that was made of a whole file, as a Kubernetes secret is, ends with that file's line end.
        return Password::Value(SecretString::from(value.trim_end_matches(['\r', '\n'])));
    }
    if let Some(path) = d.path(keys.password_file) {
        return Password::File(path);
    }
    d.text(keys.password_command).map_or(Password::None, Password::Command)
}

fn upload(d: &mut Document) -> UploadConfig {
    let segment_bytes = d.size("upload.segment_bytes", 1 << 10..=2 << 30);
    let interval = d.duration("upload.interval", Duration::from_millis(50));
    let codec =
        d.choice("upload.codec", &[("gzip", Codec::Gzip), ("zstd", Codec::Zstd)]).unwrap_or(Codec::Gzip);
    let most = if codec == Codec::Zstd { 19 } else { 9 };
    let default = default_level(codec);
    let level = u32::try_from(d.number_or("upload.level", 1..=most, default)).unwrap_or(6);
    UploadConfig { segment_bytes, interval, codec, level }
}

/// What the others' numbers mean: zstd's first is smaller than gzip's sixth.
fn default_level(codec: Codec) -> u64 {
    match codec {
        Codec::Gzip => 6,
        Codec::Zstd => 1,
    }
}

impl Default for UploadConfig {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, interval: Duration::from_secs(1), codec: Codec::Gzip, level: 6 }
    }
}

fn dump(d: &mut Document) -> DumpConfig {
    let connections = usize::try_from(d.number("dump.connections", 1..=64)).unwrap_or(4);
    let chunk_bytes = d.size("dump.chunk_bytes", 64 << 10..=1 << 30);
    let codec =
        d.choice("dump.codec", &[("gzip", Codec::Gzip), ("zstd", Codec::Zstd)]).unwrap_or(Codec::Zstd);
    let most = if codec == Codec::Zstd { 19 } else { 9 };
    let default = default_level(codec);
    let level = u32::try_from(d.number_or("dump.level", 1..=most, default)).unwrap_or(1);
    DumpConfig { connections, chunk_bytes, codec, level }
}

impl Default for DumpConfig {
    fn default() -> Self {
        Self { connections: 4, chunk_bytes: 8 << 20, codec: Codec::Zstd, level: 1 }
    }
}

fn check(d: &mut Document) -> CheckConfig {
    let every = d.line("check.every").is_some().then(|| d.duration("check.every", Duration::from_millis(10)));
    let slice = d.duration("check.slice", Duration::from_millis(10));
    let longest = Duration::from_secs(5);
    if slice > longest {
        d.refuse("check.slice", "is more than 5s", "the stream stands still for so long: write 200ms, or 1s");
    }
    let share = u32::try_from(d.number("check.share", 1..=50)).unwrap_or(1);
    let max_threads_running = d.number("check.max_threads_running", 1..=100_000);
    CheckConfig { every, slice, share, max_threads_running }
}

impl Default for CheckConfig {
    fn default() -> Self {
        Self { every: None, slice: Duration::from_millis(200), share: 1, max_threads_running: 32 }
    }
}

fn region(d: &mut Document) -> Option<RegionConfig> {
    let name = d.required("region.name", "in [region]: name = \"eu1\"");
    check_name(d, "region.name", &name);
    let listed = d.list("region.tables");
    let tables = match (listed.is_empty(), d.line("region.tables")) {
        (false, _) => {
            let parsed = TableSet::parse(&listed);
            parsed
                .map_err(|error| d.refuse("region.tables", &error, error.hint_text().unwrap_or_default()))
                .ok()
        }
        (true, line) => {
            let message = if line.is_some() { "lets nothing in" } else { "is missing" };
            let hint = "write in [region] what this region lets in: tables = [\"g.apps\", \"g.partners\"]";
            d.problem(line, format!("`region.tables` {message}"), Some(hint.to_owned()));
            None
        }
    };
    let source_url = d.text("region.source_url");
    if let Some(url) = &source_url {
        check_url(d, "region.source_url", url);
    }
    let token_file = d.path("region.token_file");
    let source_ca = d.path("region.source_ca");
    if source_ca.is_some() && !source_url.as_deref().is_some_and(|url| url.starts_with("https://")) {
        d.refuse(
            "region.source_ca",
            "has no meaning without a source_url that begins with https://",
            "write source_url = \"https://…\", or remove source_ca",
        );
    }
    Some(RegionConfig { name, tables: tables?, source_url, token_file, source_ca })
}

fn apply(d: &mut Document) -> ApplyConfig {
    let conflict = [("quarantine", OnConflict::Quarantine), ("stop", OnConflict::Stop)];
    let drift = [("report", OnDrift::Report), ("quarantine", OnDrift::Quarantine)];
    let guard = [("triggers", Guard::Triggers), ("grants", Guard::Grants), ("off", Guard::Off)];
    ApplyConfig {
        workers: usize::try_from(d.number("apply.workers", 1..=64)).unwrap_or(4),
        on_conflict: d.choice("apply.on_conflict", &conflict).unwrap_or(OnConflict::Quarantine),
        on_drift: d.choice("apply.on_drift", &drift).unwrap_or(OnDrift::Report),
        request_dump: d.flag("apply.request_dump"),
        poll: d.duration("apply.poll", SHORTEST_LOOK),
        guard: d.choice("apply.guard", &guard).unwrap_or(Guard::Triggers),
    }
}

impl Default for ApplyConfig {
    fn default() -> Self {
        Self {
            workers: 4,
            on_conflict: OnConflict::Quarantine,
            on_drift: OnDrift::Report,
            request_dump: true,
            poll: Duration::from_millis(200),
            guard: Guard::Triggers,
        }
    }
}

/// Of [`ServeConfig::watch`], where there is no such section.
pub const WATCH: Duration = Duration::from_millis(100);
/// Each look is a request to the store.
const SHORTEST_LOOK: Duration = Duration::from_millis(20);

fn serve(d: &mut Document) -> ServeConfig {
    let text = d.text("serve.listen").unwrap_or_default();
    let listen = text.parse::<SocketAddr>().unwrap_or_else(|_| {
        d.refuse(
            "serve.listen",
            format!("{text:?} is not an address and a port"),
            "write \"127.0.0.1:8443\", or \"0.0.0.0:8443\" for every address of this machine",
        );
        SocketAddr::from(([127, 0, 0, 1], 0))
    });
    let tls = match (d.path("serve.tls.cert"), d.path("serve.tls.key")) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        (Some(_), None) => {
            d.refuse("serve.tls.cert", "stands without its key", "write tls = { cert = \"…\", key = \"…\" }");
            None
        }
        (None, Some(_)) => {
            d.refuse("serve.tls.key", "stands without its cert", "write tls = { cert = \"…\", key = \"…\" }");
            None
        }
    };
    let allow_plain = d.flag("serve.allow_plain");
    let has_tls = d.section("serve.tls").is_some();
    if !listen.ip().is_loopback() && !has_tls && !allow_plain {
        d.refuse(
            "serve.listen",
            format!("{listen} can be reached from elsewhere, and without tls tokens would travel in clear text"),
            "write tls = { cert = \"…\", key = \"…\" }, or listen = \"127.0.0.1:8443\"; behind something that does TLS \
             itself: allow_plain = true",
        );
    }
    let hint = "in [serve]: tokens_file = \"/etc/tablecast/tokens.toml\"; `tablecast token` makes tokens";
    d.required("serve.tokens_file", hint);
    let tokens_file = d.path("serve.tokens_file").unwrap_or_default();
    let watch = d.duration("serve.watch", SHORTEST_LOOK);
    ServeConfig { listen, tls, allow_plain, watch, tokens_file }
}

fn files(d: &mut Document, environment: Environment<'_>) -> FilesConfig {
    let written = d.path("files.cache_dir");
    let set = |name: &str| environment(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let is_root = rustix::process::geteuid().is_root();
    let cache_dir = set("TABLECAST_CACHE_DIR")
        .or(written)
        .or_else(|| is_root.then(|| PathBuf::from("/var/cache/tablecast")))
        .or_else(|| set("XDG_CACHE_HOME").map(|home| home.join("tablecast")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/tablecast")))
        .unwrap_or_else(|| std::env::temp_dir().join("tablecast-cache"));
    let spool_dir = d.path("files.spool_dir").unwrap_or_else(|| cache_dir.join("spool"));
    d.in_force("files.cache_dir", &cache_dir.display());
    d.in_force("files.spool_dir", &spool_dir.display());
    FilesConfig { cache_dir, spool_dir }
}

/// Files with secrets in them that other users may read. A warning, not an error: a container's mounted
/// secret is often world-readable, and nobody else is in there.
fn permission_warnings(config: &Config, has_literal_password: bool) -> Vec<String> {
    let mut secret_files = Vec::new();
    if has_literal_password {
        secret_files.push(("the config file, which holds a password,", config.path.clone()));
    }
    for server in [Some(&config.mysql), config.primary.as_ref()].into_iter().flatten() {
        if let Password::File(path) = &server.password {
            secret_files.push(("password_file", path.clone()));
        }
    }
    if let Some(path) = config.sign_key.clone() {
        secret_files.push(("the key file", path));
    }
    if let Some(path) = config.region.as_ref().and_then(|region| region.token_file.clone()) {
        secret_files.push(("token_file", path));
    }
    if let Some(key) = config.serve.as_ref().and_then(|serve| serve.tls.clone()).map(|(_, key)| key) {
        secret_files.push(("the private key", key));
    }
    let readable = secret_files.into_iter().filter_map(|(what, path)| {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&path).ok()?.permissions().mode() & 0o777;
        let warning = format!("{what} {} may be read by others (mode {mode:04o}): chmod 600", path.display());
        (mode & 0o077 != 0).then_some(warning)
    });
    readable.collect()
}

/// How a region speaks to the source's service, where that cannot go well.
fn asking_warnings(config: &Config) -> Vec<String> {
    let Some(region) = &config.region else { return Vec::new() };
    let Some(url) = region.source_url.as_deref() else { return Vec::new() };
    let mut warnings = Vec::new();
    if region.token_file.is_none() {
        warnings.push(format!("there is no token_file for source_url: {url} will refuse every request"));
    }
    let authority = url.strip_prefix("http://").and_then(|rest| rest.split('/').next());
    if let Some(authority) = authority {
        let (bracketed, plain) =
            (authority.strip_prefix('['), authority.split(':').next().unwrap_or_default());
        let host = bracketed.and_then(|rest| rest.split(']').next()).unwrap_or(plain);
        if !is_loopback(host) {
            warnings.push(format!(
                "the token travels in clear text to {url}, as good as a password: write source_url = \"https://{authority}\""
            ));
        }
    }
    warnings
}
