//! Dumps in the index: what an entry may say, and which of them the head keeps.

use super::*;
use crate::stream::head::MAX_DUMPS;
use crate::stream::{DumpEntry, DumpId, Floor, RequestId};

/// A dump of one table at the last transaction.
pub fn dump(head: &Head) -> DumpEntry {
    let id = DumpId::new(at(head.last_seq.0), 7);
    DumpEntry {
        manifest: Key::manifest(&id),
        id,
        size: 1_000,
        md5: Md5::of(b"manifest"),
        at: head.last_tx,
        snapshot: head.covered.clone(),
        tables: vec![TableName::new("g", "apps")],
        full: false,
        mandatory: false,
        lacks: None,
        brought: None,
        resync: false,
        rows: 5,
        bytes: 77,
        taken_at: at(head.last_seq.0),
        requests: vec![RequestId::new(3)],
    }
}

fn full(head: &Head) -> DumpEntry {
    DumpEntry {
        full: true,
        tables: vec![TableName::new("g", "apps"), TableName::new("h", "a")],
        ..dump(head)
    }
}

fn append(head: &mut Head, dump: DumpEntry) -> Seq {
    head.append(Body::Dump(dump), at(head.last_seq.0)).unwrap().seq
}

fn kept(head: &Head) -> Vec<u64> {
    head.dumps.iter().map(|dump| dump.seq.0).collect()
}

fn read_back(head: &Head) {
    let bytes = head.to_json().unwrap();
    assert_eq!(Head::parse(&bytes).unwrap(), *head);
}

#[test]
fn a_dump_is_a_step_that_brings_no_transactions() {
    let (mut head, _, _) = stream_of(3);
    let before = head.clone();
    let body = dump(&head);
    let entry = head.append(Body::Dump(body.clone()), at(9)).unwrap().clone();
    assert_eq!(
        (entry.seq, entry.dump(), entry.segment(), entry.transactions()),
        (Seq(4), Some(&body), None, None)
    );
    assert_eq!((head.last_seq, head.last_tx, &head.covered), (Seq(4), before.last_tx, &before.covered));
    assert_ne!(head.tip, before.tip);
    assert_eq!(head.dump(&body.id).map(|dump| dump.seq), Some(Seq(4)));
    read_back(&head);
    // The stream goes on behind it.
    head.append(segment(&head, 2), at(10)).unwrap();
    read_back(&head);
}

#[test]
fn the_head_keeps_the_newest_full_dump_and_those_behind_it() {
    let (mut head, _, _) = stream_of(2);
    for _ in 0..3 {
        let next = dump(&head);
        append(&mut head, next);
    }
    assert_eq!((kept(&head), head.full_dump()), (vec![3, 4, 5], None));
    let first = full(&head);
    append(&mut head, first.clone());
    assert_eq!(head.full_dump().map(|dump| &dump.dump), Some(&first));
    for _ in 0..2 {
        let next = dump(&head);
        append(&mut head, next);
    }
    assert_eq!(kept(&head), [6, 7, 8]);
    let second = full(&head);
    append(&mut head, second);
    assert_eq!(kept(&head), [9]);
    for _ in 0..2 * MAX_DUMPS {
        let next = dump(&head);
        append(&mut head, next);
    }
    // The full one stays, whatever their number.
    assert_eq!((kept(&head).len(), kept(&head)[0]), (MAX_DUMPS, 9));
    assert_eq!(kept(&head)[1], head.last_seq.0 - MAX_DUMPS as u64 + 2);
    read_back(&head);
}

#[test]
fn a_dump_that_does_not_fit_the_stream_is_not_appended() {
    let (mut head, _, _) = stream_of(4);
    let before = head.clone();
    type Edit = fn(&mut DumpEntry);
    let wrong: [(Kind, Edit); 12] = [
        (Kind::History, |d| d.at = d.at.next()),
        (Kind::History, |d| d.snapshot = covered(1_000)),
        (Kind::Corrupt, |d| d.at = StreamTx(u64::MAX)),
        (Kind::Corrupt, |d| d.manifest = Key::head()),
        (Kind::Corrupt, |d| d.id = DumpId::new(at(0), 8)),
        (Kind::Corrupt, |d| d.size = 0),
        (Kind::Corrupt, |d| d.tables = vec![]),
        (Kind::Corrupt, |d| d.tables = vec![TableName::new("g", "b"), TableName::new("g", "a")]),
        (Kind::Corrupt, |d| d.tables = vec![TableName::new("g", "a"), TableName::new("g", "a")]),
        (Kind::Corrupt, |d| d.tables = vec![TableName::new("mysql", "user")]),
        (Kind::Corrupt, |d| d.resync = true),
        // A resync holds more than the stream has, never less.
        (Kind::History, |d| {
            (d.resync, d.full, d.mandatory, d.snapshot) = (true, true, true, covered(1));
        }),
    ];
    for (i, (kind, edit)) in wrong.into_iter().enumerate() {
        let mut body = dump(&head);
        edit(&mut body);
        assert_eq!(head.append(Body::Dump(body), at(9)).unwrap_err().kind(), kind, "case {i}");
        assert_eq!(head, before, "case {i}");
    }
    let earlier = DumpEntry { at: StreamTx(1), snapshot: covered(3), ..dump(&head) };
    append(&mut head, earlier);
    read_back(&head);
}

#[test]
fn a_resync_covers_what_the_source_has_lost() {
    let (mut head, _, _) = stream_of(2);
    let snapshot = head.covered.union(&covered(5_000));
    let body =
        DumpEntry { full: true, mandatory: true, resync: true, snapshot: snapshot.clone(), ..full(&head) };
    append(&mut head, body);
    assert_eq!(head.covered, snapshot);
    read_back(&head);
}

/// I2: a dump is chained like any other entry, in the head and in pages.
#[test]
fn dumps_are_sealed_and_read_back_with_the_entries_around_them() {
    let (mut head, mut bucket) = (empty(), Bucket::default());
    let mut all = Vec::new();
    for n in 0..1_700u64 {
        let body = if n % 7 == 0 { Body::Dump(dump(&head)) } else { segment(&head, 1) };
        all.push(head.append(body, at(n)).unwrap().clone());
        bucket.seal(&mut head);
    }
    read_back(&head);
    run(async {
        let mut index = Index::new(head);
        for from in [0u64, 6, 7, 499, 500, 1_699] {
            let more = index.entries_after(Seq(from), &bucket).await.unwrap();
            assert_eq!(more[..], all[from as usize..from as usize + more.len()]);
        }
        assert!(index.entry(Seq(8), &bucket).await.unwrap().dump().is_some());
    });
}

#[test]
fn every_invariant_of_the_dumps_in_a_head_is_checked() {
    let (mut head, _, _) = stream_of(3);
    let next = full(&head);
    append(&mut head, next);
    head.append(segment(&head, 1), at(5)).unwrap();
    let next = dump(&head);
    append(&mut head, next);
    let bytes = head.to_json().unwrap();
    Head::parse(&bytes).unwrap();
    type Edit = fn(&mut Value);
    let wrong: [(&str, Edit); 12] = [
        ("there is no entry 9", |v| v["dumps"][1]["seq"] = json!(9)),
        ("there is no entry 0", |v| v["dumps"][0]["seq"] = json!(0)),
        ("entry 5 says something else", |v| v["dumps"][1]["seq"] = json!(5)),
        ("entry 6 says something else", |v| v["dumps"][1]["rows"] = json!(6)),
        ("entry 4 says something else", |v| v["dumps"][0]["tables"] = json!(["g.apps"])),
        ("not in the order", |v| v["dumps"].as_array_mut().unwrap().reverse()),
        ("not in the order", |v| {
            let dump = v["dumps"][0].clone();
            v["dumps"].as_array_mut().unwrap().push(dump);
        }),
        ("it is full, and dumps before it are listed", |v| v["dumps"][1]["full"] = json!(true)),
        ("the stream ends with", |v| v["dumps"][1]["at"] = json!(99)),
        ("is not that of the manifest", |v| v["dumps"][1]["manifest"] = json!("index.json")),
        ("it names no table", |v| v["dumps"][1]["tables"] = json!([])),
        ("cannot be understood", |v| v["dumps"] = json!("none")),
    ];
    for (message, edit) in wrong {
        let error = refused(&edited(&bytes, edit));
        assert_eq!(error.kind(), Kind::Corrupt, "{message}: {error:?}");
        assert!(error.to_string().contains(message), "{error:?} does not say: {message}");
    }
}

#[test]
fn what_a_later_version_says_of_a_dump_is_kept() {
    let (mut head, _, _) = stream_of(1);
    let next = full(&head);
    append(&mut head, next);
    let bytes = edited(&head.to_json().unwrap(), |v| v["dumps"][0]["later"] = json!({"x": 1}));
    let read = Head::parse(&bytes).unwrap();
    assert_eq!(read.dumps[0].dump, head.dumps[0].dump);
    let again = Head::parse(&read.to_json().unwrap()).unwrap();
    assert_eq!(again.dumps[0].extra["later"], json!({"x": 1}));
}

/// A head as 0.1 wrote it knows neither dumps nor a floor.
#[test]
fn a_head_without_dumps_reads_and_takes_this_version_s_format_when_it_is_written() {
    let (head, _, _) = stream_of(2);
    let old = edited(&head.to_json().unwrap(), |v| v["format"]["minor"] = json!(0));
    assert!(!String::from_utf8_lossy(&old).contains("dumps"));
    let mut read = Head::parse(&old).unwrap();
    assert_eq!((&read.dumps[..], read.floor, read.format.minor), (&[][..], None, 0));
    read.touch();
    assert_eq!(read.format, FORMAT);
}

/// The head with everything up to `floor` gone, as prune leaves it.
pub fn pruned(mut head: Head, bucket: &mut Bucket, floor: &Entry) -> Head {
    bucket.pages.retain(|_, bytes| {
        let page: Value = serde_json::from_slice(bytes).unwrap();
        page["last"].as_u64().unwrap() > floor.seq.0
    });
    let (_, tx) = floor.transactions().unwrap();
    head.prune_to(Floor { seq: floor.seq, chain: floor.chain, tx }).unwrap();
    head
}

/// I2: what is gone is told from what is damaged.
#[test]
fn a_position_before_the_floor_is_told_that_history_was_pruned() {
    let (head, bucket, all) = stream_of(2_300);
    assert_eq!(head.page.as_ref().unwrap().last, Seq(1_500));
    for floor in [500u64, 700, 1_500, 1_501, 2_000, 2_300] {
        let mut bucket = Bucket { pages: bucket.pages.clone(), ..Bucket::default() };
        let head = pruned(head.clone(), &mut bucket, &all[floor as usize - 1]);
        read_back(&head);
        run(async {
            let mut index = Index::new(head.clone());
            for seq in
                [floor, floor + 1, 2_299, 2_300].into_iter().filter(|seq| (floor..=2_300).contains(seq))
            {
                let chain = all[seq as usize - 1].chain;
                index.check_position(STREAM, Seq(seq), &chain, &bucket).await.unwrap();
                let wrong = Chain::genesis(SOURCE);
                let error = index.check_position(STREAM, Seq(seq), &wrong, &bucket).await.unwrap_err();
                assert!(error.to_string().contains("forked"), "{error}");
                let mut read = Vec::new();
                while let Some(last) = read.last().map_or(Some(Seq(seq)), |entry: &Entry| Some(entry.seq)) {
                    let more = index.entries_after(last, &bucket).await.unwrap();
                    if more.is_empty() {
                        break;
                    }
                    read.extend(more);
                }
                assert_eq!(read, all[seq as usize..], "after {seq}");
            }
            for seq in [0, 1, floor - 1] {
                let chain = if seq == 0 { Chain::genesis(STREAM) } else { all[seq as usize - 1].chain };
                for error in [
                    index.check_position(STREAM, Seq(seq), &chain, &bucket).await.unwrap_err(),
                    index.entries_after(Seq(seq), &bucket).await.unwrap_err(),
                ] {
                    assert_eq!(error.kind(), Kind::History);
                    assert!(
                        error.to_string().contains(&format!("entries 1 to {floor} were pruned")),
                        "{error}"
                    );
                    assert!(error.hint_text().unwrap().contains("tablecast bootstrap"), "{error:?}");
                }
            }
            let error = index.entry(Seq(floor), &bucket).await.unwrap_err();
            assert_eq!(error.kind(), Kind::NotFound);
            assert!(error.to_string().contains("pruned"), "{error}");
        });
    }
}

#[test]
fn a_stream_goes_on_behind_a_floor() {
    let (head, mut bucket, all) = stream_of(30);
    let mut head = pruned(head, &mut bucket, &all[19]);
    while head.last_seq.0 < 2_000 {
        bucket.append(&mut head, 1);
    }
    read_back(&head);
    run(async {
        let mut index = Index::new(head.clone());
        let read = index.entries_after(Seq(20), &bucket).await.unwrap();
        assert_eq!(read[..10], all[20..]);
    });
}

#[test]
fn every_invariant_of_a_floor_is_checked() {
    let (head, mut bucket, all) = stream_of(30);
    let head = pruned(head, &mut bucket, &all[19]);
    let floor = head.floor.unwrap();
    for wrong in [
        Floor { seq: Seq(21), ..floor },
        Floor { seq: Seq::ZERO, ..floor },
        Floor { tx: floor.tx.next(), ..floor },
        Floor { chain: all[18].chain, ..floor },
        Floor { seq: Seq(19), tx: floor.tx.next(), ..floor },
    ] {
        let head = Head { floor: Some(wrong), ..head.clone() };
        assert_eq!(head.to_json().unwrap_err().kind(), Kind::History, "{wrong:?}");
    }
    let (without_page, _, _) = stream_of(3);
    let head = Head { floor: Some(floor), ..without_page };
    assert_eq!(head.to_json().unwrap_err().kind(), Kind::History);
}
