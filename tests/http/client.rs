//! The region's client and its commands, over TLS with the right and the wrong authority, and against a service that is
//! not there.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use tablecast::Kind;
use tablecast::config;
use tablecast::http::client::{self, Client};
use tablecast::http::tokens::Scope;
use tablecast::region::ask::Asker;
use tablecast::stream::RequestState;

use super::kit::{Desk, Place, Served, region_token, token};
use crate::support::report_of;

fn fixture(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name).display().to_string()
}

fn tls_section() -> String {
    format!("tls = {{ cert = \"{}\", key = \"{}\" }}", fixture("server.pem"), fixture("server.key"))
}

/// Writes a region's config that leads to this service; `more`: further lines of `[region]`.
fn region(desk: &Desk, place: &Place, url: &str, more: &str) -> Client {
    let Place::Directory(bucket) = place else { panic!("a folder") };
    desk.write("token", &format!("{}\n", region_token("eu1").text));
    desk.write(
        "region.toml",
        &format!(
            "role = \"region\"\nstream = \"apps\"\nstore = \"file://{}\"\n[mysql]\nhost = \"127.0.0.1\"\nport = 1\n\
             [region]\nname = \"eu1\"\ntables = [\"g.*\"]\nsource_url = \"{url}\"\ntoken_file = \"token\"\n{more}\n",
            bucket.path().display()
        ),
    );
    client::of(&config::load(&desk.path("region.toml")).unwrap()).unwrap()
}

fn tables(names: &[&str]) -> BTreeSet<tablecast::binlog::name::TableName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

/// Runs a command in the region.
fn run(desk: &Desk, args: &[&str]) -> (i32, Value, String) {
    let output = desk.command("region.toml", &[args, &["--json"]].concat()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let json =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{args:?}: {error}\n{stderr}"));
    (output.status.code().unwrap(), json, stderr)
}

/// The service behind TLS, and its URL by the name in its certificate.
async fn secure() -> (Place, Desk, Served, String) {
    let place = Place::directory();
    place.stream().await;
    let desk = Desk::new(&place, &tls_section());
    let served = desk.serve();
    assert!(served.url.starts_with("https://"), "{}", served.url);
    let url = format!("https://localhost:{}", served.address().rsplit(':').next().unwrap());
    (place, desk, served, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_with_the_right_authority_a_region_asks_and_reports() {
    let (place, desk, _served, url) = secure().await;
    let client = region(&desk, &place, &url, &format!("source_ca = \"{}\"", fixture("ca.pem")));
    let asked = client.ask(&tables(&["g.a"]), "row 7\nis gone", "g.a 7 1").await.unwrap();
    assert_eq!(asked.state, RequestState::Queued);
    assert_eq!(client.ask(&tables(&["g.a"]), "row 7\nis gone", "g.a 7 1").await.unwrap(), asked);
    let other = client.ask(&tables(&["g.b"]), "row 7\nis gone", "g.a 7 1").await.unwrap_err();
    assert_eq!(other.kind(), Kind::Usage);
    assert!(other.to_string().contains("422 The Idempotency-Key belongs to another request"), "{other}");
    let stream = client.stream().await.unwrap();
    let mut report = report_of("eu1", stream.stream);
    client.report(&report).await.unwrap();
    report.region = "us1".into();
    let error = client.report(&report).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.hint_text().unwrap().contains("region.name"), "{error:?}");
    // The token is read at each use.
    desk.write("token", "tablecast_another\n");
    let error = client.stream().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.to_string().contains(&format!("GET {url}/v1/stream: 401 ")), "{error}");
    assert!(!format!("{error:?}").contains("tablecast_another"));
    desk.write("token", &region_token("eu1").text);
    assert_eq!(client.token().await.unwrap().name, "eu1");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_wrong_authority_or_name_nothing_is_sent() {
    let (place, desk, served, url) = secure().await;
    let by_address = served.url.clone();
    let ca = |name: &str| format!("source_ca = \"{}\"", fixture(name));
    for (url, more) in [(&url, ca("other-ca.pem")), (&url, String::new()), (&by_address, ca("ca.pem"))] {
        let error = region(&desk, &place, url, &more).stream().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Denied, "{error:?}");
        assert!(error.to_string().contains("TLS refused"), "{error}");
        assert!(error.hint_text().unwrap().contains("source_ca"));
    }
    let error = region(&desk, &place, &url, "source_ca = \"no-such.pem\"").stream().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    // Plain HTTP to a TLS port is no answer, and no harm.
    let plain = url.replace("https://", "http://");
    let error = region(&desk, &place, &plain, "").stream().await.unwrap_err();
    assert!([Kind::Failed, Kind::Usage].contains(&error.kind()), "{error:?}");
    assert!(!served.log().contains("/v1/stream"), "{}", served.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_taken_up_and_a_broken_one_is_not() {
    let place = Place::directory();
    place.stream().await;
    let desk = Desk::new(&place, "tls = { cert = \"cert.pem\", key = \"key.pem\" }");
    let copy = |from: &str, to: &str| {
        std::fs::copy(fixture(from), desk.path(to)).unwrap();
    };
    copy("server.pem", "cert.pem");
    copy("server.key", "key.pem");
    let served = desk.serve();
    let url = format!("https://localhost:{}", served.address().rsplit(':').next().unwrap());
    let more = format!("source_ca = \"{}\"", fixture("ca.pem"));
    region(&desk, &place, &url, &more).stream().await.unwrap();
    // An authority's certificate does not go with the key.
    copy("ca.pem", "cert.pem");
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    region(&desk, &place, &url, &more).stream().await.unwrap();
    served.logs("cannot be used").await;
    copy("server.pem", "cert.pem");
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    region(&desk, &place, &url, &more).stream().await.unwrap();
    served.logs("certificate and key read anew").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_not_there_is_named_with_what_to_look_at() {
    let place = Place::directory();
    let desk = Desk::new(&place, "");
    let port = crate::support::free_port();
    let client = region(&desk, &place, &format!("http://127.0.0.1:{port}/"), "");
    let error = client.ask(&tables(&["g.a"]), "", "k").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Failed);
    assert!(error.to_string().starts_with(&format!("POST http://127.0.0.1:{port}/v1/dumps: ")), "{error}");
    assert!(error.hint_text().unwrap().contains("tablecast serve"));
    let nowhere = region(&desk, &place, "https://no-such-host.invalid", "");
    assert_eq!(nowhere.stream().await.unwrap_err().kind(), Kind::Failed);
    std::fs::remove_file(desk.path("token")).unwrap();
    assert!(client.stream().await.unwrap_err().to_string().contains("token_file"));
    desk.write("token", "not a token\n");
    assert_eq!(client.stream().await.unwrap_err().kind(), Kind::Usage);
    // Something else that answers there.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let _ = tokio::io::AsyncReadExt::read(&mut socket, &mut [0; 4_096]).await.unwrap();
            let answer = b"HTTP/1.1 302 Found\r\nlocation: http://evil.invalid/\r\ncontent-length: 0\r\n\r\n";
            tokio::io::AsyncWriteExt::write_all(&mut socket, answer).await.unwrap();
        }
    });
    let error = region(&desk, &place, &url, "").stream().await.unwrap_err();
    assert!(error.to_string().contains("302"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dump_commands_show_what_the_service_says() {
    let (place, desk, _served, url) = secure().await;
    region(&desk, &place, &url, &format!("source_ca = \"{}\"", fixture("ca.pem")));
    let (code, asked, _) = run(&desk, &["dump", "request", "g.a", "g.b", "--reason", "rows differ"]);
    assert_eq!((code, &asked["state"], &asked["reason"]), (0, &json!("queued"), &json!("rows differ")));
    let id = asked["id"].as_str().unwrap();
    let (code, shown, _) = run(&desk, &["dump", "show", id]);
    assert_eq!((code, &shown["tables"], &shown["rows"]), (0, &json!(["g.a", "g.b"]), &json!("0")));
    let (code, list, _) = run(&desk, &["dump", "list"]);
    assert_eq!((code, &list["dumps"][0]["id"]), (0, &json!(id)));
    // The same at the source, straight from the bucket.
    let text = desk.command("source.toml", &["dump", "list"]).output().unwrap();
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains(id) && text.contains("queued") && text.contains("eu1"), "{text}");
    let (code, outside, _) = run(&desk, &["dump", "request", "h.a"]);
    assert_eq!(code, 2, "{outside}");
    assert!(outside["message"].as_str().unwrap().contains("region.tables"), "{outside}");
    let (code, cancelled, _) = run(&desk, &["dump", "cancel", id]);
    assert_eq!((code, &cancelled["state"]), (0, &json!("cancelled")));
    let (code, missing, _) = run(&desk, &["dump", "show", "00000000000000000000000000000000"]);
    assert_eq!((code, &missing["kind"]), (1, &json!("not_found")));
    let (code, bad, _) = run(&desk, &["dump", "show", "7"]);
    assert_eq!(code, 2, "{bad}");
}

/// What `doctor` says about the service.
fn doctor(desk: &Desk, config: &str) -> Value {
    let output = desk.command(config, &["doctor", "--json"]).output().unwrap();
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = json["checks"].as_array().unwrap().clone();
    checks
        .into_iter()
        .find(|check| check["name"] == "service")
        .unwrap_or_else(|| panic!("no such check: {json}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_asks_the_service_for_real() {
    let (place, desk, served, url) = secure().await;
    let more = format!("source_ca = \"{}\"", fixture("ca.pem"));
    region(&desk, &place, &url, &more);
    let good = doctor(&desk, "region.toml");
    assert_eq!(good["outcome"], "passed", "{good}");
    assert!(good["message"].as_str().unwrap().contains("serves stream apps"), "{good}");
    assert_eq!(doctor(&desk, "source.toml")["outcome"], "passed");
    let finds = |expected: &str| {
        let found = doctor(&desk, "region.toml");
        assert_eq!(found["outcome"], "failed", "{found}");
        let said = format!("{} {}", found["message"], found["hint"]);
        assert!(said.contains(expected), "{said} does not say {expected}");
        assert!(found["breaks"].as_str().unwrap().contains("quarantine"), "{found}");
    };
    desk.write("token", &region_token("us1").text);
    finds("acts for us1, this region is \\\"eu1\\\"");
    desk.write("token", "tablecast_wrong");
    finds("401");
    desk.write("token", &token("few", Some("eu1"), &[Scope::Read]).text);
    desk.write("tokens.toml", &token("few", Some("eu1"), &[Scope::Read]).entry);
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    finds("lacks dump and report");
    // The same service, another store.
    desk.write("tokens.toml", &region_token("eu1").entry);
    desk.write("token", &region_token("eu1").text);
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    let other = Place::directory();
    other.stream().await;
    region(&desk, &other, &url, &more);
    finds("this region's store holds");
    drop(served);
    finds("the service cannot be reached");
    desk.write("tokens.toml", "");
    assert_eq!(doctor(&desk, "source.toml")["outcome"], "warning");
    desk.write("tokens.toml", "[[token]]\n");
    assert_eq!(doctor(&desk, "source.toml")["outcome"], "failed");
}

#[test]
fn config_check_reads_what_the_service_needs() {
    let desk = Desk::new(&Place::directory(), "tls = { cert = \"cert.pem\", key = \"key.pem\" }");
    let check = || {
        let output = desk.command("source.toml", &["config", "check"]).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = check();
    assert!(code == 2 && said.contains("cert.pem"), "{said}");
    std::fs::copy(fixture("server.pem"), desk.path("cert.pem")).unwrap();
    std::fs::copy(fixture("server.key"), desk.path("key.pem")).unwrap();
    assert_eq!(check().0, 0);
    desk.write("tokens.toml", "[[token]]\nname = \"a\"\n");
    let (code, said) = check();
    assert!(code == 2 && said.contains("tokens.toml:1: missing field"), "{said}");
    std::fs::remove_file(desk.path("tokens.toml")).unwrap();
    let (code, said) = check();
    assert!(code == 2 && said.contains("tablecast token"), "{said}");
}

#[test]
fn a_fresh_token_is_printed_once_with_the_entry_that_admits_it() {
    let desk = Desk::new(&Place::directory(), "");
    let make = |args: &[&str]| desk.command("none.toml", &[&["token"], args].concat()).output().unwrap();
    let output = make(&["--region", "ap1", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (text, entry) = (made["token"].as_str().unwrap(), made["entry"].as_str().unwrap());
    assert!(text.starts_with("tablecast_") && text.len() > 50 && !entry.contains(text));
    desk.write("tokens.toml", entry);
    let checked = desk.command("source.toml", &["config", "check"]).output().unwrap();
    assert!(checked.status.success(), "{checked:?}");
    assert_ne!(make(&["--region", "ap1"]).stdout, make(&["--region", "ap1"]).stdout);
    for wrong in
        [&["--region", "a b"][..], &["--name", "x"], &["--name", "x", "--scope", "dump"], &["--scope", "all"]]
    {
        assert_eq!(make(wrong).status.code(), Some(2), "{wrong:?}");
    }
}
