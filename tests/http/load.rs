//! Bursts, races, slow clients, two services, a store that fails: nothing of it makes two dumps or ends the
//! service.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use tablecast::store::{Fetched, Store};
use tablecast::stream::Key;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::kit::{Answer, Desk, Place, Served, admin, region_token};
use crate::support::s3::Fault;

/// The names of the jobs in the bucket.
async fn jobs(store: &dyn Store) -> Vec<String> {
    let keys = store.list(Key::REQUESTS).await.unwrap().into_iter().map(|listed| listed.key);
    keys.filter(|key| *key != Key::newest_request()).map(|key| key.to_string()).collect()
}

/// Resident memory of a process, in KiB.
fn memory(served: &Served) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", served.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_requests_at_once_make_one_job_and_the_rest_is_told_to_wait() {
    for place in [Place::directory(), Place::s3()] {
        let (store, _) = place.stream().await;
        let served = Desk::new(&place, "").serve();
        let before = memory(&served);
        let eu1 = region_token("eu1").text;
        let burst = (0..1_000).map(|n| {
            let request = match n % 10 {
                // What is wrong among them stays wrong.
                0 => served.ask("tablecast_wrong", "eu1", &["g.a"]),
                1 => served.ask(&eu1, "us1", &["g.a"]),
                2 => served.ask(&eu1, "eu1", &["h.a"]),
                _ => {
                    served.ask(&eu1, "eu1", &["g.a", "g.b"]).header("Idempotency-Key", format!("{}", n % 50))
                }
            };
            tokio::spawn(Answer::of(request))
        });
        let mut ids = BTreeSet::new();
        let (mut accepted, mut refused) = (0, 0);
        for answer in futures::future::join_all(burst).await {
            let answer = answer.expect("every request is answered");
            match answer.status {
                202 => {
                    accepted += 1;
                    ids.insert(answer.json()["id"].as_str().unwrap().to_owned());
                }
                429 => {
                    answer.is_problem(429, "too-many-requests");
                    assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
                    refused += 1;
                }
                status => assert!([401, 403, 422].contains(&status), "{answer:?}"),
            }
        }
        assert!(accepted > 10 && refused > 300, "{accepted} accepted, {refused} refused");
        assert_eq!((ids.len(), jobs(&*store).await.len()), (1, 1), "at most one job for the same tables");
        // It goes on, for another region at once.
        let us1 = region_token("us1").text;
        let other = Answer::of(served.ask(&us1, "us1", &["g.a"])).await;
        assert_eq!(other.status, 202, "{other:?}");
        assert_eq!(other.json()["regions"], json!(["eu1", "us1"]));
        let grown = memory(&served).saturating_sub(before);
        assert!(grown < 64 << 10, "{grown} KiB more");
        assert!(!served.log().contains("panic"), "{}", served.log());
        assert_eq!(served.end().await, 143);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_services_behave_as_one() {
    for place in [Place::directory(), Place::s3()] {
        let (store, _) = place.stream().await;
        let desk = Desk::new(&place, "");
        let services = [desk.serve(), desk.serve()];
        let (eu1, us1) = (region_token("eu1").text, region_token("us1").text);
        let asking = (0..40).map(|n| {
            let (token, region) = if n % 4 < 2 { (&eu1, "eu1") } else { (&us1, "us1") };
            let request = services[n % 2].ask(token, region, &["g.a"]);
            tokio::spawn(Answer::of(request.header("Idempotency-Key", format!("{}", n % 8))))
        });
        let mut ids = BTreeSet::new();
        for answer in futures::future::join_all(asking).await {
            let answer = answer.unwrap();
            assert_eq!(answer.status, 202, "{answer:?}");
            ids.insert(answer.json()["id"].as_str().unwrap().to_owned());
        }
        assert_eq!((ids.len(), jobs(&*store).await.len()), (1, 1));
        let id = ids.pop_first().unwrap();
        let path = format!("/v1/dumps/{id}");
        // What one of them did is there at the other: the key, the job, its end.
        let again = services[1].ask(&eu1, "eu1", &["g.a"]).header("Idempotency-Key", "0");
        assert_eq!(Answer::of(again).await.json()["id"], id);
        let cancelled = Answer::of(services[0].request(Method::DELETE, &path, &admin().text)).await;
        assert_eq!((cancelled.status, &cancelled.json()["state"]), (200, &json!("cancelled")));
        assert_eq!(services[1].get(&path, &eu1).await.json()["state"], "cancelled");
        let again = services[1].ask(&eu1, "eu1", &["g.a"]).header("Idempotency-Key", "0");
        assert_eq!(Answer::of(again).await.json()["state"], "cancelled");
        let fresh = Answer::of(services[1].ask(&eu1, "eu1", &["g.a"])).await.json();
        assert_ne!(fresh["id"], id);
        // One of them killed, the other goes on.
        let [first, second] = services;
        drop(first);
        assert_eq!(second.get("/v1/dumps", &eu1).await.json()["total"], 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_of_one_region_at_once_leave_one_whole_report() {
    let place = Place::s3();
    let (store, head) = place.stream().await;
    let served = Desk::new(&place, "").serve();
    let eu1 = region_token("eu1").text;
    let reports = (0..30u64).map(|n| {
        let report = json!({
            "format": {"major": 1, "minor": 0}, "region": "eu1", "stream": head.stream, "seq": 0,
            "chain": head.tip, "last_tx": 0, "base_tx": 0, "lag_seconds": n, "version": "tablecast 0.1.0",
            "reported_at": head.created_at,
        });
        tokio::spawn(Answer::of(served.request(Method::PUT, "/v1/regions/eu1", &eu1).json(&report)))
    });
    for answer in futures::future::join_all(reports).await {
        assert_eq!(answer.unwrap().status, 204);
    }
    let region = served.get("/v1/regions/eu1", &eu1).await.json();
    assert!((0..30).contains(&region["lag_seconds"].as_i64().unwrap()), "{region}");
    assert_eq!(store.list(Key::REGIONS).await.unwrap().len(), 1);
}

/// The pages and alerts of all regions hang on it.
#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_the_store_does_not_give_out_hides_no_other_region() {
    let place = Place::s3();
    let (_, head) = place.stream().await;
    let served = Desk::new(&place, "").serve();
    for region in ["eu1", "us1"] {
        let report = json!({
            "format": {"major": 1, "minor": 0}, "region": region, "stream": head.stream, "seq": 0,
            "chain": head.tip, "last_tx": 0, "base_tx": 0, "version": "tablecast 0.1.0",
            "reported_at": head.created_at,
        });
        let path = format!("/v1/regions/{region}");
        let token = region_token(region).text;
        let answer = Answer::of(served.request(Method::PUT, &path, &token).json(&report)).await;
        assert_eq!(answer.status, 204, "{answer:?}");
    }
    let Place::S3(server) = &place else { unreachable!("it is one") };
    server.break_down("GetObject", "regions/eu1");
    let all = served.get("/v1/regions", &admin().text).await.json();
    let names: Vec<_> = all["regions"].as_array().unwrap().iter().map(|it| it["region"].clone()).collect();
    assert_eq!(names, [json!("us1")], "{all}");
    assert_eq!(all["unreadable"][0]["region"], "eu1", "{all}");
    served.get("/v1/regions/eu1", &admin().text).await.is_problem(503, "unavailable");
    assert!(
        served
            .get("/metrics", &admin().text)
            .await
            .text
            .contains("tablecast_regions_readable{stream=\"apps\"} 1")
    );
    server.break_down("GetObject", "regions/");
    assert!(
        served
            .get("/metrics", &admin().text)
            .await
            .text
            .contains("tablecast_regions_readable{stream=\"apps\"} 0")
    );
    server.mend();
    assert_eq!(served.get("/v1/regions/eu1", &admin().text).await.json()["region"], "eu1");
    served.get("/v1/regions/eu2", &admin().text).await.is_problem(404, "not-found");
}

/// Sends `begin`, then a byte whenever `every` is over, until the service hangs up; what it said, and how long
/// that took.
async fn drip(served: &Served, begin: &str, every: Duration) -> (String, Duration) {
    let began = Instant::now();
    let socket = TcpStream::connect(served.address()).await.unwrap();
    let (mut from, mut to) = socket.into_split();
    to.write_all(begin.as_bytes()).await.unwrap();
    let dripping = tokio::spawn(async move {
        while to.write_all(b" ").await.is_ok() {
            tokio::time::sleep(every).await;
        }
    });
    let mut said = Vec::new();
    let hung_up = tokio::time::timeout(Duration::from_secs(40), from.read_to_end(&mut said)).await;
    dripping.abort();
    assert!(hung_up.is_ok(), "it still listens after {:?}", began.elapsed());
    (String::from_utf8_lossy(&said).into_owned(), began.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_slowly_is_cut_off_and_others_do_not_wait() {
    let place = Place::directory();
    place.stream().await;
    let served = Desk::new(&place, "").serve();
    let eu1 = region_token("eu1").text;
    let head = format!(
        "POST /v1/dumps HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {eu1}\r\ncontent-type: application/json\r\n"
    );
    let body = format!("{head}content-length: 60000\r\n\r\n{{");
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n5\r\n{{\"reg\r\n");
    let every = Duration::from_millis(500);
    let slow = futures::future::join3(
        drip(&served, &body, every),
        drip(&served, &head, every),
        drip(&served, &chunked, every),
    );
    let others = async {
        let began = Instant::now();
        for _ in 0..20 {
            assert_eq!(served.get("/v1/status", &eu1).await.status, 200);
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    };
    let ((body, headers, chunked), ()) = futures::future::join(slow, others).await;
    assert!(body.0.starts_with("HTTP/1.1 408 ") && body.0.contains("too-slow"), "{body:?}");
    assert!(body.1 < Duration::from_secs(15), "{body:?}");
    assert!(headers.1 < Duration::from_secs(25), "{headers:?}");
    // A space where a chunk's length should stand is an error at once; either way it is over.
    assert!(chunked.1 < Duration::from_secs(25), "{chunked:?}");
    assert_eq!(served.get("/v1/dumps", &eu1).await.json()["total"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_http_or_never_ends_does_no_harm() {
    let place = Place::directory();
    place.stream().await;
    let served = Desk::new(&place, "").serve();
    let eu1 = region_token("eu1").text;
    let auth = format!("authorization: Bearer {eu1}\r\ncontent-type: application/json\r\n");
    let long_header = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "a".repeat(100_000));
    let many_headers = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(5_000));
    // More chunks than the limit, and no end.
    let chunk = format!("1000\r\n{}\r\n", "z".repeat(0x1000));
    let endless = format!(
        "POST /v1/dumps HTTP/1.1\r\nhost: x\r\n{auth}transfer-encoding: chunked\r\n\r\n{}",
        chunk.repeat(40)
    );
    let cases = [
        ("\0\u{1}\u{2}\u{3}\r\n\r\n".to_owned(), &["400"][..]),
        ("GET\r\n\r\n".to_owned(), &["400"]),
        (long_header, &["431", "400"]),
        (many_headers, &["431", "400"]),
        (format!("POST /v1/dumps HTTP/1.1\r\nhost: x\r\n{auth}content-length: -1\r\n\r\n"), &["400"]),
        (
            format!(
                "POST /v1/dumps HTTP/1.1\r\nhost: x\r\n{auth}content-length: 99999999999999999999\r\n\r\n"
            ),
            &["400"],
        ),
        (endless, &["413"]),
        (
            format!("POST /v1/dumps HTTP/1.1\r\nhost: x\r\n{auth}content-length: 9999999999\r\n\r\n{{"),
            &["413"],
        ),
    ];
    for (sent, expected) in cases {
        let mut socket = TcpStream::connect(served.address()).await.unwrap();
        // It may hang up before it has read all of it.
        let _ = socket.write_all(sent.as_bytes()).await;
        let mut said = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(30), socket.read_to_end(&mut said)).await;
        assert!(read.is_ok(), "no end: {:?}", sent.get(..60));
        let said = String::from_utf8_lossy(&said).into_owned();
        let fits = expected.iter().any(|status| said.starts_with(&format!("HTTP/1.1 {status} ")));
        assert!(fits || said.is_empty(), "{:?}: {said}", sent.get(..60));
    }
    assert_eq!(served.get("/v1/dumps", &eu1).await.json()["total"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_answer_is_503_until_it_does() {
    let place = Place::s3();
    let (store, _) = place.stream().await;
    let served = Desk::new(&place, "").serve();
    let eu1 = region_token("eu1").text;
    let Place::S3(s3) = &place else { unreachable!() };
    assert_eq!(served.get("/readyz", "").await.status, 200);
    let fault = || Fault::Error(503, s3s::S3ErrorCode::SlowDown);
    s3.fail("GetObject", std::iter::repeat_with(fault).take(500));
    tokio::time::sleep(Duration::from_millis(600)).await;
    let refused = served.get("/v1/status", &eu1).await;
    refused.is_problem(503, "unavailable");
    assert!(!refused.header("retry-after").is_empty());
    served.get("/readyz", "").await.is_problem(503, "unavailable");
    assert_eq!(served.get("/livez", "").await.status, 200);
    let asked = Answer::of(served.ask(&eu1, "eu1", &["g.a"])).await;
    asked.is_problem(503, "unavailable");
    // The faults end.
    s3.forget_faults();
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(served.get("/readyz", "").await.status, 200);
    assert_eq!(Answer::of(served.ask(&eu1, "eu1", &["g.a"])).await.status, 202);
    assert_eq!(jobs(&*store).await.len(), 1);
}

#[tokio::test]
async fn without_a_stream_the_service_says_so_and_waits_for_one() {
    let place = Place::directory();
    let served = Desk::new(&place, "").serve();
    let eu1 = region_token("eu1").text;
    let status = served.get("/v1/status", &eu1).await.is_problem(503, "unavailable");
    assert!(status["hint"].as_str().unwrap().contains("stream init"), "{status}");
    let (store, _) = place.stream().await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(served.get("/v1/status", &eu1).await.status, 200);
    // An index that cannot be read is no fault of the store.
    let Fetched::Object { etag, .. } = store.get(&Key::head(), None).await.unwrap() else { panic!() };
    store.swap(&Key::head(), b"{}", Some(&etag)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(600)).await;
    served.get("/v1/status", &eu1).await.is_problem(500, "failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_with_connections_without_an_end_is_in_nobody_elses_way() {
    let place = Place::directory();
    place.stream().await;
    let served = Desk::new(&place, "").serve();
    let eu1 = region_token("eu1").text;
    // Half of them never end their request, the others ask what needs no token, again and again.
    let head = "GET /livez HTTP/1.1\r\nhost: x\r\n";
    let wild = (0..400).map(|n| {
        let address = served.address().to_owned();
        tokio::spawn(async move {
            loop {
                let Ok(mut socket) = TcpStream::connect(&address).await else { continue };
                let sent = if n % 2 == 0 { head.to_owned() } else { format!("{head}\r\n") };
                let _ = socket.write_all(sent.as_bytes()).await;
                let _ = socket.read_to_end(&mut Vec::new()).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
    });
    let wild: Vec<_> = wild.collect();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let elsewhere =
        reqwest::Client::builder().no_proxy().local_address("127.0.0.2".parse::<std::net::IpAddr>().unwrap());
    let elsewhere = elsewhere.timeout(Duration::from_secs(5)).build().unwrap();
    for _ in 0..20 {
        let status = elsewhere.get(format!("{}/v1/status", served.url)).bearer_auth(&eu1);
        assert_eq!(Answer::of(status).await.status, 200);
        let alive = Answer::of(elsewhere.get(format!("{}/livez", served.url))).await;
        assert_eq!((alive.status, alive.header("connection")), (200, "close"));
    }
    served.logs("more connections than are served at once").await;
    wild.iter().for_each(tokio::task::JoinHandle::abort);
}
