//! Entries that no program would write, in an index that is in perfect order: their objects are called what nobody calls
//! them, or are another stream's, and their numbers are none.

use serde_json::{Value, json};
use tablecast::stream::{Codec, Head, Key};
use uuid::Uuid;

use super::bombs::publish;
use super::kit::{Dumped, LITTLE, Site, changed, make_victim, new_region, pack, with_entry};
use crate::apply::forge::Forge;

/// Names that lead elsewhere, or look so.
const NAMES: &[&str] = &[
    "../../../../etc/passwd",
    "../secret",
    "../other/segments/00000000000000000002-00000000000000000002-20240229T010203456Z.binlog.gz",
    "other/segments/00000000000000000002-00000000000000000002-20240229T010203456Z.binlog.gz",
    "segments/../../other/segments/x",
    "/etc/passwd",
    "//etc/passwd",
    "segments/..%2f..%2fetc%2fpasswd",
    "segments/%2e%2e/x",
    "segments/\u{0}",
    "segments/\u{ff0e}\u{ff0e}/x",
    "segments/\u{202e}gz",
    "segments//x",
    "segments/.x",
    "segments\\..\\x",
    "./index.json",
    "index.json",
    "requests/newest.json",
    "",
    "C:\\boot.ini",
    "file:///etc/passwd",
    "s3://acme-global/other/index.json",
    "https://127.0.0.1/x",
    "-rf",
    "$(touch x)",
];

/// A second entry that is in order, as JSON without number and chain.
fn sound(forge: &Forge) -> (Head, Value) {
    let head = Head::parse(&forge.index).unwrap();
    let extended = forge.extend(head.clone(), &[forge.statement("ALTER TABLE @.apps COMMENT 'y'")]);
    let mut entry = extended.entries.last().unwrap().raw();
    for member in ["seq", "chain"] {
        entry.as_object_mut().unwrap().remove(member);
    }
    (head, entry)
}

fn put(site: &Site, forge: &Forge, index: &[u8]) {
    std::fs::write(forge.stream.bucket().join("index.json"), index).unwrap();
    site.put(&forge.stream);
}

/// I6.
#[tokio::test(flavor = "multi_thread")]
async fn i6_an_object_that_is_called_otherwise_than_objects_are_is_never_asked_for() {
    let forge = Forge::new("sn_names").await;
    make_victim(&forge.region).await;
    let site = Site::new();
    let config = site.config(&forge.stream, &forge.region, &["@.apps"]);
    let (head, entry) = sound(&forge);
    let before = (forge.stream.state_of_stream(&forge.region).await, site.outside(&forge.region).await);
    // What they lead to is there, and would do.
    let object = std::fs::read(forge.stream.bucket().join(entry["key"].as_str().unwrap())).unwrap();
    for name in NAMES {
        let entry = changed_in(&entry, |entry| entry["key"] = json!(name));
        put(&site, &forge, &with_entry(&head, entry));
        if *name != "index.json" {
            site.put_object(&format!("sn_names/{name}"), object.clone());
        }
        let ran = site.watch(&config, "apply").within(LITTLE, 1, &["entry 2"]);
        assert!(!ran.stderr.contains("panicked") && !ran.stderr.contains("root:x:"), "{name:?}: {ran:?}");
    }
    // The same wherever else the index names an object.
    let good = head.to_json().unwrap();
    for name in NAMES {
        let link = json!({
            "key": name, "first": 1, "last": 1, "size": 1, "md5": "0".repeat(32), "chain": head.tip, "last_tx": head.last_tx,
        });
        put(&site, &forge, &changed(&good, |index| index["page"] = link));
        site.watch(&config, "apply").within(LITTLE, 1, &["page"]);
        let names = json!({"key": name, "size": 1, "md5": "0".repeat(32)});
        let range = json!({
            "table": "sn_names.apps", "columns": "0".repeat(32), "key": ["id"], "rows": 1, "checksum": "0".repeat(32),
        });
        let check = json!({
            "kind": "check", "created_at": entry["created_at"], "at": head.last_tx, "checked_at": entry["created_at"],
            "ranges": [range], "names": names,
        });
        put(&site, &forge, &with_entry(&head, check));
        site.watch(&config, "apply").within(LITTLE, 1, &["entry 2"]);
    }
    let after = (forge.stream.state_of_stream(&forge.region).await, site.outside(&forge.region).await);
    assert_eq!(after, before, "nothing may change");
    // The control.
    put(&site, &forge, &with_entry(&head, entry));
    site.run(&config, "apply").ends(0, &[]);
}

fn changed_in(value: &Value, change: impl FnOnce(&mut Value)) -> Value {
    let mut value = value.clone();
    change(&mut value);
    value
}

/// I6: what another stream's source has written is none of this one's, wherever it lies.
#[tokio::test(flavor = "multi_thread")]
async fn i6_a_segment_of_another_stream_is_not_taken_for_one_of_this() {
    let forge = Forge::new("sn_other").await;
    make_victim(&forge.region).await;
    let site = Site::new();
    let config = site.config(&forge.stream, &forge.region, &["@.apps"]);
    let before = (forge.stream.state_of_stream(&forge.region).await, site.outside(&forge.region).await);
    let head = Head::parse(&forge.index).unwrap();
    let other = Head { stream: Uuid::from_u128(7), entries: Vec::new(), ..head.clone() };
    let other = forge.extend(other, &[forge.statement("ALTER TABLE @.apps COMMENT 'other'")]);
    let segment = other.entries.last().unwrap().segment().unwrap();
    let object = std::fs::read(forge.stream.bucket().join(segment.key.as_str())).unwrap();
    let key = publish(&forge, segment.codec, &object, segment.raw_size as usize);
    site.put(&forge.stream);
    site.watch(&config, "apply").within(LITTLE, 1, &[key.as_str(), "it is of stream", "hint:"]);
    let after = (forge.stream.state_of_stream(&forge.region).await, site.outside(&forge.region).await);
    assert_eq!(after, before, "nothing may change");
}

/// Whatever a number says, it is held against the others, or against the object, before it is used.
#[tokio::test(flavor = "multi_thread")]
async fn absurd_numbers_in_an_entry_are_refused_before_anything_runs() {
    let forge = Forge::new("sn_numbers").await;
    make_victim(&forge.region).await;
    let site = Site::new();
    let config = site.config(&forge.stream, &forge.region, &["@.apps"]);
    let (head, entry) = sound(&forge);
    let before = (forge.stream.state_of_stream(&forge.region).await, site.outside(&forge.region).await);
    let absurd =
        [json!(0), json!(1_u64 << 40), json!(i64::MAX), json!(u64::MAX), json!(-1), json!("1"), json!(null)];
    for member in ["seq", "size", "raw_size", "first_tx", "last_tx", "count"] {
        for odd in &absurd {
            let lie = changed_in(&entry, |entry| entry[member] = odd.clone());
            put(&site, &forge, &with_entry(&head, lie));
            let ran = site.watch(&config, "apply");
            let what = format!("{member} is {odd}: {:?}", ran.ran);
            assert!(ran.peak < LITTLE, "{} KiB, {what}", ran.peak);
            assert!([1, 10].contains(&ran.ran.code) && !ran.ran.stderr.contains("panicked"), "{what}");
            assert!(ran.ran.stderr.contains("entry") || ran.ran.stderr.contains("index.json"), "{what}");
        }
    }
    // Both numbers of transactions, with a name that fits them: there are not as many in the object.
    let size = entry["size"].as_u64().unwrap();
    for last in [1_u64 << 40, i64::MAX as u64 - 1] {
        let first = entry["first_tx"].as_u64().unwrap();
        let lie = changed_in(&entry, |entry| {
            (entry["last_tx"], entry["count"]) = (json!(last), json!(last - first + 1));
            let name = entry["key"].as_str().unwrap().replacen(
                &format!("-{first:020}-"),
                &format!("-{last:020}-"),
                1,
            );
            entry["key"] = json!(name);
            entry["covered_after"] = json!(format!(
                "{}, 00000000-0000-0000-0000-000000000001:1-{}",
                entry["covered_before"].as_str().unwrap(),
                i64::MAX as u64 - 1
            ));
        });
        let object = std::fs::read(forge.stream.bucket().join(entry["key"].as_str().unwrap())).unwrap();
        assert_eq!(object.len() as u64, size);
        std::fs::write(forge.stream.bucket().join(lie["key"].as_str().unwrap()), object).unwrap();
        put(&site, &forge, &with_entry(&head, lie));
        site.watch(&config, "apply").within(LITTLE, 1, &["ends with transaction", "hint:"]);
    }
    let after = (forge.stream.state_of_stream(&forge.region).await, site.outside(&forge.region).await);
    assert_eq!(after, before, "nothing may change");
}

/// The same of a dump: its manifest and that of its entry.
#[tokio::test(flavor = "multi_thread")]
async fn i6_a_dump_whose_objects_are_called_otherwise_or_whose_numbers_are_none_is_refused() {
    let dumped = Dumped::of("sn_dump").await;
    let region = new_region("sn_dump").await;
    let site = Site::new();
    let config = site.config(&dumped.stream, &region, &["@.apps"]);
    let before = site.outside(&region).await;
    let manifest = dumped.manifest.to_json().unwrap();
    let lie = |place: &str, odd: Value| {
        let lie = changed(&manifest, |manifest| *manifest.pointer_mut(place).unwrap() = odd.clone());
        dumped.publish_bytes(&lie);
        site.put(&dumped.stream);
        let ran = site.watch(&config, "bootstrap").within(LITTLE, 1, &["manifest.json"]);
        assert!(!ran.stderr.contains("panicked"), "{place} is {odd}: {ran:?}");
    };
    for name in NAMES {
        lie("/tables/0/chunks/0/key", json!(name));
        if !name.is_empty() {
            lie("/id", json!(name));
        }
    }
    for member in ["rows", "checksum", "largest_statement"] {
        for odd in [json!(0), json!(i64::MAX), json!(u64::MAX), json!(-1), json!(null), json!("f".repeat(32))]
        {
            lie(&format!("/tables/0/{member}"), odd.clone());
        }
    }
    // Tables that no stream has.
    lie("/tables/0/table", json!("mysql.user"));
    lie("/tables/0/table", json!("tablecast.position"));
    assert_eq!(site.outside(&region).await, before, "nothing may change");
    // What the region does not let in is left where it is, whatever it is called.
    let elsewhere = changed(&manifest, |manifest| {
        manifest["tables"][0]["table"] = json!("victim.t");
        manifest["schemas"]["victim"] = manifest["schemas"]["sn_dump"].clone();
    });
    dumped.publish_bytes(&elsewhere);
    site.put(&dumped.stream);
    let ran = site.watch(&config, "bootstrap");
    assert!([1, 15].contains(&ran.ran.code), "{:?}", ran.ran);
    assert_eq!(site.outside(&region).await, before, "nothing may change");
    // Packed by the other of the two.
    let other = match dumped.manifest.tables[0].chunks[0].codec {
        Codec::Gzip => Codec::Zstd,
        Codec::Zstd => Codec::Gzip,
    };
    let object = pack(other, &dumped.rows);
    let raw_size = dumped.rows.len() as u64;
    dumped.publish(&dumped.with_chunk(&object, raw_size, dumped.manifest.tables[0].largest_statement));
    site.put(&dumped.stream);
    let key: &Key = &dumped.manifest.tables[0].chunks[0].key;
    site.watch(&config, "bootstrap").within(LITTLE, 3, &[key.as_str(), "hint:"]);
    assert_eq!(site.outside(&region).await, before, "nothing may change");
}
