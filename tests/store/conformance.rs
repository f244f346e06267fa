//! What `Store` promises, proved for every implementation.

use std::sync::Arc;

use tablecast::Kind;
use tablecast::store::{Body, Etag, Fetched, Store, probe};
use tablecast::stream::{Key, Md5};

use super::Place;

macro_rules! for_every_store {
    ($($name:ident,)*) => {
        mod directory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::Place::directory()).await;
            })*
        }
        mod s3 {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::Place::s3()).await;
            })*
        }
    };
}

for_every_store! {
    what_was_created_is_read_back,
    an_object_that_is_not_there_is_not_found,
    creating_twice_changes_nothing_and_the_same_again_succeeds,
    of_many_creators_one_wins,
    a_swap_needs_the_state_that_it_expects,
    of_many_swappers_one_wins_each_time,
    what_has_not_changed_is_not_sent_again,
    a_reader_sees_whole_objects_only,
    a_listing_is_in_the_order_of_the_keys,
    a_download_never_writes_more_than_it_may,
    a_file_larger_than_memory_should_hold_goes_through,
    a_sound_store_passes_the_probe_and_keeps_nothing_of_it,
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

async fn bytes(store: &dyn Store, key: &Key) -> (Vec<u8>, Etag) {
    match store.get(key, None).await.unwrap() {
        Fetched::Object { bytes, etag } => (bytes, etag),
        Fetched::Unchanged => panic!("nothing was named that could be unchanged"),
    }
}

async fn what_was_created_is_read_back(place: Place) {
    let store = place.store().await;
    let folder = tempfile::tempdir().unwrap();
    let all: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    for (name, content) in [("empty", &b""[..]), ("a/small", b"x\0\r\n"), ("a/b/larger", &all)] {
        let key = key(name);
        let etag = store.create(&key, Body::Bytes(content)).await.unwrap();
        // By another process too.
        let other = place.store().await;
        assert_eq!(bytes(&*other, &key).await, (content.to_vec(), etag.clone()));
        let stat = other.stat(&key).await.unwrap();
        assert_eq!((stat.size, stat.etag), (content.len() as u64, etag));
        assert!(stat.md5.is_none_or(|md5| md5 == Md5::of(content)));
        let to = folder.path().join("to");
        let download = other.download(&key, &to, content.len() as u64).await.unwrap();
        assert_eq!((download.size, download.md5), (content.len() as u64, Md5::of(content)));
        assert_eq!(std::fs::read(&to).unwrap(), content);
    }
    // From a file, the same.
    let from = folder.path().join("from");
    std::fs::write(&from, &all).unwrap();
    store.create(&key("file"), Body::File(&from)).await.unwrap();
    assert_eq!(bytes(&*store, &key("file")).await.0, all);
    let error = store.create(&key("none"), Body::File(&folder.path().join("none"))).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Failed, "a file missing here is no object missing there: {error:?}");
}

async fn an_object_that_is_not_there_is_not_found(place: Place) {
    let store = place.store().await;
    let folder = tempfile::tempdir().unwrap();
    let missing = key("segments/none");
    for _ in 0..2 {
        for error in [
            store.get(&missing, None).await.unwrap_err(),
            store.get(&missing, Some(&Etag::new("\"d41d8cd98f00b204e9800998ecf8427e\""))).await.unwrap_err(),
            store.stat(&missing).await.unwrap_err(),
            store.download(&missing, &folder.path().join("to"), 9).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), Kind::NotFound, "{error:?}");
            assert!(error.to_string().contains(&format!("{}/segments/none", store.url())), "{error}");
        }
        store.delete(&missing).await.unwrap();
        assert_eq!(store.list("").await.unwrap(), []);
        // Nor when its folder is there.
        store.create(&key("segments/other"), Body::Bytes(b"x")).await.unwrap();
        store.delete(&key("segments/other")).await.unwrap();
    }
}

async fn creating_twice_changes_nothing_and_the_same_again_succeeds(place: Place) {
    let store = place.store().await;
    let key = key("index/1");
    let etag = store.create(&key, Body::Bytes(b"first")).await.unwrap();
    for other in [&b"other"[..], b"", b"first and more"] {
        let error = store.create(&key, Body::Bytes(other)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict, "{error:?}");
        assert!(error.to_string().contains("it is there already, with other content"), "{error}");
    }
    assert_eq!(store.create(&key, Body::Bytes(b"first")).await.unwrap(), etag);
    assert_eq!(bytes(&*store, &key).await, (b"first".to_vec(), etag));
}

async fn of_many_creators_one_wins(place: Place) {
    let key = key("segments/contended");
    let mut runs = tokio::task::JoinSet::new();
    for n in 0..12u8 {
        let (store, key) = (place.store().await, key.clone());
        runs.spawn(async move { (n, store.create(&key, Body::Bytes(&[n; 1000])).await) });
    }
    let runs = runs.join_all().await;
    let won: Vec<u8> = runs.iter().filter(|(_, done)| done.is_ok()).map(|(n, _)| *n).collect();
    for (_, done) in &runs {
        assert!(done.is_ok() || done.as_ref().unwrap_err().is_conflict(), "{done:?}");
    }
    assert_eq!(won.len(), 1, "{won:?} won");
    assert_eq!(bytes(&*place.store().await, &key).await.0, [won[0]; 1000]);
}

async fn a_swap_needs_the_state_that_it_expects(place: Place) {
    let store = place.store().await;
    let key = key("index.json");
    let nothing = Etag::new("\"d41d8cd98f00b204e9800998ecf8427e\"");
    let conflict = async |bytes: &[u8], expected: Option<&Etag>| {
        let error = store.swap(&key, bytes, expected).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict, "{error:?}");
    };
    conflict(b"one", Some(&nothing)).await;
    assert!(store.get(&key, None).await.unwrap_err().is_not_found());
    let one = store.swap(&key, b"one", None).await.unwrap();
    conflict(b"two", None).await;
    conflict(b"two", Some(&nothing)).await;
    let two = store.swap(&key, b"two", Some(&one)).await.unwrap();
    assert_ne!(one, two);
    conflict(b"three", Some(&one)).await;
    assert_eq!(bytes(&*store, &key).await, (b"two".to_vec(), two.clone()));
    // A swap that took effect already, because its answer was lost, is recognised.
    assert_eq!(store.swap(&key, b"two", Some(&one)).await.unwrap(), two);
    store.delete(&key).await.unwrap();
    conflict(b"three", Some(&two)).await;
}

async fn of_many_swappers_one_wins_each_time(place: Place) {
    let key = key("index.json");
    let store = place.store().await;
    store.swap(&key, b"0 start", None).await.unwrap();
    let mut runs = tokio::task::JoinSet::new();
    for who in 0..6 {
        let (store, key): (Arc<dyn Store>, _) = (place.store().await, key.clone());
        runs.spawn(async move {
            let mut won = 0;
            while won < 5 {
                let (now, etag) = bytes(&*store, &key).await;
                let now = String::from_utf8(now).unwrap();
                let count: u32 = now.split(' ').next().unwrap().parse().unwrap();
                // Each writes something of its own, so that no two swaps are the same.
                let next = format!("{} by {who}, {won}", count + 1);
                match store.swap(&key, next.as_bytes(), Some(&etag)).await {
                    Ok(_) => won += 1,
                    Err(e) => assert!(e.is_conflict(), "{e:?}"),
                }
            }
        });
    }
    runs.join_all().await;
    let last = String::from_utf8(bytes(&*store, &key).await.0).unwrap();
    assert!(last.starts_with("30 by "), "an update was lost: {last}");
}

async fn what_has_not_changed_is_not_sent_again(place: Place) {
    let store = place.store().await;
    let key = key("index.json");
    let one = store.swap(&key, b"one", None).await.unwrap();
    assert_eq!(store.get(&key, Some(&one)).await.unwrap(), Fetched::Unchanged);
    let two = store.swap(&key, b"two", Some(&one)).await.unwrap();
    let changed = Fetched::Object { bytes: b"two".to_vec(), etag: two.clone() };
    assert_eq!(store.get(&key, Some(&one)).await.unwrap(), changed);
    assert_eq!(store.get(&key, Some(&two)).await.unwrap(), Fetched::Unchanged);
}

async fn a_reader_sees_whole_objects_only(place: Place) {
    let key = key("index.json");
    let writer = place.store().await;
    let content = |n: u32| n.to_be_bytes().repeat(100_000 + n as usize);
    let mut etag = writer.swap(&key, &content(0), None).await.unwrap();
    let (store, name) = (place.store().await, key.clone());
    let reader = tokio::spawn(async move {
        let mut seen = 0;
        loop {
            let (read, _) = bytes(&*store, &name).await;
            let n = u32::from_be_bytes(read[..4].try_into().unwrap());
            assert!(read == content(n), "a mixture of two states, or a part of one");
            assert!(n >= seen, "an older state after a newer one");
            seen = n;
            if n == 40 {
                return;
            }
        }
    });
    for n in 1..=40 {
        etag = writer.swap(&key, &content(n), Some(&etag)).await.unwrap();
    }
    reader.await.unwrap();
}

async fn a_listing_is_in_the_order_of_the_keys(place: Place) {
    let store = place.store().await;
    let mut keys: Vec<String> = (1..=11).map(|n| format!("segments/{:020}", n * 97 % 113)).collect();
    for text in &keys {
        store.create(&key(text), Body::Bytes(text.as_bytes())).await.unwrap();
    }
    for text in ["index.json", "index/1", "segment", "segments-2/1"] {
        store.create(&key(text), Body::Bytes(b"")).await.unwrap();
    }
    keys.sort();
    let list = async |prefix: &str| {
        let listed = place.store().await.list(prefix).await.unwrap();
        listed.into_iter().map(|object| object.key.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(list("segments/").await, keys);
    assert_eq!(list("index").await, ["index.json", "index/1"]);
    assert_eq!(list("segment").await.len(), 13);
    assert_eq!(list("").await.len(), 15);
    assert!(list("").await.is_sorted());
    assert_eq!(list("none/").await, [""; 0]);
    let listed = &store.list("segments/").await.unwrap()[0];
    assert_eq!(listed.size, keys[0].len() as u64);
    assert!(listed.modified.timestamp() > 1_700_000_000);
    store.delete(&key(&keys[0])).await.unwrap();
    assert_eq!(list("segments/").await, keys[1..]);
}

async fn a_download_never_writes_more_than_it_may(place: Place) {
    let store = place.store().await;
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("to");
    store.create(&key("segments/1"), Body::Bytes(&[7; 5000])).await.unwrap();
    std::fs::write(&to, vec![1; 9000]).unwrap();
    let error = store.download(&key("segments/1"), &to, 4999).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt, "{error:?}");
    assert!(std::fs::metadata(&to).map_or(0, |file| file.len()) <= 9000);
    store.download(&key("segments/1"), &to, 5000).await.unwrap();
    assert_eq!(std::fs::read(&to).unwrap(), [7; 5000]);
    // More allowed than there is: what is there.
    assert_eq!(store.download(&key("segments/1"), &to, 6000).await.unwrap().size, 5000);
}

async fn a_file_larger_than_memory_should_hold_goes_through(place: Place) {
    let store = place.store().await;
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    let content: Vec<u8> = (0..20_000_000u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(&from, &content).unwrap();
    store.create(&key("segments/large"), Body::File(&from)).await.unwrap();
    store.create(&key("segments/large"), Body::File(&from)).await.unwrap();
    let download = store.download(&key("segments/large"), &to, 20_000_000).await.unwrap();
    assert_eq!(download.md5, Md5::of(&content));
    assert!(std::fs::read(&to).unwrap() == content);
}

async fn a_sound_store_passes_the_probe_and_keeps_nothing_of_it(place: Place) {
    let store = place.store().await;
    let found = probe(&*store).await.unwrap();
    assert_eq!(found.findings, [""; 0]);
    found.into_result(&*store).unwrap();
    assert_eq!(store.list("").await.unwrap(), []);
}
