//! The time zone `SYSTEM` does not travel: it is whatever the host of a server has, and regions are where hosts
//! differ. A kept statement gets the zone that the name stands for at the source.

use super::statement::parse;
use crate::binlog::event::{Event, kind};
use crate::error::{Error, Kind, Result};

/// What the time zone `SYSTEM` is at the source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SystemZone {
    /// Not asked: events keep it as they have it.
    #[default]
    AsWritten,
    /// The same offset at all times, as SET takes it: `+05:30`.
    Fixed(String),
    /// Summer time, or another change since 1970. No offset stands for it, and its name is not known to MySQL.
    Varies,
}

impl SystemZone {
    /// The BEGIN of kept rows. Their values are no text, so that where the zone has no fixed offset none is needed.
    pub(super) fn of_rows(&self, begin: Event) -> Result<Event> {
        if begin.kind() == kind::QUERY { self.exchange(begin, |_| Ok(None)) } else { Ok(begin) }
    }

    /// DDL, which may convert between times with and without a zone.
    pub(super) fn of_ddl(&self, event: Event) -> Result<Event> {
        self.exchange(event, |text| {
            let start: String = String::from_utf8_lossy(text).chars().take(80).collect();
            let what = format!(
                "{start:?} ran in the time zone SYSTEM, which is not at all times the same offset at the source"
            );
            let hint = "what it did to times cannot be repeated in a region with another zone: give the server a zone by \
                        name (SET PERSIST time_zone = 'Europe/Berlin', after mysql_tzinfo_to_sql), and let clients \
                        connect anew";
            Err(Error::new(Kind::Gate, what).hint(hint))
        })
    }

    fn exchange(
        &self,
        event: Event,
        varies: impl FnOnce(&[u8]) -> Result<Option<&'static str>>,
    ) -> Result<Event> {
        if *self == SystemZone::AsWritten {
            return Ok(event);
        }
        let mut query = parse(&event)?;
        let is_system = query.status.time_zone()?.is_some_and(|zone| zone.eq_ignore_ascii_case(b"SYSTEM"));
        if !is_system {
            return Ok(event);
        }
        let zone = match self {
            SystemZone::Fixed(offset) => Some(offset.as_str()),
            SystemZone::AsWritten | SystemZone::Varies => varies(&query.text)?,
        };
        query.status = query.status.with_time_zone(zone)?;
        Ok(Event::build(event.header(), &query.encode_body(), event.checksum()))
    }
}
