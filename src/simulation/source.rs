//! A source's binlog in memory: what it has committed, in the order of its binlog, as events.

use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::binlog::event::{Checksum, Event, GtidEvent, MAGIC, kind, read_event};
use crate::binlog::filter::{SetChange, SetRow};
use crate::binlog::gtid::{Gtid, GtidSet};
use crate::source::set_table::Change;

pub(super) const SERVER: Uuid = Uuid::from_u128(0x3e11_fa47_71ca_11e1_9e33_c80a_a942_9562);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Rows of the set.
    Rows,
    /// Rows of another table.
    Foreign,
    /// This version of the set, which has `g.more` in it or has not.
    Set { version: u64, has_more: bool },
}

#[derive(Clone, Debug)]
pub(super) struct Committed {
    pub number: u64,
    pub what: What,
    /// In the binlog, from 1.
    place: u64,
    at: DateTime<Utc>,
}

#[derive(Default)]
pub(super) struct Source {
    /// In the order of the binlog.
    pub all: Vec<Committed>,
    /// No server sends these any more.
    pub purged: GtidSet,
    /// It sends everything that it has, whatever it is told of.
    pub sends_again: bool,
    next: u64,
    /// Written behind the next one, which has the higher number.
    held_back: Option<u64>,
}

impl Source {
    /// Commits one more. Out of order: its number is that after the next one's.
    pub fn commit(&mut self, what: What, out_of_order: bool, at: DateTime<Utc>) {
        let number = match self.held_back.take() {
            Some(number) => number,
            None if out_of_order => {
                self.next += 2;
                self.held_back = Some(self.next - 1);
                self.next
            }
            None => {
                self.next += 1;
                self.next
            }
        };
        let place = self.all.len() as u64 + 1;
        self.all.push(Committed { number, what, place, at });
    }

    pub fn executed(&self) -> GtidSet {
        let mut set = GtidSet::new();
        self.all.iter().for_each(|committed| set.insert(&gtid(committed.number)));
        set
    }

    /// The version of the set, and whether it has `g.more`.
    pub fn version(&self) -> (u64, bool) {
        let newest = self.all.iter().rev().find_map(|committed| match committed.what {
            What::Set { version, has_more } => Some((version, has_more)),
            _ => None,
        });
        newest.unwrap_or((1, false))
    }

    /// The changes of the set behind this version, as `tablecast.table_set` has them.
    pub fn changes_behind(&self, version: u64) -> Vec<Change> {
        let changes = self.all.iter().filter_map(|committed| match committed.what {
            What::Set { version: made, has_more } if made > version => {
                Change::parse(&set_row(made, has_more)).ok()
            }
            _ => None,
        });
        changes.collect()
    }

    /// The transactions of the set that a snapshot has.
    pub fn rows_in(&self, snapshot: &GtidSet) -> Vec<u64> {
        let there = |committed: &&Committed| {
            committed.what == What::Rows && snapshot.contains(&gtid(committed.number))
        };
        self.all.iter().filter(there).map(|committed| committed.number).collect()
    }

    /// Nobody will ever read these again.
    pub fn purge(&mut self, number: u64) {
        self.purged.insert(&gtid(number));
    }

    /// What its binlog would send to somebody who has `covered`.
    pub fn behind(&self, covered: &GtidSet) -> Vec<Committed> {
        let new = |committed: &&Committed| {
            let gtid = gtid(committed.number);
            (self.sends_again || !covered.contains(&gtid)) && !self.purged.contains(&gtid)
        };
        self.all.iter().filter(new).cloned().collect()
    }
}

pub(super) fn gtid(number: u64) -> Gtid {
    Gtid::new(SERVER, number)
}

fn set_row(version: u64, has_more: bool) -> SetRow {
    let more = r#"[{"table":"g.more","create_table":"CREATE TABLE `more` (\n  `id` int NOT NULL\n)","collation":"utf8mb4_bin","has_rows":true}]"#;
    SetRow {
        version,
        tables: if has_more { r#"["g.apps","g.more"]"# } else { r#"["g.apps"]"# }.to_owned(),
        added: if has_more { more } else { "[]" }.to_owned(),
        removed: if has_more { "[]" } else { r#"["g.more"]"# }.to_owned(),
    }
}

/// Events of a real server, from which all others here are made.
struct Made {
    format: Event,
    /// The GTID event and those behind it, of an INSERT into g.apps.
    rows: Vec<Event>,
    /// Of one into a table that is in no set.
    foreign: Vec<Event>,
}

static MADE: LazyLock<Made> = LazyLock::new(|| {
    let mut fixture = &include_bytes!("../../tests/fixtures/binlog/everyday.binlog")[MAGIC.len()..];
    let all: Vec<Event> =
        std::iter::from_fn(|| read_event(&mut fixture, Checksum::Crc32, "the fixture").expect("sound"))
            .collect();
    let mut groups: Vec<Vec<Event>> = Vec::new();
    for event in &all {
        match event.kind() {
            kind::GTID => groups.push(vec![event.clone()]),
            kind::GTID_TAGGED | kind::FORMAT_DESCRIPTION | kind::PREVIOUS_GTIDS => groups.push(Vec::new()),
            _ => {
                if let Some(group) = groups.last_mut() {
                    group.push(event.clone());
                }
            }
        }
    }
    let inserts = |table: &[u8], group: &&Vec<Event>| {
        let kinds: Vec<u8> = group.iter().map(Event::kind).collect();
        kinds == [kind::GTID, kind::QUERY, kind::TABLE_MAP, kind::WRITE_ROWS, kind::XID]
            && group[2].body().windows(table.len()).any(|part| part == table)
    };
    let rows = groups.iter().find(|group| inserts(b"\x04apps\x00", group)).expect("an INSERT").clone();
    let foreign = groups.iter().find(|group| inserts(b"\x05users\x00", group)).expect("another").clone();
    Made { format: all[0].clone(), rows, foreign }
});

/// What a reader is sent first.
pub(super) fn format() -> Event {
    MADE.format.clone()
}

impl Committed {
    fn commit_us(&self) -> u64 {
        self.at.timestamp_micros().unsigned_abs()
    }

    /// Its events; none for a change of the set, see [`set_change`](Self::set_change).
    pub fn events(&self) -> Vec<Event> {
        let group = match self.what {
            What::Rows => &MADE.rows,
            What::Foreign => &MADE.foreign,
            What::Set { .. } => return Vec::new(),
        };
        let made = GtidEvent::parse(&group[0]).expect("a GTID event");
        let header = group[0].header();
        let (number, place, us) = (self.number, self.place, self.commit_us());
        let own = GtidEvent {
            gtid: Some(gtid(number)),
            last_committed: place - 1,
            sequence_number: place,
            immediate_commit_us: us,
            original_commit_us: us,
            ..made
        };
        let rest = group[1..].iter().map(|event| event.bytes().len() as u64).sum();
        let first = own.to_event(header.timestamp, header.server_id, rest).expect("an event");
        std::iter::once(first).chain(group[1..].iter().cloned()).collect()
    }

    pub fn set_change(&self) -> Option<SetChange> {
        let What::Set { version, has_more } = self.what else { return None };
        Some(SetChange {
            gtid: gtid(self.number),
            commit_us: self.commit_us(),
            row: set_row(version, has_more),
        })
    }
}
