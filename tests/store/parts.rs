//! Files that go to S3 in parts.

use chrono::TimeDelta;
use s3s::S3ErrorCode;
use tablecast::Kind;
use tablecast::clock::{Clock, SystemClock};
use tablecast::config::S3Config;
use tablecast::store::{Body, Fetched, S3Store, Store, probe};
use tablecast::stream::{Key, Md5};
use tempfile::NamedTempFile;

use super::s3_store;
use crate::support::s3::{Fault, Manners, S3Server};

/// Seven parts of 1,000 bytes, and one of 500.
const SIZE: u64 = 7500;

/// A store that has been found to do it right.
async fn with_server() -> (S3Server, S3Store) {
    let server = S3Server::start();
    let store = store(&server, server.config()).await;
    assert_eq!(store.whole_files_only().await.unwrap(), None);
    server.asked();
    (server, store)
}

async fn store(server: &S3Server, config: S3Config) -> S3Store {
    s3_store(server, "apps", config).await.with_parts(2000, 1000)
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

/// An answer of Amazon's that takes long is begun with a status of 200 before the outcome is known.
#[tokio::test]
async fn what_a_completion_fails_with_under_a_status_of_200_is_understood() {
    let (server, store) = with_server().await;
    let under_200 = |code| Fault::Error(200, code);
    let busy = || under_200(S3ErrorCode::Custom("ConditionalRequestConflict".into()));
    let (first, md5) = file(3);
    let body = Body::Packed { path: first.path(), md5, size: SIZE };
    server.fail("CompleteMultipartUpload", [busy()]);
    store.create(&key("segments/1"), body).await.unwrap();
    assert_eq!(count(&server, "CreateMultipartUpload"), 2, "all of it once more");
    // The answer to an earlier try was lost: there it is. With other content it is a conflict.
    let (other, other_md5) = file(5);
    for code in [S3ErrorCode::PreconditionFailed, S3ErrorCode::NoSuchUpload] {
        server.fail("CompleteMultipartUpload", [under_200(code.clone())]);
        store.create(&key("segments/1"), body).await.unwrap();
        server.fail("CompleteMultipartUpload", [under_200(code)]);
        let other = Body::Packed { path: other.path(), md5: other_md5, size: SIZE };
        let error = store.create(&key("segments/1"), other).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict, "{error:?}");
        assert!(error.to_string().contains("it is there already, with other content"), "{error}");
    }
    assert_eq!(md5_of(&store, &key("segments/1")).await, md5);
    // What went wrong inside goes by.
    server.fail("CompleteMultipartUpload", [under_200(S3ErrorCode::InternalError)]);
    store.create(&key("segments/2"), body).await.unwrap();
    server.fail("CompleteMultipartUpload", [under_200(S3ErrorCode::AccessDenied)]);
    assert_eq!(store.create(&key("segments/3"), body).await.unwrap_err().kind(), Kind::Denied);
    assert_eq!(server.unfinished(), [""; 0]);
}

#[tokio::test]
async fn an_upload_that_somebody_else_gave_up_is_not_taken_for_an_object_that_is_there() {
    let (server, store) = with_server().await;
    let (file, md5) = file(3);
    server.fail("CompleteMultipartUpload", [Fault::Error(404, S3ErrorCode::NoSuchUpload)]);
    let body = Body::Packed { path: file.path(), md5, size: SIZE };
    let error = store.create(&key("segments/1"), body).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("was given up by somebody else"), "{error:?}");
    assert_eq!(server.keys(), [""; 0]);
    store.create(&key("segments/1"), body).await.unwrap();
}

/// I1: a file that changed between its writing and its sending. Each part for itself would be right.
#[tokio::test]
async fn i1_a_file_that_is_not_what_was_written_is_not_made_an_object() {
    let (server, store) = with_server().await;
    let ((file, md5), (_, written)) = (file(3), file(5));
    let body = Body::Packed { path: file.path(), md5: written, size: SIZE };
    let error = store.create(&key("segments/1"), body).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt, "{error:?}");
    assert!(error.to_string().contains(&format!("reads as md5 {md5}, and {written} was written")), "{error}");
    assert_eq!(count(&server, "CompleteMultipartUpload"), 0);
    assert_eq!((server.keys(), server.unfinished()), (vec![], vec![]));
}

/// I1: some servers know conditions on PUT only, or let a completion overwrite what is there; some know no uploads in
/// parts.
#[tokio::test]
async fn i1_a_server_that_does_not_do_parts_as_it_must_gets_the_file_in_one_request() {
    let refuses = |kind, status| Some((kind, Fault::Error(status, S3ErrorCode::NotImplemented)));
    let not_allowed = Fault::Error(405, S3ErrorCode::MethodNotAllowed);
    for (completes_over, fault, why) in [
        (true, None, "ignores If-None-Match on CompleteMultipartUpload"),
        (
            false,
            refuses("CompleteMultipartUpload", 501),
            "does not know If-None-Match on CompleteMultipartUpload",
        ),
        (false, refuses("CreateMultipartUpload", 501), "knows no uploads in parts"),
        (false, Some(("CreateMultipartUpload", not_allowed)), "knows no uploads in parts"),
    ] {
        let server = S3Server::start();
        let store = store(&server, server.config()).await;
        server.behave(Manners { completes_over, ..Default::default() });
        if let Some((kind, fault)) = fault {
            server.fail(kind, [fault]);
        }
        let (file, md5) = file(3);
        let body = Body::Packed { path: file.path(), md5, size: SIZE };
        store.create(&key("segments/1"), body).await.unwrap();
        store.create(&key("segments/2"), body).await.unwrap();
        let asked = server.asked();
        let puts = asked.iter().filter(|asked| asked.kind == "PutObject" && asked.conditional && asked.md5);
        assert_eq!(puts.count(), 3, "{asked:?}");
        assert_eq!(
            asked.iter().filter(|asked| asked.kind == "CreateMultipartUpload").count(),
            1,
            "tried once"
        );
        assert_eq!(md5_of(&store, &key("segments/1")).await, md5);
        let (keys, unfinished) = (server.keys(), server.unfinished());
        assert_eq!((keys, unfinished), (vec!["apps/segments/1".into(), "apps/segments/2".into()], vec![]));
        // What the doctor says; and what is too large for one PUT.
        let found = probe(&store).await.unwrap();
        assert_eq!((found.findings, found.whole_files_only), (vec![], Some(why)));
        let body = Body::Packed { path: file.path(), md5, size: 6 << 30 };
        let error = store.create(&key("segments/3"), body).await.unwrap_err();
        assert!(error.kind() == Kind::Denied && error.to_string().contains(why), "{error:?}");
    }
    let (_server, store) = with_server().await;
    assert_eq!(probe(&store).await.unwrap().whole_files_only, None);
}

/// A policy without `probe/`, or a refusal that goes by, must not decide for as long as the process lives.
#[tokio::test]
async fn a_trial_that_is_refused_is_made_again_with_the_next_file() {
    for kind in ["PutObject", "CreateMultipartUpload"] {
        let server = S3Server::start();
        let store = store(&server, server.config()).await;
        let (file, md5) = file(3);
        let body = |size| Body::Packed { path: file.path(), md5, size };
        let denied = || Fault::Error(403, S3ErrorCode::AccessDenied);
        server.fail(kind, [denied()]);
        store.create(&key("segments/1"), body(SIZE)).await.unwrap();
        assert_eq!((count(&server, "UploadPart"), server.faults_are_over()), (0, true), "in one PUT");
        server.fail(kind, [denied()]);
        let error = store.create(&key("segments/2"), body(6 << 30)).await.unwrap_err();
        assert!(error.kind() == Kind::Denied && error.to_string().contains("refuses a trial"), "{error:?}");
        assert!(error.hint_text().is_some_and(|hint| hint.contains("on probe/*")), "{error:?}");
        server.asked();
        store.create(&key("segments/2"), body(SIZE)).await.unwrap();
        assert!(count(&server, "UploadPart") >= 8, "it is allowed now");
        assert_eq!(md5_of(&store, &key("segments/2")).await, md5);
        assert_eq!(probe(&store).await.unwrap().whole_files_only, None);
        let (keys, unfinished) = (server.keys(), server.unfinished());
        assert_eq!((keys, unfinished), (vec!["apps/segments/1".into(), "apps/segments/2".into()], vec![]));
    }
}

#[tokio::test]
async fn what_is_to_be_encrypted_is_not_sent_in_parts_to_a_server_that_does_not_say_that_it_encrypts() {
    let server = S3Server::start();
    let config = || S3Config { sse: Some("aws:kms".into()), ..server.config() };
    let (file, md5) = file(3);
    let nowhere = store(&server, config()).await;
    let error = nowhere.create(&key("segments/1"), Body::File(file.path())).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied, "{error:?}");
    assert_eq!((server.keys(), count(&server, "UploadPart")), (vec![], 0));
    // MinIO confirms it with the answer to PUT.
    let encrypts = Manners { encrypts: Some("1"), ..Default::default() };
    server.behave(Manners { confirms_puts_only: true, ..encrypts });
    let minio = store(&server, config()).await;
    minio.create(&key("segments/1"), Body::File(file.path())).await.unwrap();
    assert_eq!(count(&server, "UploadPart"), 0);
    assert_eq!(md5_of(&minio, &key("segments/1")).await, md5);
    assert_eq!(
        probe(&minio).await.unwrap().whole_files_only,
        Some("does not confirm the encryption of an upload in parts")
    );
    server.behave(encrypts);
    let amazon = store(&server, config()).await;
    amazon.create(&key("segments/2"), Body::File(file.path())).await.unwrap();
    assert!(count(&server, "UploadPart") >= 8);
    assert_eq!(server.unfinished(), [""; 0]);
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
    server.fail("AbortMultipartUpload", [Fault::Error(403, S3ErrorCode::AccessDenied)]);
    for _ in 0..2 {
        assert_eq!(store.give_up_unfinished(now + TimeDelta::minutes(1)).await.unwrap(), 1, "of them");
    }
    assert_eq!(server.unfinished().len(), 1);
}
