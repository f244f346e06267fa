//! Small objects that would be large ones: what they cost is bounded before anything is read. Each run is looked at from
//! outside, and its memory at any time is below 64 MiB, but where a limit that is larger is said here.

use tablecast::binlog::name::TableName;
use tablecast::mysql::table;
use tablecast::stream::{
    Body, CheckEntry, CheckedRange, Codec, Head, Key, Md5, NamesObject, RowsChecksum, SegmentEntry, Seq,
};

use super::kit::{Dumped, LITTLE, Site, anew, bomb, changed, make_victim, new_region, pack, sealed};
use crate::apply::forge::Forge;

const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

/// Puts a segment's object into an entry that is in order.
pub fn publish(forge: &Forge, codec: Codec, object: &[u8], raw_size: usize) -> Key {
    let mut head = Head::parse(&forge.index).unwrap();
    let first = head.last_tx.next();
    let now = head.as_of;
    let key = Key::segment(first, first, now, codec);
    std::fs::write(forge.stream.bucket().join(key.as_str()), object).unwrap();
    let mut covered_after = head.covered.clone();
    covered_after.extend(&"00000000-0000-0000-0000-000000000001:1".parse().unwrap());
    let entry = SegmentEntry {
        key: key.clone(),
        size: object.len() as u64,
        md5: Md5::of(object),
        raw_size: raw_size as u64,
        codec,
        first_tx: first,
        last_tx: first,
        count: 1,
        tables: vec![format!("{}.apps", forge.stream.schema).parse().unwrap()],
        covered_before: head.covered.clone(),
        covered_after,
        first_commit: now,
        last_commit: now,
        definitions: Vec::new(),
    };
    head.append(Body::Segment(entry), now).unwrap();
    std::fs::write(forge.stream.bucket().join("index.json"), head.to_json().unwrap()).unwrap();
    key
}

/// The binlog of a sound segment with one DDL statement, and where its events end: behind magic, format description, past,
/// GTID, note, statement, STOP.
fn sound(forge: &Forge) -> (Vec<u8>, Vec<usize>) {
    let head = Head::parse(&forge.index).unwrap();
    let head = forge.extend(head, &[forge.statement("ALTER TABLE @.apps COMMENT 'x'")]);
    let key = head.entries.last().unwrap().segment().unwrap().key.clone();
    let object = std::fs::read(forge.stream.bucket().join(key.as_str())).unwrap();
    let mut plain = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(&*object), &mut plain).unwrap();
    let mut ends = vec![4];
    while let Some(size) = plain.get(ends[ends.len() - 1] + 9..ends[ends.len() - 1] + 13) {
        ends.push(ends[ends.len() - 1] + u32::from_le_bytes(size.try_into().unwrap()) as usize);
    }
    (plain, ends)
}

/// The header of an event of this kind and size.
fn header(kind: u8, size: usize) -> [u8; 19] {
    let mut header = [0; 19];
    header[4] = kind;
    header[9..13].copy_from_slice(&(size as u32).to_le_bytes());
    header
}

/// I6.
#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_unpacks_to_gigabytes_is_given_up_where_it_says_so() {
    let forge = Forge::new("sb_segments").await;
    make_victim(&forge.region).await;
    let site = Site::new();
    let config = site.config(&forge.stream, &forge.region, &["@.apps"]);
    let before = (forge.stream.state_of_stream(&forge.region).await, site.outside(&forge.region).await);
    let apply = |codec: Codec, object: &[u8], raw_size: usize, most: u64, says: &str| {
        let key = publish(&forge, codec, object, raw_size);
        site.put(&forge.stream);
        site.watch(&config, "apply").within(most, 1, &[says, key.as_str(), "hint:"]);
    };
    let (plain, ends) = sound(&forge);
    for codec in [Codec::Zstd, Codec::Gzip] {
        let mib = if codec == Codec::Zstd { 3 << 10 } else { 512 };
        let all = plain.len() + mib * MIB;
        let object = bomb(codec, &plain, 0, mib);
        assert!(object.len() < 8 * MIB, "{} bytes", object.len());
        apply(codec, &object, plain.len(), LITTLE, "longer than the index says");
        apply(codec, &object, all, LITTLE, "bytes behind its end");
        // Nothing but zeros.
        apply(codec, &bomb(codec, b"", 0, mib), mib * MIB, LITTLE, "does not begin as a binlog does");
    }
    // An event of 1 GiB in the place of each: Query, Table_map, Write_rows, Transaction_payload.
    for end in &ends[..ends.len() - 1] {
        for kind in [2, 19, 30, 40] {
            let start = [&plain[..*end], &header(kind, GIB)].concat();
            let object = bomb(Codec::Zstd, &start, 0, 1 << 10);
            apply(Codec::Zstd, &object, start.len() + GIB, LITTLE, "where none has more than");
        }
    }
    // One of as much as is taken of an event without rows. It is read once, and is none.
    let start = [&plain[..ends[3]], &header(2, 64 * MIB)].concat();
    let object = bomb(Codec::Zstd, &start, 0, 64);
    apply(Codec::Zstd, &object, start.len() + 64 * MIB, LITTLE + (72 << 10), "read a segment");
    // A frame that says that it refers back by 128 MiB, and one by 1 GiB.
    for (window, mib) in [(27, 160), (30, 16)] {
        let mut out = zstd::Encoder::new(Vec::new(), 1).unwrap();
        out.window_log(window).unwrap();
        for _ in 0..mib / 16 {
            std::io::Write::write_all(&mut out, &vec![0; 16 * MIB]).unwrap();
        }
        let object = [pack(Codec::Zstd, &plain[..ends[3]]), out.finish().unwrap()].concat();
        apply(Codec::Zstd, &object, ends[3] + mib * MIB, LITTLE, "read a segment");
    }
    // An object that is larger than the index says does not even get to the disk.
    let key = publish(&forge, Codec::Gzip, &pack(Codec::Gzip, &plain), plain.len());
    std::fs::write(forge.stream.bucket().join(key.as_str()), vec![0; 80 * MIB]).unwrap();
    site.put(&forge.stream);
    site.watch(&config, "apply").within(LITTLE, 1, &[key.as_str(), "hint:"]);
    let after = (forge.stream.state_of_stream(&forge.region).await, site.outside(&forge.region).await);
    assert_eq!(after, before, "nothing may change");
}

/// I6.
#[tokio::test(flavor = "multi_thread")]
async fn a_dump_that_unpacks_to_gigabytes_is_given_up_where_it_says_so() {
    let dumped = Dumped::of("sb_dump").await;
    let region = new_region("sb_dump").await;
    let site = Site::new();
    let config = site.config(&dumped.stream, &region, &["@.apps"]);
    let before = site.outside(&region).await;
    let codec = dumped.manifest.tables[0].chunks[0].codec;
    let chunk = dumped.manifest.tables[0].chunks[0].key.clone();
    let (size, statement) = (dumped.rows.len(), dumped.manifest.tables[0].largest_statement);
    let try_it = |object: &[u8], raw_size: usize, statement: u64| {
        dumped.publish(&dumped.with_chunk(object, raw_size as u64, statement));
        site.put(&dumped.stream);
        site.watch(&config, "bootstrap")
    };
    let gib = bomb(codec, &dumped.rows, 0, 2 << 10);
    for raw_size in [size, size + 2 * GIB] {
        // The restore waits for a better dump: 3.
        try_it(&gib, raw_size, statement).within(LITTLE, 3, &["a chunk", "hint:"]);
        anew(&region, "sb_dump").await;
    }
    // One value without an end.
    let text = String::from_utf8(dumped.rows.clone()).unwrap();
    let (start, _) = text.split_once("one'").unwrap();
    let value = bomb(codec, start.as_bytes(), b'x', 1 << 10);
    let all = start.len() + GIB;
    try_it(&value, all, statement).within(LITTLE, 3, &["is all it may have", "hint:"]);
    anew(&region, "sb_dump").await;
    // A statement that the server would not take is not read: its max_allowed_packet is 64 MiB.
    try_it(&value, all, GIB as u64).within(LITTLE, 3, &["max_allowed_packet", "hint:"]);
    anew(&region, "sb_dump").await;
    // One that it would is held once, in a buffer that may be twice as large.
    try_it(&value, all, 60 << 20).within(LITTLE + (128 << 10), 3, &["is all it may have", "hint:"]);
    anew(&region, "sb_dump").await;
    // An object that is larger than the manifest says.
    let manifest = dumped.with_chunk(&dumped.pack(&dumped.rows), size as u64, statement);
    std::fs::write(dumped.stream.bucket().join(chunk.as_str()), vec![0; 80 * MIB]).unwrap();
    dumped.publish(&manifest);
    site.put(&dumped.stream);
    site.watch(&config, "bootstrap").within(LITTLE, 3, &[chunk.as_str(), "hint:"]);
    anew(&region, "sb_dump").await;
    assert_eq!(site.outside(&region).await, before, "nothing may change");
    try_it(&dumped.pack(&dumped.rows), size, statement).within(LITTLE, 0, &[]);
}

/// I6: a check's object is read where its sums differ, and of those the index says whatever its writer likes.
#[tokio::test(flavor = "multi_thread")]
async fn the_rows_of_a_check_that_unpack_to_gigabytes_are_not_kept() {
    let forge = Forge::new("sb_check").await;
    let (stream, region) = (&forge.stream, &forge.region);
    make_victim(region).await;
    let site = Site::new();
    let config = site.config(stream, region, &["@.apps"]);
    let before = (stream.state_of_stream(region).await, site.outside(region).await);
    let name = TableName::new("sb_check", "apps");
    let mut wire = table::open(&region.config()).await.unwrap();
    let columns = table::digest(&table::columns(&mut wire, &name).await.unwrap());
    wire.close().await;
    let table_line = pack(Codec::Gzip, b"\"sb_check.apps\"\n");
    // Rows of which each has another key.
    let lines = |length: usize, count: usize| {
        let (mut rows, rest) = (Vec::new(), "x".repeat(length));
        for n in 0..count {
            rows.extend_from_slice(format!("[\"00000000\",\"{n:08}{rest}\"]\n").as_bytes());
        }
        [table_line.clone(), pack(Codec::Gzip, &rows)].concat()
    };
    let many_tables = pack(Codec::Gzip, &b"\"sb_check.apps\"\n".repeat(MIB)).repeat(200);
    const LATE: &str = "it takes longer than";
    for (what, object, rows, says) in [
        ("long keys", lines(MIB, 100), u64::MAX, ["a line has no end"; 2]),
        // All of them where the machine is fast, else as many as there is time for.
        ("many keys", lines(3_000, 15_000), u64::MAX, ["is missing here", LATE]),
        ("more keys than rows", lines(3_000, 15_000), 7, ["more rows"; 2]),
        ("one line", bomb(Codec::Gzip, b"\"", b'x', 512), 1, ["a line has no end"; 2]),
        ("tables without an end", many_tables, 1, [LATE; 2]),
    ] {
        let mut head = Head::parse(&forge.index).unwrap();
        let key = Key::check(Seq(head.last_seq.0 + 1), head.as_of);
        std::fs::create_dir_all(stream.bucket().join("checks")).unwrap();
        std::fs::write(stream.bucket().join(key.as_str()), &object).unwrap();
        let range = CheckedRange {
            table: name.clone(),
            columns,
            key: vec!["id".to_owned()],
            after: None,
            through: None,
            rows,
            checksum: RowsChecksum(7),
        };
        let names = NamesObject { key, size: object.len() as u64, md5: Md5::of(&object) };
        let check =
            CheckEntry { at: head.last_tx, checked_at: head.as_of, ranges: vec![range], names: Some(names) };
        head.append(Body::Check(check), head.as_of).unwrap();
        std::fs::write(stream.bucket().join("index.json"), head.to_json().unwrap()).unwrap();
        site.put(stream);
        let ran = site.watch(&config, "apply").within(LITTLE, 0, &["sb_check.apps"]);
        assert!(says.iter().any(|text| ran.stderr.contains(text)), "{what}: {ran:?}");
        assert!(ran.stderr.len() < 64 << 10, "{what}: {} bytes are said", ran.stderr.len());
        // As before this entry.
        region
            .sql(&format!(
                "SET sql_log_bin = 0; UPDATE tablecast.position SET seq = {}, chain = '{}', head_etag = NULL; DELETE FROM \
                 tablecast.checked",
                head.last_seq.0 - 1,
                Head::parse(&forge.index).unwrap().tip
            ))
            .await;
    }
    let after = (stream.state_of_stream(region).await, site.outside(region).await);
    assert_eq!(after, before, "nothing may change");
}

/// A document has 64 MiB of text at most. What is made of it is bounded by the number of its values.
#[tokio::test(flavor = "multi_thread")]
async fn a_document_of_millions_of_values_is_given_up_before_they_fill_the_memory() {
    /// The text once, and two million values.
    const DOCUMENT: u64 = LITTLE + ((64 + 192) << 10);
    let dumped = Dumped::of("sb_index").await;
    let region = new_region("sb_index").await;
    let site = Site::new();
    let config = site.config(&dumped.stream, &region, &["@.apps"]);
    let before = site.outside(&region).await;
    let good = dumped.head.to_json().unwrap();
    let value: serde_json::Value = serde_json::from_slice(&good).unwrap();
    let begin = format!("{{\"format\":{},\n", value["format"]);
    let entry = value["entries"][0].to_string();
    let fill = |text: &str| text.repeat((60 * MIB) / text.len());
    for (what, text) in [
        ("numbers", format!("{begin}\"x\":[{}0],\n", fill("0,"))),
        ("lists", format!("{begin}\"x\":[{}0],\n", fill("[],"))),
        ("entries that are none", format!("{begin}\"entries\":[{}0],\n", fill("{},"))),
        (
            "one of many",
            format!("{begin}\"entries\":[{},\"x\":[{}0]}}],\n", &entry[..entry.len() - 1], fill("0,")),
        ),
        ("the same one", format!("{begin}\"entries\":[{}{entry}],\n", fill(&format!("{entry},")))),
        ("depth", format!("{begin}\"x\":{}\n", fill("["))),
    ] {
        site.put_object("sb_index/index.json", sealed(text.into_bytes()));
        let ran = site.watch(&config, "apply").within(DOCUMENT, 1, &["index.json"]);
        assert!(ran.stderr.len() < 64 << 10, "{what}: {} bytes are said", ran.stderr.len());
    }
    // One that is larger than any document is not read at all.
    site.put_object("sb_index/index.json", fill("0,").repeat(2).into_bytes());
    site.watch(&config, "apply").within(LITTLE, 1, &["index.json"]);
    // A manifest, and a page that the head links to.
    for text in ["0,", "{},", "\"a\","] {
        dumped.publish_bytes(&sealed(format!("{begin}\"x\":[{}0],\n", fill(text)).into_bytes()));
        site.put(&dumped.stream);
        site.watch(&config, "bootstrap").within(DOCUMENT, 1, &["manifest.json"]);
    }
    let page = sealed(format!("{begin}\"entries\":[{}0],\n", fill("{},")).into_bytes());
    let (last, key) = (dumped.head.last_seq, Key::page(Seq(1), dumped.head.last_seq));
    let link = serde_json::json!({
        "key": key, "first": 1, "last": last, "size": page.len(), "md5": Md5::of(&page), "chain": dumped.head.tip,
        "last_tx": dumped.head.last_tx,
    });
    let head = changed(&good, |head| {
        head["page"] = link;
        head["entries"] = serde_json::json!([]);
        head.as_object_mut().unwrap().remove("dumps");
    });
    site.put_object(&format!("sb_index/{key}"), page);
    site.put_object("sb_index/index.json", head);
    site.watch(&config, "apply").within(DOCUMENT, 1, &[key.as_str()]);
    assert_eq!(site.outside(&region).await, before, "nothing may change");
}
