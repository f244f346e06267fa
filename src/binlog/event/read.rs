//! Events out of a stream of bytes, one at a time.

use std::io::{self, ErrorKind, Read};

use super::{Checksum, Event, HEADER_LEN, Header, MAX_EVENT_LEN};
use crate::error::{Error, Kind, Result};

const STEP: usize = 64 << 10;

/// Reads the next event. None where the input ends between two events; an input that ends inside one is
/// `Kind::Corrupt`. `whence` names the input in errors. What a header claims is never reserved in advance.
pub fn read_event(input: &mut impl Read, checksum: Checksum, whence: &str) -> Result<Option<Event>> {
    read_event_of(input, checksum, whence, |_| MAX_EVENT_LEN)
}

/// The same, where an event with a header like this has at most so many bytes: one that claims more is refused before the
/// rest of it is read.
pub fn read_event_of(
    input: &mut impl Read,
    checksum: Checksum,
    whence: &str,
    most: impl Fn(&Header) -> u32,
) -> Result<Option<Event>> {
    let mut bytes = Vec::with_capacity(512);
    read_up_to(input, HEADER_LEN, &mut bytes, whence)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let Some(head) = bytes.first_chunk::<HEADER_LEN>() else {
        let what =
            format!("read {whence}: it ends inside an event's header, after {} bytes of it", bytes.len());
        return Err(Error::new(Kind::Corrupt, what));
    };
    let header = Header::parse(head).map_err(|error| error.during(format!("read {whence}")))?;
    if header.size > most(&header) {
        let (name, size, most) = (header.name(), header.size, most(&header));
        let what = format!("read {whence}: a {name} event of {size} bytes, where none has more than {most}");
        return Err(Error::new(Kind::Corrupt, what));
    }
    let size = header.size as usize;
    read_up_to(input, size - HEADER_LEN, &mut bytes, whence)?;
    if bytes.len() < size {
        let what = format!(
            "read {whence}: it ends inside a {} event, which has {size} bytes, after {}",
            header.name(),
            bytes.len()
        );
        return Err(Error::new(Kind::Corrupt, what));
    }
    Event::from_bytes(bytes, checksum).map(Some).map_err(|error| error.during(format!("read {whence}")))
}

/// Room is made for as much as is there already, so that no more than what has come is ever taken up.
fn read_up_to(input: &mut impl Read, len: usize, into: &mut Vec<u8>, whence: &str) -> Result<()> {
    let end = into.len() + len;
    while into.len() < end {
        let step = (end - into.len()).min(into.len().max(STEP));
        into.reserve_exact(step);
        let read = input.by_ref().take(step as u64).read_to_end(into);
        if read.map_err(|cause| failed(whence, cause))? < step {
            break;
        }
    }
    Ok(())
}

/// A decoder says by an error that its input is damaged or cut; anything else is the machine's fault.
pub fn failed(whence: &str, cause: io::Error) -> Error {
    let kind = match cause.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput => Kind::Corrupt,
        // zstd says everything by this one.
        ErrorKind::Other => Kind::Corrupt,
        _ => Kind::Failed,
    };
    Error::new(kind, format!("read {whence}")).caused_by(cause)
}
