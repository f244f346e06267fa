//! `/metrics` of the running service.

use reqwest::Method;
use serde_json::{Value, json};
use tablecast::clock::{Clock, SystemClock};

use super::Scraped;
use crate::http::kit::{Answer, Desk, Place, admin, client, region_token};

#[tokio::test]
async fn the_service_tells_stream_regions_and_jobs_and_leaves_out_what_it_does_not_know() {
    let place = Place::directory();
    let (store, head) = place.stream().await;
    let served = Desk::new(&place, "").serve();
    let eu1 = region_token("eu1").text;
    let report = |region: &str| {
        json!({
            "format": {"major": 1, "minor": 0}, "region": region, "stream": head.stream, "seq": 0, "chain": head.tip,
            "last_tx": 0, "base_tx": 0, "version": "tablecast \"0.1\\", "reported_at": SystemClock.now(),
        })
    };
    let put = async |region: &str, body: Value| {
        let path = format!("/v1/regions/{region}");
        let sent = served.request(Method::PUT, &path, &admin().text).json(&body);
        assert_eq!(Answer::of(sent).await.status, 204);
    };
    let mut hurt = report("us1");
    hurt["as_of"] = json!(SystemClock.now() - chrono::TimeDelta::seconds(100));
    hurt["quarantined"] =
        json!([{"table": "g.a", "since_tx": 7, "since": SystemClock.now(), "error": "1032"}]);
    hurt["paused"] = json!({"reason": "moving", "by": "ann@db1", "since": SystemClock.now()});
    put("us1", hurt).await;
    put("ap1", report("ap1")).await;
    assert_eq!(Answer::of(served.ask(&eu1, "eu1", &["g.a"])).await.status, 202);

    Answer::of(client().get(format!("{}/metrics", served.url))).await.is_problem(401, "unauthenticated");
    let answer = served.get("/metrics", &eu1).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let told = Scraped::of(&answer.text);
    assert_eq!(told.get("tablecast_stream_readable", &[("stream", "apps")]), Some(1.0));
    assert_eq!(told.get("tablecast_stream_last_seq", &[]), Some(0.0));
    assert_eq!(told.get("tablecast_stream_paused", &[]), Some(0.0));
    assert_eq!(told.get("tablecast_stream_paused_since_timestamp_seconds", &[]), None);
    assert_eq!(told.get("tablecast_stream_full_dump_timestamp_seconds", &[]), None, "there is none");
    let of_us1: &[(&str, &str)] = &[("region", "us1")];
    assert_eq!(told.get("tablecast_region_quarantined_tables", of_us1), Some(1.0));
    assert_eq!(told.get("tablecast_region_paused", of_us1), Some(1.0));
    assert!(
        told.get("tablecast_region_lag_seconds", of_us1).is_some_and(|lag| (100.0..200.0).contains(&lag))
    );
    assert_eq!(told.sum("tablecast_region_state", of_us1), 1.0, "it is in one state");
    // It has never said when it was as the source: that is not 0.
    assert_eq!(told.get("tablecast_region_as_of_timestamp_seconds", &[("region", "ap1")]), None);
    assert_eq!(told.get("tablecast_region_lag_seconds", &[("region", "ap1")]), None);
    assert!(told.get("tablecast_region_last_report_timestamp_seconds", &[("region", "ap1")]).is_some());
    let skew = told.get("tablecast_region_clock_skew_seconds", &[("region", "ap1")]).expect("a skew");
    assert!(skew.abs() < 60.0, "{skew}");
    assert_eq!(told.get("tablecast_dump_jobs", &[("state", "queued")]), Some(1.0));
    assert_eq!(told.get("tablecast_dump_jobs", &[("state", "failed")]), Some(0.0));
    assert!(told.get("tablecast_dump_oldest_pending_timestamp_seconds", &[]).is_some());
    let put = [("route", "/v1/regions/{name}"), ("method", "PUT"), ("code", "204")];
    assert_eq!(told.get("tablecast_http_requests_total", &put), Some(2.0));
    assert_eq!(
        told.get("tablecast_http_requests_total", &[("route", "/metrics"), ("code", "401")]),
        Some(1.0)
    );
    assert!(told.sum("tablecast_store_requests_total", &[("operation", "list"), ("outcome", "ok")]) >= 1.0);

    // A path that somebody makes up is no series of its own, nor is a method.
    served.get("/secret-9d3", &eu1).await.is_problem(404, "not-found");
    let _ = Answer::of(served.request(Method::from_bytes(b"BREW").unwrap(), "/v1/dumps", &eu1)).await;
    let text = served.get("/metrics", &eu1).await.text;
    assert!(!text.contains("secret-9d3") && !text.contains("BREW"), "{text}");

    // Without the bucket it still answers, and tells nothing of the stream that it does not know.
    drop(store);
    let Place::Directory(folder) = place else { unreachable!() };
    folder.close().unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    let told = Scraped::of(&served.get("/metrics", &eu1).await.text);
    assert_eq!(told.get("tablecast_stream_readable", &[]), Some(0.0));
    assert_eq!(told.get("tablecast_stream_last_seq", &[]), None);
    assert_eq!(told.get("tablecast_region_state", of_us1), None);
    assert!(told.get("tablecast_service_start_timestamp_seconds", &[]).is_some());
    assert_eq!(told.get("tablecast_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), Some(1.0));
}

#[tokio::test]
async fn a_region_whose_report_cannot_be_read_is_told_as_such_and_takes_no_other_with_it() {
    let place = Place::s3();
    let Place::S3(s3) = &place else { unreachable!() };
    let (_, head) = place.stream().await;
    let served = Desk::new(&place, "").serve();
    let reader = region_token("eu1").text;
    for region in ["ap1", "eu1", "us1"] {
        let body = json!({
            "format": {"major": 1, "minor": 0}, "region": region, "stream": head.stream, "seq": 0, "chain": head.tip,
            "last_tx": 0, "base_tx": 0, "version": "tablecast 0.1", "reported_at": SystemClock.now(),
        });
        let sent = served.request(Method::PUT, &format!("/v1/regions/{region}"), &admin().text).json(&body);
        assert_eq!(Answer::of(sent).await.status, 204);
    }
    let key = s3.keys().into_iter().find(|key| key.contains("regions/ap1")).expect("its report");
    s3.put(&key, "{\"half a rep");
    s3.break_down("GetObject", "regions/eu1");
    let told = Scraped::of(&served.get("/metrics", &reader).await.text);
    assert_eq!(told.get("tablecast_regions_readable", &[]), Some(1.0));
    assert_eq!(told.get("tablecast_dump_jobs_readable", &[]), Some(1.0));
    for (region, is_readable) in [("ap1", 0.0), ("eu1", 0.0), ("us1", 1.0)] {
        let of_it: &[(&str, &str)] = &[("region", region)];
        assert_eq!(told.get("tablecast_region_readable", of_it), Some(is_readable), "{region}");
        assert!(told.get("tablecast_region_last_report_timestamp_seconds", of_it).is_some(), "{region}");
        assert_eq!(told.get("tablecast_region_last_seq", of_it).is_some(), is_readable == 1.0, "{region}");
    }
    s3.break_down("ListObjectsV2", "");
    let told = Scraped::of(&served.get("/metrics", &reader).await.text);
    assert_eq!(told.get("tablecast_stream_readable", &[]), Some(1.0));
    assert_eq!(told.get("tablecast_regions_readable", &[]), Some(0.0));
    assert_eq!(told.get("tablecast_dump_jobs_readable", &[]), Some(0.0));
    assert_eq!(told.sum("tablecast_region_readable", &[]), 0.0);
}
