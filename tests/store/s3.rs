//! What is peculiar to S3: answers that are lost, servers that fail or are worse than they say, credentials.

use aws_credential_types::Credentials;
use s3s::S3ErrorCode;
use tablecast::Kind;
use tablecast::config::S3Config;
use tablecast::store::{self, Body, Fetched, S3Store, Store, probe};
use tablecast::stream::{Key, Md5};

use super::s3_store;
use crate::support::s3::{ACCESS_KEY, Asked, BUCKET, Fault, Manners, S3Server, SECRET_KEY};

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

async fn with_server() -> (S3Server, S3Store) {
    let server = S3Server::start();
    let store = s3_store(&server, "apps", server.config()).await;
    (server, store)
}

fn kinds(asked: &[Asked]) -> Vec<&'static str> {
    asked.iter().map(|asked| asked.kind).collect()
}

async fn content(store: &S3Store, key: &Key) -> Vec<u8> {
    match store.get(key, None).await.unwrap() {
        Fetched::Object { bytes, .. } => bytes,
        Fetched::Unchanged => panic!("nothing was named that could be unchanged"),
    }
}

fn internal() -> Fault {
    Fault::Error(500, S3ErrorCode::InternalError)
}

fn slow_down() -> Fault {
    Fault::Error(503, S3ErrorCode::SlowDown)
}

fn too_many() -> Fault {
    Fault::Error(429, S3ErrorCode::Custom("TooManyRequests".into()))
}

#[tokio::test]
async fn an_idle_read_is_one_conditional_get() {
    let (server, store) = with_server().await;
    let etag = store.swap(&Key::head(), b"{}", None).await.unwrap();
    server.asked();
    let read = store::head::read(&store, Some(&etag)).await.unwrap();
    assert_eq!(read, store::head::Read::Unchanged);
    let get = Asked { kind: "GetObject", key: "apps/index.json".into(), conditional: true, md5: false };
    assert_eq!(server.asked(), [get]);
}

#[tokio::test]
async fn every_write_is_one_request_with_its_md5_and_a_condition() {
    let (server, store) = with_server().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"segment").unwrap();
    store.create(&key("a"), Body::Bytes(b"a")).await.unwrap();
    store.create(&key("b"), Body::File(file.path())).await.unwrap();
    let one = store.swap(&key("c"), b"one", None).await.unwrap();
    store.swap(&key("c"), b"two", Some(&one)).await.unwrap();
    let asked = server.asked();
    assert_eq!(kinds(&asked), ["PutObject"; 4]);
    assert!(asked.iter().all(|asked| asked.conditional && asked.md5), "{asked:?}");
}

/// I1.
#[tokio::test]
async fn bytes_that_are_damaged_on_the_way_are_not_stored() {
    let (server, store) = with_server().await;
    server.fail("PutObject", [Fault::Damaged]);
    let error = store.create(&key("a"), Body::Bytes(b"segment")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Store, "{error:?}");
    assert_eq!(server.keys(), [""; 0]);
    store.create(&key("a"), Body::Bytes(b"segment")).await.unwrap();
}

#[tokio::test]
async fn faults_that_pass_are_ridden_out() {
    let (server, store) = with_server().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("from");
    std::fs::write(&file, b"from a file").unwrap();
    for (n, fault) in [internal, slow_down, too_many].iter().enumerate() {
        for kind in ["PutObject", "GetObject", "HeadObject", "ListObjectsV2", "DeleteObject"] {
            server.fail(kind, [fault()]);
        }
        server.fail("PutObject", [fault(), fault()]);
        let key = key(&format!("segments/{n}"));
        store.create(&key, Body::File(&file)).await.unwrap();
        assert_eq!(content(&store, &key).await, b"from a file");
        store.stat(&key).await.unwrap();
        assert_eq!(store.list("segments/").await.unwrap().len(), 1);
        store.delete(&key).await.unwrap();
        assert!(server.faults_are_over());
    }
}

#[tokio::test]
async fn a_server_that_stays_down_is_an_error_that_the_next_run_may_try_again() {
    let (server, store) = with_server().await;
    server.fail("GetObject", std::iter::repeat_with(internal).take(20));
    let error = store.get(&key("a"), None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Store);
    assert!(error.is_transient());
    assert_eq!(error.to_string(), "read s3://acme-global/apps/a: the server answered 500 InternalError");
    // Nobody there at all.
    let nobody = crate::support::free_port();
    let config = S3Config { endpoint: Some(format!("http://127.0.0.1:{nobody}")), ..server.config() };
    let error = s3_store(&server, "apps", config).await.get(&key("a"), None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Store, "{error:?}");
    assert_eq!(error.to_string(), "read s3://acme-global/apps/a: the server could not be reached");
}

/// I7: whether a write took effect is found out, not guessed.
#[tokio::test]
async fn a_write_whose_answer_is_lost_is_done_once_and_known_to_be_done() {
    let (server, store) = with_server().await;
    for opaque_etags in [false, true] {
        server.behave(Manners { opaque_etags, ..Default::default() });
        let (segment, head) =
            (key(&format!("segments/{opaque_etags}")), key(&format!("{opaque_etags}.json")));
        server.fail("PutObject", [Fault::NoAnswer]);
        let created = store.create(&segment, Body::Bytes(b"segment")).await.unwrap();
        assert_eq!(store.stat(&segment).await.unwrap().etag, created);
        server.fail("PutObject", [Fault::NoAnswer]);
        let one = store.swap(&head, b"one", None).await.unwrap();
        server.fail("PutObject", [Fault::NoAnswer, internal()]);
        let two = store.swap(&head, b"two", Some(&one)).await.unwrap();
        assert_eq!(content(&store, &head).await, b"two");
        assert_eq!(store.stat(&head).await.unwrap().etag, two);
        // Somebody else has been quicker, and then our answer is lost: still a conflict.
        let three = store.swap(&head, b"xyz", Some(&two)).await.unwrap();
        server.fail("PutObject", [Fault::NoAnswer]);
        let error = store.swap(&head, b"not", Some(&two)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict, "{error:?}");
        assert_eq!(store.stat(&head).await.unwrap().etag, three);
        assert!(server.faults_are_over());
    }
}

/// I1: a part of an object is never taken for the object.
#[tokio::test]
async fn a_body_that_breaks_off_is_read_again() {
    let (server, store) = with_server().await;
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("to");
    let bytes: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
    store.create(&key("a"), Body::Bytes(&bytes)).await.unwrap();
    server.fail("GetObject", [Fault::Truncated, Fault::Truncated]);
    assert_eq!(content(&store, &key("a")).await, bytes);
    server.fail("GetObject", [Fault::Truncated]);
    let download = store.download(&key("a"), &to, 200_000).await.unwrap();
    assert_eq!((download.size, download.md5), (200_000, Md5::of(&bytes)));
    assert_eq!(std::fs::read(&to).unwrap(), bytes);
    server.fail("GetObject", std::iter::repeat_n(Fault::Truncated, 20));
    assert_eq!(store.get(&key("a"), None).await.unwrap_err().kind(), Kind::Store);
    assert_eq!(store.download(&key("a"), &to, 200_000).await.unwrap_err().kind(), Kind::Store);
}

#[tokio::test]
async fn being_refused_says_why_and_what_to_do() {
    let (server, store) = with_server().await;
    let refused = |error: tablecast::Error, says: &str, hints: &str| {
        assert_eq!(error.kind(), Kind::Denied, "{error:?}");
        assert!(error.to_string().contains(says), "{error} does not say {says:?}");
        let hint = error.hint_text().unwrap_or_default();
        assert!(hint.contains(hints), "{hint:?} does not say {hints:?}");
    };
    let open = async |bucket, id, secret| {
        let credentials = Some(Credentials::new(id, secret, None, None, "tests"));
        S3Store::open_as(bucket, "apps", &server.config(), credentials).await.unwrap()
    };
    let get = async |store: S3Store| store.get(&key("a"), None).await.unwrap_err();
    refused(get(open("other-bucket", ACCESS_KEY, SECRET_KEY).await).await, "no such bucket", "`store`");
    let wrong = "does not accept these credentials (SignatureDoesNotMatch)";
    refused(get(open(BUCKET, ACCESS_KEY, "wrong").await).await, wrong, "AWS_ACCESS_KEY_ID");
    let wrong = open(BUCKET, "nobody", SECRET_KEY).await;
    refused(wrong.create(&key("a"), Body::Bytes(b"")).await.unwrap_err(), "credentials", "AWS_PROFILE");
    for (status, code, says, hints) in [
        (403, S3ErrorCode::RequestTimeTooSkewed, "clock", "clock"),
        (403, S3ErrorCode::AccessDenied, "access denied (AccessDenied)", "s3:GetObject"),
        (301, S3ErrorCode::PermanentRedirect, "another region", "`s3.region`"),
        (400, S3ErrorCode::ExpiredToken, "credentials (ExpiredToken)", "role"),
    ] {
        server.fail("GetObject", [Fault::Error(status, code)]);
        refused(store.get(&key("a"), None).await.unwrap_err(), says, hints);
    }
    server.fail("HeadObject", [Fault::Error(403, S3ErrorCode::AccessDenied)]);
    refused(store.stat(&key("a")).await.unwrap_err(), "access denied", "s3:ListBucket");
}

#[tokio::test]
async fn a_server_that_ignores_conditions_is_found_out() {
    let (server, store) = with_server().await;
    server.behave(Manners { ignores_conditions: true, ..Default::default() });
    let found = probe(&store).await.unwrap();
    assert_eq!(
        found.findings,
        [
            "creates an object that exists already (If-None-Match: * on PUT is ignored)",
            "overwrites an object that has changed meanwhile (If-Match on PUT is ignored)",
            "overwrites an object that was expected to be missing (If-None-Match: * on PUT is ignored)",
            "makes an object that was expected to be there (If-Match on PUT is ignored)",
        ]
    );
    assert_eq!(server.keys(), [""; 0], "the probe has left something");
    let error = found.into_result(&store).unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.to_string().starts_with("probe s3://acme-global/apps: the store creates an object that"));
    server.behave(Manners { opaque_etags: true, ..Default::default() });
    assert_eq!(probe(&store).await.unwrap().findings, [""; 0]);
    server.behave(Manners { no_conditional_writes: true, ..Default::default() });
    let error = probe(&store).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied, "{error:?}");
    assert!(error.to_string().contains("does not know conditional writes"), "{error}");
}

#[tokio::test]
async fn encryption_that_is_not_confirmed_is_refused_and_nothing_stays_unencrypted() {
    let server = S3Server::start();
    let kms = |key: &str| S3Config {
        sse: Some("aws:kms".into()),
        sse_kms_key_id: Some(key.into()),
        ..server.config()
    };
    let store = s3_store(&server, "apps", kms("1234")).await;
    let error = store.create(&key("a"), Body::Bytes(b"a")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied, "{error:?}");
    assert_eq!(
        error.to_string(),
        "create s3://acme-global/apps/a: the config wants aws:kms with key 1234, and the server confirms nothing"
    );
    assert_eq!(server.keys(), [""; 0]);
    assert_eq!(probe(&store).await.unwrap_err().kind(), Kind::Denied);
    assert_eq!(server.keys(), [""; 0]);
    server.behave(Manners { encrypts: Some("1234"), opaque_etags: true, ..Default::default() });
    store.create(&key("a"), Body::Bytes(b"a")).await.unwrap();
    // Also where the answer is lost, and another request has to confirm.
    server.fail("PutObject", [Fault::NoAnswer]);
    store.create(&key("b"), Body::Bytes(b"b")).await.unwrap();
    let arn = s3_store(&server, "apps", kms("arn:aws:kms:us-east-1:1:key/1234")).await;
    arn.create(&key("c"), Body::Bytes(b"c")).await.unwrap();
    server.behave(Manners { encrypts: Some("other"), ..Default::default() });
    for store in [arn, store] {
        assert_eq!(store.create(&key("d"), Body::Bytes(b"d")).await.unwrap_err().kind(), Kind::Denied);
    }
    assert_eq!(server.keys(), ["apps/a", "apps/b", "apps/c"]);
}

/// The built program, without anything in its environment that the AWS chain would find.
fn stream_show(endpoint: Option<String>) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("tablecast.toml");
    let s3 = endpoint.map(|endpoint| format!("[s3]\nendpoint = {endpoint:?}\npath_style = true\n"));
    let text = "role = \"source\"\nstream = \"apps\"\nstore = \"s3://acme-global/apps\"\n";
    let mysql = "[mysql]\nhost = \"127.0.0.1\"\nuser = \"nobody\"\n";
    std::fs::write(&config, format!("{text}{}{mysql}", s3.unwrap_or_default())).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_tablecast"))
        .args(["stream", "show", "--config"])
        .arg(&config)
        .env_clear()
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("HOME", folder.path())
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn no_credentials_and_no_region_are_told_apart_from_trouble() {
    let (code, says) = stream_show(Some(S3Server::start().endpoint()));
    assert!(says.contains("there are no credentials, or they could not be got"), "{says}");
    assert!(says.contains("hint: set AWS_ACCESS_KEY_ID"), "{says}");
    assert_eq!(code, Some(12));
    let (code, says) = stream_show(None);
    assert!(says.contains("no region is known") && says.contains("`s3.region`"), "{says}");
    assert_eq!(code, Some(2));
}
