//! From the question to the dump: over HTTP, with a real source and its upload.

use reqwest::Method;
use serde_json::json;
use tablecast::config::StoreUrl;
use tablecast::stream::RequestState;

use super::kit::{Answer, Desk, Place, region_token};
use crate::dump::kit::{dumps, request};
use crate::support::granted::{self, USER};
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
    let desk = Desk::of(&stream.config.stream, &Place::Elsewhere(bucket.clone()), "");
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
    // An answer may be made from a head that is half a second old.
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    let there = served.get("/v1/stream", &us1).await.json();
    assert_eq!(there["dumps"][0]["id"], job["dump"]);
    let id = job["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(request(&stream, &id).await.state, RequestState::Uploaded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_asks_by_itself_heals_and_reports() {
    let source = Server::shared();
    source
        .sql("CREATE DATABASE heals_over_http; USE heals_over_http; CREATE TABLE a (id INT PRIMARY KEY, t TEXT); CREATE TABLE b (id INT PRIMARY KEY)")
        .await;
    let mut stream = Stream::make(source, &["heals_over_http.*"], "").await;
    let region = Server::start(&[]);
    region.sql("CREATE DATABASE heals_over_http").await;
    let StoreUrl::File(bucket) = &stream.config.store else { panic!("a folder") };
    let desk = Desk::of(&stream.config.stream, &Place::Elsewhere(bucket.clone()), "");
    // Service and upload are on one machine: what is asked for is seen at once.
    stream.config.files.cache_dir = desk.path("cache");
    let served = desk.serve();
    let eu1 = region_token("eu1").text;
    desk.write("token", &eu1);
    let config = format!(
        "role = \"region\"\nstream = \"{}\"\nstore = \"file://{}\"\n[mysql]\nhost = \"127.0.0.1\"\nport = {}\n\
         user = \"{USER}\"\ntls = {{ mode = \"off\" }}\n[region]\nname = \"eu1\"\ntables = [\"heals_over_http.*\"]\n\
         source_url = \"{}\"\ntoken_file = \"token\"\n[apply]\nguard = \"off\"\n",
        stream.config.stream,
        bucket.display(),
        region.port,
        served.url
    );
    granted::write(&desk.path("region.toml"), &config, &["heals_over_http.*"]);
    let apply = || {
        let output = desk.command("region.toml", &["apply"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap(), said)
    };
    source.sql("INSERT INTO heals_over_http.a VALUES (1, 'x'), (2, 'y')").await;
    stream.upload().await.expect("upload");
    let (code, said) = apply();
    assert_eq!(code, 0, "{said}");
    let shown = served.get("/v1/regions/eu1", &eu1).await.json();
    assert_eq!((&shown["state"], &shown["last_tx"]), (&json!("ok"), &json!(1)), "{shown}");
    // Somebody takes a row away, and the source changes it.
    region.sql("DELETE FROM heals_over_http.a WHERE id = 2").await;
    source
        .sql("UPDATE heals_over_http.a SET t = 'z' WHERE id = 2; INSERT INTO heals_over_http.b VALUES (1)")
        .await;
    stream.upload().await.expect("upload");
    let (code, said) = apply();
    assert_eq!(code, 3, "{said}");
    let jobs = served.get("/v1/dumps", &eu1).await.json();
    assert_eq!(
        (&jobs["total"], &jobs["dumps"][0]["tables"]),
        (&json!(1), &json!(["heals_over_http.a"])),
        "{said}"
    );
    let shown = served.get("/v1/regions/eu1", &eu1).await.json();
    assert!(["quarantined", "restoring"].contains(&shown["state"].as_str().unwrap()), "{shown}");
    assert_eq!(shown["quarantined"][0]["table"], "heals_over_http.a");
    let others: u64 = region.value("SELECT COUNT(*) FROM heals_over_http.b").await;
    assert_eq!(others, 1, "the other table goes on");
    stream.upload().await.expect("upload");
    for _ in 0..3 {
        let (code, said) = apply();
        if code == 0 {
            break;
        }
        assert_eq!(code, 3, "{said}");
    }
    let rows: Vec<(u32, String)> = region.rows("SELECT * FROM heals_over_http.a ORDER BY id").await;
    assert_eq!(rows, [(1, "x".to_owned()), (2, "z".to_owned())]);
    let shown = served.get("/v1/regions/eu1", &eu1).await.json();
    assert_eq!((&shown["state"], &shown["quarantined"]), (&json!("ok"), &json!([])), "{shown}");
    // By itself it does not ask where that is off; for somebody it does.
    let config = format!("{config}request_dump = false\n");
    granted::write(&desk.path("region.toml"), &config, &["heals_over_http.*"]);
    region.sql("DELETE FROM heals_over_http.b").await;
    source.sql("UPDATE heals_over_http.b SET id = 2").await;
    stream.upload().await.expect("upload");
    let (code, said) = apply();
    assert_eq!(code, 3, "{said}");
    assert_eq!(served.get("/v1/dumps", &eu1).await.json()["total"], 1, "{said}");
    let restore = |more: &[&str]| {
        let arguments = [&["restore", "heals_over_http.b"], more].concat();
        let output = desk.command("region.toml", &arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(restore(&["--dry-run"]).contains("ask the source for a dump"));
    restore(&["--timeout", "2s"]);
    assert_eq!(served.get("/v1/dumps", &eu1).await.json()["total"], 2);
    stream.upload().await.expect("upload");
    restore(&["--timeout", "20s"]);
    assert_eq!(apply().0, 0);
    // A run from cron that fails says so before it ends.
    region.sql("SET GLOBAL super_read_only = 1").await;
    source.sql("INSERT INTO heals_over_http.b VALUES (5)").await;
    stream.upload().await.expect("upload");
    assert_eq!(apply().0, 12);
    let shown = served.get("/v1/regions/eu1", &eu1).await.json();
    assert_eq!(shown["state"], "failing", "{shown}");
    assert!(shown["last_error"].as_str().unwrap().contains("super_read_only"), "{shown}");
    region.sql("SET GLOBAL super_read_only = 0, GLOBAL read_only = 0").await;
    assert_eq!(apply().0, 0);
    assert_eq!(served.get("/v1/regions/eu1", &eu1).await.json()["state"], "ok");
    // A token that is not valid (any more) stops nothing, and is told.
    desk.write("token", "tablecast_wrong");
    let (code, said) = apply();
    assert!(
        code == 0 && said.contains("does not take this region's report") && said.contains("401"),
        "{said}"
    );
    desk.write("token", &eu1);
    // Without the service the region goes on as before.
    drop(served);
    source.sql("INSERT INTO heals_over_http.a VALUES (3, 'after')").await;
    stream.upload().await.expect("upload");
    let (code, said) = apply();
    assert_eq!(code, 0, "{said}");
    let rows: u64 = region.value("SELECT COUNT(*) FROM heals_over_http.a").await;
    assert_eq!(rows, 3);
}
