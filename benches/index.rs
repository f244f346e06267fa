//! What a tick costs as a stream grows: the head's size, an idle region's tick, one with an entry to apply, and an
//! upload's tick, at 10 to 1,000,000 entries in a directory store. `scripts/bench index` runs it and prints Markdown.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tablecast::binlog::gtid::GtidSet;
use tablecast::binlog::name::TableSet;
use tablecast::store::head::Read;
use tablecast::store::{DirStore, Etag, Fetched, Store, head};
use tablecast::stream::{Body, Codec, Head, Index, Key, Md5, SegmentEntry, Seq, StreamTx};

const SIZES: [u64; 6] = [10, 100, 1_000, 10_000, 100_000, 1_000_000];
const SAMPLES: usize = 21;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // cargo passes --bench.
    let largest = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(u64::MAX);
    let folder = tempfile::tempdir()?;
    // `scripts/bench memory` looks at the stream afterwards.
    let kept = std::env::var_os("TABLECAST_BENCH_STORE").map(std::path::PathBuf::from);
    let store = DirStore::open(kept.as_deref().unwrap_or(folder.path()))?;
    let tables = TableSet::parse(&["g.apps".to_owned(), "g.partners".to_owned()])?;
    let mut at = Head::new(uuid::Uuid::from_u128(0x7ab1_eca5), "bench", tables, time(0));
    let mut etag = head::write(&store, &mut at, None).await?;

    println!("| entries | head | idle tick | tick with one new entry | upload's tick |");
    println!("|---:|---:|---:|---:|---:|");
    for size in SIZES.into_iter().filter(|&size| size <= largest) {
        while at.last_seq.0 < size {
            at.append(segment(&at), time(at.last_seq.0))?;
            // A page is sealed as soon as one is full, as if every entry had been written by itself.
            if at.to_seal().is_some() || at.last_seq.0 == size {
                etag = head::write(&store, &mut at, Some(&etag)).await?;
            }
        }
        let mut idle = Vec::new();
        let mut one = Vec::new();
        let mut upload = Vec::new();
        for _ in 0..SAMPLES {
            idle.push(idle_tick(&store, &etag).await?);
            one.push(tick_with_one_entry(&store, &at).await?);
            let began = Instant::now();
            etag = upload_tick(&store).await?;
            upload.push(began.elapsed());
            let Read::Head { head, .. } = head::read(&store, None).await? else {
                return Err("no head".into());
            };
            at = *head;
        }
        let Fetched::Object { bytes, .. } = store.get(&Key::head(), None).await? else {
            return Err("no head".into());
        };
        println!(
            "| {size} | {} KiB | {} | {} | {} |",
            bytes.len() / 1024,
            median(idle),
            median(one),
            median(upload)
        );
    }
    Ok(())
}

/// A region that has applied everything: one conditional GET.
async fn idle_tick(store: &dyn Store, etag: &Etag) -> tablecast::Result<Duration> {
    let began = Instant::now();
    assert_eq!(head::read(store, Some(etag)).await?, Read::Unchanged);
    Ok(began.elapsed())
}

/// A region that lacks the last entry: reads the head, checks its own place in it, finds what to apply.
async fn tick_with_one_entry(store: &dyn Store, at: &Head) -> tablecast::Result<Duration> {
    let [.., position, _] = &at.entries[..] else { panic!("at least two entries") };
    let began = Instant::now();
    let Read::Head { head, .. } = head::read(store, None).await? else { panic!("no head") };
    let mut index = Index::new(*head);
    let stream = index.head().stream;
    index.check_position(stream, position.seq, &position.chain, store).await?;
    let entries = index.entries_after(position.seq, store).await?;
    assert_eq!(entries.len(), 1);
    Ok(began.elapsed())
}

/// Upload: reads the head, appends an entry, swaps it in (and seals a page, when one is full).
async fn upload_tick(store: &dyn Store) -> tablecast::Result<Etag> {
    let Read::Head { mut head, etag } = head::read(store, None).await? else { panic!("no head") };
    let now = time(head.last_seq.0);
    head.append(segment(&head), now)?;
    head::write(store, &mut head, Some(&etag)).await
}

/// A segment of 100 transactions out of 10,000.
fn segment(head: &Head) -> Body {
    let (first, last) = (head.last_tx.next(), StreamTx(head.last_tx.0 + 100));
    let Seq(seq) = head.last_seq;
    let covered: GtidSet =
        format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-{}", (seq + 1) * 10_000).parse().expect("a GTID set");
    Body::Segment(SegmentEntry {
        key: Key::segment(first, last, time(seq), Codec::Gzip),
        size: 123_456,
        md5: Md5::of(&seq.to_be_bytes()),
        raw_size: 1_234_567,
        codec: Codec::Gzip,
        first_tx: first,
        last_tx: last,
        count: 100,
        tables: ["g.apps", "g.partners"].iter().map(|name| name.parse().expect("a table")).collect(),
        covered_before: head.covered.clone(),
        covered_after: covered,
        first_commit: time(seq),
        last_commit: time(seq),
        definitions: Vec::new(),
    })
}

fn time(seconds: u64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
}

fn median(mut samples: Vec<Duration>) -> String {
    samples.sort();
    format!("{:.2} ms", samples[samples.len() / 2].as_secs_f64() * 1e3)
}
