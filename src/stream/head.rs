//! `index.json`, the head: the newest entries and all that a reader needs beside them. The only object of a
//! stream that is ever overwritten, always by compare-and-swap.

mod validate;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::chain::Chain;
use super::check::Checked;
use super::definition::Definition;
use super::document::{self, FORMAT, Format, json};
use super::dump::{DumpEntry, DumpId, DumpRef};
use super::entry::{self, Body, Entry};
use super::gap::Gap;
use super::ids::{Seq, StreamTx};
use super::page::{self, Page, PageLink};
use super::paused::Paused;
use super::refused::Refused;
use super::signature::Signature;
use super::tables::{SetChanged, TablesEntry};
use crate::binlog::gtid::GtidSet;
use crate::binlog::name::{TableName, TableSet};
use crate::error::{Error, Kind, Result};

/// What messages call the head.
pub(super) const WHAT: &str = "index.json";

/// The head of a stream. In memory it may hold more entries than fit; [`Head::seal`] makes room before it is
/// written, and [`Head::to_json`] refuses to write one that is not sound.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// The format it was written in.
    pub format: Format,
    /// The stream's identity, made by `stream init`; the UUID of all its GTIDs.
    pub stream: Uuid,
    /// What people call the stream.
    pub name: String,
    /// When the stream was made: the clock of the machine that ran `stream init`, RFC 3339, UTC.
    pub created_at: DateTime<Utc>,
    /// The program that wrote this head, with its version: `"tablecast 0.1.0"`.
    pub writer: String,
    /// The tables that travel, and how often that has changed.
    pub table_set: TableSetVersion,
    /// The newest change of it; absent as long as there was none.
    pub set_changed: Option<SetChanged>,
    /// The region that the source is in, as its config says, for messages in others; absent if it says nothing.
    pub source_region: Option<String>,
    /// The source's defaults of each schema that holds a table of the set, by schema.
    pub schemas: BTreeMap<String, SchemaDefaults>,
    /// The newest definition of each table, sorted by table.
    pub definitions: Vec<Definition>,
    /// Up to when the stream is complete: the source's clock, RFC 3339, UTC.
    pub as_of: DateTime<Utc>,
    /// The source's GTIDs that the stream has covered, MySQL's text form: shipped, or known not to travel.
    pub covered: GtidSet,
    /// The last stream transaction; 0: none yet.
    pub last_tx: StreamTx,
    /// The last entry; 0: none yet.
    pub last_seq: Seq,
    /// The last entry's chain value; without entries, the stream's first chain value.
    pub tip: Chain,
    /// The newest sealed page; absent as long as there is none.
    pub page: Option<PageLink>,
    /// The entries after that page, oldest first; at most 1,000 when written.
    pub entries: Vec<Entry>,
    /// The newest full dump and every dump after it, oldest first, at most 100; without a full dump, all there
    /// are. Absent if none.
    pub dumps: Vec<DumpRef>,
    /// The newest check of rows, and where the next one goes on; absent if there was none.
    pub checked: Option<Checked>,
    /// The last entry that prune removed; absent as long as nothing is gone.
    pub floor: Option<Floor>,
    /// What the source's filter may have kept from the stream, which goes on behind a resync; absent if nothing.
    pub gap: Option<Gap>,
    /// The transaction that upload refused last, and cannot come past; absent if none.
    pub refused: Option<Refused>,
    /// Somebody wants nothing shipped for a while; absent if nobody does. It may be over.
    pub paused: Option<Paused>,
    /// The one that it was read with. Whoever writes the head puts another in its place, or refuses to write.
    pub signature: Option<Signature>,
    /// Members of a later minor version, which are kept.
    pub extra: Map<String, Value>,
}

/// A table set with the number of its version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableSetVersion {
    /// 1 at `stream init`, one more with every change.
    pub version: u64,
    /// Names (`"g.apps"`) and patterns (`"g.*"`).
    pub tables: TableSet,
}

/// Most dumps that a head keeps. Of more, the oldest go first, but never the newest full one.
pub const MAX_DUMPS: usize = 100;

/// Where the stream begins after a prune. Entries up to here, and what they name, are gone; links to their pages
/// are left, and lead nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    /// The last entry that is gone.
    pub seq: Seq,
    /// Its chain value.
    pub chain: Chain,
    /// The last stream transaction that is gone.
    pub tx: StreamTx,
}

/// What a schema gives to tables that do not say otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaDefaults {
    /// The schema's default collation at the source, which implies its character set.
    pub collation: String,
}

impl Head {
    /// The head of a stream that holds nothing yet and covers nothing.
    pub fn new(stream: Uuid, name: impl Into<String>, tables: TableSet, now: DateTime<Utc>) -> Self {
        Self {
            format: FORMAT,
            stream,
            name: name.into(),
            created_at: now,
            writer: writer(),
            table_set: TableSetVersion { version: 1, tables },
            set_changed: None,
            source_region: None,
            schemas: BTreeMap::new(),
            definitions: Vec::new(),
            as_of: now,
            covered: GtidSet::new(),
            last_tx: StreamTx::ZERO,
            last_seq: Seq::ZERO,
            tip: Chain::genesis(stream),
            page: None,
            entries: Vec::new(),
            dumps: Vec::new(),
            checked: None,
            floor: None,
            gap: None,
            refused: None,
            paused: None,
            signature: None,
            extra: Map::new(),
        }
    }

    /// Appends an entry: its number and chain follow from the last, and `covered`, `last_tx` and the newest
    /// definitions from its body. Refused, with nothing changed, if the body does not follow.
    pub fn append(&mut self, body: Body, now: DateTime<Utc>) -> Result<&Entry> {
        let entry = Entry::new(&self.tip, self.last_seq.next(), now, body)?;
        let refused = |why: String| Error::new(Kind::History, format!("append entry {}: {why}", entry.seq.0));
        let from = entry::Mark { seq: self.last_seq, chain: self.tip, tx: self.last_tx };
        match &entry.body {
            Body::Segment(segment) if !self.covered.is_subset(&segment.covered_before) => {
                return Err(refused(format!(
                    "the stream covers {} already, the segment begins at {}",
                    self.covered, segment.covered_before
                )));
            }
            // A dump that stands for lost history holds all that the stream has, and more.
            Body::Dump(dump)
                if dump.resync && (dump.at != self.last_tx || !self.covered.is_subset(&dump.snapshot)) =>
            {
                return Err(refused(format!(
                    "the stream covers {} up to transaction {}, and a resync at {} holds {}",
                    self.covered, self.last_tx.0, dump.at.0, dump.snapshot
                )));
            }
            Body::Dump(dump) if !dump.resync && !dump.snapshot.is_subset(&self.covered) => {
                return Err(refused(format!(
                    "the stream covers {}, and the dump holds {}",
                    self.covered, dump.snapshot
                )));
            }
            Body::Dump(dump) if dump.full && !dump.resync && self.is_of_older_set(dump) => {
                return Err(refused(format!(
                    "the table set has changed to version {} since dump {} was taken",
                    self.table_set.version, dump.id
                )));
            }
            Body::Tables(change) if !self.covered.is_subset(&change.covered_before) => {
                return Err(refused(format!(
                    "the stream covers {} already, the change of the table set begins at {}",
                    self.covered, change.covered_before
                )));
            }
            Body::Tables(change) if change.version != self.table_set.version + 1 => {
                return Err(refused(format!(
                    "the table set has version {}, and version {} cannot follow it",
                    self.table_set.version, change.version
                )));
            }
            Body::Segment(_) | Body::Dump(_) | Body::Tables(_) | Body::Check(_) => {}
        }
        let end = entry::run("the entry to append", from, std::slice::from_ref(&entry))?;
        match &entry.body {
            Body::Segment(segment) => {
                self.covered = segment.covered_after.clone();
                // A first segment also tells what tables were when the stream was made; newer knowledge stays.
                for definition in segment.definitions.clone() {
                    let known = self.definition(&definition.table);
                    if known.is_none_or(|known| known.since_tx <= definition.since_tx) {
                        self.define(definition);
                    }
                }
            }
            Body::Dump(dump) => {
                self.covered.extend(&dump.snapshot);
                if let Some(changed) = self.set_changed.as_mut().filter(|_| dump.full && dump.mandatory) {
                    changed.paid();
                }
                if dump.resync {
                    (self.gap, self.refused) = (None, None);
                    if let Some(changed) = &mut self.set_changed {
                        changed.settled = Some(entry.seq);
                    }
                }
                self.keep_dump(DumpRef { seq: entry.seq, dump: dump.clone(), extra: Map::new() });
            }
            Body::Tables(change) => self.change_set(entry.seq, change),
            Body::Check(_) => {}
        }
        (self.last_seq, self.tip, self.last_tx) = (end.seq, end.chain, end.tx);
        let at = self.entries.len();
        self.entries.push(entry);
        Ok(&self.entries[at])
    }

    /// Whether the newest change of the table set is not in the dump's snapshot.
    fn is_of_older_set(&self, dump: &DumpEntry) -> bool {
        let changed = self.set_changed.as_ref().filter(|changed| changed.settled.is_none());
        let gtid = changed.and_then(|changed| changed.source_gtid.as_ref());
        gtid.is_some_and(|gtid| !dump.snapshot.contains(gtid))
    }

    /// Other tables travel from here on. Of those that go out nothing is known any more.
    fn change_set(&mut self, seq: Seq, change: &TablesEntry) {
        self.covered = change.covered_after.clone();
        let changed = SetChanged::of(seq, change, &self.table_set.tables, self.set_changed.as_ref());
        self.table_set = TableSetVersion { version: change.version, tables: change.tables.clone() };
        self.definitions.retain(|definition| change.tables.names(&definition.table));
        self.schemas.retain(|schema, _| change.tables.has_schema(schema));
        for added in &change.added {
            self.schemas
                .entry(added.table.schema.clone())
                .or_insert_with(|| SchemaDefaults { collation: added.collation.clone() });
            self.define(Definition {
                table: added.table.clone(),
                since_tx: change.at,
                create_table: added.create_table.clone(),
                rows_at_init: None,
            });
        }
        self.set_changed = Some(changed);
    }

    /// Puts a dump behind those known, and lets go of the ones that it makes needless.
    fn keep_dump(&mut self, dump: DumpRef) {
        if dump.dump.full {
            self.dumps.clear();
        }
        self.dumps.push(dump);
        if self.dumps.len() > MAX_DUMPS {
            self.dumps.remove(usize::from(self.dumps[0].dump.full));
        }
    }

    /// Whether what follows this entry has been pruned.
    pub fn is_behind_floor(&self, seq: Seq) -> bool {
        self.floor.is_some_and(|floor| seq < floor.seq)
    }

    /// The newest dump of all tables.
    pub fn full_dump(&self) -> Option<&DumpRef> {
        self.dumps.first().filter(|dump| dump.dump.full)
    }

    /// The dump `id`, if it is among those that the head keeps.
    pub fn dump(&self, id: &DumpId) -> Option<&DumpRef> {
        self.dumps.iter().find(|dump| dump.dump.id == *id)
    }

    /// Puts `definition` in the place of the one known of its table.
    pub fn define(&mut self, definition: Definition) {
        match self.definitions.binary_search_by(|known| known.table.cmp(&definition.table)) {
            Ok(at) => self.definitions[at] = definition,
            Err(at) => self.definitions.insert(at, definition),
        }
    }

    /// The newest definition known of a table.
    pub fn definition(&self, table: &TableName) -> Option<&Definition> {
        let at = self.definitions.binary_search_by(|known| known.table.cmp(table)).ok()?;
        Some(&self.definitions[at])
    }

    /// The page that has to be sealed before this head can be written, if it holds too many entries.
    pub fn to_seal(&self) -> Option<Page> {
        let (most, oldest) = page::sealing();
        (self.entries.len() > most)
            .then(|| Page::of(self.stream, self.page.clone(), self.entries[..oldest].to_vec()))
    }

    /// Lets go of the entries in the page behind `link`, once that page is in the store for good.
    pub fn seal(&mut self, link: PageLink) -> Result<()> {
        let count = self.entries.iter().take_while(|entry| entry.seq <= link.last).count();
        let follows = self.entries[..count].first().map(|entry| entry.seq) == Some(link.first)
            && self.entries[..count].last().map(|entry| entry.chain) == Some(link.chain);
        if !follows {
            return Err(Error::new(
                Kind::History,
                format!("seal page {}: it does not hold the oldest entries of the head", link.key),
            ));
        }
        self.entries.drain(..count);
        self.page = Some(link);
        Ok(())
    }

    /// Lets go of the history up to `floor`: one of this head's entries, or within the newest page. What it names
    /// may be deleted once this head is written. The page that entries of the head would have gone into is linked to
    /// and never made: nobody reads before the floor.
    pub fn prune_to(&mut self, floor: Floor) -> Result<()> {
        let gone: Vec<Entry> =
            self.entries.iter().take_while(|entry| entry.seq <= floor.seq).cloned().collect();
        if !gone.is_empty() {
            let page = Page::of(self.stream, self.page.clone(), gone);
            let bytes = page.to_json()?;
            self.seal(page.link(&bytes)?)?;
        }
        self.dumps.retain(|dump| dump.seq > floor.seq);
        self.floor = Some(floor);
        self.validate_floor().map_err(|why| Error::new(Kind::History, format!("prune {WHAT}: {why}")))
    }

    /// A head as stored. Its format is looked at before anything else.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut parts = document::parse_parts(WHAT, bytes)?;
        let entries = parts.take_entries(WHAT);
        let members = &mut parts.members;
        let head = Self {
            format: document::take(WHAT, members, "format")?,
            stream: document::take(WHAT, members, "stream")?,
            name: document::take(WHAT, members, "name")?,
            created_at: document::take(WHAT, members, "created_at")?,
            writer: document::take(WHAT, members, "writer")?,
            table_set: document::take(WHAT, members, "table_set")?,
            set_changed: document::take(WHAT, members, "set_changed")?,
            source_region: document::take(WHAT, members, "source_region")?,
            schemas: document::take(WHAT, members, "schemas")?,
            definitions: document::take(WHAT, members, "definitions")?,
            as_of: document::take(WHAT, members, "as_of")?,
            covered: document::take(WHAT, members, "covered")?,
            last_tx: document::take(WHAT, members, "last_tx")?,
            last_seq: document::take(WHAT, members, "last_seq")?,
            tip: document::take(WHAT, members, "tip")?,
            page: document::take(WHAT, members, "page")?,
            entries: entries?,
            dumps: document::take::<Option<_>>(WHAT, members, "dumps")?.unwrap_or_default(),
            checked: document::take(WHAT, members, "checked")?,
            floor: document::take(WHAT, members, "floor")?,
            gap: document::take(WHAT, members, "gap")?,
            refused: document::take(WHAT, members, "refused")?,
            paused: document::take(WHAT, members, "paused")?,
            signature: document::take(WHAT, members, "signature")?,
            extra: {
                members.remove("sha256");
                std::mem::take(members)
            },
        };
        head.validate()?;
        document::check_seal(WHAT, bytes)?;
        Ok(head)
    }

    /// The head as it is to be stored: the same head always gives the same bytes. The caller has set
    /// [`writer`](Self::writer) by [`Head::new`] or [`Head::touch`].
    pub fn to_json(&self) -> Result<Vec<u8>> {
        self.validate()?;
        let mut members = vec![
            ("format", json(&self.format)),
            ("stream", json(&self.stream)),
            ("name", json(&self.name)),
            ("created_at", json(&self.created_at)),
            ("writer", json(&self.writer)),
            ("table_set", json(&self.table_set)),
            ("schemas", json(&self.schemas)),
            ("definitions", json(&self.definitions)),
            ("as_of", json(&self.as_of)),
            ("covered", json(&self.covered)),
            ("last_tx", json(&self.last_tx)),
            ("last_seq", json(&self.last_seq)),
            ("tip", json(&self.tip)),
        ];
        if let Some(changed) = &self.set_changed {
            members.push(("set_changed", json(changed)));
        }
        if let Some(region) = &self.source_region {
            members.push(("source_region", json(region)));
        }
        if let Some(page) = &self.page {
            members.push(("page", json(page)));
        }
        if let Some(checked) = &self.checked {
            members.push(("checked", json(checked)));
        }
        if let Some(floor) = &self.floor {
            members.push(("floor", json(floor)));
        }
        if let Some(gap) = &self.gap {
            members.push(("gap", json(gap)));
        }
        if let Some(refused) = &self.refused {
            members.push(("refused", json(refused)));
        }
        if let Some(paused) = &self.paused {
            members.push(("paused", json(paused)));
        }
        if !self.dumps.is_empty() {
            members.push(("dumps", json(&self.dumps)));
        }
        let bytes = document::render(&members, Some(&self.entries), &self.extra, &["definitions", "dumps"]);
        Ok(match &self.signature {
            Some(signature) => signature.put_on(&bytes),
            None => bytes,
        })
    }

    /// The pause that holds now.
    pub fn pause(&self, now: DateTime<Utc>) -> Option<&Paused> {
        self.paused.as_ref().filter(|paused| !paused.is_over(now))
    }

    /// Ends with `Kind::Paused` what must not be done now. `command`: as it is said on the command line.
    pub fn must_run(&self, what: &str, command: &str, now: DateTime<Utc>) -> Result<()> {
        self.pause(now).map_or(Ok(()), |paused| Err(paused.refuse(what, command)))
    }

    /// Puts this program down as the one that writes the head next.
    pub fn touch(&mut self) {
        // What this version adds stands in it from now on; what a later one added stays.
        self.format = self.format.max(FORMAT);
        self.writer = writer();
    }
}

fn writer() -> String {
    format!("tablecast {}", env!("CARGO_PKG_VERSION"))
}
