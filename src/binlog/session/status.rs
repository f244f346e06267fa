//! The status variables of a Query event: a code, then a value whose length only the code tells.
//!
//! Codes and lengths: Query_event in libs/mysql/binlog/event/statement_events.{h,cpp} and
//! Query_log_event::write in sql/log_event.cc (mysql-server). A server that meets an unknown code gives up
//! reading and runs the statement with what it has; here that is an error, because the code may be one that
//! changes what the statement does.

use std::ops::Range;

use crate::binlog::wire::Cursor;
use crate::error::{Error, Kind, Result};

use super::{Charsets, UpdatedSchemas};

/// More databases than this are noted as "too many" (MAX_DBS_IN_EVENT_MTS).
const MAX_NAMED_SCHEMAS: u8 = 16;

/// Q_TIME_ZONE_CODE
const TIME_ZONE: u8 = 5;

/// The status variables of a Query event, as they stand in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusVars {
    pub raw: Vec<u8>,
}

/// What the status variables say; `None` where they say nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    pub flags2: Option<u32>,
    pub sql_mode: Option<u64>,
    pub auto_increment: Option<(u16, u16)>,
    pub charset: Option<Charsets>,
    pub time_zone: Option<Vec<u8>>,
    pub lc_time_names: Option<u16>,
    pub collation_database: Option<u16>,
    pub updated_schemas: UpdatedSchemas,
    pub microseconds: Option<u32>,
    pub explicit_defaults_for_timestamp: Option<bool>,
    pub default_collation_for_utf8mb4: Option<u16>,
    pub sql_require_primary_key: Option<bool>,
    pub default_table_encryption: Option<bool>,
    pub enable_cascade_triggers: Option<bool>,
    pub has_xid: bool,
    /// Where in the variables the time zone stands.
    time_zone_at: Option<Range<usize>>,
}

impl StatusVars {
    /// The time zone; `None` if the statement does not depend on it.
    pub fn time_zone(&self) -> Result<Option<Vec<u8>>> {
        Ok(Status::parse(self)?.time_zone)
    }

    /// The same variables with another time zone, or with none, where they name one.
    pub fn with_time_zone(&self, zone: Option<&str>) -> Result<StatusVars> {
        let mut raw = self.raw.clone();
        if let Some(at) = Status::parse(self)?.time_zone_at {
            let variable = zone.map(|zone| [&[TIME_ZONE, zone.len() as u8], zone.as_bytes()].concat());
            raw.splice(at, variable.unwrap_or_default());
        }
        Ok(StatusVars { raw })
    }
}

impl Status {
    pub fn parse(vars: &StatusVars) -> Result<Status> {
        let mut input = Cursor::new("status variables of a query event", &vars.raw);
        let mut status = Status::default();
        while !input.is_empty() {
            let from = vars.raw.len() - input.remaining();
            match input.u8()? {
                0 => status.flags2 = Some(input.u32()?),
                1 => status.sql_mode = Some(input.int(8)?),
                // Q_CATALOG_CODE of 5.0.0 to 5.0.3, with a zero at its end; there is only one catalog.
                2 => {
                    let length = usize::from(input.u8()?);
                    input.bytes(length + usize::from(length > 0))?;
                }
                3 => status.auto_increment = Some((input.u16()?, input.u16()?)),
                4 => {
                    let (client, connection, server) = (input.u16()?, input.u16()?, input.u16()?);
                    status.charset = Some(Charsets { client, connection, server });
                }
                TIME_ZONE => {
                    status.time_zone = Some(short_text(&mut input)?.to_vec()).filter(|zone| !zone.is_empty());
                    status.time_zone_at = Some(from..vars.raw.len() - input.remaining());
                }
                // Q_CATALOG_NZ_CODE
                6 => drop(short_text(&mut input)?),
                7 => status.lc_time_names = Some(input.u16()?),
                8 => status.collation_database = Some(input.u16()?),
                // Q_TABLE_MAP_FOR_UPDATE_CODE: which tables a multi-table UPDATE changes, for filters.
                9 => drop(input.bytes(8)?),
                // Q_MASTER_DATA_WRITTEN_CODE: a placeholder since 8.0.2.
                10 => drop(input.bytes(4)?),
                // Q_INVOKER: user and host; the default definer, which no table has.
                11 => {
                    short_text(&mut input)?;
                    short_text(&mut input)?;
                }
                12 => status.updated_schemas = updated_schemas(&mut input)?,
                13 => status.microseconds = Some(input.int(3)? as u32),
                16 => status.explicit_defaults_for_timestamp = Some(input.u8()? != 0),
                // Q_DDL_LOGGED_WITH_XID: the source's own transaction number.
                17 => {
                    input.bytes(8)?;
                    status.has_xid = true;
                }
                18 => status.default_collation_for_utf8mb4 = Some(input.u16()?),
                19 => status.sql_require_primary_key = flag(input.u8()?),
                20 => status.default_table_encryption = flag(input.u8()?),
                21 => status.enable_cascade_triggers = Some(input.u8()? != 0),
                // 14 and 15, Q_COMMIT_TS and Q_COMMIT_TS2, were never written by a released server.
                code => {
                    return Err(Error::new(
                        Kind::Gate,
                        format!("read the session of a statement: status variable {code} is unknown"),
                    )
                    .hint("the source is newer than this version of tablecast: take a newer tablecast"));
                }
            }
        }
        Ok(status)
    }
}

/// 255 means that it was not set (class Query_event's constructor).
fn flag(value: u8) -> Option<bool> {
    (value != 0xff).then_some(value != 0)
}

fn short_text<'a>(input: &mut Cursor<'a>) -> Result<&'a [u8]> {
    let length = usize::from(input.u8()?);
    input.bytes(length)
}

fn updated_schemas(input: &mut Cursor<'_>) -> Result<UpdatedSchemas> {
    let count = input.u8()?;
    if count > MAX_NAMED_SCHEMAS {
        return Ok(UpdatedSchemas::Unknown);
    }
    let mut schemas = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let mut name = Vec::new();
        loop {
            match input.u8()? {
                0 => break,
                byte => name.push(byte),
            }
        }
        schemas.push(String::from_utf8(name).map_err(|_| input.corrupt("a database's name is no UTF-8"))?);
    }
    // None at all: the server takes that for damage. It says nothing of what was changed.
    Ok(if schemas.is_empty() { UpdatedSchemas::Unknown } else { UpdatedSchemas::These(schemas) })
}
