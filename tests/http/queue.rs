//! The queue of requests in the bucket: one pending request for the same tables, whatever the race, and an
//! Idempotency-Key that always means the same.

use std::collections::BTreeSet;
use std::sync::Arc;

use tablecast::Kind;
use tablecast::binlog::name::TableName;
use tablecast::clock::{Clock, SystemClock};
use tablecast::source::dump::queue::{self, Known, NewRequest, Queued, SOURCE};
use tablecast::store::Store;
use tablecast::stream::{DumpId, Head, Key, Request, RequestId, RequestState, Seq, StreamTx};

use super::kit::Place;

fn tables(names: &[&str]) -> BTreeSet<TableName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn new(head: &Head, region: &str, names: &[&str], key: Option<&str>) -> NewRequest {
    NewRequest::of_region(head.stream, region, tables(names), "drifted", key)
}

async fn ask(store: &Arc<dyn Store>, head: &Head, new: &NewRequest) -> Queued {
    queue::queue(&**store, head, &SystemClock, new, &Known::default()).await.unwrap()
}

async fn jobs(store: &Arc<dyn Store>, head: &Head) -> Vec<Request> {
    let found = queue::all(&**store, head.stream, &Known::default()).await.unwrap();
    found.into_iter().map(|found| found.request).collect()
}

/// Takes a request as far as upload does.
async fn finish(store: &Arc<dyn Store>, id: &RequestId) {
    let (mut request, etag) = queue::read(&**store, id).await.unwrap();
    request.advance(RequestState::Running, SystemClock.now()).unwrap();
    request.dump = Some(DumpId::new(SystemClock.now(), 1));
    (request.seq, request.at) = (Some(Seq(1)), Some(StreamTx(1)));
    request.advance(RequestState::Uploaded, SystemClock.now()).unwrap();
    queue::write(&**store, &request, &etag).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_ask_at_once_there_is_one_request_for_the_same_tables() {
    for place in [Place::directory(), Place::s3()] {
        let (store, head) = place.stream().await;
        let asking = (0..24).map(|n| {
            let (store, head) = (store.clone(), head.clone());
            tokio::spawn(async move {
                let key = format!("key {n}");
                ask(&store, &head, &new(&head, &format!("r{:02}", n % 6), &["g.a", "g.b"], Some(&key))).await
            })
        });
        let mut made = 0;
        let mut ids = BTreeSet::new();
        for answer in futures::future::join_all(asking).await {
            let answer = answer.unwrap();
            made += u32::from(matches!(answer, Queued::Made(_)));
            ids.insert(answer.into_request().id);
        }
        assert_eq!((made, ids.len()), (1, 1));
        let jobs = jobs(&store, &head).await;
        assert_eq!(jobs.len(), 1);
        assert_eq!(jobs[0].regions, ["r00", "r01", "r02", "r03", "r04", "r05"]);
        // Every one of the keys is answered with it ever after.
        finish(&store, &jobs[0].id).await;
        for n in 0..24 {
            let again = new(&head, &format!("r{:02}", n % 6), &["g.a", "g.b"], Some(&format!("key {n}")));
            let Queued::Again(request) = ask(&store, &head, &again).await else { panic!("key {n}") };
            assert_eq!((&request.id, request.state), (&jobs[0].id, RequestState::Uploaded));
        }
        // Somebody who asks anew gets a new one: that dump is history.
        assert!(matches!(ask(&store, &head, &new(&head, "r00", &["g.a"], None)).await, Queued::Made(_)));
    }
}

#[tokio::test]
async fn a_request_is_covered_by_a_larger_one_and_not_by_another() {
    let place = Place::directory();
    let (store, head) = place.stream().await;
    let Queued::Made(large) = ask(&store, &head, &new(&head, "eu1", &["g.a", "g.b"], None)).await else {
        panic!()
    };
    let Queued::Joined(same) = ask(&store, &head, &new(&head, "us1", &["g.b"], None)).await else { panic!() };
    assert_eq!((&same.id, same.regions), (&large.id, vec!["eu1".to_owned(), "us1".to_owned()]));
    assert!(matches!(ask(&store, &head, &new(&head, "us1", &["g.b", "g.c"], None)).await, Queued::Made(_)));
    let all = NewRequest {
        id: RequestId::new(1),
        has_key: false,
        region: SOURCE.to_owned(),
        tables: BTreeSet::new(),
        all_tables: true,
        mandatory: true,
        reason: "a rebuild".to_owned(),
    };
    let Queued::Made(all) = ask(&store, &head, &all).await else { panic!() };
    // All tables cover some; the oldest that covers answers.
    assert_eq!(ask(&store, &head, &new(&head, "ap1", &["g.d"], None)).await.into_request().id, all.id);
    assert_eq!(ask(&store, &head, &new(&head, "ap1", &["g.a"], None)).await.into_request().id, large.id);
    let mandatory = NewRequest { mandatory: true, ..new(&head, "ap1", &["g.a"], None) };
    assert_eq!(ask(&store, &head, &mandatory).await.into_request().id, all.id);
    assert_eq!(jobs(&store, &head).await.len(), 3);
}

#[tokio::test]
async fn the_same_key_is_the_same_request_and_another_body_is_refused() {
    let place = Place::directory();
    let (store, head) = place.stream().await;
    let first = new(&head, "eu1", &["g.a"], Some("k"));
    let Queued::Made(made) = ask(&store, &head, &first).await else { panic!() };
    assert_eq!(made.id, RequestId::of_key(head.stream, "eu1", "k"));
    assert_eq!(ask(&store, &head, &first).await, Queued::Again(made.clone()));
    let other = new(&head, "eu1", &["g.b"], Some("k"));
    assert_eq!(ask(&store, &head, &other).await, Queued::OtherBody(made.clone()));
    // The same key of another region is another key; that region waits for the same job now.
    let theirs = new(&head, "us1", &["g.a"], Some("k"));
    let Queued::Joined(joined) = ask(&store, &head, &theirs).await else { panic!() };
    assert_eq!(joined.id, made.id);
    finish(&store, &made.id).await;
    assert!(matches!(ask(&store, &head, &theirs).await, Queued::Again(request) if request.id == made.id));
    let theirs_changed = new(&head, "us1", &["g.a", "g.b"], Some("k"));
    assert!(matches!(ask(&store, &head, &theirs_changed).await, Queued::OtherBody(_)));
}

#[tokio::test]
async fn i7_a_request_whose_maker_was_killed_halfway_is_made_by_the_next() {
    let place = Place::directory();
    let (store, head) = place.stream().await;
    let Queued::Made(first) = ask(&store, &head, &new(&head, "eu1", &["g.a"], Some("k"))).await else {
        panic!()
    };
    // As it is between the two writes.
    store.delete(&Key::request(&first.id)).await.unwrap();
    let Queued::Joined(joined) = ask(&store, &head, &new(&head, "us1", &["g.a"], None)).await else {
        panic!()
    };
    assert_eq!((&joined.id, jobs(&store, &head).await.len()), (&first.id, 1));
    store.delete(&Key::request(&first.id)).await.unwrap();
    // Its maker, told to try again.
    assert!(matches!(ask(&store, &head, &new(&head, "eu1", &["g.a"], Some("k"))).await, Queued::Again(_)));
    assert_eq!(jobs(&store, &head).await.len(), 1);
}

#[tokio::test]
async fn a_damaged_request_stops_nobody() {
    let place = Place::directory();
    let (store, head) = place.stream().await;
    for key in [Key::newest_request(), Key::request(&RequestId::new(7))] {
        store.swap(&key, b"{\"format\"", None).await.unwrap();
    }
    let Queued::Made(made) = ask(&store, &head, &new(&head, "eu1", &["g.a"], None)).await else { panic!() };
    assert_eq!(jobs(&store, &head).await, std::slice::from_ref(&made));
    // Nor does one of another stream that was in this place before.
    let other = Head::new(uuid::Uuid::new_v4(), "other", head.table_set.tables.clone(), SystemClock.now());
    assert!(matches!(ask(&store, &other, &new(&other, "eu1", &["g.a"], None)).await, Queued::Made(_)));
    assert_eq!(jobs(&store, &head).await, [made]);
}

#[tokio::test]
async fn a_region_that_cancels_leaves_and_the_last_one_ends_it() {
    let place = Place::directory();
    let (store, head) = place.stream().await;
    let id = ask(&store, &head, &new(&head, "eu1", &["g.a"], None)).await.into_request().id;
    ask(&store, &head, &new(&head, "us1", &["g.a"], None)).await;
    let cancel = async |region| queue::cancel(&*store, &SystemClock, &id, region).await;
    assert!(cancel(Some("ap1")).await.unwrap_err().is_not_found());
    let left = cancel(Some("eu1")).await.unwrap();
    assert_eq!((left.state, left.regions), (RequestState::Queued, vec!["us1".to_owned()]));
    assert_eq!(cancel(Some("us1")).await.unwrap().state, RequestState::Cancelled);
    assert_eq!(cancel(Some("us1")).await.unwrap().state, RequestState::Cancelled);
    assert_eq!(cancel(None).await.unwrap().state, RequestState::Cancelled);
    // Over is over: nobody joins it, and one that was answered cannot be taken back.
    let Queued::Made(next) = ask(&store, &head, &new(&head, "eu1", &["g.a"], None)).await else { panic!() };
    finish(&store, &next.id).await;
    assert_eq!(
        queue::cancel(&*store, &SystemClock, &next.id, None).await.unwrap_err().kind(),
        Kind::Conflict
    );
    let missing = RequestId::new(99);
    assert!(queue::cancel(&*store, &SystemClock, &missing, None).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn a_region_that_left_and_asks_again_waits_again() {
    let place = Place::directory();
    let (store, head) = place.stream().await;
    let us1 = new(&head, "us1", &["g.a"], Some("k1"));
    let eu1 = new(&head, "eu1", &["g.a"], Some("k2"));
    let id = ask(&store, &head, &us1).await.into_request().id;
    for (region, request) in [("eu1", &eu1), ("us1", &us1)] {
        ask(&store, &head, &eu1).await;
        queue::cancel(&*store, &SystemClock, &id, Some(region)).await.unwrap();
        let Queued::Joined(again) = ask(&store, &head, request).await else { panic!("{region}") };
        assert_eq!((&again.id, again.regions), (&id, vec!["eu1".to_owned(), "us1".to_owned()]));
        assert!(matches!(ask(&store, &head, request).await, Queued::Again(_)));
    }
}

#[tokio::test]
async fn a_region_cannot_fill_the_queue() {
    let place = Place::directory();
    let (store, head) = place.stream().await;
    for n in 0..queue::MAX_PENDING {
        let name = format!("g.t{n}");
        assert!(
            matches!(ask(&store, &head, &new(&head, "eu1", &[&name], None)).await, Queued::Made(_)),
            "{n}"
        );
    }
    let more = new(&head, "eu1", &["g.more"], None);
    assert!(matches!(ask(&store, &head, &more).await, Queued::Full(_)));
    // What is pending may be joined, and others are not in its way.
    assert!(matches!(ask(&store, &head, &new(&head, "eu1", &["g.t7"], None)).await, Queued::Joined(_)));
    assert!(matches!(ask(&store, &head, &new(&head, "us1", &["g.more"], None)).await, Queued::Made(_)));
    // Making and cancelling without an end is the same.
    for job in jobs(&store, &head).await {
        queue::cancel(&*store, &SystemClock, &job.id, None).await.unwrap();
    }
    let mut made = 0;
    while let Queued::Made(job) = ask(&store, &head, &new(&head, "eu1", &["g.a"], None)).await {
        queue::cancel(&*store, &SystemClock, &job.id, None).await.unwrap();
        made += 1;
    }
    assert_eq!(made, queue::MAX_AN_HOUR - queue::MAX_PENDING);
}

#[tokio::test]
async fn i6_only_tables_of_the_set_are_asked_for() {
    let place = Place::directory();
    let (store, head) = place.stream().await;
    for outside in ["h.a", "g._a_gho_", "mysql.user"] {
        let Ok(table) = outside.parse::<TableName>() else { continue };
        if head.table_set.tables.names(&table) {
            continue;
        }
        let new = NewRequest { tables: BTreeSet::from([table]), ..new(&head, "eu1", &["g.a"], None) };
        let error = queue::queue(&*store, &head, &SystemClock, &new, &Known::default()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Usage, "{error:?}");
        assert!(error.hint_text().is_some_and(|hint| hint.contains("the set is")));
    }
    assert_eq!(jobs(&store, &head).await, []);
}

/// A run from cron looks once a minute; requests stay for weeks.
#[tokio::test]
async fn what_is_over_is_read_once_on_each_machine() {
    let place = Place::s3();
    let Place::S3(server) = &place else { unreachable!() };
    let (store, head) = place.stream().await;
    let machine = tempfile::tempdir().unwrap();
    let mut ids = Vec::new();
    for table in ["g.a", "g.b", "g.c"] {
        ids.push(ask(&store, &head, &new(&head, "eu1", &[table], None)).await.into_request().id);
    }
    finish(&store, &ids[0]).await;
    finish(&store, &ids[1]).await;
    let before = jobs(&store, &head).await;
    let look = async || {
        server.asked();
        let known = Known::load(&*store, machine.path());
        let found = queue::all(&*store, head.stream, &known).await.unwrap();
        let read = server.asked().into_iter().filter(|asked| asked.kind == "GetObject").count();
        (found.into_iter().map(|found| found.request).collect::<Vec<_>>(), read)
    };
    assert_eq!(look().await, (before.clone(), 3));
    assert_eq!(look().await, (before.clone(), 1), "the one that is pending");
    finish(&store, &ids[2]).await;
    let after = jobs(&store, &head).await;
    assert_eq!(look().await, (after.clone(), 1));
    assert_eq!(look().await, (after.clone(), 0));
    // Pruned is gone, and what cannot be read is read anew.
    store.delete(&Key::request(&ids[0])).await.unwrap();
    assert_eq!(look().await, (after[1..].to_vec(), 0));
    for damage in ["", "{}", "{\"x\": \"y\"}", "\u{0}"] {
        for copy in std::fs::read_dir(machine.path()).unwrap() {
            std::fs::write(copy.unwrap().path(), damage).unwrap();
        }
        assert_eq!(look().await, (after[1..].to_vec(), 2), "{damage:?}");
    }
}
