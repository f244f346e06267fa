//! The commands that look at a stream, on one that is old enough to have sealed pages. No server is needed.

use chrono::DateTime;
use tablecast::binlog::gtid::{GtidSet, Tsid};
use tablecast::binlog::name::{TableName, TableSet};
use tablecast::config::{S3Config, StoreUrl};
use tablecast::store;
use tablecast::stream::{Body, Codec, Head, Key, Md5, SegmentEntry, StreamTx};
use uuid::Uuid;

use super::Desk;

const ENTRIES: u64 = 2_300;

/// A stream of segments that hold one transaction each, and some bytes instead of a binlog.
async fn old_stream() -> Desk {
    let desk = Desk::new();
    let root = desk.path("store");
    std::fs::create_dir(root.join("segments")).expect("a folder");
    let now = DateTime::from_timestamp(1_795_248_245, 0).expect("a time");
    let mut head = Head::new(Uuid::from_u128(7), "apps", TableSet::parse(&["g.apps"]).expect("a set"), now);
    let source = Tsid::untagged(Uuid::from_u128(1));
    for n in 1..=ENTRIES {
        let bytes = n.to_string().into_bytes();
        let key = Key::segment(StreamTx(n), StreamTx(n), now, Codec::Gzip);
        std::fs::write(root.join(key.as_str()), &bytes).expect("a segment");
        let mut covered_after = GtidSet::new();
        covered_after.insert_range(&source, 1, n);
        let entry = SegmentEntry {
            key,
            size: bytes.len() as u64,
            md5: Md5::of(&bytes),
            raw_size: 100,
            codec: Codec::Gzip,
            first_tx: StreamTx(n),
            last_tx: StreamTx(n),
            count: 1,
            tables: vec![TableName::new("g", "apps")],
            covered_before: head.covered.clone(),
            covered_after,
            first_commit: now,
            last_commit: now,
            definitions: Vec::new(),
        };
        head.append(Body::Segment(entry), now).expect("it follows");
    }
    let url = StoreUrl::File(root);
    let store = store::open_url(&url, &S3Config::default(), &Default::default()).await.expect("a store");
    store::head::write(&*store, &mut head, None).await.expect("the head");
    let config = format!("{}[mysql]\nsocket = \"/no/such/mysqld.sock\"\n", desk.head("source"));
    desk.write("tablecast.toml", &config);
    desk
}

fn pages(desk: &Desk) -> Vec<std::path::PathBuf> {
    let folder = std::fs::read_dir(desk.path("store/index")).expect("pages");
    let mut pages: Vec<_> = folder.map(|entry| entry.expect("an entry").path()).collect();
    pages.sort();
    pages
}

#[tokio::test]
async fn entries_are_listed_across_pages() {
    let desk = old_stream().await;
    let all = desk.run(&["stream", "ls", "--from", "1"]).ok().stdout;
    let listed: Vec<u64> = all
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().next().and_then(|seq| seq.parse().ok()).expect("a number"))
        .collect();
    assert_eq!(listed, (1..=ENTRIES).collect::<Vec<_>>());
    let (_, some) = desk.json(&["stream", "ls", "--from", "499", "--limit", "4"]);
    let some = some["entries"].as_array().expect("entries").clone();
    let some: Vec<_> = some.iter().map(|entry| entry["seq"].as_str().unwrap_or_default()).collect();
    assert_eq!(some, ["499", "500", "501", "502"]);
    let newest = desk.run(&["stream", "ls"]).ok().stdout;
    assert_eq!(newest.lines().count(), 21, "{newest}");
    // The newest of a kind are looked for as far back as it takes.
    let of_kind = desk.run(&["stream", "ls", "--kind", "segment"]).ok().stdout;
    assert_eq!(of_kind, newest);
    desk.run(&["stream", "ls", "--kind", "tables"]).ok().says(&["no entries"]);
    desk.run(&["stream", "ls", "--from", "9999"]).ok().says(&["no entries"]);
    desk.run(&["stream", "show", "--objects"]).ok().says(&["2,300 segments", "sealed pages"]);
    let ran = desk.run(&["inspect", "9999"]);
    assert_eq!(ran.code, 1);
    ran.says(&[
        "the stream has entries 1 to 2300",
        "hint: `tablecast stream ls` lists the entries there are",
    ]);
    let page = format!("index/{}", pages(&desk)[0].file_name().expect("a name").to_string_lossy());
    desk.run(&["inspect", &page]).ok().says(&["sound, 500 entries"]);
}

/// I1, I2: verify follows the chain through every page, and a page that is lost hides nothing in silence.
#[tokio::test]
async fn verify_goes_back_through_every_page_to_the_first_entry() {
    let desk = old_stream().await;
    desk.run(&["verify"]).ok().says(&["2,300 entries checked, 2,300 objects read", "sound"]);

    let pages = pages(&desk);
    let second = std::fs::read(&pages[1]).expect("a page");
    let mut changed = second.clone();
    let at = changed.len() / 2;
    changed[at] ^= 1;
    std::fs::write(&pages[1], &changed).expect("damage");
    let ran = desk.run(&["verify"]);
    assert_eq!(ran.code, 4);
    ran.says(&["bad  entry 1000", "md5", "entries 1 to 500 cannot be checked", "1,300 entries checked"]);
    // What lies after the page can be trusted by itself.
    desk.run(&["verify", "--from", "1001"]).ok().says(&["1,300 entries checked from entry 1001", "sound"]);

    std::fs::remove_file(&pages[1]).expect("remove");
    let (code, report) = desk.json(&["verify"]);
    assert_eq!(
        (code, &report["kind"], report["problems"].as_array().map(Vec::len)),
        (4, &"finding".into(), Some(1))
    );
    std::fs::write(&pages[1], &second).expect("restore");
    desk.run(&["verify", "--quick"]).ok().says(&["2,300 objects looked up"]);
}

#[tokio::test]
async fn an_index_that_was_edited_is_history_not_an_answer() {
    let desk = old_stream().await;
    let path = desk.path("store/index.json");
    let text = std::fs::read_to_string(&path).expect("the head");
    let mut head: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    head["entries"].as_array_mut().expect("entries").remove(3);
    head.as_object_mut().expect("an object").remove("sha256");
    std::fs::write(&path, head.to_string()).expect("write");
    for command in [&["verify"][..], &["stream", "ls"], &["stream", "show"]] {
        let ran = desk.run(command);
        assert!([1, 10].contains(&ran.code), "{command:?}: {}", ran.code);
        assert!(ran.stdout.is_empty(), "{}", ran.stdout);
    }
}
