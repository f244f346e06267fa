//! What is peculiar to a store in a directory.

use std::os::unix::fs::symlink;
use std::path::Path;

use tablecast::Kind;
use tablecast::store::{Body, DirStore, Fetched, Store};
use tablecast::stream::Key;

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn own(root: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(root.join(".tablecast")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// I7: nobody cleans up after a killed process.
#[tokio::test]
async fn what_a_killed_writer_left_behind_is_removed_and_what_a_living_one_writes_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let store = DirStore::open(folder.path()).unwrap();
    store.create(&key("a"), Body::Bytes(b"a")).await.unwrap();
    assert_eq!(own(folder.path()), ["lock"]);
    std::fs::write(folder.path().join(".tablecast/new-dead"), b"half a segm").unwrap();
    let living = std::fs::File::create(folder.path().join(".tablecast/new-living")).unwrap();
    living.lock().unwrap();
    store.swap(&key("b"), b"b", None).await.unwrap();
    let mut left = own(folder.path());
    left.sort();
    assert_eq!(left, ["lock", "new-living"]);
    assert_eq!(store.list("").await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_symbolic_link_or_a_special_file_below_the_root_is_never_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (root, outside) = (folder.path().join("store"), folder.path().join("outside"));
    std::fs::create_dir_all(&root).unwrap();
    std::fs::create_dir_all(&outside).unwrap();
    std::fs::write(outside.join("secret"), b"secret").unwrap();
    symlink(outside.join("secret"), root.join("index.json")).unwrap();
    symlink(&outside, root.join("segments")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let store = DirStore::open(&root).unwrap();
    for name in ["index.json", "segments/secret", "fifo"] {
        let error = store.get(&key(name), None).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Denied, "{error:?}");
        assert!(error.hint_text().is_some());
    }
    let error = store.create(&key("segments/new"), Body::Bytes(b"x")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied);
    assert_eq!(store.swap(&key("index.json"), b"x", None).await.unwrap_err().kind(), Kind::Denied);
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(std::fs::read(outside.join("secret")).unwrap(), b"secret");
    assert_eq!(store.list("").await.unwrap(), []);
    // The root itself may be one: that is how it was configured.
    symlink(&root, folder.path().join("link")).unwrap();
    let store = DirStore::open(&folder.path().join("link")).unwrap();
    store.create(&key("page"), Body::Bytes(b"x")).await.unwrap();
    assert_eq!(std::fs::read(root.join("page")).unwrap(), b"x");
}

#[tokio::test]
async fn a_region_reads_without_the_right_to_write() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("store");
    std::fs::create_dir_all(root.join("segments")).unwrap();
    std::fs::write(root.join("segments/1"), b"x").unwrap();
    let store = DirStore::open(&root).unwrap();
    assert!(matches!(store.get(&key("segments/1"), None).await.unwrap(), Fetched::Object { .. }));
    store.stat(&key("segments/1")).await.unwrap();
    store.list("").await.unwrap();
    store.download(&key("segments/1"), &folder.path().join("to"), 9).await.unwrap();
    assert!(!root.join(".tablecast").exists(), "a reader has written to the store");
}

#[test]
fn a_relative_root_is_refused() {
    let error = DirStore::open(Path::new("srv/apps")).unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    assert_eq!(error.to_string(), "open the store file://srv/apps: not an absolute path");
}
