//! Bytes that are written once and read back from the start: in memory while they are few, else in a file
//! without a name. A killed process leaves nothing behind.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::event::{HEADER_LEN, Header, event_at, verify};
use crate::error::{Error, Kind, Result};

/// What a spool holds in memory before it takes a file.
pub const MEMORY_LIMIT: usize = 1 << 20;
/// Who takes away what is in it while more is coming does so at so many bytes: before an append would throw all of it
/// into a file. An event is a few KiB, unless its row is larger.
pub const TAKEN_AWAY: u64 = MEMORY_LIMIT as u64 / 2;
/// What it then writes and reads at once.
const PIECE: usize = 256 << 10;

pub struct Spool {
    /// What the file does not have, behind what it has.
    memory: Vec<u8>,
    limit: usize,
    file: Option<File>,
    in_file: u64,
    folder: PathBuf,
}

impl Spool {
    /// The folder is used only above the limit.
    pub fn new(folder: &Path) -> Spool {
        Spool::with_limit(folder, MEMORY_LIMIT)
    }

    pub fn with_limit(folder: &Path, limit: usize) -> Spool {
        Spool { memory: Vec::new(), limit, file: None, in_file: 0, folder: folder.to_owned() }
    }

    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        // Two appends never lie half in the file and half in memory: `events` counts on it.
        let room = if self.in_file == 0 { self.limit } else { PIECE.min(self.limit) };
        if self.memory.len() + bytes.len() > room {
            let full = std::mem::take(&mut self.memory);
            self.write(&full)?;
            if bytes.len() > room {
                return self.write(bytes);
            }
            self.memory = full;
            self.memory.clear();
        }
        self.memory.extend_from_slice(bytes);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let at = self.in_file;
        let written = match &self.file {
            Some(file) => file.write_all_at(bytes, at),
            None => tempfile::tempfile_in(&self.folder).and_then(|file| {
                let file = self.file.insert(file);
                file.write_all_at(bytes, at)
            }),
        };
        written.map_err(|cause| self.failed("write to", cause))?;
        self.in_file += bytes.len() as u64;
        Ok(())
    }

    pub fn len(&self) -> u64 {
        self.in_file + self.memory.len() as u64
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets everything; the file's room is given back.
    pub fn clear(&mut self) {
        self.memory.clear();
        (self.file, self.in_file) = (None, 0);
    }

    /// From the start, buffered. Ends after `len` bytes.
    pub fn reader(&mut self) -> Result<impl Read + '_> {
        if let Some(file) = &mut self.file {
            file.rewind().map_err(|cause| failed(&self.folder, "read back", cause))?;
        }
        let memory = self.memory.as_slice();
        let file =
            self.file.as_ref().map(|file| io::BufReader::with_capacity(PIECE, file.take(self.in_file)));
        Ok(OptionalRead(file).chain(memory))
    }

    /// Each of the events that have been appended, whole and with a CRC32, to be changed in place. Those that were in
    /// the file are found right first.
    pub fn events(&mut self, mut each: impl FnMut(&mut [u8]) -> Result<()>) -> Result<()> {
        if let Some(file) = &mut self.file {
            let folder = &self.folder;
            let broken = |cause| failed(folder, "read back", cause);
            file.rewind().map_err(broken)?;
            let mut left = self.in_file;
            let mut input = io::BufReader::with_capacity(PIECE, file);
            let mut event = Vec::new();
            while left > 0 {
                event.resize(HEADER_LEN, 0);
                input.read_exact(&mut event).map_err(broken)?;
                let size = match event.first_chunk().map(Header::parse) {
                    Some(Ok(header)) if u64::from(header.size) <= left => header.size,
                    _ => return Err(broken(ErrorKind::InvalidData.into())),
                };
                event.resize(size as usize, 0);
                input.read_exact(&mut event[HEADER_LEN..]).map_err(broken)?;
                verify(&event)?;
                each(&mut event)?;
                left -= u64::from(size);
            }
        }
        let mut rest = self.memory.as_mut_slice();
        while !rest.is_empty() {
            let size = event_at(rest)?;
            let (event, behind) = rest.split_at_mut(size);
            each(event)?;
            rest = behind;
        }
        Ok(())
    }

    fn failed(&self, doing: &str, cause: io::Error) -> Error {
        failed(&self.folder, doing, cause)
    }
}

/// Of a file that need not be there.
struct OptionalRead<R>(Option<R>);

impl<R: Read> Read for OptionalRead<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.as_mut().map_or(Ok(0), |input| input.read(into))
    }
}

fn failed(folder: &Path, doing: &str, cause: io::Error) -> Error {
    let what = format!("{doing} a temporary file in {}", folder.display());
    let hint = "a transaction that does not fit in memory is kept there: it needs the space and the rights for it; \
                files.spool_dir in the config chooses another folder";
    Error::new(Kind::Failed, what).hint(hint).caused_by(cause)
}

impl std::fmt::Debug for Spool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "spool of {} bytes", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_appended_is_read_back_above_and_below_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        for total in [0usize, 10, 63, 64, 65, 100, 10_000] {
            let mut spool = Spool::with_limit(folder.path(), 64);
            let bytes: Vec<u8> = (0..total).map(|i| i as u8).collect();
            for part in bytes.chunks(7) {
                spool.append(part).unwrap();
            }
            assert_eq!(spool.len(), total as u64);
            for _ in 0..2 {
                let mut back = Vec::new();
                spool.reader().unwrap().read_to_end(&mut back).unwrap();
                assert_eq!(back, bytes);
            }
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the file has no name");
    }

    #[test]
    fn a_folder_that_is_not_there_is_named_in_the_error() {
        let mut spool = Spool::with_limit(Path::new("/nowhere/at/all"), 4);
        let error = spool.append(b"more than four").unwrap_err();
        assert_eq!(error.to_string(), "write to a temporary file in /nowhere/at/all");
    }

    #[test]
    fn its_events_are_given_one_by_one_wherever_they_are_and_a_damaged_file_is_told() {
        use crate::binlog::event::{Checksum, Event, kind};
        let folder = tempfile::tempdir().unwrap();
        let event = |len: usize| {
            let header =
                Header { timestamp: 1, kind: kind::WRITE_ROWS, server_id: 1, size: 0, log_pos: 0, flags: 0 };
            Event::build(header, &vec![len as u8; len], Checksum::Crc32)
        };
        for lens in [vec![], vec![3], vec![3, 90, 500, 0, 7], vec![5000, 1], vec![1, 5000], vec![1; 300]] {
            let mut spool = Spool::with_limit(folder.path(), 200);
            let events: Vec<Event> = lens.into_iter().map(event).collect();
            events.iter().for_each(|event| spool.append(event.bytes()).unwrap());
            let mut back = Vec::new();
            let taken = spool.events(|event| {
                back.push(event.to_vec());
                Ok(())
            });
            taken.unwrap();
            assert_eq!(back, events.iter().map(|event| event.bytes().to_vec()).collect::<Vec<_>>());
            if let Some(file) = &spool.file {
                file.write_all_at(&[0x55], HEADER_LEN as u64).unwrap();
                let error = spool.events(|_| Ok(())).unwrap_err();
                assert_eq!(error.kind(), Kind::Corrupt);
            }
            spool.clear();
            assert!(spool.is_empty());
            spool.append(event(9).bytes()).unwrap();
            assert_eq!(spool.len(), event(9).bytes().len() as u64);
        }
    }
}
