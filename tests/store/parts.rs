//! Files that go to S3 in parts.

use chrono::TimeDelta;
use s3s::S3ErrorCode;
use tablecast::Kind;
use tablecast::clock::{Clock, SystemClock};
use tablecast::config::S3Config;
use tablecast::store::{Body, Fetched, S3Store, Store};
use tablecast::stream::{Key, Md5};
use tempfile::NamedTempFile;

use super::s3_store;
use crate::support::s3::{Fault, Manners, S3Server};

/// Seven parts of 1,000 bytes, and one of 500.
const SIZE: u64 = 7500;

async fn with_server() -> (S3Server, S3Store) {
    let server = S3Server::start();
    let store = s3_store(&server, "apps", server.config()).await.with_parts(2000, 1000);
    (server, store)
}

fn file(seed: u64) -> (NamedTempFile, Md5) {
    let bytes: Vec<u8> = (0..SIZE).map(|n| (n * seed % 251) as u8).collect();
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &bytes).unwrap();
    (file, Md5::of(&bytes))
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

async fn md5_of(store: &S3Store, key: &Key) -> Md5 {
    match store.get(key, None).await.unwrap() {
        Fetched::Object { bytes, .. } => Md5::of(&bytes),
        Fetched::Unchanged => panic!("nothing was named that could be unchanged"),
    }
}

fn count(server: &S3Server, kind: &str) -> usize {
    server.asked().iter().filter(|asked| asked.kind == kind).count()
}

/// I1.
#[tokio::test]
async fn i1_a_large_file_goes_in_parts_each_with_its_md5_and_the_last_request_has_the_condition() {
    let (server, store) = with_server().await;
    let (file, md5) = file(3);
    let body = Body::Packed { path: file.path(), md5, size: SIZE };
    let etag = store.create(&key("segments/1"), body).await.unwrap();
    let asked = server.asked();
    let parts: Vec<_> = asked.iter().filter(|asked| asked.kind == "UploadPart").collect();
    assert!(parts.len() == 8 && parts.iter().all(|part| part.md5), "{asked:?}");
    let last = asked.last().unwrap();
    assert_eq!((last.kind, last.conditional), ("CompleteMultipartUpload", true));
    assert_eq!(asked.len(), 10, "{asked:?}");
    assert_eq!(md5_of(&store, &key("segments/1")).await, md5);
    assert_eq!(store.stat(&key("segments/1")).await.unwrap().etag, etag);
    // A digest that has to be found first makes no difference; nor does it that it is there already.
    store.create(&key("segments/1"), Body::File(file.path())).await.unwrap();
    assert_eq!(server.unfinished(), [""; 0]);
}

#[tokio::test]
async fn i1_parts_that_fail_or_arrive_damaged_are_sent_again_or_given_up() {
    let (server, store) = with_server().await;
    let (file, md5) = file(5);
    let body = Body::Packed { path: file.path(), md5, size: SIZE };
    let down = || Fault::Error(503, S3ErrorCode::SlowDown);
    server.fail("UploadPart", [down(), Fault::NoAnswer, down()]);
    server.fail("CreateMultipartUpload", [down()]);
    server.fail("CompleteMultipartUpload", [down()]);
    store.create(&key("segments/1"), body).await.unwrap();
    assert!(server.faults_are_over());
    assert_eq!(md5_of(&store, &key("segments/1")).await, md5);
    // For good.
    for fault in [Fault::Damaged, Fault::Error(403, S3ErrorCode::AccessDenied)] {
        server.fail("UploadPart", [Fault::Nothing, fault]);
        let error = store.create(&key("segments/2"), body).await.unwrap_err();
        assert!(error.to_string().contains("segments/2: part "), "{error}");
        assert_eq!(server.unfinished(), [""; 0]);
        assert_eq!(server.keys(), ["apps/segments/1"]);
    }
}

/// I7: whether it took effect is found out, not guessed.
#[tokio::test]
async fn i7_a_completion_whose_answer_is_lost_is_known_to_be_done() {
    let (server, store) = with_server().await;
    let (file, md5) = file(7);
    server.fail("CompleteMultipartUpload", [Fault::NoAnswer]);
    let body = Body::Packed { path: file.path(), md5, size: SIZE };
    let etag = store.create(&key("segments/1"), body).await.unwrap();
    assert_eq!(store.stat(&key("segments/1")).await.unwrap().etag, etag);
    assert_eq!(md5_of(&store, &key("segments/1")).await, md5);
}

#[tokio::test]
async fn a_completion_that_comes_second_changes_nothing() {
    let (server, store) = with_server().await;
    let (first, md5) = file(3);
    store.create(&key("segments/1"), Body::File(first.path())).await.unwrap();
    let (second, other) = file(5);
    let body = Body::Packed { path: second.path(), md5: other, size: SIZE };
    let error = store.create(&key("segments/1"), body).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict, "{error:?}");
    assert_eq!(md5_of(&store, &key("segments/1")).await, md5);
    assert_eq!(server.unfinished(), [""; 0]);
    // Somebody who writes it right now ("ConditionalRequestConflict"): all of it once more.
    server.asked();
    server.fail("CompleteMultipartUpload", [Fault::Error(409, S3ErrorCode::OperationAborted)]);
    let body = Body::Packed { path: second.path(), md5: other, size: SIZE };
    store.create(&key("segments/2"), body).await.unwrap();
    assert_eq!(count(&server, "CreateMultipartUpload"), 2);
    assert_eq!(server.unfinished(), [""; 0]);
}

/// Some servers know conditions on PUT only.
#[tokio::test]
async fn a_server_without_conditional_completions_gets_the_file_in_one_request() {
    let (server, store) = with_server().await;
    let (file, md5) = file(3);
    server.fail("CompleteMultipartUpload", [Fault::Error(501, S3ErrorCode::NotImplemented)]);
    let body = Body::Packed { path: file.path(), md5, size: SIZE };
    store.create(&key("segments/1"), body).await.unwrap();
    let asked = server.asked();
    assert!(asked.iter().any(|asked| asked.kind == "PutObject" && asked.conditional && asked.md5));
    assert_eq!(md5_of(&store, &key("segments/1")).await, md5);
    assert_eq!(server.unfinished(), [""; 0]);
}

#[tokio::test]
async fn what_is_to_be_encrypted_is_not_sent_to_a_server_that_does_not_encrypt() {
    let server = S3Server::start();
    let config = S3Config { sse: Some("aws:kms".into()), ..server.config() };
    let store = s3_store(&server, "apps", config).await.with_parts(2000, 1000);
    let (file, _) = file(3);
    let error = store.create(&key("segments/1"), Body::File(file.path())).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied, "{error:?}");
    assert_eq!(count(&server, "UploadPart"), 0);
    assert_eq!(server.unfinished(), [""; 0]);
    server.behave(Manners { encrypts: Some("1"), ..Default::default() });
    store.create(&key("segments/1"), Body::File(file.path())).await.unwrap();
}

#[tokio::test]
async fn what_killed_writers_have_left_is_given_up_when_it_is_old() {
    let (server, store) = with_server().await;
    let (file, _) = file(3);
    let ours = |n: u64| format!("segments/{n:020}-{n:020}-20261121T120000000Z.binlog.gz");
    // The last is another program's.
    for key_of in [ours(1), ours(2), "somebody/else".to_owned()] {
        // Neither the parts nor giving up: as if it had been killed.
        server.fail("UploadPart", [Fault::Error(403, S3ErrorCode::AccessDenied)]);
        server.fail("AbortMultipartUpload", [Fault::Error(403, S3ErrorCode::AccessDenied)]);
        store.create(&key(&key_of), Body::File(file.path())).await.unwrap_err();
        server.forget_faults();
    }
    assert_eq!(server.unfinished().len(), 3);
    let now = SystemClock.now();
    assert_eq!(store.give_up_unfinished(now - TimeDelta::days(1)).await.unwrap(), 0);
    assert_eq!(store.give_up_unfinished(now + TimeDelta::minutes(1)).await.unwrap(), 2);
    assert_eq!(server.unfinished().len(), 1);
}
