//! Compressed objects as they are read: how much memory that takes is decided here, not by whoever has written them.

use std::io::{BufRead, Read};

use super::keys::Codec;
use crate::error::{Error, Kind, Result};

/// A zstd frame says how far back it refers, and so much is kept while it is read. None that `upload.level` or `dump.level` can
/// make refers further than 8 MiB; the format allows gigabytes.
const WINDOW_LOG: u32 = 23;

/// Decompresses an object as it is read, all frames or members of it.
pub fn unpack(codec: Codec, packed: impl BufRead + Send + 'static) -> Result<Box<dyn Read + Send>> {
    let failed = |cause| Error::new(Kind::Corrupt, "open a zstd stream").caused_by(cause);
    Ok(match codec {
        Codec::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
        Codec::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(packed).map_err(failed)?;
            decoder.window_log_max(WINDOW_LOG).map_err(failed)?;
            Box::new(decoder)
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn packed(window_log: u32) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(window_log).unwrap();
        encoder.write_all(&[7; 1000]).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_frame_that_wants_more_memory_than_any_that_is_written_here_is_refused() {
        let read = |packed: Vec<u8>| {
            let mut plain = Vec::new();
            unpack(Codec::Zstd, std::io::Cursor::new(packed))?
                .read_to_end(&mut plain)
                .map_err(|cause| Error::new(Kind::Corrupt, "decompress").caused_by(cause))?;
            Ok::<_, Error>(plain)
        };
        // Two frames behind each other are one object.
        assert_eq!(read([packed(WINDOW_LOG), packed(WINDOW_LOG)].concat()).unwrap(), [7; 2000]);
        let error = read(packed(WINDOW_LOG + 1)).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt);
    }

    #[test]
    fn what_every_level_makes_is_read() {
        // As upload writes it: how much will come is not known, and the window is as large as it ever is at that level.
        let text = "every level, ".repeat(50_000);
        for level in 1..=19 {
            let packed = zstd::encode_all(text.as_bytes(), level).unwrap();
            let mut plain = Vec::new();
            unpack(Codec::Zstd, std::io::Cursor::new(packed)).unwrap().read_to_end(&mut plain).unwrap();
            assert!(plain == text.as_bytes(), "level {level}");
        }
    }
}
