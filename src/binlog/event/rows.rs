//! The events that carry rows: only what stands before the rows is read, ever.
//!
//! `Rows_event` in libs/mysql/binlog/event/rows_event.h.

use super::{Event, kind};
use crate::binlog::wire::Cursor;
use crate::error::Result;

/// The last rows event of its statement: the server forgets the table maps behind it.
pub const STMT_END: u16 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Insert,
    Update,
    Delete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowsHeader {
    pub table_id: u64,
    /// `STMT_END` and others; new ones come with new servers.
    pub flags: u16,
    pub columns: usize,
    pub change: Change,
}

impl RowsHeader {
    /// A table number that no table has: an event without rows that only ends the statement.
    pub const NO_TABLE: [u64; 2] = [0xff_ffff, 0xffff_ffff_ffff];

    /// Number and flags only: all that the filter needs, whatever the size of the event.
    pub fn parse_start(event: &Event) -> Result<(u64, u16)> {
        let mut input = cursor(event)?;
        Ok((input.int(6)?, input.u16()?))
    }

    pub fn parse(event: &Event) -> Result<RowsHeader> {
        let mut input = cursor(event)?;
        let (table_id, flags) = (input.int(6)?, input.u16()?);
        let version_1 = matches!(event.kind(), kind::WRITE_ROWS_V1..=kind::DELETE_ROWS_V1);
        if !version_1 {
            let extra = usize::from(input.u16()?);
            let Some(extra) = extra.checked_sub(2) else {
                return Err(input.corrupt(format_args!("extra data of {extra} bytes, its length included")));
            };
            input.bytes(extra)?;
        }
        let columns = input.length()?;
        let change = match event.kind() {
            kind::WRITE_ROWS | kind::WRITE_ROWS_V1 => Change::Insert,
            kind::DELETE_ROWS | kind::DELETE_ROWS_V1 => Change::Delete,
            _ => Change::Update,
        };
        Ok(RowsHeader { table_id, flags, columns, change })
    }

    pub fn ends_statement(&self) -> bool {
        self.flags & STMT_END != 0
    }
}

/// The same rows event as the last of its statement.
pub fn with_stmt_end(event: Event) -> Result<Event> {
    set_flags(event, |flags| flags | STMT_END)
}

/// The same rows event with more to come in its statement.
pub fn without_stmt_end(event: Event) -> Result<Event> {
    set_flags(event, |flags| flags & !STMT_END)
}

fn set_flags(event: Event, change: impl Fn(u16) -> u16) -> Result<Event> {
    let (_, flags) = RowsHeader::parse_start(&event)?;
    let changed = change(flags);
    if changed == flags {
        return Ok(event);
    }
    Ok(event.edit_body(|body| body[6..8].copy_from_slice(&changed.to_le_bytes())))
}

fn cursor(event: &Event) -> Result<Cursor<'_>> {
    let input = Cursor::new("rows event", event.body());
    match kind::is_rows(event.kind()) {
        true => Ok(input),
        false => Err(input.corrupt(format_args!("this is a {} event", event.header().name()))),
    }
}
