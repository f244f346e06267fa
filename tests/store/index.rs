//! The index through a store: pages before the head that links to them, and runs that were killed between.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tablecast::Kind;
use tablecast::binlog::gtid::{GtidSet, Tsid};
use tablecast::binlog::name::{TableName, TableSet};
use tablecast::store::head::{self, Read};
use tablecast::store::{Body as Content, Etag, Store};
use tablecast::stream::{Body, Chain, Codec, Definition, Head, Index, Key, Md5, SegmentEntry, Seq, StreamTx};
use uuid::Uuid;

use super::Place;

const STREAM: Uuid = Uuid::from_u128(42);

fn at(seconds: u64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds as i64, 0).unwrap()
}

fn append(head: &mut Head, salt: u8) {
    let tx = head.last_tx.next();
    let mut covered = head.covered.clone();
    covered.insert_range(&Tsid::untagged(Uuid::from_u128(7)), tx.0, tx.0);
    let segment = SegmentEntry {
        key: Key::segment(tx, tx, at(tx.0), Codec::Zstd),
        size: 10,
        md5: Md5::of(&[salt]),
        raw_size: 100,
        codec: Codec::Zstd,
        first_tx: tx,
        last_tx: tx,
        count: 1,
        tables: vec![TableName::new("g", "apps")],
        covered_before: head.covered.clone(),
        covered_after: covered,
        first_commit: at(tx.0),
        last_commit: at(tx.0),
        definitions: vec![],
    };
    head.append(Body::Segment(segment), at(tx.0)).unwrap();
}

async fn read(store: &dyn Store) -> (Head, Etag) {
    match head::read(store, None).await.unwrap() {
        Read::Head { head, etag } => (*head, etag),
        Read::Unchanged => panic!("nothing was named that could be unchanged"),
    }
}

fn empty() -> Head {
    let head = Head::new(STREAM, "apps", TableSet::parse(&["g.apps"]).unwrap(), at(0));
    assert_eq!((head.last_seq, head.last_tx, head.covered.clone()), (Seq(0), StreamTx(0), GtidSet::new()));
    head
}

/// A stream whose head holds 1,000 entries: the next one makes it seal a page.
async fn full(store: &dyn Store) -> (Head, Etag) {
    let mut head = empty();
    for _ in 0..1_000 {
        append(&mut head, 0);
    }
    let etag = head::write(store, &mut head, None).await.unwrap();
    (head, etag)
}

async fn both(test: impl AsyncFn(Arc<dyn Store>)) {
    for place in [Place::directory(), Place::s3()] {
        test(place.store().await).await;
    }
}

#[tokio::test]
async fn no_stream_is_told_apart_from_trouble() {
    both(async |store| {
        let error = head::read(&*store, None).await.unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
        assert_eq!(error.to_string(), format!("read {}/index.json: there is no stream here", store.url()));
        assert!(error.hint_text().unwrap().contains("stream init"));
    })
    .await;
}

/// I1, I2.
#[tokio::test]
async fn a_head_that_grew_too_long_is_written_with_its_oldest_entries_sealed() {
    both(async |store| {
        let (mut head, mut etag) = full(&*store).await;
        for n in 0..2 {
            append(&mut head, 0);
            etag = head::write(&*store, &mut head, Some(&etag)).await.unwrap();
            assert_eq!(head.entries.len(), 501 + n);
        }
        let (read, _) = read(&*store).await;
        assert_eq!(read, head);
        let pages = store.list(Key::PAGES).await.unwrap();
        assert_eq!(pages.len(), 1);
        assert_eq!(pages[0].size, read.page.as_ref().unwrap().size);
        let mut index = Index::new(read);
        index.check_position(STREAM, Seq::ZERO, &Chain::genesis(STREAM), &*store).await.unwrap();
        assert_eq!(index.entries_after(Seq(10), &*store).await.unwrap().len(), 490);
        assert_eq!(index.entries_after(Seq(500), &*store).await.unwrap().len(), 502);
    })
    .await;
}

/// I7.
#[tokio::test]
async fn a_page_that_a_killed_run_sealed_is_taken_over() {
    both(async |store| {
        let (head, etag) = full(&*store).await;
        // Killed between page and head; the next run has another transaction and seals the same entries.
        let mut killed = head.clone();
        append(&mut killed, 1);
        let page = killed.to_seal().unwrap();
        let bytes = page.to_json().unwrap();
        store.create(&page.key(), Content::Bytes(&bytes)).await.unwrap();
        let mut next = head.clone();
        append(&mut next, 2);
        let etag = head::write(&*store, &mut next, Some(&etag)).await.unwrap();
        assert_eq!(read(&*store).await, (next, etag));
    })
    .await;
}

/// I2.
#[tokio::test]
async fn a_page_with_other_entries_in_its_place_stops_the_upload() {
    both(async |store| {
        let (mut head, etag) = full(&*store).await;
        let mut forked = empty();
        for _ in 0..1_001 {
            append(&mut forked, 9);
        }
        let page = forked.to_seal().unwrap();
        store.create(&page.key(), Content::Bytes(&page.to_json().unwrap())).await.unwrap();
        let before = store.stat(&Key::head()).await.unwrap();
        append(&mut head, 0);
        let error = head::write(&*store, &mut head, Some(&etag)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::History, "{error:?}");
        assert_eq!(store.stat(&Key::head()).await.unwrap(), before);
    })
    .await;
}

/// I3: of two uploads that both saw the same head, one has to start again.
#[tokio::test]
async fn the_loser_of_a_swap_changes_nothing() {
    both(async |store| {
        let mut ours = empty();
        let etag = head::write(&*store, &mut ours, None).await.unwrap();
        let mut theirs = ours.clone();
        append(&mut ours, 1);
        append(&mut theirs, 2);
        let won = head::write(&*store, &mut theirs, Some(&etag)).await.unwrap();
        assert!(head::write(&*store, &mut ours, Some(&etag)).await.unwrap_err().is_conflict());
        assert!(head::write(&*store, &mut ours, None).await.unwrap_err().is_conflict());
        assert_eq!(read(&*store).await, (theirs, won));
    })
    .await;
}

/// I1, I2.
#[tokio::test]
async fn a_page_damaged_in_the_store_is_refused_where_it_is_read() {
    both(async |store| {
        let (mut head, etag) = full(&*store).await;
        append(&mut head, 0);
        head::write(&*store, &mut head, Some(&etag)).await.unwrap();
        let key = head.page.as_ref().unwrap().key.clone();
        let there = store.stat(&key).await.unwrap();
        store.swap(&key, b"{}", Some(&there.etag)).await.unwrap();
        let error = Index::new(head.clone()).entries_after(Seq::ZERO, &*store).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{error:?}");
        store.delete(&key).await.unwrap();
        let error = Index::new(head.clone()).entries_after(Seq::ZERO, &*store).await.unwrap_err();
        assert_eq!(error.kind(), Kind::History, "{error:?}");
    })
    .await;
}

/// I2: nobody gets past an index that cannot be read.
#[tokio::test]
async fn an_index_that_nobody_could_read_again_is_not_written() {
    both(async |store| {
        let mut head = empty();
        let etag = head::write(&*store, &mut head, None).await.unwrap();
        append(&mut head, 0);
        for name in ["\u{1F600}", "a ", "", &"a".repeat(65)] {
            let mut odd = head.clone();
            odd.define(Definition {
                table: TableName::new("g", name),
                since_tx: StreamTx(1),
                create_table: "CREATE TABLE t (a INT)".to_owned(),
                rows_at_init: None,
            });
            let error = head::write(&*store, &mut odd, Some(&etag)).await.unwrap_err();
            assert_eq!(error.to_string(), "write index.json: nobody could read it again", "{name:?}");
            assert!(error.hint_text().unwrap().contains("nothing was written"));
        }
        // What would be read as something else.
        let mut odd = head.clone();
        odd.extra.insert("format".to_owned(), 1.into());
        head::write(&*store, &mut odd, Some(&etag)).await.unwrap_err();
        head::write(&*store, &mut head, Some(&etag)).await.unwrap();
        assert_eq!(read(&*store).await.0, head);
    })
    .await;
}
