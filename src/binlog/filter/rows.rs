//! Which events of a row statement are kept.
//!
//! A statement is some table maps, then rows events, the last of which has the STMT_END flag. Where that one is
//! dropped, the last kept one gets the flag: so one rows event is held back until it is known whether it is the
//! last. Table maps wait until rows of the set come, so a statement without any leaves nothing.

use super::watch::is_table_set;
use crate::binlog::event::{Event, RowsHeader, STMT_END, TableMap, with_stmt_end};
use crate::binlog::name::{TableName, TableSet};
use crate::error::{Error, Kind, Result};

/// The statement that is being read; the default is none.
#[derive(Debug, Default)]
pub(super) struct Statement {
    maps: Vec<Mapped>,
    /// Maps of the set's tables that no rows have followed yet.
    waiting: Vec<(u64, Event)>,
    /// A rows event without STMT_END.
    held: Option<Event>,
    /// Rows events have come.
    running: bool,
}

#[derive(Debug)]
struct Mapped {
    id: u64,
    /// None: not of the set.
    table: Option<TableName>,
    /// Its name has been reported.
    seen: bool,
    /// The map of the table in which sets are changed.
    watched: Option<Event>,
}

/// What is to be written now.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub events: Vec<Event>,
    /// A table that this statement changes, the first time.
    pub table: Option<TableName>,
    /// Rows of the table in which sets are changed, with their table map.
    pub watched: Option<(Event, Event)>,
    /// There were rows of another table than that.
    pub others: bool,
}

impl Statement {
    pub fn map(&mut self, set: &TableSet, event: Event) -> Result<Kept> {
        let (id, name) = TableMap::parse_name(&event)?;
        let admitted = set.admits(&name);
        // A statement that mapped tables and then changed none leaves its maps to the next one.
        self.maps.retain(|map| map.id != id);
        self.waiting.retain(|(waiting, _)| *waiting != id);
        let watched = is_table_set(&name).then(|| event.clone());
        self.maps.push(Mapped { id, table: admitted.then_some(name), seen: false, watched });
        if admitted {
            self.waiting.push((id, event));
        }
        Ok(Kept::default())
    }

    pub fn rows(&mut self, event: Event) -> Result<Kept> {
        self.running = true;
        let (id, flags) = RowsHeader::parse_start(&event)?;
        let ends = flags & STMT_END != 0;
        let mut kept = Kept::default();
        let Some(map) = self.maps.iter_mut().find(|map| map.id == id) else {
            if ends && RowsHeader::NO_TABLE.contains(&id) {
                return self.end(kept);
            }
            let what = format!("rows of table number {id}, which no table map names");
            return Err(Error::new(Kind::Corrupt, what));
        };
        if let Some(map) = &map.watched {
            kept.watched = Some((map.clone(), event));
        } else if let Some(table) = &map.table {
            kept.others = true;
            if !map.seen {
                map.seen = true;
                kept.table = Some(table.clone());
            }
            kept.events.extend(self.held.take());
            kept.events.extend(self.waiting.drain(..).map(|(_, map)| map));
            if ends {
                kept.events.push(event);
            } else {
                self.held = Some(event);
            }
        } else {
            kept.others = true;
        }
        if ends { self.end(kept) } else { Ok(kept) }
    }

    /// Between statements nothing is held.
    pub fn must_have_ended(&self) -> Result<()> {
        // Table maps alone are no statement: the server writes them for tables that then do not change.
        if self.running {
            let what = "a statement's rows do not end before the next statement";
            return Err(Error::new(Kind::Corrupt, what));
        }
        Ok(())
    }

    fn end(&mut self, mut kept: Kept) -> Result<Kept> {
        if let Some(held) = self.held.take() {
            kept.events.push(with_stmt_end(held)?);
        }
        *self = Statement::default();
        Ok(kept)
    }
}
