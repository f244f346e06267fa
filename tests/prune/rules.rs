//! What prune takes away and what it leaves.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tablecast::Kind;
use tablecast::source::prune::Options;
use tablecast::stream::Seq;

use super::kit::{
    self, Ahead, TABLE, apply_until, assert_sound, dump, head, keys, options, program, prune, report, step,
};
use crate::apply::kit::{Stream, assert_error};
use crate::support::mysql::Server;

/// I1, I2.
#[tokio::test(flavor = "multi_thread")]
async fn history_goes_up_to_what_the_region_has_and_the_region_goes_on() {
    let stream = Stream::new("pr_region", TABLE).await;
    let [region, late] = Server::start_all([&[], &[]]);
    for id in 1..=6 {
        step(&stream, id).await;
    }
    dump(&stream, true).await;
    step(&stream, 7).await;
    apply_until(&stream, &region, 3).await;
    report(&stream, "eu1", 3).await;
    let before = keys(&stream).await;
    // What the dry run names is what the run deletes, to the object.
    let planned = program(
        &stream,
        &["stream", "prune", "--keep", "0s", "--keep-entries", "1", "--dry-run", "--json"],
        "",
    );
    let planned: Value = serde_json::from_slice(&planned.stdout).unwrap();
    assert_eq!(keys(&stream).await, before, "a dry run changes nothing");
    let named: BTreeSet<String> = planned["plan"]["delete"]
        .as_array()
        .unwrap()
        .iter()
        .map(|doomed| doomed["key"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(planned["plan"]["floor"]["seq"], "3");
    let done = prune(&stream, options()).await.unwrap();
    assert_eq!((done.deleted, done.plan.entries), (3, 3));
    let after: BTreeSet<String> = keys(&stream).await.into_iter().collect();
    assert_eq!(before.into_iter().filter(|key| !after.contains(key)).collect::<BTreeSet<_>>(), named);
    assert_sound(&stream, "after a prune");
    // The region is at the floor: it goes on as if nothing had happened.
    stream.apply(&region).await.unwrap();
    stream.assert_equal(&region).await;
    // A new one cannot begin at the beginning, and is told with what it can.
    stream.assert_refused(&late, Kind::History, "entries 1 to 3 were pruned", "tablecast bootstrap").await;
    // The region has told of more: the floor follows, up to the dump and not further.
    report(&stream, "eu1", 8).await;
    assert_eq!(prune(&stream, options()).await.unwrap().plan.floor.unwrap().seq, Seq(6));
    assert_sound(&stream, "after a second prune");
    assert_eq!(prune(&stream, options()).await.unwrap().deleted, 0);
    // And the stream goes on.
    step(&stream, 8).await;
    stream.apply(&region).await.unwrap();
    stream.assert_equal(&region).await;
    let shown = program(&stream, &["stream", "ls", "--from", "1"], "");
    assert_eq!(String::from_utf8_lossy(&shown.stdout).lines().count(), 4, "a header and entries 7 to 9");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_behind_the_floor_stops_with_its_own_code_and_nothing_changed() {
    let stream = Stream::new("pr_behind", TABLE).await;
    let region = Server::start(&[]);
    for id in 1..=4 {
        step(&stream, id).await;
    }
    apply_until(&stream, &region, 2).await;
    dump(&stream, true).await;
    step(&stream, 5).await;
    // It has been forgotten, and comes back.
    report(&stream, "ap1", 2).await;
    let forget = Options { forget: vec!["ap1".into()], without_reports: true, ..options() };
    assert_eq!(prune(&stream, forget).await.unwrap().plan.floor.unwrap().seq, Seq(4));
    assert!(!keys(&stream).await.iter().any(|key| key.starts_with("regions/")));
    let before = stream.state_of_stream(&region).await;
    let output = stream.run(&region, "");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(10), "{text}");
    for part in ["entries 1 to 4 were pruned", "after entry 2", "rebuild-a-region.md"] {
        assert!(text.contains(part), "{text} does not say {part}");
    }
    assert_eq!(stream.state_of_stream(&region).await, before);
    // A person decides: the newest full dump takes the place of everything, and the stream goes on behind it.
    let planned = stream.command_of(&region, &["restore", "--all", "--dry-run"]).output().unwrap();
    assert!(planned.status.success(), "{planned:?}");
    assert_eq!(stream.state_of_stream(&region).await, before);
    // Killed in the middle of it, the next apply finishes it.
    let mut killed = stream.command_of(&region, &["restore", "--all"]);
    killed.env("TABLECAST_FAILPOINTS", "restore.rows_loaded=kill").output().unwrap();
    step(&stream, 6).await;
    let output = stream.run(&region, "");
    let text =
        String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("restored"), "{text}");
    stream.assert_equal(&region).await;
    step(&stream, 7).await;
    stream.apply(&region).await.unwrap();
    stream.assert_equal(&region).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prune_refuses_or_says_why_when_it_cannot_know_what_is_needed() {
    let stream = Stream::new("pr_refuse", TABLE).await;
    for id in 1..=3 {
        step(&stream, id).await;
    }
    // No full dump: no history goes, with the reason and what to do.
    report(&stream, "eu1", 3).await;
    let output = program(&stream, &["stream", "prune", "--keep", "0s", "--keep-entries", "1"], "");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    for part in
        ["no history goes: there is no full dump", "tablecast dump take --all-tables", "deleted nothing"]
    {
        assert!(text.contains(part), "{text} does not say {part}");
    }
    dump(&stream, false).await;
    assert!(prune(&stream, options()).await.unwrap().plan.is_empty(), "one of some tables is not enough");
    dump(&stream, true).await;
    // A name that nobody has.
    let forget = |name: &str| Options { forget: vec![name.into()], ..options() };
    let error = prune(&stream, forget("eu2")).await.unwrap_err();
    assert_error(&error, Kind::NotFound, "those that have: eu1", "");
    // Without any report.
    let error = prune(&stream, forget("eu1")).await.unwrap_err();
    assert_error(&error, Kind::Usage, "no region has reported", "--no-reports");
    let before = keys(&stream).await;
    let output = program(&stream, &["stream", "prune"], "");
    assert!(output.status.success(), "what is young stays: {output:?}");
    assert_eq!(keys(&stream).await, before);
    // A report that cannot be read is not passed over.
    kit::damage(&stream, "regions/eu1.json", |bytes| bytes[40] ^= 1);
    let error = prune(&stream, options()).await.unwrap_err();
    assert_error(&error, Kind::Corrupt, "regions/eu1.json", "--forget-region eu1");
    assert_eq!(keys(&stream).await, before);
    let forget = Options { without_reports: true, ..forget("eu1") };
    assert_eq!(prune(&stream, forget).await.unwrap().plan.floor.unwrap().seq, Seq(4));
    assert_sound(&stream, "at the end");
}

/// Entries that somebody has cut off with an older index.json are named by nothing, and their objects are needed.
#[tokio::test(flavor = "multi_thread")]
async fn i1_nothing_goes_while_the_index_lacks_what_a_region_has_applied() {
    let stream = Stream::new("pr_back", TABLE).await;
    step(&stream, 1).await;
    dump(&stream, true).await;
    let (path, older) = (stream.bucket().join("index.json"), head(&stream).await);
    let older = older.to_json().unwrap();
    step(&stream, 2).await;
    report(&stream, "eu1", 3).await;
    let (newest, before) = (std::fs::read(&path).unwrap(), keys(&stream).await);
    std::fs::write(&path, older).unwrap();
    let error = prune(&stream, options()).await.unwrap_err();
    assert_error(
        &error,
        Kind::History,
        "it ends at entry 2, and region eu1 has applied entry 3",
        "restore the newest",
    );
    assert_eq!(keys(&stream).await, before);
    // An upload that knows no newer index has gone on from it, further than the region.
    std::fs::remove_dir_all(stream.cache()).unwrap();
    for id in 3..5 {
        step(&stream, id).await;
    }
    let forked = keys(&stream).await;
    let error = prune(&stream, options()).await.unwrap_err();
    assert_error(&error, Kind::History, "and region eu1 has applied entry 3", "restore the newest");
    assert_eq!(keys(&stream).await, forked, "what the right index names is still there");
    std::fs::write(&path, newest).unwrap();
    std::fs::remove_dir_all(stream.cache()).unwrap();
    prune(&stream, options()).await.unwrap();
    assert_sound(&stream, "at the end");
}

/// I1.
#[tokio::test(flavor = "multi_thread")]
async fn superseded_dumps_and_what_killed_runs_left_go_by_their_age() {
    let stream = Stream::new("pr_old", TABLE).await;
    step(&stream, 1).await;
    report(&stream, "eu1", 1).await;
    let first = dump(&stream, true).await;
    step(&stream, 2).await;
    let second = dump(&stream, true).await;
    let bucket = stream.bucket();
    let orphan = bucket.join("dumps/20240101T000000000Z-00000001");
    std::fs::create_dir(&orphan).unwrap();
    let half = std::fs::File::create(orphan.join("000000-00000000.sql.gz")).unwrap();
    half.set_modified(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)).unwrap();
    let seven = Options { keep: Duration::from_secs(7 * 86_400), ..options() };
    let at = async |days: i64| {
        let store = kit::store(&stream).await;
        tablecast::source::prune::run(&stream.source_config(), &*store, &Ahead(days), &seven).await.unwrap()
    };
    // Put beside it just now, as by an upload that is about to list it: no clock that is ahead makes it old (I1).
    let fresh = bucket.join("dumps/20240101T000000000Z-00000002");
    std::fs::create_dir(&fresh).unwrap();
    std::fs::write(fresh.join("000000-00000000.sql.gz"), "half").unwrap();
    assert_eq!(at(0).await.deleted, 1, "what was left behind long ago");
    let shown = program(&stream, &["stream", "prune", "--keep-entries", "1", "--dry-run"], "");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains(&format!("dump {} has a newer full one in its place", first.id)), "{shown}");
    assert!(!shown.contains(&format!("the newest full dump, {}", first.id)), "{shown}");
    assert_eq!(at(2).await.deleted, 0, "the first dump is younger than --keep");
    // The region has not come past the first dump: its entry stays, its objects go, and I1 is about the listed ones.
    let later = at(8).await;
    assert_eq!(
        later.deleted, 3,
        "the dump's two objects, and the segment that the region has: {:?}",
        later.plan.delete
    );
    assert!(fresh.join("000000-00000000.sql.gz").exists());
    assert!(!orphan.join("000000-00000000.sql.gz").exists());
    let left = keys(&stream).await;
    assert!(!left.iter().any(|key| key.contains(first.id.as_str())), "{left:?}");
    assert_eq!(left.iter().filter(|key| key.contains(second.id.as_str())).count(), 2);
    assert_sound(&stream, "without the first dump");
    let text = String::from_utf8_lossy(&program(&stream, &["verify"], "").stdout).into_owned();
    assert!(text.contains("1 superseded dump not read"), "{text}");
    assert_eq!(head(&stream).await.floor.map(|floor| floor.seq), Some(Seq(1)));
}

/// I1: history does not go for the sake of a dump that is not there.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_while_the_newest_full_dump_is_not_whole() {
    let stream = Stream::new("pr_whole", TABLE).await;
    step(&stream, 1).await;
    dump(&stream, true).await;
    step(&stream, 2).await;
    let newest = dump(&stream, true).await;
    step(&stream, 3).await;
    report(&stream, "eu1", 5).await;
    let folder = stream.bucket().join("dumps").join(newest.id.as_str());
    let chunk = std::fs::read_dir(&folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .find(|path| !path.ends_with("manifest.json"))
        .unwrap();
    std::fs::remove_file(chunk).unwrap();
    let before = keys(&stream).await;
    let store = kit::store(&stream).await;
    let options = options();
    let error = tablecast::source::prune::run(&stream.source_config(), &*store, &Ahead(30), &options).await;
    let error = error.expect_err("refused");
    assert!(
        error.to_string().contains("is not whole") && error.to_string().contains("it is gone"),
        "{error}"
    );
    assert_eq!(error.kind().exit_code(), 4);
    assert_eq!(keys(&stream).await, before);
}

/// I1, I3: neither disturbs the other.
#[tokio::test(flavor = "multi_thread")]
async fn prune_works_beside_an_upload_that_follows() {
    let stream = Stream::new("pr_beside", TABLE).await;
    let region = Server::start(&[]);
    let config = stream.source_config().path;
    let follow = std::fs::read_to_string(&config).unwrap() + "[upload]\ninterval = \"50ms\"\n";
    let path = config.with_file_name("follow.toml");
    std::fs::write(&path, follow).unwrap();
    let mut upload = std::process::Command::new(env!("CARGO_BIN_EXE_tablecast"))
        .arg("--config")
        .arg(&path)
        .args(["upload", "--follow"])
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let (mut id, mut floors) = (0, BTreeSet::new());
    let end = Instant::now() + Duration::from_secs(12);
    while Instant::now() < end {
        for _ in 0..10 {
            id += 1;
            stream.sql(&format!("INSERT INTO @.n VALUES ({id}, 'x')")).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = head(&stream).await;
        if now.last_seq.0 < 2 {
            continue;
        }
        if floors.len() < 3 && now.last_seq.0 > 10 * floors.len() as u64 {
            dump(&stream, true).await;
        }
        stream.apply(&region).await.unwrap();
        let at: u64 = region.value("SELECT seq FROM tablecast.position").await;
        report(&stream, "eu1", at).await;
        let done = prune(&stream, options()).await.unwrap();
        floors.extend(done.plan.floor.map(|floor| floor.seq));
        assert!(upload.try_wait().unwrap().is_none(), "the upload has ended");
    }
    upload.kill().unwrap();
    upload.wait().unwrap();
    assert!(floors.len() > 1, "{floors:?}");
    stream.upload().await;
    assert_sound(&stream, "after prunes beside an upload");
    stream.apply(&region).await.unwrap();
    stream.assert_equal(&region).await;
}

/// I3: what a new source lacks is looked up in what is left, and what was pruned counts as shipped.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_source_is_judged_by_a_stream_that_was_pruned() {
    let [primary, replica, stranger] = Server::start_all([&[], &[], &[]]);
    let primary: &'static Server = Box::leak(Box::new(primary));
    replica.replicate_from(primary, "").await;
    let stream = Stream::of_source(primary, "pr_lost", TABLE, &["@.*"]).await;
    for id in 1..=3 {
        step(&stream, id).await;
    }
    dump(&stream, true).await;
    report(&stream, "eu1", 4).await;
    assert_eq!(prune(&stream, options()).await.unwrap().plan.floor.unwrap().seq, Seq(3));
    replica.catch_up(primary).await;
    replica.sql("STOP REPLICA").await;
    // The newest entry is a dump, and what the replica lacks is none of ours.
    stream.sql("CREATE DATABASE @_private").await;
    stream.upload().await;
    let from = async |server: &Server| {
        let config = stream.source_config_at(server);
        let options = crate::upload::kit::once();
        tablecast::source::upload::run(
            &config,
            kit::store(&stream).await,
            &tablecast::clock::SystemClock,
            &options,
        )
        .await
    };
    let error = from(&stranger).await.unwrap_err();
    assert_eq!(error.kind(), Kind::History, "{error:?}");
    replica.sql("RESET REPLICA ALL; INSERT INTO pr_lost.n VALUES (4, 'after the failover')").await;
    from(&replica).await.unwrap();
    assert_eq!(head(&stream).await.last_seq, Seq(5));
    assert_sound(&stream, "after the failover");
}
