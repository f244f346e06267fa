//! Where the text of a Query event lies: enough to tell BEGIN and COMMIT, which most of them are.

use super::{Event, kind};
use crate::binlog::wire::Cursor;
use crate::error::Result;

/// The statement, in the client's character set. The rest of the event is `query::QueryEvent`'s business.
pub fn query_text(event: &Event) -> Result<&[u8]> {
    let mut input = Cursor::new("query event", event.body());
    if event.kind() != kind::QUERY {
        return Err(input.corrupt(format_args!("this is a {} event", event.header().name())));
    }
    // Thread, execution time.
    input.bytes(4 + 4)?;
    let schema_len = usize::from(input.u8()?);
    let _error_code = input.u16()?;
    let status_len = usize::from(input.u16()?);
    input.bytes(status_len + schema_len)?;
    match input.u8()? {
        0 => input.bytes(input.remaining()),
        _ => Err(input.corrupt("the database's name does not end where its length says")),
    }
}
