//! A stream in a bucket without any MySQL: the service needs none.

#![allow(dead_code, reason = "a kit: not every helper is in use at every time")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tablecast::binlog::name::TableSet;
use tablecast::clock::{Clock, SystemClock};
use tablecast::http::tokens::{Fresh, Scope};
use tablecast::store::{self, DirStore, S3Store, Store};
use tablecast::stream::Head;
use uuid::Uuid;

use crate::support::s3::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};

/// Where a test's objects live.
pub enum Place {
    Directory(tempfile::TempDir),
    S3(S3Server),
    /// A directory that somebody else has made and will remove.
    Elsewhere(std::path::PathBuf),
}

/// The stream's place in this server.
pub async fn in_s3(server: &S3Server) -> Arc<dyn Store> {
    let key = aws_credential_types::Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "tests");
    Arc::new(S3Store::open_as(BUCKET, "apps", &server.config(), Some(key)).await.unwrap())
}

impl Place {
    pub fn directory() -> Place {
        Place::Directory(tempfile::tempdir().unwrap())
    }

    pub fn s3() -> Place {
        Place::S3(S3Server::start())
    }

    pub async fn store(&self) -> Arc<dyn Store> {
        match self {
            Place::Directory(folder) => Arc::new(DirStore::open(folder.path()).unwrap()),
            Place::Elsewhere(folder) => Arc::new(DirStore::open(folder).unwrap()),
            Place::S3(server) => in_s3(server).await,
        }
    }

    /// A stream of `g.*`, with nothing in it.
    pub async fn stream(&self) -> (Arc<dyn Store>, Head) {
        let store = self.store().await;
        let tables = TableSet::parse(&["g.*"]).unwrap();
        let mut head = Head::new(Uuid::new_v4(), "apps", tables, SystemClock.now());
        store::head::write(&*store, &mut head, None).await.unwrap();
        (store, head)
    }
}

/// A token of the tests: its text and its scopes.
pub struct TokenOf {
    pub text: String,
    pub entry: String,
}

pub fn token(name: &str, region: Option<&str>, scopes: &[Scope]) -> TokenOf {
    let mut random = [0; 32];
    random[..name.len().min(32)].copy_from_slice(&name.as_bytes()[..name.len().min(32)]);
    let fresh = Fresh::make(random, name, region, &scopes.iter().copied().collect()).unwrap();
    TokenOf { text: fresh.token, entry: fresh.entry }
}

/// A region's usual token.
pub fn region_token(region: &str) -> TokenOf {
    token(region, Some(region), &[Scope::Read, Scope::Dump, Scope::Report])
}

pub fn admin() -> TokenOf {
    token("dba", None, &[Scope::Admin])
}

/// A folder with the source's config, and `tablecast serve` run with it.
pub struct Desk {
    pub folder: tempfile::TempDir,
    env: Vec<(String, String)>,
}

impl Desk {
    /// The config of a service of this place's stream; `more`: further lines of its section `[serve]`.
    pub fn new(place: &Place, more: &str) -> Desk {
        Self::of("apps", place, more)
    }

    /// The same for a stream of another name.
    pub fn of(name: &str, place: &Place, more: &str) -> Desk {
        let folder = tempfile::tempdir().unwrap();
        let (store, s3, env) = match place {
            Place::Directory(bucket) => {
                (format!("file://{}", bucket.path().display()), String::new(), vec![])
            }
            Place::Elsewhere(bucket) => (format!("file://{}", bucket.display()), String::new(), vec![]),
            Place::S3(server) => (
                format!("s3://{BUCKET}/apps"),
                format!(
                    "[s3]\nregion = \"us-east-1\"\nendpoint = \"{}\"\npath_style = true\n",
                    server.endpoint()
                ),
                server.env().map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            ),
        };
        let listen = if more.contains("listen") { "" } else { "listen = \"127.0.0.1:0\"\n" };
        let config = format!(
            "role = \"source\"\nstream = \"{name}\"\nstore = \"{store}\"\n{s3}[mysql]\nhost = \"127.0.0.1\"\nport = 1\n\
             [serve]\n{listen}tokens_file = \"tokens.toml\"\n{more}\n"
        );
        let desk = Desk { folder, env };
        desk.write("source.toml", &config);
        let entries = [region_token("eu1"), region_token("us1"), admin()].map(|token| token.entry);
        desk.write("tokens.toml", &entries.join("\n"));
        desk
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub fn command(&self, config: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tablecast"));
        command
            .args(args)
            .current_dir(self.folder.path())
            .env("TABLECAST_CONFIG", self.path(config))
            .env("TABLECAST_CACHE_DIR", self.path("cache"))
            .env_remove("TABLECAST_LOG")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    /// Starts the service, and waits until it listens.
    pub fn serve(&self) -> Served {
        let mut child = self.command("source.toml", &["serve"]).stderr(Stdio::piped()).spawn().unwrap();
        let mut reader = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(String::new()));
        let mut url = None;
        let mut line = String::new();
        while url.is_none() && reader.read_line(&mut line).unwrap() > 0 {
            log.lock().unwrap().push_str(&line);
            let at = line.find("serving http");
            url = at.map(|at| {
                let rest = &line[at + "serving ".len()..];
                rest.split(|c: char| c.is_whitespace() || c == ',').next().unwrap().to_owned()
            });
            line.clear();
        }
        let url = url.unwrap_or_else(|| panic!("the service did not start:\n{}", log.lock().unwrap()));
        let kept = log.clone();
        std::thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                let mut log = kept.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Served { child, url, log }
    }
}

/// A client as anybody's.
pub fn client() -> reqwest::Client {
    tablecast::tls::use_our_provider();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// A running service; killed when dropped.
pub struct Served {
    child: Child,
    pub url: String,
    log: Arc<Mutex<String>>,
}

impl Served {
    pub fn address(&self) -> &str {
        self.url.split("://").nth(1).unwrap()
    }

    pub fn pid(&self) -> String {
        self.child.id().to_string()
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until the log says this; a line may come a moment after its answer.
    pub async fn logs(&self, text: &str) {
        for _ in 0..100 {
            if self.log().contains(text) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the log does not say {text:?}:\n{}", self.log());
    }

    /// Sends SIGTERM; the exit code.
    pub async fn end(mut self) -> i32 {
        crate::support::signal(&self.pid(), rustix::process::Signal::TERM);
        for _ in 0..400 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the service does not end:\n{}", self.log());
    }

    pub fn request(&self, method: Method, path: &str, token: &str) -> RequestBuilder {
        client().request(method, format!("{}{path}", self.url)).bearer_auth(token)
    }

    /// Asks for a dump.
    pub fn ask(&self, token: &str, region: &str, tables: &[&str]) -> RequestBuilder {
        let body = json!({"region": region, "tables": tables, "reason": "drifted"});
        self.request(Method::POST, "/v1/dumps", token).json(&body)
    }

    pub async fn get(&self, path: &str, token: &str) -> Answer {
        Answer::of(self.request(Method::GET, path, token)).await
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer, read.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    /// Sends the request. Whatever is answered, the description must know it.
    pub async fn of(request: RequestBuilder) -> Answer {
        let (client, request) = request.build_split();
        let request = request.unwrap();
        let (method, path) = (request.method().clone(), request.url().path().to_owned());
        let answer = client.execute(request).await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        is_described(&method, &path, status);
        Answer { status, headers, text: answer.text().await.unwrap() }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}: {self:?}")).to_str().unwrap()
    }

    /// Asserts that this is a whole problem document of this status and kind.
    #[track_caller]
    pub fn is_problem(&self, status: u16, kind: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["type"], format!("urn:tablecast:problem:{kind}"), "{self:?}");
        assert_eq!(problem["status"], status);
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{self:?}");
        assert!(!self.header("x-request-id").is_empty());
        problem
    }
}

/// Every operation of the service's description: method, path, what it says.
pub fn operations() -> Vec<(String, String, Value)> {
    let document = tablecast::http::openapi::document();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations.push((method.clone(), path.clone(), operation.clone()));
        }
    }
    operations
}

fn is_described(method: &Method, path: &str, status: u16) {
    static OPERATIONS: LazyLock<Vec<(String, String, Value)>> = LazyLock::new(operations);
    let fits = |template: &str| {
        let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
        template.len() == path.len()
            && template.iter().zip(path).all(|(part, given)| part.starts_with('{') || *part == given)
    };
    let found = OPERATIONS
        .iter()
        .find(|(known, template, _)| known.eq_ignore_ascii_case(method.as_str()) && fits(template));
    match found {
        Some((_, template, operation)) => {
            let known = operation["responses"].get(status.to_string());
            assert!(known.is_some(), "{method} {template} answers {status}, which is not described");
        }
        None => {
            assert!([404, 405].contains(&status), "{method} {path} answers {status} and is not described")
        }
    }
}
