//! The service as it is meant to be used: jobs, reports, status, tokens that come and go, TLS, a graceful end.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tablecast::clock::{Clock, SystemClock};
use tablecast::source::dump::queue;
use tablecast::stream::{DumpId, Head, RequestState};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::kit::{Answer, Desk, Place, admin, client, region_token};

/// A little more than the time within which a changed file is taken up.
const TAKEN_UP: Duration = Duration::from_millis(700);

fn report(head: &Head, region: &str) -> Value {
    json!({
        "format": {"major": 1, "minor": 0}, "region": region, "stream": head.stream, "seq": 0, "chain": head.tip,
        "last_tx": 0, "base_tx": 0, "as_of": SystemClock.now(), "lag_seconds": 2, "version": "tablecast 0.1.0",
        "reported_at": SystemClock.now(),
    })
}

#[tokio::test]
async fn a_job_is_looked_at_until_it_is_over() {
    let place = Place::directory();
    let (store, _) = place.stream().await;
    let served = Desk::new(&place, "").serve();
    let eu1 = region_token("eu1").text;
    let asked = Answer::of(served.ask(&eu1, "eu1", &["g.b", "g.a", "g.a"])).await;
    assert_eq!(asked.status, 202);
    let job = asked.json();
    assert_eq!((&job["state"], &job["tables"]), (&json!("queued"), &json!(["g.a", "g.b"])));
    assert_eq!(
        (&job["regions"], &job["reason"], &job["at"]),
        (&json!(["eu1"]), &json!("drifted"), &Value::Null)
    );
    let path = asked.header("location").to_owned();
    assert_eq!(path, format!("/v1/dumps/{}", job["id"].as_str().unwrap()));
    assert_eq!(served.get(&path, &eu1).await.json(), job);
    // What upload does with it is seen at once.
    let id = job["id"].as_str().unwrap().parse().unwrap();
    let (mut request, etag) = queue::read(&*store, &id).await.unwrap();
    request.advance(RequestState::Running, SystemClock.now()).unwrap();
    (request.rows, request.rows_total, request.bytes, request.eta_seconds) = (10, 100, 1_000, Some(9));
    request.dump = Some(DumpId::new(SystemClock.now(), 7));
    let etag = queue::write(&*store, &request, &etag).await.unwrap();
    let running = served.get(&path, &eu1).await.json();
    assert_eq!(
        (&running["state"], &running["rows"], &running["eta_seconds"]),
        (&json!("running"), &json!(10), &json!(9))
    );
    let status = served.get("/v1/status", &eu1).await.json();
    assert_eq!(status["pending"][0]["id"], job["id"]);
    request.error = Some("somebody altered g.a".into());
    request.advance(RequestState::Failed, SystemClock.now()).unwrap();
    queue::write(&*store, &request, &etag).await.unwrap();
    let failed = served.get(&path, &eu1).await.json();
    assert_eq!((&failed["state"], &failed["error"]), (&json!("failed"), &json!("somebody altered g.a")));
    Answer::of(served.request(Method::DELETE, &path, &eu1)).await.is_problem(409, "finished");
    // Lists: the newest first, filtered.
    let next = Answer::of(served.ask(&eu1, "eu1", &["g.a"])).await.json();
    let list = served.get("/v1/dumps", &eu1).await.json();
    assert_eq!((&list["total"], &list["dumps"][0]["id"]), (&json!(2), &next["id"]));
    assert_eq!(served.get("/v1/dumps?state=failed", &eu1).await.json()["dumps"][0]["id"], job["id"]);
    assert_eq!(served.get("/v1/dumps?region=us1", &eu1).await.json()["total"], 0);
    let limited = served.get("/v1/dumps?limit=1", &eu1).await.json();
    assert_eq!((limited["dumps"].as_array().unwrap().len(), &limited["total"]), (1, &json!(2)));
    let path = format!("/v1/dumps/{}", next["id"].as_str().unwrap());
    let cancelled = Answer::of(served.request(Method::DELETE, &path, &eu1)).await;
    assert_eq!((cancelled.status, &cancelled.json()["state"]), (200, &json!("cancelled")));
    assert_eq!(served.get("/v1/status", &eu1).await.json()["pending"], json!([]));
}

#[tokio::test]
async fn what_a_region_reports_is_shown_to_whoever_may_read() {
    let place = Place::directory();
    let (_, head) = place.stream().await;
    let served = Desk::new(&place, "").serve();
    let (eu1, us1) = (region_token("eu1").text, region_token("us1").text);
    let put = |region: &str, token: &str, body: &Value| {
        Answer::of(served.request(Method::PUT, &format!("/v1/regions/{region}"), token).json(body))
    };
    assert_eq!(served.get("/v1/regions", &eu1).await.json(), json!({"regions": [], "unreadable": []}));
    assert_eq!(put("eu1", &eu1, &report(&head, "eu1")).await.status, 204);
    let mut hurt = report(&head, "us1");
    hurt["quarantined"] =
        json!([{"table": "g.a", "since_tx": 7, "since": SystemClock.now(), "error": "<b>1032</b>"}]);
    // A member of a later version is kept, not refused.
    hurt["new_in_1_1"] = json!(true);
    assert_eq!(put("us1", &admin().text, &hurt).await.status, 204);
    let regions = served.get("/v1/regions", &us1).await.json();
    assert_eq!(regions["regions"][0]["state"], "ok", "{regions}");
    assert_eq!(regions["regions"][1]["state"], "quarantined", "{regions}");
    assert_eq!(regions["regions"][1]["quarantined"][0]["table"], "g.a");
    assert_eq!(served.get("/v1/regions/us1", &eu1).await.json()["behind_entries"], 0);
    assert_eq!(served.get("/v1/status", &eu1).await.json()["regions"], regions["regions"]);

    let mut wrong = report(&head, "us1");
    Answer::of(served.request(Method::PUT, "/v1/regions/eu1", &eu1).json(&wrong))
        .await
        .is_problem(422, "invalid");
    wrong = report(&head, "eu1");
    wrong["stream"] = json!("00000000-0000-0000-0000-000000000001");
    wrong["seq"] = json!(3);
    put("eu1", &eu1, &wrong).await.is_problem(409, "other-stream");
    wrong["seq"] = json!("3");
    put("eu1", &eu1, &wrong).await.is_problem(400, "malformed");
    wrong["seq"] = json!(u64::MAX);
    put("eu1", &eu1, &wrong).await.is_problem(422, "invalid");

    // The page shows the same to people, with what others wrote as text.
    let page = Answer::of(client().get(&served.url).basic_auth("anybody", Some(&us1))).await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").starts_with("text/html"));
    assert!(page.header("content-security-policy").contains("default-src 'none'"));
    for part in ["eu1", "us1", "quarantined", "&lt;b&gt;1032&lt;/b&gt;", "dump take"] {
        assert!(page.text.contains(part), "{part}: {}", page.text);
    }
    assert!(!page.text.contains("<b>"), "{}", page.text);
    let stream = served.get("/v1/stream", &eu1).await.json();
    assert_eq!((&stream["stream"], &stream["tables"]), (&json!(head.stream), &json!(["g.*"])));
    let token = served.get("/v1/token", &eu1).await.json();
    assert_eq!(token, json!({"name": "eu1", "region": "eu1", "scopes": ["read", "dump", "report"]}));
}

#[tokio::test]
async fn tokens_come_and_go_without_a_restart_and_a_broken_file_changes_nothing() {
    let place = Place::directory();
    place.stream().await;
    let desk = Desk::new(&place, "");
    let served = desk.serve();
    let (eu1, ap1) = (region_token("eu1"), region_token("ap1"));
    served.get("/v1/status", &ap1.text).await.is_problem(401, "unauthenticated");
    desk.write("tokens.toml", &format!("{}{}", eu1.entry, ap1.entry));
    tokio::time::sleep(TAKEN_UP).await;
    assert_eq!(served.get("/v1/status", &ap1.text).await.status, 200);
    desk.write("tokens.toml", &format!("{}[[token]]\nname = 7\n", eu1.entry));
    tokio::time::sleep(TAKEN_UP).await;
    assert_eq!(served.get("/v1/status", &ap1.text).await.status, 200, "the old tokens stay in force");
    served.logs("cannot be used").await;
    desk.write("tokens.toml", &eu1.entry);
    tokio::time::sleep(TAKEN_UP).await;
    served.get("/v1/status", &ap1.text).await.is_problem(401, "unauthenticated");
    assert_eq!(served.get("/v1/status", &eu1.text).await.status, 200);
    let log = served.log();
    assert!(!log.contains(&eu1.text) && !log.contains(&ap1.text), "{log}");
}

#[tokio::test]
async fn every_request_leaves_a_line_with_its_id_and_without_its_secret() {
    let place = Place::directory();
    place.stream().await;
    let served = Desk::new(&place, "").serve();
    let eu1 = region_token("eu1").text;
    let request =
        served.request(Method::GET, "/v1/status?secret=x", &eu1).header("x-request-id", "from-a-proxy");
    assert_eq!(Answer::of(request).await.header("x-request-id"), "from-a-proxy");
    served.logs("from-a-proxy").await;
    let odd = served.request(Method::GET, "/v1/status", &eu1).header("x-request-id", "a b\"");
    assert_ne!(Answer::of(odd).await.header("x-request-id"), "a b\"");
    let log = served.log();
    let line = log.lines().find(|line| line.contains("from-a-proxy")).unwrap();
    for part in ["GET", "/v1/status", "status=200", "ms=", "token=\"eu1\""] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(!log.contains("secret") && !log.contains(&eu1), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_it_when_what_it_works_on_is_answered() {
    let place = Place::directory();
    place.stream().await;
    let served = Desk::new(&place, "").serve();
    let eu1 = region_token("eu1").text;
    // An idle connection, and one in the middle of a request.
    let _idle = TcpStream::connect(served.address()).await.unwrap();
    let mut busy = TcpStream::connect(served.address()).await.unwrap();
    let body = "{\"region\": \"eu1\", \"tables\": [\"g.a\"]}";
    let head = format!(
        "POST /v1/dumps HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {eu1}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    busy.write_all(head.as_bytes()).await.unwrap();
    busy.write_all(&body.as_bytes()[..10]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let address = served.address().to_owned();
    let ending = tokio::spawn(served.end());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(TcpStream::connect(&address).await.is_err(), "nothing new is let in");
    busy.write_all(&body.as_bytes()[10..]).await.unwrap();
    let mut said = String::new();
    busy.read_to_string(&mut said).await.unwrap();
    assert!(said.starts_with("HTTP/1.1 202 "), "{said}");
    assert_eq!(ending.await.unwrap(), 143);
}

#[tokio::test]
async fn the_service_of_another_stream_than_the_config_says_does_not_start() {
    let place = Place::directory();
    place.stream().await;
    let output = Desk::of("other", &place, "").command("source.toml", &["serve"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("it holds the stream \"apps\", the config says \"other\""), "{said}");
}
