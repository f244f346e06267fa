//! MD5 of an object, as S3 and the index use it: hex in documents, base64 in `Content-MD5`.
//!
//! MD5 guards against accidents on the way and in storage. What makes history tamper-evident is the
//! [`Chain`](super::Chain), which is SHA-256.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use base64::Engine as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Kind, Result};
use crate::hex::{from_hex, hex};

/// An MD5 digest. Text form: 32 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Md5(pub [u8; 16]);

impl Md5 {
    pub fn of(bytes: &[u8]) -> Self {
        Self(md5::compute(bytes).0)
    }

    /// Digest and length of everything that `reader` gives.
    pub fn of_reader(mut reader: impl Read) -> io::Result<(Self, u64)> {
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok((hasher.finish(), hasher.size())),
                Ok(n) => hasher.update(&buffer[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// As the header `Content-MD5` wants it (RFC 1864).
    pub fn base64(&self) -> String {
        base64::engine::general_purpose::STANDARD.encode(self.0)
    }
}

/// An MD5 that is fed piece by piece.
#[derive(Clone)]
pub struct Hasher {
    context: md5::Context,
    size: u64,
}

impl Default for Hasher {
    fn default() -> Self {
        Self { context: md5::Context::new(), size: 0 }
    }
}

impl Hasher {
    pub fn update(&mut self, bytes: &[u8]) {
        self.context.consume(bytes);
        self.size += bytes.len() as u64;
    }

    /// Bytes seen so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn finish(&self) -> Md5 {
        Md5(self.context.clone().finalize().0)
    }
}

impl fmt::Display for Md5 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Md5 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Md5({self})")
    }
}

impl FromStr for Md5 {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        from_hex(text).map(Self).ok_or_else(|| {
            Error::new(Kind::Corrupt, format!("read md5 {text:?}: not 32 lower-case hex digits"))
        })
    }
}

impl Serialize for Md5 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Md5 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_reads_back_from_its_text_and_only_from_that() {
        let md5 = Md5::of(b"tablecast");
        assert_eq!(md5.to_string().parse::<Md5>().unwrap(), md5);
        assert!(md5.to_string().to_uppercase().parse::<Md5>().is_err());
        assert_eq!(Md5::of(b"").to_string(), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(Md5::of(b"").base64(), "1B2M2Y8AsgTpgAmY7PhCfg==");
        assert_eq!(Md5::of_reader(&b"tablecast"[..]).unwrap(), (md5, 9));
    }
}
