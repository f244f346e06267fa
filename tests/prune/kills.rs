//! I7: `kill -9` of a prune at each named point, then a rerun.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use tablecast::mysql::lock_name;
use tablecast::source::prune::Options;
use tablecast::stream::Seq;

use super::kit::{self, Ahead, TABLE, apply_until, assert_sound, dump, head, keys, program, report, step};
use crate::apply::kit::Stream;
use crate::support::mysql::Server;

/// I1, I7.
#[tokio::test(flavor = "multi_thread")]
async fn a_prune_killed_at_any_point_leaves_a_sound_stream_and_the_next_one_ends_it() {
    let stream = Stream::new("pk_points", TABLE).await;
    let region = Server::start(&[]);
    let args = [
        "stream",
        "prune",
        "--keep",
        "0s",
        "--keep-entries",
        "1",
        "--forget-region",
        "ap1",
        "--lock-wait",
        "10s",
    ];
    let mut id = 0;
    for failpoint in [
        "prune.before_head_swap=kill",
        "prune.after_head_swap=kill",
        "prune.after_delete=kill",
        "prune.after_delete=kill@4",
        "prune.before_forget=kill",
    ] {
        for _ in 0..4 {
            id += 1;
            step(&stream, id).await;
        }
        dump(&stream, true).await;
        id += 1;
        step(&stream, id).await;
        let before = head(&stream).await;
        // The region is in the middle of what has come.
        let at = before.last_seq.0 - 3;
        apply_until(&stream, &region, before.last_tx.0 - 2).await;
        report(&stream, "eu1", at).await;
        report(&stream, "ap1", 0).await;

        let killed = program(&stream, &args, failpoint);
        assert_eq!(killed.status.signal(), Some(9), "{failpoint}: {killed:?}");
        assert_sound(&stream, failpoint);
        apply_until(&stream, &region, before.last_tx.0 - 1).await;

        let rerun = program(&stream, &args, "");
        assert!(rerun.status.success(), "after {failpoint}: {rerun:?}");
        assert_sound(&stream, &format!("after {failpoint} and a rerun"));
        let floor = head(&stream).await.floor.unwrap();
        assert_eq!(floor.seq, Seq(at), "{failpoint}");
        let left = keys(&stream).await;
        assert!(!left.contains(&"regions/ap1.json".to_owned()));
        let segments = left.iter().filter(|key| key.starts_with("segments/")).count() as u64;
        let wanted = before.last_tx.0 - floor.tx.0;
        assert_eq!(segments, wanted, "after {failpoint}: {left:?}");
        stream.apply(&region).await.unwrap();
        stream.assert_equal(&region).await;
    }
    // Dumps that lost their entry to a killed prune are nobody's, a day later.
    report(&stream, "eu1", head(&stream).await.last_seq.0).await;
    let options = Options { lock_wait: Duration::from_secs(10), ..kit::options() };
    let newest = head(&stream).await.full_dump().unwrap().dump.id.to_string();
    for key in keys(&stream).await.iter().filter(|key| key.starts_with("dumps/") && !key.contains(&newest)) {
        let object = std::fs::File::options().write(true).open(stream.bucket().join(key)).unwrap();
        object.set_modified(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)).unwrap();
    }
    let store = kit::store(&stream).await;
    tablecast::source::prune::run(&stream.source_config(), &*store, &Ahead(2), &options).await.unwrap();
    let newest = head(&stream).await.full_dump().unwrap().dump.id.to_string();
    let left = keys(&stream).await;
    assert!(left.iter().filter(|key| key.starts_with("dumps/")).all(|key| key.contains(&newest)), "{left:?}");
    assert_sound(&stream, "at the end");
}

/// I7: two at once.
#[tokio::test(flavor = "multi_thread")]
async fn two_prunes_at_once_keep_apart() {
    let stream = Stream::new("pk_two", TABLE).await;
    for id in 1..=4 {
        step(&stream, id).await;
    }
    dump(&stream, true).await;
    report(&stream, "eu1", 5).await;
    let args = ["stream", "prune", "--keep", "0s", "--keep-entries", "1"];
    let config = stream.source_config().path;
    let folder = tempfile::tempdir().unwrap();
    let goes_on = folder.path().join("goes-on");
    let mut slow = std::process::Command::new(env!("CARGO_BIN_EXE_tablecast"))
        .arg("--config")
        .arg(config)
        .args(args)
        .env("TABLECAST_FAILPOINTS", format!("prune.before_head_swap=until:{}", goes_on.display()))
        .spawn()
        .unwrap();
    let lock = lock_name("tablecast:prune:pk_two");
    for attempt in 0.. {
        let holder: Option<u64> = stream.source.value(&format!("SELECT IS_USED_LOCK('{lock}')")).await;
        if holder.is_some() {
            break;
        }
        assert!(attempt < 600, "the first prune took no lock within a minute");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let other = program(&stream, &args, "");
    assert_eq!(other.status.code(), Some(11), "{other:?}");
    std::fs::write(&goes_on, "").unwrap();
    assert!(slow.wait().unwrap().success());
    assert_eq!(head(&stream).await.floor.unwrap().seq, Seq(4));
    assert_sound(&stream, "after both");
}
