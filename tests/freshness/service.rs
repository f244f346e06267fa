//! `GET /v1/stream?after=SEQ`: waiting for news of the stream.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use tablecast::http::tokens::Scope;
use tablecast::store::head::{self, Read};
use tablecast::stream::Seq;

use super::kit::{PATIENCE, append, count};
use crate::http::kit::{Answer, Desk, Place, Served, admin, client, region_token, token};
use crate::support::s3::S3Server;

/// Asks for what is behind `after`, and goes on.
fn ask(served: &Served, after: u64, wait: u64, token: &str) -> tokio::task::JoinHandle<Answer> {
    let request = served.request(Method::GET, &format!("/v1/stream?after={after}&wait={wait}"), token);
    tokio::spawn(Answer::of(request))
}

fn s3(place: &Place) -> &S3Server {
    match place {
        Place::S3(server) => server,
        _ => panic!("not S3"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn news_are_told_when_there_is_an_entry_and_not_before() {
    for place in [Place::directory(), Place::s3()] {
        let (store, _) = place.stream().await;
        let served = Desk::new(&place, "").serve();
        let eu1 = region_token("eu1").text;
        let waiting = ask(&served, 0, 30, &eu1);
        tokio::time::sleep(Duration::from_millis(800)).await;
        assert!(!waiting.is_finished(), "there is nothing yet");
        assert_eq!(append(&*store).await.last_seq, Seq(1));
        let told = waiting.await.unwrap();
        assert_eq!((told.status, &told.json()["last_seq"]), (200, &json!(1)));
        // Who lacks it is told at once; who has more than there is waits for what is behind that.
        let late = tokio::time::timeout(PATIENCE, ask(&served, 0, 30, &eu1)).await.unwrap().unwrap();
        assert_eq!(late.json()["last_seq"], 1);
        let ahead = ask(&served, 2, 30, &eu1);
        let level = ask(&served, 1, 30, &eu1);
        append(&*store).await;
        assert_eq!(level.await.unwrap().json()["last_seq"], 2);
        assert!(!ahead.is_finished());
        append(&*store).await;
        assert_eq!(ahead.await.unwrap().json()["last_seq"], 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_written_without_an_entry_is_news_too() {
    let place = Place::directory();
    let (store, _) = place.stream().await;
    let served = Desk::new(&place, "").serve();
    let waiting = ask(&served, 0, 30, &region_token("eu1").text);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let Ok(Read::Head { mut head, etag }) = head::read(&*store, None).await else { panic!() };
    head.as_of = head.created_at + chrono::TimeDelta::seconds(61);
    head::write(&*store, &mut head, Some(&etag)).await.unwrap();
    let told = waiting.await.unwrap();
    assert_eq!((told.status, &told.json()["last_seq"]), (200, &json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_news_the_answer_is_204_when_the_time_is_over_and_is_bounded() {
    let place = Place::directory();
    place.stream().await;
    let served = Desk::new(&place, "").serve();
    let eu1 = region_token("eu1").text;
    let began = Instant::now();
    let answer = ask(&served, 0, 1, &eu1).await.unwrap();
    assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(ask(&served, 7, 0, &eu1).await.unwrap().status, 204);
    for wrong in ["after=x", "after=-1", "wait=3", "after=1&until=2"] {
        served.get(&format!("/v1/stream?{wrong}"), &eu1).await.is_problem(400, "malformed");
    }
    assert_eq!(served.get("/v1/stream", &eu1).await.status, 200);
    // No line for each: a busy stream has many a second.
    assert!(!served.log().contains("status=204"), "{}", served.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_token_that_may_read_waits_and_none_waits_without_an_end() {
    let place = Place::directory();
    let (store, _) = place.stream().await;
    let desk = Desk::new(&place, "");
    let reports = token("reports", Some("eu1"), &[Scope::Report]);
    desk.write("tokens.toml", &format!("{}{}", region_token("eu1").entry, reports.entry));
    let served = desk.serve();
    ask(&served, 0, 20, &reports.text).await.unwrap().is_problem(403, "missing-scope");
    ask(&served, 0, 20, "tablecast_wrong").await.unwrap().is_problem(401, "unauthenticated");
    let none = client().get(format!("{}/v1/stream?after=0", served.url));
    Answer::of(none).await.is_problem(401, "unauthenticated");
    let eu1 = region_token("eu1").text;
    // Sixteen of one token may wait, and no more.
    let waiting: Vec<_> = (0..17).map(|_| ask(&served, 0, 30, &eu1)).collect();
    let (first, _, waiting) = futures::future::select_all(waiting).await;
    first.unwrap().is_problem(429, "too-many-requests");
    append(&*store).await;
    for answer in waiting {
        assert_eq!(answer.await.unwrap().status, 200, "it was let wait");
    }
    // They are over, and nothing is remembered of them.
    assert_eq!(ask(&served, 1, 0, &eu1).await.unwrap().status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_that_wait_share_one_look_and_keep_nobody_from_being_served() {
    let place = Place::s3();
    let (store, _) = place.stream().await;
    let desk = Desk::new(&place, "watch = \"200ms\"");
    // More than one address may have served at once.
    let names: Vec<String> = (0..20).map(|n| format!("r{n}")).collect();
    let entries: String = names.iter().map(|name| region_token(name).entry + "\n").collect();
    desk.write("tokens.toml", &format!("{entries}{}", admin().entry));
    let served = desk.serve();
    let waiting: Vec<_> = names
        .iter()
        .flat_map(|name| [name; 10])
        .map(|name| ask(&served, 0, 30, &region_token(name).text))
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    s3(&place).asked();
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(served.get("/v1/token", &admin().text).await.status, 200, "others are served");
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (looks, took) = (s3(&place).asked().len() as u128, began.elapsed());
    assert!(looks >= 1 && looks <= took.as_millis() / 200 + 2, "{looks} looks in {took:?}");
    append(&*store).await;
    for answer in waiting {
        assert_eq!(answer.await.unwrap().status, 200);
    }
    // Nobody waits: nobody looks.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    s3(&place).asked();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(count(&s3(&place).asked(), "GetObject", ""), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_ends_answers_those_who_wait() {
    let place = Place::directory();
    place.stream().await;
    let served = Desk::new(&place, "").serve();
    let began = Instant::now();
    let waiting = ask(&served, 0, 30, &region_token("eu1").text);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(served.end().await, 143);
    assert_eq!(waiting.await.unwrap().status, 204);
    assert!(began.elapsed() < Duration::from_secs(29), "it is not waited for");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_fails_is_told_to_those_who_wait() {
    let place = Place::s3();
    place.stream().await;
    let served = Desk::new(&place, "").serve();
    let eu1 = region_token("eu1").text;
    let waiting = ask(&served, 0, 30, &eu1);
    tokio::time::sleep(Duration::from_millis(500)).await;
    s3(&place).break_down("GetObject", "index.json");
    waiting.await.unwrap().is_problem(503, "unavailable");
    s3(&place).mend();
    let begin = Instant::now();
    while ask(&served, 0, 0, &eu1).await.unwrap().status != 204 {
        assert!(begin.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
