//! Every way in which a request is refused: the right status, a problem document, nothing changed.

use reqwest::Method;
use serde_json::json;
use tablecast::http::tokens::Scope;

use super::kit::{Answer, Desk, Place, Served, admin, client, region_token, token};

/// A service of an empty stream of `g.*`.
async fn served(place: &Place) -> (Desk, Served) {
    place.stream().await;
    let desk = Desk::new(place, "");
    let served = desk.serve();
    (desk, served)
}

async fn no_job(served: &Served) {
    let jobs = served.get("/v1/dumps", &admin().text).await;
    assert_eq!(
        (jobs.status, jobs.json()["total"].clone()),
        (200, json!(0)),
        "no dump may have been asked for"
    );
}

#[tokio::test]
async fn without_a_valid_token_nothing_is_told() {
    let place = Place::directory();
    let (_desk, served) = served(&place).await;
    let client = client();
    let routes = [
        (Method::POST, "/v1/dumps"),
        (Method::GET, "/v1/dumps"),
        (Method::GET, "/v1/dumps/0a1b2c3d4e5f60718293a4b5c6d7e8f9"),
        (Method::DELETE, "/v1/dumps/0a1b2c3d4e5f60718293a4b5c6d7e8f9"),
        (Method::PUT, "/v1/regions/eu1"),
        (Method::GET, "/v1/regions"),
        (Method::GET, "/v1/regions/eu1"),
        (Method::GET, "/v1/status"),
        (Method::GET, "/v1/stream"),
        (Method::GET, "/v1/token"),
    ];
    for (method, path) in routes {
        let url = format!("{}{path}", served.url);
        let bare = Answer::of(client.request(method.clone(), &url)).await;
        bare.is_problem(401, "unauthenticated");
        assert_eq!(bare.header("www-authenticate"), "Bearer realm=\"tablecast\"");
        let wrong = Answer::of(client.request(method.clone(), &url).bearer_auth("tablecast_wrong")).await;
        wrong.is_problem(401, "unauthenticated");
        assert!(wrong.header("www-authenticate").contains("invalid_token"));
        let basic =
            Answer::of(client.request(method, &url).basic_auth("x", Some(region_token("eu1").text))).await;
        basic.is_problem(401, "unauthenticated");
    }
    let twice = client.get(format!("{}/v1/status", served.url)).bearer_auth(region_token("eu1").text);
    Answer::of(twice.bearer_auth("x")).await.is_problem(401, "unauthenticated");
    let page = Answer::of(client.get(&served.url)).await;
    assert_eq!(page.status, 401);
    assert!(page.header("www-authenticate").starts_with("Basic "));
    assert!(!page.text.contains("g.*"), "{}", page.text);
    no_job(&served).await;
    let log = served.log();
    assert!(!log.contains(&region_token("eu1").text) && !log.contains("tablecast_wrong"), "{log}");
}

#[tokio::test]
async fn a_token_acts_for_its_region_and_within_its_scopes() {
    let place = Place::directory();
    let (desk, served) = served(&place).await;
    let eu1 = region_token("eu1").text;
    let other = Answer::of(served.ask(&eu1, "us1", &["g.a"])).await;
    assert!(other.is_problem(403, "other-region")["detail"].as_str().unwrap().contains("eu1"));
    let report = served.request(Method::PUT, "/v1/regions/us1", &eu1).json(&json!({}));
    Answer::of(report).await.is_problem(403, "other-region");
    no_job(&served).await;

    let reader = token("reader", None, &[Scope::Read]);
    let asker = token("asker", Some("eu1"), &[Scope::Dump]);
    let reporter = token("reporter", Some("eu1"), &[Scope::Report]);
    desk.write("tokens.toml", &[&reader, &asker, &reporter].map(|token| token.entry.clone()).join("\n"));
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    Answer::of(served.ask(&reader.text, "eu1", &["g.a"])).await.is_problem(403, "missing-scope");
    let job = "/v1/dumps/0a1b2c3d4e5f60718293a4b5c6d7e8f9";
    Answer::of(served.request(Method::DELETE, job, &reader.text)).await.is_problem(403, "missing-scope");
    for path in ["/v1/regions", "/v1/regions/eu1", "/v1/status", "/v1/stream"] {
        served.get(path, &asker.text).await.is_problem(403, "missing-scope");
    }
    served.get("/v1/dumps", &reporter.text).await.is_problem(403, "missing-scope");
    let report = served.request(Method::PUT, "/v1/regions/eu1", &asker.text).json(&json!({}));
    Answer::of(report).await.is_problem(403, "missing-scope");
    // One without `read` sees the jobs that its region waits for, and takes back no other's.
    served.get("/v1/dumps", &eu1).await.is_problem(401, "unauthenticated");
    assert_eq!(Answer::of(served.ask(&asker.text, "eu1", &["g.a"])).await.status, 202);
    let other = token("other", Some("us1"), &[Scope::Dump]);
    desk.write("tokens.toml", &[&asker, &other].map(|token| token.entry.clone()).join("\n"));
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    let jobs = served.get("/v1/dumps", &asker.text).await.json();
    let id = jobs["dumps"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(served.get("/v1/dumps", &other.text).await.json()["total"], 0);
    let path = format!("/v1/dumps/{id}");
    served.get(&path, &other.text).await.is_problem(404, "not-found");
    Answer::of(served.request(Method::DELETE, &path, &other.text)).await.is_problem(404, "not-found");
    assert_eq!(served.get(&path, &asker.text).await.json()["state"], "queued");
}

#[tokio::test]
async fn what_is_malformed_too_large_or_of_another_kind_is_refused() {
    let place = Place::directory();
    let (_desk, served) = served(&place).await;
    let eu1 = region_token("eu1").text;
    let post = |body: &str| {
        let request = served.request(Method::POST, "/v1/dumps", &eu1);
        Answer::of(request.header("content-type", "application/json").body(body.to_owned()))
    };
    for malformed in [
        "",
        "{",
        "[]",
        "null",
        "\"g.a\"",
        "{}",
        "{\"region\": \"eu1\"}",
        "{\"region\": \"eu1\", \"tables\": \"g.a\"}",
        "{\"region\": \"eu1\", \"tables\": [1]}",
        "{\"region\": 7, \"tables\": [\"g.a\"]}",
        "{\"region\": \"eu1\", \"tables\": [\"g.a\"], \"all_tables\": true}",
        "{\"region\": \"eu1\", \"region\": \"us1\", \"tables\": [\"g.a\"]}",
        "{\"region\": \"eu1\", \"tables\": [\"g.a\"]} {}",
        "{\"region\": \"eu1\", \"tables\": [\"g.a\"], \"reason\": 1e999}",
    ] {
        let problem = post(malformed).await.is_problem(400, "malformed");
        assert!(problem["hint"].as_str().unwrap().contains("openapi"), "{malformed}");
    }
    post(&"[".repeat(60_000)).await.is_problem(400, "malformed");
    let bytes = served.request(Method::POST, "/v1/dumps", &eu1).header("content-type", "application/json");
    Answer::of(bytes.body(vec![0xff, 0xfe, 0])).await.is_problem(400, "malformed");
    let key = served.ask(&eu1, "eu1", &["g.a"]).header("Idempotency-Key", "k".repeat(201));
    Answer::of(key).await.is_problem(400, "malformed");
    let keys =
        served.ask(&eu1, "eu1", &["g.a"]).header("Idempotency-Key", "a").header("Idempotency-Key", "b");
    Answer::of(keys).await.is_problem(400, "malformed");
    served.get("/v1/dumps?limit=0", &eu1).await.is_problem(400, "malformed");
    served.get("/v1/dumps?state=lost", &eu1).await.is_problem(400, "malformed");

    served.get("/v1/nothing", &eu1).await.is_problem(404, "not-found");
    served.get("/v1/dumps/7", &eu1).await.is_problem(404, "not-found");
    served.get("/v1/dumps/../../etc/passwd", &eu1).await.is_problem(404, "not-found");
    served.get("/v1/dumps/..%2f..%2findex", &eu1).await.is_problem(404, "not-found");
    served.get("/v1/regions/nobody", &eu1).await.is_problem(404, "not-found");
    served.get("/v1/regions/%2e%2e", &eu1).await.is_problem(404, "not-found");
    for odd in ["/v1/dumps/%ff", "/v1/regions/%ff%00"] {
        served.get(odd, &eu1).await.is_problem(404, "not-found");
    }
    let missing = "/v1/dumps/0a1b2c3d4e5f60718293a4b5c6d7e8f9";
    served.get(missing, &eu1).await.is_problem(404, "not-found");
    Answer::of(served.request(Method::DELETE, missing, &eu1)).await.is_problem(404, "not-found");
    let method = Answer::of(served.request(Method::PATCH, "/v1/dumps", &eu1)).await;
    method.is_problem(405, "method-not-allowed");
    assert!(method.header("allow").contains("POST"), "{method:?}");

    let plain = served.request(Method::POST, "/v1/dumps", &eu1).body("{}");
    Answer::of(plain).await.is_problem(415, "not-json");
    let form = served.request(Method::POST, "/v1/dumps", &eu1).header("content-type", "text/json").body("{}");
    Answer::of(form).await.is_problem(415, "not-json");

    post(&"x".repeat((64 << 10) + 1)).await.is_problem(413, "too-large");
    post(&"x".repeat(3 << 20)).await.is_problem(413, "too-large");
    no_job(&served).await;
}

#[tokio::test]
async fn i6_what_cannot_be_asked_for_is_refused_with_what_can() {
    let place = Place::directory();
    let (_desk, served) = served(&place).await;
    let eu1 = region_token("eu1").text;
    for outside in ["h.a", "tablecast.position", "mysql.user"] {
        let answer = Answer::of(served.ask(&eu1, "eu1", &["g.a", outside])).await;
        assert_eq!(answer.status, 422, "{answer:?}");
        assert!(
            ["urn:tablecast:problem:not-in-set", "urn:tablecast:problem:invalid"]
                .contains(&answer.json()["type"].as_str().unwrap())
        );
    }
    let outside = Answer::of(served.ask(&eu1, "eu1", &["h.a"])).await.is_problem(422, "not-in-set");
    assert!(outside["hint"].as_str().unwrap().contains("g.*"), "{outside}");
    for odd in ["", "g", "g.*", "*.*", ".a", "g.", "g.a.b", "`g.a", "g.\u{0}", &"x".repeat(5_000)] {
        let problem = Answer::of(served.ask(&eu1, "eu1", &[odd])).await;
        assert_eq!(problem.status, 422, "{odd}: {problem:?}");
        assert!(problem.text.len() < 2_000, "{}", problem.text.len());
    }
    Answer::of(served.ask(&eu1, "eu1", &[])).await.is_problem(422, "invalid");
    let many: Vec<String> = (0..1_001).map(|n| format!("g.t{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    Answer::of(served.ask(&eu1, "eu1", &many)).await.is_problem(422, "invalid");
    assert_eq!(Answer::of(served.ask(&eu1, "eu1", &many[..1_000])).await.status, 202);
    let reason = json!({"region": "eu1", "tables": ["g.a"], "reason": "r".repeat(501)});
    let long = served.request(Method::POST, "/v1/dumps", &eu1).json(&reason);
    Answer::of(long).await.is_problem(422, "invalid");

    let ask =
        |tables: &'static [&'static str]| served.ask(&eu1, "eu1", tables).header("Idempotency-Key", "k");
    let first = Answer::of(ask(&["g.b"])).await;
    assert_eq!(first.status, 202);
    let again = Answer::of(ask(&["g.b"])).await;
    assert_eq!((again.status, again.json()["id"].clone()), (202, first.json()["id"].clone()));
    Answer::of(ask(&["g.b", "g.c"])).await.is_problem(422, "key-reused");
}
