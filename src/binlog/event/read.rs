//! Events out of a stream of bytes, one at a time.

use std::io::{self, ErrorKind, Read};

use super::{Checksum, Event, HEADER_LEN, Header};
use crate::error::{Error, Kind, Result};

const STEP: usize = 64 << 10;

/// Reads the next event. None where the input ends between two events; an input that ends inside one is
/// `Kind::Corrupt`. `whence` names the input in errors. What a header claims is never reserved in advance.
pub fn read_event(input: &mut impl Read, checksum: Checksum, whence: &str) -> Result<Option<Event>> {
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
