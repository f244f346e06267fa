//! The index as a reader uses it: the head, and sealed pages fetched only as far back as needed.

use std::collections::{BTreeMap, VecDeque};

use async_trait::async_trait;
use uuid::Uuid;

use super::chain::Chain;
use super::entry::Entry;
use super::head::Head;
use super::ids::Seq;
use super::page::{Page, PageLink};
use crate::error::{Error, Kind, Result};

/// Gets sealed pages; every store is one.
#[async_trait]
pub trait PageLoader: Send + Sync {
    /// The page that `link` promises, checked by [`Page::parse_linked`]; `Kind::NotFound` if there is none.
    async fn page(&self, stream: Uuid, link: &PageLink) -> Result<Page>;
}

/// How many pages are kept decoded. Walking back to an old position meets the pages that are wanted first
/// last; the others are fetched a second time when their turn comes, so that memory stays bounded.
const KEPT_PAGES: usize = 4;

/// The stream's index in memory.
pub struct Index {
    head: Head,
    /// Links met so far, by their first entry: the newest page, the one before it, and so on without a gap.
    links: BTreeMap<Seq, PageLink>,
    kept: VecDeque<Page>,
}

impl Index {
    pub fn new(head: Head) -> Self {
        let links = head.page.iter().map(|link| (link.first, link.clone())).collect();
        Self { head, links, kept: VecDeque::new() }
    }

    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Checks that what a region has applied is part of this history (I2): `stream` is this stream, and entry
    /// `seq` is there with the chain value `chain`. Entry 0, before the first, has [`Chain::genesis`].
    pub async fn check_position(
        &mut self,
        stream: Uuid,
        seq: Seq,
        chain: &Chain,
        pages: &(impl PageLoader + ?Sized),
    ) -> Result<()> {
        if stream != self.head.stream {
            return Err(Error::new(
                Kind::History,
                format!(
                    "check position: index.json is of stream {}, and this region has applied stream {stream}",
                    self.head.stream
                ),
            )
            .hint(
                "check `store` in the config: it must name the bucket and prefix this region has followed",
            ));
        }
        if seq > self.head.last_seq {
            return Err(Error::new(
                Kind::History,
                format!(
                    "check position: the index went back: it ends at entry {} with chain {}, and entry {} with \
                     chain {chain} has been applied here",
                    self.head.last_seq.0, self.head.tip, seq.0
                ),
            )
            .hint(
                "somebody put back an older index.json: restore the newest version of it; until then nothing is \
                 applied",
            ));
        }
        self.check_floor(seq)?;
        let there = self.chain_at(seq, pages).await?;
        if there != *chain {
            return Err(Error::new(
                Kind::History,
                format!(
                    "check position: the index forked at or before entry {}: there it has chain {there}, and the \
                     entry {} that has been applied here has chain {chain}",
                    seq.0, seq.0
                ),
            )
            .hint(
                "the stream was continued from an older index.json: restore the one that this region has \
                 followed, or build the region again from a dump",
            ));
        }
        Ok(())
    }

    /// The entries that follow entry `seq`, as far as they stand in one object: those of the page that holds
    /// the next entry, or those of the head. Empty when nothing is newer. To read on, ask for what follows
    /// the last one.
    pub async fn entries_after(
        &mut self,
        seq: Seq,
        pages: &(impl PageLoader + ?Sized),
    ) -> Result<Vec<Entry>> {
        if seq >= self.head.last_seq {
            return Ok(Vec::new());
        }
        self.check_floor(seq)?;
        let next = seq.next();
        let entries = if self.head_starts() <= next {
            &self.head.entries
        } else {
            let link = self.link_to(next, pages).await?;
            &self.load(&link, pages).await?.entries
        };
        Ok(entries.iter().filter(|entry| entry.seq > seq).cloned().collect())
    }

    /// The entry `seq`; `Kind::NotFound` if the stream has none of that number.
    pub async fn entry(&mut self, seq: Seq, pages: &(impl PageLoader + ?Sized)) -> Result<Entry> {
        if let Some(floor) = self.head.floor.filter(|floor| seq != Seq::ZERO && seq <= floor.seq) {
            return Err(Error::new(
                Kind::NotFound,
                format!("find entry {}: entries 1 to {} were pruned", seq.0, floor.seq.0),
            )
            .hint(LISTS));
        }
        let before = Seq(seq.0.saturating_sub(1));
        let found = self.entries_after(before, pages).await?.into_iter().find(|entry| entry.seq == seq);
        found.ok_or_else(|| {
            Error::new(
                Kind::NotFound,
                format!("find entry {}: the stream has entries 1 to {}", seq.0, self.head.last_seq.0),
            )
            .hint(LISTS)
        })
    }

    /// What follows an entry before the floor is gone.
    fn check_floor(&self, seq: Seq) -> Result<()> {
        let Some(floor) = self.head.floor.filter(|floor| seq < floor.seq) else { return Ok(()) };
        Err(Error::new(
            Kind::History,
            format!(
                "read on after entry {}: entries 1 to {} were pruned, and what follows entry {} is among them",
                seq.0, floor.seq.0, seq.0
            ),
        )
        .hint(
            "`tablecast restore --all` puts the newest full dump in the place of this region's tables, and goes on from \
             there; or make the region anew (`tablecast bootstrap`): docs/runbooks/rebuild-a-region.md",
        ))
    }

    /// The link to the sealed page that holds entry `seq`, if it has been met on the way.
    pub fn page_of(&self, seq: Seq) -> Option<&PageLink> {
        self.links.range(..=seq).next_back().map(|(_, link)| link).filter(|link| seq <= link.last)
    }

    /// The chain value of entry `seq`, which is none that was pruned. Reads pages back to the one that holds it.
    pub(crate) async fn chain_at(&mut self, seq: Seq, pages: &(impl PageLoader + ?Sized)) -> Result<Chain> {
        if seq == Seq::ZERO {
            return Ok(Chain::genesis(self.head.stream));
        }
        if seq == self.head.last_seq {
            return Ok(self.head.tip);
        }
        if let Some(floor) = self.head.floor.filter(|floor| floor.seq == seq) {
            return Ok(floor.chain);
        }
        if let Some(link) = self.head.page.as_ref().filter(|link| link.last == seq) {
            return Ok(link.chain);
        }
        Ok(self.entry(seq, pages).await?.chain)
    }

    /// The first entry that stands in the head itself.
    fn head_starts(&self) -> Seq {
        self.head.page.as_ref().map_or(Seq(1), |link| link.last.next())
    }

    /// The link to the page that holds entry `seq`, walking back from the oldest link known.
    async fn link_to(&mut self, seq: Seq, pages: &(impl PageLoader + ?Sized)) -> Result<PageLink> {
        loop {
            if let Some((_, link)) = self.links.range(..=seq).next_back() {
                return Ok(link.clone());
            }
            let Some((_, oldest)) = self.links.first_key_value() else { return Err(gone(seq)) };
            let oldest = oldest.clone();
            let Some(previous) = self.load(&oldest, pages).await?.previous.clone() else {
                return Err(gone(seq));
            };
            self.links.insert(previous.first, previous);
        }
    }

    async fn load(&mut self, link: &PageLink, pages: &(impl PageLoader + ?Sized)) -> Result<&Page> {
        if let Some(at) = self.kept.iter().position(|page| page.first == link.first) {
            return Ok(&self.kept[at]);
        }
        let page = pages.page(self.head.stream, link).await.map_err(|e| {
            if e.is_not_found() {
                Error::new(
                    Kind::History,
                    format!(
                        "read {}: the page is gone, and with it entries {} to {}",
                        link.key, link.first.0, link.last.0
                    ),
                )
                .hint("restore this object from a backup or an older version of it")
                .caused_by(e)
            } else {
                e
            }
        })?;
        if self.kept.len() == KEPT_PAGES {
            self.kept.pop_front();
        }
        self.kept.push_back(page);
        Ok(&self.kept[self.kept.len() - 1])
    }
}

const LISTS: &str = "`tablecast stream ls` lists the entries there are";

fn gone(seq: Seq) -> Error {
    Error::new(Kind::History, format!("find entry {}: no page of the index holds it", seq.0))
        .hint("restore index.json and index/ from before it was removed")
}
