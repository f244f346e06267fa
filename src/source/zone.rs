//! What the time zone `SYSTEM` is at the source.
//!
//! MySQL's default is time_zone=SYSTEM, and the binlog then says no more than that. Whether the host's zone has
//! one offset at all times is asked of the server itself, week by week; where it has, upload writes the offset
//! into what it ships, and where it has not, the server needs a zone with a name.

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::binlog::filter::SystemZone;
use crate::error::{Error, Kind, Result};
use crate::mysql;

/// Asks for the offset in every week that a TIMESTAMP can hold.
pub(crate) async fn system_zone(conn: &mut Conn, server: &str) -> Result<SystemZone> {
    const QUERY: &str = "WITH RECURSIVE y AS (SELECT 1970 AS y UNION ALL SELECT y + 1 FROM y WHERE y < 2037), \
         w AS (SELECT 1 AS w UNION ALL SELECT w + 1 FROM w WHERE w < 52) \
         SELECT DISTINCT TIMESTAMPDIFF(SECOND, t, CONVERT_TZ(t, '+00:00', 'SYSTEM')) \
         FROM (SELECT MAKEDATE(y, 7 * w) + INTERVAL 12 HOUR AS t FROM y, w) AS times LIMIT 2";
    let doing = format!("ask {server} for its system time zone");
    let offsets: Vec<Option<i64>> = conn.query(QUERY).await.map_err(|cause| mysql::error(cause, &doing))?;
    match offsets.as_slice() {
        [Some(seconds)] => Ok(offset(*seconds).map_or(SystemZone::Varies, SystemZone::Fixed)),
        [Some(_), Some(_)] => Ok(SystemZone::Varies),
        other => Err(Error::new(Kind::Mysql, format!("{doing}: the answer is {other:?}"))),
    }
}

/// As SET takes it; `None` for what it cannot say (seconds, or beyond 14 hours).
fn offset(seconds: i64) -> Option<String> {
    let sign = if seconds < 0 { '-' } else { '+' };
    let minutes = seconds.unsigned_abs() / 60;
    let sayable = seconds % 60 == 0 && (-13 * 60 - 59..=14 * 60).contains(&(seconds / 60));
    sayable.then(|| format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_written_as_set_takes_them() {
        let said = |seconds| offset(seconds).unwrap_or_default();
        assert_eq!(said(0), "+00:00");
        assert_eq!(
            (said(19_800), said(-12_600), said(-1_800)),
            ("+05:30".into(), "-03:30".into(), "-00:30".into())
        );
        assert_eq!(
            (said(50_400), said(50_460), said(-50_400), said(1)),
            ("+14:00".into(), "".into(), "".into(), "".into())
        );
    }
}
