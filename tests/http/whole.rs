//! From the question to the dump: over HTTP, with a real source and its upload.

use reqwest::Method;
use serde_json::json;
use tablecast::config::StoreUrl;
use tablecast::stream::RequestState;

use super::kit::{Answer, Desk, Place, region_token};
use crate::dump::kit::{dumps, request};
use crate::support::mysql::Server;
use crate::upload::kit::Stream;

#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_asks_over_http_gets_a_dump_from_upload_and_one_that_cancels_does_not() {
    let server = Server::shared();
    server
        .sql(
            "CREATE DATABASE asked_over_http; USE asked_over_http; CREATE TABLE a (id INT PRIMARY KEY, t TEXT); \
             INSERT INTO a VALUES (1, 'x'), (2, 'y'), (3, NULL); CREATE TABLE b (id INT PRIMARY KEY); \
             CREATE VIEW v AS SELECT * FROM a",
        )
        .await;
    let stream = Stream::make(server, &["asked_over_http.*"], "").await;
    let StoreUrl::File(bucket) = &stream.config.store else { panic!("a folder") };
    let desk = Desk::new(&Place::Elsewhere(bucket.clone()), "");
    let served = desk.serve();
    let (eu1, us1) = (region_token("eu1").text, region_token("us1").text);
    let a = Answer::of(served.ask(&eu1, "eu1", &["asked_over_http.a"])).await;
    let same = Answer::of(served.ask(&us1, "us1", &["asked_over_http.a"])).await;
    let b = Answer::of(served.ask(&eu1, "eu1", &["asked_over_http.b"])).await;
    assert_eq!((a.status, same.status, b.status), (202, 202, 202));
    assert_eq!(a.json()["id"], same.json()["id"], "two regions share one");
    let (a, b) = (a.header("location").to_owned(), b.header("location").to_owned());
    assert_eq!(Answer::of(served.request(Method::DELETE, &b, &eu1)).await.json()["state"], "cancelled");
    stream.upload().await.expect("upload");
    let job = served.get(&a, &us1).await.json();
    assert_eq!((&job["state"], &job["regions"]), (&json!("uploaded"), &json!(["eu1", "us1"])), "{job}");
    assert_eq!((&job["rows"], &job["error"]), (&json!(3), &json!(null)));
    let dumps = dumps(&stream).await;
    assert_eq!(dumps.len(), 1, "nobody waits for the other");
    assert_eq!(dumps[0].dump.tables, ["asked_over_http.a".parse().unwrap()]);
    assert_eq!((&job["seq"], &job["at"]), (&json!(dumps[0].seq), &json!(dumps[0].dump.at)));
    assert_eq!(job["dump"], dumps[0].dump.id.to_string());
    let there = served.get("/v1/stream", &us1).await.json();
    assert_eq!(there["dumps"][0]["id"], job["dump"]);
    let id = job["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(request(&stream, &id).await.state, RequestState::Uploaded);
}
