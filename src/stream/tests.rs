//! The index as a whole: appended to, sealed, read back through any position, and damaged in every way.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::binlog::gtid::{GtidSet, Tsid};
use crate::binlog::name::{TableName, TableSet};
use crate::error::{Error, Kind, Result};

pub(in crate::stream) mod checks;
mod documents;
pub(in crate::stream) mod dumps;
mod signatures;
mod tables;

const STREAM: Uuid = Uuid::from_u128(0x6f1e_d0c5_8f0a_11ee_b962_0242_ac12_0002);
const SOURCE: Uuid = Uuid::from_u128(0x3e11_fa47_71ca_11e1_9e33_c80a_a942_9562);

pub(crate) fn at(seconds: u64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap() + TimeDelta::seconds(seconds as i64)
}

fn covered(to: u64) -> GtidSet {
    let mut set = GtidSet::new();
    if to > 0 {
        set.insert_range(&Tsid::untagged(SOURCE), 1, to);
    }
    set
}

fn tables() -> TableSet {
    TableSet::parse(&["g.apps", "h.*"]).unwrap()
}

pub(crate) fn empty() -> Head {
    Head::new(STREAM, "apps", tables(), at(0))
}

/// A segment with the next `count` transactions; every third source transaction is of another table.
pub(crate) fn segment(head: &Head, count: u64) -> Body {
    let (first, last) = (head.last_tx.0 + 1, head.last_tx.0 + count);
    Body::Segment(SegmentEntry {
        key: Key::segment(StreamTx(first), StreamTx(last), at(last), Codec::Gzip),
        size: 100 + count,
        md5: Md5::of(&first.to_be_bytes()),
        raw_size: 1000 * count,
        codec: Codec::Gzip,
        first_tx: StreamTx(first),
        last_tx: StreamTx(last),
        count,
        tables: vec![TableName::new("g", "apps")],
        covered_before: head.covered.union(&covered(head.last_tx.0 * 3)),
        covered_after: covered(last * 3),
        first_commit: at(first),
        last_commit: at(last),
        definitions: Vec::new(),
    })
}

fn as_segment(body: Body) -> SegmentEntry {
    match body {
        Body::Segment(segment) => segment,
        other => panic!("{other:?} is no segment"),
    }
}

/// A store in memory: the head's and the pages' bytes, and how often a page was read.
#[derive(Default)]
pub(crate) struct Bucket {
    pub(in crate::stream) pages: BTreeMap<Key, Vec<u8>>,
    reads: Mutex<usize>,
}

impl Bucket {
    fn append(&mut self, head: &mut Head, count: u64) {
        head.append(segment(head, count), at(head.last_seq.0)).unwrap();
        self.seal(head);
    }

    pub(crate) fn seal(&mut self, head: &mut Head) {
        while let Some(page) = head.to_seal() {
            let bytes = page.to_json().unwrap();
            head.seal(page.link(&bytes).unwrap()).unwrap();
            assert_eq!(self.pages.insert(page.key(), bytes), None, "a page is written once");
        }
    }

    fn reads(&self) -> usize {
        std::mem::take(&mut self.reads.lock().unwrap())
    }
}

#[async_trait]
impl PageLoader for Bucket {
    async fn page(&self, stream: Uuid, link: &PageLink) -> Result<Page> {
        *self.reads.lock().unwrap() += 1;
        let bytes = self.pages.get(&link.key).ok_or_else(|| Error::new(Kind::NotFound, "no such object"))?;
        Page::parse_linked(stream, link, bytes)
    }
}

fn stream_of(entries: usize) -> (Head, Bucket, Vec<Entry>) {
    let (mut head, mut bucket, mut all) = (empty(), Bucket::default(), Vec::new());
    for n in 0..entries {
        let body = segment(&head, 1 + n as u64 % 3);
        all.push(head.append(body, at(n as u64)).unwrap().clone());
        bucket.seal(&mut head);
    }
    (head, bucket, all)
}

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// The document with one member changed, sealed again as its writer would.
fn edited(bytes: &[u8], edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(bytes).unwrap();
    edit(&mut value);
    let Value::Object(mut members) = value else { panic!("not an object") };
    members.remove("sha256");
    document::render(&[], None, &members, &[])
}

fn refused(bytes: &[u8]) -> Error {
    Head::parse(bytes).expect_err("a head like this must be refused")
}

#[test]
fn a_head_reads_back_as_it_was_written_and_gives_the_same_bytes_again() {
    let (mut head, _, _) = stream_of(1_234);
    head.schemas.insert("g".into(), SchemaDefaults { collation: "utf8mb4_0900_ai_ci".into() });
    head.define(Definition {
        table: TableName::new("g", "apps"),
        since_tx: StreamTx(3),
        create_table: "CREATE TABLE `apps` (\n  `id` int\n)".into(),
        rows_at_init: Some(true),
    });
    let bytes = head.to_json().unwrap();
    let read = Head::parse(&bytes).unwrap();
    assert_eq!(read, head);
    assert_eq!(read.to_json().unwrap(), bytes);
    assert!(bytes.ends_with(b"\"}\n"));
}

#[test]
fn the_head_holds_between_500_and_1000_entries_however_long_the_stream_is() {
    let (mut head, mut bucket) = (empty(), Bucket::default());
    let mut largest = [0, 0];
    for n in 0..6_000 {
        bucket.append(&mut head, 1);
        assert!(head.entries.len() <= 1_000);
        if n % 97 == 0 && n > 2_000 {
            let size = head.to_json().unwrap().len();
            let half = &mut largest[usize::from(n > 4_000)];
            *half = size.max(*half);
        }
    }
    assert_eq!(bucket.pages.len(), 10);
    // Numbers grow by a digit now and then; nothing else does.
    assert!(largest[1] < largest[0] + largest[0] / 50, "{largest:?}");
}

/// I2.
#[test]
fn reading_from_any_position_gives_exactly_the_entries_after_it() {
    let (head, bucket, all) = stream_of(2_700);
    assert_eq!(bucket.pages.len(), 4);
    run(async {
        for from in [0, 1, 499, 500, 501, 999, 1_000, 1_501, 1_999, 2_000, 2_001, 2_699, 2_700] {
            let mut index = Index::new(head.clone());
            let mut read = Vec::new();
            loop {
                let after = read.last().map_or(Seq(from), |entry: &Entry| entry.seq);
                let more = index.entries_after(after, &bucket).await.unwrap();
                if more.is_empty() {
                    break;
                }
                read.extend(more);
            }
            assert_eq!(read, all[from as usize..], "after {from}");
            let chain = match from {
                0 => Chain::genesis(STREAM),
                n => all[n as usize - 1].chain,
            };
            index.check_position(STREAM, Seq(from), &chain, &bucket).await.unwrap();
        }
    });
}

#[test]
fn nothing_but_the_head_is_read_when_the_position_is_in_it() {
    let (head, bucket, all) = stream_of(1_600);
    let first_in_head = head.entries[0].seq.0;
    run(async {
        let mut index = Index::new(head);
        for from in [first_in_head - 1, first_in_head, 1_599, 1_600] {
            let chain = &all[from as usize - 1].chain;
            index.check_position(STREAM, Seq(from), chain, &bucket).await.unwrap();
            index.entries_after(Seq(from), &bucket).await.unwrap();
        }
        assert_eq!(bucket.reads(), 0);
        // One page back costs one page, and the whole way back and forth at most two reads a page.
        index.entries_after(Seq(first_in_head - 2), &bucket).await.unwrap();
        assert_eq!(bucket.reads(), 1);
    });
}

#[test]
fn walking_the_whole_stream_reads_each_page_at_most_twice() {
    let (head, bucket, all) = stream_of(7_001);
    run(async {
        let mut index = Index::new(head);
        let mut seq = Seq::ZERO;
        loop {
            let more = index.entries_after(seq, &bucket).await.unwrap();
            let Some(last) = more.last() else { break };
            seq = last.seq;
        }
        assert_eq!(seq.0 as usize, all.len());
        assert!(bucket.reads() <= 2 * bucket.pages.len());
        assert_eq!(index.entry(Seq(77), &bucket).await.unwrap(), all[76]);
        assert_eq!(index.entry(Seq(7_002), &bucket).await.unwrap_err().kind(), Kind::NotFound);
        assert_eq!(index.entry(Seq(0), &bucket).await.unwrap_err().kind(), Kind::NotFound);
    });
}

/// I2.
#[test]
fn a_position_that_is_not_of_this_history_is_refused_with_what_happened() {
    let (head, bucket, all) = stream_of(1_200);
    let (mut other, mut other_bucket, _) = stream_of(600);
    while other.last_seq.0 < 1_200 {
        other.as_of = at(9);
        let body = segment(&other, 7);
        other.append(body, at(77)).unwrap();
        other_bucket.seal(&mut other);
    }
    let check = |head: &Head, bucket: &Bucket, stream, seq, chain| {
        let error =
            run(Index::new(head.clone()).check_position(stream, Seq(seq), &chain, bucket)).unwrap_err();
        assert_eq!(error.kind(), Kind::History);
        assert!(error.hint_text().is_some());
        error.to_string()
    };
    // The index went back.
    let (shorter, shorter_bucket, _) = stream_of(1_100);
    let chain = all[1_199].chain;
    let message = check(&shorter, &shorter_bucket, STREAM, 1_200, chain);
    assert_eq!(
        message,
        format!(
            "check position: the index went back: it ends at entry 1100 with chain {}, and entry 1200 with chain \
             {chain} has been applied here",
            shorter.tip
        )
    );
    // The index forked: in the head, at its end, in a page.
    for seq in [1_200, 1_150, 610] {
        let chain = all[seq as usize - 1].chain;
        let message = check(&other, &other_bucket, STREAM, seq, chain);
        assert!(message.starts_with(&format!("check position: the index forked at or before entry {seq}: ")));
        assert!(message.contains(&chain.to_string()), "{message}");
    }
    let common = all[599].chain;
    run(Index::new(other.clone()).check_position(STREAM, Seq(600), &common, &other_bucket)).unwrap();
    // Another stream altogether.
    let message = check(&head, &bucket, SOURCE, 3, all[2].chain);
    assert!(message.contains(&STREAM.to_string()) && message.contains(&SOURCE.to_string()), "{message}");
}

/// I2: a page that is gone takes history with it.
#[test]
fn a_page_that_is_missing_or_another_is_refused() {
    let (head, mut bucket, _) = stream_of(2_100);
    let keys: Vec<Key> = bucket.pages.keys().cloned().collect();
    let swapped = bucket.pages[&keys[1]].clone();
    let first = bucket.pages.insert(keys[0].clone(), swapped).unwrap();
    let read = |bucket: &Bucket| run(Index::new(head.clone()).entries_after(Seq::ZERO, bucket)).unwrap_err();
    assert_eq!(read(&bucket).kind(), Kind::Corrupt);
    bucket.pages.remove(&keys[0]);
    let error = read(&bucket);
    assert_eq!(error.kind(), Kind::History);
    assert_eq!(
        error.to_string(),
        format!("read {}: the page is gone, and with it entries 1 to 500", keys[0])
    );
    bucket.pages.insert(keys[0].clone(), first);
    run(Index::new(head.clone()).entries_after(Seq::ZERO, &bucket)).unwrap();
}

/// I2: no bit of a stored document counts for nothing.
#[test]
fn every_single_bit_flip_and_every_truncation_of_a_head_is_refused() {
    let (mut head, _, _) = stream_of(3);
    head.schemas.insert("g".into(), SchemaDefaults { collation: "latin1_bin".into() });
    let bytes = head.to_json().unwrap();
    for at in 0..bytes.len() {
        assert!(Head::parse(&bytes[..at]).is_err(), "cut at {at}");
        for bit in 0..8 {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << bit;
            if Head::parse(&bytes).is_ok() {
                panic!("bit {bit} of byte {at} can be flipped: {}", String::from_utf8_lossy(&bytes));
            }
        }
    }
    let longer = [bytes.as_slice(), b"\n"].concat();
    assert_eq!(refused(&longer).kind(), Kind::Corrupt);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    /// I2.
    #[test]
    fn any_changed_byte_of_a_page_is_refused(at in 0usize..1_000_000, with in 1u8..=255) {
        let page = Page::of(STREAM, None, stream_of(4).0.entries);
        let mut bytes = page.to_json().unwrap();
        let link = page.link(&bytes).unwrap();
        prop_assert_eq!(Page::parse_linked(STREAM, &link, &bytes).unwrap(), page.clone());
        let at = at % bytes.len();
        bytes[at] ^= with;
        // By its link, and also alone.
        prop_assert_eq!(Page::parse_linked(STREAM, &link, &bytes).unwrap_err().kind(), Kind::Corrupt);
        prop_assert!(Page::parse(&page.key(), &bytes).is_err());
    }

    #[test]
    fn any_text_is_refused_and_none_makes_it_panic(text in "[{\\[\"a-z:,0-9\\]}]{0,80}") {
        prop_assert!(Head::parse(text.as_bytes()).is_err());
    }
}

/// I2: a head whose seal is right, because somebody sealed it, and whose history is not.
#[test]
fn edits_of_the_history_are_refused_even_when_sealed() {
    let (head, _, _) = stream_of(8);
    let bytes = head.to_json().unwrap();
    Head::parse(&edited(&bytes, |_| {})).unwrap();
    let entries = |value: &mut Value| value["entries"].as_array_mut().unwrap().clone();
    type Edit = Box<dyn Fn(&mut Value)>;
    let history: [(&str, Edit); 8] = [
        (
            "entry 3 is followed by entry 5",
            Box::new(|v| {
                v["entries"].as_array_mut().unwrap().remove(3);
            }),
        ),
        (
            "it ends at entry 7 and says 8",
            Box::new(|v| {
                v["entries"].as_array_mut().unwrap().pop();
            }),
        ),
        (
            "entry 0 is followed by entry 2",
            Box::new(|v| {
                v["entries"].as_array_mut().unwrap().remove(0);
            }),
        ),
        ("the chain breaks at entry 5", Box::new(|v| v["entries"][4]["size"] = json!(7))),
        ("the chain breaks at entry 5", Box::new(|v| v["entries"][4]["unknown"] = json!("new"))),
        (
            "entry 2 is followed by entry 4",
            Box::new(move |v| {
                let mut all = entries(v);
                all.swap(2, 3);
                v["entries"] = Value::Array(all);
            }),
        ),
        ("\"tip\" says", Box::new(|v| v["tip"] = json!(Chain::genesis(SOURCE)))),
        ("\"last_tx\" says 1", Box::new(|v| v["last_tx"] = json!(1))),
    ];
    for (message, edit) in history {
        for sealed in [true, false] {
            let bytes = if sealed {
                edited(&bytes, &edit)
            } else {
                let mut value: Value = serde_json::from_slice(&bytes).unwrap();
                edit(&mut value);
                serde_json::to_vec(&value).unwrap()
            };
            let error = refused(&bytes);
            assert_eq!(error.kind(), Kind::History, "{error:?}");
            assert!(error.to_string().contains(message), "{error:?} does not say: {message}");
        }
    }
}

#[test]
fn every_invariant_of_a_head_is_checked() {
    let (head, _, _) = stream_of(3);
    let bytes = head.to_json().unwrap();
    let definition =
        |table: &str, since: u64| json!({"table": table, "since_tx": since, "create_table": "CREATE TABLE"});
    let wrong: [(Kind, Value); 15] = [
        (Kind::Corrupt, json!({"name": ""})),
        (Kind::Corrupt, json!({"stream": "x"})),
        (Kind::History, json!({"stream": SOURCE})),
        (Kind::Corrupt, json!({"table_set": {"version": 0, "tables": ["g.apps"]}})),
        (Kind::Corrupt, json!({"table_set": {"version": 1, "tables": []}})),
        (Kind::Corrupt, json!({"table_set": {"version": 1, "tables": ["mysql.user"]}})),
        (Kind::History, json!({"covered": format!("{SOURCE}:1-5")})),
        (Kind::Corrupt, json!({"covered": "rubbish"})),
        (Kind::Corrupt, json!({"definitions": [definition("g.a", 99)]})),
        (Kind::Corrupt, json!({"definitions": [definition("g.a", 1), definition("g.a", 1)]})),
        (Kind::Corrupt, json!({"definitions": [definition("g.b", 1), definition("g.a", 1)]})),
        (Kind::Corrupt, json!({"as_of": null})),
        (Kind::Corrupt, json!({"entries": {"first": 1}})),
        (Kind::Corrupt, json!({"format": {"major": 0, "minor": 9}})),
        (
            Kind::Corrupt,
            json!({"page": {
                "key": Key::page(Seq(2), Seq(1)), "first": 2, "last": 1, "size": 1, "md5": Md5::of(b""),
                "chain": head.tip, "last_tx": 1,
            }}),
        ),
    ];
    for (kind, members) in wrong {
        let error = refused(&edited(&bytes, |value| {
            value.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        }));
        assert_eq!(error.kind(), kind, "{members}: {error:?}");
    }
    let mut long = head;
    while long.entries.len() <= page::MAX_ENTRIES {
        long.append(segment(&long, 1), at(1)).unwrap();
    }
    assert_eq!(long.to_json().unwrap_err().kind(), Kind::Corrupt);
}

#[test]
fn a_newer_major_format_is_refused_by_name_and_a_newer_minor_is_read() {
    let (head, _, _) = stream_of(2);
    let bytes = head.to_json().unwrap();
    // Also when nothing else in it can be understood, and whoever sealed it.
    for newer in [
        edited(&bytes, |v| v["format"] = json!({"major": 2, "minor": 0})),
        edited(&bytes, |v| {
            v["format"] = json!({"major": 2, "minor": 0});
            v["entries"] = json!({"first": 1});
        }),
        br#"{"format":{"major":2,"minor":3},"writer":"tablecast 4.5.6"}"#.to_vec(),
    ] {
        let error = refused(&newer);
        assert_eq!(error.kind(), Kind::TooNew);
        assert!(error.to_string().contains("format 2."), "{error}");
        assert!(error.hint_text().unwrap().contains("tablecast"), "{error}");
    }
    assert!(
        refused(br#"{"format":{"major":2,"minor":3},"writer":"tablecast 4.5.6"}"#)
            .to_string()
            .contains("written by tablecast 4.5.6")
    );
    let minor = edited(&bytes, |v| {
        v["format"]["minor"] = json!(7);
        v["novelty"] = json!({"x": [1, 2]});
    });
    let read = Head::parse(&minor).unwrap();
    assert_eq!(read.extra["novelty"], json!({"x": [1, 2]}));
    // What a later version added goes back into the bucket, and the format it says stays.
    let again = Head::parse(&read.to_json().unwrap()).unwrap();
    assert_eq!((again.format.minor, &again.extra), (7, &read.extra));
}

/// I2: the chain covers what this version does not know.
#[test]
fn entries_of_a_later_minor_version_are_verified_and_kept() {
    let (mut head, _, _) = stream_of(1);
    let entry = head.entries[0].clone();
    let mut raw = entry.raw();
    raw["later"] = json!({"b": 1, "a": "é\n"});
    let chain = Chain::genesis(STREAM).next(&canonical::canonical(&raw, Some("chain")).unwrap());
    raw["chain"] = json!(chain);
    head.entries[0] = Entry::parse(raw.clone()).unwrap();
    head.tip = chain;
    let read = Head::parse(&head.to_json().unwrap()).unwrap();
    assert_eq!(read.entries[0].raw(), raw);
    // A kind that is not known cannot be passed over.
    raw["kind"] = json!("marker");
    let error = Entry::parse(raw).unwrap_err();
    assert_eq!(error.kind(), Kind::TooNew);
    assert_eq!(error.to_string(), "read entry 1: it is of kind \"marker\", which this version does not know");
}

/// I2: kept as text, an entry is written as it was read, wherever its chain stands among its members.
#[test]
fn an_entry_is_written_as_it_was_read() {
    let (head, _, _) = stream_of(1);
    let plain = head.entries[0].raw();
    let mut variants = vec![plain.clone()];
    for names in [&["a"][..], &["aa", "chai"], &["chaim", "zz"], &["a", "chain\"s", "é"]] {
        let mut raw = plain.clone();
        names.iter().for_each(|name| raw[*name] = json!({"chain": [1, "\"chain\":\"x\"", null]}));
        variants.push(raw);
    }
    for raw in variants {
        let entry = Entry::parse(raw.clone()).unwrap();
        assert_eq!(entry.raw(), raw);
        let mut text = String::new();
        entry.write_to(&mut text);
        assert_eq!(text, canonical::canonical(&raw, None).unwrap());
        assert_eq!(text, raw.to_string(), "as versions wrote it that kept the value");
    }
}

/// A head of a thousand entries is cloned at each cut and at each look.
#[test]
fn a_clone_of_a_head_has_its_entries_in_common() {
    let (head, _, _) = stream_of(3);
    let copy = head.clone();
    let page = Page::of(head.stream, None, head.entries.clone());
    for (at, entry) in head.entries.iter().enumerate() {
        assert!(std::ptr::eq(&**entry, &*copy.entries[at]) && std::ptr::eq(&**entry, &*page.entries[at]));
    }
    let read = Head::parse(&head.to_json().unwrap()).unwrap();
    assert_eq!(read, head);
    assert!(!std::ptr::eq(&*read.entries[0], &*head.entries[0]), "equal by what it says");
}

#[test]
fn a_body_that_does_not_follow_is_not_appended() {
    let (mut head, _, _) = stream_of(5);
    let before = head.clone();
    let good = |head: &Head| as_segment(segment(head, 2));
    type Edit = fn(&mut SegmentEntry);
    let wrong: [(Kind, Edit); 9] = [
        (Kind::Corrupt, |s| s.count = 3),
        (Kind::Corrupt, |s| s.size = 0),
        (Kind::Corrupt, |s| s.codec = Codec::Zstd),
        (Kind::Corrupt, |s| s.tables = vec![TableName::new("g", "b"), TableName::new("g", "a")]),
        (Kind::Corrupt, |s| s.covered_after = s.covered_before.clone()),
        (Kind::Corrupt, |s| s.covered_before = covered(1_000)),
        (Kind::History, |s| s.covered_before = covered(1)),
        (Kind::History, |s| {
            (s.first_tx, s.last_tx) = (StreamTx(s.first_tx.0 + 1), StreamTx(s.last_tx.0 + 1));
            s.key = Key::segment(s.first_tx, s.last_tx, at(0), s.codec);
        }),
        (Kind::Corrupt, |s| {
            s.definitions = vec![Definition {
                table: TableName::new("g", "apps"),
                since_tx: StreamTx(s.last_tx.0 + 1),
                create_table: "CREATE TABLE".into(),
                rows_at_init: None,
            }];
        }),
    ];
    for (i, (kind, edit)) in wrong.into_iter().enumerate() {
        let mut body = good(&head);
        edit(&mut body);
        assert_eq!(head.append(Body::Segment(body), at(9)).unwrap_err().kind(), kind, "case {i}");
        assert_eq!(head, before, "case {i}");
    }
    head.append(Body::Segment(good(&before)), at(9)).unwrap();
}

#[test]
fn an_append_brings_covered_set_and_definitions_up_to_date() {
    let (mut head, _, _) = stream_of(2);
    let mut body = as_segment(segment(&head, 4));
    let definition = |text: &str, since| Definition {
        table: TableName::new("g", "apps"),
        since_tx: StreamTx(since),
        create_table: text.into(),
        rows_at_init: None,
    };
    head.define(definition("old", 0));
    body.definitions = vec![definition("new", body.last_tx.0)];
    head.append(Body::Segment(body.clone()), at(9)).unwrap();
    assert_eq!(head.covered, body.covered_after);
    assert_eq!(head.definition(&TableName::new("g", "apps")).unwrap().create_table, "new");
    assert_eq!(head.definitions.len(), 1);
    assert!(head.definition(&TableName::new("g", "other")).is_none());
    Head::parse(&head.to_json().unwrap()).unwrap();
}

#[test]
fn sealing_takes_the_oldest_entries_only() {
    let (head, _, _) = stream_of(900);
    let page = Page::of(STREAM, None, head.entries[1..400].to_vec());
    assert!(page.to_json().is_err(), "a page that does not begin where the last one ended");
    let page = Page::of(STREAM, None, head.entries[..400].to_vec());
    let link = page.link(&page.to_json().unwrap()).unwrap();
    let mut other = stream_of(901).0;
    other.seal(link.clone()).unwrap();
    assert_eq!(other.entries.len(), 501);
    assert_eq!(other.seal(link).unwrap_err().kind(), Kind::History);
}
