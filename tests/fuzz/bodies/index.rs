//! The head and sealed pages: what is read is written again as it was, and a reader of the index ends.

use async_trait::async_trait;
use futures::FutureExt;
use tablecast::signing::PublicKey;
use tablecast::stream::signature::{self, Verdict};
use tablecast::stream::{Chain, Head, Index, Key, Page, PageLink, PageLoader, Seq};
use tablecast::{Error, Kind, Result};
use uuid::Uuid;

use super::is_of_the_bucket;
use super::sealed::sealed;

pub fn index(data: &[u8]) {
    read(data);
    read(&sealed(data));
}

/// A head signed by [`SIGNER`], whose secret key nobody has kept.
const SIGNED: &[u8] = include_bytes!("../corpus/index/signed");
const SIGNER: &str = "ed25519:a588ddf6ff6bffb3d58c3d63569243a5364b34419c0400fc281b490840bf76fb";

/// Nobody else makes a head that passes as signed by this key.
fn judged(bytes: &[u8]) {
    let signer: PublicKey = SIGNER.parse().expect("a key");
    assert_eq!(matches!(signature::judge(bytes, &[signer]), Verdict::Good(_)), bytes == SIGNED);
    assert_eq!(signature::is_signed(bytes), signature::judge(bytes, &[]) != Verdict::Unsigned);
    let _ = signature::check(bytes, &[signer], "the fuzzer");
}

fn read(bytes: &[u8]) {
    judged(bytes);
    let head = Head::parse(bytes).inspect_err(is_of_the_bucket);
    if let Ok(head) = head {
        let written = head.to_json().expect("what was read is sound");
        assert_eq!(Head::parse(&written).expect("as it was written"), head);
        walked(head);
    }
    let key = serde_json::from_slice::<serde_json::Value>(bytes).ok().and_then(|page| {
        Some(Key::page(Seq(page.get("first")?.as_u64()?), Seq(page.get("last")?.as_u64()?)))
    });
    if let Some(key) = key
        && let Ok(page) = Page::parse(&key, bytes).inspect_err(is_of_the_bucket)
    {
        let written = page.to_json().expect("what was read is sound");
        assert_eq!(Page::parse(&key, &written).expect("as it was written"), page);
        let link = page.link(&written).expect("it is whole");
        assert_eq!(Page::parse_linked(page.stream, &link, &written).expect("as it was linked"), page);
    }
}

/// Nothing here waits for anything.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("it never waits")
}

/// A store without any page.
struct NoPages;

#[async_trait]
impl PageLoader for NoPages {
    async fn page(&self, _: Uuid, link: &PageLink) -> Result<Page> {
        Err(Error::new(Kind::NotFound, format!("read {}", link.key)))
    }
}

/// I2: a position is in this history, or is refused.
fn walked(head: Head) {
    let entries = head.entries.clone();
    let (stream, last) = (head.stream, head.last_seq);
    let begin = head.floor.map(|floor| floor.seq);
    let mut index = Index::new(head);
    for entry in &entries {
        let there = block_on(index.check_position(stream, entry.seq, &entry.chain, &NoPages));
        assert!(there.is_ok() || begin.is_some_and(|floor| entry.seq < floor), "{there:?}");
        let other = Chain::genesis(Uuid::from_u128(u128::from(entry.seq.0) + 1));
        assert!(block_on(index.check_position(stream, entry.seq, &other, &NoPages)).is_err());
        let found = block_on(index.entry(entry.seq, &NoPages));
        assert!(found.is_err() || found.is_ok_and(|found| found == *entry));
    }
    assert!(block_on(index.check_position(stream, last.next(), &Chain::genesis(stream), &NoPages)).is_err());
    assert!(block_on(index.entries_after(last, &NoPages)).is_ok_and(|none| none.is_empty()));
    let _ = block_on(index.entries_after(Seq::ZERO, &NoPages));
}
